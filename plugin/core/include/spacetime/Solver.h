// SPDX-License-Identifier: MIT
#pragma once

#include "spacetime/Curve.h"
#include <functional>

namespace Spacetime {

struct GeodesicOptions {
    int numPoints = 129;
    double tolerance = 1e-6;      ///< on the Newton decrement relative to the energy
    int maxIterations = 200;      ///< on the finest level; coarse ones stop at 50
    double minLogSnr = -std::numeric_limits<double>::infinity();  ///< bound on log-SNR (unlifted) and on log kappa (lifted)
    double minKappa = 0;          ///< bound on kappa of every lifted variable; the stronger of the two holds
    /// w of the conformal metric e^(2 w psi*) ds_FR^2, psi* = eta·mu - psi = KL(p(.|z) || q) in nats: above 0 the curve goes round
    /// free-energy barriers that Fisher-Rao length does not see. Its nodes are then respaced to equal Fisher-Rao length.
    double barrierWeight = 0;
    enum class Route { Shortest, Lowest } route = Route::Shortest;
    std::function<bool(double fraction)> progress;  ///< fraction done, or -1 where unknown; return false to stop: the best curve so far is returned
};

struct GeodesicResult {
    Curve curve;
    CurveMeasure measure;
    std::vector<int> windings;    ///< whole turns added per variable to the short way round (0 for unlifted ones)
    double maxFreeEnergy = 0;     ///< highest psi*(mu) - psi*(mu_0) along the curve, in kT
    double conformalLength = 0;   ///< length in the metric that was minimised; the Fisher-Rao length where barrierWeight is 0
    double residual = 0;          ///< relative Newton decrement at the last step
    bool converged = false;
    int iterations = 0;
    long evaluations = 0;         ///< model points evaluated
    double seconds = 0;           ///< solver alone
};

/// Shortest curve between two natural parameters, in the conformal metric: every winding round the torus, best first.
/// Throws std::invalid_argument for end points outside the model's range or below the bounds.
std::vector<GeodesicResult> geodesic(const PosteriorModel& model, const Eigen::VectorXd& etaA, const Eigen::VectorXd& etaB,
                                     const GeodesicOptions& options);

}  // namespace Spacetime
