// SPDX-License-Identifier: MIT
#pragma once

namespace Spacetime {

// What the files of all trained models share, and how strictly their range is kept.

inline constexpr const char* ModelFormat = "spacetime-model";
inline constexpr int ModelVersion = 1;
/// Ends of a curve are asked for at the very edge of the range: rounding must not refuse them.
inline constexpr double LogSnrTolerance = 1e-6;
/// Unlifted centres may leave the range of the data by this share of its width (training goes as far).
inline constexpr double RangeMargin = 0.1;

}  // namespace Spacetime
