// SPDX-License-Identifier: MIT
#pragma once

#include "Starts.h"

namespace Spacetime {

/// Tolerance on the decrement of a level that only prepares the next one.
inline constexpr double CoarseTolerance = 1e-3;

/// The solutions of one winding from all its starts, and the best margin of each constraint where no start met it.
struct WindingResult {
    std::vector<GeodesicResult> results;
    Eigen::VectorXd missing;  // empty, or [constraints] the least that was missing
};

/// Solves one winding from all its starts. `givenStart` [m x any] is a curve to start from in their place, or empty.
WindingResult solveWinding(Task& task, const std::vector<int>& windings, const Eigen::MatrixXd& givenStart);

}  // namespace Spacetime
