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

const double KT_300 = 8.31446261815324e-3 * 300.0;
// Stiffness of the particle's own well in kJ/mol/nm^2.
const double STIFFNESS = 10.0;

// One particle in a harmonic well, biased along x by a second well whose precision and centre change along the curve:
// eta = (-p/2, p m) with p from 3 to 8 and m from -0.4 to 0.5.
class PathSamplerTest : public ::testing::Test {
protected:
    static void SetUpTestSuite() { registerSpacetimeReferenceKernelFactories(); }
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
        double a = STIFFNESS / KT_300 - 2 * eta[0], b = eta[1];
        return 0.5 * std::log(a) - b * b / (2 * a);
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
    EXPECT_NEAR(end - start, sampler.getWork(), 1e-12);
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
        auto totalEnergy = [&] {
            State state = context.getState(State::Energy);
            return state.getPotentialEnergy() + state.getKineticEnergy();
        };
        double before = totalEnergy();
        PathSampler sampler(*force, i == 0 ? 200 : 800);
        sampler.setStepsPerMove(i == 0 ? 2 : 8);
        sampler.run(context);
        ASSERT_GT(std::fabs(sampler.getWork()), 1.0);
        error[i] = std::fabs(totalEnergy() - before - sampler.getWork());
    }
    EXPECT_LT(error[1], 2e-3);
    EXPECT_LT(error[1], 0.3 * error[0] + 1e-6);
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
    double a = STIFFNESS / KT_300 - 2 * eta[0];
    PathSampler sampler(*force, 300);
    const int numPaths = 600;
    double sum = 0, sum2 = 0;
    for (int i = 0; i < numPaths; i++) {
        context.setPositions({Vec3(eta[1] / a + normal(random) / std::sqrt(a), 0, 0)});
        context.setVelocitiesToTemperature(300.0, i + 1);
        sampler.run(context);
        double w = sampler.getWork() / KT_300;
        sum += w;
        sum2 += w * w;
    }
    double mean = sum / numPaths, variance = (sum2 - sum * mean) / (numPaths - 1);
    double dissipated = mean - (betaF(1) - betaF(0));
    ASSERT_GT(dissipated, 0.3);  // fast enough for the test to mean something
    double error = std::sqrt(variance / numPaths + 0.5 * variance * variance / numPaths);
    EXPECT_NEAR(0.5 * variance, dissipated, 4 * error);
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
        sum2 += sampler.getWork() * sampler.getWork();
    }
    double mean = sum / numPaths, error = std::sqrt((sum2 / numPaths - mean * mean) / (numPaths - 1));
    double expected = KT_300 * (betaF(1) - betaF(0));
    EXPECT_LT(error, 0.1);
    EXPECT_NEAR(expected, mean, 4 * error + 0.02 * KT_300);
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
        EXPECT_DOUBLE_EQ(0.1 * static_cast<int>(i / 5 + 1), sampler.getS()[i]);
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
        r2 += frames[k] * frames[k];
    EXPECT_NEAR(0.5 * STIFFNESS * r2, sampler.getPotentialEnergy()[2], 1e-5);
    EXPECT_EQ(90, sampler.getNumGradientEvaluations());
    // Three for the record, one more for the frame that is not in it.
    EXPECT_EQ(4, sampler.getNumEnergyEvaluations());
    ASSERT_EQ(2u, sampler.getFrameEnergy().size());
    EXPECT_EQ(sampler.getPotentialEnergy()[2], sampler.getFrameEnergy()[1]);
    double x = sampler.getVariables()[49];
    EXPECT_NEAR(-KT_300 * (-4 * x * x + 4 * x), sampler.getFrameBias()[1], 1e-12);
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

TEST_F(PathSamplerTest, BackwardWorkIsTheNegative) {
    // One move there and one back, at the same place: what was paid is returned.
    VerletIntegrator integrator(1e-9);
    Context context(system, integrator, platform);
    context.setPositions({Vec3(0.1, 0.1, 0.2)});
    PathSampler sampler(*force, 3);
    sampler.setStepsPerMove(3);
    sampler.run(context);
    double forward = sampler.getWork();
    ASSERT_GT(std::fabs(forward), 1.0);
    sampler.setBackward(true);
    sampler.run(context);
    EXPECT_NEAR(-forward, sampler.getWork(), 1e-6);
    EXPECT_EQ(0.0, context.getParameter("spacetime_s"));
    EXPECT_EQ(vector<double>({0, 0, 0}), sampler.getS());
}

TEST_F(PathSamplerTest, ForwardAndBackwardPathsObeyCrooks) {
    // Gaussian work in both directions, so <W_F> - dF = var(W_F)/2kT and <W_F> + <W_B> = (var(W_F) + var(W_B))/2kT.
    force->setCurve({0, 1}, {-4, -3.2, -4, 4.8});
    LangevinMiddleIntegrator integrator(300.0, 5.0, 0.01);
    integrator.setRandomNumberSeed(8);
    Context context(system, integrator, platform);
    std::mt19937 random(12);
    std::normal_distribution<double> normal;
    PathSampler sampler(*force, 300);
    const int numPaths = 500;
    double mean[2], variance[2];
    for (int direction = 0; direction < 2; direction++) {
        sampler.setBackward(direction == 1);
        vector<double> eta = force->evaluateEta(direction);
        double a = STIFFNESS / KT_300 - 2 * eta[0], sum = 0, sum2 = 0;
        for (int i = 0; i < numPaths; i++) {
            context.setPositions({Vec3(eta[1] / a + normal(random) / std::sqrt(a), 0, 0)});
            context.setVelocitiesToTemperature(300.0, i + 1);
            sampler.run(context);
            double w = sampler.getWork() / KT_300;
            sum += w;
            sum2 += w * w;
        }
        mean[direction] = sum / numPaths;
        variance[direction] = (sum2 - sum * mean[direction]) / (numPaths - 1);
    }
    double dF = betaF(1) - betaF(0), error = std::sqrt((variance[0] + variance[1]) / numPaths * (1 + 0.25 * (variance[0] + variance[1])));
    ASSERT_GT(std::fabs(dF), 0.05);
    EXPECT_NEAR(-dF, mean[1] - 0.5 * variance[1], 4 * error);
    EXPECT_NEAR(0.5 * (variance[0] + variance[1]), mean[0] + mean[1], 4 * error);
}

TEST_F(PathSamplerTest, StepsForLength) {
    EXPECT_EQ(1000, PathSampler::stepsForLength(100, 10));
    EXPECT_EQ(1001, PathSampler::stepsForLength(100, 10.001));
    EXPECT_EQ(1005, PathSampler::stepsForLength(100, 10.001, 5));
    // 0.1*3 is a little more than 0.3: rounding must not cost a whole move.
    EXPECT_EQ(3, PathSampler::stepsForLength(10, 0.1 * 3));
    for (double bad : {0.0, -1.0, (double)NAN, (double)INFINITY}) {
        expectError<OpenMM::OpenMMException>([&] { PathSampler::stepsForLength(bad, 1); }, {"positive number of steps"});
        expectError<OpenMM::OpenMMException>([&] { PathSampler::stepsForLength(100, bad); }, {"positive length"});
    }
}

TEST_F(PathSamplerTest, FarStartIsRefusedOrPulled) {
    LangevinMiddleIntegrator integrator(300.0, 5.0, 0.01);
    integrator.setRandomNumberSeed(3);
    Context context(system, integrator, platform);
    // At s = 0 precision 3, centre -0.4, width 0.577.
    PathSampler sampler(*force, 100);
    context.setPositions({Vec3(-0.4 + 4.9 / std::sqrt(3.0), 0, 0)});
    sampler.checkStart(context);
    context.setPositions({Vec3(-0.4 + 5.1 / std::sqrt(3.0), 0, 0)});
    vector<string> message = {"variable \"x\" is 2.54", "s = 0 is centred at -0.4", "width of 0.577", "5.1 widths", "at most 5"};
    expectError<OpenMM::OpenMMException>([&] { sampler.checkStart(context); }, message);
    expectError<OpenMM::OpenMMException>([&] { sampler.run(context); }, message);
    // At s = 1: precision 8, centre 0.5, width 0.354.
    sampler.setBackward(true);
    expectError<OpenMM::OpenMMException>([&] { sampler.run(context); }, {"s = 1 is centred at 0.5", "width of 0.353553"});
    sampler.setBackward(false);
    sampler.setMaxStartDistance(INFINITY);
    EXPECT_TRUE(sampler.run(context));

    context.setPositions({Vec3(20, 0, 0)});
    sampler.setMaxStartDistance(5);
    sampler.setNumPullSteps(2000);
    sampler.setNumEquilibrationSteps(500);
    EXPECT_EQ(3100, sampler.getNumStepsTotal());
    sampler.begin(context);
    sampler.advance(1000);
    // Between two pieces the Context has its own kT.
    EXPECT_EQ(KT_300, context.getParameter("spacetime_kT"));
    while (sampler.advance(1000))
        ;
    EXPECT_EQ(KT_300, context.getParameter("spacetime_kT"));
    EXPECT_EQ(100u, sampler.getS().size());
    EXPECT_LT(std::fabs(sampler.getVariables()[0] + 0.4), 3);
    // Too few steps to get there.
    context.setPositions({Vec3(50, 0, 0)});
    sampler.setNumPullSteps(1);
    sampler.setNumEquilibrationSteps(0);
    expectError<OpenMM::OpenMMException>([&] { sampler.run(context); }, {"after the equilibration", "more steps"});
    EXPECT_EQ(KT_300, context.getParameter("spacetime_kT"));
}

TEST_F(PathSamplerTest, DistanceOfPeriodicVariablesIsTheShortWayRound) {
    // A coordinate of period 2 with kappa 100 centred at 0.98: width 2/(2 pi 10) = 0.0318.
    double angle = 0.98 * M_PI;
    SpacetimeForce* periodic = new SpacetimeForce({0, 1}, {100 * std::cos(angle), 100 * std::sin(angle), 0, 0}, 300.0);
    periodic->addCoordinate(0, 1, 2.0, 0.0, 1.0, "y");
    periodic->setParameterName("other");
    system.addForce(periodic);
    VerletIntegrator integrator(0.001);
    Context context(system, integrator, platform);
    PathSampler sampler(*periodic, 10);
    context.setPositions({Vec3(0, -0.9, 0)});  // 0.12 away across the seam, 3.8 widths
    sampler.checkStart(context);
    context.setPositions({Vec3(0, 0.8, 0)});
    expectError<OpenMM::OpenMMException>([&] { sampler.checkStart(context); }, {"variable \"y\" is 0.8", "centred at 0.98", "5.65"});
    // No bias at s = 1, so any start will do.
    sampler.setBackward(true);
    sampler.checkStart(context);
}

TEST_F(PathSamplerTest, ProgressCanStopThePath) {
    VerletIntegrator integrator(0.001);
    Context context(system, integrator, platform);
    context.setPositions({Vec3(0.3, 0, 0)});
    PathSampler sampler(*force, 1000);
    long long last = 0;
    EXPECT_FALSE(sampler.run(
        context,
        [&](long long done, long long total) {
            EXPECT_EQ(1000, total);
            last = done;
            return done < 300;
        },
        100));
    EXPECT_EQ(300, last);
    EXPECT_EQ(300u, sampler.getS().size());
    // And the sampler can be used again.
    EXPECT_TRUE(sampler.run(
        context,
        [&](long long done, long long) {
            last = done;
            return true;
        },
        300));
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
    expectError<OpenMM::OpenMMException>([&] { sampler.setNumPullSteps(-1); }, {"pull", "-1"});
    expectError<OpenMM::OpenMMException>([&] { sampler.setMaxStartDistance(0); }, {"positive"});
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
