// SPDX-License-Identifier: MIT
#pragma once

#include "spacetime/Curve.h"

namespace Spacetime {

/**
 * Riemannian geometry of spacetime. A point is a natural parameter eta (Variables::naturalParameter makes one), the metric at it is the
 * Fisher information H(eta) = Cov[T], the Hessian of the log-partition psi (arXiv:2505.17517). Where a model is not exact H is the symmetric part of J.
 */

struct ExponentialOptions {
    int numPoints = 129;      ///< points of the result, at equal steps of t from 0 to 1
    double tolerance = 1e-8;  ///< error of each integration step, in the metric, relative to the length
    /// The metric counts as singular where a statistic has less than this share of its variance left once the others are known.
    double minMetric = 1e-12;
};

struct GeodesicShot {
    Curve curve;                                                ///< eta(t) with s = t
    Eigen::MatrixXd velocity;                                   ///< [m x numPoints] d eta/dt
    double length = 0;                                          ///< the constant speed sqrt(eta'^T H eta'), as t runs from 0 to 1
    double maxSpeedError = 0;                                   ///< largest relative deviation of the speed at a point from the first one's
    double minNEff = std::numeric_limits<double>::quiet_NaN();  ///< fewest effective samples at a point; NaN where the model has none
    int steps = 0;
};

/// Exponential map: the geodesic 2 H eta'' + T3[eta'] eta' = 0 from `eta` [m] with the initial velocity `velocity` [m], t from 0 to 1.
/// T3[w] is the derivative of H along w. Throws std::invalid_argument, saying where, when the geodesic leaves spacetime (eta_l reaches 0)
/// or the metric becomes singular or not positive.
GeodesicShot exponentialMap(const PosteriorModel& model, const Eigen::VectorXd& eta, const Eigen::VectorXd& velocity, const ExponentialOptions& options = {});

struct LogarithmOptions {
    int numPoints = 129;      ///< nodes of the discrete geodesic that starts the shooting
    double tolerance = 1e-8;  ///< on the distance by which the geodesic misses the end, relative to its length
    int maxIterations = 20;
};

struct LogarithmResult {
    Eigen::VectorXd velocity;  ///< [m] d eta/dt at the start, t from 0 to 1
    double length = 0;         ///< Fisher-Rao distance of the two points
    double residual = 0;       ///< |exp(velocity) - etaB| in the metric at etaB, relative to the length
    bool converged = false;
    int iterations = 0;    ///< Newton steps
    long evaluations = 0;  ///< model points evaluated
};

/// Logarithm map: initial velocity of the shortest geodesic from etaA [m] to etaB [m], which exponentialMap carries to etaB.
/// Throws std::invalid_argument for points outside the model's range, and where that geodesic leaves spacetime.
LogarithmResult logarithmMap(const PosteriorModel& model, const Eigen::VectorXd& etaA, const Eigen::VectorXd& etaB, const LogarithmOptions& options = {});

struct DivergenceOptions {
    bool integrate = false;    ///< a line integral of mu even where the model knows psi
    double tolerance = 1e-11;  ///< of that integral, relative
};

/// KL(p_a || p_b) = psi(b) - psi(a) - (b - a)·mu(a) in nats. For models without psi the line integral of (b - a)·(mu - mu(a)) from a to b;
/// where rounding would eat the difference, the one of the Fisher information. Never negative for exact models.
double klDivergence(const PosteriorModel& model, const Eigen::VectorXd& a, const Eigen::VectorXd& b, const DivergenceOptions& options = {});

/// KL(p_a || p_b) + KL(p_b || p_a) = (a - b)·(mu(a) - mu(b)) in nats.
double jeffreysDivergence(const PosteriorModel& model, const Eigen::VectorXd& a, const Eigen::VectorXd& b, const DivergenceOptions& options = {});

/// The metric tensor H [m x m] at eta [m].
Eigen::MatrixXd fisherInformation(const PosteriorModel& model, const Eigen::VectorXd& eta);

/// The metric tensor in the coordinates one thinks in, laid out like T: log-SNR and raw positions x/alpha for unlifted variables,
/// (log kappa, raw phi0) for lifted ones. Throws std::invalid_argument where these are singular: eta_l = 0 or kappa = 0.
Eigen::MatrixXd metricInCoordinates(const PosteriorModel& model, const Eigen::VectorXd& eta);

/// psi at the columns of eta [m x n]. Throws std::invalid_argument for models without psi.
Eigen::VectorXd logPartition(const PosteriorModel& model, const Eigen::MatrixXd& eta);

}  // namespace Spacetime
