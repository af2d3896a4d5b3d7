// SPDX-License-Identifier: MIT
// SpacetimeForce on one platform: TestSpacetimeForce Reference|CPU|OpenCL|CUDA|HIP [single|mixed|double]
#include "SpacetimeForceTest.h"
#include <Eigen/Dense>
#include <functional>

using namespace OpenMM;
using std::string;
using std::vector;

namespace {

// A dihedral written down from its definition: the angle between the projections of the outer bonds on the plane normal to the middle one.
double dihedral(const Vec3& a, const Vec3& b, const Vec3& c, const Vec3& d) {
    Vec3 axis = c - b;
    axis /= std::sqrt(axis.dot(axis));
    Vec3 u = a - b, v = d - c;
    u -= axis * u.dot(axis);
    v -= axis * v.dot(axis);
    return std::atan2(axis.dot(u.cross(v)), u.dot(v));
}

// Four particles, of which the first matters: PoCL crashes in OpenMM's own kernel of the kinetic energy where there is only one.
vector<Vec3> firstAt(const Vec3& position) { return {position, Vec3(1, 0, 0), Vec3(0, 1, 0), Vec3(0, 0, 1)}; }

}  // namespace

TEST_F(SpacetimeForceTest, EnergyOfTorsionsIsTheVonMisesTilt) {
    System system;
    addParticles(system, 6);
    // Constant along the curve: kappa cos(phi - phi0) for two torsions.
    double kappa[] = {54.6, 7.5}, phi0[] = {-2.9, 1.1};
    vector<double> node = {kappa[0] * std::cos(phi0[0]), kappa[0] * std::sin(phi0[0]), kappa[1] * std::cos(phi0[1]), kappa[1] * std::sin(phi0[1])};
    vector<double> eta = node;
    eta.insert(eta.end(), node.begin(), node.end());
    SpacetimeForce* force = new SpacetimeForce({0, 1}, eta, 300.0);
    force->addTorsion(0, 1, 2, 3);
    force->addTorsion(5, 1, 4, 2);
    EXPECT_EQ(4, force->getNumStatistics());
    system.addForce(force);
    auto contextPointer = createContext(system);
    Context& context = *contextPointer;
    for (int repeat = 0; repeat < 20; repeat++) {
        vector<Vec3> p = randomPositions(6);
        context.setPositions(p);
        double phi = dihedral(p[0], p[1], p[2], p[3]), psi = dihedral(p[5], p[1], p[4], p[2]);
        double expected = -KT_300 * (kappa[0] * std::cos(phi - phi0[0]) + kappa[1] * std::cos(psi - phi0[1]));
        double energy = context.getState(State::Energy).getPotentialEnergy();
        EXPECT_NEAR(expected, energy, tolerance(1e-10) * KT_300 * kappa[0]);
        // The energy is a pure function: neither asking again nor the other ways to ask change it.
        EXPECT_EQ(energy, context.getState(State::Energy | State::Forces).getPotentialEnergy());
        EXPECT_NEAR(energy, force->getBiasEnergy(context), tolerance(1e-11) * KT_300 * kappa[0]);
        vector<double> values = force->getVariableValues(context);
        EXPECT_NEAR(phi, values[0], tolerance(1e-12));
        EXPECT_NEAR(psi, values[1], tolerance(1e-12));
        vector<double> t = force->getStatistic(context);
        EXPECT_NEAR(std::cos(phi), t[0], tolerance(1e-12));
        EXPECT_NEAR(std::sin(phi), t[1], tolerance(1e-12));
        EXPECT_NEAR(std::cos(psi), t[2], tolerance(1e-12));
        EXPECT_NEAR(std::sin(psi), t[3], tolerance(1e-12));
    }
}

TEST_F(SpacetimeForceTest, EnergyOfCoordinatesIsAHarmonicWell) {
    System system;
    system.addParticle(1.0);
    system.addParticle(1.0);
    // U = kT/2 e^l (|d - m|^2 - |m|^2), eta = (-e^l/2, e^l m), and e^l, m change linearly along the curve.
    double precision[] = {4.0, 9.0}, m[2][2] = {{0.5, -1.0}, {2.0, 0.25}};
    vector<double> eta;
    for (int i = 0; i < 2; i++) {
        eta.push_back(-0.5 * precision[i]);
        for (int k = 0; k < 2; k++)
            eta.push_back(precision[i] * m[i][k]);
    }
    SpacetimeForce* force = new SpacetimeForce({0, 1}, eta, 300.0);
    force->addCoordinate(0, 1, 0.0, 0.3, 0.2);
    force->addCoordinate(1, 2, 0.0, -0.1, 1.5);
    system.addForce(force);
    auto contextPointer = createContext(system);
    Context& context = *contextPointer;
    context.setPositions({Vec3(9, 0.7, 9), Vec3(9, 9, -0.4)});
    double d[] = {(0.7 - 0.3) / 0.2, (-0.4 + 0.1) / 1.5};
    for (double s : {0.0, 0.25, 1.0}) {
        context.setParameter("spacetime_s", s);
        double p = (1 - s) * precision[0] + s * precision[1], expected = 0.5 * p * (d[0] * d[0] + d[1] * d[1]);
        for (int k = 0; k < 2; k++)
            expected -= d[k] * ((1 - s) * precision[0] * m[0][k] + s * precision[1] * m[1][k]);
        EXPECT_NEAR(KT_300 * expected, context.getState(State::Energy).getPotentialEnergy(), tolerance(1e-11, 1e-3));
    }
    EXPECT_NEAR(0.7, force->getVariableValues(context)[0], tolerance(1e-15, 1e-7));
    vector<double> t = force->getStatistic(context);
    ASSERT_EQ(3u, t.size());
    EXPECT_NEAR(d[0] * d[0] + d[1] * d[1], t[0], tolerance(1e-13));
    EXPECT_NEAR(d[0], t[1], tolerance(1e-13));
    EXPECT_NEAR(d[1], t[2], tolerance(1e-13));
}

TEST_F(SpacetimeForceTest, AnglesAndDistancesAreMeasured) {
    System system;
    addParticles(system, 4);
    // eta = (-1/2, m1, m2) at log-SNR 0: a well at m.
    auto* force = new SpacetimeForce({0, 1}, {-0.5, 0.7, -0.2, -0.5, 0.7, -0.2}, 300.0);
    force->addAngle(0, 3, 1, 1.2, 0.5);
    force->addDistance(2, 0, 0.3, 0.1, "d");
    system.addForce(force);
    auto context = createContext(system);
    for (int repeat = 0; repeat < 10; repeat++) {
        vector<Vec3> p = randomPositions(4);
        context->setPositions(p);
        Vec3 a = p[0] - p[3], b = p[1] - p[3], r = p[0] - p[2];
        double angle = std::acos(a.dot(b) / std::sqrt(a.dot(a) * b.dot(b))), distance = std::sqrt(r.dot(r)), d1 = (angle - 1.2) / 0.5, d2 = (distance - 0.3) / 0.1;
        vector<double> values = force->getVariableValues(*context);
        EXPECT_NEAR(angle, values[0], tolerance(1e-12));
        EXPECT_NEAR(distance, values[1], tolerance(1e-13, 1e-6));
        double energy = KT_300 * (0.5 * (d1 * d1 + d2 * d2) - 0.7 * d1 + 0.2 * d2);
        EXPECT_NEAR(energy, context->getState(State::Energy).getPotentialEnergy(), tolerance() * (1 + std::fabs(energy)));
    }
}

TEST_F(SpacetimeForceTest, PositionsAreThoseAfterTheOptimalSuperposition) {
    System system;
    addParticles(system, 9);
    const vector<int> members = {7, 2, 0, 5, 3};
    const vector<double> weights = {12, 1, 14, 16, 1};
    const vector<Vec3> reference = randomPositions(5);
    auto* force = new SpacetimeForce({0, 1}, vector<double>(2 * (1 + 18), -0.5), 300.0);
    int frame = force->addFrame(members, reference, weights);
    for (int site : {7, 2, 0, 5, 3, 8})
        for (int axis = 0; axis < 3; axis++)
            force->addPosition(site, axis, frame);
    system.addForce(force);
    auto context = createContext(system);
    for (double noise : {0.0, 0.05, 0.3}) {
        // The frame somewhere else, turned and distorted; the other particles anywhere.
        vector<Vec3> p = randomPositions(9), placed = moved(reference, noise);
        for (int i = 0; i < 5; i++)
            p[members[i]] = placed[i];
        context->setPositions(p);
        vector<double> values = force->getVariableValues(*context);
        for (int i = 0; i < 15 && noise == 0; i++)
            EXPECT_NEAR(reference[i / 3][i % 3], values[i], tolerance(1e-12, 3e-6));
        // By another way: singular value decomposition (Kabsch).
        Eigen::Vector3d center = Eigen::Vector3d::Zero(), origin = center;
        double total = 0;
        auto vec = [](const Vec3& v) { return Eigen::Vector3d(v[0], v[1], v[2]); };
        for (int i = 0; i < 5; i++) {
            center += weights[i] * vec(placed[i]);
            origin += weights[i] * vec(reference[i]);
            total += weights[i];
        }
        center /= total;
        origin /= total;
        Eigen::Matrix3d C = Eigen::Matrix3d::Zero();
        for (int i = 0; i < 5; i++)
            C += weights[i] * (vec(reference[i]) - origin) * (vec(placed[i]) - center).transpose();
        Eigen::JacobiSVD<Eigen::Matrix3d> svd(C, Eigen::ComputeFullU | Eigen::ComputeFullV);
        Eigen::Vector3d sign(1, 1, (svd.matrixU() * svd.matrixV().transpose()).determinant() < 0 ? -1 : 1);
        Eigen::Matrix3d R = svd.matrixU() * sign.asDiagonal() * svd.matrixV().transpose();
        Eigen::Vector3d last = R * (vec(p[8]) - center) + origin;
        for (int axis = 0; axis < 3; axis++)
            EXPECT_NEAR(last[axis], values[15 + axis], tolerance(1e-11, 2e-5));
    }
}

TEST_F(SpacetimeForceTest, CentroidsAreWeightedMeans) {
    System system;
    addParticles(system, 6);
    auto* force = new SpacetimeForce({0, 1}, {-0.5, 1, 2, -0.5, 1, 2}, 300.0);
    EXPECT_EQ(-1, force->addCentroid({4, 1, 0}, {1, 12, 3}));
    EXPECT_EQ(-2, force->addCentroid({2, 5}));
    force->addDistance(-1, -2);
    force->addCoordinate(-2, 1);
    system.addForce(force);
    auto context = createContext(system);
    vector<Vec3> p = randomPositions(6);
    context->setPositions(p);
    Vec3 a = (p[4] + p[1] * 12 + p[0] * 3) / 16, b = (p[2] + p[5]) / 2, d = b - a;
    EXPECT_NEAR(std::sqrt(d.dot(d)), force->getVariableValues(*context)[0], tolerance(1e-13, 1e-6));
    EXPECT_NEAR(b[1], force->getVariableValues(*context)[1], tolerance(1e-13, 1e-6));
    check(system, p, 0.5);
}

TEST_F(SpacetimeForceTest, RandomVariables) {
    // Boxes are triclinic, and particles scattered over several images.
    const int numCases = (tested.isReference ? 1000 : 0), count = 14;
    for (int i = 0; i < numCases; i++) {
        System system;
        addParticles(system, count);
        Vec3 box[] = {Vec3(2.0, 0, 0), Vec3(0.5, 1.8, 0), Vec3(-0.7, 0.4, 1.9)};
        system.setDefaultPeriodicBoxVectors(box[0], box[1], box[2]);
        vector<Vec3> positions = randomPositions(count);
        system.addForce(randomForce(positions, integer(1, 6), true));
        if (i % 3 == 0)
            for (Vec3& p : positions)
                for (const Vec3& v : box)
                    p += v * integer(-1, 1);
        check(system, positions, uniform(0.05, 0.95));
        if (HasFailure()) {
            std::printf("case %d\n", i);
            break;
        }
    }
}

TEST_F(SpacetimeForceTest, RandomVariablesPacked) {
    // The same, 50 forces with a parameter each in one System.
    const int numSystems = 20, perSystem = 50, count = 14;
    for (int i = 0; i < numSystems; i++) {
        System system;
        addParticles(system, perSystem * count);
        system.setDefaultPeriodicBoxVectors(Vec3(2.0, 0, 0), Vec3(0.5, 1.8, 0), Vec3(-0.7, 0.4, 1.9));
        vector<Vec3> positions;
        std::map<string, double> parameters;
        for (int j = 0; j < perSystem; j++) {
            vector<Vec3> own = randomPositions(count);
            auto* force = randomForce(own, integer(1, 6), true);
            force->addWalker(j * count);
            force->setParameterName("s" + std::to_string(j));
            force->setTemperature(300);
            parameters[force->getParameterName()] = uniform(0.05, 0.95);
            system.addForce(force);
            positions.insert(positions.end(), own.begin(), own.end());
        }
        auto context = createContext(system), reference = createReferenceContext(system);
        for (auto& p : parameters) {
            context->setParameter(p.first, p.second);
            reference->setParameter(p.first, p.second);
        }
        Evaluation expected = evaluate(*reference, positions), got = evaluate(*context, positions);
        EXPECT_NEAR(expected.energy, got.energy, tolerance() * (100 + std::fabs(expected.energy)));
        // Force by force, as sizes differ.
        for (int j = 0; j < perSystem; j++) {
            auto part = [&](const Evaluation& e) { return vector<Vec3>(e.forces.begin() + j * count, e.forces.begin() + (j + 1) * count); };
            vector<Vec3> a = part(expected), b = part(got);
            double size = norm(a);
            for (int k = 0; k < count; k++)
                for (int axis = 0; axis < 3; axis++)
                    ASSERT_NEAR(a[k][axis], b[k][axis], tolerance(1e-9, 1e-4) * (1 + size)) << "system " << i << ", force " << j << ", particle " << k;
            string name = "s" + std::to_string(j);
            EXPECT_NEAR(expected.derivatives[name], got.derivatives[name], tolerance(1e-9, 1e-4) * (10 + std::fabs(expected.derivatives[name]) + size)) << name;
            auto& force = dynamic_cast<const SpacetimeForce&>(system.getForce(j));
            EXPECT_NEAR(force.getBiasEnergy(*reference), force.getBiasEnergy(*context), tolerance(1e-9, 1e-4) * (10 + size)) << name;
        }
        if (HasFailure())
            break;
    }
}

TEST_F(SpacetimeForceTest, AThousandVariables) {
    System system;
    const int count = 400;
    addParticles(system, count);
    auto* force = new SpacetimeForce({0, 1}, {0, 0}, 300.0);
    for (int i = 0; i < 700; i++) {
        vector<int> p = draw(4, count);
        force->addTorsion(p[0], p[1], p[2], p[3]);
    }
    for (int i = 0; i < 100; i++) {
        vector<int> p = draw(3, count);
        force->addDistance(p[0], p[1]);
        force->addAngle(p[0], p[1], p[2]);
    }
    vector<int> members = draw(33, count);
    vector<Vec3> positions = randomPositions(count, 3.0);
    int frame = force->addFrame(members, moved(sitePositions(*force, members, positions), 0.1));
    for (int member : members)
        for (int axis = 0; axis < 3; axis++)
            force->addPosition(member, axis, frame);
    force->addCoordinate(0, 0);
    ASSERT_EQ(1000, force->getNumVariables());
    force->setCurve({0, 0.3, 1}, randomEta(3, force->getNumStatistics(), 3.0));
    system.addForce(force);
    auto context = createContext(system), reference = createReferenceContext(system);
    context->setParameter("spacetime_s", 0.6);
    reference->setParameter("spacetime_s", 0.6);
    expectSame(evaluate(*context, positions), evaluate(*reference, positions), tolerance());
    vector<double> values = force->getVariableValues(*context), same = force->getVariableValues(*reference);
    for (int i = 700; i < 1000; i++)
        EXPECT_NEAR(same[i], values[i], tolerance(1e-11, 1e-5));
}

TEST_F(SpacetimeForceTest, DerivativesOfTorsionsInATriclinicBox) {
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
                p += v * std::uniform_int_distribution<int>(-2, 2)(random);
        vector<double> values[2];
        for (int i = 0; i < 2; i++) {
            auto contextPointer = createContext(system);
            Context& context = *contextPointer;
            context.setPositions(i == 0 ? compact : scattered);
            values[i] = force->getVariableValues(context);
        }
        for (int i = 0; i < 2; i++)
            if (periodic) {
                EXPECT_NEAR(values[0][i], values[1][i], tolerance(1e-10));
            }
            else {
                EXPECT_GT(std::fabs(values[0][i] - values[1][i]), 1e-3);
            }
        check(system, scattered, 0.4);
    }
}

TEST_F(SpacetimeForceTest, PeriodicCoordinateRepeats) {
    System system;
    addParticles(system, 4);
    SpacetimeForce* force = new SpacetimeForce({0, 1}, {3, 4, 3, 4}, 300.0);
    force->addCoordinate(0, 0, 0.8);
    system.addForce(force);
    auto contextPointer = createContext(system);
    Context& context = *contextPointer;
    for (double x : {0.3, 0.3 - 0.8, 0.3 + 8.0}) {
        context.setPositions(firstAt(Vec3(x, 0, 0)));
        double theta = 2 * M_PI * 0.3 / 0.8;
        EXPECT_NEAR(-KT_300 * (3 * std::cos(theta) + 4 * std::sin(theta)), context.getState(State::Energy).getPotentialEnergy(), tolerance(1e-11, 1e-4));
        EXPECT_NEAR(0.3, force->getVariableValues(context)[0], tolerance(1e-12, 2e-6));
    }
    if (tested.isDouble)
        for (double x : {0.4, -0.4}) {
            context.setPositions(firstAt(Vec3(x, 0, 0)));
            EXPECT_EQ(0.4, force->getVariableValues(context)[0]);
        }
}

TEST_F(SpacetimeForceTest, CurveStaysBetweenItsNodesAndIsSmooth) {
    vector<double> s = randomNodes(9), eta = randomEta(9, 3);
    SpacetimeForce force(s, eta, 300.0);
    for (int i = 0; i + 1 < 9; i++) {
        for (double u : {0.0, 0.1, 0.5, 0.83}) {
            double position = s[i] + u * (s[i + 1] - s[i]), h = 1e-7 * (s[i + 1] - s[i]);
            vector<double> value = force.evaluateEta(position), derivative = force.evaluateEtaDerivative(position);
            vector<double> left = force.evaluateEta(position - h), right = force.evaluateEta(position + h);
            for (int k = 0; k < 3; k++) {
                double a = eta[3 * i + k], b = eta[3 * (i + 1) + k];
                EXPECT_GE(value[k], std::min(a, b) - 1e-12);
                EXPECT_LE(value[k], std::max(a, b) + 1e-12);
                if (u > 0) {
                    EXPECT_NEAR((right[k] - left[k]) / (2 * h), derivative[k], 1e-4);
                }
                else if (i > 0) {
                    EXPECT_NEAR((right[k] - value[k]) / h, (value[k] - left[k]) / h, 1e-2);  // C1 at the nodes
                }
            }
        }
    }
}

TEST_F(SpacetimeForceTest, CollinearTorsionGivesFiniteForces) {
    System system;
    addParticles(system, 4);
    SpacetimeForce* force = new SpacetimeForce({0, 1}, {5, 3, 5, 3}, 300.0);
    force->addTorsion(0, 1, 2, 3);
    system.addForce(force);
    auto contextPointer = createContext(system);
    Context& context = *contextPointer;
    context.setPositions({Vec3(0, 0, 0), Vec3(0.1, 0.1, 0), Vec3(0.2, 0.2, 0), Vec3(0.2, 0.3, 0.1)});
    State state = context.getState(State::Energy | State::Forces);
    EXPECT_TRUE(std::isfinite(state.getPotentialEnergy()));
    for (const Vec3& f : state.getForces())
        EXPECT_EQ(0.0, f.dot(f));
    // A position that is not a number must not be hidden by the guard. Forces in fixed point have no NaN, and the CPU platform refuses such positions itself.
    context.setPositions({Vec3(NAN, 0, 0), Vec3(0.1, 0.1, 0), Vec3(0.2, 0.2, 0.1), Vec3(0.2, 0.3, 0.1)});
    EXPECT_TRUE(tested.platform->getName() != "Reference" || std::isnan(context.getState(State::Forces).getForces()[0][0]));
    EXPECT_TRUE(std::isnan(force->getVariableValues(context)[0]));
}

TEST_F(SpacetimeForceTest, TwoCurvesAndForceGroups) {
    System system;
    addParticles(system, 4);
    SpacetimeForce* forces[2];
    for (int i = 0; i < 2; i++) {
        forces[i] = new SpacetimeForce({0, 1}, {1.0 + i, 2, 5, -3.0 + i}, 300.0);
        forces[i]->addCoordinate(0, i, 1.0);
        forces[i]->setForceGroup(i + 1);
        system.addForce(forces[i]);
    }
    forces[0]->setDefaultS(0.25);
    forces[1]->setParameterName("other_s");
    forces[1]->setDefaultS(0.75);
    auto contextPointer = createContext(system);
    Context& context = *contextPointer;
    context.setPositions(firstAt(Vec3(0.1, 0.2, 0)));
    EXPECT_EQ(0.25, context.getParameter("spacetime_s"));
    EXPECT_EQ(0.75, context.getParameter("other_s"));
    EXPECT_NEAR(KT_300, context.getParameter(SpacetimeForce::KT()), 1e-14);
    EXPECT_NE(forces[0]->getBiasEnergy(context), forces[1]->getBiasEnergy(context));
    for (int i = 0; i < 2; i++)
        EXPECT_NEAR(forces[i]->getBiasEnergy(context), context.getState(State::Energy, false, 1 << (i + 1)).getPotentialEnergy(), tolerance(1e-12, 1e-4));
    EXPECT_EQ(0.0, context.getState(State::Energy, false, 1).getPotentialEnergy());
    EXPECT_NEAR(forces[0]->getBiasEnergy(context) + forces[1]->getBiasEnergy(context), context.getState(State::Energy).getPotentialEnergy(), tolerance(1e-12, 1e-4));

    // kT is a parameter: the bias is proportional to it.
    double before = forces[0]->getBiasEnergy(context);
    context.setParameter(SpacetimeForce::KT(), 2 * KT_300);
    EXPECT_NEAR(2 * before, forces[0]->getBiasEnergy(context), tolerance(1e-12, 1e-4));

    forces[1]->setTemperature(310.0);
    expectError<OpenMM::OpenMMException>([&] { createContext(system); }, {"spacetime_kT", "force 1 (SpacetimeForce)", "default"});
    forces[1]->setTemperature(300.0);
    forces[1]->setParameterName("spacetime_s");
    expectError<OpenMM::OpenMMException>([&] { createContext(system); }, {"spacetime_s has the default 0.25", "force 1 (SpacetimeForce)", "0.75", "setParameterName"});
    forces[1]->setDefaultS(0.25);
    auto* bond = new CustomBondForce("spacetime_s*r");
    bond->addGlobalParameter("spacetime_s", 0.5);
    system.addForce(bond);
    expectError<OpenMM::OpenMMException>([&] { createContext(system); }, {"force 2 (CustomBondForce)", "0.5"});
}

TEST_F(SpacetimeForceTest, UpdateParametersInContext) {
    System system;
    for (int i = 0; i < 5; i++)
        system.addParticle(1.0);
    auto* force = new SpacetimeForce({0, 1}, {-1, 2, 3, 4, -1, 2, 3, 4}, 300.0);
    force->addTorsion(0, 1, 2, 3);
    force->addCoordinate(4, 0);
    system.addForce(force);
    auto contextPointer = createContext(system);
    Context& context = *contextPointer;
    context.setPositions(randomPositions(5));
    double before = force->getBiasEnergy(context);
    force->setCurve({0, 0.5, 1}, {-1, 5, 2, 1, -2, 1, 2, 3, -3, 0, 2, 1});
    force->setCoordinateParameters(1, 4, 0, 0.0, 0.5, 2.0);
    EXPECT_EQ(before, force->getBiasEnergy(context));
    EXPECT_NEAR(before, context.getState(State::Energy).getPotentialEnergy(), tolerance(1e-12, 1e-4));
    force->updateParametersInContext(context);
    double after = force->getBiasEnergy(context);
    EXPECT_NE(before, after);
    EXPECT_NEAR(after, context.getState(State::Energy).getPotentialEnergy(), tolerance(1e-12, 1e-4));
    auto freshPointer = createContext(system);
    Context& fresh = *freshPointer;
    fresh.setPositions(context.getState(State::Positions).getPositions());
    EXPECT_NEAR(after, force->getBiasEnergy(fresh), tolerance(1e-12, 1e-4));

    force->setTorsionParameters(0, 0, 1, 2, 4);
    expectError<OpenMM::OpenMMException>([&] { force->updateParametersInContext(context); }, {"SpacetimeForce", "number, types, sites", "reinitialize"});
    force->setTorsionParameters(0, 0, 1, 2, 3);
    force->updateParametersInContext(context);
    force->setCurve({0, 1}, {1, 2, 3, 1, 2, 3});
    expectError<OpenMM::OpenMMException>([&] { force->updateParametersInContext(context); }, {"3 components", "4 statistics"});
    force->addTorsion(1, 2, 3, 4);
    force->setCurve({0, 1}, vector<double>(12, 1.0));
    expectError<OpenMM::OpenMMException>([&] { force->updateParametersInContext(context); }, {"number, types, sites"});
}

TEST_F(SpacetimeForceTest, BadInputsAreNamed) {
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
    expectError<OpenMM::OpenMMException>([&] { force.addTorsion(0, 1, 2, 1); }, {"variable 0 (torsion0)", "sites 2 and 4 (1 and 1) both contain particle 1"});
    expectError<OpenMM::OpenMMException>([&] { force.addTorsion(0, -1, 2, 1); }, {"site 2 is -1", "no centroid has been added"});
    expectError<OpenMM::OpenMMException>([&] { force.addCoordinate(-3, 0, 0, 0, 1, "x"); }, {"variable 0 (x)", "-3"});
    expectError<OpenMM::OpenMMException>([&] { force.addCoordinate(0, 3); }, {"axis", "3"});
    expectError<OpenMM::OpenMMException>([&] { force.addCoordinate(0, 0, -1); }, {"period", "-1"});
    expectError<OpenMM::OpenMMException>([&] { force.addDistance(0, 1, 0, 0); }, {"variable 0 (distance0)", "scale", "positive", "0"});
    expectError<OpenMM::OpenMMException>([&] { force.addAngle(0, 1, 2, nan, 1); }, {"variable 0 (angle0)", "shift"});
    expectError<OpenMM::OpenMMException>([&] { force.addCoordinate(0, 0, 1.0, 0.5, 1); }, {"shift = 0.5", "period 1"});
    expectError<OpenMM::OpenMMException>([&] { force.addCentroid({}); }, {"centroid -1", "at least one particle"});
    expectError<OpenMM::OpenMMException>([&] { force.addCentroid({3, 4, 3}); }, {"centroid -1", "particle 3"});
    expectError<OpenMM::OpenMMException>([&] { force.addCentroid({3, -1}); }, {"centroid -1", "-1"});
    expectError<OpenMM::OpenMMException>([&] { force.addCentroid({3, 4}, {1}); }, {"2 weights", "1"});
    expectError<OpenMM::OpenMMException>([&] { force.addCentroid({3, 4}, {1, -2}); }, {"weight 1 is -2"});
    EXPECT_EQ(-1, force.addCentroid({3, 4}));
    expectError<OpenMM::OpenMMException>([&] { force.addDistance(-1, 4); }, {"sites 1 and 2 (-1 and 4) both contain particle 4"});
    expectError<OpenMM::OpenMMException>([&] { force.addDistance(-2, 0); }, {"site 1 is -2", "-1 to -1"});
    const vector<Vec3> triangle = {Vec3(0, 0, 0), Vec3(1, 0, 0), Vec3(0, 1, 0)};
    expectError<OpenMM::OpenMMException>([&] { force.addFrame({0, 1}, {Vec3(), Vec3()}); }, {"frame 0", "three sites", "2"});
    expectError<OpenMM::OpenMMException>([&] { force.addFrame({0, 1, 2, 5}, triangle); }, {"frame 0", "4 sites", "3"});
    expectError<OpenMM::OpenMMException>([&] { force.addFrame({0, 1, 2}, {Vec3(), Vec3(0, nan, 0), Vec3()}); }, {"frame 0", "component 1 of position 1", "nan"});
    expectError<OpenMM::OpenMMException>([&] { force.addFrame({0, 1, 2}, {Vec3(0, 1, 0), Vec3(0, 2, 0), Vec3(0, 5, 0)}); }, {"frame 0", "one line"});
    expectError<OpenMM::OpenMMException>([&] { force.addFrame({0, 1, 2}, triangle, {1, 0, 1}); }, {"weight 1 is 0"});
    expectError<OpenMM::OpenMMException>([&] { force.addPosition(0, 0, 0); }, {"variable 0 (position0)", "no frame 0"});
    EXPECT_EQ(0, force.addFrame({0, 1, -1}, triangle));
    expectError<OpenMM::OpenMMException>([&] { force.addPosition(0, 0, 1); }, {"no frame 1; 1 have been added"});
    expectError<OpenMM::OpenMMException>([&] { force.addWalker(-2); }, {"walker 0", "-2"});
    expectError<OpenMM::OpenMMException>([&] { force.addWalker(0, nan); }, {"walker 0", "nan"});
    EXPECT_EQ(0, force.getNumVariables());
    force.addCoordinate(0, 0, 1.0);
    int p[4];
    expectError<OpenMM::OpenMMException>([&] { force.getTorsionParameters(0, p[0], p[1], p[2], p[3]); }, {"expects a torsion", "variable 0"});
    expectError<OpenMM::OpenMMException>([&] { force.getVariableName(1); }, {"no variable 1", "1 have been added"});
    expectError<OpenMM::OpenMMException>([&] { force.setParameterName(SpacetimeForce::KT()); }, {"spacetime_kT"});
    expectError<OpenMM::OpenMMException>([&] { force.setDefaultS(1.5); }, {"between 0 and 1", "1.5"});
}

TEST_F(SpacetimeForceTest, ContextCreationChecksTheForce) {
    System system;
    for (int i = 0; i < 4; i++)
        system.addParticle(1.0);
    auto* force = new SpacetimeForce({0, 1}, {1, 1, 1, 1}, 300);
    system.addForce(force);
    auto create = [&] { createContext(system); };
    expectError<OpenMM::OpenMMException>(create, {"SpacetimeForce", "no variables", "addTorsion"});
    force->addTorsion(0, 1, 2, 4, "phi");
    expectError<OpenMM::OpenMMException>(create, {"particle 4 of variable 0 (phi)", "4 particles"});
    force->setTorsionParameters(0, 0, 1, 2, 3);
    create();
    force->addCoordinate(0, 0);
    expectError<OpenMM::OpenMMException>(create, {"2 components", "4 statistics", "|d|^2"});
    force->setCurve({0, 1}, vector<double>(8, 1.0));
    force->setUsesPeriodicBoundaryConditions(true);
    expectError<OpenMM::OpenMMException>(create, {"periodic", "no box", "setDefaultPeriodicBoxVectors"});
    system.setDefaultPeriodicBoxVectors(Vec3(3, 0, 0), Vec3(0, 3, 0), Vec3(0, 0, 3));
    create();
    force->addWalker(0);
    force->addWalker(1);
    expectError<OpenMM::OpenMMException>(create, {"particle 4 of variable 0 (phi) in the walker with offset 1"});
    force->setWalkerParameters(1, 0, 0.5, 0.5);
    expectError<OpenMM::OpenMMException>(create, {"walkers 0 and 1 both have the offset 0"});
}

TEST_F(SpacetimeForceTest, SBeyondTheCurveIsAnError) {
    System system;
    addParticles(system, 4);
    SpacetimeForce* force = new SpacetimeForce({0, 0.5, 1}, {1, 0, 3, 1, 5, 2}, 300.0);
    force->addCoordinate(0, 0, 1.0);
    system.addForce(force);
    auto context = createContext(system);
    context->setPositions(firstAt(Vec3(0.1, 0, 0)));
    auto evaluate = [&](double s) {
        context->setParameter("spacetime_s", s);
        return context->getState(State::Energy | State::ParameterDerivatives);
    };
    for (double s : {-0.3, 1.7, double(NAN)})
        expectError<OpenMM::OpenMMException>([&] { evaluate(s); }, {"SpacetimeForce", "spacetime_s must lie between 0 and 1", std::to_string(s).substr(0, 3)});
    // Rounding is forgiven.
    EXPECT_EQ(evaluate(1).getPotentialEnergy(), evaluate(1 + 1e-9).getPotentialEnergy());
    EXPECT_NE(0.0, evaluate(0).getEnergyParameterDerivatives().at("spacetime_s"));
    EXPECT_EQ(vector<double>({3, 1}), force->evaluateEta(0.5));
    EXPECT_EQ(vector<double>({5, 2}), force->evaluateEta(1));
}

TEST_F(SpacetimeForceTest, ForceAddedAfterTheContextIsAnError) {
    System system;
    addParticles(system, 4);
    auto contextPointer = createContext(system);
    Context& context = *contextPointer;
    context.setPositions(firstAt(Vec3(0.1, 0, 0)));
    auto* force = new SpacetimeForce({0, 1}, {1, 1, 1, 1}, 300);
    force->addCoordinate(0, 0, 1.0);
    system.addForce(force);
    for (const auto& call : vector<std::function<void()>>{[&] { force->getVariableValues(context); }, [&] { force->getStatistic(context); }, [&] { force->getBiasEnergy(context); },
                                                          [&] { force->updateParametersInContext(context); }})
        expectError<OpenMM::OpenMMException>(call, {"not part of the Context", "reinitialize"});
    context.reinitialize(true);
    EXPECT_NEAR(0.1, force->getVariableValues(context)[0], tolerance(1e-15, 1e-7));
}
