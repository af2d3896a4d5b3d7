// SPDX-License-Identifier: MIT
#pragma once

#include "spacetime/DensityField.h"
#include <functional>
#include <limits>
#include <nlohmann/json_fwd.hpp>

namespace Spacetime {

/**
 * Probability-density geodesics (arXiv:2504.06675): shortest paths in the metric p(x)^(-2 tau) I.
 *
 * A path g with constant Euclidean speed is a geodesic where
 *
 *     g'' + tau |g'|^2 P s(g) = 0,    P = I - g' g'^T/|g'|^2,    s = grad log p,
 *
 * so that it bends towards high density. tau = 1 with p = exp(-F/kT) makes the density distance the integral of exp(F/kT): the path is that of
 * highest flux (MaxFlux; Huo and Straub, J. Chem. Phys. 107, 5000, 1997). With the constraint |x| = R, P also takes out x.
 */
struct DensityPath {
    Eigen::MatrixXd x;  ///< [D x N+1] nodes, unwrapped where coordinates are periodic
    double tau = 1;
    bool sphere = false;
    Eigen::VectorXd logDensity;  ///< [N+1] log p(x_i) - log p(x_0), by the line integral of s·dx along the path
    double length = 0;           ///< Euclidean length of the polyline
    double logDistance = 0;      ///< log of the density distance, ∫ (p/p(x_0))^(-tau) |dx|
    /// Largest |P(x_{i+1} - 2 x_i + x_{i-1}) + tau h^2 P s_i| over the largest |P(...)| + |tau h^2 P s_i|, h = |x_{i+1} - x_{i-1}|/2.
    double residual = std::numeric_limits<double>::quiet_NaN();
    /// Standard error of the residual where the field is stochastic, else 0.
    double residualError = 0;
    double spacing = 0;         ///< longest segment over the mean segment, less 1; neighbours differ by less than 1e-3 where converged
    std::vector<int> windings;  ///< [D] whole turns added to the short way round
    bool converged = false;
    int iterations = 0;    ///< on the finest level
    long evaluations = 0;  ///< scores, all levels and starts
    double seconds = 0;
    double maxSpeedError = 0;  ///< of extrapolated paths: largest ||g'|/|g'(0)| - 1| before it is set right
    /// Where, and why, the path leaves the range in which the model knows its density; empty where it does not.
    std::string outside;
};

struct DensityGeodesicOptions {
    double tau = 1;
    int numPoints = 129;      ///< nodes, at least 5
    double tolerance = 1e-3;  ///< of the residual
    int maxIterations = 500;  ///< on the finest level
    /// Straight, or along the great circle (of linearly changing radius); put out of balance by 2 % of the distance, lest a path stay where it is balanced
    /// between two ways round.
    enum class Start { Lerp, Slerp } start = Start::Lerp;
    Eigen::MatrixXd path;                           ///< [D x any] a path to start from instead; its own winding is solved
    bool sphere = false;                            ///< hold |x| at that of the ends, which must agree to 1e-6; the start is then the great circle
    std::vector<int> windings;                      ///< [D] solve this winding only; empty: the short and the long way of up to four periodic coordinates
    int starts = 1;                                 ///< of every winding: further ones bulge to random sides, and the shortest result counts
    unsigned seed = 1;                              ///< of the sides
    int averagedSteps = 400;                        ///< of a stochastic field, after the path has settled
    std::function<bool(double fraction)> progress;  ///< return false to stop: the best so far is returned, not converged
};

/// All windings, shortest density distance first. Throws std::invalid_argument for identical ends, tau <= 0, ends outside the field's range and other bad
/// input, and where a score is not finite.
std::vector<DensityPath> densityGeodesics(const DensityField& field, const Eigen::VectorXd& a, const Eigen::VectorXd& b, const DensityGeodesicOptions& options);

/// LERP or SLERP between two points as they are (no winding): the null baselines, [D x numPoints].
Eigen::MatrixXd lerp(const Eigen::VectorXd& a, const Eigen::VectorXd& b, int numPoints);
Eigen::MatrixXd slerp(const Eigen::VectorXd& a, const Eigen::VectorXd& b, int numPoints);

/// What there is to know about given nodes [D x N+1], N >= 2: everything in DensityPath but the solver's figures. The line integral between neighbouring
/// nodes is refined until its error is below `tolerance` (nats); infinity takes the trapezoidal rule on the nodes.
DensityPath measureDensityPath(const DensityField& field, const Eigen::MatrixXd& x, double tau, double tolerance = 1e-4, bool sphere = false);

struct DensityShotOptions {
    double tau = 1;
    double length = 1;                              ///< Euclidean
    int numPoints = 129;                            ///< nodes at equal distances, at least 2
    double tolerance = 1e-10;                       ///< of a step of DOP853, relative to the length
    int steps = 0;                                  ///< above 0: so many steps of RK4 between two nodes instead; what stochastic fields get (1 unless set), one draw a step
    bool sphere = false;                            ///< stay on the sphere |x| = |x_0|
    std::function<bool(double fraction)> progress;  ///< return false to stop: what there is so far is returned
};

/// The geodesic that starts at x in the direction v (of any length): the initial-value problem, solved in Euclidean arc length with |g'| = 1 conserved. A path
/// that leaves the field's range ends there, and says so in `outside`. Throws std::invalid_argument for bad input and a start outside the range.
DensityPath extrapolateDensity(const DensityField& field, const Eigen::VectorXd& x, const Eigen::VectorXd& v, const DensityShotOptions& options);

/// Whole turns added so that no periodic coordinate jumps by more than half a turn between neighbouring columns.
Eigen::MatrixXd unwrapped(const DensityField& field, const Eigen::MatrixXd& x);

/// Unit tangents [D x N+1] of nodes at equal distances, by fourth-order differences (second-order below 5 nodes).
Eigen::MatrixXd unitTangents(const Eigen::MatrixXd& x);

/// Is a sequence of points (video frames, a driven path) a geodesic?
struct SequenceAnalysis {
    DensityPath frames;          ///< the sequence at equal distances, and its own profile
    Eigen::VectorXd angle;       ///< [N-1] degrees between P s and P g'' at inner frames: 180 on a geodesic; NaN where the path is straight or no force acts
    Eigen::VectorXd residual;    ///< [N-1] of each inner frame, relative to its own two terms
    double bestTau = 0;          ///< least-squares fit of P g'' + tau |g'|^2 P s = 0; negative where the sequence bends towards low density
    double bestTauResidual = 0;  ///< sum of squares left at bestTau over that at tau = 0: 1 where no tau explains the bending
    DensityPath geodesic;        ///< between its ends, at `tau`
    DensityPath line;            ///< LERP (SLERP on a sphere) between its ends
    double lengthRatio = 0;      ///< Euclidean length of the sequence over that of the geodesic
    double distanceRatio = 0;    ///< density distance of the sequence over that of the geodesic: 1 where it is one
};

/// `frames` [D x K], K >= 3; `numFrames` of them at equal distances are analysed, 0: K. Options are those of the geodesic. Throws std::invalid_argument
/// for bad input; frames may stand still, but not all of them.
SequenceAnalysis analyzeSequence(const DensityField& field, const Eigen::MatrixXd& frames, int numFrames, const DensityGeodesicOptions& options);

/// What a path's file holds beside the figures: {"format": "spacetime-density-path", "version": 1, "variables", "log_snr", "tau", "path": raw nodes, ...}.
struct DensityPathFile {
    Variables variables;
    double logSnr = 0;
    DensityPath path;     ///< its x are coordinates of ModelDensity
    Eigen::MatrixXd raw;  ///< [D x N+1] raw values
};
nlohmann::json toJson(const DensityPath& path, const ModelDensity& field);
void saveDensityPath(const std::string& file, const DensityPath& path, const ModelDensity& field, bool overwrite);
/// Throws std::invalid_argument naming the file, what was expected and what came.
DensityPathFile loadDensityPath(const std::string& file);

}  // namespace Spacetime
