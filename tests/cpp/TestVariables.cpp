// SPDX-License-Identifier: MIT
#include "spacetime/Variables.h"
#include <cmath>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

using namespace Spacetime;
using Eigen::MatrixXd;
using Eigen::VectorXd;

namespace {

Variables mixedSet() {
    Variable d = Variable::distance("d", {0, 5});
    d.shift = 0.3;
    d.scale = 0.1;
    return Variables({d, Variable::torsion("phi", {4, 6, 8, 14}), Variable::coordinate("x", 3, 0, 2.0)});
}

}  // namespace

TEST(Variables, StatisticOrder) {
    const Variables v = mixedSet();
    ASSERT_EQ(v.numStatistics(), 6);
    const MatrixXd T = v.statistic(Eigen::Vector3d(0.5, 1.2, 0.25));
    const double d = (0.5 - 0.3) / 0.1;
    const double expected[] = {d * d, d, std::cos(1.2), std::sin(1.2), std::cos(M_PI * 0.25), std::sin(M_PI * 0.25)};
    for (int i = 0; i < 6; i++)
        EXPECT_NEAR(T(i, 0), expected[i], 1e-14) << i;
    const Variables torsions({Variable::torsion("a"), Variable::torsion("b")});
    EXPECT_FALSE(torsions.hasQuadratic());
    EXPECT_EQ(torsions.numStatistics(), 4);
    EXPECT_EQ(torsions.euclidean().numStatistics(), 3);
}

TEST(Variables, NaturalParameterAndCenterAreInverse) {
    const Variables v = mixedSet();
    const Eigen::Vector3d raw(0.37, -2.9, 0.8);
    const VectorXd eta = v.naturalParameter(raw, 1.7);
    EXPECT_NEAR(eta[0], -0.5 * std::exp(1.7), 1e-13);
    EXPECT_NEAR(std::hypot(eta[2], eta[3]), std::exp(1.7), 1e-12);
    EXPECT_LT((v.center(eta) - raw).norm(), 1e-12);
    EXPECT_LT((v.meanPosition(v.statistic(raw)) - raw).norm(), 1e-12);
}

TEST(Variables, JsonRoundTrip) {
    const Variables v = mixedSet(), w = Variables::fromJson(v.toJson());
    EXPECT_TRUE(v.compatible(w));
    EXPECT_EQ(w[1].atoms, (std::vector<int>{4, 6, 8, 14}));
    EXPECT_EQ(w[2].period, 2.0);
    EXPECT_FALSE(v.compatible(v.euclidean()));
    EXPECT_EQ(Variables::fromJson(nlohmann::json::parse(R"(["a","b"])")).numUnlifted(), 2);
    const Variables parsed = Variables::parse("phi:torsion,distance");
    EXPECT_EQ(parsed[0].name, "phi");
    EXPECT_EQ(parsed[1].kindName(), "distance");
}

TEST(Variables, BadInputIsNamed) {
    EXPECT_THROW(Variables(std::vector<Variable>{}), std::invalid_argument);
    EXPECT_THROW(Variables({Variable::torsion("a", {1, 2, 3})}), std::invalid_argument);
    EXPECT_THROW(Variables({Variable::torsion("a", {1, 2, 3, 2})}), std::invalid_argument);
    EXPECT_THROW(Variables({Variable::torsion("a", {-1, 2, 3, 4})}), std::invalid_argument);
    EXPECT_THROW(Variables({Variable::torsion("a"), Variable::torsion("a")}), std::invalid_argument);
    EXPECT_THROW(Variables({Variable::coordinate("x", 0, 3)}), std::invalid_argument);
    EXPECT_THROW(Variables({Variable::coordinate("x", 0, 1, -1)}), std::invalid_argument);
    Variable v = Variable::number("n");
    v.scale = 0;
    EXPECT_THROW(Variables({v}), std::invalid_argument);
    EXPECT_THROW(Variables::parse("dihedral"), std::invalid_argument);
    EXPECT_THROW(Variables::fromJson(nlohmann::json::parse(R"([{"name":"a","type":"torsion","unit":"degree"}])")), std::invalid_argument);
    const Variables t({Variable::torsion("a"), Variable::torsion("b")});
    EXPECT_THROW(t.statistic(VectorXd::Zero(3)), std::invalid_argument);
    try {
        t.statistic(Eigen::Vector2d(0, NAN));
        FAIL() << "NaN was accepted";
    }
    catch (const std::invalid_argument& e) {
        EXPECT_NE(std::string(e.what()).find("sample 0"), std::string::npos) << e.what();
    }
}
