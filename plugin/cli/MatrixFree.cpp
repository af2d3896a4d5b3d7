// SPDX-License-Identifier: MIT
#include "MatrixFree.h"
#include "Points.h"
#include "spacetime/DenoiserModel.h"
#include "spacetime/Files.h"
#include "spacetime/Flow.h"
#include "spacetime/ImageModel.h"
#include "spacetime/MatrixFree.h"
#include "spacetime/Text.h"
#include <cmath>
#include <cstdio>
#include <iostream>

namespace po = boost::program_options;
using Eigen::Index;
using Eigen::MatrixXd;
using nlohmann::json;

namespace Spacetime {

namespace {

const int LargeFrom = 64;

void refuse(const CommandLine& line, std::initializer_list<const char*> names) {
    for (const char* name : names)
        if (line.has(name))
            throw std::invalid_argument("--" + std::string(name) + " is not for models of " + std::to_string(LargeFrom) +
                                        " variables or more, whose covariance is never written down");
}

/// Natural parameters [m x K] of clean points [n x K] at a log-SNR: alpha c, or where --encode asks for it what the probability-flow ODE makes of c.
MatrixXd noisyEnds(const CommandLine& line, const PosteriorModel& model, const MatrixXd& raw, double logSnr) {
    const Variables& vars = model.variables();
    if (line.has("encode")) {
        FlowOptions o;
        o.solver = FlowOptions::Solver::Heun;
        o.steps = line.integer("flow-steps", 32, 1);
        const SolverProgress progress(line);
        o.progress = std::cref(progress);
        return flowNaturalParameter(vars, encode(model, raw, logSnr, o).y, logSnr);
    }
    MatrixXd eta(vars.numStatistics(), raw.cols());
    for (Index i = 0; i < raw.cols(); i++)
        eta.col(i) = vars.naturalParameter(raw.col(i), logSnr);
    return eta;
}

MatrixFreeOptions solverOptions(const CommandLine& line) {
    MatrixFreeOptions o;
    o.numPoints = line.integer("points", o.numPoints, 3);
    o.tolerance = line.number("tolerance", o.tolerance);
    o.probes = line.integer("probes", o.probes, 1);
    o.measureProbes = line.integer("measure-probes", o.measureProbes, 2);
    o.seed = static_cast<unsigned>(line.integer("seed", 1, 0));
    o.batch = line.integer("batch", 0, 0);
    o.minLogSnr = line.number("min-log-snr", o.minLogSnr);
    return o;
}

json toJson(const MatrixFreeResult& r) {
    return {{"length", r.measure.length},
            {"length_error", r.measure.lengthError},
            {"energy", r.measure.energy},
            {"energy_error", r.measure.energyError},
            {"speed_gap", r.measure.speedGap},
            {"residual", r.residual},
            {"converged", r.converged},
            {"inconsistent_segments", r.measure.negativeEdges},
            {"iterations", r.iterations},
            {"evaluations", r.evaluations},
            {"seconds", r.seconds}};
}

}  // namespace

bool isLarge(const PosteriorModel& model) { return model.variables().numLifted() == 0 && model.variables().size() >= LargeFrom; }

po::options_description largeOptions() {
    po::options_description o("Models of 64 plain numbers or more (pictures, latents)");
    o.add_options()("encode", "carry the ends to their log-SNR by the probability-flow ODE, instead of taking alpha c")(
        "flow-steps", po::value<std::string>(), "of the ODE, Heun's method (32)")("resize", "bring pictures to the model's size")("probes", po::value<std::string>(),
                                                                                                                                  "random probes a node in the solver (1)")(
        "measure-probes", po::value<std::string>(),
        "of the length given, which has an error for them (16)")("batch", po::value<std::string>(), "points that go to the model together (chosen); fewer take less memory");
    return o;
}

int largeGeodesic(const CommandLine& line, const PosteriorModel& model, const std::string& out) {
    refuse(line, {"min-kappa", "max-variance", "avoid", "max-free-energy", "barrier-weight", "penalty", "route", "preset", "starts", "noisy"});
    const std::vector<double> logSnr = line.has("log-snr") ? line.numbers("log-snr") : std::vector<double>{4.0};
    if (logSnr.size() > 2)
        throw std::invalid_argument("--log-snr: expected one number, or two for the two ends, got " + std::to_string(logSnr.size()));
    MatrixFreeOptions o = solverOptions(line);
    if (line.has("start")) {
        const Curve start = Curve::load(line.text("start"));
        if (!start.variables().compatible(model.variables()))
            throw std::invalid_argument("--start: the curve's variables are not those of the model");
        o.start = start.eta();
    }
    const Eigen::VectorXd rawA = readRawPoint(line, "from", model), rawB = readRawPoint(line, "to", model);
    const Eigen::VectorXd a = noisyEnds(line, model, rawA, logSnr.front()).col(0), b = noisyEnds(line, model, rawB, logSnr.back()).col(0);
    MatrixFreeResult r = [&] {
        const SolverProgress progress(line);
        o.progress = std::cref(progress);
        return matrixFreeGeodesic(model, a, b, o);
    }();
    if (const auto* denoiser = dynamic_cast<const DenoiserModel*>(&model))
        r.curve.schedule = denoiser->parameters().schedule;
    r.curve.save(out, line.overwrite());
    if (line.json()) {
        json j = toJson(r);
        j["file"] = out;
        std::cout << j.dump() << "\n";
    }
    else {
        std::printf("length     %.3f +- %.3f (%d probes)\nenergy     %.2f +- %.2f\nspeed gap  %.1e\nresidual   %.1e\n", r.measure.length, r.measure.lengthError, r.measure.probes,
                    r.measure.energy, r.measure.energyError, r.measure.speedGap, r.residual);
        std::printf("%s: %d points, %d iterations, %ld evaluations, %.1f s\n", out.c_str(), o.numPoints, r.iterations, r.evaluations, r.seconds);
        if (r.measure.negativeEdges > 0)
            std::printf("warning: the model is inconsistent on %d of %d segments\n", r.measure.negativeEdges, o.numPoints - 1);
    }
    if (!r.converged)
        std::fprintf(stderr, "spacetime geodesic: not converged (the next step promises a decrease of %.1e of the energy, expected %.1e); the curve was written\n", r.residual,
                     o.tolerance);
    return r.converged ? 0 : 1;
}

int largeDistance(const CommandLine& line, const PosteriorModel& model) {
    refuse(line, {"min-kappa", "max-variance", "avoid", "max-free-energy"});
    if (line.has("images") == (line.has("from") || line.has("to")))
        throw std::invalid_argument("give either --images (all pairs of a set) or --from and --to");
    MatrixXd raw;
    std::vector<std::string> names;
    if (line.has("images")) {
        const auto* images = dynamic_cast<const ImageModel*>(&model);
        if (images == nullptr)
            throw std::invalid_argument("--images needs a model of pictures");
        ImageReading reading;
        reading.shape = images->imageShape();
        reading.resize = line.has("resize");
        const ImageSet set = readImages(line.text("images"), reading);
        raw = set.pixels;
        names = set.names;
    }
    else {
        raw.resize(model.variables().size(), 2);
        raw.col(0) = readRawPoint(line, "from", model);
        raw.col(1) = readRawPoint(line, "to", model);
        names = {line.text("from"), line.text("to")};
    }
    if (raw.cols() < 2)
        throw std::invalid_argument("expected at least 2 pictures, got " + std::to_string(raw.cols()));
    const double logSnr = line.number("log-snr", 4);
    MatrixFreeOptions o = solverOptions(line);
    const MatrixXd ends = noisyEnds(line, model, raw, logSnr);
    const Index K = raw.cols(), pairs = K * (K - 1) / 2;
    MatrixXd a(ends.rows(), pairs), b = a;
    std::vector<std::pair<Index, Index>> which;
    for (Index i = 0; i < K; i++)
        for (Index j = i + 1; j < K; j++) {
            a.col(which.size()) = ends.col(i);
            b.col(which.size()) = ends.col(j);
            which.emplace_back(i, j);
        }
    const auto batch = [&] {
        const SolverProgress progress(line);
        o.progress = std::cref(progress);
        return matrixFreeGeodesics(model, a, b, o);
    }();
    std::string table = "first,second,distance,error,converged\n";
    json list = json::array();
    int failed = 0, loose = 0;
    for (size_t k = 0; k < batch.size(); k++) {
        const MatrixFreeResult& r = batch[k];
        const std::string first = names[which[k].first], second = names[which[k].second];
        json entry = {{"first", first}, {"second", second}};
        if (!r.error.empty()) {
            failed++;
            table += first + "," + second + ",,,0\n";
            entry.update({{"distance", nullptr}, {"error", r.error}});
            std::fprintf(stderr, "spacetime distance: %s, %s: %s\n", first.c_str(), second.c_str(), r.error.c_str());
        }
        else {
            loose += !r.converged;
            char numbers[96];
            std::snprintf(numbers, sizeof numbers, ",%.8g,%.2g,%d\n", r.measure.length, r.measure.lengthError, r.converged ? 1 : 0);
            table += first + "," + second + numbers;
            entry.update(toJson(r));
            entry["distance"] = r.measure.length;
        }
        list.push_back(entry);
    }
    if (line.has("out"))
        writeFile(line.text("out"), table, line.overwrite());
    if (line.json())
        std::cout << json{{"log_snr", logSnr}, {"pairs", list}, {"failed", failed}, {"not_converged", loose}}.dump() << "\n";
    else if (!line.has("out"))
        std::cout << table;
    if (failed == static_cast<int>(batch.size()) && !InterruptGuard::interrupted())
        throw std::invalid_argument("no pair has a distance; the first: " + batch[0].error);
    if (failed + loose > 0)
        std::fprintf(stderr, "spacetime distance: of %zu pairs %d have no distance and %d did not converge\n", batch.size(), failed, loose);
    return failed + loose > 0 ? 1 : 0;
}

int largeMeasure(const CommandLine& line, const PosteriorModel& model, const Curve& curve) {
    refuse(line, {"min-kappa", "max-variance", "avoid", "max-free-energy", "reference"});
    ProbeOptions o;
    o.probes = line.integer("measure-probes", o.probes, 2);
    o.batch = line.integer("batch", 0, 0);
    const ProbeMeasure m = [&] {
        const SolverProgress progress(line);
        o.progress = std::cref(progress);
        return measureWithProbes(model, curve.eta(), o);
    }();
    if (line.json())
        std::cout << json{{"length", m.length},
                          {"length_error", m.lengthError},
                          {"energy", m.energy},
                          {"energy_error", m.energyError},
                          {"speed_gap", m.speedGap},
                          {"max_tr_cov", m.trCov.maxCoeff()},
                          {"inconsistent_segments", m.negativeEdges},
                          {"segments", curve.numPoints() - 1},
                          {"probes", m.probes}}
                         .dump()
                  << "\n";
    else
        std::printf(
            "length               %.4f +- %.4f (%d probes)\nenergy               %.3f +- %.3f\nspeed gap            %.2e\nlargest tr Cov       %.4f\ninconsistent         %d of %d segments\n",
            m.length, m.lengthError, m.probes, m.energy, m.energyError, m.speedGap, m.trCov.maxCoeff(), m.negativeEdges, curve.numPoints() - 1);
    return 0;
}

}  // namespace Spacetime
