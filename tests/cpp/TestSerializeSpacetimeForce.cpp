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
    SpacetimeForce force({0, 1 / 3.0, 0.7, 1}, {-M_PI, 1 / 7.0, 1e-300, 2e17, -0.1, 5, 6, 7, std::exp(1.0), 9, 10, -11, 0, 0, 1 / 9.0, 13}, 300.1);
    force.addCentroid({9, 5}, {1 / 3.0, 12});
    force.addCentroid({6, 7, 8});
    force.addFrame({-2, 3, 9}, {Vec3(0, 1 / 7.0, 1), Vec3(2, 1e-9, 4), Vec3(-1, 2, 3)}, {1, 2 / 3.0, 4});
    force.addFrame({0, 1, 2}, {Vec3(0, 1, 1), Vec3(2, 1, 4), Vec3(-1, 2, 3)});
    force.addTorsion(3, 2, 1, 0, "phi & <psi>");
    force.addCoordinate(4, 2, 0.0, 1 / 3.0, 0.2);
    force.addAngle(-1, 2, -2, 0.1, 1 / 6.0);
    force.addDistance(-1, 4, 0.7, 3, "d");
    force.addPosition(-2, 1, 0, 0.25, 2 / 3.0);
    force.addWalker(10, 0.1, 1 / 3.0);
    force.addWalker(0);
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
    ASSERT_EQ(5, copy->getNumVariables());
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
    EXPECT_EQ(1 / 3.0, shift);
    EXPECT_EQ(0.2, scale);
    copy->getAngleParameters(2, p1, p2, p3, shift, scale);
    EXPECT_EQ(vector<int>({-1, 2, -2}), vector<int>({p1, p2, p3}));
    EXPECT_EQ(1 / 6.0, scale);
    copy->getDistanceParameters(3, p1, p2, shift, scale);
    EXPECT_EQ(vector<int>({-1, 4}), vector<int>({p1, p2}));
    EXPECT_EQ(0.7, shift);
    int frame;
    copy->getPositionParameters(4, p1, axis, frame, shift, scale);
    EXPECT_EQ(vector<int>({-2, 1, 0}), vector<int>({p1, axis, frame}));
    EXPECT_EQ(2 / 3.0, scale);
    vector<int> sites;
    vector<double> weights;
    vector<Vec3> reference;
    copy->getCentroidParameters(-1, sites, weights);
    EXPECT_EQ(vector<int>({9, 5}), sites);
    EXPECT_EQ(vector<double>({1 / 3.0, 12}), weights);
    copy->getCentroidParameters(-2, sites, weights);
    EXPECT_EQ(3u, sites.size());
    EXPECT_TRUE(weights.empty());
    ASSERT_EQ(2, copy->getNumFrames());
    copy->getFrameParameters(0, sites, reference, weights);
    EXPECT_EQ(vector<int>({-2, 3, 9}), sites);
    EXPECT_EQ(Vec3(2, 1e-9, 4), reference[1]);
    EXPECT_EQ(2 / 3.0, weights[1]);
    ASSERT_EQ(2, copy->getNumWalkers());
    int offset;
    double intercept, slope;
    copy->getWalkerParameters(0, offset, intercept, slope);
    EXPECT_EQ(10, offset);
    EXPECT_EQ(0.1, intercept);
    EXPECT_EQ(1 / 3.0, slope);
    EXPECT_EQ(serialize(force), serialize(*copy));
}

TEST(SerializeSpacetimeForce, FilesOfVersion1AreRead) {
    const string xml = "<?xml version=\"1.0\" ?><Force type=\"SpacetimeForce\" version=\"1\" name=\"SpacetimeForce\" forceGroup=\"0\" usesPeriodic=\"0\" "
                       "temperature=\"300\" defaultS=\"0\" parameterName=\"spacetime_s\"><Variables><Torsion name=\"phi\" p1=\"4\" p2=\"6\" p3=\"8\" p4=\"14\"/></Variables>"
                       "<Curve components=\"2\"><Node s=\"0\" eta0=\"1\" eta1=\"2\"/><Node s=\"1\" eta0=\"3\" eta1=\"4\"/></Curve></Force>";
    std::unique_ptr<Force> read = deserialize(xml);
    auto& force = dynamic_cast<SpacetimeForce&>(*read);
    EXPECT_EQ("phi", force.getVariableName(0));
    EXPECT_EQ(vector<double>({1, 2, 3, 4}), force.getEta());
    EXPECT_EQ(0, force.getNumWalkers() + force.getNumCentroids() + force.getNumFrames());
}

TEST(SerializeSpacetimeForce, DamagedNumbersAreNamed) {
    string xml = serialize(createForce());
    size_t position = xml.find("2e+17");
    ASSERT_NE(string::npos, position) << xml.substr(0, 3000);
    xml.replace(position, 5, "2e+x7");
    try {
        deserialize(xml);
        FAIL() << "damaged numbers were read";
    }
    catch (const OpenMMException& e) {
        EXPECT_NE(string::npos, string(e.what()).find("expected numbers")) << e.what();
        EXPECT_NE(string::npos, string(e.what()).find("x7")) << e.what();
    }
}

TEST(SerializeSpacetimeForce, NewerVersionsAreRefused) {
    string xml = serialize(createForce());
    string from = "version=\"2\"", to = "version=\"3\"";
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
        EXPECT_NE(string::npos, string(e.what()).find("version 3")) << e.what();
        EXPECT_NE(string::npos, string(e.what()).find("newer openmm-spacetime")) << e.what();
    }
}
