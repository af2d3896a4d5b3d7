// SPDX-License-Identifier: MIT
#pragma once

#include "spacetime/Models.h"
#include <string>

namespace Spacetime {

/// Weighted samples as read from .npz, .npy or .csv.
struct Samples {
    Eigen::MatrixXd raw;         ///< [n x K], one column per sample
    Eigen::VectorXd logWeights;  ///< [K] or empty
    Variables variables;         ///< empty where the file names none
    bool grid = false;
};

/// Throws std::invalid_argument naming the file, what was expected and what came.
Samples readSamples(const std::string& path);

}  // namespace Spacetime
