// SPDX-License-Identifier: MIT
#pragma once

#include "ExpectError.h"
#include "OpenMM.h"
#include "openmmspacetime/SpacetimeForce.h"
#include <array>
#include <cmath>
#include <gtest/gtest.h>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

/// Which platform this run of the program tests, from its command line.
struct TestedPlatform {
    OpenMM::Platform* platform = nullptr;
    std::map<std::string, std::string> properties;
    bool isDouble = true;
    bool isReference = true;
};
extern TestedPlatform tested;

/// What the tests of SpacetimeForce share: random input, and the comparison of the tested platform with finite differences and with the Reference platform.
class SpacetimeForceTest : public ::testing::Test {
protected:
    using Vec3 = OpenMM::Vec3;
    using SpacetimeForce = SpacetimePlugin::SpacetimeForce;
    static constexpr double KT_300 = 8.31446261815324e-3 * 300.0;

    std::mt19937 random{20240607};
    // Contexts need an integrator each that outlives them.
    std::vector<std::unique_ptr<OpenMM::Integrator>> integrators;

    /// Relative error that sums of a few hundred kJ/mol may have.
    double tolerance(double inDouble = 1e-9, double inSingle = 2e-5) const { return tested.isDouble ? inDouble : inSingle; }

    std::unique_ptr<OpenMM::Context> createContext(const OpenMM::System& system, OpenMM::Integrator* integrator = nullptr) {
        integrators.emplace_back(integrator == nullptr ? new OpenMM::VerletIntegrator(0.001) : integrator);
        return std::make_unique<OpenMM::Context>(system, *integrators.back(), *tested.platform, tested.properties);
    }
    std::unique_ptr<OpenMM::Context> createReferenceContext(const OpenMM::System& system) {
        integrators.emplace_back(new OpenMM::VerletIntegrator(0.001));
        return std::make_unique<OpenMM::Context>(system, *integrators.back(), OpenMM::Platform::getPlatform("Reference"));
    }

    /// Positions relaxed on the Reference platform, so that every platform starts from the same.
    std::vector<Vec3> minimized(const OpenMM::System& system, const std::vector<Vec3>& positions) {
        auto context = createReferenceContext(system);
        context->setPositions(positions);
        context->computeVirtualSites();
        OpenMM::LocalEnergyMinimizer::minimize(*context, 10.0, 50);
        return context->getState(OpenMM::State::Positions).getPositions();
    }

    double uniform(double low, double high) { return std::uniform_real_distribution<double>(low, high)(random); }
    int integer(int low, int high) { return std::uniform_int_distribution<int>(low, high)(random); }

    std::vector<double> randomNodes(int count) {
        std::vector<double> s(count);
        for (int i = 1; i < count; i++)
            s[i] = s[i - 1] + uniform(0.1, 1.0);
        for (double& value : s)
            value /= s.back();
        s.back() = 1.0;
        return s;
    }

    std::vector<double> randomEta(int nodes, int components, double size = 20) {
        std::vector<double> eta(nodes * components);
        for (double& value : eta)
            value = uniform(-size, size);
        return eta;
    }

    std::vector<Vec3> randomPositions(int count, double size = 1.0) {
        std::vector<Vec3> positions;
        for (int i = 0; i < count; i++)
            positions.push_back(Vec3(uniform(0, size), uniform(0, size), uniform(0, size)));
        return positions;
    }

    /// Different indices below `count`.
    std::vector<int> draw(int size, int count) {
        std::vector<int> all(count);
        for (int i = 0; i < count; i++)
            all[i] = i;
        std::shuffle(all.begin(), all.end(), random);
        all.resize(size);
        return all;
    }

    static void addParticles(OpenMM::System& system, int count, double mass = 12.0) {
        for (int i = 0; i < count; i++)
            system.addParticle(mass);
    }

    static double norm(const std::vector<Vec3>& vectors) {
        double sum = 0;
        for (const Vec3& v : vectors)
            sum += v.dot(v);
        return std::sqrt(sum);
    }

    static std::vector<Vec3> sitePositions(const SpacetimeForce& force, const std::vector<int>& sites, const std::vector<Vec3>& positions) {
        std::vector<Vec3> result;
        for (int site : sites) {
            std::vector<int> particles = {site};
            std::vector<double> weights;
            if (site < 0)
                force.getCentroidParameters(site, particles, weights);
            weights.resize(particles.size(), 1.0);
            Vec3 sum;
            double total = 0;
            for (size_t i = 0; i < particles.size(); i++) {
                sum += positions[particles[i]] * weights[i];
                total += weights[i];
            }
            result.push_back(sum / total);
        }
        return result;
    }

    /// A random rotation by rows, from a random quaternion.
    std::array<Vec3, 3> randomRotation() {
        double q[4], size = 0;
        for (double& x : q) {
            x = std::normal_distribution<double>()(random);
            size += x * x;
        }
        for (double& x : q)
            x /= std::sqrt(size);
        double w = q[0], x = q[1], y = q[2], z = q[3];
        return {Vec3(1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)), Vec3(2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
                Vec3(2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y))};
    }

    /// The points after a random rotation and translation, each off by up to `noise` along each axis.
    std::vector<Vec3> moved(std::vector<Vec3> points, double noise) {
        auto R = randomRotation();
        Vec3 shift(uniform(-3, 3), uniform(-3, 3), uniform(-3, 3));
        for (Vec3& p : points)
            p = Vec3(R[0].dot(p), R[1].dot(p), R[2].dot(p)) + shift + Vec3(uniform(-noise, noise), uniform(-noise, noise), uniform(-noise, noise));
        return points;
    }

    /// A force on particles 0..count-1 of each walker with variables of every kind, sites of both kinds, frames and a random curve.
    /// References of frames are the sites at `positions`, turned, moved and distorted.
    SpacetimeForce* randomForce(const std::vector<Vec3>& positions, int numVariables, bool mayBePeriodic) {
        int count = static_cast<int>(positions.size());
        auto* force = new SpacetimeForce({0, 1}, {0, 0}, uniform(100, 400));
        int numCentroids = integer(0, 3), numFrames = integer(0, 2);
        auto weights = [&](size_t size) {
            std::vector<double> w;
            if (integer(0, 1))
                for (size_t i = 0; i < size; i++)
                    w.push_back(uniform(0.5, 16));
            return w;
        };
        // Centroids share no particles with each other, so that any of them go together.
        std::vector<int> order = draw(count, count);
        size_t next = 0;
        std::vector<int> handles;
        for (int i = 0; i < numCentroids; i++) {
            size_t size = integer(1, 3);
            std::vector<int> members(order.begin() + next, order.begin() + next + size);
            next += size;
            handles.push_back(force->addCentroid(members, weights(size)));
        }
        handles.insert(handles.end(), order.begin() + next, order.end());
        auto sites = [&](int size) {
            std::vector<int> result;
            for (int i : draw(size, static_cast<int>(handles.size())))
                result.push_back(handles[i]);
            return result;
        };
        for (int i = 0; i < numFrames; i++) {
            int size = integer(4, 7);
            std::vector<int> members = sites(size);
            force->addFrame(members, moved(sitePositions(*force, members, positions), 0.1), weights(size));
        }
        for (int i = 0; i < numVariables; i++) {
            std::vector<int> p = sites(4);
            double shift = uniform(-0.3, 0.5), scale = uniform(0.2, 2);
            int kind = integer(0, numFrames > 0 ? 5 : 4);
            if (kind == 0)
                force->addTorsion(p[0], p[1], p[2], p[3]);
            else if (kind == 1)
                force->addAngle(p[0], p[1], p[2], shift, scale);
            else if (kind == 2)
                force->addDistance(p[0], p[1], shift, scale);
            else if (kind == 3)
                force->addCoordinate(p[0], integer(0, 2), 0.0, shift, scale);
            else if (kind == 4)
                force->addCoordinate(p[0], integer(0, 2), uniform(0.3, 2.0));
            else
                force->addPosition(p[0], integer(0, 2), integer(0, numFrames - 1), shift, scale);
        }
        int nodes = integer(2, 6);
        force->setCurve(randomNodes(nodes), randomEta(nodes, force->getNumStatistics()));
        force->setUsesPeriodicBoundaryConditions(mayBePeriodic && integer(0, 1));
        return force;
    }

    struct Evaluation {
        double energy;
        std::vector<Vec3> forces;
        std::map<std::string, double> derivatives;
    };
    static Evaluation evaluate(OpenMM::Context& context, const std::vector<Vec3>& positions, int groups = -1) {
        using OpenMM::State;
        context.setPositions(positions);
        State state = context.getState(State::Forces | State::Energy | State::ParameterDerivatives, false, groups);
        return {state.getPotentialEnergy(), state.getForces(), state.getEnergyParameterDerivatives()};
    }

    /// Energy, forces and derivatives of `a` must be those of `b`, up to `relative` of their size.
    static void expectSame(const Evaluation& a, const Evaluation& b, double relative) {
        double size = norm(b.forces);
        EXPECT_NEAR(b.energy, a.energy, relative * (10 + std::fabs(b.energy) + 0.1 * size));
        for (size_t i = 0; i < b.forces.size(); i++)
            for (int k = 0; k < 3; k++)
                ASSERT_NEAR(b.forces[i][k], a.forces[i][k], relative * (1 + size)) << "particle " << i << ", axis " << k;
        for (auto& derivative : b.derivatives)
            EXPECT_NEAR(derivative.second, a.derivatives.at(derivative.first), relative * (10 + 10 * std::fabs(b.energy) + std::fabs(derivative.second) + 0.1 * size))
                << derivative.first;
    }

    /// Forces against central differences of the energy, dU/ds and dU/dkT against differences in the parameters. Needs double precision.
    static void checkFiniteDifferences(OpenMM::Context& context, const std::vector<Vec3>& positions, const std::string& parameter = "spacetime_s") {
        using OpenMM::State;
        Evaluation e = evaluate(context, positions);
        double size = norm(e.forces);
        const double h = 1e-6;
        for (size_t i = 0; i < positions.size(); i++)
            for (int k = 0; k < 3; k++) {
                double energy[2];
                for (int side = 0; side < 2; side++) {
                    std::vector<Vec3> moved = positions;
                    moved[i][k] += (side == 0 ? -h : h);
                    context.setPositions(moved);
                    energy[side] = context.getState(State::Energy).getPotentialEnergy();
                }
                ASSERT_NEAR(-(energy[1] - energy[0]) / (2 * h), e.forces[i][k], 1e-6 * (size + std::fabs(e.energy) + 1)) << "particle " << i << ", axis " << k;
            }
        context.setPositions(positions);
        for (const std::string& name : {parameter, SpacetimeForce::KT()}) {
            double value = context.getParameter(name), energy[2];
            for (int side = 0; side < 2; side++) {
                context.setParameter(name, value + (side == 0 ? -h : h));
                energy[side] = context.getState(State::Energy).getPotentialEnergy();
            }
            context.setParameter(name, value);
            double expected = (energy[1] - energy[0]) / (2 * h);
            EXPECT_NEAR(expected, e.derivatives.at(name), 1e-6 * (1 + std::fabs(expected) + std::fabs(e.energy))) << name;
        }
    }

    /// Energy and forces of the groups in a running Context must be those that the Reference platform has at the same positions in the same box. Returns the State.
    OpenMM::State compareOnReference(OpenMM::Context& context, OpenMM::Context& reference, int groups, int round) {
        using OpenMM::State;
        State state = context.getState(State::Positions | State::Forces | State::Energy, false, groups);
        Vec3 box[3];
        state.getPeriodicBoxVectors(box[0], box[1], box[2]);
        reference.setPeriodicBoxVectors(box[0], box[1], box[2]);
        reference.setPositions(state.getPositions());
        State expected = reference.getState(State::Forces | State::Energy, false, groups);
        // Trajectories differ from run to run where sums are made in changing order, and may pass shapes that magnify the rounding of positions in single precision.
        // What goes wrong with order or images is off by the force itself.
        double size = norm(expected.getForces()), allowed = tolerance(1e-8, 1e-3) * (10 + size);
        EXPECT_GT(size, 1) << "round " << round;
        EXPECT_NEAR(expected.getPotentialEnergy(), state.getPotentialEnergy(), allowed) << "round " << round;
        double worst = 0;
        for (size_t k = 0; k < state.getForces().size(); k++) {
            Vec3 difference = expected.getForces()[k] - state.getForces()[k];
            worst = std::max(worst, std::sqrt(difference.dot(difference)));
        }
        EXPECT_LE(worst, allowed) << "round " << round;
        return state;
    }

    /// The tested platform against finite differences where it has the digits, and against the Reference platform.
    void check(const OpenMM::System& system, const std::vector<Vec3>& positions, double s) {
        auto context = createContext(system), reference = createReferenceContext(system);
        context->setParameter("spacetime_s", s);
        reference->setParameter("spacetime_s", s);
        Evaluation expected = evaluate(*reference, positions);
        ASSERT_GT(norm(expected.forces), 0.01);
        expectSame(evaluate(*context, positions), expected, tolerance());
        if (tested.isDouble)
            checkFiniteDifferences(*context, positions);
        const SpacetimeForce& force = dynamic_cast<const SpacetimeForce&>(system.getForce(0));
        std::vector<double> values = force.getVariableValues(*context), same = force.getVariableValues(*reference);
        ASSERT_EQ(same.size(), values.size());
        for (size_t i = 0; i < values.size(); i++) {
            // Either side of a seam is right.
            int variable = static_cast<int>(i) % force.getNumVariables();
            double period = 0;
            if (force.getVariableType(variable) == SpacetimeForce::Torsion)
                period = 2 * M_PI;
            else if (force.getVariableType(variable) == SpacetimeForce::Coordinate) {
                int site, axis;
                double shift, scale;
                force.getCoordinateParameters(variable, site, axis, period, shift, scale);
            }
            double difference = std::fabs(values[i] - same[i]);
            EXPECT_LT(period > 0 ? std::min(difference, std::fabs(difference - period)) : difference, tolerance(1e-11, 2e-5)) << force.getVariableName(variable);
        }
        EXPECT_NEAR(expected.energy, force.getBiasEnergy(*context), tolerance() * (10 + std::fabs(expected.energy)));
    }
};
