// SPDX-License-Identifier: MIT
#pragma once

#include "openmmspacetime/SpacetimeForceKernels.h"
#include "openmmspacetime/internal/VariableSet.h"

namespace SpacetimePlugin {

/// SpacetimeForce in double precision on the host, for the Reference and CPU platforms.
class ReferenceCalcSpacetimeForceKernel : public CalcSpacetimeForceKernel {
public:
    ReferenceCalcSpacetimeForceKernel(std::string name, const OpenMM::Platform& platform) : CalcSpacetimeForceKernel(name, platform) {
    }
    void initialize(const OpenMM::System& system, const SpacetimeForce& force) override;
    double execute(OpenMM::ContextImpl& context, bool includeForces, bool includeEnergy) override;
    void getVariableValues(OpenMM::ContextImpl& context, std::vector<double>& values) override;
    void copyParametersToContext(OpenMM::ContextImpl& context, const SpacetimeForce& force) override;

private:
    VariableSet variables;
    CurveInterpolant curve;
    std::string parameterName;
    bool usePeriodic = false;
    // Kept between steps so that a step allocates nothing.
    std::vector<double> values, statistic, eta, etaDerivative;
};

}  // namespace SpacetimePlugin
