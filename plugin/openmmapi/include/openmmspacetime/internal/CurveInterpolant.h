// SPDX-License-Identifier: MIT
#pragma once

#include <vector>

namespace SpacetimePlugin {

/**
 * eta(s) between the nodes of a curve: a monotone cubic Hermite interpolant per component.
 *
 * The slopes come from Spacetime::monotoneSlopes, so a Force moves along exactly the curve that the solver returned. Plain arrays and no
 * allocation in evaluate(): it is called at every time step.
 */
class CurveInterpolant {
public:
    CurveInterpolant() = default;
    /// `s` [N+1] increases strictly from 0 to 1, `eta` holds numComponents numbers per node, one node after the other. Both must have been checked.
    CurveInterpolant(const std::vector<double>& s, const std::vector<double>& eta);

    int getNumComponents() const { return numComponents; }

    /**
     * Evaluate the curve.
     *
     * @param s            position on the curve; clamped to [0, 1]
     * @param eta          on exit, eta(s)
     * @param derivative   if not null: on exit, d eta/ds, which is 0 where s was clamped
     */
    void evaluate(double s, std::vector<double>& eta, std::vector<double>* derivative = nullptr) const;
    /// The same into arrays of getNumComponents() numbers; `derivative` may be null.
    void evaluate(double s, double* eta, double* derivative) const;

    /// Nodes [N+1], and values and slopes, numComponents numbers per node, one node after the other.
    const std::vector<double>& getNodes() const { return nodes; }
    const std::vector<double>& getValues() const { return values; }
    const std::vector<double>& getSlopes() const { return slopes; }

private:
    int numComponents = 0;
    std::vector<double> nodes, values, slopes;
};

}  // namespace SpacetimePlugin
