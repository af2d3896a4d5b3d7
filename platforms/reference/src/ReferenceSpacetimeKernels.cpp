// SPDX-License-Identifier: MIT
#include "ReferenceSpacetimeKernels.h"
#include "ReferencePlatform.h"
#include "openmm/internal/ContextImpl.h"

using namespace OpenMM;
using std::vector;

namespace SpacetimePlugin {

static ReferencePlatform::PlatformData& platformData(ContextImpl& context) {
    return *static_cast<ReferencePlatform::PlatformData*>(context.getPlatformData());
}

void ReferenceCalcSpacetimeForceKernel::initialize(const System& system, const SpacetimeForce& force) {
    variables = VariableSet(force);
    curve = force.getInterpolant();
    parameterName = force.getParameterName();
    usePeriodic = force.usesPeriodicBoundaryConditions();
}

double ReferenceCalcSpacetimeForceKernel::execute(ContextImpl& context, bool includeForces, bool includeEnergy) {
    ReferencePlatform::PlatformData& data = platformData(context);
    const Vec3* box = (usePeriodic ? data.periodicBoxVectors : nullptr);
    double kT = context.getParameter(SpacetimeForce::KT());
    curve.evaluate(context.getParameter(parameterName), eta, &etaDerivative);
    variables.measure(*data.positions, box, values);
    variables.computeStatistic(values, statistic);
    if (includeForces)
        variables.addForces(*data.positions, box, values, eta, kT, *data.forces);
    double product = dot(eta, statistic);
    auto& derivatives = *data.energyParameterDerivatives;
    derivatives[parameterName] -= kT*dot(etaDerivative, statistic);
    derivatives[SpacetimeForce::KT()] -= product;
    return includeEnergy ? -kT*product : 0.0;
}

void ReferenceCalcSpacetimeForceKernel::getVariableValues(ContextImpl& context, vector<double>& values) {
    ReferencePlatform::PlatformData& data = platformData(context);
    variables.measure(*data.positions, usePeriodic ? data.periodicBoxVectors : nullptr, values);
}

void ReferenceCalcSpacetimeForceKernel::copyParametersToContext(ContextImpl& context, const SpacetimeForce& force) {
    variables = VariableSet(force);
    curve = force.getInterpolant();
}

}  // namespace SpacetimePlugin
