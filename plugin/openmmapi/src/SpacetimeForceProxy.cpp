// SPDX-License-Identifier: MIT
#include "openmmspacetime/serialization/SpacetimeForceProxy.h"
#include "openmm/OpenMMException.h"
#include "openmm/serialization/SerializationNode.h"
#include "openmmspacetime/SpacetimeForce.h"
#include <memory>
#include <string>
#include <typeinfo>
#include <vector>

using namespace OpenMM;
using std::string;
using std::vector;

namespace SpacetimePlugin {

static const int VERSION = 1;

SpacetimeForceProxy::SpacetimeForceProxy() : SerializationProxy("SpacetimeForce") {
}

void SpacetimeForceProxy::serialize(const void* object, SerializationNode& node) const {
    const SpacetimeForce& force = *static_cast<const SpacetimeForce*>(object);
    node.setIntProperty("version", VERSION);
    node.setStringProperty("name", force.getName());
    node.setIntProperty("forceGroup", force.getForceGroup());
    node.setBoolProperty("usesPeriodic", force.usesPeriodicBoundaryConditions());
    node.setDoubleProperty("temperature", force.getTemperature());
    node.setDoubleProperty("defaultS", force.getDefaultS());
    node.setStringProperty("parameterName", force.getParameterName());
    SerializationNode& variables = node.createChildNode("Variables");
    for (int i = 0; i < force.getNumVariables(); i++) {
        if (force.getVariableType(i) == SpacetimeForce::Torsion) {
            int p1, p2, p3, p4;
            force.getTorsionParameters(i, p1, p2, p3, p4);
            SerializationNode& child = variables.createChildNode("Torsion");
            child.setStringProperty("name", force.getVariableName(i));
            child.setIntProperty("p1", p1).setIntProperty("p2", p2).setIntProperty("p3", p3).setIntProperty("p4", p4);
        }
        else {
            int particle, axis;
            double period, shift, scale;
            force.getCoordinateParameters(i, particle, axis, period, shift, scale);
            SerializationNode& child = variables.createChildNode("Coordinate");
            child.setStringProperty("name", force.getVariableName(i));
            child.setIntProperty("p", particle).setIntProperty("axis", axis);
            child.setDoubleProperty("period", period).setDoubleProperty("shift", shift).setDoubleProperty("scale", scale);
        }
    }
    const vector<double>& s = force.getS();
    const vector<double>& eta = force.getEta();
    int numComponents = static_cast<int>(eta.size()/s.size());
    SerializationNode& curve = node.createChildNode("Curve");
    curve.setIntProperty("components", numComponents);
    for (size_t i = 0; i < s.size(); i++) {
        SerializationNode& child = curve.createChildNode("Node");
        child.setDoubleProperty("s", s[i]);
        for (int k = 0; k < numComponents; k++)
            child.setDoubleProperty("eta"+std::to_string(k), eta[i*numComponents+k]);
    }
}

void* SpacetimeForceProxy::deserialize(const SerializationNode& node) const {
    int version = node.getIntProperty("version");
    if (version < 1 || version > VERSION)
        throw OpenMMException("SpacetimeForce: this XML has version "+std::to_string(version)+", but version "+std::to_string(VERSION)+
                              " is the newest that is known here; install a newer openmm-spacetime to read it");
    const SerializationNode& curve = node.getChildNode("Curve");
    int numComponents = curve.getIntProperty("components");
    vector<double> s, eta;
    for (auto& child : curve.getChildren()) {
        s.push_back(child.getDoubleProperty("s"));
        for (int k = 0; k < numComponents; k++)
            eta.push_back(child.getDoubleProperty("eta"+std::to_string(k)));
    }
    auto force = std::make_unique<SpacetimeForce>(s, eta, node.getDoubleProperty("temperature"));
    for (auto& child : node.getChildNode("Variables").getChildren()) {
        if (child.getName() == "Torsion")
            force->addTorsion(child.getIntProperty("p1"), child.getIntProperty("p2"), child.getIntProperty("p3"), child.getIntProperty("p4"),
                              child.getStringProperty("name"));
        else if (child.getName() == "Coordinate")
            force->addCoordinate(child.getIntProperty("p"), child.getIntProperty("axis"), child.getDoubleProperty("period"),
                                 child.getDoubleProperty("shift"), child.getDoubleProperty("scale"), child.getStringProperty("name"));
        else
            throw OpenMMException("SpacetimeForce: unknown kind of variable in XML: "+child.getName());
    }
    force->setName(node.getStringProperty("name"));
    force->setForceGroup(node.getIntProperty("forceGroup"));
    force->setUsesPeriodicBoundaryConditions(node.getBoolProperty("usesPeriodic"));
    force->setDefaultS(node.getDoubleProperty("defaultS"));
    force->setParameterName(node.getStringProperty("parameterName"));
    return force.release();
}

}  // namespace SpacetimePlugin

// Runs when the library is loaded, so that a System with this force can be read after `import openmm` alone.
extern "C" __attribute__((constructor)) void registerSpacetimeSerializationProxies() {
    OpenMM::SerializationProxy::registerProxy(typeid(SpacetimePlugin::SpacetimeForce), new SpacetimePlugin::SpacetimeForceProxy());
}
