// SPDX-License-Identifier: MIT
#pragma once

#include "SimdLoops.h"
#include "spacetime/PosteriorModel.h"
#include <Eigen/Core>
#include <memory>
#include <vector>

namespace Spacetime {

/**
 * Weighted samples at every combination of the values of two variables.
 *
 * T is a sum over the variables, so the tilted weights factorise: p_ij ∝ W_ij a_i b_j. Every moment is then a few products of W with
 * one vector a value, and only over the lines (rows and columns) whose tilt is not negligible.
 */
class ProductGrid {
public:
    /// The grid behind raw [2 x K] and weights [K] in any order, or nothing where the samples are none.
    static std::shared_ptr<const ProductGrid> detect(const Variables& variables, const Eigen::MatrixXd& raw, const Eigen::VectorXd& weights);

    /// Room for one point's numbers, used again for the next.
    struct Scratch {
        Eigen::ArrayXXd line[2];
    };

    /// Writes column i of `out`, whose members have been sized. False, and nothing written, where the tilted weights underflow.
    bool moments(const Eigen::MatrixXd& eta, Eigen::Index i, PosteriorModel::Order order, const Eigen::MatrixXd* direction, Moments& out, Scratch& scratch) const;

private:
    /// One variable. Tables over lines go round twice where the variable is periodic, so that a window across the seam is contiguous.
    struct Axis {
        int lines = 0, length = 0;  // of the variable, of the tables
        bool periodic = false;
        Eigen::ArrayXXd T;                // [length x 2] cos and sin, or d and d^2
        Eigen::ArrayXd top;               // [lines] largest weight on each line
        int target[2] = {0, 0};           // the rows of the statistic that the two columns of T add to
        std::vector<WeightStrip> strips;  // weights with this axis along the strips, the other one from strip to strip
    };
    /// The lines from `first` on, a multiple of the strip size; those that count are `length` from `first + skip`.
    struct Window {
        int first, size, skip, length;
    };

    ProductGrid() = default;
    Window window(const Axis& axis, const double* tilt, double cut) const;

    Axis axes[2];
    Eigen::MatrixXd W;  // relative to the largest weight
    double logScale = 0;
};

}  // namespace Spacetime
