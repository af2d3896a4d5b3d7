// SPDX-License-Identifier: MIT
#pragma once

#include "Features.h"
#include "SimdLoops.h"
#include "spacetime/NetworkModel.h"
#include <Eigen/Core>
#include <vector>

namespace Spacetime {

/// The scalar network N(f(eta)) and its derivatives at a block of points. The weights are packed once for the loops in SimdLoops.h.
class Potential {
public:
    Potential(const std::vector<NetworkParameters::Layer>& layers, const Features& features, int numStatistics);

    struct Values {
        Eigen::VectorXd N;                        ///< [n]
        Eigen::MatrixXd gradient, gradientAlong;  ///< [features x n] dN/df, and its derivative along the direction
    };
    /// J and third: n matrices each [m x m], or null. The units' share of the Hessian of N is added to J (what the features' own
    /// curvature adds is left to the caller), its derivative along the columns of `direction` to third; third needs J.
    Values evaluate(const Features::Values& x, Eigen::MatrixXd* J, const Eigen::MatrixXd* direction, Eigen::MatrixXd* third) const;

private:
    /// A matrix as strips of rows, the last one filled up with zeros.
    class Packed {
    public:
        explicit Packed(const Eigen::MatrixXd& weight);
        /// R = W B for `count` columns that lie `stride` apart; only the rows begin..end of B are not zero.
        void times(const double* B, long strideB, double* R, long strideR, long count, long begin, long end) const;
        void times(const double* B, long strideB, double* R, long strideR, long count) const { times(B, strideB, R, strideR, count, 0, columns); }
        long paddedRows() const { return StripSize * strips; }

    private:
        long columns, strips;
        std::vector<WeightStrip> W;
    };
    struct Range {
        long begin, end;
    };

    const Features& features;
    const int m;
    std::vector<Packed> forward, reverse;      // of every hidden layer
    std::vector<Eigen::VectorXd> bias;         // padded
    std::vector<long> offset;                  // of each layer's units in a column that holds all of them
    long units = 0;                            // its length
    Eigen::VectorXd outWeight;                 // padded
    double outBias;
    std::vector<Range> dependent;              // features that depend on each component of eta
};

}  // namespace Spacetime
