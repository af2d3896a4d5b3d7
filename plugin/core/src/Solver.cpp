// SPDX-License-Identifier: MIT
#include "spacetime/Solver.h"
#include "Winding.h"
#include "spacetime/Text.h"
#include <algorithm>
#include <atomic>
#include <cmath>
#include <mutex>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <thread>

using Eigen::MatrixXd;
using Eigen::VectorXd;

namespace Spacetime {

namespace {

/// Share of a constraint's bound that the posteriors of a model and its surrogate may differ by.
const double SurrogateReserve = 0.08;
/// Samples of a segment at which constraints are read off.
const int PlacesPerSegment = 4;

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
                throw std::invalid_argument("geodesic: " + what + " has kappa = " + text(kappa) + " for " + vars[i].name + ", below the bound of " + text(std::exp(minLogKappa)) +
                                            ": raise --log-snr or lower the bound");
        }
    model.checkRange(eta, what);
}

VectorXd valuesAt(const PosteriorModel& model, const Constraints& constraints, const VectorXd& eta) {
    VectorXd values(constraints.size());
    const Moments m = model.moments(eta, PosteriorModel::Order::Mean);
    for (size_t c = 0; c < constraints.size(); c++)
        values[c] = constraints[c]->value(eta, m.mu.col(0), m.psiAt(0));
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

void checkPsi(const PosteriorModel& model, const GeodesicOptions& o) {
    const bool needsPsi = o.barrierWeight > 0 || !o.avoid.empty() || std::isfinite(o.maxFreeEnergy);
    if (needsPsi && !model.hasPsi())
        throw std::invalid_argument("geodesic: barrier weights, regions and bounds on the free energy need a model that knows its log-partition psi: samples, a mixture, or "
                                    "an own network");
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
    checkPsi(model, o);
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

bool samePoint(const VectorXd& etaA, const VectorXd& etaB) { return (etaA - etaB).norm() <= 1e-12 * (1 + etaA.norm()); }

}  // namespace

std::vector<GeodesicResult> geodesic(const PosteriorModel& model, const VectorXd& etaA, const VectorXd& etaB, const GeodesicOptions& options) {
    checkOptions(model, options);
    const double leastLogKappa = minLogKappa(options);
    checkEnd(model, etaA, "the start point", options.minLogSnr, leastLogKappa);
    checkEnd(model, etaB, "the end point", options.minLogSnr, leastLogKappa);
    if (samePoint(etaA, etaB))
        throw std::invalid_argument("geodesic: the two end points are the same point of spacetime");
    const Variables& vars = model.variables();
    // A bound on the variance keeps every kappa away from 0, so that windings can be told apart.
    Task task{model, options, etaA, etaB, Chart(model, options.minLogSnr, leastLogKappa, std::isfinite(options.maxVariance)), {}, {}, {}, {}};
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
        const bool surrogateMisled = options.start.size() == 0 && starts[c].size() > 0 && !stop && std::none_of(windings[c].results.begin(), windings[c].results.end(), converged);
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
    std::stable_sort(results.begin(), results.end(),
                     [](const GeodesicResult& a, const GeodesicResult& b) { return a.converged != b.converged ? a.converged : a.conformalLength < b.conformalLength; });
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
    std::stable_sort(results.begin(), results.end(),
                     [lowest](const GeodesicResult& a, const GeodesicResult& b) { return lowest ? a.maxFreeEnergy < b.maxFreeEnergy : a.conformalLength < b.conformalLength; });
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
            batch[k].same = samePoint(etaA.col(k), etaB.col(k));
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
    checkPsi(model, options);
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
                values[k] = c->value(eta.col(k), m.mu.col(k), m.psiAt(k));
            add(c->name(), c->bound(), c->isUpper(), values);
        }
    }
    return out;
}

}  // namespace Spacetime
