// SPDX-License-Identifier: MIT
#pragma once

#include "ReferenceVariables.h"
#include "openmmspacetime/SpacetimeForceKernels.h"

namespace SpacetimePlugin {

/// SpacetimeForce in double precision on the host, for the Reference and CPU platforms.
class ReferenceCalcSpacetimeForceKernel : public CalcSpacetimeForceKernel {
public:
    ReferenceCalcSpacetimeForceKernel(const std::string& name, const OpenMM::Platform& platform) : CalcSpacetimeForceKernel(name, platform) {}
    void initialize(const OpenMM::System& system, const SpacetimeForce& force) override;
    double execute(OpenMM::ContextImpl& context, bool includeForces, bool includeEnergy) override;
    void getVariableValues(OpenMM::ContextImpl& context, std::vector<double>& values) override;
    void copyParametersToContext(OpenMM::ContextImpl& context, const SpacetimeForce& force) override;

private:
    void moveTo(double s);

    ReferenceVariables variables;
    CurveInterpolant curve;
    std::string parameterName;
    bool usePeriodic = false;
    // Where the Context keeps its parameters and derivatives, found once: looking them up by name would take as long as the forces. Their maps only ever grow
    // while a Context lives, so entries stay where they are.
    const double* s = nullptr;
    const double* kT = nullptr;
    double* sDerivative = nullptr;
    double* kTDerivative = nullptr;
    // eta and d eta/ds of each walker where the Context parameter was last.
    double lastS = -1;
    std::vector<double> eta, etaDerivative;
};

}  // namespace SpacetimePlugin
