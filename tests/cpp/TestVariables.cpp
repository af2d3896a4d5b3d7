// SPDX-License-Identifier: MIT
#include "ExpectError.h"
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

/// Five atoms and a centroid, on no line.
Frame frameOf(double scale) {
    Frame f;
    f.sites = {0, 1, 2, 3, 4, Site({5, 6, 7}, {12, 1, 1.25})};
    f.reference = scale * (MatrixXd(3, 6) << 0, 0.1, 0.2, 0.3, 0.4, 0.1 / 3, 0, 0.1, 0, -0.2, 0, 1 / 7.0, 0, 0, 0.05, 0, 0, -1e-9).finished();
    return f;
}

/// Every kind that names atoms, with centroids and two frames of which one is shared.
Variables everyKind() {
    Frame weighted = frameOf(2);
    weighted.weights = VectorXd::LinSpaced(6, 0.1, 3);
    const auto one = std::make_shared<const Frame>(frameOf(1)), two = std::make_shared<const Frame>(weighted);
    Variable scaled = Variable::position("p.z", Site({8, 9}), 2, one);
    scaled.shift = 0.1;
    scaled.scale = 1.0 / 3;
    return Variables({Variable::torsion("phi", {4, Site({6, 7}, {1, 2}), 8, 14}), Variable::position("p.x", Site({8, 9}), 0, one), Variable::distance("d", {{0, 1, 2}, 17}),
                      Variable::position("q.y", 3, 1, two), scaled, Variable::angle("a", {1, {2, 3}, 4}), Variable::coordinate("c", {3, 4}, 1, 2.5), Variable::number("n"),
                      Variable::position("r.x", 1, 0, std::make_shared<const Frame>(frameOf(1)))});
}

/// The message of building `variables` must hold all of `parts`.
void expectBad(std::vector<Variable> variables, const std::vector<std::string>& parts) {
    expectError([&] { Variables{variables}; }, parts);
}

Variable positionOn(const Frame& frame) { return Variable::position("p", 0, 0, std::make_shared<const Frame>(frame)); }

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
    EXPECT_EQ(w[1].atoms, (std::vector<Site>{4, 6, 8, 14}));
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

TEST(Variables, SitesAndFramesRoundTrip) {
    const Variables v = everyKind();
    const auto j = nlohmann::json::parse(v.toJson().dump());
    const Variables w = Variables::fromJson(j);
    ASSERT_EQ(w.size(), v.size());
    for (int i = 0; i < v.size(); i++) {
        EXPECT_EQ(w[i].atoms, v[i].atoms) << i;
        EXPECT_EQ(w[i].axis, v[i].axis) << i;
        ASSERT_EQ(w[i].frame != nullptr, v[i].frame != nullptr) << i;
        EXPECT_TRUE(!v[i].frame || *w[i].frame == *v[i].frame) << i;
    }
    // Variables 1, 4 and 8 have one frame: the third of them an equal one of its own, at first.
    for (const Variables* set : {&v, &w}) {
        EXPECT_EQ((*set)[1].frame, (*set)[4].frame);
        EXPECT_EQ((*set)[1].frame, (*set)[8].frame);
        EXPECT_NE((*set)[1].frame, (*set)[3].frame);
    }
    EXPECT_TRUE(j[1]["frame"].is_object() && j[3]["frame"].is_object());
    EXPECT_EQ(j[4]["frame"], 0);
    EXPECT_EQ(j[8]["frame"], 0);
    EXPECT_EQ(j[0]["weights"].dump(), "[null,[1.0,2.0],null,null]");
    EXPECT_EQ(j[2]["atoms"].dump(), "[[0,1,2],17]");
    EXPECT_FALSE(j[2].contains("weights"));
    EXPECT_EQ(j[1]["frame"]["atoms"].dump(), "[0,1,2,3,4,[5,6,7]]");
    EXPECT_EQ(j[1]["frame"]["atom_weights"].dump(), "[null,null,null,null,null,[12.0,1.0,1.25]]");
    EXPECT_EQ(j[1]["frame"]["reference"][1].dump(), "[0.1,0.1,0.0]");
    EXPECT_FALSE(j[1]["frame"].contains("weights"));
    EXPECT_EQ(j[3]["frame"]["weights"].size(), 6u);
    EXPECT_EQ(v[1].unit(), "nm");
    EXPECT_FALSE(v[1].lifted());
    EXPECT_EQ(Variables::parse("position")[0].kind, Variable::Kind::Position);
}

TEST(Variables, PlainVariablesAreWrittenAsBefore) {
    const std::string text = R"([{"atoms":[0,5],"name":"d","period":0.0,"scale":0.1,"shift":0.3,"type":"distance","unit":"nm"},)"
                             R"({"atoms":[4,6,8,14],"name":"phi","period":6.283185307179586,"scale":1.0,"shift":0.0,"type":"torsion","unit":"rad"},)"
                             R"({"atoms":[3],"axis":0,"name":"x","period":2.0,"scale":1.0,"shift":0.0,"type":"coordinate","unit":"nm"}])";
    EXPECT_EQ(mixedSet().toJson().dump(), text);
    EXPECT_EQ(Variables::fromJson(nlohmann::json::parse(text)).toJson().dump(), text);
}

TEST(Variables, CompatibleComparesSitesAndFrames) {
    const Variables v = everyKind();
    auto changed = [&](int i, auto change) {
        std::vector<Variable> items = v.items();
        change(items[i]);
        return v.compatible(Variables(items)) || Variables(items).compatible(v);
    };
    auto changedFrame = [&](auto change) {
        return changed(3, [&](Variable& x) {
            Frame f = *x.frame;
            change(f);
            x.frame = std::make_shared<const Frame>(f);
        });
    };
    EXPECT_TRUE(changed(0, [](Variable& x) { x.atoms = {}; }));
    EXPECT_TRUE(changed(3, [](Variable& x) { x.atoms = {}, x.frame = nullptr; }));
    EXPECT_FALSE(changed(2, [](Variable& x) { x.atoms[0] = Site({0, 1, 3}); }));
    EXPECT_FALSE(changed(2, [](Variable& x) { x.atoms[0] = 0; }));
    // The scale of weights means nothing, and equal ones are none.
    EXPECT_TRUE(changed(0, [](Variable& x) { x.atoms[1].weights = {0.7, 1.4}; }));
    EXPECT_TRUE(changed(2, [](Variable& x) { x.atoms[0].weights = {3, 3, 3}; }));
    EXPECT_FALSE(changed(0, [](Variable& x) { x.atoms[1].weights = {}; }));
    EXPECT_FALSE(changed(0, [](Variable& x) { x.atoms[1].weights = {2, 1}; }));
    EXPECT_TRUE(changedFrame([](Frame& f) { f.weights *= 7; }));
    EXPECT_FALSE(changedFrame([](Frame& f) { f.weights[2] *= 1.001; }));
    EXPECT_FALSE(changedFrame([](Frame& f) { f.weights.resize(0); }));
    EXPECT_FALSE(changedFrame([](Frame& f) { f.reference(1, 2) += 1e-4; }));
    EXPECT_FALSE(changedFrame([](Frame& f) { f.sites[1] = 11; }));
    EXPECT_FALSE(changedFrame([](Frame& f) { f.sites[5].weights = {}; }));
    EXPECT_FALSE(changedFrame([](Frame& f) {
        f.sites.pop_back();
        f.reference.conservativeResize(3, 5);
        f.weights.conservativeResize(5);
    }));
}

TEST(Variables, BadSitesAreNamed) {
    const double nan = std::nan(""), infinity = INFINITY;
    expectBad({Variable::number("n"), Variable::distance("d", {{0, 1}, {2, 1}})}, {"variable 1 ('d')", "overlapping", "atom 1 ", "site 0 and in site 1"});
    expectBad({Variable::distance("d", {3, {2, 1, 2}})}, {"variable 0 ('d')", "overlapping", "atom 2 ", "site 1 twice"});
    expectBad({Variable::distance("d", {3, {2, -7}})}, {"variable 0 ('d'), site 1", "from 0", "-7"});
    expectBad({Variable::coordinate("x", Site(), 0)}, {"variable 0 ('x'), site 0", "empty"});
    expectBad({Variable::distance("d", {3, Site({1, 2}, {1})})}, {"variable 0 ('d'), site 1", "2 atoms", "got 1"});
    expectBad({Variable::distance("d", {3, Site({1, 2}, {1, 2, 3})})}, {"variable 0 ('d'), site 1", "2 atoms", "got 3"});
    for (double w : {0.0, -1.5, nan, infinity})
        expectBad({Variable::distance("d", {3, Site({1, 2}, {1, w})})}, {"variable 0 ('d'), site 1", "positive finite", "as weight 1"});
    expectBad({Variable::distance("d", {3, Site({1, 2}, {-1.5, 1})})}, {"got -1.5 as weight 0"});
    expectBad({Variable::distance("d", {1, 2, 3})}, {"2 atoms or centroids", "got 3"});
}

TEST(Variables, BadFramesAreNamed) {
    EXPECT_NO_THROW(Variables({positionOn(frameOf(1))}));
    auto expectBadFrame = [](auto change, std::vector<std::string> parts) {
        Frame f = frameOf(1);
        change(f);
        parts.push_back("variable 0 ('p'), frame");
        expectBad({positionOn(f)}, parts);
    };
    expectBadFrame([](Frame& f) { f.sites.resize(2), f.reference.conservativeResize(3, 2); }, {"at least 3 sites", "got 2"});
    expectBadFrame([](Frame& f) { f.sites[4] = 1; }, {"overlapping", "atom 1 ", "site 1 and in site 4"});
    expectBadFrame([](Frame& f) { f.sites[4] = -2; }, {"frame, site 4", "got -2"});
    expectBadFrame([](Frame& f) { f.sites[5].weights[1] = 0; }, {"frame, site 5", "got 0 as weight 1"});
    expectBadFrame([](Frame& f) { f.reference.conservativeResize(3, 5); }, {"6 sites", "for each of 5"});
    expectBadFrame([](Frame& f) { f.reference.conservativeResize(2, 6); }, {"6 sites", "got 2 numbers"});
    expectBadFrame([](Frame& f) { f.reference(1, 3) = std::nan(""); }, {"frame, site 3", "finite reference", "nan"});
    expectBadFrame([](Frame& f) { f.weights = VectorXd::Ones(5); }, {"each of 6 sites", "got 5"});
    expectBadFrame([](Frame& f) { f.weights = VectorXd::LinSpaced(6, 1, -0.25); }, {"positive finite", "got 0 as weight 4"});
    // On a line, along no axis and away from the origin; in one point.
    const Eigen::Vector3d along(1, -2, 0.5), offset(3, 1, 4);
    const MatrixXd line = (along * VectorXd::LinSpaced(6, -0.3, 0.2).transpose()).colwise() + offset;
    expectBadFrame([&](Frame& f) { f.reference = line; }, {"three points not on a line"});
    expectBadFrame([&](Frame& f) { f.reference = offset.replicate(1, 6); }, {"three points not on a line"});
    Frame bent = frameOf(1);
    bent.reference = line;
    bent.reference(1, 2) += 1e-4;
    EXPECT_NO_THROW(Variables({positionOn(bent)}));

    const auto frame = std::make_shared<const Frame>(frameOf(1));
    Variable d = Variable::distance("d", {0, 1});
    d.frame = frame;
    expectBad({d}, {"variable 0 ('d')", "only a position has a frame", "distance"});
    expectBad({Variable::position("p", 0, 0, nullptr)}, {"variable 0 ('p')", "needs a frame"});
    Variable p = positionOn(*frame);
    p.atoms.clear();
    expectBad({p}, {"variable 0 ('p')", "a frame was given"});
    p = positionOn(*frame);
    p.period = 1.5;
    expectBad({p}, {"variable 0 ('p')", "no period", "1.5"});
    expectBad({Variable::position("p", 0, 3, frame)}, {"variable 0 ('p')", "axis", "got 3"});
}

TEST(Variables, BadJsonIsNamed) {
    auto expectBadJson = [](const std::string& members, const std::vector<std::string>& parts) {
        const auto j = nlohmann::json::parse(R"([{"name":"p","type":"position","axis":0,)" + members + "}]");
        expectError([&] { Variables::fromJson(j); }, parts);
    };
    const std::string points = R"("reference":[[0,0,0],[0.1,0,0],[0,0.1,0]])", frame = R"("frame":{"atoms":[0,1,2],)" + points;
    EXPECT_NO_THROW(Variables::fromJson(nlohmann::json::parse(R"([{"name":"p","type":"position","atoms":[0],)" + frame + "}}]")));
    expectBadJson(R"("atoms":[0],"frame":0)", {"variable 0 ('p')", "one of the 0 that came before", "got 0"});
    expectBadJson(R"("atoms":[0],"frame":-1)", {"variable 0 ('p')", "got -1"});
    expectBadJson(R"("atoms":[0],"frame":"a")", {"variable 0 ('p')", "got \"a\""});
    expectBadJson(R"("atoms":[1.5],)" + frame + "}", {"variable 0 ('p')", "indices of atoms", "got 1.5"});
    expectBadJson(R"("atoms":[4294967297],)" + frame + "}", {"indices of atoms", "got 4294967297"});
    expectBadJson(R"("atoms":[[[1]]],)" + frame + "}", {"indices of atoms", "got [1]"});
    expectBadJson(R"("atoms":1,)" + frame + "}", {"a list of atoms", "got 1"});
    expectBadJson(R"("atoms":[[]],)" + frame + "}", {"variable 0 ('p'), site 0", "empty"});
    expectBadJson(R"("atoms":[1],"weights":[null,null],)" + frame + "}", {"'weights'", "each of 1 sites", "[null,null]"});
    expectBadJson(R"("atoms":[1],"weights":[["a"]],)" + frame + "}", {"Variables: expected objects"});
    expectBadJson(R"("atoms":[1],)" + frame + R"(,"atom_weights":[null]})", {"variable 0 ('p'), frame", "'atom_weights'", "each of 3 sites"});
    expectBadJson(R"("atoms":[1],"frame":{"atoms":[0,1,2],"reference":[[0,0,0],[0.1,0],[0,0.1,0]]})", {"frame, site 1", "expected x, y, z", "(0.1, 0)"});
    expectBadJson(R"("atoms":[1],"frame":{"atoms":[0,1,2]})", {"Variables: expected objects", "reference"});
}
