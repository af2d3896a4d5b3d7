// SPDX-License-Identifier: MIT
// Geodesics against closed forms, bounds, windings and what is refused.
#include "Torus.h"
#include "spacetime/Models.h"
#include "spacetime/Solver.h"
#include <Eigen/Geometry>
#include <cmath>
#include <gtest/gtest.h>

using namespace Spacetime;
using Eigen::MatrixXd;
using Eigen::VectorXd;

namespace {

GaussianMixtureModel gaussian(int D, double mean, double variance) {
    return GaussianMixtureModel(MatrixXd::Constant(D, 1, mean), VectorXd::Constant(1, variance), VectorXd::Ones(1));
}

GaussianMixtureModel threeWells() {
    MatrixXd means(1, 3);
    means << -2.5, 0.5, 2.5;
    return GaussianMixtureModel(means, VectorXd::Constant(3, 0.5625), Eigen::Vector3d(0.275, 0.45, 0.275));
}

double smallestKappa(const MatrixXd& eta) {
    double least = 1e300;
    for (Eigen::Index i = 0; i < eta.cols(); i++)
        least = std::min({least, eta.col(i).head(2).norm(), eta.col(i).tail(2).norm()});
    return least;
}

}  // namespace

TEST(Solver, ClosedFormGaussianDistance) {
    for (int D : {1, 2, 5})
        for (double variance : {1.0, 2.5}) {
            const double mean = 0.4;
            const GaussianMixtureModel g = gaussian(D, mean, variance);
            const VectorXd a = VectorXd::Constant(D, mean - 0.3), b = VectorXd::LinSpaced(D, mean + 0.1, mean + 0.3);
            const double la = 3, lb = 2.3;
            GeodesicOptions o;
            o.tolerance = 1e-10;
            const auto r = geodesic(g, g.variables().naturalParameter(a, la), g.variables().naturalParameter(b, lb), o);
            ASSERT_EQ(r.size(), 1u);
            EXPECT_TRUE(r[0].converged);
            auto posterior = [&](const VectorXd& c, double l, VectorXd& m, double& y) {
                const double v = 1 / (1 / variance + std::exp(l));
                m = v * (VectorXd::Constant(D, mean) / variance + std::exp(l) * c);
                y = std::sqrt(2 * D * v);
            };
            VectorXd ma, mb;
            double ya, yb;
            posterior(a, la, ma, ya);
            posterior(b, lb, mb, yb);
            const double exact = std::sqrt(2.0 * D) * std::acosh(1 + ((ma - mb).squaredNorm() + (ya - yb) * (ya - yb)) / (2 * ya * yb));
            EXPECT_NEAR(r[0].measure.lengthExtrapolated, exact, 1e-6) << "D = " << D << ", variance " << variance;
            EXPECT_LT(r[0].measure.speedGap, 1e-6);
        }
}

TEST(Solver, MixtureConvergesWithTheNumberOfPoints) {
    const GaussianMixtureModel g = threeWells();
    const VectorXd a = g.variables().naturalParameter(VectorXd::Constant(1, -2.5), 4), b = g.variables().naturalParameter(VectorXd::Constant(1, 2.5), 4);
    GeodesicOptions o;
    double previous = 0;
    for (int points : {129, 257}) {
        o.numPoints = points;
        const auto r = geodesic(g, a, b, o);
        EXPECT_TRUE(r[0].converged);
        EXPECT_LT(r[0].residual, 1e-6);
        EXPECT_LT(r[0].measure.speedGap, 1e-3);
        if (previous > 0) {
            EXPECT_NEAR(r[0].measure.lengthExtrapolated, previous, 1e-4 * previous);
        }
        previous = r[0].measure.lengthExtrapolated;
    }
    // No curve nearby is shorter.
    o.numPoints = 129;
    const auto best = geodesic(g, a, b, o)[0];
    for (double size : {-0.02, 0.02}) {
        MatrixXd eta = best.curve.eta();
        for (int i = 1; i < 128; i++)
            eta.col(i) *= 1 + size * std::sin(M_PI * i / 128.0);
        EXPECT_GT(measure(g, eta).energy, best.measure.energy);
    }
}

TEST(Solver, BoundOnLogSnrIsActiveAndHolds) {
    const GaussianMixtureModel g = threeWells();
    const VectorXd a = g.variables().naturalParameter(VectorXd::Constant(1, -2.5), 4), b = g.variables().naturalParameter(VectorXd::Constant(1, 2.5), 4);
    GeodesicOptions o;
    const double freeLength = geodesic(g, a, b, o)[0].measure.length;
    o.minLogSnr = 3;
    const auto r = geodesic(g, a, b, o)[0];
    EXPECT_TRUE(r.converged);
    const double highest = r.curve.eta().row(0).maxCoeff();
    EXPECT_LE(highest, -0.5 * std::exp(3.0) * (1 - 1e-9));
    EXPECT_GT(highest, -0.5 * std::exp(3.0) * 1.01) << "the bound was never reached";
    EXPECT_GT(r.measure.length, 1.5 * freeLength);
    EXPECT_LT(r.measure.speedGap, 1e-2);
}

TEST(Solver, WindingsOnTheTorus) {
    const EmpiricalModel e = torus(64);
    const Eigen::Vector2d a(-1.2, 0.1), b(1.2, -0.2);
    GeodesicOptions o;
    o.numPoints = 65;
    o.minKappa = 20;
    const VectorXd etaA = e.variables().naturalParameter(a, 3.2), etaB = e.variables().naturalParameter(b, 3.2);
    const auto shortest = geodesic(e, etaA, etaB, o);
    ASSERT_EQ(shortest.size(), 4u);
    for (const auto& r : shortest) {
        EXPECT_TRUE(r.converged) << r.windings[0] << " " << r.windings[1];
        EXPECT_GE(smallestKappa(r.curve.eta()), 20 * (1 - 1e-9));
        EXPECT_LT(r.measure.speedGap, 1e-2);
    }
    for (size_t i = 1; i < 4; i++)
        EXPECT_GE(shortest[i].measure.length, shortest[i - 1].measure.length);
    o.route = GeodesicOptions::Route::Lowest;
    const auto lowest = geodesic(e, etaA, etaB, o);
    EXPECT_NE(lowest[0].windings[0], 0) << "the lowest route goes round the mountain, the long way in a";
    EXPECT_EQ(shortest[0].windings[0], 0);
    EXPECT_LT(lowest[0].maxFreeEnergy, shortest[0].maxFreeEnergy);
}

TEST(Solver, BarrierWeightMinimisesTheConformalEnergy) {
    const EmpiricalModel e = torus(64);
    const double w = 0.5;
    GeodesicOptions o;
    o.numPoints = 129;
    o.minKappa = 20;
    o.tolerance = 1e-9;
    const VectorXd a = e.variables().naturalParameter(Eigen::Vector2d(-1.2, 0.1), 3.2), b = e.variables().naturalParameter(Eigen::Vector2d(1.2, -0.2), 3.2);
    auto conformalLength = [&](const MatrixXd& eta) {
        const Moments m = e.moments(eta);
        VectorXd cost = eta.cwiseProduct(m.mu).colwise().sum().transpose() - m.psi;
        cost.array() -= cost[0];
        double length = 0;
        for (Eigen::Index i = 0; i + 1 < eta.cols(); i++)
            length += std::exp(0.5 * w * (cost[i] + cost[i + 1])) * std::sqrt((eta.col(i + 1) - eta.col(i)).dot(m.mu.col(i + 1) - m.mu.col(i)));
        return length;
    };
    const auto plain = geodesic(e, a, b, o);
    EXPECT_EQ(plain[0].windings[0], 0) << "Fisher-Rao length does not see the mountain";
    o.barrierWeight = w;
    const auto aware = geodesic(e, a, b, o);
    EXPECT_NE(aware[0].windings[0], 0) << "the conformal length does";
    for (const auto& r : aware) {
        EXPECT_TRUE(r.converged);
        EXPECT_GE(smallestKappa(r.curve.eta()), 20 * (1 - 1e-9));
        EXPECT_LT(r.measure.speedGap, 1e-3) << "respaced to equal Fisher-Rao length";
        // The discretisation differs after respacing, the length only to second order.
        EXPECT_NEAR(conformalLength(r.curve.eta()), r.conformalLength, 2e-3 * r.conformalLength);
        for (const auto& p : plain)
            if (p.windings == r.windings) {
                EXPECT_LE(r.conformalLength, conformalLength(p.curve.eta()) * (1 + 1e-3));
            }
        // No curve nearby is shorter: nodes moved across the path, every kappa kept.
        for (double size : {-0.03, 0.03})
            for (int shape = 1; shape <= 2; shape++) {
                MatrixXd eta = r.curve.eta();
                for (int i = 1; i < 128; i++)
                    for (int o2 : {0, 2}) {
                        const double angle = (o2 == 0 ? 1 : -1) * size * std::sin(shape * M_PI * i / 128.0);
                        eta.col(i).segment<2>(o2) = Eigen::Rotation2Dd(angle) * eta.col(i).segment<2>(o2);
                    }
                EXPECT_GT(conformalLength(eta), conformalLength(r.curve.eta())) << size << " " << shape;
            }
    }
    o.barrierWeight = -1;
    EXPECT_THROW(geodesic(e, a, b, o), std::invalid_argument);
}

TEST(Solver, TorsionsWithoutBoundHaveOneMinimum) {
    const EmpiricalModel e = torus(64);
    GeodesicOptions o;
    o.numPoints = 65;
    const auto r = geodesic(e, e.variables().naturalParameter(Eigen::Vector2d(-1.2, 0.1), 3), e.variables().naturalParameter(Eigen::Vector2d(1.2, -0.2), 3), o);
    ASSERT_EQ(r.size(), 1u);
    EXPECT_TRUE(r[0].converged);
    EXPECT_LT(smallestKappa(r[0].curve.eta()), 5) << "a free geodesic leaves the ends' kappa";
}

TEST(Solver, SameInputSameResult) {
    const EmpiricalModel e = torus(48);
    GeodesicOptions o;
    o.numPoints = 33;
    o.minKappa = 15;
    const VectorXd a = e.variables().naturalParameter(Eigen::Vector2d(-1, 0.1), 3), b = e.variables().naturalParameter(Eigen::Vector2d(1, 2), 3);
    const auto first = geodesic(e, a, b, o), second = geodesic(e, a, b, o);
    EXPECT_EQ((first[0].curve.eta() - second[0].curve.eta()).norm(), 0);
}

TEST(Solver, InterruptKeepsWhatWasDone) {
    const EmpiricalModel e = torus(48);
    GeodesicOptions o;
    o.minKappa = 15;
    int calls = 0;
    o.progress = [&](double) { return ++calls < 3; };
    const auto r = geodesic(e, e.variables().naturalParameter(Eigen::Vector2d(-1, 0.1), 3), e.variables().naturalParameter(Eigen::Vector2d(1, 2), 3), o);
    ASSERT_EQ(r.size(), 1u);
    EXPECT_FALSE(r[0].converged);
    EXPECT_TRUE(r[0].curve.eta().allFinite());
}

TEST(Solver, BadInput) {
    const EmpiricalModel e = torus(32);
    const Variables& v = e.variables();
    const VectorXd a = v.naturalParameter(Eigen::Vector2d(-1, 0.1), 3), b = v.naturalParameter(Eigen::Vector2d(1, 2), 3);
    GeodesicOptions o;
    o.minKappa = 25;
    try {
        geodesic(e, a, b, o);
        FAIL() << "ends below the bound were accepted";
    }
    catch (const std::invalid_argument& error) {
        EXPECT_NE(std::string(error.what()).find("below the bound of 25"), std::string::npos) << error.what();
    }
    o.minKappa = 10;
    EXPECT_THROW(geodesic(e, a, a, o), std::invalid_argument);
    EXPECT_THROW(geodesic(e, a, VectorXd::Zero(3), o), std::invalid_argument);
    EXPECT_THROW(geodesic(e, a, VectorXd::Constant(4, NAN), o), std::invalid_argument);
    o.numPoints = 4;
    EXPECT_THROW(geodesic(e, a, b, o), std::invalid_argument);
    o = GeodesicOptions();
    o.minKappa = -1;
    EXPECT_THROW(geodesic(e, a, b, o), std::invalid_argument);
    o = GeodesicOptions();
    o.tolerance = 0;
    EXPECT_THROW(geodesic(e, a, b, o), std::invalid_argument);
}
