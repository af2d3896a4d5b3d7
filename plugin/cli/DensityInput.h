// SPDX-License-Identifier: MIT
#pragma once

#include "CommandLine.h"
#include "spacetime/DensityPath.h"

namespace Spacetime {

/// --log-snr, --tau, --guide, --weight, --draws, --seed, --temperature.
boost::program_options::options_description densityOptions();

/// The model's density at --log-snr, or its weighted sum with the guides.
struct Density {
    std::vector<std::unique_ptr<PosteriorModel>> models;
    std::vector<std::unique_ptr<ModelDensity>> fields;
    std::unique_ptr<GuidedDensity> sum;
    double kT = 0;  ///< kJ/mol; 0 where no temperature is known

    /// That of the model itself, which gives the coordinates.
    const ModelDensity& own() const { return *fields[0]; }
    const Variables& variables() const { return own().variables(); }
    const DensityField& field() const { return sum ? static_cast<const DensityField&>(*sum) : own(); }
};
Density openDensity(const CommandLine& line);

/// Coordinates of --name: "a,b,..." in raw units, or "@FILE" that holds one point.
Eigen::VectorXd readPoint(const CommandLine& line, const std::string& name, const Density& density);

/// Nodes of --name: a saved density path, or points in raw units. Steps of periodic points go the short way round.
struct GivenPath {
    Eigen::MatrixXd x;
    double tau = 1;
    bool sphere = false;
};
GivenPath readPath(const CommandLine& line, const std::string& name, const Density& density);

/// --points, --tolerance, --iterations, --start, --sphere, --starts, --averaged-steps, and --windings where there is a choice.
boost::program_options::options_description geodesicOptions(bool withWindings = true);
/// Reads them, --tau and --seed.
DensityGeodesicOptions readGeodesicOptions(const CommandLine& line, const Density& density);

}  // namespace Spacetime
