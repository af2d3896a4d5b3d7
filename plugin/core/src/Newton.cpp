// SPDX-License-Identifier: MIT
#include "Newton.h"
#include <algorithm>
#include <cmath>

using Eigen::MatrixXd;
using Eigen::VectorXd;

namespace Spacetime {

namespace {

/// Damping below which a step counts as Newton's own, whose decrement says how far the minimum is.
const double LambdaNegligible = 1e-2;
/// Share of its present slack that a relaxed constraint is tightened by in one step.
const double Tightening = 0.7;
/// A curve with a relaxed constraint is at rest when the decrement falls below this share of the barrier's size.
const double SettledShare = 0.2;
/// Share of the way to a bound that one step may go.
const double FractionToBound = 0.95;
/// Largest barrier that pushes a curve to where it holds its constraints.
const double LargestGap = 1;
/// Damped steps whose decrease comes as predicted are lengthened so many times by two.
const int MaxDoublings = 5;
/// Tolerance of the decrement beside a barrier, as a share of the barrier's own part in the energy: a smaller one means nothing.
const double ShareOfGap = 0.05;
/// A curve whose energy grew by this factor while it was pushed is folded: the start is given up.
const double FoldedFactor = 40;
/// Steps without a smaller objective after which a denoiser, whose artefacts may come and go, is left where it is.
const int PatienceWithArtefacts = 15;
/// Times that a step is halved until it leaves every slack positive.
const int MaxHalvings = 4;
/// Stiffness of the smooth barrier of one place, in units of the energy over the number of places.
const double Stiffness = 1e3;
/// Size of the smooth barrier until the curve has settled on it once.
const double FirstSmoothGap = 1e-2;
/// Violation of a margin that the smooth barrier may leave.
const double SmoothViolation = 5e-4;
/// Decrement, as a share of the smooth barrier's size, at which the curve has settled on it, and how much stiffer the barrier becomes then
/// where margins are still violated. Estimates that are taken from a curve on its way chase it.
const double SmoothSettledShare = 0.05, Stiffening = 3;
/// Steps after which a relaxed constraint that yields no more is given up.
const int PatienceOfTightening = 60;

/**
 * Slacks and multipliers of the constraints of a curve: slack = margin + relaxed > 0, multiplier slack = tau.
 *
 * Slacks stay positive at every node and every middle from the first step to the last, so that no step leaps over what is forbidden.
 */
class InteriorPoint {
public:
    InteriorPoint(const CurveState& start, const NewtonOptions& options)
        : count(start.margins.rows()), places(start.margins.cols()), gap(options.gapStart), gapStart(options.gapStart), gapEnd(options.gapEnd), relaxed(VectorXd::Zero(count)),
          scale(std::abs(start.sum)) {
        for (Eigen::Index c = 0; c < count; c++) {
            const double worst = start.margins.row(c).minCoeff();
            if (worst <= 0)
                relaxed[c] = -worst + 0.1 * (0.1 - worst);
        }
        setTau(start);
        multipliers = tau * slacks(start).cwiseInverse();
    }

    bool active() const { return count > 0; }
    /// What the damping is divided by after a step that came as predicted.
    static double relief() { return 5; }
    /// True where the barrier is as small as it is to become.
    bool fine(const CurveState&) const { return count == 0 || (tight() && gap <= gapEnd); }
    bool tight() const { return count == 0 || relaxed.maxCoeff() <= 0; }
    const VectorXd& missing() const { return relaxed; }

    BarrierTerms terms(const CurveState& s) const {
        const MatrixXd inverse = slacks(s).cwiseInverse();
        return {multipliers, tau * inverse, multipliers.cwiseProduct(inverse)};
    }

    /// Objective with the barrier; infinite where a slack is not positive.
    double merit(const CurveState& s) const {
        if (count == 0)
            return s.objective();
        const MatrixXd slack = slacks(s);
        if (!(slack.minCoeff() > 0))
            return std::numeric_limits<double>::infinity();
        return s.objective() - tau * slack.array().log().sum();
    }

    /// Largest part of a step that keeps the linearised slacks positive. Keeps the slacks' change for accept().
    double largestPart(const CurveState& s, const MatrixXd& step) {
        change = MatrixXd::Zero(count, places);
        const Eigen::Index inner = step.cols();
        for (Eigen::Index c = 0; c < count; c++)
            for (Eigen::Index place = 1; place + 1 < places; place++) {
                const Eigen::Index left = place / 2 - 1, right = place % 2 ? left + 1 : left;  // inner nodes that move this place
                for (Eigen::Index node : {left, right})
                    if (node >= 0 && node < inner)
                        change(c, place) += 0.5 * s.marginGradients[c].col(place).dot(step.col(node));
            }
        return toBound(slacks(s), change);
    }

    /// Newton's step of multiplier slack = tau that belongs to the part of the step that was taken.
    void accept(const CurveState& before, double part) {
        const MatrixXd slack = slacks(before);
        const MatrixXd step = tau * slack.cwiseInverse() - multipliers - part * multipliers.cwiseProduct(change).cwiseQuotient(slack);
        multipliers += toBound(multipliers, step) * step;
    }

    /// After an accepted step: tighten what is relaxed, else make the barrier smaller once the curve has settled on its present size.
    void advance(const CurveState& s, double decrement, double lambda) {
        if (count == 0)
            return;
        const bool newtonStep = lambda <= LambdaNegligible;
        if (!tight()) {
            // From one curve at rest to the next: pushed faster, nodes dodge to either side and the curve folds.
            if (decrement <= SettledShare * gap) {
                const double before = relaxed.sum();
                for (Eigen::Index c = 0; c < count; c++)
                    if (relaxed[c] > 0) {
                        const double least = (s.margins.row(c).array() + relaxed[c]).minCoeff();
                        // All the way where the curve already holds the constraint with room to spare.
                        relaxed[c] = least > 1.5 * relaxed[c] ? 0 : std::max(0.0, relaxed[c] - Tightening * least);
                    }
                if (tight())
                    gap = std::min(gap, gapStart);
                else if (relaxed.sum() > 0.9 * before)
                    gap = std::min(2 * gap, LargestGap);
            }
        }
        else if (newtonStep && decrement <= gap && gap > gapEnd)
            gap = std::max(gapEnd, 0.15 * gap);
        setTau(s);
        // Far from the barrier's own multipliers Newton's method does not see a bound that is near.
        const MatrixXd own = tau * slacks(s).cwiseInverse();
        multipliers = multipliers.cwiseMax(0.3 * own).cwiseMin(10 * own);
    }

private:
    void setTau(const CurveState& s) {
        // A curve that is still pushed must not push the harder for being long.
        scale = tight() ? std::abs(s.sum) : std::min(scale, std::abs(s.sum));
        tau = count > 0 ? gap * scale / (count * places) : 0;
    }
    MatrixXd slacks(const CurveState& s) const { return s.margins.colwise() + relaxed; }
    static double toBound(const MatrixXd& x, const MatrixXd& step) {
        double part = 1;
        for (Eigen::Index k = 0; k < step.size(); k++)
            if (step(k) < 0)
                part = std::min(part, -FractionToBound * x(k) / step(k));
        return part;
    }

    Eigen::Index count, places;
    double gap, gapStart, gapEnd, tau = 0;
    VectorXd relaxed;
    double scale;
    MatrixXd multipliers, change;
};

/**
 * The barrier for where the interior point stalls: smooth on both sides of a bound.
 *
 * A margin costs min over s > 0 of -tau log s + estimate (s - margin) + rho/2 (s - margin)^2, s a slack of its own. Its stiffness never
 * exceeds rho, while a barrier of the margin itself is a wall: along a curved bound steps become ever shorter where a slack is small
 * before its time. Slack and margin meet as the estimates of the multipliers come true.
 */
class SmoothBarrier {
public:
    SmoothBarrier(const CurveState& start, const NewtonOptions& options)
        : count(start.margins.rows()), places(start.margins.cols()), gap(std::max(options.gapEnd, FirstSmoothGap)), gapEnd(options.gapEnd),
          estimates(MatrixXd::Zero(count, places)) {
        setTau(start);
    }

    bool active() const { return true; }
    static double relief() { return 10; }
    bool fine(const CurveState& s) const { return gap <= gapEnd && s.margins.minCoeff() >= -SmoothViolation; }
    bool tight() const { return true; }
    VectorXd missing() const { return VectorXd::Zero(count); }

    BarrierTerms terms(const CurveState& s) const {
        const Eigen::ArrayXXd slack = slacks(s).array(), own = tau / slack.square();
        const MatrixXd force = (tau / slack).matrix();
        return {force, force, (rho * own / (rho + own)).matrix()};
    }
    double merit(const CurveState& s) const {
        if (!(s.sum >= 0))  // so far out that the numbers cancel
            return std::numeric_limits<double>::infinity();
        const Eigen::ArrayXXd slack = slacks(s).array(), over = slack - s.margins.array();
        return s.objective() + (-tau * slack.log() + estimates.array() * over + 0.5 * rho * over.square()).sum();
    }
    double largestPart(const CurveState&, const MatrixXd&) const { return 1; }
    void accept(const CurveState&, double) {}

    /// Once the curve has settled: what the multipliers came to, and the final barrier, ever stiffer where that does not suffice.
    void advance(const CurveState& s, double decrement, double lambda) {
        if (lambda <= 1 && decrement <= SmoothSettledShare * gap && !fine(s)) {
            estimates = (tau / slacks(s).array()).matrix();
            if (gap <= gapEnd)
                stiffness *= Stiffening;
            gap = gapEnd;
        }
        setTau(s);
    }

private:
    void setTau(const CurveState& s) {
        // A curve must not be pushed the harder for having become long.
        scale = std::min(scale, std::abs(s.sum));
        tau = gap * scale / (count * places);
        rho = stiffness * scale / places;
    }
    MatrixXd slacks(const CurveState& s) const {
        const Eigen::ArrayXXd x = s.margins.array() - estimates.array() / rho, root = (x.square() + 4 * tau / rho).sqrt();
        return (x > 0).select(0.5 * (x + root), 2 * tau / rho / (root - x)).matrix();  // without cancellation on either side
    }

    Eigen::Index count, places;
    double gap, gapEnd, scale = std::numeric_limits<double>::infinity(), stiffness = Stiffness, tau = 0, rho = 0;
    MatrixXd estimates;
};

template <class Barrier>
NewtonResult descend(const CurveProblem& problem, const MatrixXd& start, const NewtonOptions& options) {
    const Chart& chart = problem.chart;
    const Eigen::Index m = start.rows(), N = start.cols() - 1;
    NewtonResult result;
    CurveState current = evaluate(problem, start);
    Barrier interior(current, options);
    const double firstSum = std::abs(current.sum);
    double lambda = 1e-3, leastMissing = interior.missing().sum();
    int sinceProgress = 0, sinceSmaller = 0;
    MatrixXd smallest;
    double smallestSum = std::numeric_limits<double>::infinity();
    for (int iteration = 0; iteration < options.maxIterations; iteration++) {
        BlockSystem hessian(m, N - 1), damping(m, N - 1);
        assemble(problem, current, interior.terms(current), hessian, damping);
        const MatrixXd toBound = chart.lower().replicate(1, N - 1) - current.zeta.middleCols(1, N - 1);
        bool accepted = false;
        for (int attempt = 0; attempt < 60 && !accepted; attempt++) {
            MatrixXd step;
            if (!hessian.plus(lambda, damping).solveBounded(toBound, step) || !step.allFinite()) {
                lambda = std::max(4 * lambda, 1e-6);
                continue;
            }
            const double decrement = -hessian.gradient.cwiseProduct(step).sum() / current.sum;
            double part = 1;
            for (Eigen::Index j = 0; j < m; j++)
                if (std::isfinite(chart.stepLimit()[j]))
                    part = std::min(part, chart.stepLimit()[j] / std::max(1e-300, step.row(j).cwiseAbs().maxCoeff()));
            if (interior.active())
                part = std::min(part, interior.largestPart(current, step));
            const bool newtonStep = lambda <= LambdaNegligible;
            const double tolerance = std::max(options.tolerance, interior.active() ? ShareOfGap * options.gapEnd : 0.0);
            const bool settled = newtonStep && std::abs(decrement) <= tolerance && interior.fine(current);
            if (settled) {
                result.residual = decrement;
                result.converged = true;
            }
            const double merit = interior.merit(current);
            MatrixXd next;
            CurveState trial;
            double value = std::numeric_limits<double>::infinity();
            for (int halving = 0; halving < MaxHalvings && !std::isfinite(value); halving++) {  // the slacks are not linear
                part *= halving > 0 ? 0.5 : 1;
                next = current.zeta;
                next.middleCols(1, N - 1) += part * step;
                next.middleCols(1, N - 1) = next.middleCols(1, N - 1).cwiseMax(chart.lower().replicate(1, N - 1));
                trial = evaluate(problem, next, &current);
                value = interior.merit(trial);
            }
            const MatrixXd moved = (next - current.zeta).middleCols(1, N - 1);
            const double predicted = -(hessian.gradient.cwiseProduct(moved).sum() + 0.5 * moved.cwiseProduct(hessian.times(moved)).sum());
            const double actual = merit - value;
            if (actual > 0 || (settled && actual > -1e-12 * current.sum)) {
                // Where the Hessian is not positive the damping that mends it makes steps far too short.
                double longest = value;
                for (int doubling = 0; doubling < MaxDoublings && !newtonStep && actual > 0.75 * predicted; doubling++) {
                    const MatrixXd further = (current.zeta + 2 * (next - current.zeta)).cwiseMax(chart.lower().replicate(1, N + 1));
                    bool tooFar = false;
                    for (Eigen::Index j = 0; j < m; j++)
                        tooFar = tooFar || (further - current.zeta).row(j).cwiseAbs().maxCoeff() > chart.stepLimit()[j];
                    if (tooFar)
                        break;
                    CurveState longer = evaluate(problem, further, &current);
                    const double reached = interior.merit(longer);
                    if (!(reached < longest))
                        break;
                    longest = reached;
                    part *= 2;
                    next = further;
                    trial = std::move(longer);
                }
                const double ratio = predicted > 0 ? actual / predicted : 0;
                lambda = ratio > 0.75 ? std::max(lambda / Barrier::relief(), 1e-12) : ratio < 0.25 ? 3 * lambda : lambda;
                if (interior.active())
                    interior.accept(current, part);
                current = problem.model.isExact() ? std::move(trial) : evaluate(problem, next);
                accepted = true;
                if (!settled)
                    result.residual = decrement;
                interior.advance(current, decrement, lambda);
            }
            else {
                if (settled)
                    break;
                lambda = std::max(4 * lambda, 1e-6);
                if (lambda > 1e12)
                    break;
            }
        }
        result.iterations++;
        if (result.converged || !accepted)
            break;
        if (!interior.tight()) {
            // A constraint that no longer yields cannot be had from this start.
            const double missing = interior.missing().sum();
            sinceProgress = missing < 0.97 * leastMissing ? 0 : sinceProgress + 1;
            leastMissing = std::min(leastMissing, missing);
            if (sinceProgress > PatienceOfTightening || current.sum > FoldedFactor * firstSum)
                break;
        }
        if (!problem.model.isExact() && interior.tight()) {
            // The artefacts of the new curve are judged afresh after every step, which can undo what the step gained.
            sinceSmaller = current.objective() < smallestSum * (1 - 1e-7) ? 0 : sinceSmaller + 1;
            if (current.objective() < smallestSum) {
                smallestSum = current.objective();
                smallest = current.zeta;
            }
            if (sinceSmaller > PatienceWithArtefacts) {
                current.zeta = smallest;
                break;
            }
        }
        if (options.keepGoing && !options.keepGoing()) {
            result.interrupted = true;
            break;
        }
    }
    result.zeta = current.zeta;
    result.relaxed = interior.missing();
    return result;
}

}  // namespace

NewtonResult minimise(const CurveProblem& problem, const MatrixXd& start, const NewtonOptions& options) {
    if (options.smoothBarrier && !problem.constraints.empty())
        return descend<SmoothBarrier>(problem, start, options);
    return descend<InteriorPoint>(problem, start, options);
}

}  // namespace Spacetime
