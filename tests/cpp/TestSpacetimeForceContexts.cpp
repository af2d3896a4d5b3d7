// SPDX-License-Identifier: MIT
// SpacetimeForce among what else a simulation consists of: walkers, reordered and wrapped molecules, other forces around it, integrators, barostats, checkpoints.
#include "SpacetimeForceTest.h"
#include <sstream>
#include <thread>

using namespace OpenMM;
using SpacetimePlugin::SpacetimeForce;
using std::string;
using std::vector;

namespace {

const Vec3 Box[] = {Vec3(3.0, 0, 0), Vec3(0.4, 2.9, 0), Vec3(-0.5, 0.3, 3.1)};

// Chains of four particles in a periodic fluid of such chains.
struct Chains {
    explicit Chains(int count) : count(count) {
        system.setDefaultPeriodicBoxVectors(Box[0], Box[1], Box[2]);
        auto* bonds = new HarmonicBondForce();
        auto* angles = new HarmonicAngleForce();
        auto* nonbonded = new NonbondedForce();
        nonbonded->setNonbondedMethod(NonbondedForce::CutoffPeriodic);
        nonbonded->setCutoffDistance(0.7);
        vector<std::pair<int, int>> pairs;
        int perSide = static_cast<int>(std::ceil(std::cbrt(count)));
        for (int i = 0; i < count; i++) {
            const int x = i % perSide, y = i / perSide % perSide, z = i / perSide / perSide;
            Vec3 corner(0.58 * x, 0.58 * y, 0.58 * z);
            const Vec3 shape[] = {Vec3(0, 0, 0), Vec3(0.15, 0, 0), Vec3(0.2, 0.14, 0), Vec3(0.3, 0.15, 0.12)};
            for (int k = 0; k < 4; k++) {
                system.addParticle(15.0);
                nonbonded->addParticle(0.0, 0.25, 0.3);
                positions.push_back(corner + shape[k]);
                if (k > 0) {
                    bonds->addBond(4 * i + k - 1, 4 * i + k, 0.15, 30000.0);
                    pairs.push_back({4 * i + k - 1, 4 * i + k});
                }
                if (k > 1)
                    angles->addAngle(4 * i + k - 2, 4 * i + k - 1, 4 * i + k, 1.9, 200.0);
            }
        }
        nonbonded->createExceptionsFromBonds(pairs, 0.5, 0.5);
        system.addForce(bonds);
        system.addForce(angles);
        system.addForce(nonbonded);
    }
    int count;
    System system;
    vector<Vec3> positions;
};

// Velocities of 300 K on top of a common drift that takes everything across the box within a few hundred steps.
vector<Vec3> driftingVelocities(int count, std::mt19937& random) {
    std::normal_distribution<double> thermal(0, std::sqrt(8.31446e-3 * 300 / 15.0));
    vector<Vec3> velocities;
    for (int i = 0; i < count; i++)
        velocities.push_back(Vec3(2.0 + thermal(random), -1.7 + thermal(random), 1.5 + thermal(random)));
    return velocities;
}

// Biases some of the chains in every way: within a chain, between chains, in space.
SpacetimeForce* biasChains(Chains& chains) {
    auto* force = new SpacetimeForce({0, 1}, {0, 0}, 300.0);
    int first = 4 * 3, second = 4 * (chains.count / 2), third = 4 * (chains.count - 2);
    force->addCentroid({first, first + 1, second + 2}, {1, 2, 3});
    force->addCentroid({third, third + 1, third + 2, third + 3});
    vector<Vec3> reference(chains.positions.begin() + second, chains.positions.begin() + second + 4);
    int frame = force->addFrame({second, second + 1, second + 2, second + 3}, reference);
    force->addTorsion(first, first + 1, first + 2, first + 3);
    force->addDistance(-1, -2, 1.0, 1.0);
    force->addAngle(first, second, third, 1.5, 1.0);
    force->addCoordinate(third + 1, 0, 0.0, 0.5, 1.0);
    force->addCoordinate(-2, 2, 1.7);
    force->addPosition(second + 3, 1, frame, 0.0, 0.5);
    force->addPosition(first, 0, frame, 0.0, 0.5);
    vector<double> node = {-0.5, 20, -15, 0.3, 1.1, 0.4, 6, 4, 0.5, -0.3}, eta = node;
    for (double x : node)
        eta.push_back(-0.5 * x);
    eta[node.size()] = -0.4;
    force->setCurve({0, 1}, eta);
    force->setForceGroup(3);
    return force;
}

}  // namespace

TEST_F(SpacetimeForceTest, WalkersAreIndependentCopies) {
    const int count = 14, numWalkers = 7;
    vector<Vec3> shape = randomPositions(count), positions;
    std::unique_ptr<SpacetimeForce> single(randomForce(shape, 6, false));
    single->setTemperature(300);
    System system, alone;
    addParticles(system, numWalkers * count);
    addParticles(alone, count);
    auto* force = new SpacetimeForce(*single);
    vector<double> intercepts, slopes;
    for (int k = 0; k < numWalkers; k++) {
        // Some are held, some clamped at either end, one goes backwards.
        intercepts.push_back(k == 0 ? 0.0 : uniform(-0.3, 1.0));
        slopes.push_back(k == 1 ? 0.0 : k == 2 ? -1.0 : uniform(0, 1.5));
        force->addWalker(((k + 3) % numWalkers) * count, intercepts[k], slopes[k]);
    }
    system.addForce(force);
    alone.addForce(single.release());
    auto& original = dynamic_cast<SpacetimeForce&>(alone.getForce(0));
    for (int i = 0; i < numWalkers * count; i++)
        positions.push_back(shape[i % count] + Vec3(uniform(-0.05, 0.05), uniform(-0.05, 0.05), uniform(-0.05, 0.05)));
    auto context = createContext(system), reference = createReferenceContext(alone);
    for (double s : {0.0, 0.37, 1.0}) {
        context->setParameter("spacetime_s", s);
        Evaluation all = evaluate(*context, positions);
        vector<double> values = force->getVariableValues(*context);
        ASSERT_EQ(numWalkers * 6u, values.size());
        ASSERT_EQ(numWalkers * static_cast<size_t>(original.getNumStatistics()), force->getStatistic(*context).size());
        double energy = 0, derivative = 0;
        for (int k = 0; k < numWalkers; k++) {
            int offset = ((k + 3) % numWalkers) * count;
            double own = intercepts[k] + slopes[k] * s, clamped = std::min(1.0, std::max(0.0, own));
            reference->setParameter("spacetime_s", clamped);
            Evaluation e = evaluate(*reference, vector<Vec3>(positions.begin() + offset, positions.begin() + offset + count));
            energy += e.energy;
            if (own == clamped)
                derivative += slopes[k] * e.derivatives["spacetime_s"];
            double size = norm(e.forces);
            for (int i = 0; i < count; i++)
                for (int axis = 0; axis < 3; axis++)
                    ASSERT_NEAR(e.forces[i][axis], all.forces[offset + i][axis], tolerance() * (1 + size)) << "walker " << k;
            vector<double> expected = original.getVariableValues(*reference);
            for (int i = 0; i < 6; i++)
                EXPECT_NEAR(expected[i], values[6 * k + i], tolerance(1e-11)) << "walker " << k;
        }
        EXPECT_NEAR(energy, all.energy, tolerance() * (100 + std::fabs(energy)));
        EXPECT_NEAR(energy, force->getBiasEnergy(*context), tolerance() * (100 + std::fabs(energy)));
        EXPECT_NEAR(derivative, all.derivatives["spacetime_s"], tolerance() * (100 + 10 * std::fabs(energy) + std::fabs(derivative)));
    }
    force->setWalkerParameters(0, 3 * count, 0.5, 0.0);
    force->updateParametersInContext(*context);
    auto fresh = createContext(system);
    context->setParameter("spacetime_s", 0.2);
    fresh->setParameter("spacetime_s", 0.2);
    expectSame(evaluate(*context, positions), evaluate(*fresh, positions), 1e-12);
}

TEST_F(SpacetimeForceTest, MoleculesAreReorderedAndWrapped) {
    // OpenMM reorders molecules every 250 steps and wraps them into the box then: long enough for four reorderings, across the box more than once.
    Chains chains(125);
    auto* force = biasChains(chains);
    for (bool periodic : {false, true}) {
        System& system = chains.system;
        if (periodic)
            dynamic_cast<SpacetimeForce&>(system.getForce(3)).setUsesPeriodicBoundaryConditions(true);
        else
            system.addForce(force);
        auto* integrator = new VerletIntegrator(0.002);
        auto context = createContext(system, integrator), reference = createReferenceContext(system);
        context->setPositions(minimized(chains.system, chains.positions));
        context->setVelocities(driftingVelocities(system.getNumParticles(), random));
        for (int i = 0; i < 13; i++) {
            integrator->step(80);
            State state = compareOnReference(*context, *reference, 1 << 3, i);
            if (i == 12) {
                EXPECT_GT(std::fabs(state.getPositions()[4 * 3][0] - chains.positions[4 * 3][0]), 3.0) << "it has not crossed the box: the test proves nothing";
            }
            if (i == 8) {
                // Positions set by hand reset OpenMM's count of boxes without reordering.
                const vector<Vec3>& again = state.getPositions();
                context->setPositions(again);
                compareOnReference(*context, *reference, 1 << 3, i);
            }
        }
    }
}

TEST_F(SpacetimeForceTest, BarostatKeepsTheBiasRight) {
    Chains chains(64);
    auto* force = biasChains(chains);
    force->setUsesPeriodicBoundaryConditions(true);
    chains.system.addForce(force);
    auto* barostat = new MonteCarloBarostat(50.0, 300.0, 5);
    barostat->setRandomNumberSeed(2);
    chains.system.addForce(barostat);
    auto* integrator = new LangevinMiddleIntegrator(300.0, 1.0, 0.002);
    auto context = createContext(chains.system, integrator), reference = createReferenceContext(chains.system);
    context->setPositions(minimized(chains.system, chains.positions));
    Vec3 box[3];
    for (int i = 0; i < 6; i++) {
        integrator->step(60);
        State state = compareOnReference(*context, *reference, 1 << 3, i);
        state.getPeriodicBoxVectors(box[0], box[1], box[2]);
    }
    EXPECT_NE(Box[0][0], box[0][0]) << "the volume never changed: the test proves nothing";
}

TEST_F(SpacetimeForceTest, EnergyIsConserved) {
    // Ten chains without cutoff, under a bias of several hundred kJ/mol.
    Chains chains(10);
    dynamic_cast<NonbondedForce&>(chains.system.getForce(2)).setNonbondedMethod(NonbondedForce::NoCutoff);
    auto* force = biasChains(chains);
    chains.system.addForce(force);
    double drift[2];
    for (int i = 0; i < 2; i++) {
        // The error of the total energy of a Verlet integrator falls with the square of the step; what a wrong force adds does not.
        double dt = (i == 0 ? 0.001 : 0.0005);
        auto* integrator = new VerletIntegrator(dt);
        auto context = createContext(chains.system, integrator);
        context->setPositions(minimized(chains.system, chains.positions));
        context->setVelocitiesToTemperature(300.0, 1);
        integrator->step(10);
        auto total = [&] {
            State s = context->getState(State::Energy);
            return s.getPotentialEnergy() + s.getKineticEnergy();
        };
        double first = 0, last = 0;
        int steps = static_cast<int>(0.05 / dt);
        for (int k = 0; k < steps; k++) {
            integrator->step(1);
            first += total() / steps;
        }
        integrator->step(static_cast<int>(1.9 / dt));
        for (int k = 0; k < steps; k++) {
            integrator->step(1);
            last += total() / steps;
        }
        drift[i] = std::fabs(last - first);
    }
    // 120 degrees of freedom hold 150 kJ/mol of kinetic energy.
    EXPECT_LT(drift[0], 1.0);
    EXPECT_LT(drift[1], 0.4);
}

TEST_F(SpacetimeForceTest, InsideOtherForces) {
    Chains chains(27);
    auto* bias = biasChains(chains);
    SpacetimeForce plain(*bias);
    delete bias;
    vector<Vec3> positions = chains.positions;
    for (Vec3& p : positions)
        for (int axis = 0; axis < 3; axis++)
            p[axis] += uniform(-0.02, 0.02);
    auto compare = [&](Force* outer, const vector<Vec3>& at) {
        System system;
        for (int i = 0; i < chains.system.getNumParticles(); i++)
            system.addParticle(15.0);
        system.setDefaultPeriodicBoxVectors(Box[0], Box[1], Box[2]);
        system.addForce(outer);
        auto context = createContext(system), reference = createReferenceContext(system);
        context->setParameter("spacetime_s", 0.7);
        reference->setParameter("spacetime_s", 0.7);
        Evaluation expected = evaluate(*reference, at);
        EXPECT_GT(norm(expected.forces), 10);
        expected.derivatives.clear();  // OpenMM does not pass on those of forces within forces
        expectSame(evaluate(*context, at), expected, tolerance());
        return expected;
    };
    Evaluation direct = compare(new SpacetimeForce(plain), positions);

    // As a collective variable.
    auto* cv = new CustomCVForce("0.01*bias^2+bias");
    cv->addCollectiveVariable("bias", new SpacetimeForce(plain));
    Evaluation squared = compare(cv, positions);
    EXPECT_NEAR(0.01 * direct.energy * direct.energy + direct.energy, squared.energy, 1e-8 * (100 + squared.energy));

    // Under an alchemical transfer: half of the bias here, half with one chain displaced.
    auto* atm = new ATMForce("0.5*u0+0.5*u1");
    for (int i = 0; i < chains.system.getNumParticles(); i++)
        atm->addParticle(i < 16 ? Vec3(0.3, -0.1, 0.2) : Vec3());
    atm->addForce(new SpacetimeForce(plain));
    Evaluation half = compare(atm, positions);
    vector<Vec3> displaced = positions;
    for (int i = 0; i < 16; i++)
        displaced[i] += Vec3(0.3, -0.1, 0.2);
    Evaluation there = compare(new SpacetimeForce(plain), displaced);
    EXPECT_NEAR(0.5 * (direct.energy + there.energy), half.energy, 1e-8 * (100 + std::fabs(half.energy)));
}

TEST_F(SpacetimeForceTest, AsACollectiveVariableAfterReordering) {
    // The Context inside CustomCVForce sees wrapped positions only, so absolute coordinates are left out.
    Chains chains(125);
    auto* bias = new SpacetimeForce({0, 1}, {-0.5, 20, -15, 1, 1, -0.5, 20, -15, 1, 1}, 300.0);
    int first = 4 * 7, second = 4 * 100;
    bias->addCentroid({first, first + 1, second + 2});
    bias->addTorsion(first, first + 1, first + 2, first + 3);
    bias->addDistance(-1, second);
    bias->addAngle(first, second, second + 3);
    auto* cv = new CustomCVForce("2*bias");
    cv->addCollectiveVariable("bias", bias);
    cv->setForceGroup(3);
    chains.system.addForce(cv);
    auto* integrator = new VerletIntegrator(0.002);
    auto context = createContext(chains.system, integrator), reference = createReferenceContext(chains.system);
    context->setPositions(minimized(chains.system, chains.positions));
    context->setVelocities(driftingVelocities(chains.system.getNumParticles(), random));
    for (int i = 0; i < 8; i++) {
        integrator->step(130);
        compareOnReference(*context, *reference, 1 << 3, i);
    }
}

TEST_F(SpacetimeForceTest, VirtualSitesConstraintsAndTimeScales) {
    Chains chains(27);
    // Each site of the bias is a virtual one; each chain's first bond is rigid.
    System& system = chains.system;
    auto& nonbonded = dynamic_cast<NonbondedForce&>(system.getForce(2));
    vector<Vec3> positions = chains.positions;
    int first = system.getNumParticles();
    for (int i = 0; i < 8; i++) {
        system.addParticle(0.0);
        nonbonded.addParticle(0, 1, 0);
        if (i % 2 == 0)
            system.setVirtualSite(first + i, new TwoParticleAverageSite(4 * i, 4 * i + 1, 0.3, 0.7));
        else
            system.setVirtualSite(first + i, new ThreeParticleAverageSite(4 * i, 4 * i + 1, 4 * i + 2, 0.2, 0.5, 0.3));
        positions.push_back(Vec3());
    }
    for (int i = 0; i < chains.count; i++)
        system.addConstraint(4 * i, 4 * i + 1, 0.15);
    auto* force = new SpacetimeForce({0, 1}, {-0.5, 9, -6, 1, -0.5, 9, -6, 1}, 300.0);
    force->addCentroid({first + 4, first + 5, first + 6});
    force->addTorsion(first, first + 1, first + 2, -1);
    force->addDistance(first + 3, first + 7, 1.0, 0.3);
    force->setForceGroup(1);
    system.addForce(force);
    auto* integrator = new CustomIntegrator(0.002);
    // Two steps of the slow bias, four of everything else (impulse multiple time steps).
    integrator->addComputePerDof("v", "v+0.5*dt*f1/m");
    for (int i = 0; i < 2; i++) {
        integrator->addComputePerDof("v", "v+0.25*dt*f0/m");
        integrator->addComputePerDof("x", "x+0.5*dt*v");
        integrator->addConstrainPositions();
        integrator->addComputePerDof("v", "v+0.25*dt*f0/m");
        integrator->addConstrainVelocities();
    }
    integrator->addComputePerDof("v", "v+0.5*dt*f1/m");
    integrator->addConstrainVelocities();
    auto context = createContext(system, integrator), reference = createReferenceContext(system);
    context->setPositions(minimized(system, positions));
    context->applyConstraints(1e-5);
    for (int i = 0; i < 3; i++) {
        integrator->step(20);
        State state = compareOnReference(*context, *reference, 1 << 1, i);
        Vec3 bond = state.getPositions()[5] - state.getPositions()[4];
        EXPECT_NEAR(0.15, std::sqrt(bond.dot(bond)), 1e-5);
    }
}

TEST_F(SpacetimeForceTest, CheckpointsAndReinitialization) {
    Chains chains(27);
    auto* force = biasChains(chains);
    chains.system.addForce(force);
    auto* integrator = new VerletIntegrator(0.002);
    auto context = createContext(chains.system, integrator);
    context->setPositions(chains.positions);
    context->setVelocitiesToTemperature(300, 1);
    context->setParameter("spacetime_s", 0.4);
    integrator->step(300);
    std::stringstream checkpoint;
    context->createCheckpoint(checkpoint);
    auto energy = [&] { return context->getState(State::Energy, false, 1 << 3).getPotentialEnergy(); };
    double there = energy();
    context->setParameter("spacetime_s", 0.9);
    integrator->step(300);
    EXPECT_GT(std::fabs(energy() - there), 1e-3);
    context->loadCheckpoint(checkpoint);
    EXPECT_EQ(0.4, context->getParameter("spacetime_s"));
    EXPECT_NEAR(there, energy(), tolerance(1e-9, 1e-5) * (10 + std::fabs(there)));
    // Again from the start, with another curve of more nodes.
    vector<double> eta = force->getEta(), longer = eta;
    longer.insert(longer.end(), eta.begin(), eta.begin() + eta.size() / 2);
    force->setCurve({0, 0.5, 1}, longer);
    context->reinitialize(true);
    EXPECT_EQ(0.4, context->getParameter("spacetime_s"));
    auto reference = createReferenceContext(chains.system);
    reference->setParameter("spacetime_s", 0.4);
    reference->setPositions(context->getState(State::Positions).getPositions());
    double expected = reference->getState(State::Energy, false, 1 << 3).getPotentialEnergy();
    EXPECT_GT(std::fabs(expected - there), 1e-3);
    EXPECT_NEAR(expected, energy(), tolerance(1e-9, 1e-4) * (10 + std::fabs(expected)));
    // And a curve with fewer nodes in the running Context.
    force->setCurve({0, 1}, eta);
    force->updateParametersInContext(*context);
    EXPECT_NEAR(there, energy(), tolerance(1e-9, 1e-4) * (10 + std::fabs(there)));
}

TEST_F(SpacetimeForceTest, MinimizationFindsTheBiasedMinimum) {
    // PoCL crashes in a kernel of OpenMM's own minimiser.
    if (tested.platform->getName() == "OpenCL")
        GTEST_SKIP();
    System system;
    addParticles(system, 4);
    auto* force = new SpacetimeForce({0, 1}, {-50, 30, -50, 60}, 300.0);
    force->addDistance(0, 1);
    system.addForce(force);
    auto context = createContext(system);
    context->setPositions(randomPositions(4));
    for (double s : {0.0, 1.0}) {
        context->setParameter("spacetime_s", s);
        LocalEnergyMinimizer::minimize(*context, 0.01, 200);
        EXPECT_NEAR(s == 0 ? 0.3 : 0.6, force->getVariableValues(*context)[0], 1e-4);
    }
}

TEST_F(SpacetimeForceTest, ContextsInThreads) {
    Chains chains(8);
    SpacetimeForce* force = biasChains(chains);
    chains.system.addForce(force);
    const vector<Vec3> positions = minimized(chains.system, chains.positions);
    const int numThreads = 3, numSteps = 30;
    vector<std::unique_ptr<Context>> contexts;
    for (int t = 0; t < numThreads; t++)
        contexts.push_back(createContext(chains.system));
    // What one thread alone finds, at values of s that differ from Context to Context.
    auto run = [&](int t) {
        Context& context = *contexts[t];
        vector<double> found;
        context.setPositions(positions);
        context.setVelocities(vector<Vec3>(positions.size()));
        for (int step = 0; step < numSteps; step++) {
            context.setParameter("spacetime_s", (0.1 + 0.3 * t) + 0.005 * step);
            context.getIntegrator().step(1);
            found.push_back(force->getBiasEnergy(context));
        }
        return found;
    };
    vector<vector<double>> alone(numThreads), together(numThreads);
    for (int t = 0; t < numThreads; t++)
        alone[t] = run(t);
    vector<std::thread> threads;
    for (int t = 0; t < numThreads; t++)
        threads.emplace_back([&, t] { together[t] = run(t); });
    for (std::thread& thread : threads)
        thread.join();
    for (int t = 0; t < numThreads; t++)
        for (int step = 0; step < numSteps; step++)
            ASSERT_NEAR(alone[t][step], together[t][step], tolerance(1e-8, 1e-3) * (10 + std::fabs(alone[t][step]))) << "Context " << t << ", step " << step;
}

TEST_F(SpacetimeForceTest, EnergyAloneAndForcesAloneAgree) {
    Chains chains(27);
    auto* force = biasChains(chains);
    chains.system.addForce(force);
    auto context = createContext(chains.system);
    context->setPositions(chains.positions);
    State both = context->getState(State::Energy | State::Forces, false, 1 << 3);
    EXPECT_EQ(both.getPotentialEnergy(), context->getState(State::Energy, false, 1 << 3).getPotentialEnergy());
    vector<Vec3> forces = context->getState(State::Forces, false, 1 << 3).getForces();
    // Measuring leaves forces alone.
    force->getVariableValues(*context);
    vector<Vec3> after = context->getState(State::Forces, false, 1 << 3).getForces();
    for (size_t i = 0; i < forces.size(); i++) {
        EXPECT_EQ(both.getForces()[i], forces[i]);
        EXPECT_EQ(forces[i], after[i]);
    }
    // Derivatives alone, and of another group.
    auto reference = createReferenceContext(chains.system);
    reference->setPositions(chains.positions);
    double expected = reference->getState(State::ParameterDerivatives).getEnergyParameterDerivatives().at("spacetime_s");
    EXPECT_NEAR(expected, context->getState(State::ParameterDerivatives).getEnergyParameterDerivatives().at("spacetime_s"), tolerance() * (100 + std::fabs(expected)));
    EXPECT_EQ(0.0, context->getState(State::ParameterDerivatives, false, 1).getEnergyParameterDerivatives().at("spacetime_s"));
}
