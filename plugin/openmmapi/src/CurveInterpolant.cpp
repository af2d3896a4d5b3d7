// SPDX-License-Identifier: MIT
#include "openmmspacetime/internal/CurveInterpolant.h"
#include "spacetime/Curve.h"

namespace SpacetimePlugin {

CurveInterpolant::CurveInterpolant(const std::vector<double>& s, const std::vector<double>& eta)
    : numComponents(static_cast<int>(eta.size() / s.size())), nodes(s), values(eta), slopes(eta.size()) {
    // A node's components lie side by side here, which is a column of the core's [m x N+1] matrices.
    Eigen::Map<const Eigen::VectorXd> x(nodes.data(), nodes.size());
    Eigen::Map<const Eigen::MatrixXd> y(values.data(), numComponents, nodes.size());
    Eigen::Map<Eigen::MatrixXd>(slopes.data(), numComponents, nodes.size()) = Spacetime::monotoneSlopes(x, y);
}

void CurveInterpolant::evaluate(double s, std::vector<double>& eta, std::vector<double>* derivative) const {
    eta.resize(numComponents);
    if (derivative != nullptr)
        derivative->resize(numComponents);
    evaluate(s, eta.data(), derivative == nullptr ? nullptr : derivative->data());
}

void CurveInterpolant::evaluate(double s, double* eta, double* derivative) const {
    Spacetime::evaluateHermite(nodes.data(), static_cast<int>(nodes.size()), values.data(), slopes.data(), numComponents, s, eta, derivative);
}

}  // namespace SpacetimePlugin
