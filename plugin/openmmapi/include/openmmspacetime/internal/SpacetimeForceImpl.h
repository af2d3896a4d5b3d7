// SPDX-License-Identifier: MIT
#pragma once

#include "openmm/Kernel.h"
#include "openmm/internal/ForceImpl.h"
#include "openmmspacetime/SpacetimeForce.h"
#include "openmmspacetime/internal/VariableSet.h"
#include <map>
#include <string>
#include <vector>

namespace SpacetimePlugin {

/// The part of a SpacetimeForce that lives in one Context.
class SpacetimeForceImpl : public OpenMM::ForceImpl {
public:
    explicit SpacetimeForceImpl(const SpacetimeForce& owner);
    void initialize(OpenMM::ContextImpl& context) override;
    const SpacetimeForce& getOwner() const override { return owner; }
    void updateContextState(OpenMM::ContextImpl& context, bool& forcesInvalid) override {}
    double calcForcesAndEnergy(OpenMM::ContextImpl& context, bool includeForces, bool includeEnergy, int groups) override;
    std::map<std::string, double> getDefaultParameters() override;
    std::vector<std::string> getKernelNames() override;
    void updateParametersInContext(OpenMM::ContextImpl& context);

    /// The Context this belongs to.
    OpenMM::ContextImpl& getContext() const { return *context; }
    const VariableSet& getVariables() const { return variables; }
    /// The curve this Context uses, which the owner may have replaced since.
    const CurveInterpolant& getCurve() const { return curve; }
    void getVariableValues(OpenMM::ContextImpl& context, std::vector<double>& values);
    void getStatistic(OpenMM::ContextImpl& context, std::vector<double>& statistic);
    double getBiasEnergy(OpenMM::ContextImpl& context);
    /// How often the forces of this Context were computed so far.
    long long getNumForceEvaluations() const { return numForceEvaluations; }

private:
    void validate(const OpenMM::System& system, const VariableSet& variables) const;

    const SpacetimeForce& owner;
    OpenMM::ContextImpl* context = nullptr;
    OpenMM::Kernel kernel;
    VariableSet variables;
    CurveInterpolant curve;
    // Copied, so that renaming in the owner does not change a Context that exists.
    std::string parameterName;
    long long numForceEvaluations = 0;
};

}  // namespace SpacetimePlugin
