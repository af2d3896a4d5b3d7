// SPDX-License-Identifier: MIT
#include "openmmspacetime/serialization/SpacetimeForceProxy.h"
#include "openmm/OpenMMException.h"
#include "openmm/serialization/SerializationNode.h"
#include "openmmspacetime/SpacetimeForce.h"
#include <algorithm>
#include <charconv>
#include <memory>
#include <string>
#include <typeinfo>
#include <utility>
#include <vector>

using namespace OpenMM;
using std::string;
using std::vector;

namespace SpacetimePlugin {

// 2: centroids, frames, walkers, angles, distances and positions; a node's numbers in one property.
static const int VERSION = 2;

// Numbers in one property: a property each takes time that grows with the square of their number. Shortest decimals that are read back to the last bit,
// whatever the locale.
static string join(const double* numbers, int count) {
    string result;
    char buffer[32];
    for (int i = 0; i < count; i++) {
        if (i > 0)
            result += ' ';
        result.append(buffer, std::to_chars(buffer, buffer + sizeof(buffer), numbers[i]).ptr);
    }
    return result;
}

static void append(const string& text, vector<double>& numbers) {
    const char *position = text.data(), *end = position + text.size();
    while (position < end) {
        double number;
        auto parsed = std::from_chars(position, end, number);
        if (parsed.ec != std::errc() || (parsed.ptr < end && *parsed.ptr != ' '))
            throw OpenMMException("SpacetimeForce: expected numbers separated by spaces in XML, but got \"" + string(position, std::min<size_t>(end - position, 30)) + "\"");
        numbers.push_back(number);
        position = parsed.ptr + 1;
    }
}

// Characters with a meaning in XML stand as %XX in names: OpenMM's parser loses what follows their entities at the end of a value.
static const std::pair<char, const char*> SPECIAL[] = {{'%', "%25"}, {'<', "%3C"}, {'>', "%3E"}, {'&', "%26"}, {'"', "%22"}, {'\'', "%27"}};

static string encode(const string& name) {
    string result;
    for (const char c : name) {
        const auto* special = std::find_if(std::begin(SPECIAL), std::end(SPECIAL), [&](const auto& s) { return s.first == c; });
        result += special == std::end(SPECIAL) ? string(1, c) : special->second;
    }
    return result;
}

static string decode(const string& name) {
    string result;
    for (size_t i = 0; i < name.size(); i++) {
        const auto* special = std::find_if(std::begin(SPECIAL), std::end(SPECIAL), [&](const auto& s) { return name.compare(i, 3, s.second) == 0; });
        result += special == std::end(SPECIAL) ? name[i] : special->first;
        i += special == std::end(SPECIAL) ? 0 : 2;
    }
    return result;
}

SpacetimeForceProxy::SpacetimeForceProxy() : SerializationProxy("SpacetimeForce") {}

void SpacetimeForceProxy::serialize(const void* object, SerializationNode& node) const {
    const SpacetimeForce& force = *static_cast<const SpacetimeForce*>(object);
    node.setIntProperty("version", VERSION);
    node.setStringProperty("name", force.getName());
    node.setIntProperty("forceGroup", force.getForceGroup());
    node.setBoolProperty("usesPeriodic", force.usesPeriodicBoundaryConditions());
    node.setDoubleProperty("temperature", force.getTemperature());
    node.setDoubleProperty("defaultS", force.getDefaultS());
    node.setStringProperty("parameterName", force.getParameterName());
    vector<int> sites;
    vector<double> weights;
    vector<Vec3> reference;
    SerializationNode& centroids = node.createChildNode("Centroids");
    for (int i = 0; i < force.getNumCentroids(); i++) {
        force.getCentroidParameters(-1 - i, sites, weights);
        SerializationNode& child = centroids.createChildNode("Centroid");
        for (size_t k = 0; k < sites.size(); k++) {
            SerializationNode& member = child.createChildNode("Particle").setIntProperty("p", sites[k]);
            if (!weights.empty())
                member.setDoubleProperty("weight", weights[k]);
        }
    }
    SerializationNode& frames = node.createChildNode("Frames");
    for (int i = 0; i < force.getNumFrames(); i++) {
        force.getFrameParameters(i, sites, reference, weights);
        SerializationNode& child = frames.createChildNode("Frame");
        for (size_t k = 0; k < sites.size(); k++) {
            SerializationNode& member = child.createChildNode("Site").setIntProperty("p", sites[k]);
            member.setDoubleProperty("x", reference[k][0]).setDoubleProperty("y", reference[k][1]).setDoubleProperty("z", reference[k][2]);
            if (!weights.empty())
                member.setDoubleProperty("weight", weights[k]);
        }
    }
    SerializationNode& variables = node.createChildNode("Variables");
    for (int i = 0; i < force.getNumVariables(); i++) {
        int p1, p2, p3, p4, axis, frame;
        double period, shift, scale;
        auto create = [&](const char* kind) -> SerializationNode& { return variables.createChildNode(kind).setStringProperty("name", encode(force.getVariableName(i))); };
        auto setScale = [&](SerializationNode& child) { child.setDoubleProperty("shift", shift).setDoubleProperty("scale", scale); };
        switch (force.getVariableType(i)) {
        case SpacetimeForce::Torsion:
            force.getTorsionParameters(i, p1, p2, p3, p4);
            create("Torsion").setIntProperty("p1", p1).setIntProperty("p2", p2).setIntProperty("p3", p3).setIntProperty("p4", p4);
            break;
        case SpacetimeForce::Coordinate:
            force.getCoordinateParameters(i, p1, axis, period, shift, scale);
            setScale(create("Coordinate").setIntProperty("p", p1).setIntProperty("axis", axis).setDoubleProperty("period", period));
            break;
        case SpacetimeForce::Angle:
            force.getAngleParameters(i, p1, p2, p3, shift, scale);
            setScale(create("Angle").setIntProperty("p1", p1).setIntProperty("p2", p2).setIntProperty("p3", p3));
            break;
        case SpacetimeForce::Distance:
            force.getDistanceParameters(i, p1, p2, shift, scale);
            setScale(create("Distance").setIntProperty("p1", p1).setIntProperty("p2", p2));
            break;
        case SpacetimeForce::Position:
            force.getPositionParameters(i, p1, axis, frame, shift, scale);
            setScale(create("Position").setIntProperty("p", p1).setIntProperty("axis", axis).setIntProperty("frame", frame));
            break;
        }
    }
    SerializationNode& walkers = node.createChildNode("Walkers");
    for (int i = 0; i < force.getNumWalkers(); i++) {
        int offset;
        double intercept, slope;
        force.getWalkerParameters(i, offset, intercept, slope);
        walkers.createChildNode("Walker").setIntProperty("offset", offset).setDoubleProperty("intercept", intercept).setDoubleProperty("slope", slope);
    }
    const vector<double>& s = force.getS();
    const vector<double>& eta = force.getEta();
    int numComponents = static_cast<int>(eta.size() / s.size());
    SerializationNode& curve = node.createChildNode("Curve");
    curve.setIntProperty("components", numComponents);
    for (size_t i = 0; i < s.size(); i++) {
        SerializationNode& child = curve.createChildNode("Node");
        child.setDoubleProperty("s", s[i]);
        child.setStringProperty("eta", join(&eta[i * numComponents], numComponents));
    }
}

void* SpacetimeForceProxy::deserialize(const SerializationNode& node) const {
    int version = node.getIntProperty("version");
    if (version < 1 || version > VERSION)
        throw OpenMMException("SpacetimeForce: this XML has version " + std::to_string(version) + ", but version " + std::to_string(VERSION) +
                              " is the newest that is known here; install a newer openmm-spacetime to read it");
    const SerializationNode& curve = node.getChildNode("Curve");
    int numComponents = curve.getIntProperty("components");
    vector<double> s, eta;
    for (auto& child : curve.getChildren()) {
        s.push_back(child.getDoubleProperty("s"));
        if (version > 1)
            append(child.getStringProperty("eta"), eta);
        for (int k = 0; k < numComponents && version == 1; k++)
            eta.push_back(child.getDoubleProperty("eta" + std::to_string(k)));
    }
    auto force = std::make_unique<SpacetimeForce>(s, eta, node.getDoubleProperty("temperature"));
    // Version 1 has no child of some names.
    auto childrenOf = [&](const string& name) {
        for (const SerializationNode& child : node.getChildren())
            if (child.getName() == name)
                return child.getChildren();
        return vector<SerializationNode>();
    };
    auto weightsOf = [](const SerializationNode& parent) {
        vector<double> weights;
        for (auto& member : parent.getChildren())
            if (member.hasProperty("weight"))
                weights.push_back(member.getDoubleProperty("weight"));
        return weights;
    };
    for (auto& child : childrenOf("Centroids")) {
        vector<int> particles;
        for (auto& member : child.getChildren())
            particles.push_back(member.getIntProperty("p"));
        force->addCentroid(particles, weightsOf(child));
    }
    for (auto& child : childrenOf("Frames")) {
        vector<int> sites;
        vector<Vec3> reference;
        for (auto& member : child.getChildren()) {
            sites.push_back(member.getIntProperty("p"));
            reference.push_back(Vec3(member.getDoubleProperty("x"), member.getDoubleProperty("y"), member.getDoubleProperty("z")));
        }
        force->addFrame(sites, reference, weightsOf(child));
    }
    for (auto& child : childrenOf("Variables")) {
        const string& kind = child.getName();
        const string name = decode(child.getStringProperty("name"));
        auto site = [&](const char* key) { return child.getIntProperty(key); };
        auto number = [&](const char* key) { return child.getDoubleProperty(key); };
        if (kind == "Torsion")
            force->addTorsion(site("p1"), site("p2"), site("p3"), site("p4"), name);
        else if (kind == "Coordinate")
            force->addCoordinate(site("p"), site("axis"), number("period"), number("shift"), number("scale"), name);
        else if (kind == "Angle")
            force->addAngle(site("p1"), site("p2"), site("p3"), number("shift"), number("scale"), name);
        else if (kind == "Distance")
            force->addDistance(site("p1"), site("p2"), number("shift"), number("scale"), name);
        else if (kind == "Position")
            force->addPosition(site("p"), site("axis"), site("frame"), number("shift"), number("scale"), name);
        else
            throw OpenMMException("SpacetimeForce: unknown kind of variable in XML: " + kind);
    }
    for (auto& child : childrenOf("Walkers"))
        force->addWalker(child.getIntProperty("offset"), child.getDoubleProperty("intercept"), child.getDoubleProperty("slope"));
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
