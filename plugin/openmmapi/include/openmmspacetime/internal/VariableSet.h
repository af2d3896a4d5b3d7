// SPDX-License-Identifier: MIT
#pragma once

#include "openmm/Vec3.h"
#include <string>
#include <vector>

namespace SpacetimePlugin {

class SpacetimeForce;

/**
 * The collective variables of a SpacetimeForce as plain numbers, and how to measure them.
 *
 * Everything here is host code in double precision. It serves the Reference kernel, and on every platform the bias energy, the statistic and the
 * work, which are computed from the raw values.
 */
class VariableSet {
public:
    struct Variable {
        std::string name;
        bool isTorsion = false;
        int particles[4] = {-1, -1, -1, -1};
        int axis = 0;
        /// 2 pi for a torsion, 0 for a coordinate that is not periodic.
        double period = 0, shift = 0, scale = 1;
        /// Component of T at which the variable starts: its d, or its cos with its sin next to it.
        int offset = 0;
        bool isLifted() const { return period > 0; }
    };

    VariableSet() = default;
    explicit VariableSet(const SpacetimeForce& force);

    int size() const { return static_cast<int>(variables.size()); }
    const Variable& operator[](int index) const { return variables[index]; }
    /// True when T starts with |d|^2, that is, when there is a variable that is not lifted.
    bool hasQuadratic() const { return quadratic; }
    int getNumStatistics() const { return numStatistics; }

    /// True when both sets have the same variables on the same particles; periods, shifts and scales may differ.
    bool hasSameTopology(const VariableSet& other) const;

    /**
     * Raw value of one variable (rad or nm). Lifted ones lie in (-period/2, period/2].
     *
     * @param box   the three periodic box vectors, or null not to use the minimum image
     */
    double measure(int index, const std::vector<OpenMM::Vec3>& positions, const OpenMM::Vec3* box) const;
    void measure(const std::vector<OpenMM::Vec3>& positions, const OpenMM::Vec3* box, std::vector<double>& values) const;

    /// T of the given raw values.
    void computeStatistic(const std::vector<double>& values, std::vector<double>& statistic) const;

    /**
     * Add the forces of U = -kT eta·T to `forces`.
     *
     * A torsion of collinear particles has no defined angle and exerts no force.
     *
     * @param values   the raw values at these positions
     */
    void addForces(const std::vector<OpenMM::Vec3>& positions, const OpenMM::Vec3* box, const std::vector<double>& values,
                   const std::vector<double>& eta, double kT, std::vector<OpenMM::Vec3>& forces) const;

private:
    std::vector<Variable> variables;
    bool quadratic = false;
    int numStatistics = 0;
};

/// Sum of the products of two equally long vectors.
double dot(const std::vector<double>& a, const std::vector<double>& b);

}  // namespace SpacetimePlugin
