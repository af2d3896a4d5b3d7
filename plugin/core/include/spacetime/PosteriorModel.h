// SPDX-License-Identifier: MIT
#pragma once

#include "spacetime/Variables.h"
#include <Eigen/Core>
#include <atomic>
#include <cmath>
#include <limits>
#include <memory>
#include <vector>

namespace Spacetime {

/// Below this effective sample size moments are noise: an end point there is outside the range, a curve through it is not to be trusted.
inline constexpr double MinNEff = 30;

/// Moments of p(c|eta) ∝ q(c) exp(eta·T(c)) at n points. Members that were not asked for are empty.
struct Moments {
    Eigen::MatrixXd mu;                  ///< [m x n] expectation parameters E[T]
    std::vector<Eigen::MatrixXd> J;      ///< n times [m x m], d mu/d eta: Cov[T] for a true posterior, not symmetric for a denoiser of another program
    std::vector<Eigen::MatrixXd> third;  ///< n times [m x m], derivative of sym(J) along the given direction
    Eigen::VectorXd psi;                 ///< [n] log-partition, empty where hasPsi() is false
    Eigen::VectorXd nEff;                ///< [n] effective number of samples, empty where the model has none

    /// psi at point i, NaN where the model has none: for code that passes it on to conditions that may not ask for it.
    double psiAt(Eigen::Index i) const { return psi.size() > 0 ? psi[i] : std::numeric_limits<double>::quiet_NaN(); }
};

/// Denoised means chat [D x n], and J times one direction a point without its row of E|d|^2 [D x n]: the derivative of chat by eta along that direction.
struct MeanProducts {
    Eigen::MatrixXd mean, product;
};

/**
 * A model of the denoising distributions p(c|z), indexed by the natural parameter eta.
 *
 * Everything downstream (lengths, geodesics, curves, constraints) takes any subclass. Thread-safe for const calls.
 */
class PosteriorModel {
public:
    enum class Order { Mean = 1, Covariance = 2, Third = 3 };

    explicit PosteriorModel(Variables v) : vars(std::move(v)) {}
    virtual ~PosteriorModel() = default;

    const Variables& variables() const { return vars; }
    int numStatistics() const { return vars.numStatistics(); }

    /// Moments at the columns of eta [m x n]. For Order::Third, `direction` [m x n] gives the direction at every point.
    /// Throws std::invalid_argument when shapes do not match or eta is not finite.
    Moments moments(const Eigen::MatrixXd& eta, Order order = Order::Covariance, const Eigen::MatrixXd* direction = nullptr) const;

    /// The rows of mu below E|d|^2 [D x n]: all that a score needs, and for a denoiser far less work than mu, which takes derivatives.
    Eigen::MatrixXd denoised(const Eigen::MatrixXd& eta) const;

    /// The same with their derivatives along one direction a point, `direction` [m x n]: what there is of J where it has too many entries to be
    /// written down. Costs a denoiser about as much as two means. Throws as moments() does.
    MeanProducts products(const Eigen::MatrixXd& eta, const Eigen::MatrixXd& direction) const;

    /// True where J is the exact covariance of a distribution: symmetric and positive semidefinite by construction.
    virtual bool isExact() const = 0;
    virtual bool hasPsi() const = 0;
    /// False where few effective samples are no reason to distrust a moment: closed forms, networks, exhaustive grids.
    virtual bool limitedBySamples() const { return false; }

    /// A model that is nearly the same and much cheaper, on which a solver finds its way first; null where there is none.
    virtual const PosteriorModel* surrogate() const { return nullptr; }

    /// Mean variance per unlifted scaled variable, the scale of the solver's chart (1 where there is none).
    virtual double dataVariance() const { return 1.0; }
    /// Mean of the unlifted scaled variables [numUnlifted].
    virtual Eigen::VectorXd dataMean() const { return Eigen::VectorXd::Zero(vars.numUnlifted()); }

    /// log-SNR at which a noisy point on the data is as good as a clean one, where the probability-flow ODE starts and ends.
    virtual double dataLogSnr() const { return CleanLogSnr - std::log(dataVariance()); }
    /// The lowest log-SNR of unlifted variables at which the model means anything; solvers keep their curves above it.
    virtual double minLogSnr() const { return -std::numeric_limits<double>::infinity(); }

    /// Throws std::invalid_argument when the point `eta` [m], called `what` in the message, lies outside the model's range.
    virtual void checkRange(const Eigen::VectorXd& eta, const std::string& what) const = 0;

    /// Points evaluated since construction (each finite-difference point counts).
    long evaluations() const { return count.load(); }
    /// Points that the calling thread evaluated, of any model: what a piece of work cost where several run at the same time.
    static long evaluationsOfThread();

protected:
    /// log-SNR, for data of unit variance, of noise a thousandth of their standard deviation.
    static constexpr double CleanLogSnr = 13.815510557964274;

    virtual Moments compute(const Eigen::MatrixXd& eta, Order order, const Eigen::MatrixXd* direction) const = 0;
    virtual Eigen::MatrixXd computeDenoised(const Eigen::MatrixXd& eta) const;
    virtual MeanProducts computeProducts(const Eigen::MatrixXd& eta, const Eigen::MatrixXd& direction) const;
    void addEvaluations(long n) const;

    Variables vars;

private:
    void checkPoints(const Eigen::MatrixXd& eta) const;

    mutable std::atomic<long> count{0};
};

}  // namespace Spacetime
