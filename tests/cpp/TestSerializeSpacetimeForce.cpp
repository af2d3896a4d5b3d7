// SPDX-License-Identifier: MIT
#include "openmm/OpenMMException.h"
#include "openmm/serialization/XmlSerializer.h"
#include "openmmspacetime/SpacetimeForce.h"
#include <cmath>
#include <gtest/gtest.h>
#include <memory>
#include <sstream>
#include <string>

using namespace OpenMM;
using SpacetimePlugin::SpacetimeForce;
using std::string;
using std::vector;

namespace {

SpacetimeForce createForce() {
    // Numbers that no short decimal represents.
    SpacetimeForce force({0, 1/3.0, 0.7, 1}, {-M_PI, 1/7.0, 1e-300, 2e17, -0.1, 5, 6, 7, std::exp(1.0), 9, 10, -11, 0, 0, 1/9.0, 13}, 300.1);
    force.addTorsion(3, 2, 1, 0, "phi & <psi>");
    force.addCoordinate(4, 2, 0.0, 1/3.0, 0.2);
    force.setName("my bias");
    force.setForceGroup(7);
    force.setUsesPeriodicBoundaryConditions(true);
    force.setDefaultS(0.1);
    force.setParameterName("walker_s");
    return force;
}

string serialize(const SpacetimeForce& force) {
    std::stringstream buffer;
    XmlSerializer::serialize<Force>(&force, "Force", buffer);
    return buffer.str();
}

std::unique_ptr<Force> deserialize(const string& xml) {
    std::stringstream buffer(xml);
    return std::unique_ptr<Force>(XmlSerializer::deserialize<Force>(buffer));
}

}  // namespace

TEST(SerializeSpacetimeForce, RoundTripIsExact) {
    SpacetimeForce force = createForce();
    std::unique_ptr<Force> read = deserialize(serialize(force));
    auto* copy = dynamic_cast<SpacetimeForce*>(read.get());
    ASSERT_NE(nullptr, copy);
    EXPECT_EQ(force.getS(), copy->getS());
    EXPECT_EQ(force.getEta(), copy->getEta());
    EXPECT_EQ(force.evaluateEta(0.6), copy->evaluateEta(0.6));
    EXPECT_EQ(300.1, copy->getTemperature());
    EXPECT_EQ(0.1, copy->getDefaultS());
    EXPECT_EQ("walker_s", copy->getParameterName());
    EXPECT_EQ("my bias", copy->getName());
    EXPECT_EQ(7, copy->getForceGroup());
    EXPECT_TRUE(copy->usesPeriodicBoundaryConditions());
    ASSERT_EQ(2, copy->getNumVariables());
    EXPECT_EQ("phi & <psi>", copy->getVariableName(0));
    EXPECT_EQ("coordinate1", copy->getVariableName(1));
    int p1, p2, p3, p4, particle, axis;
    double period, shift, scale;
    copy->getTorsionParameters(0, p1, p2, p3, p4);
    EXPECT_EQ(vector<int>({3, 2, 1, 0}), vector<int>({p1, p2, p3, p4}));
    copy->getCoordinateParameters(1, particle, axis, period, shift, scale);
    EXPECT_EQ(4, particle);
    EXPECT_EQ(2, axis);
    EXPECT_EQ(0.0, period);
    EXPECT_EQ(1/3.0, shift);
    EXPECT_EQ(0.2, scale);
    EXPECT_EQ(serialize(force), serialize(*copy));
}

TEST(SerializeSpacetimeForce, NewerVersionsAreRefused) {
    string xml = serialize(createForce());
    string from = "version=\"1\"", to = "version=\"2\"";
    // The first version attribute is the force's.
    size_t position = xml.find(from);
    ASSERT_NE(string::npos, position);
    size_t tag = xml.rfind('<', position);
    ASSERT_EQ("<Force", xml.substr(tag, 6));
    xml.replace(position, from.size(), to);
    try {
        deserialize(xml);
        FAIL() << "a newer version was read";
    }
    catch (const OpenMMException& e) {
        EXPECT_NE(string::npos, string(e.what()).find("version 2")) << e.what();
        EXPECT_NE(string::npos, string(e.what()).find("newer openmm-spacetime")) << e.what();
    }
}
