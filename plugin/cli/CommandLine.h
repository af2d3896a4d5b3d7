// SPDX-License-Identifier: MIT
#pragma once

#include "spacetime/Models.h"
#include "spacetime/Solver.h"
#include <boost/program_options.hpp>
#include <csignal>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace Spacetime {

/**
 * Options of one command, parsed and checked. Adds --help, --json, --quiet and --overwrite to what the command declares.
 */
class CommandLine {
public:
    CommandLine(const std::string& usage, const boost::program_options::options_description& options, const std::string& positional, const std::vector<std::string>& words);

    /// --help was given and printed: return 0.
    bool helped() const { return help; }
    bool json() const { return has("json"); }
    bool overwrite() const { return has("overwrite"); }
    /// Progress is shown on stderr at a terminal, unless --quiet.
    bool showProgress() const;
    bool has(const std::string& name) const { return values.count(name) > 0; }
    std::string text(const std::string& name) const;
    /// A required word: its absence is bad input.
    std::string require(const std::string& name) const;
    double number(const std::string& name, double otherwise) const;
    int integer(const std::string& name, int otherwise, int least) const;
    /// "a,b" as numbers.
    std::vector<double> numbers(const std::string& name) const;
    /// Every value of an option that may be given several times.
    std::vector<std::string> all(const std::string& name) const;

private:
    boost::program_options::variables_map values;
    bool help = false;
};

/// --model, --torchscript, --samples, --mixture, --device, --variables, --bandwidth, --euclidean.
boost::program_options::options_description modelOptions();
/// Exactly one of --model, --torchscript, --samples and --mixture. `temperature` (K) is set where the model knows it.
std::unique_ptr<PosteriorModel> openModel(const CommandLine& line, double& temperature);
/// One model file of a kind, "model", "torchscript", "samples" or "mixture". Samples get the variables `known`, where there are any, instead of their own
/// or those of --variables. `temperature` is 0 where the file knows none.
std::unique_ptr<PosteriorModel> openModel(const CommandLine& line, const std::string& kind, const std::string& path, double& temperature, const Variables* known = nullptr);
/// Samples with the variables `known`, or those of --variables or of the file.
std::unique_ptr<EmpiricalModel> openSamples(const CommandLine& line, const std::string& path, const Variables* known = nullptr);

/// Bounds and constraints on every point of a curve: --min-log-snr, --min-kappa, --max-variance, --avoid, --max-free-energy.
boost::program_options::options_description constraintOptions();
/// Reads them into `options`; `temperature` (K, 0 when unknown) turns --max-free-energy into kT.
void readConstraints(const CommandLine& line, const Variables& vars, double temperature, GeodesicOptions& options);

/// Molar gas constant in kJ/mol/K.
inline constexpr double MolarGasConstant = 0.00831446261815324;

/// Ctrl-C sets a flag that long work polls: what was done is kept.
class InterruptGuard {
public:
    InterruptGuard();
    ~InterruptGuard();
    static bool interrupted();

private:
    void (*previous)(int);
};

/// Shows a solver's progress at a terminal for as long as it lives, and tells the solver of Ctrl-C.
class SolverProgress {
public:
    explicit SolverProgress(const CommandLine& line) : show(line.showProgress()) {}
    ~SolverProgress();
    bool operator()(double fraction) const;

private:
    InterruptGuard guard;
    bool show;
};

/// File of the i-th best winding: NAME.json, NAME.w1.json, ...; the same for .npy and .csv.
std::string windingFile(const std::string& out, size_t i);
/// "phi short way, psi long way"; "-" where nothing is periodic.
std::string windingText(const Variables& vars, const std::vector<int>& windings);

/// Variables in an error: as JSON, or how many there are of those of a picture.
std::string describe(const Variables& variables);

bool endsWith(const std::string& s, const std::string& ending);

/// Fails now, not after an hour's work, where the output exists and must not be overwritten.
void checkOutput(const std::string& path, bool overwrite);

}  // namespace Spacetime
