// SPDX-License-Identifier: MIT
#include "spacetime/Curve.h"
#include "spacetime/Models.h"
#include <cmath>
#include <cstdio>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

using namespace Spacetime;
using Eigen::MatrixXd;
using Eigen::VectorXd;

namespace {

GaussianMixtureModel standardNormal(int D) { return GaussianMixtureModel(MatrixXd::Zero(D, 1), VectorXd::Ones(1), VectorXd::Ones(1)); }

Curve wavy() {
    const Variables v({Variable::torsion("a"), Variable::number("u")});
    VectorXd s(6);
    s << 0, 0.1, 0.25, 0.6, 0.7, 1;
    MatrixXd eta(4, 6);
    for (int i = 0; i < 6; i++)
        eta.col(i) << -1 - i, std::sin(2.0 * i), 3 + (i % 2), i < 3 ? 1.0 : 1.0 + i;
    return Curve(v, s, eta);
}

}  // namespace

TEST(Curve, InterpolantPassesThroughNodesIsSmoothAndStaysBetweenThem) {
    const Curve c = wavy();
    VectorXd eta, derivative, plus, minus;
    for (int i = 0; i < c.numPoints(); i++) {
        c.evaluate(c.s()[i], eta);
        EXPECT_LT((eta - c.eta().col(i)).norm(), 1e-12);
    }
    for (double s = 0.013; s < 0.99; s += 0.0217) {
        c.evaluate(s, eta, &derivative);
        c.evaluate(s + 1e-6, plus);
        c.evaluate(s - 1e-6, minus);
        EXPECT_LT(((plus - minus) / 2e-6 - derivative).norm(), 1e-4 * (1 + derivative.norm())) << s;
        int i = 0;
        while (c.s()[i + 1] < s)
            i++;
        for (int r = 0; r < 4; r++) {
            EXPECT_GE(eta[r], std::min(c.eta()(r, i), c.eta()(r, i + 1)) - 1e-12);
            EXPECT_LE(eta[r], std::max(c.eta()(r, i), c.eta()(r, i + 1)) + 1e-12);
        }
    }
    // C1: the derivative is the same from both sides of a node.
    VectorXd left, right;
    for (int i = 1; i < 5; i++) {
        c.evaluate(c.s()[i] - 1e-9, eta, &left);
        c.evaluate(c.s()[i] + 1e-9, eta, &right);
        EXPECT_LT((left - right).norm(), 1e-5);
    }
    c.evaluate(1.5, eta, &derivative);
    EXPECT_EQ(derivative.norm(), 0);
    EXPECT_EQ((eta - c.eta().col(5)).norm(), 0);
}

TEST(Curve, FileRoundTripIsExact) {
    Curve c = wavy();
    c.temperature = 300;
    c.length = 3.25;
    const std::string path = testing::TempDir() + "curve.json";
    std::remove(path.c_str());
    c.save(path, false);
    EXPECT_THROW(c.save(path, false), std::invalid_argument);
    c.save(path, true);
    const Curve d = Curve::load(path);
    EXPECT_EQ((c.eta() - d.eta()).norm(), 0);
    EXPECT_EQ((c.s() - d.s()).norm(), 0);
    EXPECT_EQ(d.temperature, 300);
    EXPECT_EQ(d.length, 3.25);
    EXPECT_TRUE(std::isnan(d.energy));
    EXPECT_TRUE(d.variables().compatible(c.variables()));
}

TEST(Curve, BadInput) {
    const Variables v({Variable::torsion("a")});
    const Eigen::Vector3d s(0, 0.5, 1);
    const MatrixXd eta = MatrixXd::Ones(2, 3);
    EXPECT_NO_THROW(Curve(v, s, eta));
    EXPECT_THROW(Curve(v, Eigen::Vector3d(0, 0.5, 0.9), eta), std::invalid_argument);
    EXPECT_THROW(Curve(v, Eigen::Vector3d(0, 0, 1), eta), std::invalid_argument);
    EXPECT_THROW(Curve(v, s, MatrixXd::Ones(3, 3)), std::invalid_argument);
    EXPECT_THROW(Curve(v, s, MatrixXd::Constant(2, 3, NAN)), std::invalid_argument);
    EXPECT_THROW(Curve(v, Eigen::VectorXd::Zero(1), MatrixXd::Ones(2, 1)), std::invalid_argument);
    nlohmann::json j = Curve(v, s, eta).toJson();
    j["version"] = 2;
    try {
        Curve::fromJson(j);
        FAIL() << "a newer version was read";
    }
    catch (const std::invalid_argument& e) {
        EXPECT_NE(std::string(e.what()).find("upgrade"), std::string::npos) << e.what();
    }
    j["version"] = 1;
    j["eta"][1] = {1.0};
    EXPECT_THROW(Curve::fromJson(j), std::invalid_argument);
    j.erase("eta");
    EXPECT_THROW(Curve::fromJson(j), std::invalid_argument);
    EXPECT_THROW(Curve::load("/no/such/curve.json"), std::invalid_argument);
}

TEST(Curve, LengthConvergesToTheIntegralOfTheMetric) {
    // Along a straight line in eta the length is the integral of sqrt(w^T H w).
    const GaussianMixtureModel g = standardNormal(2);
    const VectorXd a = g.variables().naturalParameter(Eigen::Vector2d(-1, 0), 1), b = g.variables().naturalParameter(Eigen::Vector2d(1, 0.5), 2);
    const int fine = 20000;
    double exact = 0;
    MatrixXd middle(3, fine);
    for (int i = 0; i < fine; i++)
        middle.col(i) = a + (b - a) * ((i + 0.5) / fine);
    const Moments m = g.moments(middle);
    for (int i = 0; i < fine; i++)
        exact += std::sqrt((b - a).dot(m.J[i] * (b - a))) / fine;
    double previous = 0;
    for (int N : {32, 64}) {
        MatrixXd eta(3, N + 1);
        for (int i = 0; i <= N; i++)
            eta.col(i) = a + (b - a) * (static_cast<double>(i) / N);
        const CurveMeasure c = measure(g, eta);
        const double error = c.length - exact;
        EXPECT_GT(error, 0);
        EXPECT_LT(error, 1e-2);
        if (previous > 0) {
            EXPECT_NEAR(previous / error, 4, 0.2) << "the node sum is second order";
        }
        EXPECT_LT(std::abs(c.lengthExtrapolated - exact), 1e-2 * error + 1e-8);
        EXPECT_NEAR(c.speedGap, 2 * c.energy / (c.length * c.length) - 1, 1e-12);
        previous = error;
    }
}

TEST(Curve, RespacedNodesHaveEqualLength) {
    const GaussianMixtureModel g = standardNormal(1);
    const MatrixXd eta = straightLine(g.variables(), VectorXd::Constant(1, -2), VectorXd::Constant(1, 2), 3, 65);
    const Curve bent = Curve(g.variables(), VectorXd::LinSpaced(65, 0, 1).array().square().matrix(), eta).respaced(g, 65);
    const CurveMeasure m = measure(g, bent.eta());
    EXPECT_LT(m.d.maxCoeff() / m.d.minCoeff() - 1, 1e-3);
    EXPECT_LT(m.speedGap, 1e-6);
    EXPECT_NEAR(m.length, measure(g, eta).length, 1e-4);
}

TEST(Curve, StraightLineTakesTheShortWayAndWinds) {
    const Variables v({Variable::torsion("a"), Variable::torsion("b")});
    const Eigen::Vector2d a(-2.58, 2.79), b(1.09, -0.88);
    MatrixXd eta = straightLine(v, a, b, 4, 3);
    EXPECT_LT((v.center(eta.col(2)) - b).norm(), 1e-12);
    EXPECT_NEAR(std::remainder(v.center(eta.col(1))[1] - (2.79 + 0.5 * (-0.88 - 2.79 + 2 * M_PI)), 2 * M_PI), 0, 1e-12) << "through the seam";
    eta = straightLine(v, a, b, 4, 3, {0, -1});
    EXPECT_NEAR(v.center(eta.col(1))[1], 0.5 * (2.79 - 0.88), 1e-12) << "the long way";
    for (int i = 0; i < 3; i++)
        EXPECT_NEAR(eta.col(i).head(2).norm(), std::exp(4.0), 1e-10);
}
