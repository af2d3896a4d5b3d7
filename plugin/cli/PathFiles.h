// SPDX-License-Identifier: MIT
#pragma once

#include "openmmspacetime/PathSampler.h"
#include <cstdint>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace Spacetime {

/// The seeds of a path's dynamics and velocities. Those of the Python package: numpy's SeedSequence([seed, index]).
struct PathSeeds {
    int dynamics, velocities;
};
PathSeeds pathSeeds(std::uint32_t seed, std::uint32_t index);

/// A number as Python's repr() writes it: the shortest that reads back the same.
std::string repr(double value);

/// A trajectory in CHARMM's DCD format, under a temporary name until publish().
class DcdFile {
public:
    DcdFile(const std::string& path, int numParticles, bool isPeriodic, double stepSize, int interval, const std::string& title);
    /// Deletes what was not published.
    ~DcdFile();
    /// x, y, z of each particle in nm, and three box vectors.
    void write(const float* positions, const double* box);
    void publish();

private:
    void put(const void* data, size_t bytes);
    std::string path, temporary;
    int numParticles, interval, numFrames = 0;
    bool isPeriodic;
    std::ofstream out;
};

/// What there is to know about the variables of a force, as ensemble.json has it.
nlohmann::json describeVariables(const SpacetimePlugin::SpacetimeForce& force);

/**
 * The directory of a run, with the files that the Python package writes: path-0000.dcd, .csv and .npz of each path, index.csv, paths.csv, ensemble.json.
 */
class PathDirectory {
public:
    /// `isResumed`: keep complete paths of the same run. `overwrite`: remove what another run left.
    PathDirectory(const std::string& path, const nlohmann::json& head, bool isResumed, bool overwrite);

    /// Whether a path is complete or has failed.
    bool isDone(int index) const;
    void forgetFailures() const;
    std::string file(int index, const std::string& suffix) const;
    /// The index rows and the record of a path that has been run, the record last. `hit`: 1, 0, or -1 where it is not known.
    void writePath(int index, int seed, const SpacetimePlugin::PathSampler& sampler, const std::vector<int>& frameSteps, const std::vector<double>& frameEnergy,
                   const std::vector<double>& frameBias, double seconds, int hit) const;
    void writeFailure(int index, int seed, long long step, double s, const std::string& message, double seconds) const;
    /// index.csv and paths.csv from what is complete. Returns the number of complete and of failed paths.
    std::pair<int, int> writeIndex() const;

private:
    std::vector<std::string> names;
    std::string path;
    int stepsPerMove;
};

}  // namespace Spacetime
