// SPDX-License-Identifier: MIT
#include "CommandLine.h"
#include "Commands.h"
#include "spacetime/Training.h"
#include <chrono>
#include <cstdio>
#include <iostream>

namespace po = boost::program_options;

namespace Spacetime {

int runTrain(const std::vector<std::string>& words) {
    po::options_description options("Training");
    options.add_options()("out", po::value<std::string>(), "model file to write, M.safetensors")(
        "variables", po::value<std::string>(), "kinds of the columns, e.g. torsion,torsion or phi:torsion,d:distance")(
        "bandwidth", po::value<std::string>(), "smooth the samples with this standard deviation (rad for torsions)")("euclidean", "treat the variables as unwrapped numbers")(
        "steps", po::value<std::string>(), "optimiser steps")("batch", po::value<std::string>(), "points and samples a step (256, fewer where there are many variables)")("seed", po::value<std::string>(), "random seed (1)")(
        "device", po::value<std::string>(), "cpu or cuda")("temperature", po::value<std::string>(), "temperature of the samples, K")(
        "min-log-snr", po::value<std::string>(), "lowest log-SNR (log kappa for torsions) trained")("max-log-snr", po::value<std::string>(), "highest log-SNR trained")(
        "threads", po::value<std::string>(), "threads (all cores for the exact posterior, one for small networks)")(
        "points", po::value<std::string>(), "spacetime points whose exact posterior is computed once and trained on")("components", po::value<std::string>(), "of the mixture (128)")(
        "patience", po::value<std::string>(), "stop after this many reports (every 25 steps) without a better validation loss (never)")(
        "resume", "go on from M.safetensors.checkpoint, which training writes every few seconds, where there is one");
    const CommandLine line("train DATA --variables torsion,torsion --out M.safetensors [options]", options, "data", words);
    if (line.helped())
        return 0;
    const std::string out = line.require("out");
    checkOutput(out, line.overwrite() || line.has("resume"));
    const auto samples = openSamples(line, line.require("data"));
    TrainingOptions o;
    o.steps = line.integer("steps", o.steps, 1);
    o.batch = line.integer("batch", o.batch, 0);
    o.seed = static_cast<unsigned>(line.integer("seed", 1, 0));
    o.points = line.integer("points", o.points, 100);
    o.components = line.integer("components", o.components, 1);
    o.patience = line.integer("patience", 0, 0);
    o.resume = line.has("resume");
    o.threads = line.integer("threads", 0, 0);
    o.temperature = line.number("temperature", 0);
    if (o.temperature < 0)
        throw std::invalid_argument("--temperature: expected a positive number of kelvin, got '" + line.text("temperature") + "'");
    o.minLogSnr = line.number("min-log-snr", o.minLogSnr);
    o.maxLogSnr = line.number("max-log-snr", o.maxLogSnr);
    if (line.has("device"))
        o.device = line.text("device");
    const InterruptGuard guard;
    const bool show = line.showProgress();
    int first = -1;  // the step at which this run began
    std::chrono::steady_clock::time_point begun;
    o.preparation = [show](double share) {
        if (show)
            std::fprintf(stderr, "\rexact posterior of the samples %3.0f %% ", 100 * share);
        return !InterruptGuard::interrupted();
    };
    o.progress = [&](int step, int steps, double loss, double error) {
        const auto now = std::chrono::steady_clock::now();
        if (first < 0) {
            first = step;
            begun = now;
        }
        const double left = step > first ? std::chrono::duration<double>(now - begun).count() / (step - first) * (steps - step) : 0;
        if (show) {
            std::fprintf(stderr, "\rtraining %5d/%d  loss %8.4f  error %.3f posterior standard deviations", step, steps, loss, error);
            if (left > 0)
                std::fprintf(stderr, "  %4.0f s left", left);
            std::fprintf(stderr, "   ");
        }
        return !InterruptGuard::interrupted();
    };
    const TrainingResult r = train(*samples, o, out);
    if (show)
        std::fprintf(stderr, "\n");
    if (line.json())
        std::cout << nlohmann::json{{"out", out}, {"steps", r.steps}, {"seconds", r.seconds}, {"loss", r.finalLoss}, {"stopped", r.stopped}, {"resumed", r.resumed}, {"effective_samples", r.effectiveSamples},
                                    {"consistency", {{"median_error", r.consistency.medianError}, {"error_90", r.consistency.error90},
                                                     {"asymmetry", r.consistency.asymmetry}, {"jacobian_error", r.consistency.jacobianError}, {"points", r.consistency.points}}}}
                         .dump()
                  << "\n";
    else
        std::printf("%s: %d steps in %.1f s%s; %.0f effective samples; posterior mean off by %.3f (median) and %.3f (90 %%) posterior standard deviations at %d held-out points\n",
                    out.c_str(), r.steps, r.seconds, r.stopped ? " (interrupted: --resume goes on from here)" : r.resumed ? " (resumed)" : "", r.effectiveSamples, r.consistency.medianError, r.consistency.error90, r.consistency.points);
    return 0;
}

}  // namespace Spacetime
