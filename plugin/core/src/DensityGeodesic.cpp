// SPDX-License-Identifier: MIT
// Boundary-value problem: starts and windings, and what comes of their relaxation.
#include "DensityNodes.h"
#include "DensityRelaxation.h"
#include "spacetime/Text.h"
#include <algorithm>
#include <chrono>
#include <cmath>
#include <random>
#include <stdexcept>

using Eigen::Index;
using Eigen::MatrixXd;
using Eigen::VectorXd;

namespace Spacetime {

namespace {

/// Segments of the level on which starts compete.
const int StartSegments = 32;
/// How far starts bulge at most, and how much the first one is put out of balance, over the distance of the ends.
const double LargestBulge = 0.6, Unbalanced = 0.02;
/// Starts whose shapes are kept for the finest level.
const size_t MaxKept = 3;
/// Turns of periodic coordinates that are tried both ways.
const int MaxWindingCoordinates = 4;

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
            throw std::invalid_argument(where + ": expected " + (end == &a ? "a start" : "an end") + " point of " + std::to_string(D) + " finite coordinates, got " +
                                        field.DensityField::describe(*end));
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
