// SPDX-License-Identifier: MIT
#pragma once

#include <string>
#include <vector>

namespace Spacetime {

/// Each takes the words after the command's name and returns the exit code; bad input is thrown.
int runTrain(const std::vector<std::string>& words);
int runGeodesic(const std::vector<std::string>& words);
int runDistance(const std::vector<std::string>& words);
int runSample(const std::vector<std::string>& words);
int runMeasure(const std::vector<std::string>& words);
int runEncode(const std::vector<std::string>& words);
int runDecode(const std::vector<std::string>& words);
/// density geodesic, extrapolate, profile and sequence.
int runDensity(const std::vector<std::string>& words);
int runInfo(const std::vector<std::string>& words);

}  // namespace Spacetime
