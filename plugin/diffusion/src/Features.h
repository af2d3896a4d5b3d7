// SPDX-License-Identifier: MIT
#pragma once

#include "spacetime/Variables.h"
#include <Eigen/Core>

namespace Spacetime {

/**
 * What a network is shown of a spacetime point: smooth functions of eta of order one.
 *
 * Lifted variable with (a, b) = kappa (cos, sin): log(1 + kappa^2) and the powers u^k, k = 1..harmonics, of the complex
 * number u = (a + ib)/sqrt(1 + kappa^2), which turns into exp(i k phi0) at large kappa and is smooth at kappa = 0.
 * Unlifted variables: the log-precision log p and mean m' of the posterior under the Gaussian prior, m' with sines and
 * cosines of a period half as long again as the data's range. This chart has no singularity at eta_l = 0.
 *
 * Every feature depends on at most two components of eta, which keeps its derivatives to five numbers.
 */
class Features {
public:
    /// low, high [numUnlifted]: range of the scaled data.
    Features(const Variables& variables, int harmonics, const Eigen::VectorXd& mean, double variance, const Eigen::VectorXd& low,
             const Eigen::VectorXd& high);

    int size() const { return static_cast<int>(first.size()); }

    /// Column by column of eta: values and derivatives by the components `first` and `second` of eta, each [size x n], and how the
    /// second derivatives change along `direction` [m x n] (empty where none is given).
    struct Values {
        Eigen::MatrixXd f, d1, d2, d11, d12, d22, d11Along, d12Along, d22Along;
    };
    Values evaluate(const Eigen::Ref<const Eigen::MatrixXd>& eta, const Eigen::MatrixXd* direction = nullptr) const;

    /// Components of eta that feature k depends on (equal where it is only one; d2, d12, d22 are then zero).
    std::vector<int> first, second;

private:
    /// All features of one point, one after the other; T is double, or a number that carries its derivative along a direction.
    template <class T, class Put>
    void evaluatePoint(const T* eta, Put put) const;

    Variables vars;
    int harmonics;
    Eigen::VectorXd mean, low, high;
    double variance;
};

}  // namespace Spacetime
