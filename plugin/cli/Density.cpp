// SPDX-License-Identifier: MIT
#include "Commands.h"
#include "DensityInput.h"
#include "spacetime/Files.h"
#include "spacetime/Text.h"
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <iostream>

namespace po = boost::program_options;
using Eigen::MatrixXd;
using Eigen::VectorXd;
using nlohmann::json;

namespace Spacetime {

namespace {

/// -0.0000 is not worth a minus sign in a table.
double rounded(double value) { return std::abs(value) < 5e-5 ? 0.0 : value; }

double lowest(const DensityPath& path) { return path.logDensity.minCoeff(); }

/// [N+1] Share of the Euclidean length at every node.
VectorXd arcLength(const MatrixXd& x) {
    VectorXd s = VectorXd::Zero(x.cols());
    for (Eigen::Index i = 1; i < x.cols(); i++)
        s[i] = s[i - 1] + (x.col(i) - x.col(i - 1)).norm();
    return s / s[s.size() - 1];
}

/// What a path's file says, without the nodes; without the solver's figures where no solver made it.
json figures(const DensityPath& path, const Density& density, bool isSolution) {
    json j = toJson(path, density.own());
    for (const char* key : {"format", "version", "variables", "path", "log_density"})
        j.erase(key);
    if (!isSolution)
        for (const char* key : {"converged", "iterations", "seconds", "max_speed_error"})
            j.erase(key);
    j["lowest_log_density"] = lowest(path);
    j["barrier_kJ_mol"] = density.kT > 0 ? json(-density.kT * lowest(path)) : json(nullptr);
    return j;
}

/// A header and the columns of a matrix as rows, with every digit.
std::string csv(const std::vector<std::string>& names, const MatrixXd& columns) {
    std::string table;
    for (const std::string& name : names)
        table += (table.empty() ? "" : ",") + name;
    table += "\n";
    for (Eigen::Index k = 0; k < columns.cols(); k++)
        for (Eigen::Index i = 0; i < columns.rows(); i++)
            table += json(columns(i, k)).dump() + (i + 1 < columns.rows() ? "," : "\n");
    return table;
}

/// s, raw coordinates and relative log p of every node, as columns.
MatrixXd profileColumns(const DensityPath& path, const Density& density) {
    MatrixXd columns(density.variables().size() + 2, path.x.cols());
    columns << arcLength(path.x).transpose(), density.own().raw(path.x), path.logDensity.transpose();
    return columns;
}

/// --out, whose ending must be one of `endings`; nothing may be in the way of it and of `copies` numbered files beside it.
std::string checkedOut(const CommandLine& line, const std::vector<std::string>& endings, int copies = 0) {
    const std::string out = line.require("out");
    std::string expected;
    for (const std::string& ending : endings)
        expected += (expected.empty() ? "" : " or ") + ending;
    if (std::none_of(endings.begin(), endings.end(), [&](const std::string& ending) { return endsWith(out, ending); }))
        throw std::invalid_argument("--out: expected a name that ends in " + expected + ", got '" + out + "'");
    for (int i = 0; i <= copies; i++)
        checkOutput(windingFile(out, i), line.overwrite());
    return out;
}

void writePath(const std::string& out, const DensityPath& path, const Density& density, bool overwrite) {
    if (endsWith(out, ".npy"))
        writeNpy(out, density.own().raw(path.x), overwrite);
    else if (endsWith(out, ".csv"))
        writeFile(out, csv(density.variables().names(), density.own().raw(path.x)), overwrite);
    else
        saveDensityPath(out, path, density.own(), overwrite);
}

int reportOutside(const std::string& command, const std::string& what, const DensityPath& path) {
    if (path.outside.empty())
        return 0;
    std::fprintf(stderr, "spacetime density %s: %s leaves the model's range: %s\n", command.c_str(), what.c_str(), path.outside.c_str());
    return 1;
}

int reportConvergence(const std::string& command, const DensityPath& path, bool isWritten) {
    if (path.converged)
        return 0;
    const bool interrupted = InterruptGuard::interrupted();
    std::fprintf(stderr, "spacetime density %s: the geodesic %s: residual %.1e after %d iterations%s%s\n", command.c_str(), interrupted ? "was interrupted" : "did not converge",
                 path.residual, path.iterations, interrupted ? "" : ", take more --points or --iterations, or a lower --log-snr", isWritten ? "; it was written as it is" : "");
    return 1;
}

/// About 33 nodes to print of `count`, at equal distances.
std::vector<Eigen::Index> shownNodes(Eigen::Index count) {
    const Eigen::Index stride = (count + 30) / 32;
    std::vector<Eigen::Index> nodes;
    for (Eigen::Index i = 0; i < count - 1; i += stride)
        nodes.push_back(i);
    nodes.push_back(count - 1);
    return nodes;
}

void printShown(size_t shown, Eigen::Index count) {
    if (static_cast<Eigen::Index>(shown) < count)
        std::printf("%zu of %ld nodes; --json and --out give all\n", shown, static_cast<long>(count));
}

void printFigures(const DensityPath& path, const Density& density) {
    Eigen::Index where;
    path.logDensity.minCoeff(&where);
    std::printf("length               %.5f in the model's coordinates\nlog distance         %.5f\n", path.length, path.logDistance);
    std::printf("lowest log p         %.4f at s = %.3f", rounded(path.logDensity[where]), arcLength(path.x)[where]);
    if (density.kT > 0)
        std::printf(", a barrier of %.2f kJ/mol", rounded(-density.kT * path.logDensity[where]));
    std::printf("\n");
    if (std::isfinite(path.residual))  // of three nodes or more
        std::printf("residual             %.1e\n", path.residual);
}

const char* const relative = "log p and log distance are relative to the density at the start.\n";

/// A straight line or a great circle between a geodesic's ends, or why it could not be measured.
struct Baseline {
    std::string key, name;
    DensityPath path;
    std::string problem;
};

std::vector<Baseline> measureBaselines(const Density& density, const DensityPath& best, bool withCircle) {
    const VectorXd a = best.x.leftCols(1), b = best.x.rightCols(1);
    const int n = static_cast<int>(best.x.cols());
    std::vector<Baseline> list;
    const auto measure = [&](const std::string& key, const std::string& name, const MatrixXd& x, bool sphere) {
        list.push_back({key, name, {}, ""});
        try {
            list.back().path = measureDensityPath(density.field(), x, best.tau, 1e-4, sphere);
        }
        catch (const std::invalid_argument& e) {  // the geodesic stands all the same
            list.back().problem = e.what();
        }
    };
    measure("lerp", "straight line (LERP)", lerp(a, b, n), false);
    if (withCircle)
        measure("slerp", "great circle (SLERP)", slerp(a, b, n), best.sphere);
    return list;
}

void printGeodesics(const std::vector<DensityPath>& paths, const std::vector<Baseline>& baselines, const Density& density, const std::string& windings) {
    std::vector<std::string> names;
    int width = 20;
    for (const DensityPath& path : paths) {
        const std::string way = windingText(density.variables(), path.windings);
        names.push_back(!windings.empty() ? "turns " + windings : way == "-" ? "geodesic" : way);
        width = std::max(width, static_cast<int>(names.back().size()));
    }
    const bool energies = density.kT > 0;
    std::printf("%-*s %9s %12s %12s%s %9s %9s\n", width, "path", "length", "log distance", "lowest log p", energies ? "   kJ/mol" : "", "residual", "scores");
    const auto print = [&](const std::string& name, const DensityPath& path, const std::string& scores) {
        char energy[32] = "";
        if (energies)
            std::snprintf(energy, sizeof energy, " %8.2f", rounded(-density.kT * lowest(path)));
        std::printf("%-*s %9.4f %12.4f %12.4f%s %9.1e %9s\n", width, name.c_str(), path.length, path.logDistance, rounded(lowest(path)), energy, path.residual, scores.c_str());
    };
    for (size_t i = 0; i < paths.size(); i++)
        print(names[i], paths[i], std::to_string(paths[i].evaluations) + (paths[i].converged ? "" : "  not converged"));
    for (const Baseline& baseline : baselines)
        if (baseline.problem.empty())
            print(baseline.name, baseline.path, "-");
        else
            std::printf("%-*s not measured: %s\n", width, baseline.name.c_str(), baseline.problem.c_str());
    if (paths[0].residualError > 0)
        std::printf("The scores are stochastic: the residual's standard error is %.0e.\n", paths[0].residualError);
    std::printf("%s", relative);
}

int geodesicCommand(const std::vector<std::string>& words) {
    po::options_description options("Ends and output");
    options.add_options()("from", po::value<std::string>(), "start a,b,... (rad, nm), or @FILE.npy|npz|csv with one row")("to", po::value<std::string>(), "end")(
        "out", po::value<std::string>(), "path file to write, path.json; or its nodes alone (rad, nm), path.npy or path.csv");
    options.add(geodesicOptions()).add(densityOptions()).add(modelOptions());
    const CommandLine line("density geodesic MODEL --log-snr L --from a,b --to a,b --out path.json [options]", options, "", words);
    if (line.helped())
        return 0;
    const std::vector<std::string> endings = {".json", ".npy", ".csv"};
    const std::string out = checkedOut(line, endings);
    const Density density = openDensity(line);
    DensityGeodesicOptions o = readGeodesicOptions(line, density);
    const int numPeriodic = density.variables().numLifted();
    if (o.windings.empty() && o.path.size() == 0)  // other windings may follow
        checkedOut(line, endings, numPeriodic <= 4 ? (1 << numPeriodic) - 1 : 0);
    const VectorXd a = readPoint(line, "from", density), b = readPoint(line, "to", density);
    const auto paths = [&] {
        const SolverProgress progress(line);
        o.progress = std::cref(progress);
        return densityGeodesics(density.field(), a, b, o);
    }();

    json list = json::array();
    for (size_t i = 0; i < paths.size(); i++) {
        const std::string file = windingFile(out, i);
        writePath(file, paths[i], density, line.overwrite());
        list.push_back(figures(paths[i], density, true));
        list.back()["file"] = file;
    }
    const DensityPath& best = paths[0];
    const auto baselines = measureBaselines(density, best, o.sphere || o.start == DensityGeodesicOptions::Start::Slerp);
    if (line.json()) {
        json first = list[0];
        list.erase(list.begin());
        first["others"] = list;
        for (const Baseline& baseline : baselines)
            first["baselines"][baseline.key] = baseline.problem.empty() ? figures(baseline.path, density, false) : json{{"error", baseline.problem}};
        std::cout << first.dump() << "\n";
    }
    else {
        printGeodesics(paths, baselines, density, line.text("windings"));
        std::printf("%s: %d points, %.3f s%s\n", out.c_str(), static_cast<int>(best.x.cols()), best.seconds,
                    paths.size() > 1 ? ("; the other ways are in " + windingFile(out, 1) + ", ...").c_str() : "");
    }
    return std::max(reportConvergence("geodesic", best, true), reportOutside("geodesic", "the geodesic", best));
}

int extrapolateCommand(const std::vector<std::string>& words) {
    po::options_description options("Start, direction and output");
    options.add_options()("from", po::value<std::string>(), "start a,b,... (rad, nm), or @FILE.npy|npz|csv with one row")(
        "toward", po::value<std::string>(), "point to set out to, a,b,... or @FILE")("direction", po::value<std::string>(), "or the direction, a,b,... (rad, nm)")(
        "continue", po::value<std::string>(), "or go on from the end of a path, FILE.json|npy|npz|csv, along its last tangent; without --from")(
        "length", po::value<std::string>(), "Euclidean length in the model's coordinates: scaled variables, rad for torsions (the distance of --toward)")(
        "out", po::value<std::string>(), "path file to write, path.json; or its nodes alone (rad, nm), path.npy or path.csv");
    po::options_description integration("Integration");
    integration.add_options()("points", po::value<std::string>(), "nodes of the path (129)")("tolerance", po::value<std::string>(), "of a step, relative to the length (1e-10)")(
        "steps", po::value<std::string>(), "of RK4 between two nodes instead (1 for stochastic scores)")("sphere", "stay on the sphere |x| = const of the start");
    options.add(integration).add(densityOptions()).add(modelOptions());
    const CommandLine line("density extrapolate MODEL --log-snr L --from a,b --toward a,b --out path.json [options]", options, "", words);
    if (line.helped())
        return 0;
    if (line.has("toward") + line.has("direction") + line.has("continue") != 1)
        throw std::invalid_argument("give one of --toward, --direction and --continue");
    if (line.has("continue") == line.has("from"))
        throw std::invalid_argument(line.has("from") ? "--continue starts at the end of its path: leave out --from" : "--from is needed (see --help)");
    if (!line.has("toward"))
        line.require("length");
    const std::string out = checkedOut(line, {".json", ".npy", ".csv"});
    const Density density = openDensity(line);
    const int n = density.variables().size();
    DensityShotOptions o;
    VectorXd x, v;
    o.sphere = line.has("sphere");
    if (line.has("continue")) {
        const GivenPath path = readPath(line, "continue", density);
        if (path.x.cols() < 2)
            throw std::invalid_argument("--continue: expected a path of at least 2 points, got " + std::to_string(path.x.cols()));
        x = path.x.rightCols(1);
        v = unitTangents(path.x).rightCols(1);
        o.tau = path.tau;
        o.sphere |= path.sphere;
    }
    else {
        x = readPoint(line, "from", density);
        if (line.has("toward")) {
            v = readPoint(line, "toward", density) - x;
            const VectorXd periods = density.own().periods();
            for (int i = 0; i < n; i++)  // the short way round
                if (periods[i] > 0)
                    v[i] = std::remainder(v[i], periods[i]);
            o.length = v.norm();
        }
        else
            v = readPoint(line, "direction", density) - density.own().coordinates(VectorXd::Zero(n));
    }
    o.tau = line.number("tau", o.tau);
    o.length = line.number("length", o.length);
    o.numPoints = line.integer("points", o.numPoints, 2);
    o.tolerance = line.number("tolerance", o.tolerance);
    o.steps = line.integer("steps", o.steps, 0);
    const DensityPath path = [&] {
        const SolverProgress progress(line);
        o.progress = std::cref(progress);
        return extrapolateDensity(density.field(), x, v, o);
    }();
    if (path.x.cols() < 2)
        throw std::invalid_argument(path.outside.empty() ? "interrupted before the first node" : "the path leaves the model's range before its first node: " + path.outside);
    writePath(out, path, density, line.overwrite());
    const VectorXd end = density.own().raw(path.x.rightCols(1));
    if (line.json()) {
        json j = figures(path, density, true);
        j.update({{"file", out}, {"end", std::vector<double>(end.data(), end.data() + n)}});
        std::cout << j.dump() << "\n";
    }
    else {
        if (n <= 4)
            std::printf("end                  %s\n", textList(end).c_str());
        std::printf("log p at the end     %.4f\n", path.logDensity[path.logDensity.size() - 1]);
        printFigures(path, density);
        std::printf("error of the speed   %.1e\nscores               %ld\n%s%s: %d points, %.3f s\n", path.maxSpeedError, path.evaluations, relative, out.c_str(),
                    static_cast<int>(path.x.cols()), path.seconds);
    }
    if (path.outside.empty() && !path.converged) {
        std::fprintf(stderr, "spacetime density extrapolate: interrupted at length %g of %g; the path so far was written\n", path.length, o.length);
        return 1;
    }
    return reportOutside("extrapolate", "the path ends where it", path);
}

int profileCommand(const std::vector<std::string>& words) {
    po::options_description options("Profile");
    options.add_options()("path", po::value<std::string>(), "a density path or points (rad, nm), FILE.json|npy|npz|csv")(
        "tolerance", po::value<std::string>(), "of log p between two nodes, nats (1e-4)")("out", po::value<std::string>(),
                                                                                          "file to write: a table, FILE.csv, or a density path, FILE.json");
    options.add(densityOptions()).add(modelOptions());
    const CommandLine line("density profile MODEL --log-snr L --path FILE [options]", options, "", words);
    if (line.helped())
        return 0;
    const std::string out = line.has("out") ? checkedOut(line, {".csv", ".json"}) : "";
    const Density density = openDensity(line);
    const GivenPath given = readPath(line, "path", density);
    const DensityPath path = measureDensityPath(density.field(), given.x, line.number("tau", given.tau), line.number("tolerance", 1e-4), given.sphere);
    const MatrixXd columns = profileColumns(path, density);
    std::vector<std::string> names = density.variables().names();
    const int n = density.variables().size();
    names.insert(names.begin(), "s");
    names.push_back("log_density");
    if (endsWith(out, ".csv"))
        writeFile(out, csv(names, columns), line.overwrite());
    else if (!out.empty())
        saveDensityPath(out, path, density.own(), line.overwrite());
    if (line.json()) {
        json j = figures(path, density, false);
        j["s"] = j["raw"] = j["log_density"] = json::array();
        for (Eigen::Index k = 0; k < columns.cols(); k++) {
            const VectorXd column = columns.col(k);
            j["s"].push_back(column[0]);
            j["raw"].push_back(std::vector<double>(column.data() + 1, column.data() + 1 + n));
            j["log_density"].push_back(column[n + 1]);
        }
        std::cout << j.dump() << "\n";
    }
    else {
        const bool coordinates = n <= 4;
        std::printf("%8s", "s");
        for (int i = 0; coordinates && i < n; i++)
            std::printf(" %14s", (names[i + 1] + (density.variables()[i].unit().empty() ? "" : " " + density.variables()[i].unit())).c_str());
        std::printf(" %12s%s\n", "log p", density.kT > 0 ? "       kJ/mol" : "");
        const auto nodes = shownNodes(columns.cols());
        for (Eigen::Index k : nodes) {
            std::printf("%8.4f", columns(0, k));
            for (int i = 0; coordinates && i < n; i++)
                std::printf(" %14.5f", columns(i + 1, k));
            std::printf(" %12.4f", rounded(columns(n + 1, k)));
            if (density.kT > 0)
                std::printf(" %12.3f", rounded(-density.kT * columns(n + 1, k)));
            std::printf("\n");
        }
        printShown(nodes.size(), columns.cols());
        printFigures(path, density);
        std::printf("%s", relative);
    }
    return reportOutside("profile", "the path", path);
}

int sequenceCommand(const std::vector<std::string>& words) {
    po::options_description options("Sequence");
    options.add_options()("frames", po::value<std::string>(), "the frames in their order (rad, nm), FILE.npy|npz|csv, or a density path, FILE.json")(
        "num-frames", po::value<std::string>(), "frames at equal distances that are analysed (as many as there are)")("out", po::value<std::string>(), "file to write, FILE.json");
    options.add(geodesicOptions(false)).add(densityOptions()).add(modelOptions());
    const CommandLine line("density sequence MODEL --log-snr L --frames FILE [options]", options, "", words);
    if (line.helped())
        return 0;
    const std::string out = line.has("out") ? checkedOut(line, {".json"}) : "";
    const Density density = openDensity(line);
    DensityGeodesicOptions o = readGeodesicOptions(line, density);
    const GivenPath given = readPath(line, "frames", density);
    o.tau = line.number("tau", given.tau);
    o.sphere |= given.sphere;
    const int numFrames = line.has("num-frames") ? line.integer("num-frames", 0, 3) : 0;
    const SequenceAnalysis a = [&] {
        const SolverProgress progress(line);
        o.progress = std::cref(progress);
        return analyzeSequence(density.field(), given.x, numFrames, o);
    }();
    const auto list = [](const VectorXd& v) { return std::vector<double>(v.data(), v.data() + v.size()); };
    const json j = {{"format", "spacetime-density-sequence"},
                    {"version", 1},
                    {"log_snr", density.own().logSnr()},
                    {"tau", o.tau},
                    {"angle", list(a.angle)},
                    {"residual", list(a.residual)},
                    {"best_tau", a.bestTau},
                    {"best_tau_residual", a.bestTauResidual},
                    {"length_ratio", a.lengthRatio},
                    {"distance_ratio", a.distanceRatio},
                    {"frames", toJson(a.frames, density.own())},
                    {"geodesic", toJson(a.geodesic, density.own())},
                    {"line", toJson(a.line, density.own())}};
    if (!out.empty())
        writeFile(out, j.dump(1) + "\n", line.overwrite());
    if (line.json())
        std::cout << j.dump() << "\n";
    else {
        const Eigen::Index count = a.frames.x.cols();
        const VectorXd s = arcLength(a.frames.x);
        const auto nodes = shownNodes(count);
        std::printf("%6s %8s %12s %10s %10s\n", "frame", "s", "log p", "angle", "residual");
        for (Eigen::Index k : nodes) {
            std::printf("%6ld %8.4f %12.4f", static_cast<long>(k), s[k], rounded(a.frames.logDensity[k]));
            if (k > 0 && k < count - 1 && std::isfinite(a.angle[k - 1]))
                std::printf(" %10.2f", a.angle[k - 1]);
            else
                std::printf(" %10s", "-");
            if (k > 0 && k < count - 1)
                std::printf(" %10.1e", a.residual[k - 1]);
            std::printf("\n");
        }
        printShown(nodes.size(), count);
        std::printf("\n%-20s %9s %12s %12s %9s\n", "path", "length", "log distance", "lowest log p", "residual");
        const auto print = [](const char* name, const DensityPath& p) {
            std::printf("%-20s %9.4f %12.4f %12.4f %9.1e\n", name, p.length, p.logDistance, rounded(lowest(p)), p.residual);
        };
        print("sequence", a.frames);
        print("geodesic", a.geodesic);
        print(o.sphere ? "great circle (SLERP)" : "straight line (LERP)", a.line);
        std::printf("%slength ratio         %.5f\ndistance ratio       %.5f\nbest tau             %.4g (residual %.2g)\n"
                    "angle: between the pull of the density and the bending, in degrees; 180 on a geodesic, '-' where\n"
                    "one of the two is nothing. The residual of the best tau is the share of the bending that no tau explains.\n",
                    relative, a.lengthRatio, a.distanceRatio, a.bestTau, a.bestTauResidual);
    }
    return std::max(
        {reportConvergence("sequence", a.geodesic, !out.empty()), reportOutside("sequence", "the sequence", a.frames), reportOutside("sequence", "the geodesic", a.geodesic)});
}

struct Subcommand {
    const char* name;
    int (*run)(const std::vector<std::string>&);
    const char* summary;
};

const Subcommand subcommands[] = {{"geodesic", geodesicCommand, "shortest path between two points in the metric p(x)^(-2 tau): over high density"},
                                  {"extrapolate", extrapolateCommand, "the geodesic that starts at a point in a direction, or goes on from a path's end"},
                                  {"profile", profileCommand, "log p along a path, and how far the path is from a geodesic"},
                                  {"sequence", sequenceCommand, "is a sequence of frames a geodesic? angles, residuals, ratios, the tau that fits best"}};

}  // namespace

int runDensity(const std::vector<std::string>& words) {
    std::string names;
    for (const Subcommand& c : subcommands) {
        if (!words.empty() && words[0] == c.name)
            return c.run({words.begin() + 1, words.end()});
        names += (names.empty() ? "" : c.name == std::string("sequence") ? " or " : ", ") + std::string(c.name);
    }
    if (words.empty() || (words[0] != "--help" && words[0] != "-h"))
        throw std::invalid_argument((words.empty() ? "a subcommand is needed" : "no subcommand '" + words[0] + "'") + ": expected " + names);
    std::cout << "Usage: spacetime density SUBCOMMAND MODEL --log-snr L [options]\n\n"
                 "Probability-density geodesics (arXiv:2504.06675), from the scores of any model at one noise level.\n\n";
    for (const Subcommand& c : subcommands)
        std::printf("  %-12s %s\n", c.name, c.summary);
    std::printf("\nspacetime density SUBCOMMAND --help lists the options of a subcommand. All take --json, --quiet and --overwrite.\n"
                "Exit codes: 0 done; 1 not converged, interrupted, or the path leaves the model's range (the result is\n"
                "written); 2 bad input.\n");
    return 0;
}

}  // namespace Spacetime
