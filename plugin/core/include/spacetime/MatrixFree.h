// SPDX-License-Identifier: MIT
#pragma once

#include "spacetime/Curve.h"
#include <functional>
#include <string>
#include <vector>

namespace Spacetime {

/**
 * Lengths and geodesics where the covariance has too many entries to be written down: pictures, latents, hundreds of thousands of coordinates.
 *
 * The model is asked for means and their derivatives along single directions alone (PosteriorModel::products, forward mode). E|d|^2 = |chat|^2 + tr Cov
 * takes the trace by Hutchinson's estimator, tr Cov = E[v·Cov v] over random probes v; only along the chord of the curve, which between two modes
 * carries most of the variance, it is taken exactly. The same probes serve all nodes of a curve, so that their noise cancels in the differences of
 * neighbours that a length is made of; what is left of it is reported as an error.
 * For models whose variables are all unlifted.
 */

/// Length and energy of a curve with standard errors over probes; members are as in CurveMeasure.
struct ProbeMeasure {
    int probes = 0;
    double length = 0, lengthError = 0;
    double energy = 0, energyError = 0;
    double speedGap = 0;
    int negativeEdges = 0;  ///< segments with D eta · D mu < 0 in the mean over probes
    Eigen::VectorXd d;      ///< [N] segment lengths (0 on negative edges)
    Eigen::VectorXd trCov;  ///< [N+1] trace of Cov[c|z]
    Eigen::MatrixXd mean;   ///< [D x N+1] denoised means
    long evaluations = 0;
};

struct ProbeOptions {
    int probes = 16;
    unsigned seed = 1;
    /// Points that go to the model together: 0 chooses a batch; fewer take less memory. The result does not depend on it.
    int batch = 0;
    std::function<bool(double fraction)> progress;  ///< fraction done; return false to stop: std::runtime_error is thrown
};

/// Throws std::invalid_argument for fewer than two points, lifted variables, values that are not finite, and fewer than two probes.
ProbeMeasure measureWithProbes(const PosteriorModel& model, const Eigen::MatrixXd& eta, const ProbeOptions& options = {});

struct MatrixFreeOptions {
    int numPoints = 17;
    double tolerance = 1e-2;  ///< on the residual of the geodesic equation, relative to its terms (see MatrixFreeResult)
    int maxIterations = 100;  ///< on the finest level
    int probes = 1;           ///< a node, in the solver
    int measureProbes = 16;   ///< of the final length, which are drawn anew
    unsigned seed = 1;
    int batch = 0;  ///< as ProbeOptions::batch
    double minLogSnr = -std::numeric_limits<double>::infinity();
    /// A trained denoiser's covariance has negative eigenvalues, to -0.3 noise variances, where a true one has none, and a curve that makes use of them is
    /// as short as one likes. So a share of the noise's own covariance is added to the denoiser's while the curve is found (never in its length):
    /// energy + stiffness sum of p |dm|^2. NaN: none for exact models, 0.1 for others.
    double stiffness = std::numeric_limits<double>::quiet_NaN();
    Eigen::MatrixXd start;                          ///< [m x any] a curve to start from; empty: the half-circle of a flat prior of the effective dimension found on the way
    std::function<bool(double fraction)> progress;  ///< fraction done, or -1 where unknown; return false to stop: the best curve so far is returned
};

struct MatrixFreeResult {
    Curve curve;
    ProbeMeasure measure;
    double residual = 0;
    bool converged = false;
    int iterations = 0;
    long evaluations = 0;  ///< model points evaluated by the solver, with or without a derivative; those of the final measure are in `measure`
    double seconds = 0;    ///< solver alone
    std::string error;     ///< of a pair of a batch: why there is no curve; else empty
};

/// The shortest curve between two natural parameters [m]. Throws std::invalid_argument for end points outside the model's range and lifted variables.
MatrixFreeResult matrixFreeGeodesic(const PosteriorModel& model, const Eigen::VectorXd& etaA, const Eigen::VectorXd& etaB, const MatrixFreeOptions& options = {});

/// Geodesics between the columns of two matrices [m x pairs], all together, so that a model that is fast on many points gets many. Equal ends have the
/// length 0; a bad pair does not stop the others.
std::vector<MatrixFreeResult> matrixFreeGeodesics(const PosteriorModel& model, const Eigen::MatrixXd& etaA, const Eigen::MatrixXd& etaB, const MatrixFreeOptions& options = {});

}  // namespace Spacetime
