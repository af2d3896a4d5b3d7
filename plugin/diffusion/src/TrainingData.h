// SPDX-License-Identifier: MIT
#pragma once

#include "Features.h"
#include "Prior.h"
#include "spacetime/Models.h"
#include <random>
#include <vector>

namespace Spacetime {

/// Range of log-SNR, and of the scaled unlifted data, in which spacetime points are drawn.
struct DrawRange {
    double minLogSnr, maxLogSnr;
    Eigen::VectorXd low, high;  ///< [numUnlifted]
};

/**
 * Draws spacetime points [m x count] for training, more widely spread than the data's own noisy marginal, because geodesics
 * leave that marginal (they pass between its modes).
 *
 * Log-SNR: uniform in its range, 10 % below it (e^l uniform from 0); for half of the points all variables share one, for the others
 * each lifted variable and the unlifted ones together have their own. Centres: a quarter at samples drawn by weight and a
 * quarter at samples drawn evenly, each moved by 1-6 times the noise that belongs to its log-SNR; half uniform on every
 * circle and over the (widened) range of the unlifted variables, as are unlifted centres that noise took out of that range.
 */
Eigen::MatrixXd drawPoints(const EmpiricalModel& samples, const DrawRange& range, int count, std::mt19937_64& random);

/// Effective sample size at which a point counts half.
const double HalfWeightNEff = 20;

/// Rows as described in TorchEntry.h, [count x row length], row-major. Exact moments come from `samples`, by `threads` threads.
std::vector<float> trainingRows(const EmpiricalModel& samples, const Prior& prior, const Features& features, const Eigen::MatrixXd& eta, int threads,
                                std::mt19937_64& random);

}  // namespace Spacetime
