// SPDX-License-Identifier: MIT
#pragma once

#include "CommandLine.h"
#include "spacetime/Curve.h"

namespace Spacetime {

/// Models of 64 unlifted variables or more: pictures, latents. No covariance of theirs is written down; geodesic, distance and measure take the solver
/// without matrices.
bool isLarge(const PosteriorModel& model);

/// --encode, --flow-steps, --resize, --probes, --measure-probes, --batch, which count for large models alone.
boost::program_options::options_description largeOptions();

/// The commands for large models, from where the model is open.
int largeGeodesic(const CommandLine& line, const PosteriorModel& model, const std::string& out);
int largeDistance(const CommandLine& line, const PosteriorModel& model);
int largeMeasure(const CommandLine& line, const PosteriorModel& model, const Curve& curve);

}  // namespace Spacetime
