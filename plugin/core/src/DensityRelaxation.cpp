// SPDX-License-Identifier: MIT
// Relaxation of a string of nodes. Every step solves the stiff part, the tension of the string, implicitly.
#include "DensityRelaxation.h"
#include "Anderson.h"
#include "DensityNodes.h"
#include <algorithm>
#include <cmath>
#include <deque>
#include <numeric>

using Eigen::Index;
using Eigen::MatrixXd;
using Eigen::VectorXd;

namespace Spacetime {

namespace {

/// A coarse level prepares the next one: residual, and evaluations of the path at most.
const double CoarseTolerance = 1e-2;
const int CoarseIterations = 40;
/// Segments of the coarsest level.
const int CoarsestSegments = 8;
/// Largest turn of the string a node that the score may ask for, in segments: beyond it the level is too coarse to resolve the score.
const double LargestTurn = 0.5;
/// Steps of a descent after which a string that is too coarse, or whose residual is still above this, is given up: its nodes do not resolve the score.
const int LongDescent = 60;
const double Unresolved = 0.1;
/// Steps of Anderson's method that do not lower the residual before the descent goes on instead.
const int Patience = 40;
/// Unequal spacing that is left in a converged path, in segments.
const double SpacingTolerance = 1e-3;
/// Evaluations out of which the residual of an averaged path is estimated.
const int ResidualDraws = 64;

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

}  // namespace

bool Relaxation::String::settled(double tolerance) const { return residual <= tolerance && !tooCoarse && spacing <= SpacingTolerance; }

Relaxation::Relaxation(const DensityField& f, const DensityGeodesicOptions& o, double r) : field(f), options(o), radius(r) {
    for (int n = o.numPoints - 1;; n = (n + 1) / 2) {
        levels.insert(levels.begin(), n);
        if (n < 2 * CoarsestSegments)
            break;
    }
}

void Relaxation::report(size_t level, double share) {
    if (!options.progress)
        return;
    const double done = std::accumulate(levels.begin(), levels.begin() + level, 0.0), all = std::accumulate(levels.begin(), levels.end(), 0.0);
    if (!options.progress(offset + span * std::min(1.0, (done + share * levels[std::min(level, levels.size() - 1)]) / all)))
        stopped = true;
}

int Relaxation::run(MatrixXd& x, size_t first, size_t last, bool& converged) {
    int iterations = 0;
    for (size_t level = first; level <= last && !stopped; level++) {
        const bool finest = level + 1 == levels.size();
        // The noise of one draw is no reason to polish.
        const double tolerance = finest && !field.isStochastic() ? options.tolerance : std::max(options.tolerance, CoarseTolerance);
        iterations = solveLevel(x, level, tolerance, finest ? options.maxIterations : CoarseIterations, converged);
    }
    return iterations;
}

double Relaxation::average(MatrixXd& x, double& error, int& steps) {
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

Relaxation::String Relaxation::evaluate(const MatrixXd& x) {
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

void Relaxation::limit(MatrixXd& step, const MatrixXd& x) const {
    const Index N = x.cols() - 1;
    const double most = 0.1 * (x.rightCols(N) - x.leftCols(N)).colwise().norm().sum(), size = largestNorm(step);
    if (size > most)
        step *= most / size;
}

MatrixXd Relaxation::moved(const MatrixXd& x, const MatrixXd& step) const {
    MatrixXd result = x;
    result.middleCols(1, step.cols()) += step;
    if (options.sphere)
        for (Index i = 1; i + 1 < x.cols(); i++)
            result.col(i) *= radius / result.col(i).norm();
    return result;
}

int Relaxation::solveLevel(MatrixXd& x, size_t level, double tolerance, int most, bool& converged) {
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

Relaxation::String Relaxation::descend(const MatrixXd& from, int steps, double until, int& used, size_t level, int most) {
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

void Relaxation::learn(const MatrixXd& change, const MatrixXd& pullChange, double h) {
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

void Relaxation::accelerate(String& s, double tolerance, int most, int& used, size_t level) {
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

}  // namespace Spacetime
