// SPDX-License-Identifier: MIT
#include "openmmspacetime/PathSampler.h"
#include "ReferenceSpacetimeKernelFactory.h"
#include "openmm/Context.h"
#include "openmm/CustomExternalForce.h"
#include "openmm/LangevinMiddleIntegrator.h"
#include "openmm/OpenMMException.h"
#include "openmm/Platform.h"
#include "openmm/State.h"
#include "openmm/System.h"
#include "openmm/VerletIntegrator.h"
#include "ExpectError.h"
#include <cmath>
#include <functional>
#include <gtest/gtest.h>
#include <random>

using namespace OpenMM;
using SpacetimePlugin::PathSampler;
using SpacetimePlugin::SpacetimeForce;
using std::string;
using std::vector;

namespace {

const double KT_300 = 8.31446261815324e-3*300.0;
// Stiffness of the particle's own well in kJ/mol/nm^2.
const double STIFFNESS = 10.0;

// One particle in a harmonic well, biased along x by a second well whose precision and centre change along the curve:
// eta = (-p/2, p m) with p from 3 to 8 and m from -0.4 to 0.5.
class PathSamplerTest : public ::testing::Test {
protected:
    static void SetUpTestSuite() {
        registerSpacetimeReferenceKernelFactories();
    }
    void SetUp() override {
        system.addParticle(20.0);
        auto* well = new CustomExternalForce("0.5*k*(x^2+y^2+z^2)");
        well->addGlobalParameter("k", STIFFNESS);
        well->addParticle(0);
        system.addForce(well);
        force = new SpacetimeForce({0, 0.4, 1}, {-1.5, -1.2, -2, 0.5, -4, 4}, 300.0);
        force->addCoordinate(0, 0, 0.0, 0.0, 1.0, "x");
        system.addForce(force);
    }
    System system;
    SpacetimeForce* force;
    Platform& platform = Platform::getPlatformByName("Reference");

    // beta times the free energy at a curve point, from the Gaussian integral over x.
    double betaF(double s) {
        vector<double> eta = force->evaluateEta(s);
        double a = STIFFNESS/KT_300-2*eta[0], b = eta[1];
        return 0.5*std::log(a)-b*b/(2*a);
    }
};

}  // namespace

TEST_F(PathSamplerTest, WorkOfASingleMoveIsTheEnergyDifference) {
    VerletIntegrator integrator(0.001);
    Context context(system, integrator, platform);
    context.setPositions({Vec3(0.3, 0.1, 0.2)});
    context.setParameter("spacetime_s", 1.0);
    double end = force->getBiasEnergy(context);
    context.setParameter("spacetime_s", 0.0);
    double start = force->getBiasEnergy(context);
    PathSampler sampler(*force, 7);
    sampler.setStepsPerMove(7);
    EXPECT_TRUE(sampler.run(context));
    EXPECT_NEAR(end-start, sampler.getWork(), 1e-12);
    EXPECT_EQ(1u, sampler.getWorkProfile().size());
    EXPECT_EQ(1.0, context.getParameter("spacetime_s"));
}

TEST_F(PathSamplerTest, WorkBalancesTheEnergy) {
    // Without a thermostat all work goes into the total energy, up to the integrator's own error, which shrinks as dt^2.
    double error[2];
    for (int i = 0; i < 2; i++) {
        VerletIntegrator integrator(i == 0 ? 0.004 : 0.001);
        Context context(system, integrator, platform);
        context.setPositions({Vec3(0.3, 0.1, 0.2)});
        auto totalEnergy = [&] { State state = context.getState(State::Energy); return state.getPotentialEnergy()+state.getKineticEnergy(); };
        double before = totalEnergy();
        PathSampler sampler(*force, i == 0 ? 200 : 800);
        sampler.setStepsPerMove(i == 0 ? 2 : 8);
        sampler.run(context);
        ASSERT_GT(std::fabs(sampler.getWork()), 1.0);
        error[i] = std::fabs(totalEnergy()-before-sampler.getWork());
    }
    EXPECT_LT(error[1], 2e-3);
    EXPECT_LT(error[1], 0.3*error[0]+1e-6);
}

TEST_F(PathSamplerTest, MeanAndVarianceOfTheWorkFitTheFreeEnergy) {
    // Precision fixed and centre moving: the work is Gaussian, so <W> - dF = var(W)/(2 kT) holds exactly (Crooks), at any speed.
    force->setCurve({0, 1}, {-4, -3.2, -4, 4.8});
    LangevinMiddleIntegrator integrator(300.0, 5.0, 0.01);
    integrator.setRandomNumberSeed(5);
    Context context(system, integrator, platform);
    std::mt19937 random(11);
    std::normal_distribution<double> normal;
    vector<double> eta = force->evaluateEta(0);
    double a = STIFFNESS/KT_300-2*eta[0];
    PathSampler sampler(*force, 300);
    const int numPaths = 600;
    double sum = 0, sum2 = 0;
    for (int i = 0; i < numPaths; i++) {
        context.setPositions({Vec3(eta[1]/a+normal(random)/std::sqrt(a), 0, 0)});
        context.setVelocitiesToTemperature(300.0, i+1);
        sampler.run(context);
        double w = sampler.getWork()/KT_300;
        sum += w;
        sum2 += w*w;
    }
    double mean = sum/numPaths, variance = (sum2-sum*mean)/(numPaths-1);
    double dissipated = mean-(betaF(1)-betaF(0));
    ASSERT_GT(dissipated, 0.3);   // fast enough for the test to mean something
    double error = std::sqrt(variance/numPaths+0.5*variance*variance/numPaths);
    EXPECT_NEAR(0.5*variance, dissipated, 4*error);
}

TEST_F(PathSamplerTest, SlowWorkIsTheFreeEnergy) {
    LangevinMiddleIntegrator integrator(300.0, 2.0, 0.02);
    integrator.setRandomNumberSeed(6);
    Context context(system, integrator, platform);
    PathSampler sampler(*force, 40000);
    sampler.setNumEquilibrationSteps(500);
    const int numPaths = 12;
    double sum = 0, sum2 = 0;
    for (int i = 0; i < numPaths; i++) {
        context.setPositions({Vec3(-0.3, 0, 0)});
        sampler.run(context);
        sum += sampler.getWork();
        sum2 += sampler.getWork()*sampler.getWork();
    }
    double mean = sum/numPaths, error = std::sqrt((sum2/numPaths-mean*mean)/(numPaths-1));
    double expected = KT_300*(betaF(1)-betaF(0));
    EXPECT_LT(error, 0.1);
    EXPECT_NEAR(expected, mean, 4*error+0.02*KT_300);
}

TEST_F(PathSamplerTest, Records) {
    VerletIntegrator integrator(0.002);
    Context context(system, integrator, platform);
    context.setPositions({Vec3(0.3, 0.1, 0.2)});
    PathSampler sampler(*force, 50);
    sampler.setStepsPerMove(5);
    sampler.setNumEquilibrationSteps(20);
    sampler.setEnergyStride(20);
    sampler.setFrameStride(25);
    ASSERT_TRUE(sampler.run(context));
    ASSERT_EQ(50u, sampler.getS().size());
    ASSERT_EQ(50u, sampler.getVariables().size());
    ASSERT_EQ(10u, sampler.getWorkProfile().size());
    for (int i = 0; i < 50; i++)
        EXPECT_DOUBLE_EQ((i/5+1)/10.0, sampler.getS()[i]);
    EXPECT_EQ(sampler.getWork(), sampler.getWorkProfile().back());
    EXPECT_EQ(vector<int>({19, 39, 49}), sampler.getEnergySteps());
    EXPECT_EQ(vector<int>({24, 49}), sampler.getFrameSteps());
    ASSERT_EQ(6u, sampler.getFrames().size());
    ASSERT_EQ(18u, sampler.getBoxVectors().size());
    const vector<float>& frames = sampler.getFrames();
    EXPECT_NEAR(sampler.getVariables()[24], frames[0], 1e-6);
    EXPECT_NEAR(sampler.getVariables()[49], frames[3], 1e-6);
    // The potential energy is the well's alone.
    double r2 = 0;
    for (int k = 3; k < 6; k++)
        r2 += frames[k]*frames[k];
    EXPECT_NEAR(0.5*STIFFNESS*r2, sampler.getPotentialEnergy()[2], 1e-5);
    EXPECT_EQ(90, sampler.getNumGradientEvaluations());
    EXPECT_EQ(3, sampler.getNumEnergyEvaluations());
    EXPECT_EQ(90, context.getStepCount());
    EXPECT_NEAR(context.getState(State::Positions).getPositions()[0][0], sampler.getFinalVariables()[0], 1e-15);

    // Recording energies must not disturb the path, nor must running it in pieces.
    PathSampler plain(*force, 50);
    plain.setStepsPerMove(5);
    plain.setNumEquilibrationSteps(20);
    VerletIntegrator integrator2(0.002);
    Context context2(system, integrator2, platform);
    context2.setPositions({Vec3(0.3, 0.1, 0.2)});
    plain.begin(context2);
    int calls = 0;
    while (plain.advance(7))
        calls++;
    EXPECT_EQ(12, calls);
    EXPECT_EQ(sampler.getVariables(), plain.getVariables());
    EXPECT_EQ(sampler.getWorkProfile(), plain.getWorkProfile());
    EXPECT_EQ(vector<int>({49}), plain.getFrameSteps());
    EXPECT_TRUE(plain.getPotentialEnergy().empty());
}

TEST_F(PathSamplerTest, ProgressCanStopThePath) {
    VerletIntegrator integrator(0.001);
    Context context(system, integrator, platform);
    context.setPositions({Vec3(0.3, 0, 0)});
    PathSampler sampler(*force, 1000);
    long long last = 0;
    EXPECT_FALSE(sampler.run(context, [&](long long done, long long total) { EXPECT_EQ(1000, total); last = done; return done < 300; }, 100));
    EXPECT_EQ(300, last);
    EXPECT_EQ(300u, sampler.getS().size());
    // And the sampler can be used again.
    EXPECT_TRUE(sampler.run(context, [&](long long done, long long) { last = done; return true; }, 300));
    EXPECT_EQ(1000, last);
    EXPECT_EQ(1000u, sampler.getS().size());
}

TEST_F(PathSamplerTest, NaNIsReported) {
    VerletIntegrator integrator(1e12);
    Context context(system, integrator, platform);
    context.setPositions({Vec3(0.3, 0, 0)});
    PathSampler sampler(*force, 1000);
    expectError<OpenMM::OpenMMException>([&] { sampler.run(context); }, {"PathSampler", "variable \"x\"", "after step", "of 1000", "shorter time step"});
    context.setPositions({Vec3(NAN, 0, 0)});
    expectError<OpenMM::OpenMMException>([&] { sampler.run(context); }, {"at the start of the path"});
    // A coordinate that no variable sees.
    context.setPositions({Vec3(0.3, NAN, 0)});
    context.setVelocities({Vec3()});
    integrator.setStepSize(0.001);
    expectError<OpenMM::OpenMMException>([&] { sampler.run(context); }, {"a position is not a finite number", "after step 1000"});
    sampler.setEnergyStride(10);
    context.setPositions({Vec3(0.3, NAN, 0)});
    context.setVelocities({Vec3()});
    expectError<OpenMM::OpenMMException>([&] { sampler.run(context); }, {"the potential energy is not a finite number", "after step 10 "});
}

TEST_F(PathSamplerTest, BadInputsAreNamed) {
    expectError<OpenMM::OpenMMException>([&] { PathSampler(*force, 0); }, {"number of steps must be 1 or more", "0"});
    PathSampler sampler(*force, 10);
    expectError<OpenMM::OpenMMException>([&] { sampler.setStepsPerMove(0); }, {"steps per move"});
    expectError<OpenMM::OpenMMException>([&] { sampler.setNumEquilibrationSteps(-1); }, {"equilibration", "-1"});
    expectError<OpenMM::OpenMMException>([&] { sampler.setEnergyStride(-1); }, {"energy stride"});
    expectError<OpenMM::OpenMMException>([&] { sampler.setFrameStride(-1); }, {"frame stride"});
    expectError<OpenMM::OpenMMException>([&] { sampler.advance(1); }, {"begin()"});
    sampler.setStepsPerMove(3);
    VerletIntegrator integrator(0.001);
    Context context(system, integrator, platform);
    context.setPositions({Vec3(0.3, 0, 0)});
    expectError<OpenMM::OpenMMException>([&] { sampler.run(context); }, {"10 steps", "multiple of 3"});
    SpacetimeForce stranger({0, 1}, {1, 1, 1, 1}, 300.0);
    stranger.addCoordinate(0, 0);
    PathSampler other(stranger, 10);
    expectError<OpenMM::OpenMMException>([&] { other.run(context); }, {"not part of the Context"});
}
