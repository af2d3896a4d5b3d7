// SPDX-License-Identifier: MIT
#include "CommandLine.h"
#include "Commands.h"
#include "MatrixFree.h"
#include "spacetime/DenoiserModel.h"
#include "spacetime/Json.h"
#include "spacetime/Solver.h"
#include "spacetime/Text.h"
#include <cmath>
#include <cstdio>
#include <iostream>

namespace po = boost::program_options;
using Eigen::VectorXd;
using nlohmann::json;

namespace Spacetime {

namespace {

/// An end point in natural parameters. Clean coordinates are seen at `logSnr`; noisy ones are x itself, and kappa,phi0 pairs for lifted variables.
VectorXd endPoint(const Variables& vars, const std::vector<double>& given, double logSnr, bool noisy, const std::string& schedule, const std::string& what) {
    const int expected = noisy ? vars.size() + vars.numLifted() : vars.size();
    if (static_cast<int>(given.size()) != expected)
        throw std::invalid_argument(what + ": expected " + std::to_string(expected) + " numbers, got " + std::to_string(given.size()));
    if (!noisy)
        return vars.naturalParameter(VectorXd::Map(given.data(), given.size()), logSnr);
    VectorXd eta = VectorXd::Zero(vars.numStatistics());
    if (vars.hasQuadratic())
        eta[0] = -0.5 * std::exp(logSnr);
    for (int i = 0, k = 0; i < vars.size(); i++) {
        const int o = vars.offset(i);
        if (vars[i].lifted()) {
            if (!(given[k] >= 0))
                throw std::invalid_argument(what + ": expected kappa of 0 or more for " + vars[i].name + ", got " + text(given[k]));
            eta[o] = given[k] * std::cos(given[k + 1]);
            eta[o + 1] = given[k] * std::sin(given[k + 1]);
            k += 2;
        }
        else  // alpha/sigma^2 = e^l/alpha
            eta[o] = std::exp(logSnr) / scheduleAlpha(schedule, logSnr) * given[k++];
    }
    return eta;
}

}  // namespace

int runGeodesic(const std::vector<std::string>& words) {
    po::options_description options("Geodesic");
    options.add_options()("from", po::value<std::string>(), "start, clean coordinates a,b,... (rad, nm), or @FILE: a row of numbers, or a picture")(
        "to", po::value<std::string>(), "end")("out", po::value<std::string>(), "curve file to write, curve.json")(
        "log-snr", po::value<std::string>(), "log-SNR of the ends (4), or one for each: a,b; kappa = e^L for torsions")(
        "points", po::value<std::string>(), "nodes of the curve (129; 17 of pictures)")("barrier-weight", po::value<std::string>(),
                                                                                        "W of the metric exp(2 W psi*) ds_FR^2: above 0 the curve goes round free-energy barriers")(
        "penalty", po::value<std::string>(), "L,WEIGHT: adds WEIGHT times the mean of softplus_10(L - log-SNR) to the energy")(
        "route", po::value<std::string>(), "shortest, lowest (the winding whose highest free energy is lowest) or all: which curve comes first")(
        "preset", po::value<std::string>(), "transition: --max-variance 0.05 --min-kappa 25 --barrier-weight 0.05, a low-variance curve for driving molecules")(
        "starts", po::value<std::string>(), "starts of every winding (1, or 5 where a region is in the way)")("start", po::value<std::string>(), "curve file to start from")(
        "threads", po::value<std::string>(), "windings solved at the same time (all cores)")("noisy", "the points given are noisy: x itself, and kappa,phi0 pairs for torsions")(
        "schedule", po::value<std::string>(), "of noisy points: vp, cosine, ve or flow (the model's own; vp)")("tolerance", po::value<std::string>(),
                                                                                                               "on the relative Newton decrement (1e-6)")(
        "temperature", po::value<std::string>(), "K; turns kT into kJ/mol")("seed", po::value<std::string>(), "of the directions of further starts (1)");
    options.add(constraintOptions()).add(largeOptions()).add(modelOptions());
    const CommandLine line("geodesic MODEL --from a,b --to a,b --out curve.json [options]", options, "", words);
    if (line.helped())
        return 0;
    const std::string out = line.require("out");
    checkOutput(out, line.overwrite());
    double temperature;
    const auto model = openModel(line, temperature);
    temperature = line.number("temperature", temperature);
    if (isLarge(*model))
        return largeGeodesic(line, *model, out);
    const Variables& vars = model->variables();
    if (vars.numLifted() > 0)  // other windings may follow
        checkOutput(windingFile(out, 1), line.overwrite());

    std::vector<double> logSnr = line.has("log-snr") ? line.numbers("log-snr") : std::vector<double>{4.0};
    if (logSnr.size() > 2)
        throw std::invalid_argument("--log-snr: expected one number, or two for the two ends, got " + std::to_string(logSnr.size()));
    const auto* denoiser = dynamic_cast<const DenoiserModel*>(model.get());
    const std::string schedule = line.has("schedule") ? line.text("schedule") : denoiser != nullptr ? denoiser->parameters().schedule : "vp";
    scheduleAlpha(schedule, 0);
    GeodesicOptions o;
    o.numPoints = line.integer("points", o.numPoints, 5);
    o.tolerance = line.number("tolerance", o.tolerance);
    if (line.has("preset")) {
        if (line.text("preset") != "transition")
            throw std::invalid_argument("--preset: expected transition, got '" + line.text("preset") + "'");
        o.maxVariance = 0.05;
        o.minKappa = 25;
        o.barrierWeight = 0.05;
    }
    readConstraints(line, vars, temperature, o);
    o.barrierWeight = line.number("barrier-weight", o.barrierWeight);
    if (line.has("penalty")) {
        const auto penalty = line.numbers("penalty");
        if (penalty.size() != 2)
            throw std::invalid_argument("--penalty: expected L,WEIGHT, got '" + line.text("penalty") + "'");
        o.penaltyLogSnr = penalty[0];
        o.penaltyWeight = penalty[1];
    }
    o.numStarts = line.has("starts") ? line.integer("starts", 1, 1) : 0;
    o.seed = line.integer("seed", 1, 0);
    o.threads = line.integer("threads", 0, 0);
    if (line.has("start")) {
        const Curve start = Curve::load(line.text("start"));
        if (!start.variables().compatible(vars))
            throw std::invalid_argument("--start: the curve's variables (" + describe(start.variables()) + ") are not those of the model");
        o.start = start.eta();
    }
    if (line.has("route")) {
        const std::string route = line.text("route");
        if (route != "shortest" && route != "lowest" && route != "all")
            throw std::invalid_argument("--route: expected shortest, lowest or all, got '" + route + "'");
        o.route = route == "lowest" ? GeodesicOptions::Route::Lowest : GeodesicOptions::Route::Shortest;
    }
    const VectorXd a = endPoint(vars, line.numbers("from"), logSnr.front(), line.has("noisy"), schedule, "--from");
    const VectorXd b = endPoint(vars, line.numbers("to"), logSnr.back(), line.has("noisy"), schedule, "--to");

    auto results = [&] {
        const SolverProgress progress(line);
        o.progress = std::cref(progress);
        return geodesic(*model, a, b, o);
    }();

    const double kT = temperature > 0 ? MolarGasConstant * temperature : 0;
    json list = json::array();
    bool good = true;
    for (size_t i = 0; i < results.size(); i++) {
        GeodesicResult& r = results[i];
        r.curve.temperature = temperature;
        r.curve.schedule = schedule;
        const std::string file = windingFile(out, i);
        r.curve.save(file, line.overwrite());
        if (i == 0)
            good = r.converged && !(r.measure.minNEff < MinNEff);
        json entry = parseJson(r.curve.solution);
        entry.update({{"file", file},
                      {"energy", r.measure.energy},
                      {"length", r.measure.length},
                      {"length_extrapolated", r.measure.lengthExtrapolated},
                      {"speed_gap", r.measure.speedGap},
                      {"residual", entry["newton_decrement"]},
                      {"seconds", r.seconds},
                      {"max_free_energy_kJ_mol", kT > 0 ? json(kT * r.maxFreeEnergy) : json(nullptr)}});
        list.push_back(entry);
    }
    const GeodesicResult& best = results[0];
    if (line.json()) {
        json best_ = list[0];
        list.erase(list.begin());
        best_["others"] = list;
        std::cout << best_.dump() << "\n";
    }
    else {
        std::printf("%-28s %10s %10s %10s %8s %9s %11s\n", "winding", "length", "energy", "speed gap", kT > 0 ? "F kJ/mol" : "F kT", "residual", "evaluations");
        for (const GeodesicResult& r : results)
            std::printf("%-28s %10.4f %10.3f %10.1e %8.2f %9.1e %11ld%s\n", windingText(vars, r.windings).c_str(), r.measure.lengthExtrapolated, r.measure.energy,
                        r.measure.speedGap, r.maxFreeEnergy * (kT > 0 ? kT : 1), r.residual, r.evaluations, r.converged ? "" : "  not converged");
        std::printf("F: highest information cost psi* = KL(p(.|z) || q) on the curve above its start, an estimate of the free energy of the mean.\n");
        for (const ConstraintValue& c : best.constraints)
            std::printf("%-28s %s %g: %.5g at s = %.3f%s\n", c.name.c_str(), c.isUpper ? "<=" : ">=", c.bound, c.extreme, c.s,
                        c.violation > 0 ? (", beyond its bound by " + text(100 * c.violation) + " %").c_str() : "");
        std::printf("%s: %d points, %.3f s%s\n", out.c_str(), o.numPoints, best.seconds, results.size() > 1 ? "; the other solutions are in NAME.w1.json, ..." : "");
        if (best.measure.negativeEdges > 0)
            std::printf("warning: the model is inconsistent on %d of %d segments\n", best.measure.negativeEdges, o.numPoints - 1);
    }
    if (!best.converged)
        std::fprintf(stderr, "spacetime geodesic: not converged (relative Newton decrement %.1e; length %.4f, with twice the segments %.4f); the curve was written\n",
                     best.residual, best.measure.length, best.lengthDoubled);
    if (best.measure.minNEff < MinNEff)
        std::fprintf(stderr, "spacetime geodesic: only %.0f effective samples lie on parts of the curve, at least 30 are needed to trust it; sample there or give --bandwidth\n",
                     best.measure.minNEff);
    return good ? 0 : 1;
}

}  // namespace Spacetime
