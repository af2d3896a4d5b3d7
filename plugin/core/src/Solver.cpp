// SPDX-License-Identifier: MIT
#include "spacetime/Solver.h"
#include "Newton.h"
#include "spacetime/Text.h"
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <mutex>
#include <nlohmann/json.hpp>
#include <random>
#include <stdexcept>
#include <thread>

using Eigen::MatrixXd;
using Eigen::VectorXd;

namespace Spacetime {

namespace {

/// A coarse level only prepares the next one; the first one with constraints has the way round them to find.
const int MaxCoarseIterations = 50, MaxConstrainedIterations = 150;
const double CoarseTolerance = 1e-3, CoarseGap = 1e-2, FinalGap = 1e-4;
/// Segments from which on a curve is fine enough to bring in the conformal weight and the constraints.
const int LevelOfWeights = 32;
/// Relative difference between a conformal length before and after respacing that discretisation explains.
const double LeapTolerance = 0.02;
/// Relative change of the length by twice as many segments, and relative violation of a constraint, that a converged curve may have.
const double DiscretisationTolerance = 1e-2, ViolationTolerance = 1e-2;
/// Violation between the nodes from which on a curve is solved again with a reserve, and how often.
const double WantedViolation = 5e-3, LargestReserve = 0.1;
const int MaxReserveRounds = 2;
/// Share of a constraint's bound that the posteriors of a model and its surrogate may differ by.
const double SurrogateReserve = 0.08;
/// Starts of a winding whose way is barred by a region.
const int DefaultStarts = 5;
/// Samples of a segment at which constraints are read off.
const int PlacesPerSegment = 4;

/// The same path with nodes at equal length in the metric of `problem`. They move along straight pieces in the chart, so box bounds keep holding.
MatrixXd respace(const CurveProblem& problem, const MatrixXd& zeta) {
    const Eigen::Index N = zeta.cols() - 1;
    const int pieces = 4;  // the length between nodes is read off a finer sampling
    MatrixXd fine(zeta.rows(), pieces * N + 1);
    for (Eigen::Index k = 0; k <= pieces * N; k++) {
        const Eigen::Index i = std::min(k / pieces, N - 1);
        fine.col(k) = zeta.col(i) + (static_cast<double>(k) / pieces - i) * (zeta.col(i + 1) - zeta.col(i));
    }
    const CurveState s = evaluate(problem, fine);
    const VectorXd at = equalParts(s.weights.cwiseProduct(s.squares).cwiseMax(0.0).cwiseSqrt(), static_cast<int>(N) + 1);
    MatrixXd result = zeta;
    for (Eigen::Index i = 1; i < N; i++) {
        const Eigen::Index k = std::min(static_cast<Eigen::Index>(at[i]), pieces * N - 1);
        result.col(i) = fine.col(k) + (at[i] - k) * (fine.col(k + 1) - fine.col(k));
    }
    return result;
}

/// Nodes at N + 1 equal steps along a curve in the chart, by cubic interpolation; bounds are kept.
MatrixXd refine(const Chart& chart, const MatrixXd& zeta, int N) {
    const Eigen::Index old = zeta.cols() - 1;
    const MatrixXd y = chart.toSmooth(zeta);
    MatrixXd result(zeta.rows(), N + 1);
    for (int k = 0; k <= N; k++) {
        // Lagrange's cubic through four neighbouring nodes.
        const double at = static_cast<double>(k) * old / N;
        const Eigen::Index first = std::clamp<Eigen::Index>(static_cast<Eigen::Index>(at) - 1, 0, std::max<Eigen::Index>(0, old - 3)), last = std::min(first + 3, old);
        result.col(k).setZero();
        for (Eigen::Index i = first; i <= last; i++) {
            double weight = 1;
            for (Eigen::Index j = first; j <= last; j++)
                if (j != i)
                    weight *= (at - j) / static_cast<double>(i - j);
            result.col(k) += weight * y.col(i);
        }
    }
    result = chart.fromSmooth(result).cwiseMax(chart.lower().replicate(1, N + 1));
    result.col(0) = zeta.col(0);
    result.col(N) = zeta.col(old);
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

/// Everything that the starts of one pair have in common.
struct Task {
    const PosteriorModel& model;
    const GeodesicOptions& options;
    VectorXd etaA, etaB;
    Chart chart;
    Constraints constraints;  // all but the bound on the free energy, which is a polish
    Constraints polish;       // all
    std::vector<int> levels;
    std::function<bool(double)> progress;  // share of this start's work

    bool interrupted(double fraction) const { return progress && !progress(fraction); }
};

std::string kappaName(const Variable& v) { return "kappa of " + v.name; }

/// The conditions of `options` on every point of a curve that starts at etaA.
Constraints pointConstraints(const PosteriorModel& model, const GeodesicOptions& options, const VectorXd& etaA, bool freeEnergy) {
    Constraints c;
    if (std::isfinite(options.maxVariance))
        c.push_back(std::make_unique<VarianceConstraint>(model.variables(), options.maxVariance));
    for (size_t r = 0; r < options.avoid.size(); r++)
        c.push_back(std::make_unique<RegionConstraint>(model, options.avoid[r], "region " + std::to_string(r + 1)));
    if (freeEnergy && std::isfinite(options.maxFreeEnergy))
        c.push_back(std::make_unique<FreeEnergyConstraint>(model, etaA, options.maxFreeEnergy));
    return c;
}

VectorXd valuesAt(const PosteriorModel& model, const Constraints& constraints, const VectorXd& eta) {
    VectorXd values(constraints.size());
    const Moments m = model.moments(eta, PosteriorModel::Order::Mean);
    for (size_t c = 0; c < constraints.size(); c++)
        values[c] = constraints[c]->value(eta, m.mu.col(0), m.psi[0]);
    return values;
}

void checkEndConstraints(const PosteriorModel& model, const Constraints& constraints, const VectorXd& eta, const std::string& what) {
    const VectorXd values = valuesAt(model, constraints, eta);
    for (size_t c = 0; c < constraints.size(); c++)
        if (!(constraints[c]->marginOf(values[c]) > 0)) {
            const std::string name = constraints[c]->name(), value = text(values[c]), bound = text(constraints[c]->bound());
            if (name == "tr Cov")
                throw std::invalid_argument("geodesic: " + what + " has tr Cov = " + value + ", above the bound of " + bound + ": raise its log-SNR or the bound");
            if (constraints[c]->isUpper())
                throw std::invalid_argument("geodesic: " + what + " has a " + name + " of " + value + " kT above the start, the bound is " + bound);
            throw std::invalid_argument("geodesic: " + what + " lies inside " + name + ": KL = " + value + " nats from its centre, " + bound + " are asked for");
        }
}

/**
 * A curve of narrow posteriors that meets the constraints, from which the solver can descend without leaping over anything: straight
 * in the polar chart, moved by `sideways` (a direction in that chart) in its middle and narrowed as far as needed. In the chart of the
 * task; the best that was found where nothing meets the constraints.
 */
MatrixXd narrowCurve(const Task& task, const CurveProblem& problem, const std::vector<int>& windings, const VectorXd& sideways, int N) {
    const Chart polar(task.model, task.options.minLogSnr, std::max(task.options.minLogSnr, std::log(task.options.minKappa)), true);
    MatrixXd straight = polar.fromEta(task.etaA).replicate(1, N + 1);
    const VectorXd way = polar.difference(task.etaA, task.etaB, windings);
    for (int k = 1; k <= N; k++)
        straight.col(k) += way * (static_cast<double>(k) / N);
    MatrixXd best;
    double bestMargin = -std::numeric_limits<double>::infinity();
    for (double top = 1; top <= 4096; top *= 2)
        for (double amplitude = sideways.norm() > 0 ? 0.125 : 0; amplitude <= 1; amplitude = amplitude > 0 ? amplitude * 1.5 : 2) {
            MatrixXd curve = straight;
            for (int k = 1; k < N; k++) {
                // Narrow within a tenth of the way, so that the first edges are not much longer than the rest.
                const double x = static_cast<double>(k) / N, ramp = std::min({1.0, 10 * x, 10 * (1 - x)});
                curve.col(k) = curve.col(k).cwiseMax(polar.lower()) + amplitude * std::pow(std::sin(M_PI * x), 2) * sideways +
                               ramp * std::log(top) * polar.precisions().cast<double>().matrix();
            }
            const MatrixXd zeta = task.chart.unwrapped(polar.toEta(curve), task.etaA, task.etaB);
            const double margin = evaluate(problem, zeta).margins.minCoeff();
            if (margin > 0.02)
                return zeta;
            if (margin > bestMargin) {
                bestMargin = margin;
                best = zeta;
            }
        }
    return best;
}

/// Directions past the regions: at right angles to the way in the polar chart, to one side and the other, then drawn at random.
std::vector<VectorXd> sides(const Task& task, const std::vector<int>& windings, int count) {
    const Chart polar(task.model, task.options.minLogSnr, std::max(task.options.minLogSnr, std::log(task.options.minKappa)), true);
    const Eigen::ArrayXd positions = 1 - polar.precisions().cast<double>();
    VectorXd way = (polar.difference(task.etaA, task.etaB, windings).array() * positions).matrix();
    const double size = std::max(way.norm(), 1.0);
    way.normalize();
    std::mt19937 random(task.options.seed);
    std::normal_distribution<double> normal;
    std::vector<VectorXd> directions;
    for (int k = 0; k < count; k++) {
        if (k % 2 == 1) {
            directions.push_back(-directions.back());
            continue;
        }
        VectorXd d(way.size());
        for (Eigen::Index j = 0; j < d.size(); j++)
            d[j] = positions[j] * normal(random);
        d -= d.dot(way) * way;
        directions.push_back(d.norm() > 1e-9 ? VectorXd(size * d.normalized()) : VectorXd(VectorXd::Zero(d.size())));  // in one dimension there is no side
    }
    return directions;
}

/// A curve on its way from a start to the answer.
struct Work {
    MatrixXd zeta;
    NewtonResult last;
    int iterations = 0;
    bool weighted = false, interrupted = false;
};

/// One level of segments: brings in the conformal weight and the constraints once edges are short.
void solveLevel(const Task& task, const Constraints& constraints, Work& work, bool finest, bool constrained) {
    const GeodesicOptions& options = task.options;
    const Eigen::Index N = work.zeta.cols() - 1;
    static const Constraints none;
    // A long edge sees psi* at its ends only and would leap a barrier between them. So the weight comes in on a level of
    // short edges, from a curve that is already good, and in steps.
    const double w = options.barrierWeight;
    std::vector<double> ramp = {work.weighted ? w : 0.0};
    if (w > 0 && !work.weighted && (finest || N >= LevelOfWeights)) {
        ramp = {0.0, 0.25 * w, 0.5 * w, w};
        work.weighted = true;
    }
    for (size_t k = 0; k < ramp.size() && !work.interrupted; k++) {
        const bool last = finest && k + 1 == ramp.size();
        CurveProblem problem{task.model, task.chart, constrained ? constraints : none, ramp[k], options.penaltyLogSnr, 0};
        problem.penaltyWeight = 2 * options.penaltyWeight / (static_cast<double>(N) * (N - 1));
        NewtonOptions o;
        o.tolerance = last ? options.tolerance : std::max(CoarseTolerance, options.tolerance);
        o.maxIterations = last ? options.maxIterations : std::min(options.maxIterations, constrained && !constraints.empty() ? MaxConstrainedIterations : MaxCoarseIterations);
        o.gapEnd = last ? FinalGap : CoarseGap;
        o.gapStart = k > 0 || finest ? CoarseGap : 0.1;
        o.keepGoing = [&task] { return !task.interrupted(-1); };
        work.last = minimise(problem, work.zeta, o);
        work.zeta = work.last.zeta;
        work.iterations += work.last.iterations;
        work.interrupted = work.last.interrupted;
    }
}

GeodesicResult finish(const Task& task, const Work& work, const std::vector<int>& windings) {
    const GeodesicOptions& options = task.options;
    static const Constraints none;
    const CurveProblem plain{task.model, task.chart, none, options.barrierWeight, 0, 0};
    GeodesicResult r;
    r.windings = windings;
    r.iterations = work.iterations;
    r.residual = work.last.residual;
    r.converged = work.last.converged && !work.interrupted;
    auto conformalLength = [&](const MatrixXd& nodes) {
        const CurveState s = evaluate(plain, nodes);
        return s.weights.cwiseProduct(s.squares).cwiseMax(0.0).cwiseSqrt().sum();
    };
    MatrixXd zeta = work.zeta;
    r.conformalLength = conformalLength(zeta);
    if ((options.barrierWeight > 0 || options.penaltyWeight > 0 || !task.polish.empty()) && r.conformalLength > 0) {
        zeta = respace({task.model, task.chart, none, 0, 0, 0}, zeta);
        // Where an edge leapt a barrier all the same, the respaced curve shows it.
        const double respaced = conformalLength(zeta);
        r.converged = r.converged && std::abs(respaced - r.conformalLength) <= LeapTolerance * r.conformalLength;
        r.conformalLength = respaced;
    }
    MatrixXd eta = task.chart.toEta(zeta);
    eta.col(0) = task.etaA;
    eta.col(eta.cols() - 1) = task.etaB;
    r.measure = measure(task.model, eta);
    r.maxFreeEnergy = r.measure.beta_F.maxCoeff();
    // s is arc length; an edge that the model gives no length still needs a positive step.
    VectorXd s = VectorXd::Zero(eta.cols());
    const double least = 1e-9 * std::max(r.measure.length, 1e-300);
    for (Eigen::Index i = 1; i < eta.cols(); i++)
        s[i] = s[i - 1] + std::max(r.measure.d[i - 1], least);
    s /= s[s.size() - 1];
    r.curve = Curve(task.model.variables(), s, eta);
    // At a weak tilt a curve may have slipped into another winding.
    if (task.chart.polar())
        r.windings = task.chart.turns(task.chart.unwrapped(eta, task.etaA, task.etaB));
    return r;
}

/// What the delivered curve is worth between its nodes: length by twice as many segments, values of the constraints.
void judge(const Task& task, GeodesicResult& r) {
    const Eigen::Index N = r.curve.numPoints() - 1;
    MatrixXd halved(r.curve.eta().rows(), 2 * N + 1);
    VectorXd eta;
    for (Eigen::Index i = 0; i <= 2 * N; i++) {
        const Eigen::Index node = std::min(i / 2, N - 1);
        r.curve.evaluate(r.curve.s()[node] + 0.5 * (i - 2 * node) * (r.curve.s()[node + 1] - r.curve.s()[node]), eta);
        halved.col(i) = eta;
    }
    const MatrixXd mu = task.model.moments(halved, PosteriorModel::Order::Mean).mu;
    for (Eigen::Index i = 0; i < 2 * N; i++)
        r.lengthDoubled += std::sqrt(std::max(0.0, (halved.col(i + 1) - halved.col(i)).dot(mu.col(i + 1) - mu.col(i))));
    r.constraints = constraintValues(task.model, r.curve, task.options);
    r.converged = r.converged && std::abs(r.lengthDoubled - r.measure.length) <= DiscretisationTolerance * r.measure.length;
    for (const ConstraintValue& c : r.constraints)
        r.converged = r.converged && c.violation <= ViolationTolerance;
    r.curve.energy = r.measure.energy;
    r.curve.length = r.measure.length;
    r.curve.lengthExtrapolated = r.measure.lengthExtrapolated;
    r.curve.speedGap = r.measure.speedGap;
    r.curve.residual = r.residual;
    const auto number = [](double x) { return std::isfinite(x) ? nlohmann::json(x) : nlohmann::json(nullptr); };
    r.curve.solution = nlohmann::json{{"converged", r.converged},
                                      {"newton_decrement", number(r.residual)},
                                      {"length_doubled", r.lengthDoubled},
                                      {"conformal_length", r.conformalLength},
                                      {"max_free_energy_kT", r.maxFreeEnergy},
                                      {"windings", r.windings},
                                      {"start", r.start},
                                      {"iterations", r.iterations},
                                      {"evaluations", r.evaluations},
                                      {"inconsistent_segments", r.measure.negativeEdges},
                                      {"min_n_eff", number(r.measure.minNEff)},
                                      {"constraints", toJson(r.constraints)}}
                           .dump();
}

/// Asks for a reserve where a bound or a constraint is violated between nodes and middles; false where none is. A large violation is no matter of
/// interpolation: an edge leapt over the constraint, and narrower posteriors would not bring it back.
bool keepReserve(Task& task, const GeodesicResult& r) {
    const Variables& vars = task.model.variables();
    bool any = false;
    for (const ConstraintValue& v : constraintValues(task.model, r.curve, task.options)) {
        if (!(v.violation > WantedViolation) || v.violation > LargestReserve)
            continue;
        for (int i = 0; i < vars.size(); i++)
            if (v.name == kappaName(vars[i])) {
                task.chart.raiseBound(vars.offset(i), 1.1 * v.violation);
                any = true;
            }
        for (const Constraints* set : {&task.constraints, &task.polish})
            for (const auto& c : *set)
                if (c->name() == v.name) {
                    c->reserve += 1.1 * std::abs(c->marginOf(v.extreme));
                    any = true;
                }
    }
    return any;
}

/// The solutions of one winding from all its starts, and the best margin of each constraint where no start met it.
struct WindingResult {
    std::vector<GeodesicResult> results;
    VectorXd missing;  // empty, or [constraints] the least that was missing
    bool interrupted = false;
};

/// `givenStart` [m x any] is a curve to start from, or empty.
WindingResult solveWinding(Task& task, const std::vector<int>& windings, const MatrixXd& givenStart) {
    const GeodesicOptions& options = task.options;
    const bool narrow = std::isfinite(options.maxVariance), avoiding = !options.avoid.empty();
    auto lap = std::chrono::steady_clock::now();
    long lapEvaluations = PosteriorModel::evaluationsOfThread();
    WindingResult out;
    Work base;
    size_t level = 0;
    const CurveProblem all{task.model, task.chart, task.constraints, 0, 0, 0};
    GeodesicOptions withoutRegions = options;
    withoutRegions.avoid.clear();
    const Constraints variance = pointConstraints(task.model, withoutRegions, task.etaA, false);
    const bool given = givenStart.size() > 0;
    if (given) {
        // Curves are kept at equal Fisher-Rao length; the solver wants its nodes at equal length in its own metric.
        static const Constraints none;
        base.zeta = respace({task.model, task.chart, none, options.barrierWeight, 0, 0},
                            refine(task.chart, task.chart.unwrapped(givenStart, task.etaA, task.etaB), task.levels.back()));
        level = task.levels.size() - 1;
    }
    else {
        if (narrow)  // a coarse edge would leap the narrow band of posteriors in one piece
            while (level + 1 < task.levels.size() && task.levels[level] < LevelOfWeights)
                level++;
        base.zeta = task.chart.start(task.etaA, task.etaB, windings, task.levels[level]);
        base.zeta = base.zeta.cwiseMax(task.chart.lower().replicate(1, base.zeta.cols()));
        if (narrow)
            base.zeta = narrowCurve(task, CurveProblem{task.model, task.chart, variance, 0, 0, 0}, windings, VectorXd::Zero(task.chart.size()), task.levels[level]);
    }
    // Starts part where the edges are short enough for constraints; until then they share the way.
    auto isFine = [&](size_t l) { return task.levels[l] >= LevelOfWeights || l + 1 == task.levels.size(); };
    while (!isFine(level) && !base.interrupted) {
        solveLevel(task, task.constraints, base, false, false);
        base.zeta = refine(task.chart, base.zeta, task.levels[++level]);
    }
    std::vector<MatrixXd> starts = {base.zeta};
    if (!given && !base.interrupted) {
        int count = options.numStarts > 0 ? options.numStarts : 1;
        if (avoiding) {
            // The curve that knows nothing of the regions comes first: it may be clear of them already.
            solveLevel(task, variance, base, false, true);
            starts = {base.zeta};
            if (options.numStarts == 0 && evaluate(all, base.zeta).margins.minCoeff() <= 0)
                count = DefaultStarts;
        }
        const int N = task.levels[level];
        for (const VectorXd& side : sides(task, windings, count - 1))
            starts.push_back(narrowCurve(task, all, windings, side, N));
    }
    for (size_t k = 0; k < starts.size() && !out.interrupted; k++) {
        Work work = base;
        work.zeta = starts[k];
        work.weighted = given;
        for (size_t l = level; l < task.levels.size() && !work.interrupted; l++) {
            if (l > level)
                work.zeta = refine(task.chart, work.zeta, task.levels[l]);
            const bool finest = l + 1 == task.levels.size();
            solveLevel(task, task.constraints, work, finest, true);
            if (finest && task.polish.size() > task.constraints.size() && !work.interrupted)
                solveLevel(task, task.polish, work, true, true);
            work.interrupted = work.interrupted || task.interrupted((k + (l + 1.0) / task.levels.size()) / starts.size());
            if (work.last.relaxed.size() > 0 && work.last.relaxed.maxCoeff() > 0)
                break;
        }
        out.interrupted = work.interrupted;
        if (work.last.relaxed.size() > 0 && work.last.relaxed.maxCoeff() > 0 && !work.interrupted) {
            VectorXd missing = VectorXd::Zero(task.polish.size());
            missing.head(work.last.relaxed.size()) = work.last.relaxed;
            if (out.missing.size() == 0 || missing.sum() < out.missing.sum())
                out.missing = missing;
            continue;
        }
        GeodesicResult r = finish(task, work, windings);
        const Chart plainChart = task.chart;
        // What lies beyond a bound between the places that were asked: kept away from it by as much, and solved again from here.
        for (int round = 0; round < MaxReserveRounds && !work.interrupted && keepReserve(task, r); round++) {
            const Eigen::Index inner = work.zeta.cols() - 2;
            work.zeta.middleCols(1, inner) = work.zeta.middleCols(1, inner).cwiseMax(task.chart.lower().replicate(1, inner));
            solveLevel(task, task.polish, work, true, true);
            GeodesicResult again = finish(task, work, windings);
            again.converged = again.converged && r.converged;
            r = std::move(again);
        }
        task.chart = plainChart;
        for (const Constraints* set : {&task.constraints, &task.polish})
            for (const auto& c : *set)
                c->reserve = 0;
        r.start = static_cast<int>(k);
        // The first start pays for the way that all of them share.
        const auto now = std::chrono::steady_clock::now();
        r.seconds = std::chrono::duration<double>(now - lap).count();
        r.evaluations = PosteriorModel::evaluationsOfThread() - lapEvaluations;
        lap = now;
        lapEvaluations = PosteriorModel::evaluationsOfThread();
        judge(task, r);
        out.results.push_back(std::move(r));
    }
    return out;
}

void checkOptions(const PosteriorModel& model, const GeodesicOptions& o) {
    const double infinity = std::numeric_limits<double>::infinity();
    if (o.numPoints < 5)
        throw std::invalid_argument("geodesic: expected at least 5 points, got " + std::to_string(o.numPoints));
    if (!(o.minKappa >= 0) || !std::isfinite(o.minKappa) || std::isnan(o.minLogSnr) || o.minLogSnr == infinity)
        throw std::invalid_argument("geodesic: expected finite bounds, got min-kappa " + text(o.minKappa) + " and min-log-snr " + text(o.minLogSnr));
    if (!(o.tolerance > 0))
        throw std::invalid_argument("geodesic: expected a positive tolerance, got " + text(o.tolerance));
    if (!(o.barrierWeight >= 0) || !std::isfinite(o.barrierWeight))
        throw std::invalid_argument("geodesic: expected a barrier weight of 0 or more, got " + text(o.barrierWeight));
    if (!(o.maxVariance > 0))
        throw std::invalid_argument("geodesic: expected a positive bound on tr Cov, got " + text(o.maxVariance));
    if (!(o.maxFreeEnergy > 0))
        throw std::invalid_argument("geodesic: expected a positive bound on the free energy, got " + text(o.maxFreeEnergy));
    if (!(o.penaltyWeight >= 0) || !std::isfinite(o.penaltyWeight) || !std::isfinite(o.penaltyLogSnr))
        throw std::invalid_argument("geodesic: expected a penalty of finite log-SNR and weight 0 or more, got " + text(o.penaltyLogSnr) + " and " + text(o.penaltyWeight));
    if (o.numStarts < 0)
        throw std::invalid_argument("geodesic: expected a number of starts, got " + std::to_string(o.numStarts));
    const bool needsPsi = o.barrierWeight > 0 || !o.avoid.empty() || std::isfinite(o.maxFreeEnergy);
    if (needsPsi && !model.hasPsi())
        throw std::invalid_argument("geodesic: barrier weights, regions and bounds on the free energy need a model that knows its log-partition psi: samples, a mixture, or "
                                    "an own network");
    if (o.start.size() > 0 && (o.start.rows() != model.numStatistics() || o.start.cols() < 2 || !o.start.allFinite()))
        throw std::invalid_argument("geodesic: expected a start of at least 2 points with " + std::to_string(model.numStatistics()) + " finite components, got " +
                                    std::to_string(o.start.cols()) + " with " + std::to_string(o.start.rows()));
}

int threadCount(int asked, size_t jobs) {
    const int cores = asked > 0 ? asked : std::max(1u, std::thread::hardware_concurrency());
    return std::max(1, std::min(cores, static_cast<int>(jobs)));
}

/// job(0) ... job(count - 1) on so many threads; the first exception is thrown on.
void inParallel(int threads, size_t count, const std::function<void(size_t)>& job) {
    std::atomic<size_t> next{0};
    std::exception_ptr failure;
    std::mutex lock;
    auto run = [&] {
        for (size_t k = next++; k < count; k = next++)
            try {
                job(k);
            }
            catch (...) {
                const std::lock_guard<std::mutex> guard(lock);
                if (!failure)
                    failure = std::current_exception();
                next = count;
            }
    };
    std::vector<std::thread> others;
    for (int t = 1; t < threads; t++)
        others.emplace_back(run);
    run();
    for (std::thread& t : others)
        t.join();
    if (failure)
        std::rethrow_exception(failure);
}

/// Solutions on a cheaper model, to start from on the model itself; none where it does not yield any.
std::vector<GeodesicResult> onSurrogate(const PosteriorModel& surrogate, const VectorXd& etaA, const VectorXd& etaB, GeodesicOptions options) {
    options.tolerance = std::max(options.tolerance, CoarseTolerance);
    // With something to spare, so that the solution meets the constraints on the model itself.
    options.maxVariance *= 1 - SurrogateReserve;
    for (Region& region : options.avoid)
        region.nats *= 1 + SurrogateReserve;
    if (options.progress)
        options.progress = [inner = options.progress](double) { return inner(-1); };
    try {
        return geodesic(surrogate, etaA, etaB, options);
    }
    catch (const std::invalid_argument&) {
        return {};  // what is wrong will be said of the model itself
    }
}

}  // namespace

std::vector<GeodesicResult> geodesic(const PosteriorModel& model, const VectorXd& etaA, const VectorXd& etaB, const GeodesicOptions& options) {
    checkOptions(model, options);
    const double minLogKappa = std::max(options.minLogSnr, std::log(options.minKappa));
    checkEnd(model, etaA, "the start point", options.minLogSnr, minLogKappa);
    checkEnd(model, etaB, "the end point", options.minLogSnr, minLogKappa);
    if ((etaA - etaB).norm() <= 1e-12 * (1 + etaA.norm()))
        throw std::invalid_argument("geodesic: the two end points are the same point of spacetime");
    const Variables& vars = model.variables();
    // A bound on the variance keeps every kappa away from 0, so that windings can be told apart.
    Task task{model, options, etaA, etaB, Chart(model, options.minLogSnr, minLogKappa, std::isfinite(options.maxVariance)), {}, {}, {}, {}};
    task.constraints = pointConstraints(model, options, etaA, false);
    task.polish = pointConstraints(model, options, etaA, true);
    checkEndConstraints(model, task.polish, etaA, "the start point");
    checkEndConstraints(model, task.polish, etaB, "the end point");
    task.levels = {options.numPoints - 1};
    while (task.levels.back() >= 32)
        task.levels.push_back((task.levels.back() + 3) / 4);
    std::reverse(task.levels.begin(), task.levels.end());

    // What is to be solved: windings from starts of the solver's own, or curves that are given.
    std::vector<std::vector<int>> choices;
    std::vector<MatrixXd> starts;
    if (options.start.size() > 0) {
        choices = {task.chart.turns(task.chart.unwrapped(options.start, etaA, etaB))};
        starts = {options.start};
    }
    else {
        if (const PosteriorModel* surrogate = model.surrogate())
            for (const GeodesicResult& r : onSurrogate(*surrogate, etaA, etaB, options)) {
                choices.push_back(r.windings);
                starts.push_back(r.curve.eta());
            }
        if (choices.empty()) {
            choices = windingChoices(vars, vars.center(etaA), vars.center(etaB), task.chart.polar());
            starts.resize(choices.size());
        }
    }
    std::vector<WindingResult> windings(choices.size());
    std::mutex lock;
    std::atomic<bool> stop{false};
    std::vector<double> done(choices.size(), 0.0);
    inParallel(threadCount(options.threads, choices.size()), choices.size(), [&](size_t c) {
        if (stop)
            return;
        // Constraints hold what is asked of one solution: every thread has its own.
        Task mine{model, options, etaA, etaB, task.chart, pointConstraints(model, options, etaA, false), pointConstraints(model, options, etaA, true), task.levels, {}};
        mine.progress = [&, c](double fraction) {
            if (stop || !options.progress)
                return !stop;
            const std::lock_guard<std::mutex> guard(lock);
            if (fraction >= 0)
                done[c] = fraction;
            double total = 0;
            for (double d : done)
                total += d / static_cast<double>(done.size());
            if (!options.progress(fraction < 0 ? -1 : total))
                stop = true;
            return !stop;
        };
        windings[c] = solveWinding(mine, choices[c], starts[c]);
        const auto converged = [](const GeodesicResult& r) { return r.converged; };
        const bool surrogateMisled = options.start.size() == 0 && starts[c].size() > 0 && !stop &&
                                     std::none_of(windings[c].results.begin(), windings[c].results.end(), converged);
        if (surrogateMisled) {
            WindingResult own = solveWinding(mine, choices[c], MatrixXd());
            if (!own.results.empty())
                windings[c] = std::move(own);
        }
    });

    std::vector<GeodesicResult> results;
    VectorXd missing;
    for (WindingResult& w : windings) {
        for (GeodesicResult& r : w.results)
            results.push_back(std::move(r));
        if (w.missing.size() > 0 && (missing.size() == 0 || w.missing.sum() < missing.sum()))
            missing = w.missing;
    }
    if (results.empty()) {
        Eigen::Index c = 0;
        missing.maxCoeff(&c);
        const PointConstraint& failed = *task.polish[c];
        // The value whose margin is what was still missing.
        const double reached = failed.isUpper() ? failed.bound() * (1 + missing[c]) : failed.bound() * std::pow(std::max(0.0, 1 - missing[c]), 2);
        throw std::invalid_argument("geodesic: no curve was found that keeps " + failed.name() + (failed.isUpper() ? " below " : " at a KL above ") + text(failed.bound()) +
                                    "; the one that comes closest reaches " + text(reached) + ": loosen the bound, or give more starts");
    }
    // Starts that met again, and windings that slipped into one another, are one answer; what did not converge gives way to what did.
    std::stable_sort(results.begin(), results.end(), [](const GeodesicResult& a, const GeodesicResult& b) {
        return a.converged != b.converged ? a.converged : a.conformalLength < b.conformalLength;
    });
    std::vector<GeodesicResult> distinct;
    for (GeodesicResult& r : results) {
        const bool known = std::any_of(distinct.begin(), distinct.end(), [&](const GeodesicResult& other) {
            if (other.windings != r.windings)
                return false;
            return !r.converged || (std::abs(other.conformalLength - r.conformalLength) <= 1e-4 * r.conformalLength && std::abs(other.maxFreeEnergy - r.maxFreeEnergy) <= 1e-2);
        });
        if (!known)
            distinct.push_back(std::move(r));
    }
    results = std::move(distinct);
    const bool lowest = options.route == GeodesicOptions::Route::Lowest;
    std::stable_sort(results.begin(), results.end(), [lowest](const GeodesicResult& a, const GeodesicResult& b) {
        return lowest ? a.maxFreeEnergy < b.maxFreeEnergy : a.conformalLength < b.conformalLength;
    });
    return results;
}

std::vector<BatchResult> geodesicBatch(const PosteriorModel& model, const MatrixXd& etaA, const MatrixXd& etaB, const GeodesicOptions& options) {
    if (etaA.rows() != etaB.rows() || etaA.cols() != etaB.cols())
        throw std::invalid_argument("geodesicBatch: expected as many end points as start points, got " + std::to_string(etaB.cols()) + " and " + std::to_string(etaA.cols()));
    checkOptions(model, options);
    std::vector<BatchResult> batch(etaA.cols());
    std::mutex lock;
    std::atomic<bool> stop{false};
    size_t finished = 0;
    inParallel(threadCount(options.threads, batch.size()), batch.size(), [&](size_t k) {
        if (stop) {
            batch[k].error = "interrupted";
            return;
        }
        GeodesicOptions o = options;
        o.threads = 1;
        o.progress = [&stop](double) { return !stop; };
        try {
            batch[k].results = geodesic(model, etaA.col(k), etaB.col(k), o);
        }
        catch (const std::invalid_argument& e) {
            batch[k].error = e.what();
        }
        const std::lock_guard<std::mutex> guard(lock);
        finished++;
        if (options.progress && !options.progress(static_cast<double>(finished) / batch.size()))
            stop = true;
    });
    return batch;
}

nlohmann::json toJson(const std::vector<ConstraintValue>& constraints) {
    nlohmann::json list = nlohmann::json::array();
    for (const ConstraintValue& c : constraints)
        list.push_back({{"name", c.name}, {c.isUpper ? "at_most" : "at_least", c.bound}, {"extreme", c.extreme}, {"s", c.s}, {"violation", c.violation}});
    return list;
}

std::vector<ConstraintValue> constraintValues(const PosteriorModel& model, const Curve& curve, const GeodesicOptions& options) {
    const Variables& vars = model.variables();
    const Eigen::Index N = curve.numPoints() - 1;
    MatrixXd eta(vars.numStatistics(), PlacesPerSegment * N + 1);
    VectorXd s(eta.cols()), point;
    for (Eigen::Index k = 0; k < eta.cols(); k++) {
        const Eigen::Index i = std::min(k / PlacesPerSegment, N - 1);
        s[k] = curve.s()[i] + (static_cast<double>(k) / PlacesPerSegment - i) * (curve.s()[i + 1] - curve.s()[i]);
        curve.evaluate(s[k], point);
        eta.col(k) = point;
    }
    std::vector<ConstraintValue> out;
    auto add = [&](const std::string& name, double bound, bool isUpper, const VectorXd& values) {
        ConstraintValue v{name, bound, isUpper, 0, 0, 0};
        Eigen::Index k;
        v.extreme = isUpper ? values.maxCoeff(&k) : values.minCoeff(&k);
        v.s = s[k];
        v.violation = std::max(0.0, (isUpper ? v.extreme - bound : bound - v.extreme) / std::max(std::abs(bound), 1e-300));
        out.push_back(v);
    };
    if (vars.hasQuadratic() && std::isfinite(options.minLogSnr)) {
        // Judged by e^l, which a log-SNR of 0 does not make relative to nothing.
        const VectorXd precision = -2 * eta.row(0).transpose();
        add("e^log-SNR", std::exp(options.minLogSnr), false, precision);
    }
    const double minKappa = std::max(options.minKappa, std::exp(options.minLogSnr));
    for (int i = 0; i < vars.size(); i++)
        if (vars[i].lifted() && minKappa > 0)
            add(kappaName(vars[i]), minKappa, false, eta.middleRows(vars.offset(i), 2).colwise().norm().transpose());
    const Constraints constraints = pointConstraints(model, options, curve.eta().col(0), true);
    if (!constraints.empty()) {
        const Moments m = model.moments(eta, PosteriorModel::Order::Mean);
        for (const auto& c : constraints) {
            VectorXd values(eta.cols());
            for (Eigen::Index k = 0; k < eta.cols(); k++)
                values[k] = c->value(eta.col(k), m.mu.col(k), m.psi[k]);
            add(c->name(), c->bound(), c->isUpper(), values);
        }
    }
    return out;
}

}  // namespace Spacetime
