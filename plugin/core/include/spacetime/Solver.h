// SPDX-License-Identifier: MIT
#pragma once

#include "spacetime/Curve.h"
#include <functional>
#include <nlohmann/json_fwd.hpp>

namespace Spacetime {

/// A region of spacetime to stay out of: KL(p(.|eta) || p(.|z)) >= nats for every point z of the curve.
struct Region {
    Eigen::VectorXd eta;  ///< natural parameter of its centre
    double nats = 0;
};

struct GeodesicOptions {
    int numPoints = 129;
    double tolerance = 1e-6;                                      ///< on the Newton decrement relative to the energy; 5e-6 beside constraints, whose barrier counts for 1e-4 in it
    int maxIterations = 200;                                      ///< on the finest level; coarse ones stop at 50
    double minLogSnr = -std::numeric_limits<double>::infinity();  ///< bound on log-SNR (unlifted) and on log kappa (lifted)
    double minKappa = 0;                                          ///< bound on kappa of every lifted variable; the stronger of the two holds
    /// Bound on tr Cov[c|z] of the lifted, scaled variables: keeps the posterior in one piece, which a bound on kappa does not.
    double maxVariance = std::numeric_limits<double>::infinity();
    std::vector<Region> avoid;
    /// Bound on psi*(mu) - psi*(mu of the start) in kT, asked of the converged curve: a polish.
    double maxFreeEnergy = std::numeric_limits<double>::infinity();
    /// The penalty of arXiv:2505.17517 for low variance: weight times the mean of softplus_10(penaltyLogSnr - l) is added to the energy.
    double penaltyLogSnr = 3, penaltyWeight = 0;
    /// w of the conformal metric e^(2 w psi*) ds_FR^2, psi* = eta·mu - psi = KL(p(.|z) || q) in nats: above 0 the curve goes round
    /// free-energy barriers that Fisher-Rao length does not see. Its nodes are then respaced to equal Fisher-Rao length.
    double barrierWeight = 0;
    enum class Route { Shortest, Lowest } route = Route::Shortest;
    /// Starts of every winding; 0 takes one, and five where regions are to be avoided. Beyond these they are drawn with `seed`.
    int numStarts = 0;
    unsigned seed = 1;
    /// [m x any] natural parameters of a curve to start from, in place of all other starts; its ends are replaced by the ends asked for.
    Eigen::MatrixXd start;
    int threads = 1;                                ///< windings and starts, or pairs of a batch, solved at the same time; 0 for all cores
    std::function<bool(double fraction)> progress;  ///< fraction done, or -1 where unknown; return false to stop: the best curve so far is returned
};

/// What one constraint came to along a curve, at four points a segment.
struct ConstraintValue {
    std::string name;
    double bound = 0;
    bool isUpper = true;   ///< false where the value must stay above its bound
    double extreme = 0;    ///< the value that comes closest to the bound, or goes furthest beyond it
    double s = 0;          ///< where that is
    double violation = 0;  ///< relative to the bound, 0 where it holds
};

struct GeodesicResult {
    Curve curve;
    CurveMeasure measure;
    std::vector<int> windings;   ///< whole turns added per variable to the short way round (0 for unlifted ones)
    int start = 0;               ///< which start it came from
    double maxFreeEnergy = 0;    ///< highest psi*(mu) - psi*(mu_0) along the curve, in kT
    double conformalLength = 0;  ///< length in the metric that was minimised; the Fisher-Rao length where barrierWeight is 0
    double residual = 0;         ///< relative Newton decrement at the last step
    double lengthDoubled = 0;    ///< length of the same curve by twice as many segments
    std::vector<ConstraintValue> constraints;
    /// Newton decrement below the tolerance, |lengthDoubled/length - 1| and every violation below 1e-2.
    bool converged = false;
    int iterations = 0;
    long evaluations = 0;  ///< model points evaluated
    double seconds = 0;    ///< solver alone
};

/// {"name", "at_least" or "at_most", "extreme", "s", "violation"} of each.
nlohmann::json toJson(const std::vector<ConstraintValue>& constraints);

/// Shortest curve between two natural parameters, in the conformal metric: every winding round the torus and every distinct minimum
/// that the starts led to, best first. Throws std::invalid_argument for end points outside the model's range, below the bounds or beyond
/// a constraint, and where a constraint cannot be met on any winding from any start.
std::vector<GeodesicResult> geodesic(const PosteriorModel& model, const Eigen::VectorXd& etaA, const Eigen::VectorXd& etaB, const GeodesicOptions& options);

/// One pair of a batch: its geodesics as above, or why there are none.
struct BatchResult {
    std::vector<GeodesicResult> results;
    std::string error;
    bool same = false;  ///< both ends are one point to rounding: no curve joins them, and their distance is 0
};

/// Geodesics between the columns of two matrices of natural parameters [m x pairs], options.threads of them at a time.
/// Bad pairs do not stop the others. `progress` gets the share of pairs done.
std::vector<BatchResult> geodesicBatch(const PosteriorModel& model, const Eigen::MatrixXd& etaA, const Eigen::MatrixXd& etaB, const GeodesicOptions& options);

/// Values of the conditions of `options` along a curve, at four points a segment.
std::vector<ConstraintValue> constraintValues(const PosteriorModel& model, const Curve& curve, const GeodesicOptions& options);

}  // namespace Spacetime
