// SPDX-License-Identifier: MIT
#pragma once

#include "spacetime/PosteriorModel.h"
#include <vector>

namespace Spacetime {

/**
 * The coordinates zeta in which the solver works, one chart per kind of variable.
 *
 * Unlifted variables: (log p, m') with p = -2 eta_l + 1/s2 and m' = (eta_x + m0/s2)/p, the posterior precision and mean if
 * the data were N(m0, s2). The shift 1/s2 removes the boundary singularity of (log-SNR, x), and a bound on log-SNR is a
 * bound on log p. Lifted variables: (log kappa, phi) where kappa is bounded, so that a bound is a box and the winding is
 * fixed; plain eta where it is not, because kappa = 0 is then an ordinary point.
 */
class Chart {
public:
    /// `polar`: (log kappa, phi) even without a bound on kappa.
    Chart(const PosteriorModel& model, double minLogSnr, double minLogKappa, bool polar = false);

    int size() const { return m; }
    bool polar() const { return isPolar; }
    /// True for the coordinates that say how narrow a point is: log p and log kappa.
    const Eigen::Array<bool, Eigen::Dynamic, 1>& precisions() const { return isPrecision; }
    /// Lower bound of each coordinate, -infinity where there is none.
    const Eigen::VectorXd& lower() const { return low; }
    void raiseBound(int row, double by) { low[row] += by; }
    /// Largest change of each coordinate in one step.
    const Eigen::VectorXd& stepLimit() const { return limit; }

    Eigen::VectorXd fromEta(const Eigen::VectorXd& eta) const;
    Eigen::MatrixXd toEta(const Eigen::MatrixXd& zeta) const;
    /// A = d eta/d zeta at one point.
    Eigen::MatrixXd jacobian(const Eigen::VectorXd& zeta) const;
    /// sum_k g_k d^2 eta_k/d zeta^2.
    Eigen::MatrixXd curvature(const Eigen::VectorXd& zeta, const Eigen::VectorXd& g) const;

    /// First curve between two points, [m x N+1]: the closed-form geodesic of a flat prior (a half-circle) for unlifted
    /// variables, a straight line in the chart for lifted ones, which arrive `turns` whole turns away from the short way round.
    Eigen::MatrixXd start(const Eigen::VectorXd& etaA, const Eigen::VectorXd& etaB, const std::vector<int>& turns, int N) const;

    /// What leads from A to B in the chart, the short way round and whole turns more.
    Eigen::VectorXd difference(const Eigen::VectorXd& etaA, const Eigen::VectorXd& etaB, const std::vector<int>& turns) const;

    /// Coordinates between whose nodes curves are interpolated: the chart itself, but asinh(kappa) (cos, sin) for plain eta, which
    /// falls by half its size within a few nodes of an end.
    Eigen::MatrixXd toSmooth(const Eigen::MatrixXd& zeta) const;
    Eigen::MatrixXd fromSmooth(const Eigen::MatrixXd& smooth) const;

    /// A curve given in natural parameters, in the chart, with continuous angles and the given ends.
    Eigen::MatrixXd unwrapped(const Eigen::MatrixXd& eta, const Eigen::VectorXd& etaA, const Eigen::VectorXd& etaB) const;
    /// Whole turns per variable by which a curve in the chart differs from the short way round.
    std::vector<int> turns(const Eigen::MatrixXd& zeta) const;

private:
    Eigen::MatrixXd scaleKappa(Eigen::MatrixXd zeta, double (*scaled)(double)) const;

    Variables vars;
    int m;
    bool isPolar;
    double s2;
    std::vector<int> unliftedRows;
    Eigen::VectorXd m0, low, limit;
    Eigen::Array<bool, Eigen::Dynamic, 1> isPrecision;
};

}  // namespace Spacetime
