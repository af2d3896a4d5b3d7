// SPDX-License-Identifier: MIT
// Initial-value problem: the geodesic that leaves a point in a direction.
#include "DensityNodes.h"
#include "Dop853.h"
#include "spacetime/Text.h"
#include <chrono>
#include <cmath>
#include <stdexcept>

using Eigen::Index;
using Eigen::MatrixXd;
using Eigen::VectorXd;

namespace Spacetime {

namespace {

/// Steps below this share of the length are stuck, and more than this many not worth waiting for.
const double MinStep = 1e-12;
const int MaxSteps = 1000000;

/// Position and unit tangent as functions of Euclidean arc length: x' = T, T' = -tau P s, and -x/R^2 more on a sphere.
struct Shot {
    const DensityField& field;
    const DensityShotOptions& options;
    const double radius;
    const Index D;
    long draw = 0;

    VectorXd slope(const VectorXd& state) const {
        const VectorXd x = state.head(D), tangent = state.tail(D).normalized();
        VectorXd bend = -options.tau * field.score(x, draw).col(0);
        bend -= tangent.dot(bend) * tangent;
        if (options.sphere) {
            const VectorXd radial = x.normalized();
            bend -= radial.dot(bend) * radial;
            bend -= radial / radius;
        }
        VectorXd out(2 * D);
        out << state.tail(D), bend;
        return out;
    }

    /// Sets right what a step's error did to |T| = 1, and to |x| = R; returns the former.
    double restore(VectorXd& state) const {
        if (options.sphere) {
            const VectorXd radial = state.head(D).normalized();
            state.head(D) = radius * radial;
            state.tail(D) -= radial.dot(state.tail(D)) * radial;
        }
        const double speed = state.tail(D).norm();
        state.tail(D) /= speed;
        return std::abs(speed - 1);
    }
};

}  // namespace

DensityPath extrapolateDensity(const DensityField& field, const VectorXd& x, const VectorXd& v, const DensityShotOptions& options) {
    const std::string where = "extrapolateDensity";
    const Index D = field.dimension();
    if (!(options.tau > 0) || !std::isfinite(options.tau))
        throw std::invalid_argument(where + ": expected a positive tau, got " + text(options.tau));
    if (!(options.length > 0) || !std::isfinite(options.length))
        throw std::invalid_argument(where + ": expected a positive length, got " + text(options.length));
    if (options.numPoints < 2 || options.steps < 0 || !(options.tolerance > 0))
        throw std::invalid_argument(where + ": expected at least 2 points, a number of steps that is not negative and a positive tolerance, got " +
                                    std::to_string(options.numPoints) + ", " + std::to_string(options.steps) + " and " + text(options.tolerance));
    for (const VectorXd* given : {&x, &v})
        if (given->size() != D || !given->allFinite())
            throw std::invalid_argument(where + ": expected a " + (given == &x ? "start point" : "direction") + " of " + std::to_string(D) + " finite coordinates, got " +
                                        field.DensityField::describe(*given));
    field.checkRange(x, "the start point");
    VectorXd direction = v;
    if (options.sphere)
        direction -= x.normalized().dot(direction) * x.normalized();
    if (!(direction.norm() > 1e-12 * v.norm()) || !(v.norm() > 0))
        throw std::invalid_argument(where + ": expected a direction other than zero" + (options.sphere ? " along the sphere" : ""));

    const auto begin = std::chrono::steady_clock::now();
    const long before = field.evaluations();
    Shot shot{field, options, x.norm(), D};
    VectorXd state(2 * D);
    state << x, direction.normalized();
    const int last = options.numPoints - 1;
    MatrixXd nodes(D, last + 1);
    nodes.col(0) = x;
    DensityPath path;
    path.tau = options.tau;
    path.sphere = options.sphere;
    const double spacing = options.length / last;
    const int rungeKutta = options.steps > 0 ? options.steps : field.isStochastic() ? 1 : 0;
    bool stopped = false;
    int node = 0;
    double planned = 0.1 * std::min(spacing, options.length / 10);
    bool refused = false;
    Dop853::Step step;
    auto problemAt = [&](double t, const std::string& why) { path.outside = "after a length of " + text(t) + " of " + text(options.length) + ": " + why; };
    while (node < last && !stopped && path.outside.empty()) {
        if (rungeKutta > 0) {
            const double h = spacing / rungeKutta;
            for (int k = 0; k < rungeKutta; k++) {
                shot.draw = path.iterations++;
                const VectorXd k1 = shot.slope(state), k2 = shot.slope(state + 0.5 * h * k1), k3 = shot.slope(state + 0.5 * h * k2), k4 = shot.slope(state + h * k3);
                state += h / 6 * (k1 + 2 * k2 + 2 * k3 + k4);
                path.maxSpeedError = std::max(path.maxSpeedError, shot.restore(state));
            }
        }
        else {
            double t = node * spacing;
            const double end = (node + 1) * spacing;
            auto f = [&](const VectorXd&, const MatrixXd& s, MatrixXd& slope) {
                if (!s.allFinite())
                    return false;
                slope = shot.slope(s.col(0));
                return true;
            };
            MatrixXd slope = shot.slope(state);
            while (t < end) {
                const bool toNode = t + 1.01 * planned >= end;
                const double h = toNode ? end - t : planned;
                double error = std::numeric_limits<double>::infinity();
                if (Dop853::step(f, VectorXd::Constant(1, t), state, slope, VectorXd::Constant(1, h), step)) {
                    auto size = [&](const MatrixXd& e) { return std::max(e.topRows(D).norm() / options.length, e.bottomRows(D).norm()) / options.tolerance; };
                    error = Dop853::error(size(step.error3), size(step.error5));
                }
                if (++path.iterations > MaxSteps)
                    throw std::invalid_argument(where + ": no end after " + std::to_string(MaxSteps) + " steps, at a length of " + text(t) + " of " + text(options.length) +
                                                ": raise the tolerance");
                if (!(error <= 1)) {
                    planned = h * Dop853::shrink(error);
                    if (planned < MinStep * options.length)
                        throw std::invalid_argument(where + ": the step size fell below " + text(MinStep) + " of the length at " + field.describe(state.head(D)) +
                                                    ": the score is too rough there. Raise the tolerance, give samples a bandwidth, or choose a lower log-SNR");
                    refused = true;
                    continue;
                }
                state = step.end.col(0);
                path.maxSpeedError = std::max(path.maxSpeedError, shot.restore(state));
                slope = shot.slope(state);
                const double next = h * Dop853::grow(error, refused);
                planned = toNode ? std::max(planned, next) : next;
                refused = false;
                t = toNode ? end : t + h;
            }
        }
        const std::string problem = field.rangeProblem(state.head(D));
        if (!problem.empty()) {
            problemAt((node + 1) * spacing, field.describe(state.head(D)) + " " + problem);
            break;
        }
        nodes.col(++node) = state.head(D);
        if (options.progress && !options.progress(static_cast<double>(node) / last))
            stopped = true;
    }
    path.converged = node == last;
    path.x = nodes.leftCols(node + 1);
    path.windings.assign(D, 0);
    path.logDensity = VectorXd::Zero(node + 1);
    path.evaluations = field.evaluations() - before;
    if (node > 0) {
        const MatrixXd scores = field.score(path.x);
        measureAlong(field, path, scores, field.isStochastic() ? std::numeric_limits<double>::infinity() : 1e-4);
        if (node > 1)
            path.residual = nodeForces(path.x, scores.middleCols(1, node - 1), path.tau, path.sphere).residual;
    }
    else
        path.logDistance = -std::numeric_limits<double>::infinity();
    path.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    return path;
}

}  // namespace Spacetime
