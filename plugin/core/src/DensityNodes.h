// SPDX-License-Identifier: MIT
#pragma once

#include "spacetime/DensityPath.h"

namespace Spacetime {

/// The two terms of the discrete geodesic equation at the inner nodes of a path, and how far they are from cancelling.
struct NodeForces {
    Eigen::MatrixXd bending;  ///< [D x N-1] P(x_{i+1} - 2 x_i + x_{i-1})
    Eigen::MatrixXd pull;     ///< [D x N-1] tau h^2 P s_i, h = |x_{i+1} - x_{i-1}|/2
    Eigen::MatrixXd slide;    ///< [D x N-1] the tangential part of the second difference: 0 at equal spacing
    double residual = 0;      ///< as in DensityPath
    double largest = 0;       ///< what it is relative to
    double meanSegment = 0;   ///< |V|/2 averaged over the nodes
};

/// `scores` [D x N-1] at the inner nodes of x [D x N+1]. With `sphere` P takes out x_i as well.
NodeForces nodeForces(const Eigen::MatrixXd& x, const Eigen::MatrixXd& scores, double tau, bool sphere);

/// numPoints nodes at equal distances on local cubics through the columns of x; of their radius where `sphere`.
Eigen::MatrixXd equallySpaced(const Eigen::MatrixXd& x, int numPoints, bool sphere);

/// Throws std::invalid_argument, calling a column `what`, where x has not the field's dimension or holds a value that is not finite.
void checkNodes(const DensityField& field, const Eigen::MatrixXd& x, const std::string& where, const std::string& what);

/// The columns scaled to `radius`.
void ontoSphere(Eigen::MatrixXd& x, double radius);

/// Throws std::invalid_argument where the points do not have norms equal to 1e-6.
void checkOnSphere(const Eigen::MatrixXd& x, const std::string& where);

/// logDensity, length, logDistance and spacing of `path` out of the scores [D x N+1] at its nodes; the line integral is refined as measureDensityPath says.
void measureAlong(const DensityField& field, DensityPath& path, const Eigen::MatrixXd& scores, double tolerance);

/// measureDensityPath, which leaves the scores [D x N+1] at the nodes.
DensityPath measureWithScores(const DensityField& field, const Eigen::MatrixXd& x, double tau, double tolerance, bool sphere, Eigen::MatrixXd& scores);

/// Where and why nodes of the path lie outside the field's range; empty where none does.
std::string outsideOf(const DensityField& field, const Eigen::MatrixXd& x);

}  // namespace Spacetime
