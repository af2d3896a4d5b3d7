// SPDX-License-Identifier: MIT
#pragma once

#include "spacetime/PosteriorModel.h"
#include "spacetime/Solver.h"
#include <memory>
#include <string>
#include <vector>

namespace Spacetime {

/**
 * A condition on every point of a curve: margin >= 0, where the margin is dimensionless and 0 at the bound.
 *
 * It depends on the point through eta, mu and psi alone, so a value needs no more than the mean moments. The Hessian of the
 * margin in eta is `hessian` plus the third cumulant contracted with `third`, which the model gives in the same pass as J.
 */
class PointConstraint {
public:
    struct Derivatives {
        Eigen::VectorXd gradient, third;
        Eigen::MatrixXd hessian;
    };
    virtual ~PointConstraint() = default;

    virtual std::string name() const = 0;
    /// What the user bounded (tr Cov, nats, kT) and its bound.
    virtual double value(const Eigen::VectorXd& eta, const Eigen::VectorXd& mu, double psi) const = 0;
    virtual double bound() const = 0;
    /// False where the value must stay above its bound.
    virtual bool isUpper() const { return true; }
    double margin(const Eigen::VectorXd& eta, const Eigen::VectorXd& mu, double psi) const { return marginOf(value(eta, mu, psi)) - reserve; }
    virtual double marginOf(double value) const { return 1 - value / bound(); }
    /// Margin that nodes and middles keep, so that the bound holds between them as well.
    double reserve = 0;
    /// `third` is a function of eta and mu only: it may be asked for with J empty.
    virtual Derivatives derivatives(const Eigen::VectorXd& eta, const Eigen::VectorXd& mu, double psi, const Eigen::MatrixXd* J) const = 0;
};

using Constraints = std::vector<std::unique_ptr<PointConstraint>>;

/// tr Cov[c|z] <= bound. Of the lifted, scaled variables: tr Cov = sum over lifted ones (1 - |mu_j|^2) + mu_l - |mu_d|^2.
class VarianceConstraint : public PointConstraint {
public:
    VarianceConstraint(const Variables& vars, double bound);
    std::string name() const override { return "tr Cov"; }
    double bound() const override { return limit; }
    double value(const Eigen::VectorXd& eta, const Eigen::VectorXd& mu, double psi) const override;
    Derivatives derivatives(const Eigen::VectorXd& eta, const Eigen::VectorXd& mu, double psi, const Eigen::MatrixXd* J) const override;

private:
    bool quadratic;
    int lifted;
    double limit;
};

/// KL(p(.|z*) || p(.|z)) = psi(z) - psi(z*) - (eta - eta*)·mu* >= bound in nats: convex in eta, so what is excluded is convex.
class RegionConstraint : public PointConstraint {
public:
    RegionConstraint(const PosteriorModel& model, const Region& region, std::string name);
    std::string name() const override { return label; }
    double bound() const override { return limit; }
    bool isUpper() const override { return false; }
    double value(const Eigen::VectorXd& eta, const Eigen::VectorXd& mu, double psi) const override;
    /// The root of the divergence grows like a distance, which Newton's method likes.
    double marginOf(double value) const override;
    Derivatives derivatives(const Eigen::VectorXd& eta, const Eigen::VectorXd& mu, double psi, const Eigen::MatrixXd* J) const override;

private:
    Eigen::VectorXd etaStar, muStar;
    double psiStar, limit;
    std::string label;
};

/// psi*(mu) - psi*(mu of the start) <= bound in kT, psi* = eta·mu - psi = KL(p(.|z) || q): the free energy of the mean.
class FreeEnergyConstraint : public PointConstraint {
public:
    FreeEnergyConstraint(const PosteriorModel& model, const Eigen::VectorXd& etaStart, double bound);
    std::string name() const override { return "free energy"; }
    double bound() const override { return limit; }
    double value(const Eigen::VectorXd& eta, const Eigen::VectorXd& mu, double psi) const override;
    Derivatives derivatives(const Eigen::VectorXd& eta, const Eigen::VectorXd& mu, double psi, const Eigen::MatrixXd* J) const override;

private:
    double start, limit;
};

/// Name of the bound on kappa of a lifted variable.
std::string kappaName(const Variable& v);

/// The conditions of `options` on every point of a curve that starts at etaA; the bound on the free energy is left out where it is not asked for.
Constraints pointConstraints(const PosteriorModel& model, const GeodesicOptions& options, const Eigen::VectorXd& etaA, bool freeEnergy);

/// Value, gradient and Hessian of softplus_10(l_low - l), the low-variance penalty of arXiv:2505.17517, in eta.
/// l is the log-SNR, and log(|eta_x|/sqrt(n)) where all n variables are lifted.
struct LogSnrPenalty {
    double value = 0;
    Eigen::VectorXd gradient;
    Eigen::MatrixXd hessian;
};
LogSnrPenalty logSnrPenalty(const Variables& vars, const Eigen::VectorXd& eta, double low);

}  // namespace Spacetime
