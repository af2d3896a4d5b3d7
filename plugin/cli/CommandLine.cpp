// SPDX-License-Identifier: MIT
#include "CommandLine.h"
#include "spacetime/Files.h"
#include "spacetime/ImageModel.h"
#include "spacetime/NetworkModel.h"
#include "spacetime/Samples.h"
#include "spacetime/Text.h"
#include "spacetime/TorchScriptModel.h"
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <iostream>
#include <stdexcept>
#include <unistd.h>

namespace po = boost::program_options;

namespace Spacetime {

CommandLine::CommandLine(const std::string& usage, const po::options_description& options, const std::string& positional, const std::vector<std::string>& words) {
    po::options_description all;
    all.add(options);
    po::options_description common("Common options");
    common.add_options()("json", "print one JSON object on stdout")("quiet", "no progress")("overwrite", "replace existing output files")("help,h", "this text");
    all.add(common);
    po::options_description hidden;
    po::positional_options_description places;
    if (!positional.empty()) {
        hidden.add_options()(positional.c_str(), po::value<std::string>());
        places.add(positional.c_str(), 1);
    }
    po::options_description everything;
    everything.add(all).add(hidden);
    try {
        // "--from -2.58,2.79": a word that starts with a minus and a digit is a value, so short options are switched off.
        namespace style = po::command_line_style;
        po::store(po::command_line_parser(words)
                      .options(everything)
                      .positional(places)
                      .style(style::allow_long | style::long_allow_adjacent | style::long_allow_next | style::allow_short | style::allow_dash_for_short | style::short_allow_next)
                      .extra_style_parser([](std::vector<std::string>& rest) {
                          // Take "--name value" as a pair even where the value begins with a minus sign and a digit.
                          std::vector<po::option> found;
                          if (rest.size() >= 2 && rest[0].rfind("--", 0) == 0 && rest[0].find('=') == std::string::npos && rest[1].size() > 1 && rest[1][0] == '-' &&
                              (std::isdigit(static_cast<unsigned char>(rest[1][1])) || rest[1][1] == '.')) {
                              po::option o;
                              o.string_key = rest[0].substr(2);
                              o.value = {rest[1]};
                              o.original_tokens = {rest[0], rest[1]};
                              found.push_back(o);
                              rest.erase(rest.begin(), rest.begin() + 2);
                          }
                          return found;
                      })
                      .run(),
                  values);
    }
    catch (const po::error& e) {
        throw std::invalid_argument(std::string(e.what()) + " (see --help)");
    }
    if (values.count("help")) {
        std::cout << "Usage: spacetime " << usage << "\n" << all;
        help = true;
    }
}

bool CommandLine::showProgress() const { return !has("quiet") && isatty(STDERR_FILENO); }

std::string CommandLine::text(const std::string& name) const { return has(name) ? values[name].as<std::string>() : std::string(); }

std::string CommandLine::require(const std::string& name) const {
    if (!has(name))
        throw std::invalid_argument("--" + name + " is needed (see --help)");
    return values[name].as<std::string>();
}

double CommandLine::number(const std::string& name, double otherwise) const {
    if (!has(name))
        return otherwise;
    const double value = parseNumber(text(name), "--" + name);
    if (!std::isfinite(value))
        throw std::invalid_argument("--" + name + ": expected a finite number, got '" + text(name) + "'");
    return value;
}

int CommandLine::integer(const std::string& name, int otherwise, int least) const {
    const double value = number(name, otherwise);
    if (value != std::floor(value) || value < least || value > 1e9)
        throw std::invalid_argument("--" + name + ": expected a whole number of at least " + std::to_string(least) + ", got '" + text(name) + "'");
    return static_cast<int>(value);
}

std::vector<double> CommandLine::numbers(const std::string& name) const {
    const std::vector<double> result = parseNumbers(require(name), "--" + name);
    for (double x : result)
        if (!std::isfinite(x))
            throw std::invalid_argument("--" + name + ": expected finite numbers, got '" + text(name) + "'");
    return result;
}

std::vector<std::string> CommandLine::all(const std::string& name) const { return has(name) ? values[name].as<std::vector<std::string>>() : std::vector<std::string>(); }

po::options_description constraintOptions() {
    po::options_description o("Bounds and constraints");
    o.add_options()("min-log-snr", po::value<std::string>(), "bound on log-SNR, and on log kappa")("min-kappa", po::value<std::string>(), "bound on kappa of every torsion")(
        "max-variance", po::value<std::string>(), "bound on tr Cov of the lifted, scaled variables: keeps the posterior in one piece")(
        "avoid", po::value<std::vector<std::string>>(), "\"a,b;log_snr;nats\": stay at KL >= nats from the point a,b seen at log_snr; may be given several times")(
        "max-free-energy", po::value<std::string>(), "kJ/mol; bound on kT psi* above the start (needs a temperature)");
    return o;
}

void readConstraints(const CommandLine& line, const Variables& vars, double temperature, GeodesicOptions& options) {
    options.minLogSnr = line.number("min-log-snr", options.minLogSnr);
    options.minKappa = line.number("min-kappa", options.minKappa);
    options.maxVariance = line.number("max-variance", options.maxVariance);
    for (const std::string& region : line.all("avoid")) {
        const auto parts = split(region, ';');
        if (parts.size() != 3)
            throw std::invalid_argument("--avoid: expected \"a,b;log_snr;nats\", got '" + region + "'");
        const auto center = parseNumbers(parts[0], "--avoid");
        if (static_cast<int>(center.size()) != vars.size())
            throw std::invalid_argument("--avoid: expected a centre of " + std::to_string(vars.size()) + " numbers, got '" + parts[0] + "'");
        options.avoid.push_back(
            {vars.naturalParameter(Eigen::VectorXd::Map(center.data(), center.size()), parseNumber(parts[1], "--avoid, log-SNR")), parseNumber(parts[2], "--avoid, nats")});
    }
    if (line.has("max-free-energy")) {
        if (!(temperature > 0))
            throw std::invalid_argument("--max-free-energy is an energy: give --temperature as well");
        options.maxFreeEnergy = line.number("max-free-energy", 0) / (MolarGasConstant * temperature);
    }
}

po::options_description modelOptions() {
    po::options_description o("Model (one of --model, --torchscript, --samples, --mixture)");
    o.add_options()("model", po::value<std::string>(), "trained network, of variables or of pictures, FILE.safetensors")(
        "torchscript", po::value<std::string>(), "denoiser of another program, FILE.pt (needs LibTorch; runs code of the file)")(
        "device", po::value<std::string>(), "of --torchscript and of models of pictures: cpu (default) or cuda")(
        "samples", po::value<std::string>(), "exact posterior of weighted samples, FILE.npz|npy|csv")("mixture", po::value<std::string>(), "Gaussian mixture, FILE.json")(
        "variables", po::value<std::string>(), "kinds of the samples' columns, e.g. torsion,torsion or phi:torsion,d:distance")(
        "bandwidth", po::value<std::string>(), "smooth the samples with this standard deviation (rad for torsions)")("euclidean",
                                                                                                                     "treat the samples' variables as unwrapped numbers");
    return o;
}

std::unique_ptr<EmpiricalModel> openSamples(const CommandLine& line, const std::string& path, const Variables* known) {
    const Samples samples = readSamples(path);
    Variables variables = samples.variables;
    if (known != nullptr) {
        // The columns of a .csv are numbers by name only; kinds that a file does say must be the model's.
        const auto& items = variables.items();
        const bool saysKinds = std::any_of(items.begin(), items.end(), [](const Variable& v) { return v.kind != Variable::Kind::Number; });
        if (saysKinds && !(line.has("euclidean") ? variables.euclidean() : variables).compatible(*known))
            throw std::invalid_argument("'" + path + "': its variables (" + describe(variables) + ") are not those of the model (" + describe(*known) + ")");
        variables = *known;
    }
    else if (line.has("variables"))
        variables = Variables::parse(line.text("variables"));
    else if (variables.size() == 0)
        throw std::invalid_argument("'" + path + "' does not say what its columns are: give --variables, e.g. --variables torsion,torsion");
    if (variables.size() != samples.raw.rows())
        throw std::invalid_argument("'" + path + "' has " + std::to_string(samples.raw.rows()) + " columns, but " + std::to_string(variables.size()) + " variables are named");
    if (line.has("euclidean") && known == nullptr)
        variables = variables.euclidean();
    EmpiricalModel::Options options;
    options.bandwidth = line.number("bandwidth", 0.0);
    options.grid = samples.grid;
    return std::make_unique<EmpiricalModel>(variables, samples.raw, samples.logWeights, options);
}

std::unique_ptr<PosteriorModel> openModel(const CommandLine& line, double& temperature) {
    const int given = line.has("model") + line.has("torchscript") + line.has("samples") + line.has("mixture");
    if (given != 1)
        throw std::invalid_argument("give one of --model, --torchscript, --samples and --mixture, got " + std::to_string(given));
    const auto guides = line.all("guide");
    const auto uses = [&](const std::string& kind) {
        return line.has(kind) || std::any_of(guides.begin(), guides.end(), [&](const std::string& guide) { return guide.rfind(kind + "=", 0) == 0; });
    };
    if (line.has("device") && !uses("torchscript") && !uses("model"))
        throw std::invalid_argument("--device goes with --torchscript, or with --model for a model of pictures");
    for (const char* name : {"variables", "bandwidth", "euclidean"})
        if (line.has(name) && !(name == std::string("bandwidth") ? uses("samples") : line.has("samples")))
            throw std::invalid_argument(std::string("--") + name + " goes with --samples; a model file knows its own variables");
    for (const char* kind : {"mixture", "samples", "torchscript"})
        if (line.has(kind))
            return openModel(line, kind, line.text(kind), temperature);
    return openModel(line, "model", line.text("model"), temperature);
}

std::unique_ptr<PosteriorModel> openModel(const CommandLine& line, const std::string& kind, const std::string& path, double& temperature, const Variables* known) {
    temperature = 0;
    if (kind == "mixture")
        return readMixture(path);
    if (kind == "samples")
        return openSamples(line, path, known);
    if (kind == "torchscript") {
        auto denoiser = TorchScriptModel::load(path, line.has("device") ? line.text("device") : "cpu");
        temperature = denoiser->parameters().temperature;
        return denoiser;
    }
    auto model = loadModel(path, line.has("device") ? line.text("device") : "cpu");
    if (const auto* network = dynamic_cast<const NetworkModel*>(model.get()))
        temperature = network->parameters().temperature;
    return model;
}

namespace {
volatile std::sig_atomic_t interruptFlag = 0;
void onInterrupt(int) { interruptFlag = 1; }
}  // namespace

InterruptGuard::InterruptGuard() : previous(std::signal(SIGINT, onInterrupt)) { interruptFlag = 0; }
InterruptGuard::~InterruptGuard() { std::signal(SIGINT, previous); }
bool InterruptGuard::interrupted() { return interruptFlag != 0; }

SolverProgress::~SolverProgress() {
    if (show)
        std::fprintf(stderr, "\r             \r");
}

bool SolverProgress::operator()(double fraction) const {
    if (show && fraction >= 0)
        std::fprintf(stderr, "\rsolving %3.0f %%", 100 * fraction);
    return !InterruptGuard::interrupted();
}

std::string describe(const Variables& variables) {
    const int shown = 12;
    if (variables.size() <= shown)
        return variables.toJson().dump();
    return std::to_string(variables.size()) + " of them, '" + variables[0].name + "' to '" + variables[variables.size() - 1].name + "'";
}

bool endsWith(const std::string& s, const std::string& ending) { return s.size() >= ending.size() && s.compare(s.size() - ending.size(), ending.size(), ending) == 0; }

std::string windingFile(const std::string& out, size_t i) {
    if (i == 0)
        return out;
    for (const std::string ending : {".json", ".npy", ".csv"})
        if (endsWith(out, ending))
            return out.substr(0, out.size() - ending.size()) + ".w" + std::to_string(i) + ending;
    return out + ".w" + std::to_string(i) + ".json";
}

std::string windingText(const Variables& vars, const std::vector<int>& windings) {
    std::string s;
    for (int i = 0; i < vars.size(); i++)
        if (vars[i].lifted())
            s += (s.empty() ? "" : ", ") + vars[i].name + (windings[i] == 0 ? " short way" : " long way");
    return s.empty() ? "-" : s;
}

void checkOutput(const std::string& path, bool overwrite) {
    if (!overwrite && access(path.c_str(), F_OK) == 0)
        throw std::invalid_argument("'" + path + "' exists: choose another name or pass --overwrite");
    const size_t slash = path.find_last_of('/');
    const std::string folder = slash == std::string::npos ? "." : slash == 0 ? "/" : path.substr(0, slash);
    if (access(folder.c_str(), W_OK) != 0)
        throw std::invalid_argument("cannot write '" + path + "': the folder does not exist or is not writable");
}

}  // namespace Spacetime
