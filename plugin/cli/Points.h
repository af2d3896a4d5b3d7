// SPDX-License-Identifier: MIT
#pragma once

#include "CommandLine.h"

namespace Spacetime {

/// Raw values [n] of --name: "a,b,...", or "@FILE" that holds one point: a row of numbers (.npy, .npz, .csv), or a picture for models of pictures, which
/// --resize may bring to the model's size.
Eigen::VectorXd readRawPoint(const CommandLine& line, const std::string& name, const PosteriorModel& model);

}  // namespace Spacetime
