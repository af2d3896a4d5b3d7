// SPDX-License-Identifier: MIT
#include "spacetime/Flow.h"
#include "CommandLine.h"
#include "Commands.h"
#include "spacetime/Files.h"
#include "spacetime/Samples.h"
#include "spacetime/Text.h"
#include <cmath>
#include <cstdio>
#include <iostream>

namespace po = boost::program_options;
using Eigen::MatrixXd;
using nlohmann::json;

namespace Spacetime {

namespace {

/// encode and decode differ in what is in the files and in the direction of the flow.
int runFlow(const std::vector<std::string>& words, bool encoding) {
    const std::string command = encoding ? "encode" : "decode";
    po::options_description options(encoding ? "Encode" : "Decode");
    options.add_options()("in", po::value<std::string>(), encoding ? "clean data in raw units (rad, nm) [K, n], FILE.npy|npz|csv" : "latent points x [K, D], FILE.npy")(
        "out", po::value<std::string>(),
        encoding ? "latent points x to write [K, D], FILE.npy: scaled variables, (cos, sin) pairs of torsions" : "data in raw units to write [K, n], FILE.npy")(
        "log-snr", po::value<std::string>(), "log-SNR of the latent points")("data-log-snr", po::value<std::string>(),
                                                                             "log-SNR at which data count as clean (what the model says)")(
        "solver", po::value<std::string>(), "adaptive (default, order 8) or heun (order 2)")("steps", po::value<std::string>(), "of Heun's method (256)")(
        "tolerance", po::value<std::string>(), "of the adaptive solver: error of a step over the scale of the points (1e-10)")(
        "schedule", po::value<std::string>(), "of x = alpha c + sigma eps: vp (default), ve, cosine or flow");
    options.add(modelOptions());
    const CommandLine line(command + " MODEL --in FILE.npy --out FILE.npy --log-snr L [options]", options, "", words);
    if (line.helped())
        return 0;
    const std::string in = line.require("in"), out = line.require("out");
    line.require("log-snr");
    const double logSnr = line.number("log-snr", 0);
    if (out.size() < 4 || out.substr(out.size() - 4) != ".npy")
        throw std::invalid_argument("--out: expected a name that ends in .npy, got '" + out + "'");
    checkOutput(out, line.overwrite());
    const double alpha = scheduleAlpha(line.has("schedule") ? line.text("schedule") : "vp", logSnr);
    FlowOptions o;
    if (line.has("solver")) {
        const std::string solver = line.text("solver");
        if (solver != "adaptive" && solver != "heun")
            throw std::invalid_argument("--solver: expected adaptive or heun, got '" + solver + "'");
        o.solver = solver == "heun" ? FlowOptions::Solver::Heun : FlowOptions::Solver::Adaptive;
    }
    o.steps = line.integer("steps", o.steps, 1);
    o.tolerance = line.number("tolerance", o.tolerance);
    o.dataLogSnr = line.number("data-log-snr", o.dataLogSnr);
    double temperature;
    const auto model = openModel(line, temperature);
    const Variables& vars = model->variables();
    const MatrixXd points = readSamples(in).raw;
    const int expected = encoding ? vars.size() : flowDimension(vars);
    if (points.rows() != expected)
        throw std::invalid_argument("'" + in + "': expected " + std::to_string(expected) +
                                    (encoding ? " columns, one a variable" : " columns (one an unlifted variable, cos and sin a torsion)") + ", got " +
                                    std::to_string(points.rows()));
    const FlowResult result = [&] {
        const SolverProgress progress(line);
        o.progress = std::cref(progress);
        return encoding ? encode(*model, points, logSnr, o) : decode(*model, points / alpha, logSnr, o);
    }();
    writeNpy(out, encoding ? MatrixXd(alpha * result.y) : rawCoordinates(vars, result.y), line.overwrite());
    const double clean = std::isnan(o.dataLogSnr) ? model->dataLogSnr() : o.dataLogSnr;
    if (line.json())
        std::cout << json{{"out", out},
                          {"points", points.cols()},
                          {"columns", encoding ? flowDimension(vars) : vars.size()},
                          {"log_snr", logSnr},
                          {"data_log_snr", clean},
                          {"alpha", alpha},
                          {"steps", result.steps},
                          {"evaluations", result.evaluations},
                          {"min_n_eff", std::isfinite(result.minNEff) ? json(result.minNEff) : json(nullptr)}}
                         .dump()
                  << "\n";
    else
        std::printf("%s: %ld points %s log-SNR %g %s %g, at most %d steps a point\n", out.c_str(), static_cast<long>(points.cols()), encoding ? "encoded from" : "decoded from",
                    encoding ? clean : logSnr, "to", encoding ? logSnr : clean, result.steps);
    if (result.minNEff < MinNEff) {
        std::fprintf(
            stderr,
            "spacetime %s: only %.0f effective samples lie around some of the clean points, at least 30 are needed to trust them; lower --data-log-snr or give --bandwidth\n",
            command.c_str(), result.minNEff);
        return 1;
    }
    return 0;
}

}  // namespace

int runEncode(const std::vector<std::string>& words) { return runFlow(words, true); }
int runDecode(const std::vector<std::string>& words) { return runFlow(words, false); }

}  // namespace Spacetime
