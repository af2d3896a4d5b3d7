// SPDX-License-Identifier: MIT
#include "CommandLine.h"
#include "Commands.h"
#include "OpenMM.h"
#include "PathFiles.h"
#include "Xml.h"
#include "openmm/serialization/XmlSerializer.h"
#include "spacetime/Curve.h"
#include "spacetime/Files.h"
#include "spacetime/Text.h"
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <iostream>
#include <limits>
#include <link.h>
#include <map>
#include <memory>
#include <sstream>
#include <zlib.h>

namespace po = boost::program_options;
using namespace OpenMM;
using nlohmann::json;
using SpacetimePlugin::PathSampler;
using SpacetimePlugin::SpacetimeForce;
using std::string;
using std::vector;

namespace Spacetime {

namespace {

// Steps between two looks at Ctrl-C.
const int Chunk = 2000;
const int PullSteps = 5000;

/// OpenMM's plugins, and ours among them, from beside the OpenMM library that this program runs with; otherwise from where the package puts them.
void loadPlugins() {
    string folder;
    dl_iterate_phdr(
        [](dl_phdr_info* info, size_t, void* result) {
            const std::filesystem::path path(info->dlpi_name);
            if (path.filename().string().rfind("libOpenMM.so", 0) == 0)
                *static_cast<string*>(result) = (path.parent_path() / "plugins").string();
            return 0;
        },
        &folder);
    std::error_code error;
    if (folder.empty() || !std::filesystem::is_directory(folder))
        folder = (std::filesystem::read_symlink("/proc/self/exe", error).parent_path() / "../../OpenMM.libs/lib/plugins").string();
    if (!std::filesystem::is_directory(folder))
        throw std::runtime_error("found no folder of OpenMM plugins: expected '" + folder + "'");
    Platform::loadPluginsFromDirectory(folder);
    if (!Platform::getPlatformByName("Reference").supportsKernels({"CalcSpacetimeForce"}))
        throw std::runtime_error("'" + folder + "' lacks libOpenMMSpacetimeReference.so, or it cannot be loaded");
}

template <class T>
string toXml(const T& object, const string& name) {
    std::ostringstream out;
    XmlSerializer::serialize<T>(&object, name, out);
    return out.str();
}

/// The force along a curve, as openmmspacetime.SpacetimeForce(curve) makes it.
SpacetimeForce* makeForce(const Curve& curve, double temperature) {
    vector<double> s(curve.s().data(), curve.s().data() + curve.s().size()), eta(curve.eta().data(), curve.eta().data() + curve.eta().size());
    auto force = std::make_unique<SpacetimeForce>(s, eta, temperature);
    std::vector<std::pair<Site, int>> centroids;
    std::vector<std::pair<const Frame*, int>> frames;
    auto sitesOf = [&](const vector<Site>& sites) {
        vector<int> result;
        for (const Site& site : sites) {
            if (site.atoms.size() == 1) {
                result.push_back(site.atoms[0]);
                continue;
            }
            auto known = std::find_if(centroids.begin(), centroids.end(), [&](const auto& c) { return c.first == site; });
            if (known == centroids.end())
                known = centroids.insert(centroids.end(), {site, force->addCentroid(site.atoms, site.weights)});
            result.push_back(known->second);
        }
        return result;
    };
    for (const Variable& v : curve.variables().items()) {
        if (v.atoms.empty() || v.kind == Variable::Kind::Number || (v.kind == Variable::Kind::Position && !v.frame))
            throw std::invalid_argument("--curve: the variable '" + v.name + "' (" + v.kindName() + ") does not say which atoms it is measured on");
        const vector<int> a = sitesOf(v.atoms);
        switch (v.kind) {
        case Variable::Kind::Torsion: force->addTorsion(a[0], a[1], a[2], a[3], v.name); break;
        case Variable::Kind::Angle: force->addAngle(a[0], a[1], a[2], v.shift, v.scale, v.name); break;
        case Variable::Kind::Distance: force->addDistance(a[0], a[1], v.shift, v.scale, v.name); break;
        case Variable::Kind::Coordinate: force->addCoordinate(a[0], v.axis, v.period, v.shift, v.scale, v.name); break;
        default: {
            auto known = std::find_if(frames.begin(), frames.end(), [&](const auto& f) { return f.first == v.frame.get(); });
            if (known == frames.end()) {
                vector<Vec3> reference;
                for (int i = 0; i < v.frame->reference.cols(); i++)
                    reference.emplace_back(v.frame->reference(0, i), v.frame->reference(1, i), v.frame->reference(2, i));
                const vector<double> weights(v.frame->weights.data(), v.frame->weights.data() + v.frame->weights.size());
                known = frames.insert(frames.end(), {v.frame.get(), force->addFrame(sitesOf(v.frame->sites), reference, weights)});
            }
            force->addPosition(a[0], v.axis, known->second, v.shift, v.scale, v.name);
        }
        }
    }
    return force.release();
}

/// Calls `f` on an object of whichever of the classes it is.
template <class... Classes, class Base, class Function>
void visit(Base& object, const Function& f) {
    auto one = [&](auto* p) {
        if (p != nullptr)
            f(*p);
    };
    (one(dynamic_cast<Classes*>(&object)), ...);
}

void setSeeds(System& system, Integrator& integrator, int seed) {
    auto set = [&](auto& object) { object.setRandomNumberSeed(seed); };
    for (int i = 0; i < system.getNumForces(); i++)
        visit<AndersenThermostat, MonteCarloBarostat, MonteCarloAnisotropicBarostat, MonteCarloFlexibleBarostat, MonteCarloMembraneBarostat>(system.getForce(i), set);
    visit<BrownianIntegrator, LangevinIntegrator, LangevinMiddleIntegrator, VariableLangevinIntegrator, CustomIntegrator>(integrator, set);
}

/// Progress at a terminal, for as long as it lives.
class Report {
public:
    Report(const CommandLine& line, int total, int done, double stepSize)
        : show(line.showProgress()), total(total), earlier(done), done(done), stepSize(stepSize), begun(std::chrono::steady_clock::now()) {}
    ~Report() {
        if (show)
            std::fprintf(stderr, "\n");
    }
    void path(bool hasFailed) {
        done++;
        failed += hasFailed;
    }
    void steps(long long count) {
        stepsDone += count;
        const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begun).count();
        if (!show || seconds < shown + 0.2)
            return;
        shown = seconds;
        std::fprintf(stderr, "\rpaths %d/%d%s, %.0f steps/s, %.3g ns/day", done, total, failed > 0 ? (" (" + std::to_string(failed) + " failed)").c_str() : "", stepsDone / seconds,
                     stepsDone / seconds * 86400 * stepSize / 1000);
        if (done > earlier)
            std::fprintf(stderr, ", %.3g paths/s, %.0f s to go   ", (done - earlier) / seconds, seconds / (done - earlier) * (total - done));
    }

private:
    bool show;
    int total, earlier, done, failed = 0;
    double stepSize, shown = 0;
    long long stepsDone = 0;
    std::chrono::steady_clock::time_point begun;
};

}  // namespace

int runSample(const vector<string>& words) {
    po::options_description options("Sampling");
    options.add_options()("system", po::value<string>(), "System, XML of OpenMM's XmlSerializer")("state", po::value<string>(), "State to start from, XML")(
        "curve", po::value<string>(), "curve file; without it the System must hold a SpacetimeForce")(
        "integrator", po::value<string>(), "Integrator, XML (LangevinMiddle, 1/ps, 2 fs)")("out", po::value<string>(), "folder for the paths")(
        "paths", po::value<string>(), "number of paths (20)")("steps", po::value<string>(), "time steps along the curve (16000)")(
        "steps-per-length", po::value<string>(),
        "time steps for each unit of the curve's Fisher-Rao length, instead of --steps")("length", po::value<string>(), "Fisher-Rao length of the curve (that of the curve file)")(
        "steps-per-move", po::value<string>(), "time steps between two moves of the bias (1)")("equilibration", po::value<string>(),
                                                                                               "time steps before and after the curve (1000)")(
        "frame-stride", po::value<string>(), "steps between two frames; 0: the last one only (0)")("energy-stride", po::value<string>(),
                                                                                                   "steps between two potential energies in the record; 0: none (0)")(
        "platform", po::value<string>(), "Reference, CPU, CUDA, OpenCL or HIP; must be named")("properties", po::value<string>(), "of the platform, NAME=VALUE,NAME=VALUE")(
        "temperature", po::value<string>(), "K (that of the curve)")("seed", po::value<string>(), "of everything random (1)")(
        "backward", "from s = 1 to s = 0; the state belongs to s = 1")("equilibrate",
                                                                       "bring the state to the start of the curve first: for 5,000 steps the bias grows from nothing")(
        "max-start-distance", po::value<string>(), "farther than so many widths from the bias no path starts (5)")(
        "topology", po::value<string>(), "PDB file, copied beside the trajectories")("resume", "go on with the run in the folder")("retry-failed",
                                                                                                                                   "with --resume: failed paths as well");
    const CommandLine line("sample --system system.xml --state state.xml --curve curve.json --platform NAME --out DIR [options]", options, "", words);
    if (line.helped())
        return 0;
    const string out = line.require("out"), platformName = line.require("platform");
    if (line.has("resume") && line.overwrite())
        throw std::invalid_argument("give --resume or --overwrite, not both");
    if (line.has("steps") && line.has("steps-per-length"))
        throw std::invalid_argument("give --steps or --steps-per-length, not both");
    if (line.has("retry-failed") && !line.has("resume"))
        throw std::invalid_argument("--retry-failed goes with --resume");
    const int numPaths = line.integer("paths", 20, 1), seed = line.integer("seed", 1, 0), stepsPerMove = line.integer("steps-per-move", 1, 1);
    const string systemFile = line.require("system"), stateFile = line.require("state"), systemText = readFile(systemFile), stateText = readFile(stateFile);
    const string topology = line.has("topology") ? readFile(line.text("topology")) : "";
    loadPlugins();

    // What is to be run.
    const auto system = readXml<System>(systemText, "System", "system", systemFile);
    const auto state = readXml<State>(stateText, "State", "state", stateFile);
    SpacetimeForce* force = nullptr;
    for (int i = 0; i < system->getNumForces(); i++)
        if (auto* found = dynamic_cast<SpacetimeForce*>(&system->getForce(i))) {
            if (force != nullptr || line.has("curve"))
                throw std::invalid_argument(line.has("curve") ? "--curve: '" + systemFile + "' holds a SpacetimeForce already; leave --curve away to use it"
                                                              : "--system: '" + systemFile + "' holds several SpacetimeForces; expected one");
            force = found;
        }
    double length = std::numeric_limits<double>::quiet_NaN();
    if (line.has("curve")) {
        const Curve curve = Curve::load(line.text("curve"));
        const double temperature = line.number("temperature", curve.temperature);
        if (!(temperature > 0))
            throw std::invalid_argument("--temperature is needed: the curve knows none");
        length = curve.length;
        force = makeForce(curve, temperature);
        system->addForce(force);
    }
    else if (force == nullptr)
        throw std::invalid_argument("--curve is needed: '" + systemFile + "' holds no SpacetimeForce (see --help)");
    else if (line.has("temperature"))
        throw std::invalid_argument("--temperature goes with --curve; the SpacetimeForce in '" + systemFile + "' has its own");
    length = line.number("length", length);
    const double temperature = force->getTemperature();
    std::unique_ptr<Integrator> integrator;
    if (line.has("integrator"))
        integrator = readXml<Integrator>(readFile(line.text("integrator")), "Integrator", "integrator", line.text("integrator"));
    else
        integrator = std::make_unique<LangevinMiddleIntegrator>(temperature, 1.0, 0.002);
    visit<BrownianIntegrator, LangevinIntegrator, LangevinMiddleIntegrator, VariableLangevinIntegrator>(*integrator, [&](auto& bath) {
        if (std::fabs(bath.getTemperature() - temperature) > 1e-6 * temperature)
            throw std::invalid_argument("--integrator runs at " + Spacetime::text(bath.getTemperature()) + " K, but the curve was made for " + Spacetime::text(temperature) +
                                        " K; the tilted distribution is sampled only when they agree");
    });
    int steps = line.integer("steps", 16000, 1);
    if (line.has("steps-per-length")) {
        if (!std::isfinite(length))
            throw std::invalid_argument("--length is needed: the curve's length is not known");
        steps = PathSampler::stepsForLength(line.number("steps-per-length", 0), length, stepsPerMove);
    }
    PathSampler sampler(*force, steps);
    sampler.setStepsPerMove(stepsPerMove);
    sampler.setNumEquilibrationSteps(line.integer("equilibration", 1000, 0));
    sampler.setFrameStride(line.integer("frame-stride", 0, 0));
    sampler.setEnergyStride(line.integer("energy-stride", 0, 0));
    sampler.setBackward(line.has("backward"));
    sampler.setMaxStartDistance(line.number("max-start-distance", 5));
    if (steps % stepsPerMove != 0)
        throw std::invalid_argument("--steps must be a multiple of --steps-per-move, but " + std::to_string(steps) + " is not a multiple of " + std::to_string(stepsPerMove));
    std::map<string, string> properties;
    for (const string& property : split(line.text("properties"), ',')) {
        const size_t equals = property.find('=');
        if (equals == string::npos)
            throw std::invalid_argument("--properties: expected NAME=VALUE, got '" + property + "'");
        properties[property.substr(0, equals)] = property.substr(equals + 1);
    }

    // The seeds of this System and Integrator say nothing: every path sets its own.
    setSeeds(*system, *integrator, 0);
    const string everything = toXml(*system, "System") + toXml(*integrator, "Integrator") + toXml(*state, "State");
    Context context(*system, *integrator, Platform::getPlatformByName(platformName), properties);
    context.setState(*state);
    if (line.has("equilibrate"))
        sampler.setNumPullSteps(PullSteps);
    else
        sampler.checkStart(context);
    const vector<double>&s = force->getS(), &eta = force->getEta();
    json nodes = json::array();
    for (size_t i = 0; i < s.size(); i++)
        nodes.push_back(vector<double>(eta.begin() + i * (eta.size() / s.size()), eta.begin() + (i + 1) * (eta.size() / s.size())));
    const json head = {{"format", "spacetime-paths"},
                       {"version", 2},
                       {"variables", describeVariables(*force)},
                       {"temperature_K", temperature},
                       {"platform", platformName},
                       {"openmm", Platform::getOpenMMVersion()},
                       {"s", s},
                       {"eta", nodes},
                       {"digest", crc32(0, reinterpret_cast<const Bytef*>(everything.data()), everything.size())},
                       {"settings",
                        {{"steps", steps},
                         {"stepsPerMove", stepsPerMove},
                         {"equilibrationSteps", sampler.getNumEquilibrationSteps()},
                         {"frameStride", sampler.getFrameStride()},
                         {"energyStride", sampler.getEnergyStride()},
                         {"seed", seed},
                         {"direction", sampler.isBackward() ? "backward" : "forward"},
                         {"pullSteps", sampler.getNumPullSteps()},
                         {"maxStartDistance", sampler.getMaxStartDistance()},
                         {"format", "dcd"},
                         {"length", std::isfinite(length) ? json(length) : json(nullptr)}}}};
    const PathDirectory directory(out, head, line.has("resume"), line.overwrite());
    if (!topology.empty())
        writeFile(out + "/topology.pdb", topology, true);
    if (line.has("retry-failed"))
        directory.forgetFailures();

    // Centre of the state at the end, where every variable is a torsion.
    vector<double> target;
    const vector<double> end = force->evaluateEta(sampler.isBackward() ? 0.0 : 1.0);
    for (int i = 0; i < force->getNumVariables() && force->getVariableType(i) == SpacetimeForce::Torsion; i++)
        target.push_back(std::atan2(end[2 * i + 1], end[2 * i]));
    const bool knowsTarget = static_cast<int>(target.size()) == force->getNumVariables();

    vector<int> missing;
    for (int i = 0; i < numPaths; i++)
        if (!directory.isDone(i))
            missing.push_back(i);
    bool isInterrupted = false;
    {
        const InterruptGuard guard;
        Report report(line, numPaths, numPaths - static_cast<int>(missing.size()), integrator->getStepSize());
        for (int index : missing) {
            const auto begin = std::chrono::steady_clock::now();
            auto seconds = [&] { return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count(); };
            const PathSeeds seeds = pathSeeds(seed, index);
            DcdFile trajectory(directory.file(index, ".dcd"), system->getNumParticles(), system->usesPeriodicBoundaryConditions(), integrator->getStepSize(),
                               std::max(1, sampler.getFrameStride()),
                               "Path " + std::to_string(index) + ", seed " + std::to_string(seeds.dynamics) + ", written by openmm-spacetime");
            vector<int> frameSteps;
            vector<double> frameEnergy, frameBias;
            bool hasBegun = false;
            try {
                setSeeds(*system, *integrator, seeds.dynamics);
                context.reinitialize();
                context.setState(*state);
                context.setTime(0);
                context.setStepCount(0);
                context.setVelocitiesToTemperature(temperature, seeds.velocities);
                sampler.begin(context);
                hasBegun = true;
                for (bool more = true; more && !isInterrupted;) {
                    const long long before = sampler.getNumStepsDone();
                    more = sampler.advance(Chunk);
                    const size_t count = sampler.getFrameSteps().size();
                    for (size_t i = 0; i < count; i++)
                        trajectory.write(&sampler.getFrames()[3 * i * sampler.getNumParticles()], &sampler.getBoxVectors()[9 * i]);
                    frameSteps.insert(frameSteps.end(), sampler.getFrameSteps().begin(), sampler.getFrameSteps().end());
                    frameEnergy.insert(frameEnergy.end(), sampler.getFrameEnergy().begin(), sampler.getFrameEnergy().end());
                    frameBias.insert(frameBias.end(), sampler.getFrameBias().begin(), sampler.getFrameBias().end());
                    sampler.clearFrames();
                    report.steps(sampler.getNumStepsDone() - before);
                    isInterrupted = InterruptGuard::interrupted();
                }
            }
            catch (const OpenMMException& e) {
                directory.writeFailure(index, seeds.dynamics, hasBegun ? sampler.getNumStepsDone() : 0, context.getParameter(force->getParameterName()), e.what(), seconds());
                report.path(true);
                continue;
            }
            if (sampler.getNumStepsDone() < sampler.getNumStepsTotal())
                break;
            double distance = 0;
            for (size_t i = 0; i < target.size(); i++)
                distance += std::pow(std::remainder(sampler.getVariables()[sampler.getVariables().size() - target.size() + i] - target[i], 2 * M_PI), 2);
            trajectory.publish();
            directory.writePath(index, seeds.dynamics, sampler, frameSteps, frameEnergy, frameBias, seconds(), knowsTarget ? std::sqrt(distance) <= 0.75 : -1);
            report.path(false);
            if (isInterrupted)
                break;
        }
    }
    const auto [complete, failed] = directory.writeIndex();
    if (line.json())
        std::cout << json{{"folder", out}, {"paths", numPaths}, {"complete", complete}, {"failed", failed}, {"steps", steps}, {"interrupted", isInterrupted}}.dump() << "\n";
    else
        std::printf("%s: %d of %d paths of %d steps complete; a row a path in paths.csv, a row a frame in index.csv\n", out.c_str(), complete, numPaths, steps);
    if (failed > 0)
        std::fprintf(stderr, "spacetime sample: %d of %d paths failed; paths.csv says why, --resume --retry-failed tries them again\n", failed, numPaths);
    if (isInterrupted)
        std::fprintf(stderr, "spacetime sample: interrupted; --resume goes on\n");
    return complete == numPaths ? 0 : 1;
}

}  // namespace Spacetime
