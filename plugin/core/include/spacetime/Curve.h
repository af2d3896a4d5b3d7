// SPDX-License-Identifier: MIT
#pragma once

#include "spacetime/PosteriorModel.h"
#include <string>

namespace Spacetime {

/// Length, energy and consistency of a discretised curve under a model.
struct CurveMeasure {
    double length = 0;              ///< sum of d_i, d_i^2 = D eta_i · D mu_i
    double energy = 0;              ///< (N/2) sum of d_i^2
    double speedGap = 0;            ///< 2 energy/length^2 - 1
    double lengthExtrapolated = 0;  ///< (4 L_N - L_{N/2})/3; equals length where N is odd
    int negativeEdges = 0;          ///< segments with D eta · D mu < 0: the model is inconsistent there
    double asymmetry = 0;           ///< largest |J - J^T|/|J + J^T| of a node
    double minNEff = std::numeric_limits<double>::quiet_NaN();
    Eigen::VectorXd d;       ///< [N] segment lengths (0 on negative edges)
    Eigen::MatrixXd mu;      ///< [m x N+1]
    Eigen::VectorXd beta_F;  ///< [N+1] psi*(mu) relative to node 0: the information cost of localisation, in kT
    Eigen::VectorXd trCov;   ///< [N+1] trace of Cov of the lifted, scaled variables
    Eigen::VectorXd nEff;    ///< [N+1] or empty
};

/**
 * A path in spacetime: nodes eta_i at s_i, s = Fisher-Rao arc length divided by the total.
 *
 * Between nodes eta(s) is a monotone cubic Hermite interpolant per component (Fritsch-Carlson slopes): C1, and every
 * component stays between the values at the two nodes.
 */
class Curve {
public:
    Curve() = default;
    /// `s` [N+1] increases strictly from 0 to 1; `eta` [m x N+1]. Throws std::invalid_argument otherwise.
    Curve(Variables variables, Eigen::VectorXd s, Eigen::MatrixXd eta);

    const Variables& variables() const { return vars; }
    int numPoints() const { return static_cast<int>(nodesS.size()); }
    const Eigen::VectorXd& s() const { return nodesS; }
    const Eigen::MatrixXd& eta() const { return nodesEta; }

    /// eta(s) [m] and, where asked for, d eta/ds [m]; s is clamped to [0, 1], where clamped the derivative is 0.
    void evaluate(double s, Eigen::VectorXd& eta, Eigen::VectorXd* derivative = nullptr) const;

    /// Nodes re-labelled by equal Fisher-Rao length under `model`, numPoints of them.
    Curve respaced(const PosteriorModel& model, int numPoints) const;

    double temperature = 0;  ///< K; 0 when unknown
    std::string schedule = "vp";
    /// Figures of the solver or of measure(), written to and read from the file. NaN when unknown.
    double energy = nan(), length = nan(), lengthExtrapolated = nan(), speedGap = nan(), residual = nan();

    /// How the solver came to the curve, as JSON text: convergence, windings, values of the constraints. Empty where no solver did.
    std::string solution;

    nlohmann::json toJson() const;
    static Curve fromJson(const nlohmann::json& j);
    void save(const std::string& path, bool overwrite) const;
    static Curve load(const std::string& path);

private:
    static double nan() { return std::numeric_limits<double>::quiet_NaN(); }
    Variables vars;
    Eigen::VectorXd nodesS;
    Eigen::MatrixXd nodesEta, slopes;
};

CurveMeasure measure(const PosteriorModel& model, const Eigen::MatrixXd& eta);

/// Where along the columns of `eta` [m x K] (as fractional column indices) numPoints points of equal Fisher-Rao spacing lie.
/// Throws std::invalid_argument for a curve of length 0.
Eigen::VectorXd equalSpacing(const PosteriorModel& model, const Eigen::MatrixXd& eta, int numPoints);

/// The same from the lengths of the segments [K - 1].
Eigen::VectorXd equalParts(const Eigen::VectorXd& lengths, int numPoints);

/// Nodes along the straight line in raw coordinates from a to b at constant log-SNR (the null baseline), [m x numPoints].
/// `windings` [n] adds whole turns to the difference b - a of each lifted variable after it was wrapped to the short way round.
Eigen::MatrixXd straightLine(const Variables& v, const Eigen::VectorXd& a, const Eigen::VectorXd& b, double logSnr, int numPoints, const std::vector<int>& windings = {});

/// alpha at a log-SNR for the schedules vp, cosine, ve (or edm) and flow (x = alpha c + sigma eps). A cosine schedule is VP in log-SNR.
double scheduleAlpha(const std::string& schedule, double logSnr);

/// PCHIP slopes (Fritsch-Carlson) of the rows of y over x.
Eigen::MatrixXd monotoneSlopes(const Eigen::VectorXd& x, const Eigen::MatrixXd& y);

/// Cubic Hermite interpolant at s, clamped to [s_0, s_{n-1}] (where clamped the derivative is 0). `values` and `slopes` hold the
/// components of one node after the other. Curve and SpacetimeForce both evaluate their curves here. `derivative` may be null.
void evaluateHermite(const double* nodes, int numPoints, const double* values, const double* slopes, int numComponents, double s, double* value, double* derivative);

}  // namespace Spacetime
