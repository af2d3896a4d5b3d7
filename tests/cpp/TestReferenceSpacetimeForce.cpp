// SPDX-License-Identifier: MIT
#include "ReferenceSpacetimeKernelFactory.h"
#include "openmm/Context.h"
#include "openmm/OpenMMException.h"
#include "openmm/Platform.h"
#include "openmm/State.h"
#include "openmm/System.h"
#include "openmm/VerletIntegrator.h"
#include "openmmspacetime/SpacetimeForce.h"
#include "ExpectError.h"
#include <cmath>
#include <functional>
#include <gtest/gtest.h>
#include <random>

using namespace OpenMM;
using SpacetimePlugin::SpacetimeForce;
using std::string;
using std::vector;

namespace {

const double KT_300 = 8.31446261815324e-3*300.0;

class ReferenceSpacetimeForce : public ::testing::Test {
protected:
    static void SetUpTestSuite() {
        registerSpacetimeReferenceKernelFactories();
    }
    Platform& platform = Platform::getPlatformByName("Reference");
    VerletIntegrator integrator{0.001};
    std::mt19937 random{20240607};

    double uniform(double low, double high) {
        return std::uniform_real_distribution<double>(low, high)(random);
    }

    vector<double> randomNodes(int count) {
        vector<double> s(count);
        for (int i = 1; i < count; i++)
            s[i] = s[i-1]+uniform(0.1, 1.0);
        for (double& value : s)
            value /= s.back();
        s.back() = 1.0;
        return s;
    }

    vector<double> randomEta(int nodes, int components, double size = 20) {
        vector<double> eta(nodes*components);
        for (double& value : eta)
            value = uniform(-size, size);
        return eta;
    }

    vector<Vec3> randomPositions(int count, double size = 1.0) {
        vector<Vec3> positions;
        for (int i = 0; i < count; i++)
            positions.push_back(Vec3(uniform(0, size), uniform(0, size), uniform(0, size)));
        return positions;
    }

    // Forces against central differences of the energy, dU/ds and dU/dkT against differences in the parameters.
    void checkDerivatives(System& system, const vector<Vec3>& positions, double s) {
        Context context(system, integrator, platform);
        context.setPositions(positions);
        context.setParameter("spacetime_s", s);
        State state = context.getState(State::Forces | State::Energy | State::ParameterDerivatives);
        vector<Vec3> forces = state.getForces();
        double norm = 0;
        for (const Vec3& f : forces)
            norm += f.dot(f);
        norm = std::sqrt(norm);
        ASSERT_GT(norm, 1.0);
        const double h = 1e-6;
        Vec3 total;
        for (size_t i = 0; i < positions.size(); i++) {
            total += forces[i];
            for (int k = 0; k < 3; k++) {
                double energy[2];
                for (int side = 0; side < 2; side++) {
                    vector<Vec3> moved = positions;
                    moved[i][k] += (side == 0 ? -h : h);
                    context.setPositions(moved);
                    energy[side] = context.getState(State::Energy).getPotentialEnergy();
                }
                EXPECT_NEAR(-(energy[1]-energy[0])/(2*h), forces[i][k], 2e-7*norm) << "particle " << i << ", axis " << k;
            }
        }
        context.setPositions(positions);
        for (const string& name : {string("spacetime_s"), SpacetimeForce::KT()}) {
            double value = context.getParameter(name), energy[2];
            for (int side = 0; side < 2; side++) {
                context.setParameter(name, value+(side == 0 ? -h : h));
                energy[side] = context.getState(State::Energy).getPotentialEnergy();
            }
            context.setParameter(name, value);
            double expected = (energy[1]-energy[0])/(2*h);
            EXPECT_NEAR(expected, state.getEnergyParameterDerivatives().at(name), 1e-7*(1+std::fabs(expected))) << name;
        }
    }
};

// A dihedral written down from its definition: the angle between the projections of the outer bonds on the plane normal to the middle one.
double dihedral(const Vec3& a, const Vec3& b, const Vec3& c, const Vec3& d) {
    Vec3 axis = c-b;
    axis /= std::sqrt(axis.dot(axis));
    Vec3 u = a-b, v = d-c;
    u -= axis*u.dot(axis);
    v -= axis*v.dot(axis);
    return std::atan2(axis.dot(u.cross(v)), u.dot(v));
}

}  // namespace

TEST_F(ReferenceSpacetimeForce, EnergyOfTorsionsIsTheVonMisesTilt) {
    System system;
    for (int i = 0; i < 6; i++)
        system.addParticle(12.0);
    // Constant along the curve: kappa cos(phi - phi0) for two torsions.
    double kappa[] = {54.6, 7.5}, phi0[] = {-2.9, 1.1};
    vector<double> node = {kappa[0]*std::cos(phi0[0]), kappa[0]*std::sin(phi0[0]), kappa[1]*std::cos(phi0[1]), kappa[1]*std::sin(phi0[1])};
    vector<double> eta = node;
    eta.insert(eta.end(), node.begin(), node.end());
    SpacetimeForce* force = new SpacetimeForce({0, 1}, eta, 300.0);
    force->addTorsion(0, 1, 2, 3);
    force->addTorsion(5, 1, 4, 2);
    EXPECT_EQ(4, force->getNumStatistics());
    system.addForce(force);
    Context context(system, integrator, platform);
    for (int repeat = 0; repeat < 20; repeat++) {
        vector<Vec3> p = randomPositions(6);
        context.setPositions(p);
        double phi = dihedral(p[0], p[1], p[2], p[3]), psi = dihedral(p[5], p[1], p[4], p[2]);
        double expected = -KT_300*(kappa[0]*std::cos(phi-phi0[0])+kappa[1]*std::cos(psi-phi0[1]));
        double energy = context.getState(State::Energy).getPotentialEnergy();
        EXPECT_NEAR(expected, energy, 1e-10*KT_300*kappa[0]);
        // The energy is a pure function: neither asking again nor the other ways to ask change it.
        EXPECT_EQ(energy, context.getState(State::Energy | State::Forces).getPotentialEnergy());
        EXPECT_EQ(energy, force->getBiasEnergy(context));
        vector<double> values = force->getVariableValues(context);
        EXPECT_NEAR(phi, values[0], 1e-12);
        EXPECT_NEAR(psi, values[1], 1e-12);
        vector<double> t = force->getStatistic(context);
        EXPECT_NEAR(std::cos(phi), t[0], 1e-12);
        EXPECT_NEAR(std::sin(phi), t[1], 1e-12);
        EXPECT_NEAR(std::cos(psi), t[2], 1e-12);
        EXPECT_NEAR(std::sin(psi), t[3], 1e-12);
    }
}

TEST_F(ReferenceSpacetimeForce, EnergyOfCoordinatesIsAHarmonicWell) {
    System system;
    system.addParticle(1.0);
    system.addParticle(1.0);
    // U = kT/2 e^l (|d - m|^2 - |m|^2), eta = (-e^l/2, e^l m), and e^l, m change linearly along the curve.
    double precision[] = {4.0, 9.0}, m[2][2] = {{0.5, -1.0}, {2.0, 0.25}};
    vector<double> eta;
    for (int i = 0; i < 2; i++) {
        eta.push_back(-0.5*precision[i]);
        for (int k = 0; k < 2; k++)
            eta.push_back(precision[i]*m[i][k]);
    }
    SpacetimeForce* force = new SpacetimeForce({0, 1}, eta, 300.0);
    force->addCoordinate(0, 1, 0.0, 0.3, 0.2);
    force->addCoordinate(1, 2, 0.0, -0.1, 1.5);
    system.addForce(force);
    Context context(system, integrator, platform);
    context.setPositions({Vec3(9, 0.7, 9), Vec3(9, 9, -0.4)});
    double d[] = {(0.7-0.3)/0.2, (-0.4+0.1)/1.5};
    for (double s : {0.0, 0.25, 1.0}) {
        context.setParameter("spacetime_s", s);
        double p = (1-s)*precision[0]+s*precision[1], expected = 0.5*p*(d[0]*d[0]+d[1]*d[1]);
        for (int k = 0; k < 2; k++)
            expected -= d[k]*((1-s)*precision[0]*m[0][k]+s*precision[1]*m[1][k]);
        EXPECT_NEAR(KT_300*expected, context.getState(State::Energy).getPotentialEnergy(), 1e-11);
    }
    EXPECT_NEAR(0.7, force->getVariableValues(context)[0], 1e-15);
    vector<double> t = force->getStatistic(context);
    ASSERT_EQ(3u, t.size());
    EXPECT_NEAR(d[0]*d[0]+d[1]*d[1], t[0], 1e-13);
    EXPECT_NEAR(d[0], t[1], 1e-13);
    EXPECT_NEAR(d[1], t[2], 1e-13);
}

TEST_F(ReferenceSpacetimeForce, DerivativesOfMixedVariables) {
    for (int repeat = 0; repeat < 5; repeat++) {
        System system;
        for (int i = 0; i < 7; i++)
            system.addParticle(1.0);
        // |d|^2, cos sin, d, cos sin, d
        SpacetimeForce* force = new SpacetimeForce(randomNodes(6), randomEta(6, 7), 250.0+100*repeat);
        force->addTorsion(3, 0, 5, 1);
        force->addCoordinate(2, 0, 0.0, 0.1, 0.3);
        force->addCoordinate(6, 2, 0.8);
        force->addCoordinate(3, 1, 0.0, -0.2, 2.0);
        system.addForce(force);
        checkDerivatives(system, randomPositions(7), uniform(0.05, 0.95));
    }
}

TEST_F(ReferenceSpacetimeForce, DerivativesOfTorsionsInATriclinicBox) {
    for (bool periodic : {true, false}) {
        System system;
        for (int i = 0; i < 8; i++)
            system.addParticle(1.0);
        Vec3 box[] = {Vec3(2.0, 0, 0), Vec3(0.5, 1.8, 0), Vec3(-0.7, 0.4, 1.9)};
        system.setDefaultPeriodicBoxVectors(box[0], box[1], box[2]);
        SpacetimeForce* force = new SpacetimeForce(randomNodes(4), randomEta(4, 4), 300.0);
        force->addTorsion(0, 1, 2, 3);
        force->addTorsion(4, 5, 6, 7);
        force->setUsesPeriodicBoundaryConditions(periodic);
        EXPECT_EQ(periodic, force->usesPeriodicBoundaryConditions());
        system.addForce(force);
        vector<Vec3> compact = randomPositions(8, 0.5), scattered = compact;
        for (Vec3& p : scattered)
            for (const Vec3& v : box)
                p += v*std::uniform_int_distribution<int>(-2, 2)(random);
        vector<double> values[2];
        for (int i = 0; i < 2; i++) {
            VerletIntegrator other(0.001);
            Context context(system, other, platform);
            context.setPositions(i == 0 ? compact : scattered);
            values[i] = force->getVariableValues(context);
        }
        for (int i = 0; i < 2; i++)
            if (periodic) {
                EXPECT_NEAR(values[0][i], values[1][i], 1e-10);
            }
            else {
                EXPECT_GT(std::fabs(values[0][i]-values[1][i]), 1e-3);
            }
        checkDerivatives(system, scattered, 0.4);
    }
}

TEST_F(ReferenceSpacetimeForce, PeriodicCoordinateRepeats) {
    System system;
    system.addParticle(1.0);
    SpacetimeForce* force = new SpacetimeForce({0, 1}, {3, 4, 3, 4}, 300.0);
    force->addCoordinate(0, 0, 0.8);
    system.addForce(force);
    Context context(system, integrator, platform);
    for (double x : {0.3, 0.3-0.8, 0.3+8.0}) {
        context.setPositions({Vec3(x, 0, 0)});
        double theta = 2*M_PI*0.3/0.8;
        EXPECT_NEAR(-KT_300*(3*std::cos(theta)+4*std::sin(theta)), context.getState(State::Energy).getPotentialEnergy(), 1e-11);
        EXPECT_NEAR(0.3, force->getVariableValues(context)[0], 1e-12);
    }
    for (double x : {0.4, -0.4}) {
        context.setPositions({Vec3(x, 0, 0)});
        EXPECT_EQ(0.4, force->getVariableValues(context)[0]);
    }
}

TEST_F(ReferenceSpacetimeForce, SIsClamped) {
    System system;
    system.addParticle(1.0);
    SpacetimeForce* force = new SpacetimeForce({0, 0.5, 1}, {1, 0, 3, 1, 5, 2}, 300.0);
    force->addCoordinate(0, 0, 1.0);
    system.addForce(force);
    Context context(system, integrator, platform);
    context.setPositions({Vec3(0.1, 0, 0)});
    auto evaluate = [&](double s) {
        context.setParameter("spacetime_s", s);
        return context.getState(State::Energy | State::ParameterDerivatives);
    };
    EXPECT_EQ(evaluate(0).getPotentialEnergy(), evaluate(-0.3).getPotentialEnergy());
    EXPECT_EQ(evaluate(1).getPotentialEnergy(), evaluate(1.7).getPotentialEnergy());
    EXPECT_EQ(0.0, evaluate(-0.3).getEnergyParameterDerivatives().at("spacetime_s"));
    EXPECT_EQ(0.0, evaluate(1.7).getEnergyParameterDerivatives().at("spacetime_s"));
    EXPECT_NE(0.0, evaluate(0).getEnergyParameterDerivatives().at("spacetime_s"));
    EXPECT_EQ(vector<double>({3, 1}), force->evaluateEta(0.5));
    EXPECT_EQ(vector<double>({5, 2}), force->evaluateEta(1));
}

TEST_F(ReferenceSpacetimeForce, CurveStaysBetweenItsNodesAndIsSmooth) {
    vector<double> s = randomNodes(9), eta = randomEta(9, 3);
    SpacetimeForce force(s, eta, 300.0);
    for (int i = 0; i+1 < 9; i++) {
        for (double u : {0.0, 0.1, 0.5, 0.83}) {
            double position = s[i]+u*(s[i+1]-s[i]), h = 1e-7*(s[i+1]-s[i]);
            vector<double> value = force.evaluateEta(position), derivative = force.evaluateEtaDerivative(position);
            vector<double> left = force.evaluateEta(position-h), right = force.evaluateEta(position+h);
            for (int k = 0; k < 3; k++) {
                double a = eta[3*i+k], b = eta[3*(i+1)+k];
                EXPECT_GE(value[k], std::min(a, b)-1e-12);
                EXPECT_LE(value[k], std::max(a, b)+1e-12);
                if (u > 0) {
                    EXPECT_NEAR((right[k]-left[k])/(2*h), derivative[k], 1e-4);
                }
                else if (i > 0) {
                    EXPECT_NEAR((right[k]-value[k])/h, (value[k]-left[k])/h, 1e-2);   // C1 at the nodes
                }
            }
        }
    }
}

TEST_F(ReferenceSpacetimeForce, CollinearTorsionGivesFiniteForces) {
    System system;
    for (int i = 0; i < 4; i++)
        system.addParticle(1.0);
    SpacetimeForce* force = new SpacetimeForce({0, 1}, {5, 3, 5, 3}, 300.0);
    force->addTorsion(0, 1, 2, 3);
    system.addForce(force);
    Context context(system, integrator, platform);
    context.setPositions({Vec3(0, 0, 0), Vec3(0.1, 0.1, 0), Vec3(0.2, 0.2, 0), Vec3(0.2, 0.3, 0.1)});
    State state = context.getState(State::Energy | State::Forces);
    EXPECT_TRUE(std::isfinite(state.getPotentialEnergy()));
    for (const Vec3& f : state.getForces())
        EXPECT_EQ(0.0, f.dot(f));
    // A position that is not a number must not be hidden by the guard.
    context.setPositions({Vec3(NAN, 0, 0), Vec3(0.1, 0.1, 0), Vec3(0.2, 0.2, 0.1), Vec3(0.2, 0.3, 0.1)});
    EXPECT_TRUE(std::isnan(context.getState(State::Forces).getForces()[0][0]));
}

TEST_F(ReferenceSpacetimeForce, TwoCurvesAndForceGroups) {
    System system;
    system.addParticle(1.0);
    SpacetimeForce* forces[2];
    for (int i = 0; i < 2; i++) {
        forces[i] = new SpacetimeForce({0, 1}, {1.0+i, 2, 5, -3.0+i}, 300.0);
        forces[i]->addCoordinate(0, i, 1.0);
        forces[i]->setForceGroup(i+1);
        system.addForce(forces[i]);
    }
    forces[0]->setDefaultS(0.25);
    forces[1]->setParameterName("other_s");
    forces[1]->setDefaultS(0.75);
    Context context(system, integrator, platform);
    context.setPositions({Vec3(0.1, 0.2, 0)});
    EXPECT_EQ(0.25, context.getParameter("spacetime_s"));
    EXPECT_EQ(0.75, context.getParameter("other_s"));
    EXPECT_NEAR(KT_300, context.getParameter(SpacetimeForce::KT()), 1e-14);
    EXPECT_NE(forces[0]->getBiasEnergy(context), forces[1]->getBiasEnergy(context));
    for (int i = 0; i < 2; i++)
        EXPECT_EQ(forces[i]->getBiasEnergy(context), context.getState(State::Energy, false, 1<<(i+1)).getPotentialEnergy());
    EXPECT_EQ(0.0, context.getState(State::Energy, false, 1).getPotentialEnergy());
    EXPECT_NEAR(forces[0]->getBiasEnergy(context)+forces[1]->getBiasEnergy(context), context.getState(State::Energy).getPotentialEnergy(), 1e-12);

    // kT is a parameter: the bias is proportional to it.
    double before = forces[0]->getBiasEnergy(context);
    context.setParameter(SpacetimeForce::KT(), 2*KT_300);
    EXPECT_NEAR(2*before, forces[0]->getBiasEnergy(context), 1e-12);

    forces[1]->setTemperature(310.0);
    expectError<OpenMM::OpenMMException>([&] { VerletIntegrator other(0.001); Context c(system, other, platform); }, {"spacetime_kT"});
}

TEST_F(ReferenceSpacetimeForce, UpdateParametersInContext) {
    System system;
    for (int i = 0; i < 5; i++)
        system.addParticle(1.0);
    auto* force = new SpacetimeForce({0, 1}, {-1, 2, 3, 4, -1, 2, 3, 4}, 300.0);
    force->addTorsion(0, 1, 2, 3);
    force->addCoordinate(4, 0);
    system.addForce(force);
    Context context(system, integrator, platform);
    context.setPositions(randomPositions(5));
    double before = force->getBiasEnergy(context);
    force->setCurve({0, 0.5, 1}, {-1, 5, 2, 1, -2, 1, 2, 3, -3, 0, 2, 1});
    force->setCoordinateParameters(1, 4, 0, 0.0, 0.5, 2.0);
    EXPECT_EQ(before, force->getBiasEnergy(context));
    EXPECT_EQ(before, context.getState(State::Energy).getPotentialEnergy());
    force->updateParametersInContext(context);
    double after = force->getBiasEnergy(context);
    EXPECT_NE(before, after);
    EXPECT_EQ(after, context.getState(State::Energy).getPotentialEnergy());
    VerletIntegrator other(0.001);
    Context fresh(system, other, platform);
    fresh.setPositions(context.getState(State::Positions).getPositions());
    EXPECT_EQ(after, force->getBiasEnergy(fresh));

    force->setTorsionParameters(0, 0, 1, 2, 4);
    expectError<OpenMM::OpenMMException>([&] { force->updateParametersInContext(context); }, {"SpacetimeForce", "number, types or particles", "reinitialize"});
    force->setTorsionParameters(0, 0, 1, 2, 3);
    force->updateParametersInContext(context);
    force->setCurve({0, 1}, {1, 2, 3, 1, 2, 3});
    expectError<OpenMM::OpenMMException>([&] { force->updateParametersInContext(context); }, {"3 components", "4 statistics"});
    force->addTorsion(1, 2, 3, 4);
    force->setCurve({0, 1}, vector<double>(12, 1.0));
    expectError<OpenMM::OpenMMException>([&] { force->updateParametersInContext(context); }, {"number, types or particles"});
}

TEST_F(ReferenceSpacetimeForce, BadInputsAreNamed) {
    const double nan = NAN;
    expectError<OpenMM::OpenMMException>([&] { SpacetimeForce({0}, {1}, 300); }, {"SpacetimeForce", "at least 2 nodes", "1"});
    expectError<OpenMM::OpenMMException>([&] { SpacetimeForce({0, 0.5, 0.5, 1}, {1, 1, 1, 1}, 300); }, {"increase strictly", "s[2]", "0.5"});
    expectError<OpenMM::OpenMMException>([&] { SpacetimeForce({0, 0.9}, {1, 1}, 300); }, {"0 to 1", "0.9"});
    expectError<OpenMM::OpenMMException>([&] { SpacetimeForce({0, nan, 1}, {1, 1, 1}, 300); }, {"s[1]", "nan"});
    expectError<OpenMM::OpenMMException>([&] { SpacetimeForce({0, 1}, {1, 1, 1}, 300); }, {"2 nodes", "3 numbers"});
    expectError<OpenMM::OpenMMException>([&] { SpacetimeForce({0, 1}, {}, 300); }, {"0 numbers"});
    expectError<OpenMM::OpenMMException>([&] { SpacetimeForce({0, 1}, {1, 1, nan, 1}, 300); }, {"component 0 at node 1", "nan"});
    expectError<OpenMM::OpenMMException>([&] { SpacetimeForce({0, 1}, {1, 1}, 0); }, {"temperature", "positive", "0"});
    expectError<OpenMM::OpenMMException>([&] { SpacetimeForce({0, 1}, {1, 1}, nan); }, {"temperature"});
    SpacetimeForce force({0, 1}, {1, 1, 1, 1}, 300);
    expectError<OpenMM::OpenMMException>([&] { force.addTorsion(0, 1, 2, 1); }, {"addTorsion", "particles 2 and 4 are both 1"});
    expectError<OpenMM::OpenMMException>([&] { force.addTorsion(0, -1, 2, 1); }, {"addTorsion", "particle 2 is -1"});
    expectError<OpenMM::OpenMMException>([&] { force.addCoordinate(-3, 0); }, {"addCoordinate", "-3"});
    expectError<OpenMM::OpenMMException>([&] { force.addCoordinate(0, 3); }, {"axis", "3"});
    expectError<OpenMM::OpenMMException>([&] { force.addCoordinate(0, 0, -1); }, {"period", "-1"});
    expectError<OpenMM::OpenMMException>([&] { force.addCoordinate(0, 0, 0, 0, 0); }, {"scale", "positive", "0"});
    expectError<OpenMM::OpenMMException>([&] { force.addCoordinate(0, 0, 0, nan, 1); }, {"shift"});
    expectError<OpenMM::OpenMMException>([&] { force.addCoordinate(0, 0, 1.0, 0.5, 1); }, {"shift = 0.5", "period 1"});
    EXPECT_EQ(0, force.getNumVariables());
    force.addCoordinate(0, 0, 1.0);
    int p[4];
    expectError<OpenMM::OpenMMException>([&] { force.getTorsionParameters(0, p[0], p[1], p[2], p[3]); }, {"expects a torsion", "variable 0"});
    expectError<OpenMM::OpenMMException>([&] { force.getVariableName(1); }, {"no variable 1", "1 have been added"});
    expectError<OpenMM::OpenMMException>([&] { force.setParameterName(SpacetimeForce::KT()); }, {"spacetime_kT"});
    expectError<OpenMM::OpenMMException>([&] { force.setDefaultS(1.5); }, {"between 0 and 1", "1.5"});
}

TEST_F(ReferenceSpacetimeForce, ContextCreationChecksTheForce) {
    System system;
    for (int i = 0; i < 4; i++)
        system.addParticle(1.0);
    auto* force = new SpacetimeForce({0, 1}, {1, 1, 1, 1}, 300);
    system.addForce(force);
    auto create = [&] { VerletIntegrator other(0.001); Context context(system, other, platform); };
    expectError<OpenMM::OpenMMException>(create, {"SpacetimeForce", "no variables", "addTorsion"});
    force->addTorsion(0, 1, 2, 4, "phi");
    expectError<OpenMM::OpenMMException>(create, {"particle 4 of variable 0 (phi)", "4 particles"});
    force->setTorsionParameters(0, 0, 1, 2, 3);
    create();
    force->addCoordinate(0, 0);
    expectError<OpenMM::OpenMMException>(create, {"2 components", "4 statistics", "|d|^2"});
}

TEST_F(ReferenceSpacetimeForce, ForceAddedAfterTheContextIsAnError) {
    System system;
    system.addParticle(1.0);
    Context context(system, integrator, platform);
    context.setPositions({Vec3(0.1, 0, 0)});
    auto* force = new SpacetimeForce({0, 1}, {1, 1, 1, 1}, 300);
    force->addCoordinate(0, 0, 1.0);
    system.addForce(force);
    for (auto call : vector<std::function<void()>>{[&] { force->getVariableValues(context); }, [&] { force->getStatistic(context); },
                                                   [&] { force->getBiasEnergy(context); }, [&] { force->updateParametersInContext(context); }})
        expectError<OpenMM::OpenMMException>(call, {"not part of the Context", "reinitialize"});
    context.reinitialize(true);
    EXPECT_NEAR(0.1, force->getVariableValues(context)[0], 1e-15);
}
