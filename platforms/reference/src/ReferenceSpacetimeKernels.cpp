// SPDX-License-Identifier: MIT
#include "ReferenceSpacetimeKernels.h"
#include "ReferencePlatform.h"
#include "openmm/internal/ContextImpl.h"

using namespace OpenMM;
using std::vector;

namespace SpacetimePlugin {

static ReferencePlatform::PlatformData& platformData(ContextImpl& context) { return *static_cast<ReferencePlatform::PlatformData*>(context.getPlatformData()); }

void ReferenceCalcSpacetimeForceKernel::initialize(const System& system, const SpacetimeForce& force) {
    variables = ReferenceVariables(VariableSet(force));
    curve = force.getInterpolant();
    parameterName = force.getParameterName();
    usePeriodic = force.usesPeriodicBoundaryConditions();
}

void ReferenceCalcSpacetimeForceKernel::moveTo(double s) {
    if (s == lastS)
        return;
    const vector<VariableSet::Walker>& walkers = variables.getVariables().getWalkers();
    int m = curve.getNumComponents();
    eta.resize(m * walkers.size());
    etaDerivative.resize(m * walkers.size());
    for (size_t i = 0; i < walkers.size(); i++) {
        curve.evaluate(walkers[i].intercept + walkers[i].slope * s, &eta[m * i], &etaDerivative[m * i]);
        for (int k = 0; k < m; k++)
            etaDerivative[m * i + k] *= walkers[i].slope;
    }
    lastS = s;
}

double ReferenceCalcSpacetimeForceKernel::execute(ContextImpl& context, bool includeForces, bool includeEnergy) {
    ReferencePlatform::PlatformData& data = platformData(context);
    const Vec3* box = (usePeriodic ? data.periodicBoxVectors : nullptr);
    if (s == nullptr) {
        s = &context.getParameters().at(parameterName);
        kT = &context.getParameters().at(SpacetimeForce::KT());
        sDerivative = &(*data.energyParameterDerivatives)[parameterName];
        kTDerivative = &(*data.energyParameterDerivatives)[SpacetimeForce::KT()];
    }
    moveTo(checkS(*s, parameterName));
    double product = 0, derivative = 0;
    int m = curve.getNumComponents(), numWalkers = static_cast<int>(variables.getVariables().getWalkers().size());
    for (int i = 0; i < numWalkers; i++) {
        ReferenceVariables::Products p = variables.evaluate(i, *data.positions, box, &eta[m * i], &etaDerivative[m * i], *kT, includeForces ? data.forces : nullptr);
        product += p.energy;
        derivative += p.derivative;
    }
    *sDerivative -= *kT * derivative;
    *kTDerivative -= product;
    return includeEnergy ? -*kT * product : 0.0;
}

void ReferenceCalcSpacetimeForceKernel::getVariableValues(ContextImpl& context, vector<double>& values) {
    ReferencePlatform::PlatformData& data = platformData(context);
    variables.measure(*data.positions, usePeriodic ? data.periodicBoxVectors : nullptr, values);
}

void ReferenceCalcSpacetimeForceKernel::copyParametersToContext(ContextImpl& context, const SpacetimeForce& force) {
    variables = ReferenceVariables(VariableSet(force));
    curve = force.getInterpolant();
    lastS = -1;
}

}  // namespace SpacetimePlugin
