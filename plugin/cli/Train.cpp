// SPDX-License-Identifier: MIT
#include "CommandLine.h"
#include "Commands.h"
#include "spacetime/ImageModel.h"
#include "spacetime/Training.h"
#include <chrono>
#include <cmath>
#include <cstdio>
#include <iostream>

namespace po = boost::program_options;

namespace Spacetime {

namespace {

/// Shows a training run: step, what was reported last, and the time left.
class TrainingProgress {
public:
    explicit TrainingProgress(bool show) : show(show) {}
    void operator()(int step, int steps, const std::string& figures) {
        const auto now = std::chrono::steady_clock::now();
        if (first < 0) {
            first = step;
            begun = now;
        }
        if (!show)
            return;
        std::fprintf(stderr, "\rtraining %5d/%d  %s", step, steps, figures.c_str());
        if (step > first)
            std::fprintf(stderr, "  %4.0f s left", std::chrono::duration<double>(now - begun).count() / (step - first) * (steps - step));
        std::fprintf(stderr, "   ");
    }

private:
    bool show;
    int first = -1;  // the step at which this run began
    std::chrono::steady_clock::time_point begun;
};

std::string formatted(const char* format, double a, double b) {
    char line[160];
    std::snprintf(line, sizeof(line), format, a, b);
    return line;
}

/// The words as they would be typed.
std::string commandOf(const std::vector<std::string>& words) {
    std::string s = "spacetime train";
    for (const std::string& word : words)
        s += " " + (word.find_first_of(" '\"$") == std::string::npos ? word : "'" + word + "'");
    return s;
}

int trainOnImages(const CommandLine& line, const std::vector<std::string>& words) {
    for (const char* name : {"data", "variables", "bandwidth", "euclidean", "temperature", "points", "components", "patience"})
        if (line.has(name))
            throw std::invalid_argument(std::string(name == std::string("data") ? "DATA" : "--" + std::string(name)) + " does not go with --images");
    const std::string out = line.require("out");
    checkOutput(out, line.overwrite() || line.has("resume"));
    ImageReading reading;
    if (line.has("image-size"))
        reading.shape.height = reading.shape.width = line.integer("image-size", 0, 1);
    reading.shape.channels = line.integer("channels", 0, 0);
    if (line.has("channels") && reading.shape.channels != 1 && reading.shape.channels != 3)
        throw std::invalid_argument("--channels: expected 1 (grey) or 3 (colour), got '" + line.text("channels") + "'");
    reading.resize = line.has("resize");
    reading.skipUnreadable = line.has("skip-unreadable");
    const ImageSet pictures = readImages(line.text("images"), reading);
    for (const std::string& skipped : pictures.skipped)
        std::fprintf(stderr, "skipped %s\n", skipped.c_str());

    ImageTrainingOptions o;
    o.unet = UnetShape::forPictures(pictures.shape);
    o.unet.patch = line.integer("patch", o.unet.patch, 1);
    o.unet.channels = line.integer("unet-channels", o.unet.channels, 1);
    o.unet.blocks = line.integer("blocks", o.unet.blocks, 1);
    if (line.has("multipliers")) {
        o.unet.multipliers.clear();
        for (const double m : line.numbers("multipliers")) {
            if (m != std::floor(m) || m < 1 || m > 16)
                throw std::invalid_argument("--multipliers: expected whole numbers from 1 to 16, e.g. 1,2,2, got '" + line.text("multipliers") + "'");
            o.unet.multipliers.push_back(static_cast<int>(m));
        }
    }
    o.steps = line.integer("steps", o.steps, 1);
    o.batch = line.integer("batch", o.batch, 1);
    o.seed = static_cast<unsigned>(line.integer("seed", 1, 0));
    o.threads = line.integer("threads", 0, 0);
    o.minLogSnr = line.number("min-log-snr", o.minLogSnr);
    o.maxLogSnr = line.number("max-log-snr", o.maxLogSnr);
    o.learningRate = line.number("learning-rate", o.learningRate);
    o.heldOut = line.number("held-out", o.heldOut);
    o.flips = line.has("flips");
    o.resume = line.has("resume");
    if (line.has("device"))
        o.device = line.text("device");
    o.command = commandOf(words);
    const InterruptGuard guard;
    TrainingProgress show(line.showProgress());
    o.progress = [&](int step, int steps, double loss, double heldOut) {
        show(step, steps, std::isfinite(heldOut) ? formatted("loss %.4f  held out %.4f", loss, heldOut) : formatted("loss %.4f", loss, 0));
        return true;
    };
    o.goOn = [] { return !InterruptGuard::interrupted(); };
    const ImageTrainingResult r = trainImages(pictures, o, out);
    if (line.showProgress())
        std::fprintf(stderr, "\n");
    auto number = [](double x) { return std::isfinite(x) ? nlohmann::json(x) : nlohmann::json(); };
    if (line.json())
        std::cout << nlohmann::json{{"out", out},
                                    {"steps", r.steps},
                                    {"seconds", r.seconds},
                                    {"loss", number(r.loss)},
                                    {"held_out_loss", number(r.heldOutLoss)},
                                    {"pictures", r.pictures},
                                    {"held_out", r.heldOut},
                                    {"parameters", r.numParameters},
                                    {"stopped", r.stopped},
                                    {"resumed", r.resumed},
                                    {"skipped", pictures.skipped}}
                         .dump()
                  << "\n";
    else
        std::printf("%s: %lld weights, %d steps in %.1f s%s on %d pictures of %s; loss %.4f, %.4f on %d pictures held out\n", out.c_str(), static_cast<long long>(r.numParameters),
                    r.steps, r.seconds,
                    r.stopped   ? " (interrupted: --resume goes on from here)"
                    : r.resumed ? " (resumed)"
                                : "",
                    r.pictures, toString(pictures.shape).c_str(), r.loss, r.heldOutLoss, r.heldOut);
    return 0;
}

}  // namespace

int runTrain(const std::vector<std::string>& words) {
    po::options_description options("Training");
    options.add_options()("out", po::value<std::string>(), "model file to write, M.safetensors")("variables", po::value<std::string>(),
                                                                                                 "kinds of the columns, e.g. torsion,torsion or phi:torsion,d:distance")(
        "bandwidth", po::value<std::string>(), "smooth the samples with this standard deviation (rad for torsions)")("euclidean", "treat the variables as unwrapped numbers")(
        "steps", po::value<std::string>(), "optimiser steps")("batch", po::value<std::string>(), "points and samples a step (256, fewer where there are many variables)")(
        "seed", po::value<std::string>(), "random seed (1)")("device", po::value<std::string>(), "cpu or cuda")(
        "temperature", po::value<std::string>(), "temperature of the samples, K")("min-log-snr", po::value<std::string>(), "lowest log-SNR (log kappa for torsions) trained")(
        "max-log-snr", po::value<std::string>(), "highest log-SNR trained")("threads", po::value<std::string>(),
                                                                            "threads (all cores for the exact posterior, one for small networks)")(
        "points", po::value<std::string>(), "spacetime points whose exact posterior is computed once and trained on")(
        "components", po::value<std::string>(), "of the mixture (128)")("patience", po::value<std::string>(),
                                                                        "stop after this many reports (every 25 steps) without a better validation loss (never)")(
        "resume", "go on from M.safetensors.checkpoint, which training writes every few seconds, where there is one");
    po::options_description images("Training on pictures");
    images.add_options()("images", po::value<std::string>(), "folder of pictures, or a .npy file [K, H, W] or [K, H, W, C]: train a denoiser of pictures")(
        "image-size", po::value<std::string>(), "height and width expected (those of the first picture)")("channels", po::value<std::string>(), "1 (grey) or 3 (colour)")(
        "resize", "scale pictures of other sizes (refused otherwise)")("skip-unreadable", "leave out files that cannot be read, and name them (an error otherwise)")(
        "flips", "mirror every second picture, at random")("held-out", po::value<std::string>(), "share of the pictures that is never trained on (0.05)")(
        "unet-channels", po::value<std::string>(), "channels of the U-Net's first level")("multipliers", po::value<std::string>(), "of the channels, one a level, e.g. 1,2,2")(
        "blocks", po::value<std::string>(), "residual blocks a level (1)")("patch", po::value<std::string>(), "side of the squares of pixels that become channels")(
        "learning-rate", po::value<std::string>(), "of Adam (0.002)");
    options.add(images);
    const CommandLine line("train DATA --variables torsion,torsion --out M.safetensors [options]\n       spacetime train --images DIR|FILE.npy --out M.safetensors [options]",
                           options, "data", words);
    if (line.helped())
        return 0;
    if (line.has("images"))
        return trainOnImages(line, words);
    for (const auto& option : images.options())
        if (line.has(option->long_name()))
            throw std::invalid_argument("--" + option->long_name() + " goes with --images");
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
    TrainingProgress progress(show);
    o.preparation = [show](double share) {
        if (show)
            std::fprintf(stderr, "\rexact posterior of the samples %3.0f %% ", 100 * share);
        return !InterruptGuard::interrupted();
    };
    o.progress = [&](int step, int steps, double loss, double error) {
        progress(step, steps, formatted("loss %8.4f  error %.3f posterior standard deviations", loss, error));
        return !InterruptGuard::interrupted();
    };
    const TrainingResult r = train(*samples, o, out);
    if (show)
        std::fprintf(stderr, "\n");
    if (line.json())
        std::cout << nlohmann::json{{"out", out},
                                    {"steps", r.steps},
                                    {"seconds", r.seconds},
                                    {"loss", r.finalLoss},
                                    {"stopped", r.stopped},
                                    {"resumed", r.resumed},
                                    {"effective_samples", r.effectiveSamples},
                                    {"consistency",
                                     {{"median_error", r.consistency.medianError},
                                      {"error_90", r.consistency.error90},
                                      {"asymmetry", r.consistency.asymmetry},
                                      {"jacobian_error", r.consistency.jacobianError},
                                      {"points", r.consistency.points}}}}
                         .dump()
                  << "\n";
    else
        std::printf("%s: %d steps in %.1f s%s; %.0f effective samples; posterior mean off by %.3f (median) and %.3f (90 %%) posterior standard deviations at %d held-out points\n",
                    out.c_str(), r.steps, r.seconds,
                    r.stopped   ? " (interrupted: --resume goes on from here)"
                    : r.resumed ? " (resumed)"
                                : "",
                    r.effectiveSamples, r.consistency.medianError, r.consistency.error90, r.consistency.points);
    return 0;
}

}  // namespace Spacetime
