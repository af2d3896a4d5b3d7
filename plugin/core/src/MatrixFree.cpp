// SPDX-License-Identifier: MIT
#include "spacetime/MatrixFree.h"
#include "Probes.h"
#include "spacetime/Text.h"
#include <Eigen/QR>
#include <algorithm>
#include <chrono>
#include <cmath>
#include <deque>
#include <memory>
#include <nlohmann/json.hpp>
#include <stdexcept>

using Eigen::ArrayXd;
using Eigen::Index;
using Eigen::MatrixXd;
using Eigen::VectorXd;

namespace Spacetime {

namespace {

/// Segments of the coarsest level; halves of them are too few to bend.
const int CoarsestSegments = 4;
/// Coarse levels only need to get near: tolerance there, relative to that of the finest.
const double CoarseTolerance = 3;
/// Steps that the approximation of the Hessian remembers.
const size_t Memory = 20;
/// Stiffness of curves of models that are not exact, see MatrixFreeOptions::stiffness.
const double InexactStiffness = 0.1;
/// Longest step of log p, the logarithm of a posterior's precision.
const double LongestStep = 0.7;
/// Least curvature along a step, as a share of the springs'.
const double LeastCurvature = 0.2;
const double ShortestStep = 0.03, ShortestFirstStep = 1e-4;  // the first knows nothing of the curvature
/// Share by which the sum over the edges may rise above the lowest seen, for the noise of its probes.
const double AllowedRise = 0.03;
/// Steps in a row that bring the promised decrease no lower: the rest is noise of the probes.
const int Patience = 8;
/// Steps in a row whose promised decrease is within the tolerance, for exact models: a single one may be measured with the stiffest curvature of few steps.
const int Calm = 3;
/// Finite step along a direction: of log lambda, and of a point in standard deviations of its noise; exact models, of double precision, take a share of it.
const double StepInLevel = 0.01, StepInNoise = 0.03, StepIfExact = 1e-3;
/// Below log lambda of -8 and s2 = 1 a posterior is the data's whole distribution to 0.03 %.
const double WidestLogSnr = -8;

/**
 * The chart (u, m): u = log p, m = eta_x/p with p = e^l + 1/s2, the posterior's precision and mean if the data were N(0, s2). Steps of natural parameters
 * are badly scaled, e^l ranging over decades; in this chart the energy of a Gaussian is nearly quadratic.
 */
class PrecisionChart {
public:
    explicit PrecisionChart(double s2) : prior(1 / s2) {}
    MatrixXd toEta(const MatrixXd& z) const {
        MatrixXd eta(z.rows(), z.cols());
        const ArrayXd p = z.row(0).array().exp();
        eta.row(0) = -0.5 * (p - prior);
        eta.bottomRows(z.rows() - 1) = z.bottomRows(z.rows() - 1) * p.matrix().asDiagonal();
        return eta;
    }
    MatrixXd toChart(const MatrixXd& eta) const {
        MatrixXd z(eta.rows(), eta.cols());
        const ArrayXd p = prior - 2 * eta.row(0).array();
        z.row(0) = p.log();
        z.bottomRows(eta.rows() - 1) = eta.bottomRows(eta.rows() - 1) * p.inverse().matrix().asDiagonal();
        return z;
    }
    double lowest(double minLogSnr) const { return std::log(prior + std::exp(std::max(minLogSnr, WidestLogSnr - std::log(1 / prior)))); }

private:
    double prior;
};

/// All that is computed at the nodes of a curve.
struct NodeState {
    MatrixXd z, eta;         // [m x N+1]
    MatrixXd mu;             // [m x N+1]
    VectorXd trace, square;  // [N+1] tr Cov and an estimate of tr Cov^2
    MatrixXd gradient;       // [m x N-1] of the sum of squares, in the chart
    double sum = 0;          // of Delta eta · Delta mu
    Index segments() const { return z.cols() - 1; }
};

/// Solution of the symmetric tridiagonal system of springs between neighbours, k [N+1] at the nodes, with extra stiffness at the inner ones; right sides in rows.
MatrixXd solveSprings(const VectorXd& k, const VectorXd* extra, MatrixXd right) {
    const Index n = right.cols();
    VectorXd spring = k.head(n + 1) + k.tail(n + 1), pivot(n);
    for (Index i = 0; i < n; i++) {
        pivot[i] = spring[i] + spring[i + 1] + (extra ? (*extra)[i] : 0);
        if (i > 0) {
            const double f = spring[i] / pivot[i - 1];
            pivot[i] -= f * spring[i];
            right.col(i) += f * right.col(i - 1);
        }
    }
    for (Index i = n - 1; i >= 0; i--) {
        if (i + 1 < n)
            right.col(i) += spring[i + 1] * right.col(i + 1);
        right.col(i) /= pivot[i];
    }
    return right;
}

/// The system itself times x.
MatrixXd applySprings(const VectorXd& k, const VectorXd* extra, const MatrixXd& x) {
    const Index n = x.cols();
    MatrixXd out(x.rows(), n);
    for (Index i = 0; i < n; i++) {
        const double left = k[i] + k[i + 1], right = k[i + 1] + k[i + 2];
        out.col(i) = (left + right + (extra ? (*extra)[i] : 0)) * x.col(i);
        if (i > 0)
            out.col(i) -= left * x.col(i - 1);
        if (i + 1 < n)
            out.col(i) -= right * x.col(i + 1);
    }
    return out;
}

/// One pair's way to its geodesic, asked for its products and told the answers, so that many pairs share the model's batches.
class PairSolver {
public:
    PairSolver(const PosteriorModel& model, const VectorXd& etaA, const VectorXd& etaB, const MatrixFreeOptions& o)
        : options(o), D(model.numStatistics() - 1), isExact(model.isExact()), stiffness(std::isnan(o.stiffness) ? (model.isExact() ? 0 : InexactStiffness) : o.stiffness),
          chart(model.dataVariance()), probes(clean(etaB) - clean(etaA), o.probes, o.seed) {
        lowest = chart.lowest(std::max(o.minLogSnr, model.minLogSnr()));
        for (int n = std::max(2, o.numPoints - 1);; n = (n + 1) / 2) {
            levels.insert(levels.begin(), n);
            if (n <= CoarsestSegments)
                break;
        }
        endMu.resize(D + 1, 2);
        if (o.start.size() > 0) {
            MatrixXd given = o.start;
            given.col(0) = etaA;
            given.col(given.cols() - 1) = etaB;
            starts.push_back(resampled(chart.toChart(given), levels[0]));
        }
        else
            for (double effective = D; effective >= 2; effective /= 4)
                starts.push_back(chart.toChart(halfCircle(etaA, etaB, effective, levels[0])));
        for (MatrixXd& start : starts)
            bound(start);
        trial = starts[0];
    }

    bool done() const { return finished; }
    double fraction() const {
        // Work grows with the number of nodes.
        double all = 0, before = 0;
        for (size_t k = 0; k < levels.size(); k++) {
            all += levels[k];
            before += k < level ? levels[k] : 0;
        }
        return finished ? 1 : (before + levels[level] * std::min(1.0, iteration / 15.0)) / all;
    }

    /// Asks for what the state at the trial curve needs; returns the number of points.
    long ask(ProductQueue& queue) {
        long asked = 0;
        answer = NodeState();
        NodeState& s = answer;
        s.z = trial;
        s.eta = chart.toEta(trial);
        const Index n = s.z.cols(), directions = probes.size();
        s.mu.resize(D + 1, n);
        s.trace.resize(n);
        s.square.resize(n);
        at = MatrixXd(directions, n);
        norms = MatrixXd(directions, n);
        moved = MatrixXd(directions, n);
        along = MatrixXd::Zero(D, n);
        reach = VectorXd::Zero(n);
        for (Index i = 0; i < n; i++) {
            const bool isEnd = i == 0 || i + 1 == n;
            if (isEnd && endKnown[i > 0]) {
                s.mu.col(i) = endMu.col(i > 0);
                s.trace[i] = endTrace[i > 0];
                s.square[i] = endSquare[i > 0];
                continue;
            }
            asked += directions;
            for (Index k = 0; k < directions; k++)
                queue.ask(s.eta.col(i), 0, probes.directions().col(k), [this, i, k](const auto& mean, const auto& product) {
                    answer.mu.col(i).tail(D) = mean;
                    at(k, i) = probes.directions().col(k).dot(product);
                    norms(k, i) = product.squaredNorm();
                });
            if (isEnd)
                continue;
            const VectorXd w = s.eta.col(i + 1) - 2 * s.eta.col(i) + s.eta.col(i - 1);
            const double lambda = -2 * s.eta(0, i), size = std::max(std::abs(w[0] / s.eta(0, i)) / StepInLevel, w.tail(D).norm() / std::sqrt(lambda) / StepInNoise);
            if (!(size > 0))
                continue;
            reach[i] = (isExact ? StepIfExact : 1) / size;
            const VectorXd there = s.eta.col(i) + reach[i] * w;
            asked += directions;
            for (Index k = 0; k < directions; k++)
                queue.ask(there, 0, probes.directions().col(k), [this, i, k](const auto& mean, const auto& product) {
                    if (k == 0)
                        along.col(i) = (mean - answer.mu.col(i).tail(D)) / reach[i];
                    moved(k, i) = probes.directions().col(k).dot(product);
                });
        }
        return asked;
    }

    /// Goes on from the answers to what ask() asked.
    void advance() {
        complete(answer);
        if (!starts.empty()) {
            chooseStart();
            return;
        }
        if (entering) {
            entering = false;
            state = std::move(answer);
            lowestSum = state.sum;
            step();
            return;
        }
        // Within the noise of the sums, the trapezoid of the slopes, not the sums, says whether a step leads down: sums have
        // a noise of their probes that the gradient has not.
        const double before = course.cwiseProduct(state.gradient).sum(), after = course.cwiseProduct(answer.gradient).sum();
        const bool isHigh = !(answer.sum <= lowestSum * (1 + AllowedRise));
        if ((isHigh || !(after <= -before)) && length > (isExact && memory.empty() ? ShortestFirstStep : ShortestStep)) {
            shorten(isHigh || !std::isfinite(after) ? 0.4 : before / (before - after));
            return;
        }
        if (isHigh) {
            // Nowhere down along this direction: forget what led to it, and stop where that was nothing.
            if (memory.empty()) {
                good = false;
                finishLevel();
            }
            else {
                memory.clear();
                step();
            }
            return;
        }
        spent = answer.sum > lowestSum * (1 - 0.1 * options.tolerance) ? spent + 1 : 0;
        lowestSum = std::min(lowestSum, answer.sum);
        accept();
        step();
    }

    void stop() { finished = true; }
    int iterations() const { return total; }
    double residual() const { return decrement; }
    bool converged() const { return finished && good; }
    /// The curve as it stands, with the number of nodes asked for.
    MatrixXd eta() const {
        const MatrixXd& z = state.z.size() > 0 ? state.z : trial;
        return chart.toEta(z.cols() - 1 == levels.back() ? z : resampled(z, levels.back()));
    }

private:
    static VectorXd clean(const VectorXd& eta) { return eta.tail(eta.size() - 1) / (-2 * eta[0]); }

    /// Nodes of equal length on the half-circle of a flat prior: ds^2 = 2 Deff (|dm|^2 + dY^2)/Y^2, Y = sqrt(2 Deff) e^(-l/2).
    MatrixXd halfCircle(const VectorXd& etaA, const VectorXd& etaB, double effective, int segments) const {
        const VectorXd a = clean(etaA), b = clean(etaB);
        const double unit = std::sqrt(2 * effective), yA = unit / std::sqrt(-2 * etaA[0]), yB = unit / std::sqrt(-2 * etaB[0]), d = (b - a).norm();
        MatrixXd eta(D + 1, segments + 1);
        const double x0 = d > 0 ? (d * d + yB * yB - yA * yA) / (2 * d) : 0, R = std::hypot(x0, yA);
        const double first = d > 0 ? std::atanh(-x0 / R) : 0, last = d > 0 ? std::atanh((d - x0) / R) : 1;
        for (int i = 0; i <= segments; i++) {
            const double t = static_cast<double>(i) / segments, v = first + (last - first) * t;
            const double share = d > 0 ? (x0 + R * std::tanh(v)) / d : t, y = d > 0 ? R / std::cosh(v) : yA * std::pow(yB / yA, t);
            const double lambda = (unit / y) * (unit / y);
            eta(0, i) = -0.5 * lambda;
            eta.col(i).tail(D) = lambda * ((1 - share) * a + share * b);
        }
        eta.col(0) = etaA;
        eta.col(segments) = etaB;
        return eta;
    }

    /// The curve with another number of segments, by cubics through four nodes.
    static MatrixXd resampled(const MatrixXd& z, int segments) {
        const Index n = z.cols() - 1;
        MatrixXd out(z.rows(), segments + 1);
        for (int i = 0; i <= segments; i++) {
            const double x = static_cast<double>(i) * n / segments;
            if (n < 3) {
                const Index k = std::min<Index>(static_cast<Index>(x), n - 1);
                out.col(i) = (k + 1 - x) * z.col(k) + (x - k) * z.col(k + 1);
                continue;
            }
            const Index k = std::clamp<Index>(static_cast<Index>(x) - 1, 0, n - 3);
            out.col(i).setZero();
            for (Index a = k; a < k + 4; a++) {
                double weight = 1;
                for (Index b = k; b < k + 4; b++)
                    if (b != a)
                        weight *= (x - b) / static_cast<double>(a - b);
                out.col(i) += weight * z.col(a);
            }
        }
        out.col(0) = z.col(0);
        out.col(segments) = z.col(n);
        return out;
    }

    void bound(MatrixXd& z) const {
        const Index inner = z.cols() - 2;
        z.row(0).segment(1, inner) = z.row(0).segment(1, inner).cwiseMax(lowest);
    }

    void complete(NodeState& s) {
        const Index n = s.z.cols();
        for (Index i = 0; i < n; i++) {
            const bool isEnd = i == 0 || i + 1 == n;
            if (isEnd && endKnown[i > 0])
                continue;
            s.trace[i] = probes.trace(at.col(i));
            s.square[i] = probes.trace(norms.col(i));
            s.mu(0, i) = s.trace[i] + s.mu.col(i).tail(D).squaredNorm();
            if (isEnd) {
                const int e = i > 0;
                endMu.col(e) = s.mu.col(i);
                endTrace[e] = s.trace[i];
                endSquare[e] = s.square[i];
                endKnown[e] = true;
            }
        }
        s.gradient.resize(D + 1, n - 2);
        s.sum = 0;
        for (Index i = 0; i + 1 < n; i++)
            s.sum += (s.eta.col(i + 1) - s.eta.col(i)).dot(s.mu.col(i + 1) - s.mu.col(i));
        for (Index i = 1; i + 1 < n; i++) {
            // dS/d eta_i = -d2 mu_i - J_i d2 eta_i; the row of E|d|^2 is 2 chat·(J d2 eta) and the derivative of tr Cov along d2 eta.
            const double alongL = 2 * s.mu.col(i).tail(D).dot(along.col(i)) + (reach[i] > 0 ? (probes.trace(moved.col(i)) - s.trace[i]) / reach[i] : 0);
            VectorXd g = -(s.mu.col(i + 1) - 2 * s.mu.col(i) + s.mu.col(i - 1));
            g[0] -= alongL;
            g.tail(D) -= along.col(i);
            const double p = std::exp(s.z(0, i));
            s.gradient(0, i - 1) = p * (s.z.col(i).tail(D).dot(g.tail(D)) - 0.5 * g[0]);
            s.gradient.col(i - 1).tail(D) = p * g.tail(D);
        }
        for (Index i = 0; stiffness > 0 && i + 1 < n; i++) {
            const double p = std::exp(s.z(0, i)), q = std::exp(s.z(0, i + 1));
            const VectorXd dm = (s.z.col(i + 1) - s.z.col(i)).tail(D);
            const double square = stiffness * dm.squaredNorm();
            s.sum += 0.5 * (p + q) * square;
            if (i > 0) {
                s.gradient(0, i - 1) += 0.5 * p * square;
                s.gradient.col(i - 1).tail(D) -= stiffness * (p + q) * dm;
            }
            if (i + 2 < n) {
                s.gradient(0, i) += 0.5 * q * square;
                s.gradient.col(i).tail(D) += stiffness * (p + q) * dm;
            }
        }
        project(s);
    }

    /// The orthonormal basis of the chord and of the denoised means along the curve, in which steps are taken where the model is not exact.
    void takeBasis() {
        if (isExact)
            return;
        MatrixXd span(D, state.z.cols() + 1);
        span.col(0) = clean(state.eta.col(state.eta.cols() - 1)) - clean(state.eta.col(0));
        const VectorXd middle = state.mu.bottomRows(D).rowwise().mean();
        span.rightCols(state.z.cols()) = state.mu.bottomRows(D).colwise() - middle;
        Eigen::ColPivHouseholderQR<MatrixXd> qr(span);
        qr.setThreshold(1e-3);
        basis = qr.householderQ() * MatrixXd::Identity(D, std::max<Index>(1, qr.rank()));
        project(state);
    }

    void project(NodeState& s) const {
        if (basis.size() > 0)
            s.gradient.bottomRows(D) = basis * (basis.transpose() * s.gradient.bottomRows(D));
    }

    void chooseStart() {
        // A trace can come out so wrong far from the data that the sum is negative: no start.
        if (tried == 0 || (answer.sum > 0 && !(state.sum > 0 && state.sum <= answer.sum)))
            state = std::move(answer);
        if (++tried < starts.size()) {
            trial = starts[tried];
            return;
        }
        starts.clear();
        lowestSum = state.sum;
        takeBasis();
        step();
    }

    /// The Hessian of a posterior that is isotropic and Gaussian at every node, with the traces measured: springs between neighbours.
    struct Springs {
        VectorXd forU, forM, extra;  // [N+1] at the nodes for log p and for m; [N-1] what an edge in m costs more where p grows
    };
    Springs springs(const NodeState& at) const {
        const Index n = at.z.cols();
        const ArrayXd p = at.z.row(0).transpose().array().exp();
        Springs k;
        k.forU = 0.5 * p.square() * at.square.array().max(1e-12);
        k.forM = p.square() * at.trace.array().max(1e-12) / D + stiffness * p;
        VectorXd bent(n - 1);
        for (Index i = 0; i + 1 < n; i++)
            bent[i] = 0.5 * (k.forM[i] + k.forM[i + 1]) * (at.z.col(i + 1) - at.z.col(i)).tail(D).squaredNorm();
        k.extra = bent.head(n - 2) + bent.tail(n - 2);
        return k;
    }
    MatrixXd precondition(const Springs& k, const MatrixXd& r) const {
        MatrixXd out(D + 1, r.cols());
        out.row(0) = solveSprings(k.forU, &k.extra, r.row(0));
        out.bottomRows(D) = solveSprings(k.forM, nullptr, r.bottomRows(D));
        return out;
    }
    MatrixXd stretched(const Springs& k, const MatrixXd& x) const {
        MatrixXd out(D + 1, x.cols());
        out.row(0) = applySprings(k.forU, &k.extra, x.row(0));
        out.bottomRows(D) = applySprings(k.forM, nullptr, x.bottomRows(D));
        return out;
    }

    /// Limited-memory BFGS (Nocedal 1980) on the preconditioner.
    MatrixXd direction() const {
        MatrixXd q = state.gradient;
        // Where the bound holds a node and the gradient pushes it beyond, its level stays.
        auto hold = [&](MatrixXd& x) {
            for (Index i = 0; i < x.cols(); i++)
                if (state.z(0, i + 1) <= lowest && state.gradient(0, i) > 0)
                    x(0, i) = 0;
        };
        hold(q);
        std::vector<double> alpha(memory.size());
        for (size_t k = memory.size(); k-- > 0;) {
            alpha[k] = memory[k].s.cwiseProduct(q).sum() / memory[k].sy;
            q -= alpha[k] * memory[k].y;
        }
        const Springs k = springs(state);
        MatrixXd d = precondition(k, q);
        d *= scale;
        for (size_t k = 0; k < memory.size(); k++)
            d += (alpha[k] - memory[k].y.cwiseProduct(d).sum() / memory[k].sy) * memory[k].s;
        hold(d);
        return -d;
    }

    void step() {
        course = direction();
        double slope = course.cwiseProduct(state.gradient).sum();
        if (!(slope < 0) && !memory.empty()) {
            memory.clear();
            course = direction();
            slope = course.cwiseProduct(state.gradient).sum();
        }
        decrement = state.sum > 0 ? -slope / state.sum : 0;
        idle = decrement > 0.9 * least ? idle + 1 : 0;
        least = std::min(least, decrement);
        // Where the gradient is right but for the noise of probes, an energy that falls no more is at its bottom.
        const bool isBottom = isExact && spent >= Patience;
        const bool isFinest = level + 1 == levels.size();
        const double tolerance = options.tolerance * (isFinest ? 1 : CoarseTolerance);
        calm = decrement < tolerance ? calm + 1 : 0;
        const bool isThere = calm >= (isExact ? Calm : 1);
        if (!(slope < 0) || isThere || isBottom || (!isExact && idle >= Patience) || iteration >= (isFinest ? options.maxIterations : std::min(options.maxIterations, 40))) {
            good = slope >= 0 || isThere || isBottom;  // not where it is no number
            finishLevel();
            return;
        }
        const double steepest = course.row(0).cwiseAbs().maxCoeff();
        // No step can bring the energy below zero: where the slope promises more than all of it, the curvature is underestimated.
        length = std::min({1.0, LongestStep / steepest, 1 / decrement});
        propose();
    }

    void propose() {
        trial = state.z;
        trial.middleCols(1, course.cols()) += length * course;
        bound(trial);
    }

    /// To where the slope, were it linear, is zero.
    void shorten(double share) {
        length *= std::clamp(share, 0.1, 0.7);
        propose();
    }

    void accept() {
        iteration++;
        total++;
        const Index inner = course.cols();
        Pair pair{(answer.z - state.z).middleCols(1, inner), answer.gradient - state.gradient, 0};
        pair.sy = pair.s.cwiseProduct(pair.y).sum();
        // Damped (Powell 1978): a curvature much below the springs' own would make the next step long, and negative ones, which an inexact denoiser has, endless.
        const MatrixXd stretch = stretched(springs(answer), pair.s);
        const double least = LeastCurvature * pair.s.cwiseProduct(stretch).sum();
        if (pair.sy < least) {
            const double whole = least / LeastCurvature, share = (whole - least) / (whole - pair.sy);
            pair.y = share * pair.y + (1 - share) * stretch;
            pair.sy = least;
        }
        // The springs are those of the mean eigenvalue of Cov; the largest ones are stiffer. Kept where steps are forgotten, and on the next level.
        const double yHy = pair.y.cwiseProduct(precondition(springs(answer), pair.y)).sum();
        if (yHy > 0)
            scale = std::min(1 / LeastCurvature, pair.sy / yHy);
        memory.push_back(std::move(pair));
        if (memory.size() > Memory)
            memory.pop_front();
        state = std::move(answer);
    }

    void finishLevel() {
        if (level + 1 == levels.size()) {
            finished = true;
            return;
        }
        level++;
        takeBasis();
        trial = resampled(state.z, levels[level]);
        bound(trial);
        memory.clear();
        iteration = idle = spent = calm = 0;
        least = std::numeric_limits<double>::infinity();
        entering = true;
    }

    struct Pair {
        MatrixXd s, y;
        double sy;
    };

    const MatrixFreeOptions& options;
    const Index D;
    const bool isExact;
    const double stiffness;
    const PrecisionChart chart;
    const Probes probes;
    double lowest = 0;
    std::vector<int> levels;  // segments, coarsest first
    size_t level = 0;
    std::vector<MatrixXd> starts;
    size_t tried = 0;
    bool finished = false, good = false, entering = false;
    MatrixXd trial;
    NodeState state, answer;
    MatrixXd at, norms, moved, along;  // answers on the way in
    VectorXd reach;
    bool endKnown[2] = {false, false};
    MatrixXd endMu, basis;
    double endTrace[2] = {0, 0}, endSquare[2] = {0, 0};
    std::deque<Pair> memory;
    MatrixXd course;
    double scale = 1, length = 1, decrement = std::numeric_limits<double>::infinity(), least = std::numeric_limits<double>::infinity(),
           lowestSum = std::numeric_limits<double>::infinity();
    int iteration = 0, total = 0, idle = 0, spent = 0, calm = 0;
};

/// Numbers that the pairs solved together may hold: their steps remembered, above all.
const double PairNumbers = 1.5e8;

/// Ends that differ by no more than rounding are the same.
const double SamePoint = 1e-12;

MatrixFreeResult finished(const PosteriorModel& model, const PairSolver& solver, const MatrixFreeOptions& options) {
    MatrixFreeResult r;
    const MatrixXd eta = solver.eta();
    ProbeOptions o;
    o.probes = options.measureProbes;
    o.seed = options.seed + 0x5bd1e995u;  // drawn anew: a curve may have made use of the noise of those it was found with
    o.batch = options.batch;
    r.measure = measureWithProbes(model, eta, o);
    r.residual = solver.residual();
    r.converged = solver.converged();
    r.iterations = solver.iterations();
    const Index N = eta.cols() - 1;
    VectorXd s = VectorXd::Zero(N + 1);
    // s increases strictly, also where the model finds no length.
    for (Index i = 0; i < N; i++)
        s[i + 1] = s[i] + r.measure.d[i] + 1e-9 * (r.measure.length + 1e-300);
    s /= s[N];
    r.curve = Curve(model.variables(), s, eta);
    r.curve.energy = r.measure.energy;
    r.curve.length = r.measure.length;
    r.curve.speedGap = r.measure.speedGap;
    r.curve.residual = r.residual;
    r.curve.solution = nlohmann::json{{"method", "matrix-free"},
                                      {"converged", r.converged},
                                      {"iterations", r.iterations},
                                      {"probes", options.probes},
                                      {"measure_probes", options.measureProbes},
                                      {"length_error", r.measure.lengthError},
                                      {"energy_error", r.measure.energyError},
                                      {"negative_edges", r.measure.negativeEdges}}
                           .dump();
    return r;
}

/// Ends that are the same point: a curve that stays there.
MatrixFreeResult standing(const PosteriorModel& model, const VectorXd& eta, const MatrixFreeOptions& options) {
    MatrixFreeResult r;
    r.converged = true;
    r.curve = Curve(model.variables(), VectorXd::LinSpaced(options.numPoints, 0, 1), eta.replicate(1, options.numPoints));
    r.measure.probes = options.measureProbes;
    r.measure.d = VectorXd::Zero(options.numPoints - 1);
    r.measure.mean = model.denoised(eta).replicate(1, options.numPoints);
    r.measure.trCov = VectorXd::Constant(options.numPoints, std::numeric_limits<double>::quiet_NaN());
    r.curve.length = r.curve.energy = r.curve.residual = r.curve.speedGap = 0;
    return r;
}

void checkOptions(const PosteriorModel& model, const MatrixFreeOptions& o) {
    checkUnlifted(model, "matrixFreeGeodesic");
    auto check = [](bool ok, const std::string& what) {
        if (!ok)
            throw std::invalid_argument("matrixFreeGeodesic: expected " + what);
    };
    check(o.numPoints >= 3, "at least 3 points, got " + std::to_string(o.numPoints));
    check(o.probes >= 1, "at least 1 probe, got " + std::to_string(o.probes));
    check(o.measureProbes >= 2, "at least 2 probes for the final measure, got " + std::to_string(o.measureProbes));
    check(o.tolerance > 0, "a positive tolerance, got " + text(o.tolerance));
    check(o.maxIterations >= 1, "at least 1 iteration, got " + std::to_string(o.maxIterations));
    check(o.batch >= 0, "a batch of 0 (chosen) or more points, got " + std::to_string(o.batch));
    check(!std::isnan(o.minLogSnr), "a number as the bound on log-SNR");
    if (o.start.size() > 0)
        check(o.start.rows() == model.numStatistics() && o.start.cols() >= 2 && o.start.allFinite() && o.start.row(0).maxCoeff() < 0,
              "a start of at least two points of " + std::to_string(model.numStatistics()) + " finite natural parameters with eta_l below 0");
}

void checkEnd(const PosteriorModel& model, const VectorXd& eta, const std::string& what, double minLogSnr) {
    if (!eta.allFinite() || !(eta[0] < 0))
        throw std::invalid_argument("matrixFreeGeodesic: " + what + " needs finite natural parameters with eta_l below 0, got " + textList(eta));
    const double l = std::log(-2 * eta[0]);
    if (l < minLogSnr - 1e-9)
        throw std::invalid_argument("matrixFreeGeodesic: " + what + " has log-SNR " + text(l) + ", below the bound of " + text(minLogSnr));
    model.checkRange(eta, what);
}

}  // namespace

std::vector<MatrixFreeResult> matrixFreeGeodesics(const PosteriorModel& model, const MatrixXd& etaA, const MatrixXd& etaB, const MatrixFreeOptions& options) {
    checkOptions(model, options);
    const Index m = model.numStatistics(), pairs = etaA.cols();
    if (etaA.rows() != m || etaB.rows() != m || etaB.cols() != pairs)
        throw std::invalid_argument("matrixFreeGeodesic: expected two sets of as many points of " + std::to_string(m) + " natural parameters, got " + std::to_string(pairs) +
                                    " of " + std::to_string(etaA.rows()) + " and " + std::to_string(etaB.cols()) + " of " + std::to_string(etaB.rows()));
    std::vector<MatrixFreeResult> results(pairs);
    const Index together = std::max<Index>(1, static_cast<Index>(PairNumbers / (40.0 * m * options.numPoints)));
    bool stopped = false;
    for (Index from = 0; from < pairs; from += together) {
        const auto begun = std::chrono::steady_clock::now();
        std::vector<std::unique_ptr<PairSolver>> solvers(std::min(together, pairs - from));
        std::vector<long> evaluations(solvers.size(), 0);
        for (size_t k = 0; k < solvers.size(); k++) {
            const VectorXd a = etaA.col(from + k), b = etaB.col(from + k);
            try {
                checkEnd(model, a, "the start", options.minLogSnr);
                checkEnd(model, b, "the end", options.minLogSnr);
                if ((a - b).norm() <= SamePoint * a.norm())
                    results[from + k] = standing(model, a, options);
                else
                    solvers[k] = std::make_unique<PairSolver>(model, a, b, options);
            }
            catch (const std::invalid_argument& e) {
                results[from + k].error = e.what();
            }
        }
        ProductQueue queue(model, options.batch);
        for (bool active = true; active && !stopped;) {
            active = false;
            for (size_t k = 0; k < solvers.size(); k++)
                if (solvers[k] && !solvers[k]->done()) {
                    evaluations[k] += solvers[k]->ask(queue);
                    active = true;
                }
            queue.flush();
            double fraction = 0;
            for (const auto& solver : solvers) {
                if (solver && !solver->done())
                    solver->advance();
                fraction += solver ? solver->fraction() : 1;
            }
            stopped = options.progress && !options.progress((from + fraction) / pairs);
        }
        const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begun).count();
        for (size_t k = 0; k < solvers.size(); k++)
            if (solvers[k]) {
                results[from + k] = finished(model, *solvers[k], options);
                results[from + k].evaluations = evaluations[k];
                results[from + k].seconds = seconds / static_cast<double>(solvers.size());
                solvers[k].reset();
            }
    }
    return results;
}

MatrixFreeResult matrixFreeGeodesic(const PosteriorModel& model, const VectorXd& etaA, const VectorXd& etaB, const MatrixFreeOptions& options) {
    MatrixFreeResult result = std::move(matrixFreeGeodesics(model, etaA, etaB, options)[0]);
    if (!result.error.empty())
        throw std::invalid_argument(result.error);
    return result;
}

}  // namespace Spacetime
