// SPDX-License-Identifier: MIT
#include "openmmspacetime/internal/SpacetimeForceImpl.h"
#include "OpenMM.h"
#include "openmm/internal/ContextImpl.h"
#include "openmmspacetime/SpacetimeForceKernels.h"
#include <algorithm>
#include <sstream>

using namespace OpenMM;
using std::map;
using std::string;
using std::vector;

namespace SpacetimePlugin {

// Gas constant in kJ/mol/K, exact since the SI of 2019.
static const double GAS_CONSTANT = 1.380649e-23 * 6.02214076e23 * 1e-3;

namespace {

// Adds the global parameters of a force of one of these classes.
template <class... Forces>
void addGlobalParameters(const Force& force, map<string, double>& defaults) {
    auto add = [&](auto* f) {
        if (f != nullptr)
            for (int i = 0; i < f->getNumGlobalParameters(); i++)
                defaults[f->getGlobalParameterName(i)] = f->getGlobalParameterDefaultValue(i);
    };
    (add(dynamic_cast<const Forces*>(&force)), ...);
}

map<string, double> defaultParametersOf(const Force& force) {
    map<string, double> defaults;
    if (const SpacetimeForce* f = dynamic_cast<const SpacetimeForce*>(&force))
        defaults = {{f->getParameterName(), f->getDefaultS()}, {SpacetimeForce::KT(), GAS_CONSTANT * f->getTemperature()}};
    addGlobalParameters<CustomAngleForce, CustomBondForce, CustomCentroidBondForce, CustomCompoundBondForce, CustomCVForce, CustomExternalForce, CustomGBForce, CustomHbondForce,
                        CustomManyParticleForce, CustomNonbondedForce, CustomTorsionForce, CustomVolumeForce, NonbondedForce>(force, defaults);
    return defaults;
}

}  // namespace

SpacetimeForceImpl::SpacetimeForceImpl(const SpacetimeForce& owner) : owner(owner) { forceGroup = owner.getForceGroup(); }

void SpacetimeForceImpl::validate(const System& system, const VariableSet& variables) const {
    std::stringstream message;
    message << "SpacetimeForce: ";
    if (variables.size() == 0) {
        message << "it has no variables; call addTorsion(), addDistance() or their siblings before the Context is created";
        throw OpenMMException(message.str());
    }
    const vector<VariableSet::Walker>& walkers = variables.getWalkers();
    int lastOffset = 0;
    std::map<int, int> offsets;
    for (size_t i = 0; i < walkers.size(); i++) {
        lastOffset = std::max(lastOffset, walkers[i].offset);
        if (!offsets.insert({walkers[i].offset, static_cast<int>(i)}).second) {
            message << "walkers " << offsets[walkers[i].offset] << " and " << i << " both have the offset " << walkers[i].offset << "; every walker needs particles of its own";
            throw OpenMMException(message.str());
        }
    }
    for (int i = 0; i < variables.size(); i++)
        for (int particle : variables.getParticles(i))
            if (particle + lastOffset >= system.getNumParticles()) {
                message << "particle " << particle + lastOffset << " of variable " << i << " (" << variables[i].name << ")";
                if (owner.getNumWalkers() > 0)
                    message << " in the walker with offset " << lastOffset;
                message << " does not exist; the System has " << system.getNumParticles() << " particles";
                throw OpenMMException(message.str());
            }
    if (owner.getInterpolant().getNumComponents() != variables.getNumStatistics()) {
        message << "the curve has " << owner.getInterpolant().getNumComponents() << " components of eta, but its " << variables.size() << " variables have "
                << variables.getNumStatistics() << " statistics (" << (variables.hasQuadratic() ? "|d|^2, then " : "")
                << "for each variable cos and sin where it is periodic and d where it is not)";
        throw OpenMMException(message.str());
    }
    bool otherIsPeriodic = false;
    for (int i = 0; i < system.getNumForces(); i++) {
        const Force& other = system.getForce(i);
        if (&other == &owner)
            continue;
        otherIsPeriodic |= other.usesPeriodicBoundaryConditions();
        std::map<string, double> defaults = defaultParametersOf(other);
        for (auto& own : defaultParametersOf(owner)) {
            auto found = defaults.find(own.first);
            if (found != defaults.end() && found->second != own.second) {
                message << "its parameter " << own.first << " has the default " << own.second << ", but force " << i << " (" << other.getName()
                        << ") defines the same parameter with the default " << found->second << "; give them the same default, or s another name with setParameterName()";
                throw OpenMMException(message.str());
            }
        }
    }
    Vec3 box[3];
    system.getDefaultPeriodicBoxVectors(box[0], box[1], box[2]);
    if (owner.usesPeriodicBoundaryConditions() && !otherIsPeriodic && box[0] == Vec3(2, 0, 0) && box[1] == Vec3(0, 2, 0) && box[2] == Vec3(0, 0, 2)) {
        message << "it uses periodic boundary conditions, but the System has no box: no other force is periodic, and the box vectors are OpenMM's default of "
                   "2 nm; call setUsesPeriodicBoundaryConditions(False), or set the box with System.setDefaultPeriodicBoxVectors()";
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
    if ((groups & (1 << forceGroup)) != 0)
        return kernel.getAs<CalcSpacetimeForceKernel>().execute(context, includeForces, includeEnergy);
    return 0.0;
}

map<string, double> SpacetimeForceImpl::getDefaultParameters() { return defaultParametersOf(owner); }

vector<string> SpacetimeForceImpl::getKernelNames() { return {CalcSpacetimeForceKernel::Name()}; }

void SpacetimeForceImpl::updateParametersInContext(ContextImpl& context) {
    VariableSet set(owner);
    validate(context.getSystem(), set);
    if (!set.hasSameTopology(variables))
        throw OpenMMException("SpacetimeForce: updateParametersInContext() expects the variables the Context was created with, but their number, types, "
                              "sites, centroids, frames or walkers have changed; call context.reinitialize(preserveState=True) instead");
    variables = set;
    curve = owner.getInterpolant();
    kernel.getAs<CalcSpacetimeForceKernel>().copyParametersToContext(context, owner);
    context.systemChanged();
}

void SpacetimeForceImpl::getVariableValues(ContextImpl& context, vector<double>& values) { kernel.getAs<CalcSpacetimeForceKernel>().getVariableValues(context, values); }

void SpacetimeForceImpl::getStatistic(ContextImpl& context, vector<double>& statistic) {
    vector<double> values;
    getVariableValues(context, values);
    variables.computeStatistic(values, statistic);
}

double SpacetimeForceImpl::getBiasEnergy(ContextImpl& context) {
    vector<double> statistic, eta;
    getStatistic(context, statistic);
    double s = CalcSpacetimeForceKernel::checkS(context.getParameter(parameterName), parameterName), product = 0;
    const double* t = statistic.data();
    for (const VariableSet::Walker& walker : variables.getWalkers()) {
        curve.evaluate(walker.intercept + walker.slope * s, eta);
        for (double component : eta)
            product += component * (*t++);
    }
    return -context.getParameter(SpacetimeForce::KT()) * product;
}

double CalcSpacetimeForceKernel::checkS(double s, const string& parameterName) {
    // What is added up to 1 in steps may miss it by rounding.
    if (!(s >= -1e-6 && s <= 1 + 1e-6)) {
        std::stringstream message;
        message << "SpacetimeForce: the Context parameter " << parameterName << " must lie between 0 and 1, but it is " << s;
        throw OpenMMException(message.str());
    }
    return s;
}

}  // namespace SpacetimePlugin
