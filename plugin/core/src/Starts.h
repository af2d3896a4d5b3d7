// SPDX-License-Identifier: MIT
#pragma once

#include "CurveEnergy.h"
#include <functional>

namespace Spacetime {

/// Everything that the starts of one pair have in common.
struct Task {
    const PosteriorModel& model;
    const GeodesicOptions& options;
    Eigen::VectorXd etaA, etaB;
    Chart chart;
    Constraints constraints;  // all but the bound on the free energy, which is a polish
    Constraints polish;       // all
    std::vector<int> levels;
    std::function<bool(double)> progress;  // share of this start's work

    bool interrupted(double fraction) const { return progress && !progress(fraction); }
};

/// The stronger of the two bounds on log kappa.
double minLogKappa(const GeodesicOptions& options);
/// The same path with nodes at equal length in the metric of `problem`. They move along straight pieces in the chart, so box bounds keep holding.
Eigen::MatrixXd respace(const CurveProblem& problem, const Eigen::MatrixXd& zeta);
/// Nodes at N + 1 equal steps along a curve in the chart, by cubic interpolation; bounds are kept.
Eigen::MatrixXd refine(const Chart& chart, const Eigen::MatrixXd& zeta, int N);
/// Windings to try: for every lifted variable the short and the long way round; beyond four of them at most two long ways.
std::vector<std::vector<int>> windingChoices(const Variables& vars, const Eigen::VectorXd& rawA, const Eigen::VectorXd& rawB, bool polar);
/**
 * A curve of narrow posteriors that meets the constraints, from which the solver can descend without leaping over anything: straight
 * in the polar chart, moved by `sideways` (a direction in that chart) in its middle and narrowed as far as needed. In the chart of the
 * task; the best that was found where nothing meets the constraints.
 */
Eigen::MatrixXd narrowCurve(const Task& task, const CurveProblem& problem, const std::vector<int>& windings, const Eigen::VectorXd& sideways, int N);
/// Directions past the regions: at right angles to the way in the polar chart, to one side and the other, then drawn at random.
std::vector<Eigen::VectorXd> sides(const Task& task, const std::vector<int>& windings, int count);

}  // namespace Spacetime
