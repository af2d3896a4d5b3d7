// SPDX-License-Identifier: MIT
#include "openmmspacetime/SpacetimeForce.h"
#include "openmm/OpenMMException.h"
#include "openmm/internal/ContextImpl.h"
#include "openmmspacetime/internal/SpacetimeForceImpl.h"
#include "openmmspacetime/internal/VariableSet.h"
#include <cmath>
#include <sstream>

using namespace OpenMM;
using std::string;
using std::vector;

namespace SpacetimePlugin {

namespace {

// Joins its arguments into one message.
template <class... Parts>
[[noreturn]] void fail(const Parts&... parts) {
    std::stringstream message;
    message.precision(10);
    message << "SpacetimeForce: ";
    (message << ... << parts);
    throw OpenMMException(message.str());
}

void checkParticles(const int* particles, int count, const char* method) {
    for (int i = 0; i < count; i++) {
        if (particles[i] < 0)
            fail(method, " expects particle indices of 0 or more, but particle ", i+1, " is ", particles[i]);
        for (int j = 0; j < i; j++)
            if (particles[i] == particles[j])
                fail(method, " expects four different particles, but particles ", j+1, " and ", i+1, " are both ", particles[i]);
    }
}

void checkCoordinate(int axis, double period, double shift, double scale, const char* method) {
    if (axis < 0 || axis > 2)
        fail(method, " expects axis to be 0, 1 or 2 for x, y or z, but it is ", axis);
    if (!std::isfinite(period) || period < 0)
        fail(method, " expects period to be a length in nm, or 0 for a coordinate that is not periodic, but it is ", period);
    if (!std::isfinite(shift))
        fail(method, " expects shift to be a finite number, but it is ", shift);
    if (!std::isfinite(scale) || scale <= 0)
        fail(method, " expects scale to be positive, but it is ", scale);
    if (period > 0 && (shift != 0 || scale != 1))
        fail(method, " got shift = ", shift, " and scale = ", scale, " for a coordinate with period ", period,
             "; a periodic coordinate enters as cos and sin of 2 pi raw/period and takes neither");
}

}  // namespace

SpacetimeForce::SpacetimeForce(const vector<double>& s, const vector<double>& eta, double temperature)
        : defaultS(0), parameterName("spacetime_s"), periodic(false) {
    setCurve(s, eta);
    setTemperature(temperature);
}

int SpacetimeForce::getNumVariables() const {
    return static_cast<int>(variables.size());
}

int SpacetimeForce::getNumStatistics() const {
    return VariableSet(*this).getNumStatistics();
}

int SpacetimeForce::addTorsion(int particle1, int particle2, int particle3, int particle4, const string& name) {
    Variable v = {Torsion, {particle1, particle2, particle3, particle4}, 0, 0.0, 0.0, 1.0, name};
    checkParticles(v.particles, 4, "addTorsion");
    if (name.empty())
        v.name = "torsion"+std::to_string(variables.size());
    variables.push_back(v);
    return getNumVariables()-1;
}

int SpacetimeForce::addCoordinate(int particle, int axis, double period, double shift, double scale, const string& name) {
    Variable v = {Coordinate, {particle, -1, -1, -1}, axis, period, shift, scale, name};
    checkParticles(v.particles, 1, "addCoordinate");
    checkCoordinate(axis, period, shift, scale, "addCoordinate");
    if (name.empty())
        v.name = "coordinate"+std::to_string(variables.size());
    variables.push_back(v);
    return getNumVariables()-1;
}

int SpacetimeForce::checkVariable(int index) const {
    if (index < 0 || index >= getNumVariables())
        fail("there is no variable ", index, "; ", getNumVariables(), " have been added");
    return index;
}

const SpacetimeForce::Variable& SpacetimeForce::variable(int index, VariableType type, const char* method) const {
    const Variable& v = variables[checkVariable(index)];
    if (v.type != type)
        fail(method, " expects a ", (type == Torsion ? "torsion" : "coordinate"), ", but variable ", index, " (", v.name, ") is a ",
             (v.type == Torsion ? "torsion" : "coordinate"));
    return v;
}

SpacetimeForce::VariableType SpacetimeForce::getVariableType(int index) const {
    return variables[checkVariable(index)].type;
}

const string& SpacetimeForce::getVariableName(int index) const {
    return variables[checkVariable(index)].name;
}

void SpacetimeForce::setVariableName(int index, const string& name) {
    variables[checkVariable(index)].name = name;
}

void SpacetimeForce::getTorsionParameters(int index, int& particle1, int& particle2, int& particle3, int& particle4) const {
    const Variable& v = variable(index, Torsion, "getTorsionParameters");
    particle1 = v.particles[0];
    particle2 = v.particles[1];
    particle3 = v.particles[2];
    particle4 = v.particles[3];
}

void SpacetimeForce::setTorsionParameters(int index, int particle1, int particle2, int particle3, int particle4) {
    variable(index, Torsion, "setTorsionParameters");
    int particles[] = {particle1, particle2, particle3, particle4};
    checkParticles(particles, 4, "setTorsionParameters");
    for (int i = 0; i < 4; i++)
        variables[index].particles[i] = particles[i];
}

void SpacetimeForce::getCoordinateParameters(int index, int& particle, int& axis, double& period, double& shift, double& scale) const {
    const Variable& v = variable(index, Coordinate, "getCoordinateParameters");
    particle = v.particles[0];
    axis = v.axis;
    period = v.period;
    shift = v.shift;
    scale = v.scale;
}

void SpacetimeForce::setCoordinateParameters(int index, int particle, int axis, double period, double shift, double scale) {
    variable(index, Coordinate, "setCoordinateParameters");
    checkParticles(&particle, 1, "setCoordinateParameters");
    checkCoordinate(axis, period, shift, scale, "setCoordinateParameters");
    Variable& v = variables[index];
    v.particles[0] = particle;
    v.axis = axis;
    v.period = period;
    v.shift = shift;
    v.scale = scale;
}

void SpacetimeForce::setCurve(const vector<double>& s, const vector<double>& eta) {
    size_t numNodes = s.size();
    if (numNodes < 2)
        fail("a curve needs at least 2 nodes, but s has ", numNodes);
    for (size_t i = 0; i < numNodes; i++)
        if (!std::isfinite(s[i]))
            fail("s must be finite, but s[", i, "] is ", s[i]);
    for (size_t i = 1; i < numNodes; i++)
        if (s[i] <= s[i-1])
            fail("s must increase strictly, but s[", i-1, "] = ", s[i-1], " and s[", i, "] = ", s[i]);
    if (s.front() != 0 || s.back() != 1)
        fail("s must run from 0 to 1, but it runs from ", s.front(), " to ", s.back());
    if (eta.empty() || eta.size()%numNodes != 0)
        fail("eta must hold the same number of components for each of the ", numNodes, " nodes, but it has ", eta.size(), " numbers");
    size_t numComponents = eta.size()/numNodes;
    for (size_t i = 0; i < eta.size(); i++)
        if (!std::isfinite(eta[i]))
            fail("eta must be finite, but component ", i%numComponents, " at node ", i/numComponents, " is ", eta[i]);
    this->s = s;
    this->eta = eta;
    interpolant = CurveInterpolant(s, eta);
}

vector<double> SpacetimeForce::evaluateEta(double s) const {
    vector<double> result;
    interpolant.evaluate(s, result);
    return result;
}

vector<double> SpacetimeForce::evaluateEtaDerivative(double s) const {
    vector<double> result, derivative;
    interpolant.evaluate(s, result, &derivative);
    return derivative;
}

void SpacetimeForce::setTemperature(double temperature) {
    if (!std::isfinite(temperature) || temperature <= 0)
        fail("the temperature must be positive, in K, but it is ", temperature);
    this->temperature = temperature;
}

void SpacetimeForce::setDefaultS(double s) {
    if (!(s >= 0 && s <= 1))
        fail("the default of s must lie between 0 and 1, but it is ", s);
    defaultS = s;
}

void SpacetimeForce::setParameterName(const string& name) {
    if (name.empty() || name == KT())
        fail("the parameter that holds s needs a name of its own, but got \"", name, "\"");
    parameterName = name;
}

const string& SpacetimeForce::KT() {
    static const string name = "spacetime_kT";
    return name;
}

SpacetimeForceImpl& SpacetimeForce::getImpl(Context& context) const {
    for (ForceImpl* impl : getContextImpl(context).getForceImpls())
        if (&impl->getOwner() == this)
            return dynamic_cast<SpacetimeForceImpl&>(*impl);
    fail("this force is not part of the Context. Add it to the System before the Context (or Simulation) is created, or call "
         "context.reinitialize(preserveState=True) after adding it");
}

void SpacetimeForce::updateParametersInContext(Context& context) {
    getImpl(context).updateParametersInContext(getContextImpl(context));
}

vector<double> SpacetimeForce::getVariableValues(Context& context) const {
    vector<double> values;
    getImpl(context).getVariableValues(getContextImpl(context), values);
    return values;
}

vector<double> SpacetimeForce::getStatistic(Context& context) const {
    vector<double> statistic;
    getImpl(context).getStatistic(getContextImpl(context), statistic);
    return statistic;
}

double SpacetimeForce::getBiasEnergy(Context& context) const {
    return getImpl(context).getBiasEnergy(getContextImpl(context));
}

ForceImpl* SpacetimeForce::createImpl() const {
    return new SpacetimeForceImpl(*this);
}

}  // namespace SpacetimePlugin
