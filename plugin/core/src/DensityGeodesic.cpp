// SPDX-License-Identifier: MIT
// Boundary-value problem: relaxation of a string of nodes. Every step solves the stiff part, the tension of the string, implicitly.
#include "DensityNodes.h"
#include "spacetime/Text.h"
#include <Eigen/Eigenvalues>
#include <algorithm>
#include <chrono>
#include <cmath>
#include <deque>
#include <numeric>
#include <random>
#include <stdexcept>

using Eigen::Index;
using Eigen::MatrixXd;
using Eigen::VectorXd;

namespace Spacetime {

namespace {

/// A coarse level prepares the next one: residual, and evaluations of the path at most.
const double CoarseTolerance = 1e-2;
const int CoarseIterations = 40;
/// Segments of the coarsest level, and of that on which starts compete.
const int CoarsestSegments = 8, StartSegments = 32;
/// How far starts bulge at most, and how much the first one is put out of balance, over the distance of the ends.
const double LargestBulge = 0.6, Unbalanced = 0.02;
/// Starts whose shapes are kept for the finest level.
const size_t MaxKept = 3;
/// Largest turn of the string a node that the score may ask for, in segments: beyond it the level is too coarse to resolve the score.
const double LargestTurn = 0.5;
/// Steps of a descent after which a string that is too coarse, or whose residual is still above this, is given up: its nodes do not resolve the score.
const int LongDescent = 60;
const double Unresolved = 0.1;
/// Steps of Anderson's method that do not lower the residual before the descent goes on instead.
const int Patience = 40;
/// Unequal spacing that is left in a converged path, in segments.
const double SpacingTolerance = 1e-3;
/// Steps that Anderson's method remembers, and the share of the largest eigenvalue of their products below which they count as repetitions.
const size_t Memory = 8;
const double MemoryRank = 1e-12;
/// Turns of periodic coordinates that are tried both ways.
const int MaxWindingCoordinates = 4;
/// Evaluations out of which the residual of an averaged path is estimated.
const int ResidualDraws = 64;

/// A path with its forces.
struct String {
    MatrixXd x;           // [D x N+1]
    MatrixXd force, pull; // [D x N-1] what is to vanish; its part that is not tension
    double residual = std::numeric_limits<double>::infinity(), spacing = residual;
    bool tooCoarse = false;  // the pull was cut to LargestTurn somewhere

    bool settled(double tolerance) const { return residual <= tolerance && !tooCoarse && spacing <= SpacingTolerance; }
};

/// (tension + c)^-1 force: the step that would be exact for a score that grows by c/(tau h^2) a unit of length. [D x N-1]
MatrixXd implicitStep(const MatrixXd& force, const VectorXd& c) {
    const Index n = force.cols();
    MatrixXd step = force;
    VectorXd above(n);
    for (Index i = 0; i < n; i++) {  // Gauss elimination of a tridiagonal matrix, all coordinates at once
        const double pivot = 2 + c[i] - (i > 0 ? above[i - 1] : 0);
        above[i] = 1 / pivot;
        if (i > 0)
            step.col(i) += step.col(i - 1);
        step.col(i) /= pivot;
    }
    for (Index i = n - 2; i >= 0; i--)
        step.col(i) += above[i] * step.col(i + 1);
    return step;
}

double largestNorm(const MatrixXd& columns) { return std::sqrt(columns.colwise().squaredNorm().maxCoeff()); }

/// Anderson's acceleration of a fixed-point iteration x -> x + step(x): what earlier steps say of how a step changes with x is used to foresee where it vanishes.
class Anderson {
public:
    void clear() {
        changes.clear();
        sums.clear();
        lastStep.resize(0, 0);
    }

    /// The step to take from `place` instead of `step`.
    MatrixXd accelerated(const MatrixXd& place, const MatrixXd& step) {
        if (lastStep.size() > 0)
            remember(place, step);
        lastPlace = place;
        lastStep = step;
        MatrixXd result = step;
        const Index m = changes.size();
        if (m == 0)
            return result;
        // Least squares by normal equations of unit columns: they are long and few, and weights to six digits will do. Repetitions get none.
        const VectorXd norms = products.diagonal().cwiseSqrt().cwiseMax(std::numeric_limits<double>::min());
        VectorXd target(m);
        for (Index k = 0; k < m; k++)
            target[k] = changes[k].cwiseProduct(step).sum() / norms[k];
        const Eigen::SelfAdjointEigenSolver<MatrixXd> modes(norms.cwiseInverse().asDiagonal() * products * norms.cwiseInverse().asDiagonal());
        const Eigen::ArrayXd values = modes.eigenvalues();
        const VectorXd along = modes.eigenvectors().transpose() * target;
        const VectorXd weights = (modes.eigenvectors() * (values > MemoryRank * values.maxCoeff()).select(along.array() / values, 0).matrix()).cwiseQuotient(norms);
        for (Index k = 0; k < m; k++)
            result -= weights[k] * sums[k];
        return result;
    }

private:
    void remember(const MatrixXd& place, const MatrixXd& step) {
        if (changes.size() == Memory) {
            changes.pop_front();
            sums.pop_front();
            products = products.bottomRightCorner(Memory - 1, Memory - 1).eval();
        }
        changes.push_back(step - lastStep);
        sums.push_back(changes.back() + place - lastPlace);
        const Index m = changes.size();
        products.conservativeResize(m, m);
        for (Index k = 0; k < m; k++)
            products(k, m - 1) = products(m - 1, k) = changes[k].cwiseProduct(changes[m - 1]).sum();
    }

    std::deque<MatrixXd> changes, sums;  // of the step from one place to the next; the same and that of the place
    MatrixXd lastPlace, lastStep, products;
};

class Relaxation {
public:
    Relaxation(const DensityField& f, const DensityGeodesicOptions& o, double r) : field(f), options(o), radius(r) {
        for (int n = o.numPoints - 1;; n = (n + 1) / 2) {
            levels.insert(levels.begin(), n);
            if (n < 2 * CoarsestSegments)
                break;
        }
    }

    bool stopped = false;
    std::vector<int> levels;
    long draw = 0;

    /// Share of the work done: levels count by their nodes.
    void report(size_t level, double share) {
        if (!options.progress)
            return;
        const double done = std::accumulate(levels.begin(), levels.begin() + level, 0.0), all = std::accumulate(levels.begin(), levels.end(), 0.0);
        if (!options.progress(offset + span * std::min(1.0, (done + share * levels[std::min(level, levels.size() - 1)]) / all)))
            stopped = true;
    }
    double offset = 0, span = 1;

    /// Through the levels from `first` to `last`; `x` may have any number of nodes. Returns the iterations on the last one.
    int run(MatrixXd& x, size_t first, size_t last, bool& converged) {
        int iterations = 0;
        for (size_t level = first; level <= last && !stopped; level++) {
            const bool finest = level + 1 == levels.size();
            // The noise of one draw is no reason to polish.
            const double tolerance = finest && !field.isStochastic() ? options.tolerance : std::max(options.tolerance, CoarseTolerance);
            iterations = solveLevel(x, level, tolerance, finest ? options.maxIterations : CoarseIterations, converged);
        }
        return iterations;
    }

    /// Averaged steps of a stochastic field: every step sees the noise of a draw of its own, the mean over the second half of the path's positions does not.
    double average(MatrixXd& x, double& error, int& steps) {
        const int half = options.averagedSteps / 2, last = static_cast<int>(x.cols()) - 1;
        const VectorXd a = x.col(0), b = x.col(last);
        MatrixXd sum = MatrixXd::Zero(x.rows(), x.cols());
        int summed = 0;
        for (int k = 0; k < options.averagedSteps && !stopped; k++, steps++) {
            draw = k + 1;
            const String here = evaluate(x);
            MatrixXd step = implicitStep(here.force, stiffness) / std::pow(1.0 + k, 0.6);
            limit(step, here.x);
            x.middleCols(1, step.cols()) += step;
            x = equallySpaced(x, static_cast<int>(x.cols()), options.sphere);
            if (k >= half) {
                sum += x;
                summed++;
            }
            report(levels.size() - 1, static_cast<double>(k) / options.averagedSteps);
        }
        if (summed > 0) {
            x = sum / summed;
            if (options.sphere)
                ontoSphere(x, radius);
            x.col(0) = a;
            x.col(last) = b;
            x = equallySpaced(x, static_cast<int>(x.cols()), options.sphere);
        }
        // Draws of their own tell how far the mean score still is from balance, and how well that is known.
        const Index n = x.cols() - 2;
        MatrixXd mean = MatrixXd::Zero(x.rows(), n), squares = mean;
        for (int k = 0; k < ResidualDraws; k++) {
            const MatrixXd s = field.score(x.middleCols(1, n), options.averagedSteps + 1 + k);
            mean += s;
            squares += s.cwiseAbs2();
        }
        mean /= ResidualDraws;
        const MatrixXd variance = (squares / ResidualDraws - mean.cwiseAbs2()).cwiseMax(0) / (ResidualDraws - 1);
        const NodeForces f = nodeForces(x, mean, options.tau, options.sphere);
        const double h = f.meanSegment;
        error = options.tau * h * h * std::sqrt(variance.colwise().sum().maxCoeff()) / f.largest;
        return f.residual;
    }

private:
    String evaluate(const MatrixXd& x) {
        String s;
        s.x = x;
        const Index n = x.cols() - 2;
        NodeForces f = nodeForces(x, field.score(x.middleCols(1, n), draw), options.tau, options.sphere);
        s.residual = f.residual;
        s.spacing = largestNorm(f.slide) / f.meanSegment;
        s.pull = std::move(f.pull);
        for (Index i = 0; i < n; i++) {
            const double size = s.pull.col(i).norm(), most = LargestTurn * f.meanSegment;
            if (size > most) {
                s.pull.col(i) *= most / size;
                s.tooCoarse = true;
            }
        }
        s.force = f.bending + f.slide + s.pull;
        return s;
    }

    /// No node further than a tenth of the path.
    void limit(MatrixXd& step, const MatrixXd& x) const {
        const Index N = x.cols() - 1;
        const double most = 0.1 * (x.rightCols(N) - x.leftCols(N)).colwise().norm().sum(), size = largestNorm(step);
        if (size > most)
            step *= most / size;
    }

    MatrixXd moved(const MatrixXd& x, const MatrixXd& step) const {
        MatrixXd result = x;
        result.middleCols(1, step.cols()) += step;
        if (options.sphere)
            for (Index i = 1; i + 1 < x.cols(); i++)
                result.col(i) *= radius / result.col(i).norm();
        return result;
    }

    int solveLevel(MatrixXd& x, size_t level, double tolerance, int most, bool& converged) {
        const int points = levels[level] + 1;
        if (x.cols() != points)
            x = equallySpaced(x, points, options.sphere);
        stiffness = VectorXd::Zero(points - 2);
        String best;
        int used = 0, descent = 15;
        double until = 0.1;
        converged = false;
        // Descent leaves unstable balances and finds the basin, Anderson's method finds its bottom; where that fails the descent goes further.
        while (used < most && !stopped) {
            String s = descend(x, std::min(descent, most - used), until, used, level, most);
            if (!s.settled(tolerance) && !stopped)
                accelerate(s, tolerance, most, used, level);
            if (s.residual < best.residual)
                best = s;
            if (s.settled(tolerance)) {
                converged = true;
                break;
            }
            // What long descents leave far from a solution has none near: it needs more nodes, not more steps.
            if ((s.tooCoarse || best.residual > Unresolved) && descent >= LongDescent)
                break;
            x = equallySpaced(s.x, points, options.sphere);
            descent *= 2;
            until *= 0.3;
        }
        if (best.x.size() > 0)
            x = best.x;
        return used;
    }

    /// The string method: implicit steps whose stiffness is learned from how the pull changed, and equal spacing after each.
    String descend(const MatrixXd& from, int steps, double until, int& used, size_t level, int most) {
        String s = evaluate(from);
        used++;
        for (int k = 0; k < steps && !stopped && (s.residual >= until || s.tooCoarse); k++) {
            MatrixXd step = implicitStep(s.force, stiffness);
            const Index N = s.x.cols() - 1;
            const double h = (s.x.rightCols(N) - s.x.leftCols(N)).colwise().norm().mean(), size = largestNorm(step), longest = std::max(1.0, 0.03 * N) * h;
            if (size > longest)
                step *= longest / size;
            const String next = evaluate(equallySpaced(moved(s.x, step), static_cast<int>(N) + 1, options.sphere));
            used++;
            const MatrixXd change = (next.x - s.x).middleCols(1, N - 1);
            learn(change, next.pull - s.pull, h);
            s = next;
            report(level, static_cast<double>(used) / most);
        }
        return s;
    }

    /// Restoring force a unit of displacement at every node, forgotten slowly, and shared with neighbours.
    void learn(const MatrixXd& change, const MatrixXd& pullChange, double h) {
        const Index n = stiffness.size();
        for (Index i = 0; i < n; i++) {
            const double square = change.col(i).squaredNorm();
            const double secant = square > 1e-12 * h * h ? -pullChange.col(i).dot(change.col(i)) / square : 0;
            stiffness[i] = std::max(0.7 * stiffness[i], secant);
        }
        const VectorXd before = stiffness;
        for (Index i = 0; i < n; i++)
            for (Index j : {i - 1, i + 1})
                if (j >= 0 && j < n)
                    stiffness[i] = std::max(stiffness[i], 0.5 * before[j]);
    }

    /// Anderson's acceleration of the implicit step; ends without success where the force keeps growing or the residual does not fall.
    void accelerate(String& s, double tolerance, int most, int& used, size_t level) {
        Anderson memory;
        std::deque<double> sizes;
        auto size = [](const String& t) { return std::sqrt(std::max(0.0, t.force.cwiseProduct(implicitStep(t.force, VectorXd::Zero(t.force.cols()))).sum())); };
        double here = size(s);
        VectorXd c = stiffness;
        double best = s.residual;
        for (int refused = 0, idle = 0; used < most && refused < 4 && idle < Patience && !stopped && !s.settled(tolerance);) {
            const MatrixXd plain = implicitStep(s.force, c);
            MatrixXd step = memory.accelerated(s.x.middleCols(1, plain.cols()), plain);
            limit(step, s.x);
            String next = evaluate(moved(s.x, step));
            used++;
            const double there = size(next);
            double reference = here;
            for (double old : sizes)
                reference = std::max(reference, old);
            if (!(there <= 1.5 * reference)) {
                memory.clear();
                refused++;
                c = (2 * c).cwiseMax(0.02);
                continue;
            }
            sizes.push_back(here);
            if (sizes.size() > 4)
                sizes.pop_front();
            here = there;
            s = std::move(next);
            idle = s.residual < 0.9 * best ? 0 : idle + 1;
            best = std::min(best, s.residual);
            report(level, static_cast<double>(used) / most);
        }
    }

    const DensityField& field;
    const DensityGeodesicOptions& options;
    const double radius;
    VectorXd stiffness;  // [N-1] of the level at work
};

/// The line, bulged to a random side by up to `size` times its chord.
MatrixXd bulged(const MatrixXd& line, double size, std::mt19937_64& generator) {
    std::normal_distribution<double> normal;
    std::uniform_real_distribution<double> uniform(0.25 * size, size);
    const Index n = line.cols();
    const VectorXd chord = line.col(n - 1) - line.col(0), along = chord.normalized();
    VectorXd sides[2];
    for (VectorXd& side : sides) {
        side.resize(line.rows());
        for (Index d = 0; d < side.size(); d++)
            side[d] = normal(generator);
        side -= along.dot(side) * along;
        if (side.norm() > 1e-12)
            side.normalize();
    }
    const double first = uniform(generator) * chord.norm(), second = 0.5 * (uniform(generator) - 0.5 * size) * chord.norm();
    MatrixXd x = line;
    for (Index i = 1; i + 1 < n; i++) {
        const double s = static_cast<double>(i) / (n - 1);
        x.col(i) += first * std::sin(M_PI * s) * sides[0] + second * std::sin(2 * M_PI * s) * sides[1];
    }
    return x;
}

void check(const DensityField& field, const VectorXd& a, const VectorXd& b, const DensityGeodesicOptions& o, const std::string& where) {
    const int D = field.dimension();
    if (!(o.tau > 0) || !std::isfinite(o.tau))
        throw std::invalid_argument(where + ": expected a positive tau, got " + text(o.tau));
    if (o.numPoints < 5 || o.maxIterations < 1 || o.starts < 1 || o.averagedSteps < 2)
        throw std::invalid_argument(where + ": expected at least 5 points, 1 iteration, 1 start and 2 averaged steps, got " + std::to_string(o.numPoints) + ", " +
                                    std::to_string(o.maxIterations) + ", " + std::to_string(o.starts) + " and " + std::to_string(o.averagedSteps));
    if (!(o.tolerance > 0))
        throw std::invalid_argument(where + ": expected a positive tolerance, got " + text(o.tolerance));
    for (const VectorXd* end : {&a, &b})
        if (end->size() != D || !end->allFinite())
            throw std::invalid_argument(where + ": expected " + (end == &a ? "a start" : "an end") + " point of " + std::to_string(D) + " finite coordinates, got " + field.DensityField::describe(*end));
    if (o.path.size() > 0 && (o.path.rows() != D || o.path.cols() < 2 || !o.path.allFinite()))
        throw std::invalid_argument(where + ": expected a start path of at least 2 points of " + std::to_string(D) + " finite coordinates");
    const VectorXd periods = field.periods();
    if (!o.windings.empty()) {
        if (static_cast<int>(o.windings.size()) != D)
            throw std::invalid_argument(where + ": expected " + std::to_string(D) + " windings, got " + std::to_string(o.windings.size()));
        for (int d = 0; d < D; d++)
            if (o.windings[d] != 0 && !(periods[d] > 0))
                throw std::invalid_argument(where + ": coordinate " + std::to_string(d) + " is not periodic, expected no winding of it, got " + std::to_string(o.windings[d]));
    }
    if (o.sphere) {
        if (periods.maxCoeff() > 0)
            throw std::invalid_argument(where + ": the sphere constraint needs coordinates that are not periodic");
        MatrixXd ends(D, 2);
        ends << a, b;
        checkOnSphere(ends, where);
    }
}

/// The windings to solve.
std::vector<std::vector<int>> windingsOf(const VectorXd& periods, const VectorXd& shortWay, const DensityGeodesicOptions& o) {
    const Index D = periods.size();
    if (!o.windings.empty())
        return {o.windings};
    std::vector<std::vector<int>> result = {std::vector<int>(D, 0)};
    if ((periods.array() > 0).count() > MaxWindingCoordinates)
        return result;
    for (Index d = 0; d < D; d++) {
        if (!(periods[d] > 0))
            continue;
        const size_t count = result.size();
        for (size_t k = 0; k < count; k++) {
            std::vector<int> other = result[k];
            other[d] = shortWay[d] > 0 ? -1 : 1;
            result.push_back(other);
        }
    }
    return result;
}

}  // namespace

std::vector<DensityPath> densityGeodesics(const DensityField& field, const VectorXd& a, const VectorXd& b, const DensityGeodesicOptions& options) {
    const std::string where = "densityGeodesics";
    check(field, a, b, options, where);
    field.checkRange(a, "the start point");
    field.checkRange(b, "the end point");
    const int D = field.dimension();
    const VectorXd periods = field.periods();
    VectorXd shortWay = b - a;
    for (int d = 0; d < D; d++)
        if (periods[d] > 0)
            shortWay[d] = std::remainder(shortWay[d], periods[d]);
    const bool anyTurn = std::any_of(options.windings.begin(), options.windings.end(), [](int w) { return w != 0; });
    if (!anyTurn && options.path.size() == 0 && !(shortWay.norm() > 1e-12 * std::max(1.0, a.norm())))
        throw std::invalid_argument(where + ": the start and end points are the same, " + field.describe(a) + ": expected two different ones");

    std::vector<std::vector<int>> choices;
    MatrixXd given;
    if (options.path.size() > 0) {
        given = unwrapped(field, options.path);
        // Copies of the torus are chosen so that the path starts at a; its turns are its winding.
        std::vector<int> turns(D, 0);
        for (int d = 0; d < D; d++)
            if (periods[d] > 0) {
                given.row(d).array() += periods[d] * std::round((a[d] - given(d, 0)) / periods[d]);
                turns[d] = static_cast<int>(std::lround((given(d, given.cols() - 1) - a[d] - shortWay[d]) / periods[d]));
            }
        choices = {options.windings.empty() ? turns : options.windings};
    }
    else
        choices = windingsOf(periods, shortWay, options);

    std::vector<DensityPath> results;
    bool stopped = false;
    for (size_t choice = 0; choice < choices.size() && !(stopped && !results.empty()); choice++) {
        const auto begin = std::chrono::steady_clock::now();
        const long before = field.evaluations();
        VectorXd end = a + shortWay;
        for (int d = 0; d < D; d++)
            end[d] += choices[choice][d] * periods[d];
        Relaxation relaxation(field, options, a.norm());
        relaxation.offset = static_cast<double>(choice) / choices.size();
        relaxation.span = 1.0 / choices.size();
        const size_t finest = relaxation.levels.size() - 1;
        size_t first = 0;
        MatrixXd start;
        if (given.size() > 0) {
            start = given;
            start.col(0) = a;
            start.col(start.cols() - 1) = end;
            // A path is taken up on the level that resolves it.
            while (first < finest && relaxation.levels[first] + 1 < start.cols())
                first++;
        }
        else
            start = options.sphere || options.start == DensityGeodesicOptions::Start::Slerp ? slerp(a, end, relaxation.levels[0] + 1) : lerp(a, end, relaxation.levels[0] + 1);

        // Where the density is symmetric about the line, as over a hill between two ways round, the line is in balance, and every step from it would stay there.
        std::mt19937_64 generator(options.seed);
        if (given.size() == 0)
            start = bulged(start, Unbalanced, generator);
        if (options.sphere)
            ontoSphere(start, a.norm());
        // Starts compete on a coarse level; what differs there goes on.
        std::vector<MatrixXd> candidates = {start};
        size_t next = first;
        if (options.starts > 1) {
            for (int k = 1; k < options.starts; k++) {
                candidates.push_back(bulged(start, LargestBulge, generator));
                if (options.sphere)
                    ontoSphere(candidates.back(), a.norm());
            }
            size_t last = first;
            while (last < finest && relaxation.levels[last] < StartSegments)
                last++;
            std::vector<std::pair<double, MatrixXd>> ranked;
            for (MatrixXd& x : candidates) {
                bool good;
                relaxation.run(x, first, last, good);
                DensityPath p;
                p.x = x;
                p.tau = options.tau;
                measureAlong(field, p, field.score(x), std::numeric_limits<double>::infinity());
                ranked.push_back({p.logDistance, x});
            }
            std::sort(ranked.begin(), ranked.end(), [](const auto& p, const auto& q) { return p.first < q.first; });
            candidates.clear();
            double latest = -std::numeric_limits<double>::infinity();
            for (const auto& r : ranked)
                if (r.first > latest + 1e-2 && candidates.size() < MaxKept) {
                    candidates.push_back(r.second);
                    latest = r.first;
                }
            next = std::min(last + 1, finest);
        }

        DensityPath best;
        for (size_t k = 0; k < candidates.size() && !(relaxation.stopped && k > 0); k++) {
            DensityPath p;
            MatrixXd& x = candidates[k];
            relaxation.draw = 0;
            p.iterations = relaxation.run(x, next, finest, p.converged);
            if (x.cols() != options.numPoints)  // interrupted on the way
                x = equallySpaced(x, options.numPoints, options.sphere);
            p.tau = options.tau;
            p.sphere = options.sphere;
            if (field.isStochastic() && !relaxation.stopped) {
                p.residual = relaxation.average(x, p.residualError, p.iterations);
                p.converged = p.residual <= options.tolerance + 2 * p.residualError;
            }
            p.x = x;
            p.evaluations = field.evaluations() - before;
            const MatrixXd scores = field.score(x);
            measureAlong(field, p, scores, field.isStochastic() ? std::numeric_limits<double>::infinity() : 1e-4);
            if (!field.isStochastic())
                p.residual = nodeForces(x, scores.middleCols(1, x.cols() - 2), options.tau, options.sphere).residual;
            if (k == 0 || (p.converged && !best.converged) || (p.converged == best.converged && p.logDistance < best.logDistance))
                best = p;
        }
        best.windings = choices[choice];
        best.converged = best.converged && !relaxation.stopped;
        best.outside = outsideOf(field, best.x);
        best.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
        results.push_back(best);
        stopped = relaxation.stopped;
    }
    // A path that did not converge may have any length: it comes last.
    std::stable_sort(results.begin(), results.end(),
                     [](const DensityPath& p, const DensityPath& q) { return p.converged != q.converged ? p.converged : p.logDistance < q.logDistance; });
    return results;
}

}  // namespace Spacetime
