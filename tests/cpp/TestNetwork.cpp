// SPDX-License-Identifier: MIT
#include "spacetime/Models.h"
#include "spacetime/NetworkModel.h"
#include "spacetime/Safetensors.h"
#include <cmath>
#include <filesystem>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <random>
#include <unistd.h>

using namespace Spacetime;
using Eigen::MatrixXd;
using Eigen::VectorXd;
using Order = PosteriorModel::Order;
namespace fs = std::filesystem;

namespace Spacetime {
/// In the names of tests: gtest would print bytes.
static void PrintTo(const Variables& v, std::ostream* out) { *out << v.numLifted() << " lifted, " << v.numUnlifted() << " unlifted"; }
}  // namespace Spacetime

namespace {

Variables torsions() { return Variables({Variable::torsion("phi"), Variable::torsion("psi")}); }
Variables numbers() {
    Variable a = Variable::distance("d"), b = Variable::number("q");
    a.shift = 0.3;
    a.scale = 0.1;
    return Variables({a, b});
}
Variables mixed() { return Variables({Variable::distance("d"), Variable::torsion("phi"), Variable::number("q")}); }

/// A network of random components, in numbers that single precision holds.
NetworkParameters randomParameters(const Variables& v, int components = 6, unsigned seed = 5) {
    std::mt19937_64 random(seed);
    std::normal_distribution<double> normal;
    auto draw = [&](double) { return static_cast<double>(static_cast<float>(normal(random))); };
    NetworkParameters p;
    p.variables = v;
    p.minLogSnr = 1;
    p.maxLogSnr = 5;
    const int u = v.numUnlifted();
    p.low = VectorXd::Constant(u, -2);
    p.high = VectorXd::Constant(u, 1.5);
    p.occupied.assign(v.numLifted(), std::vector<bool>(NetworkParameters::Arcs, true));
    p.components.logWeights = VectorXd::Zero(components).unaryExpr(draw);
    p.components.tilt = 4 * MatrixXd::Zero(2 * v.numLifted(), components).unaryExpr(draw);
    p.components.mean = MatrixXd::Zero(u, components).unaryExpr(draw);
    p.components.precision = MatrixXd::Zero(u, components).unaryExpr(draw).array().square() + 1;
    p.components.precision = p.components.precision.cast<float>().cast<double>();
    return p;
}

/// Points spread over log-SNR from below 0 to 5.
MatrixXd points(const Variables& v, int count) {
    std::mt19937_64 random(11);
    std::uniform_real_distribution<double> uniform(-1, 1);
    MatrixXd eta(v.numStatistics(), count);
    for (int c = 0; c < count; c++) {
        VectorXd raw(v.size());
        for (int i = 0; i < v.size(); i++)
            raw[i] = v[i].lifted() ? M_PI * uniform(random) : v[i].shift + v[i].scale * 1.5 * uniform(random);
        eta.col(c) = v.naturalParameter(raw, 2 + 3 * uniform(random));
    }
    return eta;
}

class NetworkDerivatives : public ::testing::TestWithParam<Variables> {};

}  // namespace

// Every derivative is judged against central differences of the one below it: psi -> mu -> J -> third.
TEST_P(NetworkDerivatives, MatchCentralDifferences) {
    const NetworkModel model(randomParameters(GetParam()));
    const MatrixXd eta = points(GetParam(), 12);
    const int m = model.numStatistics();
    const Moments exact = model.moments(eta, Order::Covariance);
    for (Eigen::Index c = 0; c < eta.cols(); c++) {
        ASSERT_EQ((exact.J[c] - exact.J[c].transpose()).norm(), 0.0);
        for (int i = 0; i < m; i++) {
            MatrixXd shifted(m, 2);
            const double h = 1e-5 * (1 + std::abs(eta(i, c)));
            shifted.col(0) = shifted.col(1) = eta.col(c);
            shifted(i, 0) += h;
            shifted(i, 1) -= h;
            const Moments s = model.moments(shifted, Order::Mean);
            const double scale = 1 + exact.mu.col(c).cwiseAbs().maxCoeff();
            EXPECT_NEAR((s.psi[0] - s.psi[1]) / (2 * h), exact.mu(i, c), 1e-6 * scale);
            const VectorXd column = (s.mu.col(0) - s.mu.col(1)) / (2 * h);
            EXPECT_LT((column - exact.J[c].col(i)).cwiseAbs().maxCoeff(), 1e-6 * (1 + exact.J[c].cwiseAbs().maxCoeff())) << "point " << c << ", row " << i;
        }
    }
    MatrixXd direction = MatrixXd::Ones(m, eta.cols());
    if (GetParam().hasQuadratic())
        direction.row(0).setConstant(-0.1);
    const Moments third = model.moments(eta, Order::Third, &direction);
    ASSERT_EQ(third.third.size(), static_cast<size_t>(eta.cols()));
    const double h = 3e-5;
    const Moments plus = model.moments(eta + h * direction, Order::Covariance), minus = model.moments(eta - h * direction, Order::Covariance);
    for (Eigen::Index c = 0; c < eta.cols(); c++)
        EXPECT_LT((third.third[c] - (plus.J[c] - minus.J[c]) / (2 * h)).norm(), 1e-5 * (1 + third.third[c].norm()));
}

INSTANTIATE_TEST_SUITE_P(Kinds, NetworkDerivatives, ::testing::Values(torsions(), numbers(), mixed()));

TEST(Network, IsThePosteriorOfItsMixture) {
    const NetworkParameters p = randomParameters(mixed());
    const NetworkModel network(p);
    const MixtureModel mixture(p.variables, p.components);
    const MatrixXd eta = points(p.variables, 5);
    EXPECT_EQ(network.moments(eta).mu, mixture.moments(eta).mu);
    EXPECT_TRUE(network.isExact() && network.hasPsi());
}

TEST(Network, ManyVariables) {
    std::vector<Variable> list;
    for (int i = 0; i < 64; i++)
        list.push_back(i % 5 == 4 ? Variable::number("q" + std::to_string(i)) : Variable::torsion("t" + std::to_string(i)));
    const Variables v(list);
    const NetworkModel model(randomParameters(v));
    const MatrixXd eta = points(v, 3);
    MatrixXd direction = MatrixXd::Zero(eta.rows(), 3);
    direction.row(0).setConstant(-0.1);
    direction.row(7).setConstant(0.5);
    direction.bottomRows(3).setConstant(1);
    const Moments at = model.moments(eta, Order::Third, &direction);
    const double h = 3e-5;
    const Moments plus = model.moments(eta + h * direction), minus = model.moments(eta - h * direction);
    for (int c = 0; c < 3; c++) {
        const VectorXd slope = (plus.mu.col(c) - minus.mu.col(c)) / (2 * h), expected = at.J[c] * direction.col(c);
        EXPECT_LT((slope - expected).norm(), 1e-6 * (1 + expected.norm()));
        EXPECT_LT((at.third[c] - (plus.J[c] - minus.J[c]) / (2 * h)).norm(), 1e-5 * (1 + at.third[c].norm()));
        EXPECT_EQ((at.third[c] - at.third[c].transpose()).norm(), 0.0);
    }
}

TEST(Network, PointsDoNotDependOnTheirBatch) {
    const NetworkModel model(randomParameters(mixed()));
    const MatrixXd eta = points(mixed(), 7);
    const Moments all = model.moments(eta);
    for (int c = 0; c < 7; c++) {
        const Moments one = model.moments(eta.col(c));
        EXPECT_LT((one.mu - all.mu.col(c)).norm(), 1e-12);
        EXPECT_LT((one.J[0] - all.J[c]).norm(), 1e-12);
    }
    EXPECT_EQ(model.evaluations(), 14);
    const long before = PosteriorModel::evaluationsOfThread();
    model.moments(eta);
    EXPECT_EQ(PosteriorModel::evaluationsOfThread() - before, 7);  // what a solver reports
}

namespace {

class NetworkFile : public ::testing::Test {
protected:
    fs::path folder = fs::temp_directory_path() / ("spacetime_network_" + std::to_string(::getpid()));
    void SetUp() override { fs::create_directories(folder); }
    void TearDown() override { fs::remove_all(folder); }
    std::string path() const { return (folder / "m.safetensors").string(); }

    void refused(const std::string& expected) const {
        try {
            NetworkModel::load(path());
            FAIL() << "loaded, expected: " << expected;
        }
        catch (const std::invalid_argument& e) {
            EXPECT_NE(std::string(e.what()).find(expected), std::string::npos) << e.what();
            EXPECT_NE(std::string(e.what()).find(path()), std::string::npos) << e.what();
        }
    }
};

}  // namespace

TEST_F(NetworkFile, RoundTripsExactly) {
    NetworkParameters p = randomParameters(mixed());
    p.temperature = 300;
    p.training = "{\"steps\":7}";
    p.occupied[0][3] = false;
    const NetworkModel a(p);
    a.save(path());
    const auto b = NetworkModel::load(path());
    EXPECT_EQ(a.metadata(), b->metadata());
    EXPECT_EQ(b->metadata()["training"]["steps"], 7);
    EXPECT_EQ(b->metadata()["temperature_K"], 300);
    EXPECT_TRUE(b->variables().compatible(a.variables()));
    EXPECT_EQ(b->parameters().occupied[0][3], false);
    const MatrixXd eta = points(mixed(), 5);
    EXPECT_EQ(a.moments(eta).mu, b->moments(eta).mu);
    EXPECT_EQ(a.dataVariance(), b->dataVariance());
    EXPECT_EQ(a.dataMean(), b->dataMean());
}

TEST_F(NetworkFile, RefusesWhatItCannotRead) {
    const NetworkModel model(randomParameters(torsions()));
    model.save(path());
    const Safetensors good = Safetensors::read(path());
    Safetensors bad = good;
    bad.metadata["version"] = "2";
    bad.write(path());
    refused("upgrade");
    bad = good;
    bad.metadata["format"] = "something else";
    bad.write(path());
    refused("not a model file");
    bad = good;
    bad.metadata["model"] = "{";
    bad.write(path());
    refused("cannot be read");
    bad = good;
    bad.tensors.erase("tilt");
    bad.write(path());
    refused("lacks the tensor 'tilt' with 4 numbers for each of 6 components");
    bad = good;
    bad.tensors["tilt"].shape = {4, 6};
    bad.write(path());
    refused("lacks the tensor 'tilt'");
    bad = good;
    bad.tensors["tilt"].values[0] = std::nan("");
    bad.write(path());
    refused("finite");
    bad = good;
    bad.metadata["model"].replace(bad.metadata["model"].find("\"mixture\""), 9, "\"pyramid\"");
    bad.write(path());
    refused("'pyramid'");
}

TEST(Network, ChecksItsRange) {
    NetworkParameters p = randomParameters(mixed());
    for (int arc = 10; arc < 20; arc++)  // 100 to 200 degrees are empty
        p.occupied[0][arc] = false;
    const NetworkModel model(p);
    const Variables& v = model.variables();
    auto at = [&](double d, double phi, double q, double l) { return v.naturalParameter(Eigen::Vector3d(d, phi, q), l); };
    EXPECT_NO_THROW(model.checkRange(at(0, 0.5, 0, 5), "a"));
    EXPECT_NO_THROW(model.checkRange(at(-2, 0.5, 1.5, 1), "a"));
    auto refused = [&](const VectorXd& eta, const std::string& expected) {
        try {
            model.checkRange(eta, "the start");
            FAIL() << "accepted, expected: " << expected;
        }
        catch (const std::invalid_argument& e) {
            EXPECT_NE(std::string(e.what()).find("the start"), std::string::npos);
            EXPECT_NE(std::string(e.what()).find(expected), std::string::npos) << e.what();
        }
    };
    refused(at(0, 0.5, 0, 5.2), "log-SNR 5.2, expected 1 to 5");
    refused(at(0, 0.5, 0, 0.5), "log-SNR 0.5");
    refused(at(2.5, 0.5, 0, 4), "'d' = 2.5, the data span -2 to 1.5");
    refused(at(0, 150 * M_PI / 180, 0, 4), "no data near 'phi'");
    EXPECT_NO_THROW(model.checkRange(at(0, 105 * M_PI / 180, 0, 4), "next to an occupied arc"));
    EXPECT_THROW(model.checkRange(VectorXd::Zero(3), "a"), std::invalid_argument);
}
