// SPDX-License-Identifier: MIT
#pragma once

#include "spacetime/Models.h"
#include <memory>
#include <string>

namespace Spacetime {

/// Whole file as bytes. Throws std::invalid_argument where it cannot be read.
std::string readFile(const std::string& path);

/// Writes beside the target and renames, so that a crash leaves either the old file or the new one.
/// Throws std::invalid_argument where the file exists and must not be overwritten, std::runtime_error where it cannot be written.
void writeFile(const std::string& path, const std::string& bytes, bool overwrite);

/// Writes the columns of a matrix [n x K] as the rows of an .npy array [K, n] of doubles. Throws as writeFile.
void writeNpy(const std::string& path, const Eigen::MatrixXd& columns, bool overwrite);

/// Gaussian mixture from JSON {"means":[[..]],"variances":[..],"weights":[..]}.
std::unique_ptr<GaussianMixtureModel> readMixture(const std::string& path);

}  // namespace Spacetime
