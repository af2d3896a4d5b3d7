// SPDX-License-Identifier: MIT
#include "DensityInput.h"
#include "Points.h"
#include "spacetime/Samples.h"
#include "spacetime/Text.h"
#include <cmath>

namespace po = boost::program_options;
using Eigen::MatrixXd;
using Eigen::VectorXd;

namespace Spacetime {

namespace {

/// "KIND=FILE;WEIGHT", opened; returns the weight.
double openGuide(const CommandLine& line, const std::string& guide, Density& density) {
    const size_t equals = guide.find('='), semicolon = guide.rfind(';');
    const std::string kind = guide.substr(0, equals);
    if (equals == std::string::npos || semicolon == std::string::npos || semicolon < equals || (kind != "model" && kind != "torchscript" && kind != "samples" && kind != "mixture"))
        throw std::invalid_argument("--guide: expected \"KIND=FILE;WEIGHT\" with KIND model, torchscript, samples or mixture, got '" + guide + "'");
    const double weight = parseNumber(guide.substr(semicolon + 1), "--guide, weight");
    if (!std::isfinite(weight))
        throw std::invalid_argument("--guide: expected a finite weight, got '" + guide + "'");
    const Variables& vars = density.models[0]->variables();
    double temperature;
    auto model = openModel(line, kind, guide.substr(equals + 1, semicolon - equals - 1), temperature, &vars);
    // A mixture's file names no variables: its dimensions stand for the model's.
    const Variables& other = model->variables();
    bool fits = kind == "mixture" ? other.size() == vars.size() : other.compatible(vars);
    if (kind == "mixture")
        for (int i = 0; fits && i < vars.size(); i++)
            fits = vars[i].period == 0 && vars[i].shift == 0 && vars[i].scale == 1;
    if (!fits)
        throw std::invalid_argument("--guide: the variables of '" + guide + "' (" + describe(other) + ") are not those of the model (" + describe(vars) + ")");
    density.models.push_back(std::move(model));
    return weight;
}

}  // namespace

po::options_description densityOptions() {
    po::options_description o("Density");
    o.add_options()("log-snr", po::value<std::string>(),
                    "noise level L of the density (needed): that of the data smoothed by noise of standard deviation e^(-L/2), kappa = e^L for torsions")(
        "tau", po::value<std::string>(), "exponent of the metric p^(-2 tau) (1, or that of a path file); small ones temper the density")(
        "guide", po::value<std::vector<std::string>>(),
        "\"KIND=FILE;WEIGHT\": adds WEIGHT times the score of another model, KIND as below, e.g. \"model=M.safetensors;0.5\"; may be given several times")(
        "weight", po::value<std::string>(), "of the model's own score beside guides (1 less the guides' weights)")(
        "draws", po::value<std::string>(), "take a score as its mean over so many noisy copies of the point (0: the score itself)")(
        "seed", po::value<std::string>(), "of random numbers (1)")("temperature", po::value<std::string>(), "K; turns log p into kJ/mol (what the model says)");
    return o;
}

Density openDensity(const CommandLine& line) {
    line.require("log-snr");
    const double logSnr = line.number("log-snr", 0);
    const int draws = line.integer("draws", 0, 0);
    const unsigned seed = line.integer("seed", 1, 0);
    Density density;
    double temperature, others = 0;
    density.models.push_back(openModel(line, temperature));
    if (line.has("temperature")) {
        temperature = line.number("temperature", 0);
        if (!(temperature > 0))
            throw std::invalid_argument("--temperature: expected a positive number of kelvin, got '" + line.text("temperature") + "'");
    }
    density.kT = MolarGasConstant * temperature;
    std::vector<double> weights = {1};
    for (const std::string& guide : line.all("guide")) {
        weights.push_back(openGuide(line, guide, density));
        others += weights.back();
    }
    if (line.has("weight") && weights.size() == 1)
        throw std::invalid_argument("--weight goes with --guide");
    weights[0] = line.number("weight", 1 - others);
    std::vector<const DensityField*> parts;
    for (const auto& model : density.models) {
        density.fields.push_back(std::make_unique<ModelDensity>(*model, logSnr, draws, seed));
        parts.push_back(density.fields.back().get());
    }
    if (parts.size() > 1)
        density.sum = std::make_unique<GuidedDensity>(parts, weights);
    return density;
}

VectorXd readPoint(const CommandLine& line, const std::string& name, const Density& density) { return density.own().coordinates(readRawPoint(line, name, *density.models[0])); }

GivenPath readPath(const CommandLine& line, const std::string& name, const Density& density) {
    const std::string file = line.require(name);
    const Variables& vars = density.variables();
    if (endsWith(file, ".json")) {
        const DensityPathFile saved = loadDensityPath(file);
        if (!saved.variables.compatible(vars))
            throw std::invalid_argument("--" + name + ": the variables of '" + file + "' (" + describe(saved.variables) + ") are not those of the model (" + describe(vars) + ")");
        return {saved.path.x, saved.path.tau, saved.path.sphere};
    }
    const MatrixXd raw = readSamples(file).raw;
    if (raw.rows() != vars.size())
        throw std::invalid_argument("--" + name + ": '" + file + "' has " + std::to_string(raw.rows()) + " columns, but the model has " + std::to_string(vars.size()) +
                                    " variables");
    // Angles may come back at the other side of their period: every step goes the short way round.
    return {unwrapped(density.own(), density.own().coordinates(raw))};
}

po::options_description geodesicOptions(bool withWindings) {
    po::options_description o("Geodesic");
    o.add_options()("points", po::value<std::string>(), "nodes of the geodesic (129)")("tolerance", po::value<std::string>(), "of its residual (1e-3)")(
        "iterations", po::value<std::string>(), "at most, on the finest level (500)")("start", po::value<std::string>(),
                                                                                      "lerp (default), slerp, or FILE of a path to start from (.json, .npy, .npz, .csv)")(
        "sphere", "stay on the sphere |x| = const on which the ends lie")("starts", po::value<std::string>(), "starts of every winding (1): further ones bulge to random sides")(
        "averaged-steps", po::value<std::string>(), "of stochastic scores, averaged once the path has settled (400)");
    if (withWindings)
        o.add_options()("windings", po::value<std::string>(), "whole turns added to each variable's short way, e.g. 0,-1: that way only (all short and long ways)");
    return o;
}

DensityGeodesicOptions readGeodesicOptions(const CommandLine& line, const Density& density) {
    DensityGeodesicOptions o;
    o.tau = line.number("tau", o.tau);
    o.numPoints = line.integer("points", o.numPoints, 5);
    o.tolerance = line.number("tolerance", o.tolerance);
    o.maxIterations = line.integer("iterations", o.maxIterations, 1);
    o.starts = line.integer("starts", o.starts, 1);
    o.seed = line.integer("seed", 1, 0);
    o.averagedSteps = line.integer("averaged-steps", o.averagedSteps, 2);
    o.sphere = line.has("sphere");
    const std::string start = line.text("start");
    if (start == "slerp")
        o.start = DensityGeodesicOptions::Start::Slerp;
    else if (!start.empty() && start != "lerp") {
        if (start.find('.') == std::string::npos)
            throw std::invalid_argument("--start: expected lerp, slerp or a path file, got '" + start + "'");
        o.path = readPath(line, "start", density).x;
    }
    if (line.has("windings")) {
        for (double turns : line.numbers("windings")) {
            if (turns != std::floor(turns) || std::abs(turns) > 1000)
                throw std::invalid_argument("--windings: expected whole turns, got '" + line.text("windings") + "'");
            o.windings.push_back(static_cast<int>(turns));
        }
        if (static_cast<int>(o.windings.size()) != density.variables().size())
            throw std::invalid_argument("--windings: expected " + std::to_string(density.variables().size()) + " numbers, one a variable, got " +
                                        std::to_string(o.windings.size()));
    }
    return o;
}

}  // namespace Spacetime
