// SPDX-License-Identifier: MIT
#include "spacetime/Geometry.h"
#include "Dop853.h"
#include "spacetime/Solver.h"
#include "spacetime/Text.h"
#include <Eigen/Cholesky>
#include <Eigen/QR>
#include <algorithm>
#include <cmath>
#include <functional>
#include <optional>
#include <stdexcept>

using Eigen::MatrixXd;
using Eigen::VectorXd;

namespace Spacetime {

namespace {

using Order = PosteriorModel::Order;

const double Epsilon = std::numeric_limits<double>::epsilon();
/// One sample holds 99 % of the posterior: its covariance is that of the sampling, not of the molecule.
const double CollapsedNEff = 1.01;
/// A step of t below which the integration is stuck, and how many steps are worth waiting for.
const double MinStep = 1e-9;
const int MaxSteps = 50000;
/// Two points this close (in standard deviations) are joined by a nearly straight line: no discrete geodesic is needed to start from.
const double NearDistance = 1e-2;
/// Precision of a precision of the posterior at the bound of the discrete geodesic, relative to that of the data.
const double BoundaryPrecision = 1e-9;
/// The Jacobian of the shooting: integration tolerance and relative step of its differences.
const double JacobianTolerance = 1e-8, JacobianStep = 1e-4;

MatrixXd symmetric(const MatrixXd& J) { return 0.5 * (J + J.transpose()); }

void checkPoint(const PosteriorModel& model, const VectorXd& eta, const std::string& what) {
    if (eta.size() != model.numStatistics() || !eta.allFinite())
        throw std::invalid_argument(what + ": expected " + std::to_string(model.numStatistics()) + " finite natural parameters, got " + textList(eta));
    if (model.variables().hasQuadratic() && eta[0] > 0)
        throw std::invalid_argument(what + ": eta_l = -e^logSNR/2 cannot be positive, got " + text(eta[0]));
}

/// The metric at a point, factorised; `problem` says why where it is none.
struct Metric {
    MatrixXd H;
    Eigen::LLT<MatrixXd> factor;  // of H scaled to a unit diagonal: statistics differ by orders of magnitude, in themselves no sign of singularity
    VectorXd scale;
    double left = -1;  // least share of a statistic's variance that the ones before it leave unexplained
    std::string problem;

    Metric(const MatrixXd& J, const VectorXd& nEff, double minMetric) : H(symmetric(J)) {
        if (nEff.size() && nEff[0] < CollapsedNEff)
            problem = "the metric is singular because the posterior has collapsed onto one sample (effective sample size " + text(nEff[0]) +
                      "): stay where there are samples, at lower log-SNR, or give the model a bandwidth";
        else if (!H.allFinite() || !(H.diagonal().minCoeff() > 0))
            problem = "the metric is not positive: the smallest variance of a statistic is " + text(H.diagonal().minCoeff()) +
                      ". The model is inconsistent there, or all its samples agree";
        else {
            scale = H.diagonal().cwiseSqrt();
            factor.compute(scale.cwiseInverse().asDiagonal() * H * scale.cwiseInverse().asDiagonal());
            if (factor.info() == Eigen::Success)
                left = factor.matrixLLT().diagonal().array().square().minCoeff();
            if (!(left > 0))
                problem = "the metric is not positive: the model is inconsistent there";
            else if (!(left > minMetric))
                problem = "the metric is singular: a statistic has only " + text(left) + " of its variance left once the others are known, expected more than " + text(minMetric) +
                          ". Too few samples lie there, or the variables depend on each other";
        }
    }

    VectorXd solve(const VectorXd& x) const { return factor.solve(x.cwiseQuotient(scale)).cwiseQuotient(scale); }
    double norm(const VectorXd& x) const { return std::sqrt(std::max(0.0, x.dot(H * x))); }
    /// Coordinates of x in which the metric is the identity, and back.
    VectorXd whiten(const VectorXd& x) const { return factor.matrixU() * x.cwiseProduct(scale); }
    VectorXd unwhiten(const VectorXd& x) const { return factor.matrixU().solve(x).cwiseQuotient(scale); }
};

Metric metricAt(const PosteriorModel& model, const VectorXd& eta, double minMetric) {
    const Moments m = model.moments(eta);
    return Metric(m.J[0], m.nEff, minMetric);
}

/// Right-hand side of the geodesic equation at one point: the metric there and eta'' = -1/2 H^-1 T3[eta'] eta'.
struct Force {
    std::optional<Metric> metric;
    VectorXd acceleration;
    std::string problem;

    Force() = default;
    Force(const PosteriorModel& model, const VectorXd& eta, const VectorXd& velocity, double minMetric) {
        if (!eta.allFinite() || !velocity.allFinite())
            problem = "eta grows without bound: the metric vanishes along it";
        else if (model.variables().hasQuadratic() && !(eta[0] < 0))
            problem = "it leaves spacetime: eta_l reaches 0, log-SNR minus infinity";
        else {
            const MatrixXd direction = velocity;
            const Moments m = model.moments(eta, Order::Third, &direction);
            metric.emplace(m.J[0], m.nEff, minMetric);
            problem = metric->problem;
            if (problem.empty())
                acceleration = -0.5 * metric->solve(m.third[0] * velocity);
        }
    }
};

/// Nodes and weights of Gauss and Legendre on [0, 1], by Newton's method on the polynomial.
struct GaussLegendre {
    VectorXd nodes, weights;

    explicit GaussLegendre(int n) : nodes(n), weights(n) {
        for (int i = 0; i < n; i++) {
            double x = std::cos(M_PI * (i + 0.75) / (n + 0.5)), slope = 1;
            for (int round = 0; round < 8; round++) {
                double p = 1, before = 0;
                for (int k = 1; k <= n; k++) {
                    const double next = ((2 * k - 1) * x * p - (k - 1) * before) / k;
                    before = p;
                    p = next;
                }
                slope = n * (x * p - before) / (x * x - 1);
                x -= p / slope;
            }
            nodes[i] = 0.5 * (1 + x);
            weights[i] = 1 / ((1 - x * x) * slope * slope);
        }
    }
};

/// Integral over [low, high] of a function given at many points at once. A piece on which 16 and 32 points disagree is halved, until `pieces` are spent: where
/// the ends are 1e16 times the data away they never agree, for rounding.
double integral(const std::function<VectorXd(const VectorXd&)>& values, double low, double high, double tolerance, double scale, int depth, int& pieces) {
    static const GaussLegendre coarse(16), fine(32);
    auto rule = [&](const GaussLegendre& g) { return (high - low) * g.weights.dot(values((low + (high - low) * g.nodes.array()).matrix())); };
    const double a = rule(coarse), b = rule(fine);
    scale = std::max(scale, std::abs(b));
    if (!(std::abs(a - b) > tolerance * scale) || depth == 20 || pieces-- <= 0)
        return b;
    const double middle = 0.5 * (low + high);
    const double first = integral(values, low, middle, tolerance, scale, depth + 1, pieces);
    return first + integral(values, middle, high, tolerance, scale, depth + 1, pieces);
}

double integral(const std::function<VectorXd(const VectorXd&)>& values, double low, double high, double tolerance) {
    int pieces = 2000;
    return integral(values, low, high, tolerance, 0, 0, pieces);
}

/// Points a + u (b - a) as columns.
MatrixXd along(const VectorXd& a, const VectorXd& b, const VectorXd& u) { return (b - a) * u.transpose() + a.replicate(1, u.size()); }

/// d^T H d along the segment from a to b, d = b - a. No digits cancel in it, however close a and b are.
VectorXd squaredSpeed(const PosteriorModel& model, const VectorXd& a, const VectorXd& b, const VectorXd& u) {
    const Moments m = model.moments(along(a, b, u));
    VectorXd result(u.size());
    for (Eigen::Index i = 0; i < u.size(); i++)
        result[i] = (b - a).dot(m.J[i] * (b - a));
    return result;
}

/// A difference this close to the rounding of what it is a difference of keeps fewer than 8 digits.
bool cancels(double difference, double magnitude) { return !(std::abs(difference) > 1e8 * Epsilon * magnitude); }

/// Mean moments of the two ends of a divergence, which are checked.
Moments endMoments(const PosteriorModel& model, const VectorXd& a, const VectorXd& b, const std::string& divergence) {
    checkPoint(model, a, divergence + ": the first point");
    checkPoint(model, b, divergence + ": the second point");
    MatrixXd ends(a.size(), 2);
    ends << a, b;
    return model.moments(ends, Order::Mean);
}

}  // namespace

GeodesicShot exponentialMap(const PosteriorModel& model, const VectorXd& eta, const VectorXd& velocity, const ExponentialOptions& options) {
    if (options.numPoints < 2)
        throw std::invalid_argument("exponentialMap: expected at least 2 points, got " + std::to_string(options.numPoints));
    if (!(options.tolerance > 0) || !(options.minMetric >= 0))
        throw std::invalid_argument("exponentialMap: expected a positive tolerance and a minMetric of 0 or more, got " + text(options.tolerance) + " and " +
                                    text(options.minMetric));
    checkPoint(model, eta, "exponentialMap: the start point");
    if (velocity.size() != eta.size() || !velocity.allFinite())
        throw std::invalid_argument("exponentialMap: expected a velocity of " + std::to_string(eta.size()) + " finite numbers, got " + textList(velocity));
    model.checkRange(eta, "the start point");

    const int last = options.numPoints - 1;
    MatrixXd points = eta.replicate(1, last + 1);
    GeodesicShot shot;
    shot.velocity = velocity.replicate(1, last + 1);
    auto refuse = [&](double t, const VectorXd& reached, const std::string& problem) {
        throw std::invalid_argument("exponentialMap: the geodesic ends at t = " + text(t) + " of 1, length " + text(t * shot.length) + " of " + text(shot.length) +
                                    ", eta = " + textList(reached) + ": " + problem);
    };
    Force here, latest;  // at the point reached, and at the stage evaluated last
    // Towards points where a network's metric turns singular the acceleration grows without bound.
    auto rough = [&] {
        return ": the metric is too rough to integrate or close to singular (a statistic has " + text(here.metric->left) +
               " of its variance left once the others are known). Give samples a bandwidth, train a network longer, or raise the tolerance";
    };
    here = Force(model, eta, velocity, options.minMetric);
    if (!here.problem.empty())
        refuse(0, eta, here.problem);
    shot.length = here.metric->norm(velocity);

    // The state is (eta, eta').
    const Eigen::Index m = eta.size();
    auto slopeOf = [&](const VectorXd&, const MatrixXd& state, MatrixXd& slope) {
        const VectorXd v = state.col(0).tail(m);
        latest = Force(model, state.col(0).head(m), v, options.minMetric);
        if (!latest.problem.empty())
            return false;
        slope.resize(2 * m, 1);
        slope << v, latest.acceleration;
        return true;
    };
    MatrixXd state(2 * m, 1), slope(2 * m, 1);
    state << eta, velocity;
    slope << velocity, here.acceleration;
    Dop853::Step step;
    double t = 0, planned = 0.1;
    bool refused = false;
    for (int node = 1; node <= last && shot.length > 0;) {
        if (++shot.steps > MaxSteps)
            refuse(t, state.col(0).head(m), "no end after " + std::to_string(MaxSteps) + " steps" + rough());
        // Steps end at the nodes, which are so as exact as the integration.
        const double nodeTime = static_cast<double>(node) / last;
        const bool toNode = t + 1.01 * planned >= nodeTime;
        const double h = toNode ? nodeTime - t : planned;
        // A stage beyond the end of spacetime or of the metric: half the step, until no more than MinStep separates the curve from that end.
        double error = std::numeric_limits<double>::infinity();
        const bool whole = Dop853::step(slopeOf, VectorXd::Constant(1, t), state, slope, VectorXd::Constant(1, h), step);
        if (whole) {
            auto size = [&](const MatrixXd& e) { return std::max(here.metric->norm(e.col(0).head(m)), here.metric->norm(e.col(0).tail(m))) / (options.tolerance * shot.length); };
            error = Dop853::error(size(step.error3), size(step.error5));
        }
        if (!(error <= 1)) {
            planned = h * Dop853::shrink(error);
            if (planned < MinStep)
                refuse(t, state.col(0).head(m), whole ? "the step size fell below " + text(MinStep) + rough() : latest.problem);
            refused = true;
            continue;
        }
        state = step.end;
        slope = step.slope;
        here = latest;
        const double next = h * Dop853::grow(error, refused);
        planned = toNode ? std::max(planned, next) : next;
        refused = false;
        t = toNode ? nodeTime : t + h;
        if (toNode) {
            points.col(node) = state.col(0).head(m);
            shot.velocity.col(node) = state.col(0).tail(m);
            node++;
        }
    }

    const Moments moments = model.moments(points);
    if (moments.nEff.size())
        shot.minNEff = moments.nEff.minCoeff();
    for (int i = 0; i <= last && shot.length > 0; i++) {
        const VectorXd w = shot.velocity.col(i);
        shot.maxSpeedError = std::max(shot.maxSpeedError, std::abs(std::sqrt(std::max(0.0, w.dot(moments.J[i] * w))) / shot.length - 1));
    }
    shot.curve = Curve(model.variables(), VectorXd::LinSpaced(last + 1, 0, 1), points);
    shot.curve.length = shot.length;
    shot.curve.energy = 0.5 * shot.length * shot.length;
    return shot;
}

LogarithmResult logarithmMap(const PosteriorModel& model, const VectorXd& etaA, const VectorXd& etaB, const LogarithmOptions& options) {
    if (!(options.tolerance > 0) || options.numPoints < 5 || options.maxIterations < 1)
        throw std::invalid_argument("logarithmMap: expected a positive tolerance, at least 5 points and 1 iteration, got " + text(options.tolerance) + ", " +
                                    std::to_string(options.numPoints) + " and " + std::to_string(options.maxIterations));
    checkPoint(model, etaA, "logarithmMap: the start point");
    checkPoint(model, etaB, "logarithmMap: the end point");
    model.checkRange(etaA, "the start point");
    model.checkRange(etaB, "the end point");
    LogarithmResult result;
    result.velocity = VectorXd::Zero(etaA.size());
    result.converged = true;
    if (etaA == etaB)
        return result;
    const long before = model.evaluations();
    ExponentialOptions shooting;
    shooting.numPoints = 2;
    const Metric atA = metricAt(model, etaA, shooting.minMetric), atB = metricAt(model, etaB, shooting.minMetric);
    for (const Metric* metric : {&atA, &atB})
        if (!metric->problem.empty())
            throw std::invalid_argument(std::string("logarithmMap: at the ") + (metric == &atA ? "start" : "end") + " point " + metric->problem);

    VectorXd start = etaB - etaA;
    if (std::max(atA.norm(start), atB.norm(start)) > NearDistance) {
        GeodesicOptions o;
        o.numPoints = options.numPoints;
        o.tolerance = 1e-10;
        const MatrixXd nodes = geodesic(model, etaA, etaB, o)[0].curve.eta();
        if (model.variables().hasQuadratic() && nodes.row(0).maxCoeff() > -BoundaryPrecision / model.dataVariance())
            throw std::invalid_argument("logarithmMap: the shortest curve between the points runs along the boundary of spacetime (log-SNR minus infinity), "
                                        "where it is no geodesic: no velocity carries one point to the other. `geodesic` gives that curve");
        // Without bounds the nodes lie at equal length, so at equal t: one-sided difference of fourth order.
        start = (options.numPoints - 1) / 12.0 * (-25 * nodes.col(0) + 48 * nodes.col(1) - 36 * nodes.col(2) + 16 * nodes.col(3) - 3 * nodes.col(4));
    }

    // Newton's method in coordinates in which the metric is the identity at both ends, so that nothing depends on the scale of eta.
    auto miss = [&](const VectorXd& w, double tolerance) {
        shooting.tolerance = tolerance;
        return VectorXd(atB.whiten(exponentialMap(model, etaA, atA.unwhiten(w), shooting).curve.eta().col(1) - etaB));
    };
    // The integration must be finer than the residual asked for: its errors grow along a geodesic.
    const double fine = 0.1 * options.tolerance;
    VectorXd w = atA.whiten(start), r;
    try {
        r = miss(w, fine);
    }
    catch (const std::invalid_argument& e) {
        throw std::invalid_argument(std::string("logarithmMap: the geodesic along the shortest discrete curve does not reach the end point: ") + e.what());
    }
    MatrixXd jacobian;
    while (r.norm() > options.tolerance * w.norm() && result.iterations < options.maxIterations) {
        const bool fresh = jacobian.size() == 0;
        if (fresh) {
            const double step = JacobianStep * w.norm();
            jacobian.resize(w.size(), w.size());
            try {
                const VectorXd base = miss(w, JacobianTolerance);
                for (Eigen::Index k = 0; k < w.size(); k++)
                    jacobian.col(k) = (miss(w + step * VectorXd::Unit(w.size(), k), JacobianTolerance) - base) / step;
            }
            catch (const std::invalid_argument&) {  // a neighbour leaves spacetime: the best so far is all there is
                break;
            }
        }
        const VectorXd change = -jacobian.colPivHouseholderQr().solve(r);
        double damping = 1;
        VectorXd next;
        for (; damping > 1e-3; damping *= 0.5) {
            try {
                next = miss(w + damping * change, fine);
                if (next.norm() < (1 - 0.1 * damping) * r.norm())
                    break;
            }
            catch (const std::invalid_argument&) {  // this long a step leaves spacetime
            }
        }
        result.iterations++;
        const bool moved = damping > 1e-3;
        if (!moved && fresh)
            break;
        // The Jacobian serves as long as it takes off a digit a step.
        if (!moved || next.norm() > 0.1 * r.norm())
            jacobian.resize(0, 0);
        if (moved) {
            w += damping * change;
            r = next;
        }
    }
    result.velocity = atA.unwhiten(w);
    result.length = w.norm();
    result.residual = r.norm() / w.norm();
    result.converged = result.residual <= options.tolerance;
    result.evaluations = model.evaluations() - before;
    return result;
}

double klDivergence(const PosteriorModel& model, const VectorXd& a, const VectorXd& b, const DivergenceOptions& options) {
    const Moments m = endMoments(model, a, b, "klDivergence");
    const VectorXd d = b - a, mu = m.mu.col(0);
    double value, magnitude = d.cwiseAbs().dot(mu.cwiseAbs());
    if (model.hasPsi() && !options.integrate) {
        value = m.psi[1] - m.psi[0] - d.dot(mu);
        magnitude += std::abs(m.psi[0]) + std::abs(m.psi[1]);
    }
    else
        value = integral([&](const VectorXd& u) { return VectorXd((model.moments(along(a, b, u), Order::Mean).mu.colwise() - mu).transpose() * d); }, 0, 1, options.tolerance);
    if (cancels(value, magnitude))
        value = integral([&](const VectorXd& u) { return VectorXd((1 - u.array()) * squaredSpeed(model, a, b, u).array()); }, 0, 1, options.tolerance);
    return model.isExact() ? std::max(0.0, value) : value;
}

double jeffreysDivergence(const PosteriorModel& model, const VectorXd& a, const VectorXd& b, const DivergenceOptions& options) {
    const Moments m = endMoments(model, a, b, "jeffreysDivergence");
    double value = (b - a).dot(m.mu.col(1) - m.mu.col(0));
    if (cancels(value, (b - a).cwiseAbs().dot(m.mu.cwiseAbs().rowwise().sum())))
        value = integral([&](const VectorXd& u) { return squaredSpeed(model, a, b, u); }, 0, 1, options.tolerance);
    return model.isExact() ? std::max(0.0, value) : value;
}

MatrixXd fisherInformation(const PosteriorModel& model, const VectorXd& eta) {
    checkPoint(model, eta, "fisherInformation: the point");
    return symmetric(model.moments(eta).J[0]);
}

MatrixXd metricInCoordinates(const PosteriorModel& model, const VectorXd& eta) {
    checkPoint(model, eta, "metricInCoordinates: the point");
    const Variables& vars = model.variables();
    MatrixXd A = MatrixXd::Zero(eta.size(), eta.size());  // d eta/d coordinates
    if (vars.hasQuadratic()) {
        if (!(eta[0] < 0))
            throw std::invalid_argument("metricInCoordinates: log-SNR is minus infinity at eta_l = 0, expected a negative eta_l");
        A(0, 0) = eta[0];
    }
    for (int i = 0; i < vars.size(); i++) {
        const int o = vars.offset(i);
        if (!vars[i].lifted()) {
            A(o, 0) = eta[o];
            A(o, o) = -2 * eta[0] / vars[i].scale;
            continue;
        }
        if (!(eta.segment<2>(o).norm() > 0))
            throw std::invalid_argument("metricInCoordinates: '" + vars[i].name + "' has kappa = 0, where its phase is undefined: use fisherInformation");
        const double turn = 2 * M_PI / vars[i].period;
        A.block<2, 2>(o, o) << eta[o], -turn * eta[o + 1], eta[o + 1], turn * eta[o];
    }
    return A.transpose() * fisherInformation(model, eta) * A;
}

VectorXd logPartition(const PosteriorModel& model, const MatrixXd& eta) {
    if (!model.hasPsi())
        throw std::invalid_argument("logPartition: this model does not know its log-partition psi. Differences of it follow from klDivergence: "
                                    "psi(b) - psi(a) = KL(p_a || p_b) + (b - a)·mu(a)");
    for (Eigen::Index i = 0; i < eta.cols(); i++)
        checkPoint(model, eta.col(i), "logPartition: point " + std::to_string(i));
    return model.moments(eta, Order::Mean).psi;
}

}  // namespace Spacetime
