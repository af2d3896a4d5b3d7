// SPDX-License-Identifier: MIT
#include "openmmspacetime/internal/SpacetimeForceImpl.h"
#include "openmm/OpenMMException.h"
#include "openmm/internal/ContextImpl.h"
#include "openmmspacetime/SpacetimeForceKernels.h"
#include <sstream>

using namespace OpenMM;
using std::map;
using std::string;
using std::vector;

namespace SpacetimePlugin {

// Gas constant in kJ/mol/K, exact since the SI of 2019.
static const double GAS_CONSTANT = 1.380649e-23*6.02214076e23*1e-3;

SpacetimeForceImpl::SpacetimeForceImpl(const SpacetimeForce& owner) : owner(owner) {
    forceGroup = owner.getForceGroup();
}

void SpacetimeForceImpl::validate(const System& system, const VariableSet& variables) const {
    std::stringstream message;
    message << "SpacetimeForce: ";
    if (variables.size() == 0) {
        message << "it has no variables; call addTorsion() or addCoordinate() before the Context is created";
        throw OpenMMException(message.str());
    }
    for (int i = 0; i < variables.size(); i++)
        for (int k = 0; k < (variables[i].isTorsion ? 4 : 1); k++)
            if (variables[i].particles[k] >= system.getNumParticles()) {
                message << "particle " << variables[i].particles[k] << " of variable " << i << " (" << variables[i].name
                        << ") does not exist; the System has " << system.getNumParticles() << " particles";
                throw OpenMMException(message.str());
            }
    if (owner.getInterpolant().getNumComponents() != variables.getNumStatistics()) {
        message << "the curve has " << owner.getInterpolant().getNumComponents() << " components of eta, but its " << variables.size()
                << " variables have " << variables.getNumStatistics() << " statistics (" << (variables.hasQuadratic() ? "|d|^2, then " : "")
                << "for each variable cos and sin where it is periodic and d where it is not)";
        throw OpenMMException(message.str());
    }
}

void SpacetimeForceImpl::initialize(ContextImpl& context) {
    VariableSet set(owner);
    validate(context.getSystem(), set);
    this->context = &context;
    variables = set;
    curve = owner.getInterpolant();
    parameterName = owner.getParameterName();
    kernel = context.getPlatform().createKernel(CalcSpacetimeForceKernel::Name(), context);
    kernel.getAs<CalcSpacetimeForceKernel>().initialize(context.getSystem(), owner);
}

double SpacetimeForceImpl::calcForcesAndEnergy(ContextImpl& context, bool includeForces, bool includeEnergy, int groups) {
    if (includeForces)
        numForceEvaluations++;
    if ((groups&(1<<forceGroup)) != 0)
        return kernel.getAs<CalcSpacetimeForceKernel>().execute(context, includeForces, includeEnergy);
    return 0.0;
}

map<string, double> SpacetimeForceImpl::getDefaultParameters() {
    return {{owner.getParameterName(), owner.getDefaultS()}, {SpacetimeForce::KT(), GAS_CONSTANT*owner.getTemperature()}};
}

vector<string> SpacetimeForceImpl::getKernelNames() {
    return {CalcSpacetimeForceKernel::Name()};
}

void SpacetimeForceImpl::updateParametersInContext(ContextImpl& context) {
    VariableSet set(owner);
    validate(context.getSystem(), set);
    if (!set.hasSameTopology(variables))
        throw OpenMMException("SpacetimeForce: updateParametersInContext() expects the variables the Context was created with, but their number, types or "
                              "particles have changed; call context.reinitialize(preserveState=True) instead");
    variables = set;
    curve = owner.getInterpolant();
    kernel.getAs<CalcSpacetimeForceKernel>().copyParametersToContext(context, owner);
    context.systemChanged();
}

void SpacetimeForceImpl::getVariableValues(ContextImpl& context, vector<double>& values) {
    kernel.getAs<CalcSpacetimeForceKernel>().getVariableValues(context, values);
}

void SpacetimeForceImpl::getStatistic(ContextImpl& context, vector<double>& statistic) {
    vector<double> values;
    getVariableValues(context, values);
    variables.computeStatistic(values, statistic);
}

double SpacetimeForceImpl::getBiasEnergy(ContextImpl& context) {
    vector<double> statistic, eta;
    getStatistic(context, statistic);
    curve.evaluate(context.getParameter(parameterName), eta);
    return -context.getParameter(SpacetimeForce::KT())*dot(eta, statistic);
}

}  // namespace SpacetimePlugin
