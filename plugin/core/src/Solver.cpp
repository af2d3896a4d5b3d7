// SPDX-License-Identifier: MIT
#include "spacetime/Solver.h"
#include "Chart.h"
#include "spacetime/Text.h"
#include <Eigen/Cholesky>
#include <Eigen/Eigenvalues>
#include <algorithm>
#include <chrono>
#include <cmath>
#include <stdexcept>

using Eigen::MatrixXd;
using Eigen::VectorXd;

namespace Spacetime {

namespace {

using Order = PosteriorModel::Order;

/// A coarse level only prepares the next one.
const int MaxCoarseIterations = 50;
/// Segments from which on a curve is fine enough to bring in the conformal weight.
const int LevelOfWeights = 32;
/// Relative difference between a conformal length before and after respacing that discretisation explains.
const double LeapTolerance = 0.02;

MatrixXd symmetric(const MatrixXd& J) { return 0.5 * (J + J.transpose()); }

MatrixXd positivePart(const MatrixXd& H) {
    const Eigen::SelfAdjointEigenSolver<MatrixXd> eigen(H);
    return eigen.eigenvectors() * eigen.eigenvalues().cwiseMax(0.0).asDiagonal() * eigen.eigenvectors().transpose();
}

/// Symmetric block-tridiagonal matrix and vector over the inner nodes of a curve.
struct BlockSystem {
    std::vector<MatrixXd> diagonal, upper;
    MatrixXd gradient;  // [m x n]

    BlockSystem(int m, int n) : diagonal(n, MatrixXd::Zero(m, m)), upper(n > 0 ? n - 1 : 0, MatrixXd::Zero(m, m)), gradient(MatrixXd::Zero(m, n)) {}

    double quadratic(const MatrixXd& x) const {
        double sum = 0;
        for (size_t i = 0; i < diagonal.size(); i++) {
            sum += x.col(i).dot(diagonal[i] * x.col(i));
            if (i + 1 < diagonal.size())
                sum += 2 * x.col(i).dot(upper[i] * x.col(i + 1));
        }
        return sum;
    }

    /// x = (this + lambda damping)^-1 b by block Cholesky; false where the matrix is not positive definite.
    bool solve(const BlockSystem& damping, double lambda, const MatrixXd& b, MatrixXd& x) const {
        const int n = static_cast<int>(diagonal.size());
        std::vector<Eigen::LLT<MatrixXd>> factors;
        std::vector<MatrixXd> above(n);  // L^-1 U of every row
        factors.reserve(n);
        x = b;
        MatrixXd block;
        for (int i = 0; i < n; i++) {
            block = diagonal[i] + lambda * damping.diagonal[i];
            if (i > 0) {
                block.noalias() -= above[i - 1].transpose() * above[i - 1];
                x.col(i) -= above[i - 1].transpose() * x.col(i - 1);
            }
            factors.emplace_back(block);
            if (factors.back().info() != Eigen::Success || !(factors.back().matrixLLT().diagonal().minCoeff() > 0))
                return false;
            factors.back().matrixL().solveInPlace(x.col(i));
            if (i + 1 < n) {
                above[i] = upper[i] + lambda * damping.upper[i];
                factors.back().matrixL().solveInPlace(above[i]);
            }
        }
        for (int i = n - 1; i >= 0; i--) {
            if (i + 1 < n)
                x.col(i) -= above[i] * x.col(i + 1);
            factors[i].matrixU().solveInPlace(x.col(i));
        }
        return x.allFinite();
    }
};

/**
 * The energy of a curve in the conformal metric e^(2 w psi*) ds_FR^2, with what its derivatives need.
 *
 * An edge counts as exp(w (psi*_i + psi*_{i+1})) D eta · D mu; w = 0 is the Fisher-Rao metric itself. psi* = eta·mu - psi is the
 * information cost of localising the distribution there, taken relative to the first node.
 */
struct Evaluation {
    MatrixXd eta;
    Moments moments;
    std::vector<MatrixXd> metric;    // H, or the positive part of J where the model is a network
    std::vector<bool> inconsistent;  // edges valued by the metric because D eta · D mu is too small to be true
    VectorXd squares, weights;       // Fisher-Rao square and conformal weight of each edge
    double sum = 0;
};

/**
 * The value alone: mu for an exact posterior; a network is also asked for J, which tells its artefacts apart.
 *
 * Within one step of the solver a network's artefacts stay those of `base`, and so does the metric that values them: the
 * derivatives know nothing of how either changes, and a step would be refused that the derivatives promise.
 */
Evaluation evaluate(const PosteriorModel& model, const MatrixXd& eta, double barrierWeight, const Evaluation* base = nullptr) {
    Evaluation e;
    const Eigen::Index N = eta.cols() - 1;
    e.eta = eta;
    e.moments = model.moments(eta, model.isExact() || base != nullptr ? Order::Mean : Order::Covariance);
    e.squares.resize(N);
    e.weights = VectorXd::Ones(N);
    e.inconsistent.assign(N, false);
    if (base != nullptr) {
        e.metric = base->metric;
        e.inconsistent = base->inconsistent;
    }
    else if (!model.isExact()) {
        e.metric.resize(N + 1);
        for (Eigen::Index i = 0; i <= N; i++)
            e.metric[i] = positivePart(symmetric(e.moments.J[i]));
    }
    VectorXd cost;
    if (barrierWeight > 0) {
        cost = eta.cwiseProduct(e.moments.mu).colwise().sum().transpose() - e.moments.psi;
        cost.array() -= cost[0];
    }
    for (Eigen::Index i = 0; i < N; i++) {
        const VectorXd step = eta.col(i + 1) - eta.col(i);
        e.squares[i] = step.dot(e.moments.mu.col(i + 1) - e.moments.mu.col(i));
        if (!model.isExact()) {
            // Where a network's J is not positive an edge can come out much shorter than its own metric says: an artefact, not a short cut.
            const double floor = 0.125 * step.dot((e.metric[i] + e.metric[i + 1]) * step);
            if (base == nullptr)
                e.inconsistent[i] = e.squares[i] < floor;
            if (e.inconsistent[i])
                e.squares[i] = floor;
        }
        if (barrierWeight > 0)
            e.weights[i] = std::exp(barrierWeight * (cost[i] + cost[i + 1]));
    }
    e.sum = e.weights.dot(e.squares);
    return e;
}

/// Adds what the derivatives need: H, and the third cumulant along the one direction in which the Hessian asks for it.
void addDerivatives(const PosteriorModel& model, double barrierWeight, Evaluation& e) {
    const Eigen::Index N = e.eta.cols() - 1;
    MatrixXd direction = MatrixXd::Zero(e.eta.rows(), N + 1);
    for (Eigen::Index i = 1; i < N; i++)
        for (Eigen::Index edge = i - 1; edge <= i; edge++) {
            if (!e.inconsistent[edge])
                direction.col(i) += e.weights[edge] * (e.eta.col(i) - e.eta.col(edge < i ? i - 1 : i + 1));
            direction.col(i) += barrierWeight * e.weights[edge] * e.squares[edge] * e.eta.col(i);
        }
    e.moments = model.moments(e.eta, Order::Third, &direction);
    if (model.isExact())
        e.metric = e.moments.J;
}

/// Gradient and Hessian of the energy in the chart, and the positive damping matrix that goes with them.
void assemble(const Evaluation& e, double barrierWeight, const Chart& chart, const MatrixXd& zeta, BlockSystem& hessian, BlockSystem& damping) {
    const Eigen::Index N = e.eta.cols() - 1, m = e.eta.rows();
    std::vector<MatrixXd> H(N + 1), A(N + 1);
    MatrixXd slope(m, N + 1);  // d psi*/d eta
    for (Eigen::Index i = 0; i <= N; i++) {
        H[i] = symmetric(e.moments.J[i]);
        A[i] = chart.jacobian(zeta.col(i));
        slope.col(i) = e.moments.J[i].transpose() * e.eta.col(i);
    }
    const double w = barrierWeight;
    // Derivative of an edge's square at its end i.
    auto edgeGradient = [&](Eigen::Index edge, Eigen::Index i) -> VectorXd {
        const Eigen::Index other = edge < i ? i - 1 : i + 1;
        const VectorXd step = e.eta.col(i) - e.eta.col(other);
        if (e.inconsistent[edge])
            return 0.25 * (e.metric[edge] + e.metric[edge + 1]) * step;
        return e.moments.mu.col(i) - e.moments.mu.col(other) + e.moments.J[i].transpose() * step;
    };
    for (Eigen::Index i = 1; i < N; i++) {
        VectorXd g = VectorXd::Zero(m);
        MatrixXd block = e.moments.third[i], damp = MatrixXd::Zero(m, m);
        for (Eigen::Index edge = i - 1; edge <= i; edge++) {
            const double W = e.weights[edge], wq = w * W * e.squares[edge];
            const VectorXd r = edgeGradient(edge, i);
            g += W * r + wq * slope.col(i);
            block += W * (e.inconsistent[edge] ? MatrixXd(0.25 * (e.metric[edge] + e.metric[edge + 1])) : MatrixXd(2 * H[i]));
            if (w > 0)
                block += w * W * (r * slope.col(i).transpose() + slope.col(i) * r.transpose()) + wq * (w * slope.col(i) * slope.col(i).transpose() + H[i]);
            damp += W * (e.metric[edge] + e.metric[edge + 1]);
        }
        hessian.gradient.col(i - 1) = A[i].transpose() * g;
        hessian.diagonal[i - 1] = A[i].transpose() * block * A[i] + chart.curvature(zeta.col(i), g);
        damping.diagonal[i - 1] = A[i].transpose() * damp * A[i];
        // A node that the metric does not see (a gap between samples) must still be held.
        damping.diagonal[i - 1].diagonal().array() += 1e-10 * (1e-300 + damping.diagonal[i - 1].diagonal().maxCoeff());
        if (i + 1 < N) {
            const double W = e.weights[i];
            MatrixXd coupling = e.inconsistent[i] ? MatrixXd(-0.25 * (e.metric[i] + e.metric[i + 1])) : MatrixXd(-(H[i] + H[i + 1]));
            if (w > 0)
                coupling += w * (edgeGradient(i, i) * slope.col(i + 1).transpose() + slope.col(i) * edgeGradient(i, i + 1).transpose()) +
                            w * w * e.squares[i] * slope.col(i) * slope.col(i + 1).transpose();
            hessian.upper[i - 1] = W * A[i].transpose() * coupling * A[i + 1];
            damping.upper[i - 1] = -W * A[i].transpose() * (e.metric[i] + e.metric[i + 1]) * A[i + 1];
        }
    }
}

/// Coordinates that rest on their bound and want to go on through it are held: identity rows.
void hold(const MatrixXd& held, BlockSystem& system, double diagonal) {
    const int n = static_cast<int>(system.diagonal.size());
    for (int i = 0; i < n; i++)
        for (Eigen::Index j = 0; j < held.rows(); j++)
            if (held(j, i) > 0) {
                system.diagonal[i].row(j).setZero();
                system.diagonal[i].col(j).setZero();
                system.diagonal[i](j, j) = diagonal;
                if (i + 1 < n)
                    system.upper[i].row(j).setZero();
                if (i > 0)
                    system.upper[i - 1].col(j).setZero();
                system.gradient(j, i) = 0;
            }
}

struct LevelResult {
    MatrixXd zeta;
    double residual = std::numeric_limits<double>::infinity();
    int iterations = 0;
    bool converged = false, interrupted = false;
};

/// Levenberg-Marquardt Newton on all nodes at once, with an active set for the bounds.
LevelResult solveLevel(const PosteriorModel& model, const Chart& chart, MatrixXd zeta, double tolerance, int maxIterations, double w, const GeodesicOptions& options) {
    const Eigen::Index m = zeta.rows(), N = zeta.cols() - 1;
    LevelResult result;
    Evaluation current = evaluate(model, chart.toEta(zeta), w);
    double lambda = 1e-3;
    const double lambdaNegligible = 1e-2;
    for (int iteration = 0; iteration < maxIterations; iteration++) {
        BlockSystem hessian(m, N - 1), damping(m, N - 1);
        addDerivatives(model, w, current);
        assemble(current, w, chart, zeta, hessian, damping);
        MatrixXd held = MatrixXd::Zero(m, N - 1);
        for (Eigen::Index i = 0; i < N - 1; i++)
            for (Eigen::Index j = 0; j < m; j++)
                held(j, i) = zeta(j, i + 1) <= chart.lower()[j] + 1e-13 && hessian.gradient(j, i) > 0;
        hold(held, hessian, 1.0);
        hold(held, damping, 0.0);
        bool accepted = false;
        for (int attempt = 0; attempt < 60 && !accepted; attempt++) {
            MatrixXd step;
            if (!hessian.solve(damping, lambda, -hessian.gradient, step)) {
                lambda = std::max(4 * lambda, 1e-6);
                continue;
            }
            const double decrement = -hessian.gradient.cwiseProduct(step).sum() / current.sum;
            double shrink = 1;
            for (Eigen::Index j = 0; j < m; j++)
                if (std::isfinite(chart.stepLimit()[j]))
                    shrink = std::min(shrink, chart.stepLimit()[j] / std::max(1e-300, step.row(j).cwiseAbs().maxCoeff()));
            MatrixXd next = zeta;
            next.middleCols(1, N - 1) += shrink * step;
            next = next.cwiseMax(chart.lower().replicate(1, N + 1));
            next.col(0) = zeta.col(0);
            next.col(N) = zeta.col(N);
            const MatrixXd moved = (next - zeta).middleCols(1, N - 1);
            const double predicted = -(hessian.gradient.cwiseProduct(moved).sum() + 0.5 * hessian.quadratic(moved));
            if (lambda <= lambdaNegligible && decrement <= tolerance) {
                result.residual = decrement;
                result.converged = true;
            }
            const Evaluation trial = evaluate(model, chart.toEta(next), w, &current);
            const double actual = current.sum - trial.sum;
            if (actual > 0 || (result.converged && actual > -1e-12 * current.sum)) {
                const double ratio = predicted > 0 ? actual / predicted : 0;
                lambda = ratio > 0.75 ? std::max(lambda / 5, 1e-12) : ratio < 0.25 ? 3 * lambda : lambda;
                zeta = next;
                current = model.isExact() ? trial : evaluate(model, trial.eta, w);
                accepted = true;
                if (!result.converged)
                    result.residual = decrement;
            }
            else {
                if (result.converged)
                    break;
                lambda = std::max(4 * lambda, 1e-6);
                if (lambda > 1e12)
                    break;
            }
        }
        result.iterations++;
        if (result.converged || !accepted)
            break;
        if (options.progress && !options.progress(-1)) {
            result.interrupted = true;
            break;
        }
    }
    result.zeta = zeta;
    return result;
}

/// The same path with nodes at equal Fisher-Rao length. Nodes move along straight pieces in the chart, so box bounds keep holding.
MatrixXd respace(const PosteriorModel& model, const Chart& chart, const MatrixXd& zeta) {
    const Eigen::Index N = zeta.cols() - 1;
    const int pieces = 4;  // the length between nodes is read off a finer sampling
    MatrixXd fine(zeta.rows(), pieces * N + 1);
    for (Eigen::Index k = 0; k <= pieces * N; k++) {
        const Eigen::Index i = std::min(k / pieces, N - 1);
        fine.col(k) = zeta.col(i) + (static_cast<double>(k) / pieces - i) * (zeta.col(i + 1) - zeta.col(i));
    }
    const VectorXd at = equalSpacing(model, chart.toEta(fine), static_cast<int>(N) + 1);
    MatrixXd result = zeta;
    for (Eigen::Index i = 1; i < N; i++) {
        const Eigen::Index k = std::min(static_cast<Eigen::Index>(at[i]), pieces * N - 1);
        result.col(i) = fine.col(k) + (at[i] - k) * (fine.col(k + 1) - fine.col(k));
    }
    return result;
}

/// Windings to try: for every lifted variable the short and the long way round; beyond four of them at most two long ways.
std::vector<std::vector<int>> windingChoices(const Variables& vars, const VectorXd& rawA, const VectorXd& rawB, bool polar) {
    std::vector<std::vector<int>> choices = {std::vector<int>(vars.size(), 0)};
    if (!polar)
        return choices;
    const int maxFlips = vars.numLifted() <= 4 ? 4 : 2;
    for (int i = 0; i < vars.size(); i++) {
        if (!vars[i].lifted())
            continue;
        const int longWay = std::remainder(rawB[i] - rawA[i], vars[i].period) > 0 ? -1 : 1;
        const size_t count = choices.size();
        for (size_t c = 0; c < count; c++) {
            std::vector<int> flipped = choices[c];
            flipped[i] = longWay;
            if (std::count_if(flipped.begin(), flipped.end(), [](int w) { return w != 0; }) <= maxFlips)
                choices.push_back(flipped);
        }
    }
    return choices;
}

void checkEnd(const PosteriorModel& model, const VectorXd& eta, const std::string& what, double minLogSnr, double minLogKappa) {
    const Variables& vars = model.variables();
    if (eta.size() != vars.numStatistics() || !eta.allFinite())
        throw std::invalid_argument("geodesic: " + what + " needs " + std::to_string(vars.numStatistics()) + " finite natural parameters, got " + textList(eta));
    const double slack = 1e-9;
    if (vars.hasQuadratic() && eta[0] > -0.5 * std::exp(minLogSnr) * (1 - slack))
        throw std::invalid_argument("geodesic: " + what + " has log-SNR " + text(std::log(-2 * eta[0])) + ", below the bound of " + text(minLogSnr));
    for (int i = 0; i < vars.size(); i++)
        if (vars[i].lifted() && std::isfinite(minLogKappa)) {
            const double kappa = std::hypot(eta[vars.offset(i)], eta[vars.offset(i) + 1]);
            if (kappa < std::exp(minLogKappa) * (1 - slack))
                throw std::invalid_argument("geodesic: " + what + " has kappa = " + text(kappa) + " for " + vars[i].name + ", below the bound of " +
                                            text(std::exp(minLogKappa)) + ": raise --log-snr or lower the bound");
        }
    model.checkRange(eta, what);
}

}  // namespace

std::vector<GeodesicResult> geodesic(const PosteriorModel& model, const VectorXd& etaA, const VectorXd& etaB, const GeodesicOptions& options) {
    if (options.numPoints < 5)
        throw std::invalid_argument("geodesic: expected at least 5 points, got " + std::to_string(options.numPoints));
    if (!(options.minKappa >= 0) || !std::isfinite(options.minKappa) || std::isnan(options.minLogSnr) || options.minLogSnr == std::numeric_limits<double>::infinity())
        throw std::invalid_argument("geodesic: expected finite bounds, got min-kappa " + text(options.minKappa) + " and min-log-snr " + text(options.minLogSnr));
    if (!(options.tolerance > 0))
        throw std::invalid_argument("geodesic: expected a positive tolerance, got " + text(options.tolerance));
    if (!(options.barrierWeight >= 0) || !std::isfinite(options.barrierWeight))
        throw std::invalid_argument("geodesic: expected a barrier weight of 0 or more, got " + text(options.barrierWeight));
    if (options.barrierWeight > 0 && !model.hasPsi())
        throw std::invalid_argument("geodesic: a barrier weight needs a model that knows its log-partition psi: samples, a mixture, or an own network");
    const double minLogKappa = std::max(options.minLogSnr, std::log(options.minKappa));
    checkEnd(model, etaA, "the start point", options.minLogSnr, minLogKappa);
    checkEnd(model, etaB, "the end point", options.minLogSnr, minLogKappa);
    if ((etaA - etaB).norm() <= 1e-12 * (1 + etaA.norm()))
        throw std::invalid_argument("geodesic: the two end points are the same point of spacetime");

    const Variables& vars = model.variables();
    const Chart chart(model, options.minLogSnr, minLogKappa);
    const int N = options.numPoints - 1;
    std::vector<int> levels = {N};
    while (levels.back() >= 32)
        levels.push_back((levels.back() + 3) / 4);
    std::reverse(levels.begin(), levels.end());

    std::vector<GeodesicResult> results;
    bool interrupted = false;
    const auto choices = windingChoices(vars, vars.center(etaA), vars.center(etaB), chart.polar());
    for (size_t c = 0; c < choices.size() && !interrupted; c++) {
        const auto begin = std::chrono::steady_clock::now();
        const long before = model.evaluations();
        GeodesicResult r;
        r.windings = choices[c];
        MatrixXd zeta = chart.start(etaA, etaB, choices[c], levels[0]);
        zeta = zeta.cwiseMax(chart.lower().replicate(1, zeta.cols()));
        bool weighted = false;
        for (size_t level = 0; level < levels.size() && !interrupted; level++) {
            if (level > 0) {
                MatrixXd finer(zeta.rows(), levels[level] + 1);
                for (int k = 0; k <= levels[level]; k++) {
                    const double at = static_cast<double>(k) * levels[level - 1] / levels[level];
                    const int i = std::min(static_cast<int>(at), levels[level - 1] - 1);
                    finer.col(k) = zeta.col(i) + (at - i) * (zeta.col(i + 1) - zeta.col(i));
                }
                zeta = finer;
            }
            const bool finest = level + 1 == levels.size();
            // A long edge sees psi* at its ends only and would leap a barrier between them. So the weight comes in on a level of
            // short edges, from a curve that is already good, and in steps.
            const double w = options.barrierWeight;
            std::vector<double> ramp = {weighted ? w : 0.0};
            if (w > 0 && !weighted && (finest || levels[level] >= LevelOfWeights)) {
                ramp = {0.0, 0.25 * w, 0.5 * w, w};
                weighted = true;
            }
            for (size_t k = 0; k < ramp.size() && !interrupted; k++) {
                const bool last = finest && k + 1 == ramp.size();
                const LevelResult solved = solveLevel(model, chart, zeta, last ? options.tolerance : std::max(1e-3, options.tolerance),
                                                      last ? options.maxIterations : std::min(options.maxIterations, MaxCoarseIterations), ramp[k], options);
                zeta = solved.zeta;
                r.iterations += solved.iterations;
                r.residual = solved.residual;
                interrupted = solved.interrupted;
                r.converged = last && solved.converged;
            }
            interrupted = interrupted || (options.progress && !options.progress((c + (level + 1.0) / levels.size()) / choices.size()));
        }
        auto conformalLength = [&](const MatrixXd& nodes) {
            const Evaluation e = evaluate(model, chart.toEta(nodes), options.barrierWeight);
            return e.weights.cwiseProduct(e.squares).cwiseMax(0.0).cwiseSqrt().sum();
        };
        r.conformalLength = conformalLength(zeta);
        if (options.barrierWeight > 0 && r.conformalLength > 0) {
            zeta = respace(model, chart, zeta);
            // Where an edge leapt a barrier all the same, the respaced curve shows it.
            const double respaced = conformalLength(zeta);
            r.converged = r.converged && std::abs(respaced - r.conformalLength) <= LeapTolerance * r.conformalLength;
            r.conformalLength = respaced;
        }
        MatrixXd eta = chart.toEta(zeta);
        eta.col(0) = etaA;
        eta.col(eta.cols() - 1) = etaB;
        r.evaluations = model.evaluations() - before;
        r.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
        r.measure = measure(model, eta);
        r.maxFreeEnergy = r.measure.beta_F.maxCoeff();
        // s is arc length; an edge that the model gives no length still needs a positive step.
        VectorXd s = VectorXd::Zero(eta.cols());
        const double least = 1e-9 * std::max(r.measure.length, 1e-300);
        for (Eigen::Index i = 1; i < eta.cols(); i++)
            s[i] = s[i - 1] + std::max(r.measure.d[i - 1], least);
        s /= s[s.size() - 1];
        r.curve = Curve(vars, s, eta);
        r.curve.energy = r.measure.energy;
        r.curve.length = r.measure.length;
        r.curve.lengthExtrapolated = r.measure.lengthExtrapolated;
        r.curve.speedGap = r.measure.speedGap;
        r.curve.residual = r.residual;
        results.push_back(std::move(r));
    }
    const bool lowest = options.route == GeodesicOptions::Route::Lowest;
    std::stable_sort(results.begin(), results.end(), [lowest](const GeodesicResult& a, const GeodesicResult& b) {
        return lowest ? a.maxFreeEnergy < b.maxFreeEnergy : a.conformalLength < b.conformalLength;
    });
    return results;
}

}  // namespace Spacetime
