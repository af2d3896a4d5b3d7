// SPDX-License-Identifier: MIT
#pragma once

#include "openmm/KernelImpl.h"
#include "openmm/Platform.h"
#include "openmm/System.h"
#include "openmmspacetime/SpacetimeForce.h"
#include <string>
#include <vector>

namespace SpacetimePlugin {

/// What a platform must provide for a SpacetimeForce.
class CalcSpacetimeForceKernel : public OpenMM::KernelImpl {
public:
    static std::string Name() { return "CalcSpacetimeForce"; }
    CalcSpacetimeForceKernel(const std::string& name, const OpenMM::Platform& platform) : OpenMM::KernelImpl(name, platform) {}
    /// The force has been checked: its indices are in range and its curve fits its variables.
    virtual void initialize(const OpenMM::System& system, const SpacetimeForce& force) = 0;
    /// Add forces and energy parameter derivatives, and return the energy.
    virtual double execute(OpenMM::ContextImpl& context, bool includeForces, bool includeEnergy) = 0;
    /// Raw values of the variables at the present positions, one walker after the other. Called at every step of a path, so it must be cheap.
    virtual void getVariableValues(OpenMM::ContextImpl& context, std::vector<double>& values) = 0;
    /// Take over the curve, the periods, shifts and scales, and the walkers' intercepts and slopes; nothing else has changed.
    virtual void copyParametersToContext(OpenMM::ContextImpl& context, const SpacetimeForce& force) = 0;

    /// Returns the value of the Context parameter of this name. Throws an exception if it lies outside [0, 1] by more than rounding error.
    static double checkS(double s, const std::string& parameterName);
};

}  // namespace SpacetimePlugin
