// SPDX-License-Identifier: MIT
#include "Winding.h"
#include "Newton.h"
#include <algorithm>
#include <chrono>
#include <cmath>
#include <nlohmann/json.hpp>

using Eigen::MatrixXd;
using Eigen::VectorXd;

namespace Spacetime {

namespace {

/// A coarse level only prepares the next one; the first one with constraints has the way round them to find.
const int MaxCoarseIterations = 50, MaxConstrainedIterations = 150;
const double CoarseGap = 1e-2, FinalGap = 1e-4;
/// Segments from which on a curve is fine enough to bring in the conformal weight and the constraints.
const int LevelOfWeights = 32;
/// Relative difference between a conformal length before and after respacing that discretisation explains.
const double LeapTolerance = 0.02;
/// Relative change of the length by twice as many segments, and relative violation of a constraint, that a converged curve may have.
const double DiscretisationTolerance = 1e-2, ViolationTolerance = 1e-2;
/// Violation between the nodes from which on a curve is solved again with a reserve, and how often.
const double WantedViolation = 5e-3, LargestReserve = 0.1;
const int MaxReserveRounds = 2;
/// Starts of a winding whose way is barred by a region.
const int DefaultStarts = 5;

const Constraints NoConstraints;

/// A curve on its way from a start to the answer.
struct Work {
    MatrixXd zeta;
    NewtonResult last;
    int iterations = 0;
    bool weighted = false, interrupted = false;
    bool smoothBarrier = false;
};

/// One level of segments: brings in the conformal weight and the constraints once edges are short.
void solveLevel(const Task& task, const Constraints& constraints, Work& work, bool finest) {
    const GeodesicOptions& options = task.options;
    const Eigen::Index N = work.zeta.cols() - 1;
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
        CurveProblem problem{task.model, task.chart, constraints, ramp[k], options.penaltyLogSnr};
        problem.penaltyWeight = 2 * options.penaltyWeight / (static_cast<double>(N) * (N - 1));
        NewtonOptions o;
        o.tolerance = last ? options.tolerance : std::max(CoarseTolerance, options.tolerance);
        o.maxIterations = last ? options.maxIterations : std::min(options.maxIterations, !constraints.empty() ? MaxConstrainedIterations : MaxCoarseIterations);
        o.gapEnd = last ? FinalGap : CoarseGap;
        o.gapStart = k > 0 || finest ? CoarseGap : 0.1;
        o.smoothBarrier = work.smoothBarrier;
        o.keepGoing = [&task] { return !task.interrupted(-1); };
        work.last = minimise(problem, work.zeta, o);
        work.zeta = work.last.zeta;
        work.iterations += work.last.iterations;
        work.interrupted = work.last.interrupted;
    }
}

GeodesicResult finish(const Task& task, const Work& work, const std::vector<int>& windings) {
    const GeodesicOptions& options = task.options;
    const CurveProblem plain{task.model, task.chart, NoConstraints, options.barrierWeight};
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
        zeta = respace({task.model, task.chart, NoConstraints}, zeta);
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
    r.constraints = constraintValues(task.model, r.curve, options);
    // At a weak tilt a curve may have slipped into another winding.
    if (task.chart.polar())
        r.windings = task.chart.turns(task.chart.unwrapped(eta, task.etaA, task.etaB));
    return r;
}

/// What the delivered curve is worth between its nodes: length by twice as many segments, and whether it counts as converged.
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
    r.converged = r.converged && std::abs(r.lengthDoubled - r.measure.length) <= DiscretisationTolerance * r.measure.length;
    for (const ConstraintValue& c : r.constraints)
        r.converged = r.converged && c.violation <= ViolationTolerance;
}

/// What the file of the curve says of its solution.
void describe(GeodesicResult& r) {
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
    for (const ConstraintValue& v : r.constraints) {
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

/// All levels from `level` on, as far as the constraints can be met; `interrupted` takes the share that is done.
void solveLevels(const Task& task, Work& work, size_t level, const std::function<bool(double)>& interrupted) {
    for (size_t l = level; l < task.levels.size() && !work.interrupted && !work.last.unmet(); l++) {
        if (l > level)
            work.zeta = refine(task.chart, work.zeta, task.levels[l]);
        const bool finest = l + 1 == task.levels.size();
        solveLevel(task, task.constraints, work, finest);
        if (finest && task.polish.size() > task.constraints.size() && !work.interrupted)
            solveLevel(task, task.polish, work, true);
        work.interrupted = work.interrupted || interrupted((l + 1.0) / task.levels.size());
    }
}

/// The result of a solved curve. What lies beyond a bound between the places that were asked is kept away from it by as much, and the curve
/// solved again from where it is.
GeodesicResult finishWithReserve(Task& task, Work& work, const std::vector<int>& windings) {
    GeodesicResult r = finish(task, work, windings);
    const Chart plainChart = task.chart;
    for (int round = 0; round < MaxReserveRounds && !work.interrupted && keepReserve(task, r); round++) {
        const Eigen::Index inner = work.zeta.cols() - 2;
        work.zeta.middleCols(1, inner) = work.zeta.middleCols(1, inner).cwiseMax(task.chart.lower().replicate(1, inner));
        solveLevel(task, task.polish, work, true);
        r = finish(task, work, windings);
    }
    task.chart = plainChart;
    for (const Constraints* set : {&task.constraints, &task.polish})
        for (const auto& c : *set)
            c->reserve = 0;
    judge(task, r);
    return r;
}

/// Of two curves of one start: the one that converged, else the one that violates less, else the shorter one.
bool isBetter(const GeodesicResult& a, const GeodesicResult& b) {
    const auto violation = [](const GeodesicResult& r) {
        double worst = 0;
        for (const ConstraintValue& c : r.constraints)
            worst = std::max(worst, c.violation);
        return worst > ViolationTolerance ? worst : 0.0;
    };
    const double va = violation(a), vb = violation(b);
    return a.converged != b.converged ? a.converged : va != vb ? va < vb : a.conformalLength < b.conformalLength;
}

}  // namespace

WindingResult solveWinding(Task& task, const std::vector<int>& windings, const MatrixXd& givenStart) {
    const GeodesicOptions& options = task.options;
    const bool narrow = std::isfinite(options.maxVariance), avoiding = !options.avoid.empty();
    auto lap = std::chrono::steady_clock::now();
    long lapEvaluations = PosteriorModel::evaluationsOfThread();
    WindingResult out;
    Work base;
    size_t level = 0;
    const CurveProblem all{task.model, task.chart, task.constraints};
    GeodesicOptions withoutRegions = options;
    withoutRegions.avoid.clear();
    const Constraints variance = pointConstraints(task.model, withoutRegions, task.etaA, false);
    const bool given = givenStart.size() > 0;
    if (given) {
        // Curves are kept at equal Fisher-Rao length; the solver wants its nodes at equal length in its own metric.
        base.zeta =
            respace({task.model, task.chart, NoConstraints, options.barrierWeight}, refine(task.chart, task.chart.unwrapped(givenStart, task.etaA, task.etaB), task.levels.back()));
        level = task.levels.size() - 1;
    }
    else {
        if (narrow)  // a coarse edge would leap the narrow band of posteriors in one piece
            while (level + 1 < task.levels.size() && task.levels[level] < LevelOfWeights)
                level++;
        base.zeta = task.chart.start(task.etaA, task.etaB, windings, task.levels[level]);
        base.zeta = base.zeta.cwiseMax(task.chart.lower().replicate(1, base.zeta.cols()));
        if (narrow)
            base.zeta = narrowCurve(task, {task.model, task.chart, variance}, windings, VectorXd::Zero(task.chart.size()), task.levels[level]);
    }
    // Starts part where the edges are short enough for constraints; until then they share the way.
    auto isFine = [&](size_t l) { return task.levels[l] >= LevelOfWeights || l + 1 == task.levels.size(); };
    while (!isFine(level) && !base.interrupted) {
        solveLevel(task, NoConstraints, base, false);
        base.zeta = refine(task.chart, base.zeta, task.levels[++level]);
    }
    std::vector<MatrixXd> starts = {base.zeta};
    if (!given && !base.interrupted) {
        int count = options.numStarts > 0 ? options.numStarts : 1;
        if (avoiding) {
            // The curve that knows nothing of the regions comes first: it may be clear of them already.
            solveLevel(task, variance, base, false);
            starts = {base.zeta};
            if (options.numStarts == 0 && evaluate(all, base.zeta).margins.minCoeff() <= 0)
                count = DefaultStarts;
        }
        const int N = task.levels[level];
        for (const VectorXd& side : sides(task, windings, count - 1))
            starts.push_back(narrowCurve(task, all, windings, side, N));
    }
    const auto progress = [&](size_t k, double share) { return task.interrupted((k + share) / starts.size()); };
    bool interrupted = false;
    for (size_t k = 0; k < starts.size() && !interrupted; k++) {
        Work work = base;
        work.zeta = starts[k];
        work.weighted = given;
        work.last = {};  // of the way that all of them share
        const Work untouched = work;
        solveLevels(task, work, level, [&](double share) { return progress(k, share); });
        interrupted = work.interrupted;
        if (work.last.unmet() && !work.interrupted) {
            VectorXd missing = VectorXd::Zero(task.polish.size());
            missing.head(work.last.relaxed.size()) = work.last.relaxed;
            if (out.missing.size() == 0 || missing.sum() < out.missing.sum())
                out.missing = missing;
            continue;
        }
        GeodesicResult r = finishWithReserve(task, work, windings);
        if (!r.converged && !interrupted && !task.polish.empty() && task.model.isExact()) {
            // Where the interior point stalled: the same way once more with the barrier that does not. A denoiser, whose artefacts keep
            // curves from converging whatever the barrier, would pay for it in vain.
            Work again = untouched;
            again.smoothBarrier = true;
            again.iterations = work.iterations;
            solveLevels(task, again, level, [&](double) { return progress(k, 1); });
            interrupted = again.interrupted;
            GeodesicResult other = finishWithReserve(task, again, windings);
            if (isBetter(other, r))
                r = std::move(other);
            r.iterations = again.iterations;
        }
        r.start = static_cast<int>(k);
        // The first start pays for the way that all of them share.
        const auto now = std::chrono::steady_clock::now();
        r.seconds = std::chrono::duration<double>(now - lap).count();
        r.evaluations = PosteriorModel::evaluationsOfThread() - lapEvaluations;
        lap = now;
        lapEvaluations = PosteriorModel::evaluationsOfThread();
        describe(r);
        out.results.push_back(std::move(r));
    }
    return out;
}

}  // namespace Spacetime
