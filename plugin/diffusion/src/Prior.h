// SPDX-License-Identifier: MIT
#pragma once

#include "spacetime/Variables.h"
#include <Eigen/Core>

namespace Spacetime {

/**
 * Posterior moments in closed form where the data are featureless: flat on every circle, N(mean, variance) along every
 * unlifted variable. Networks learn the difference of their log-partition from this one, so that scales, positivity and
 * both limits of the log-SNR come for free.
 */
class Prior {
public:
    Prior(const Variables& variables, const Eigen::VectorXd& mean, double variance);

    struct Moments {
        double psi;
        Eigen::VectorXd mu;
        Eigen::MatrixXd H, third;
    };
    /// Throws std::invalid_argument when eta_l is too large for the Gaussian to be normalised. H is left empty unless asked for, and so
    /// is its derivative along `direction` [m].
    Moments moments(const Eigen::Ref<const Eigen::VectorXd>& eta, bool covariance, const double* direction = nullptr) const;

    const Eigen::VectorXd& mean() const { return m0; }
    double variance() const { return s2; }

private:
    Variables vars;
    Eigen::VectorXd m0;
    double s2;
};

}  // namespace Spacetime
