// SPDX-License-Identifier: MIT
#include "Prior.h"
#include "Bessel.h"
#include "spacetime/Text.h"
#include <cmath>

namespace Spacetime {

Prior::Prior(const Variables& variables, const Eigen::VectorXd& mean, double variance) : vars(variables), m0(mean), s2(variance) {
    if (m0.size() != vars.numUnlifted())
        throw std::invalid_argument("Prior: expected " + std::to_string(vars.numUnlifted()) + " means, got " + std::to_string(m0.size()));
    if (!(s2 > 0) || !std::isfinite(s2))
        throw std::invalid_argument("Prior: expected a positive variance, got " + text(s2));
}

Prior::Moments Prior::moments(const Eigen::Ref<const Eigen::VectorXd>& eta, bool covariance, const double* direction) const {
    const int m = vars.numStatistics();
    Moments out;
    out.psi = 0;
    out.mu = Eigen::VectorXd::Zero(m);
    if (covariance)
        out.H = Eigen::MatrixXd::Zero(m, m);
    if (direction != nullptr)
        out.third = Eigen::MatrixXd::Zero(m, m);
    const double p = vars.hasQuadratic() ? 1 / s2 - 2 * eta[0] : 1;
    if (!(p > 0))
        throw std::invalid_argument("NetworkModel: expected eta_l below " + text(0.5 / s2) + ", got " + text(eta[0]));
    const double pAlong = direction != nullptr && vars.hasQuadratic() ? -2 * direction[0] : 0;
    for (int i = 0, u = 0; i < vars.size(); i++) {
        const int o = vars.offset(i);
        if (vars[i].lifted()) {
            const VonMises f(std::hypot(eta[o], eta[o + 1]));
            const auto e = eta.segment<2>(o);
            out.psi += f.logI0;
            out.mu.segment<2>(o) = f.ratioByK * e;
            const Eigen::Matrix2d square = e * e.transpose();
            if (covariance)
                out.H.block<2, 2>(o, o) = f.ratioByK * Eigen::Matrix2d::Identity() + f.anisotropy * square;
            if (direction != nullptr) {
                const Eigen::Map<const Eigen::Vector2d> v(direction + o);
                const Eigen::Matrix2d mixed = e * v.transpose();
                out.third.block<2, 2>(o, o) = e.dot(v) * (f.anisotropy * Eigen::Matrix2d::Identity() + f.anisotropySlope * square) +
                                              f.anisotropy * (mixed + mixed.transpose());
            }
        }
        else {
            const double mean = (eta[o] + m0[u] / s2) / p;
            out.psi += -0.5 * std::log(s2 * p) + 0.5 * p * mean * mean - 0.5 * m0[u] * m0[u] / s2;
            out.mu[o] = mean;
            out.mu[0] += 1 / p + mean * mean;
            if (covariance) {
                out.H(o, o) = 1 / p;
                out.H(o, 0) = out.H(0, o) = 2 * mean / p;
                out.H(0, 0) += 2 / (p * p) + 4 * mean * mean / p;
            }
            if (direction != nullptr) {
                const double meanAlong = (direction[o] - mean * pAlong) / p, scale = pAlong / (p * p);
                out.third(o, o) = -scale;
                out.third(o, 0) = out.third(0, o) = 2 * meanAlong / p - 2 * mean * scale;
                out.third(0, 0) += -4 * scale / p + 8 * mean * meanAlong / p - 4 * mean * mean * scale;
            }
            u++;
        }
    }
    return out;
}

}  // namespace Spacetime
