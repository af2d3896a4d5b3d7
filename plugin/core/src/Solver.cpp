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

/// Sum of d_i^2 over a curve, with what its derivatives need.
struct Evaluation {
    MatrixXd eta, d2;
    Moments moments;
    std::vector<MatrixXd> metric;    // H, or the positive part of sym(J) where the model is a network
    std::vector<bool> inconsistent;  // edges valued by the metric because D eta · D mu is too small to be true
    VectorXd squares;                // value of each edge
    double sum = 0;
};

Evaluation evaluate(const PosteriorModel& model, const MatrixXd& eta) {
    Evaluation e;
    const Eigen::Index N = eta.cols() - 1;
    e.eta = eta;
    e.d2 = MatrixXd::Zero(eta.rows(), N + 1);
    for (Eigen::Index i = 1; i < N; i++)
        e.d2.col(i) = eta.col(i + 1) - 2 * eta.col(i) + eta.col(i - 1);
    e.moments = model.moments(eta, Order::Third, &e.d2);
    e.metric.resize(N + 1);
    for (Eigen::Index i = 0; i <= N; i++)
        e.metric[i] = model.isExact() ? e.moments.J[i] : positivePart(symmetric(e.moments.J[i]));
    e.squares.resize(N);
    e.inconsistent.assign(N, false);
    for (Eigen::Index i = 0; i < N; i++) {
        const VectorXd step = eta.col(i + 1) - eta.col(i);
        e.squares[i] = step.dot(e.moments.mu.col(i + 1) - e.moments.mu.col(i));
        if (!model.isExact()) {
            // A network is no gradient field: an edge much shorter than its own metric says is an artefact, not a short cut.
            const double floor = 0.125 * step.dot((e.metric[i] + e.metric[i + 1]) * step);
            if (e.squares[i] < floor) {
                e.squares[i] = floor;
                e.inconsistent[i] = true;
            }
        }
    }
    e.sum = e.squares.sum();
    return e;
}

/// Gradient and Hessian of the sum of squares in the chart, and the positive damping matrix that goes with them.
void assemble(const Evaluation& e, const Chart& chart, const MatrixXd& zeta, BlockSystem& hessian, BlockSystem& damping) {
    const Eigen::Index N = e.eta.cols() - 1, m = e.eta.rows();
    std::vector<MatrixXd> H(N + 1), A(N + 1);
    for (Eigen::Index i = 0; i <= N; i++) {
        H[i] = symmetric(e.moments.J[i]);
        A[i] = chart.jacobian(zeta.col(i));
    }
    for (Eigen::Index i = 1; i < N; i++) {
        VectorXd g = VectorXd::Zero(m);
        MatrixXd block = MatrixXd::Zero(m, m);
        for (int side = -1; side <= 1; side += 2) {
            const Eigen::Index edge = side < 0 ? i - 1 : i, other = i + side;
            const VectorXd step = e.eta.col(i) - e.eta.col(other);
            if (e.inconsistent[edge]) {
                const MatrixXd W = 0.25 * (e.metric[edge] + e.metric[edge + 1]);
                g += W * step;
                block += W;
            }
            else {
                g += e.moments.mu.col(i) - e.moments.mu.col(other) + e.moments.J[i].transpose() * step;
                block += 2 * H[i];
            }
        }
        block -= e.moments.third[i];
        hessian.gradient.col(i - 1) = A[i].transpose() * g;
        hessian.diagonal[i - 1] = A[i].transpose() * block * A[i] + chart.curvature(zeta.col(i), g);
        damping.diagonal[i - 1] = A[i].transpose() * (e.metric[i - 1] + 2 * e.metric[i] + e.metric[i + 1]) * A[i];
        // A node that the metric does not see (a gap between samples) must still be held.
        damping.diagonal[i - 1].diagonal().array() += 1e-10 * (1e-300 + damping.diagonal[i - 1].diagonal().maxCoeff());
        if (i + 1 < N) {
            const MatrixXd coupling = e.inconsistent[i] ? MatrixXd(0.25 * (e.metric[i] + e.metric[i + 1])) : MatrixXd(H[i] + H[i + 1]);
            hessian.upper[i - 1] = -A[i].transpose() * coupling * A[i + 1];
            damping.upper[i - 1] = -A[i].transpose() * (e.metric[i] + e.metric[i + 1]) * A[i + 1];
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
LevelResult solveLevel(const PosteriorModel& model, const Chart& chart, MatrixXd zeta, double tolerance, const GeodesicOptions& options) {
    const Eigen::Index m = zeta.rows(), N = zeta.cols() - 1;
    LevelResult result;
    Evaluation current = evaluate(model, chart.toEta(zeta));
    double lambda = 1e-3;
    const double lambdaNegligible = 1e-2;
    for (int iteration = 0; iteration < options.maxIterations; iteration++) {
        BlockSystem hessian(m, N - 1), damping(m, N - 1);
        assemble(current, chart, zeta, hessian, damping);
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
            const Evaluation trial = evaluate(model, chart.toEta(next));
            const double actual = current.sum - trial.sum;
            if (actual > 0 || (result.converged && actual > -1e-12 * current.sum)) {
                const double ratio = predicted > 0 ? actual / predicted : 0;
                lambda = ratio > 0.75 ? std::max(lambda / 5, 1e-12) : ratio < 0.25 ? 3 * lambda : lambda;
                zeta = next;
                current = trial;
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
            const LevelResult solved = solveLevel(model, chart, zeta, finest ? options.tolerance : std::max(1e-3, options.tolerance), options);
            zeta = solved.zeta;
            r.iterations += solved.iterations;
            if (finest) {
                r.residual = solved.residual;
                r.converged = solved.converged;
            }
            interrupted = solved.interrupted || (options.progress && !options.progress((c + (level + 1.0) / levels.size()) / choices.size()));
            if (interrupted && !finest) {
                r.converged = false;
                r.residual = solved.residual;
            }
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
        return lowest ? a.maxFreeEnergy < b.maxFreeEnergy : a.measure.length < b.measure.length;
    });
    return results;
}

}  // namespace Spacetime
