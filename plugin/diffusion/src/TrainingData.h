// SPDX-License-Identifier: MIT
#pragma once

#include "spacetime/Models.h"
#include <functional>
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
 * A fifth has every tilt weak: log-SNR up to one above the minimum of the range, lifted variables uniform in the disc of those kappa,
 * unlifted ones uniform in the logarithm of the precision under the Gaussian prior (from no tilt at all) and in the mean under it,
 * over the range of the data. This is where geodesics without a bound pass.
 *
 * The others: log-SNR uniform in its range, 10 % below it (e^l uniform from 0); for half of them all variables share one, for the
 * rest each lifted variable and the unlifted ones together have their own. Centres: a quarter at samples drawn by weight and a
 * quarter at samples drawn evenly, each moved by 1-6 times the noise that belongs to its log-SNR; half uniform on every
 * circle and over the (widened) range of the unlifted variables, as are unlifted centres that noise took out of that range.
 */
Eigen::MatrixXd drawPoints(const EmpiricalModel& samples, const DrawRange& range, int count, std::mt19937_64& random);

/// Effective sample size at which a point counts half.
const double HalfWeightNEff = 20;

/// The posterior where the data are featureless: flat on every circle, N(mean, variance) along every unlifted variable.
MixtureModel featureless(const Variables& variables, const Eigen::VectorXd& mean, double variance);

/// Rows as described in TorchEntry.h, [count x row length], row-major. Exact moments come from `samples`, by `threads` threads. `progress`
/// (may be empty) is called with the share done and returns false to stop: the result is then empty.
std::vector<float> trainingRows(const EmpiricalModel& samples, const Eigen::MatrixXd& eta, int threads, std::mt19937_64& random, const std::function<bool(double)>& progress);

/// Statistics of the samples [count x M], row-major, drawn with the probability of their weights. Blocks of neighbouring frames are either all
/// among the first numKept or all after them: what is held out has to be more than the neighbour in time of what is trained on.
struct DrawnSamples {
    std::vector<float> rows;
    std::int64_t numKept, numHeldOut;
};
DrawnSamples drawSamples(const EmpiricalModel& samples, std::int64_t count, std::mt19937_64& random);

}  // namespace Spacetime
