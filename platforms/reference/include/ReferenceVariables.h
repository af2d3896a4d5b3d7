// SPDX-License-Identifier: MIT
#pragma once

#include "openmmspacetime/internal/VariableSet.h"
#include <vector>

namespace SpacetimePlugin {

/// Measures the variables of a SpacetimeForce, and evaluates its bias and forces, in double precision on the host.
class ReferenceVariables {
public:
    ReferenceVariables() = default;
    explicit ReferenceVariables(const VariableSet& variables);

    const VariableSet& getVariables() const { return variables; }

    /**
     * Raw values (rad or nm) of all variables, one walker after the other. Lifted ones lie in (-period/2, period/2].
     *
     * @param box   the three periodic box vectors, or null not to use nearest images
     */
    void measure(const std::vector<OpenMM::Vec3>& positions, const OpenMM::Vec3* box, std::vector<double>& values);

    struct Products {
        double energy, derivative;
    };

    /**
     * eta·T and eta'·T of one walker, and its forces.
     *
     * Torsions and angles without a defined plane, distances of zero, and frames without a defined rotation exert no force.
     *
     * @param forces   if not null, the forces of U = -kT eta·T are added
     */
    Products evaluate(int walker, const std::vector<OpenMM::Vec3>& positions, const OpenMM::Vec3* box, const double* eta, const double* etaDerivative, double kT,
                      std::vector<OpenMM::Vec3>* forces);

private:
    // A frame at the present positions: c = R (x - center) + reference center.
    struct FrameState {
        OpenMM::Vec3 center, rotation[3];
        // A = tr(S) - S with S = sum w z y^T links the torque of the bias to the rotation that answers a displacement.
        OpenMM::Vec3 inverse[3];
        OpenMM::Vec3 force, torque;
        OpenMM::Vec3 rotate(const OpenMM::Vec3& v) const { return OpenMM::Vec3(rotation[0].dot(v), rotation[1].dot(v), rotation[2].dot(v)); }
        OpenMM::Vec3 rotateBack(const OpenMM::Vec3& v) const { return rotation[0] * v[0] + rotation[1] * v[1] + rotation[2] * v[2]; }
    };
    void place(const OpenMM::Vec3* positions);
    void superpose(const VariableSet::Frame& frame, const OpenMM::Vec3* positions, FrameState& state) const;
    const OpenMM::Vec3& site(int index, const OpenMM::Vec3* positions) const;
    void addForce(int site, const OpenMM::Vec3& force, OpenMM::Vec3* forces);
    OpenMM::Vec3 relativeToFrame(const VariableSet::Variable& v, const OpenMM::Vec3* positions, const OpenMM::Vec3* box) const;

    VariableSet variables;
    std::vector<int> particles;
    std::vector<OpenMM::Vec3> centroids, centroidForces;
    std::vector<FrameState> frames;
};

}  // namespace SpacetimePlugin
