// SPDX-License-Identifier: MIT
#include "openmmspacetime/SpacetimeForce.h"
#include "openmm/OpenMMException.h"
#include "openmm/internal/ContextImpl.h"
#include "openmmspacetime/internal/SpacetimeForceImpl.h"
#include "openmmspacetime/internal/VariableSet.h"
#include <cmath>
#include <map>
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

const double TWO_PI = 2 * M_PI;

const char* const TYPE_NAMES[] = {"torsion", "coordinate", "angle", "distance", "position"};

// Weights are optional: empty, or one positive number for each of `count` things.
void checkWeights(const vector<double>& weights, size_t count, const string& what) {
    if (!weights.empty() && weights.size() != count)
        fail(what, " expects ", count, " weights or none, but got ", weights.size());
    for (size_t i = 0; i < weights.size(); i++)
        if (!std::isfinite(weights[i]) || weights[i] <= 0)
            fail(what, " expects positive weights, but weight ", i, " is ", weights[i]);
}

// Whether all points lie on the line through their centre and the point that is farthest from it.
bool areCollinear(const vector<Vec3>& points) {
    Vec3 center;
    for (const Vec3& p : points)
        center += p;
    center /= points.size();
    Vec3 axis;
    for (const Vec3& p : points)
        if ((p - center).dot(p - center) > axis.dot(axis))
            axis = p - center;
    double length = std::sqrt(axis.dot(axis));
    for (const Vec3& p : points) {
        Vec3 area = axis.cross(p - center);
        if (std::sqrt(area.dot(area)) > 1e-4 * length * length)
            return false;
    }
    return true;
}

}  // namespace

SpacetimeForce::SpacetimeForce(const vector<double>& s, const vector<double>& eta, double temperature) : defaultS(0), parameterName("spacetime_s"), periodic(false) {
    setCurve(s, eta);
    setTemperature(temperature);
}

int SpacetimeForce::getNumVariables() const { return static_cast<int>(variables.size()); }

int SpacetimeForce::getNumStatistics() const { return VariableSet(*this).getNumStatistics(); }

int SpacetimeForce::addCentroid(const vector<int>& particles, const vector<double>& weights) {
    const string what = "centroid " + std::to_string(-1 - getNumCentroids());
    if (particles.empty())
        fail(what, " expects at least one particle, but got none");
    for (int particle : particles)
        if (particle < 0)
            fail(what, " expects particle indices of 0 or more, but got ", particle, "; a centroid cannot be made of centroids");
    checkSites(particles, what);
    checkWeights(weights, particles.size(), what);
    centroids.push_back({particles, weights});
    return -getNumCentroids();
}

void SpacetimeForce::getCentroidParameters(int handle, vector<int>& particles, vector<double>& weights) const {
    if (handle >= 0 || handle < -getNumCentroids())
        fail("there is no centroid ", handle, "; ", getNumCentroids(), " have been added, with handles from -1 down");
    particles = centroids[-1 - handle].particles;
    weights = centroids[-1 - handle].weights;
}

int SpacetimeForce::addFrame(const vector<int>& sites, const vector<Vec3>& reference, const vector<double>& weights) {
    const string what = "frame " + std::to_string(getNumFrames());
    if (sites.size() < 3)
        fail(what, " expects at least three sites, but got ", sites.size());
    checkSites(sites, what);
    if (reference.size() != sites.size())
        fail(what, " expects a reference position for each of its ", sites.size(), " sites, but got ", reference.size());
    for (size_t i = 0; i < reference.size(); i++)
        for (int k = 0; k < 3; k++)
            if (!std::isfinite(reference[i][k]))
                fail(what, " expects finite reference positions, but component ", k, " of position ", i, " is ", reference[i][k]);
    if (areCollinear(reference))
        fail(what, " expects reference positions that do not all lie on one line: the rotation about it would be undefined");
    checkWeights(weights, sites.size(), what);
    frames.push_back({sites, reference, weights});
    return getNumFrames() - 1;
}

void SpacetimeForce::getFrameParameters(int frame, vector<int>& sites, vector<Vec3>& reference, vector<double>& weights) const {
    if (frame < 0 || frame >= getNumFrames())
        fail("there is no frame ", frame, "; ", getNumFrames(), " have been added");
    sites = frames[frame].sites;
    reference = frames[frame].reference;
    weights = frames[frame].weights;
}

// Every site exists, and no particle belongs to two of them. Whether the System has the particles is checked when a Context is created.
void SpacetimeForce::checkSites(const vector<int>& sites, const string& what) const {
    std::map<int, int> seen;
    for (size_t i = 0; i < sites.size(); i++) {
        if (sites[i] < -getNumCentroids())
            fail(what, " expects indices of particles or handles of centroids, but site ", i + 1, " is ", sites[i], " and ",
                 (centroids.empty() ? string("no centroid has been added") : "the centroids are -1 to " + std::to_string(-getNumCentroids())));
        const vector<int>& particles = (sites[i] < 0 ? centroids[-1 - sites[i]].particles : vector<int>(1, sites[i]));
        for (int particle : particles) {
            auto found = seen.find(particle);
            if (found != seen.end())
                fail(what, " expects sites that do not overlap, but sites ", found->second + 1, " and ", i + 1, " (", sites[found->second], " and ", sites[i],
                     ") both contain particle ", particle);
            seen[particle] = static_cast<int>(i);
        }
    }
}

void SpacetimeForce::checkVariable(const Variable& v, const string& what) const {
    checkSites(v.sites, what);
    if (v.axis < 0 || v.axis > 2)
        fail(what, " expects axis to be 0, 1 or 2 for x, y or z, but it is ", v.axis);
    if (!std::isfinite(v.period) || v.period < 0)
        fail(what, " expects period to be a length in nm, or 0 for a coordinate that is not periodic, but it is ", v.period);
    if (!std::isfinite(v.shift))
        fail(what, " expects shift to be a finite number, but it is ", v.shift);
    if (!std::isfinite(v.scale) || v.scale <= 0)
        fail(what, " expects scale to be positive, but it is ", v.scale);
    if (v.period > 0 && (v.shift != 0 || v.scale != 1))
        fail(what, " got shift = ", v.shift, " and scale = ", v.scale, " for a coordinate with period ", v.period,
             "; a periodic coordinate enters as cos and sin of 2 pi raw/period and takes neither");
    if (v.type == Position && (v.frame < 0 || v.frame >= getNumFrames()))
        fail(what, " expects the index of a frame, but there is no frame ", v.frame, "; ", getNumFrames(), " have been added");
}

int SpacetimeForce::addVariable(Variable v) {
    const string index = std::to_string(variables.size());
    if (v.name.empty())
        v.name = TYPE_NAMES[v.type] + index;
    checkVariable(v, "variable " + index + " (" + v.name + ")");
    variables.push_back(std::move(v));
    return getNumVariables() - 1;
}

void SpacetimeForce::setVariable(int index, Variable v) {
    v.name = variables[index].name;
    checkVariable(v, "variable " + std::to_string(index) + " (" + v.name + ")");
    variables[index] = std::move(v);
}

int SpacetimeForce::addTorsion(int site1, int site2, int site3, int site4, const string& name) {
    return addVariable({Torsion, {site1, site2, site3, site4}, 0, -1, TWO_PI, 0.0, 1.0, name});
}

int SpacetimeForce::addCoordinate(int site, int axis, double period, double shift, double scale, const string& name) {
    return addVariable({Coordinate, {site}, axis, -1, period, shift, scale, name});
}

int SpacetimeForce::addAngle(int site1, int site2, int site3, double shift, double scale, const string& name) {
    return addVariable({Angle, {site1, site2, site3}, 0, -1, 0.0, shift, scale, name});
}

int SpacetimeForce::addDistance(int site1, int site2, double shift, double scale, const string& name) {
    return addVariable({Distance, {site1, site2}, 0, -1, 0.0, shift, scale, name});
}

int SpacetimeForce::addPosition(int site, int axis, int frame, double shift, double scale, const string& name) {
    return addVariable({Position, {site}, axis, frame, 0.0, shift, scale, name});
}

int SpacetimeForce::checkVariable(int index) const {
    if (index < 0 || index >= getNumVariables())
        fail("there is no variable ", index, "; ", getNumVariables(), " have been added");
    return index;
}

const SpacetimeForce::Variable& SpacetimeForce::variable(int index, VariableType type, const char* method) const {
    const Variable& v = variables[checkVariable(index)];
    auto article = [](VariableType t) { return string(t == Angle ? "an " : "a ") + TYPE_NAMES[t]; };
    if (v.type != type)
        fail(method, " expects ", article(type), ", but variable ", index, " (", v.name, ") is ", article(v.type));
    return v;
}

SpacetimeForce::VariableType SpacetimeForce::getVariableType(int index) const { return variables[checkVariable(index)].type; }

const char* SpacetimeForce::getVariableTypeName(VariableType type) { return TYPE_NAMES[type]; }

const string& SpacetimeForce::getVariableName(int index) const { return variables[checkVariable(index)].name; }

void SpacetimeForce::setVariableName(int index, const string& name) { variables[checkVariable(index)].name = name; }

void SpacetimeForce::getTorsionParameters(int index, int& site1, int& site2, int& site3, int& site4) const {
    const Variable& v = variable(index, Torsion, "getTorsionParameters");
    site1 = v.sites[0];
    site2 = v.sites[1];
    site3 = v.sites[2];
    site4 = v.sites[3];
}

void SpacetimeForce::setTorsionParameters(int index, int site1, int site2, int site3, int site4) {
    variable(index, Torsion, "setTorsionParameters");
    setVariable(index, {Torsion, {site1, site2, site3, site4}, 0, -1, TWO_PI, 0.0, 1.0, ""});
}

void SpacetimeForce::getCoordinateParameters(int index, int& site, int& axis, double& period, double& shift, double& scale) const {
    const Variable& v = variable(index, Coordinate, "getCoordinateParameters");
    site = v.sites[0];
    axis = v.axis;
    period = v.period;
    shift = v.shift;
    scale = v.scale;
}

void SpacetimeForce::setCoordinateParameters(int index, int site, int axis, double period, double shift, double scale) {
    variable(index, Coordinate, "setCoordinateParameters");
    setVariable(index, {Coordinate, {site}, axis, -1, period, shift, scale, ""});
}

void SpacetimeForce::getAngleParameters(int index, int& site1, int& site2, int& site3, double& shift, double& scale) const {
    const Variable& v = variable(index, Angle, "getAngleParameters");
    site1 = v.sites[0];
    site2 = v.sites[1];
    site3 = v.sites[2];
    shift = v.shift;
    scale = v.scale;
}

void SpacetimeForce::setAngleParameters(int index, int site1, int site2, int site3, double shift, double scale) {
    variable(index, Angle, "setAngleParameters");
    setVariable(index, {Angle, {site1, site2, site3}, 0, -1, 0.0, shift, scale, ""});
}

void SpacetimeForce::getDistanceParameters(int index, int& site1, int& site2, double& shift, double& scale) const {
    const Variable& v = variable(index, Distance, "getDistanceParameters");
    site1 = v.sites[0];
    site2 = v.sites[1];
    shift = v.shift;
    scale = v.scale;
}

void SpacetimeForce::setDistanceParameters(int index, int site1, int site2, double shift, double scale) {
    variable(index, Distance, "setDistanceParameters");
    setVariable(index, {Distance, {site1, site2}, 0, -1, 0.0, shift, scale, ""});
}

void SpacetimeForce::getPositionParameters(int index, int& site, int& axis, int& frame, double& shift, double& scale) const {
    const Variable& v = variable(index, Position, "getPositionParameters");
    site = v.sites[0];
    axis = v.axis;
    frame = v.frame;
    shift = v.shift;
    scale = v.scale;
}

void SpacetimeForce::setPositionParameters(int index, int site, int axis, int frame, double shift, double scale) {
    variable(index, Position, "setPositionParameters");
    setVariable(index, {Position, {site}, axis, frame, 0.0, shift, scale, ""});
}

static void checkWalker(size_t index, int offset, double intercept, double slope) {
    if (offset < 0)
        fail("walker ", index, " expects an offset of 0 or more, but it is ", offset);
    if (!std::isfinite(intercept) || !std::isfinite(slope))
        fail("walker ", index, " expects a finite intercept and slope, but they are ", intercept, " and ", slope);
}

int SpacetimeForce::addWalker(int offset, double intercept, double slope) {
    checkWalker(walkers.size(), offset, intercept, slope);
    walkers.push_back({offset, intercept, slope});
    return getNumWalkers() - 1;
}

void SpacetimeForce::getWalkerParameters(int index, int& offset, double& intercept, double& slope) const {
    if (index < 0 || index >= getNumWalkers())
        fail("there is no walker ", index, "; ", getNumWalkers(), " have been added");
    offset = walkers[index].offset;
    intercept = walkers[index].intercept;
    slope = walkers[index].slope;
}

void SpacetimeForce::setWalkerParameters(int index, int offset, double intercept, double slope) {
    if (index < 0 || index >= getNumWalkers())
        fail("there is no walker ", index, "; ", getNumWalkers(), " have been added");
    checkWalker(index, offset, intercept, slope);
    walkers[index] = {offset, intercept, slope};
}

void SpacetimeForce::setCurve(const vector<double>& s, const vector<double>& eta) {
    size_t numNodes = s.size();
    if (numNodes < 2)
        fail("a curve needs at least 2 nodes, but s has ", numNodes);
    for (size_t i = 0; i < numNodes; i++)
        if (!std::isfinite(s[i]))
            fail("s must be finite, but s[", i, "] is ", s[i]);
    for (size_t i = 1; i < numNodes; i++)
        if (s[i] <= s[i - 1])
            fail("s must increase strictly, but s[", i - 1, "] = ", s[i - 1], " and s[", i, "] = ", s[i]);
    if (s.front() != 0 || s.back() != 1)
        fail("s must run from 0 to 1, but it runs from ", s.front(), " to ", s.back());
    if (eta.empty() || eta.size() % numNodes != 0)
        fail("eta must hold the same number of components for each of the ", numNodes, " nodes, but it has ", eta.size(), " numbers");
    size_t numComponents = eta.size() / numNodes;
    for (size_t i = 0; i < eta.size(); i++)
        if (!std::isfinite(eta[i]))
            fail("eta must be finite, but component ", i % numComponents, " at node ", i / numComponents, " is ", eta[i]);
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

void SpacetimeForce::updateParametersInContext(Context& context) { getImpl(context).updateParametersInContext(getContextImpl(context)); }

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

double SpacetimeForce::getBiasEnergy(Context& context) const { return getImpl(context).getBiasEnergy(getContextImpl(context)); }

ForceImpl* SpacetimeForce::createImpl() const { return new SpacetimeForceImpl(*this); }

}  // namespace SpacetimePlugin
