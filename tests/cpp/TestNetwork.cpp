// SPDX-License-Identifier: MIT
#include "Bessel.h"
#include "Features.h"
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

namespace {

Variables torsions() { return Variables({Variable::torsion("phi"), Variable::torsion("psi")}); }
Variables numbers() {
    Variable a = Variable::distance("d"), b = Variable::number("q");
    a.shift = 0.3;
    a.scale = 0.1;
    return Variables({a, b});
}
Variables mixed() { return Variables({Variable::distance("d"), Variable::torsion("phi"), Variable::number("q")}); }

/// A network with random weights, strong enough (`scale`) that its curvature matters.
NetworkParameters randomParameters(const Variables& v, double scale, unsigned seed = 5) {
    std::mt19937_64 random(seed);
    std::normal_distribution<double> normal;
    NetworkParameters p;
    p.variables = v;
    p.harmonics = 3;
    p.minLogSnr = 1;
    p.maxLogSnr = 5;
    const int u = v.numUnlifted();
    p.mean = VectorXd::LinSpaced(u, -0.3, 0.4);
    p.variance = u > 0 ? 0.7 : 1;
    p.low = VectorXd::Constant(u, -2);
    p.high = VectorXd::Constant(u, 1.5);
    p.occupied.assign(v.numLifted(), std::vector<bool>(NetworkParameters::Arcs, true));
    const int inputs = (v.hasQuadratic() ? 1 : 0) + v.size() * (1 + 2 * p.harmonics);
    const int shape[] = {inputs, 10, 9, 1};
    for (int l = 0; l < 3; l++) {
        NetworkParameters::Layer layer;
        auto draw = [&](double) { return static_cast<double>(static_cast<float>((l == 2 ? scale : 1) * normal(random) / std::sqrt(shape[l]))); };
        layer.weight = MatrixXd::Zero(shape[l + 1], shape[l]).unaryExpr(draw);
        layer.bias = VectorXd::Zero(shape[l + 1]).unaryExpr(draw);
        p.layers.push_back(layer);
    }
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
    const NetworkModel model(randomParameters(GetParam(), 2.0));
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

// Blocks, strips and columns that do not come out even must leave no trace: a plain forward pass in Eigen says what N is, and the network's
// share of psi is the rest of it.
TEST(Network, AgreesWithAPlainForwardPass) {
    for (const int width : {1, 16, 37}) {
        NetworkParameters p = randomParameters(mixed(), 2.0);
        std::mt19937_64 random(3);
        std::normal_distribution<double> normal;
        auto draw = [&](double) { return normal(random) / std::sqrt(width); };
        const Eigen::Index inputs = p.layers[0].weight.cols(), shape[] = {inputs, width, 5, width, 1};
        p.layers.resize(4);
        for (int l = 0; l < 4; l++) {
            p.layers[l].weight = MatrixXd::Zero(shape[l + 1], shape[l]).unaryExpr(draw);
            p.layers[l].bias = VectorXd::Zero(shape[l + 1]).unaryExpr(draw);
        }
        NetworkParameters none = p;
        none.layers.back().weight.setZero();
        none.layers.back().bias.setZero();
        const NetworkModel model(p), bare(none);
        const Features features(p.variables, p.harmonics, p.mean, p.variance, p.low, p.high);
        for (const int count : {1, 2, 3, 67, 131}) {
            const MatrixXd eta = points(p.variables, count);
            MatrixXd h = features.evaluate(eta).f;
            for (int l = 0; l < 3; l++)
                h = ((p.layers[l].weight * h).colwise() + p.layers[l].bias).array().tanh().matrix().eval();
            const VectorXd N = ((p.layers[3].weight * h).array() + p.layers[3].bias[0]).matrix().transpose();
            const Moments mean = model.moments(eta, Order::Mean), all = model.moments(eta, Order::Covariance), base = bare.moments(eta, Order::Mean);
            EXPECT_LT((mean.psi - base.psi - N).cwiseAbs().maxCoeff(), 1e-12 * (1 + base.psi.cwiseAbs().maxCoeff())) << "width " << width << ", " << count << " points";
            EXPECT_LT((all.psi - mean.psi).cwiseAbs().maxCoeff(), 1e-12 * (1 + base.psi.cwiseAbs().maxCoeff()));
            EXPECT_LT((all.mu - mean.mu).cwiseAbs().maxCoeff(), 1e-12 * (1 + mean.mu.cwiseAbs().maxCoeff()));
        }
    }
}

TEST(Network, ManyVariables) {
    std::vector<Variable> list;
    for (int i = 0; i < 64; i++)
        list.push_back(i % 5 == 4 ? Variable::number("q" + std::to_string(i)) : Variable::torsion("t" + std::to_string(i)));
    const Variables v(list);
    const NetworkModel model(randomParameters(v, 2.0));
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

TEST(Network, WithoutANetworkItIsTheFeaturelessPosterior) {
    // Unlifted: one Gaussian, known in closed form.
    NetworkParameters p = randomParameters(Variables({Variable::number("a"), Variable::number("b")}), 0.0);
    const NetworkModel gaussian(p);
    const GaussianMixtureModel reference(p.mean, VectorXd::Constant(1, p.variance), VectorXd::Ones(1));
    const MatrixXd eta = points(p.variables, 10);
    const Moments a = gaussian.moments(eta), b = reference.moments(eta);
    EXPECT_LT((a.mu - b.mu).cwiseAbs().maxCoeff(), 1e-10);
    EXPECT_LT((a.psi - b.psi).cwiseAbs().maxCoeff(), 1e-9);
    for (int c = 0; c < 10; c++)
        EXPECT_LT((a.J[c] - b.J[c]).norm(), 1e-10);

    // Lifted: a flat circle, summed on a grid fine enough for kappa = e^5.
    const Variables circle({Variable::torsion("phi")});
    const NetworkModel flat(randomParameters(circle, 0.0));
    MatrixXd grid(1, 2000);
    grid.row(0) = VectorXd::LinSpaced(2001, -M_PI, M_PI).head(2000).transpose();
    const EmpiricalModel sum(circle, grid);
    const MatrixXd tilt = points(circle, 10);
    const Moments f = flat.moments(tilt), g = sum.moments(tilt);
    EXPECT_LT((f.mu - g.mu).cwiseAbs().maxCoeff(), 1e-11);
    EXPECT_LT((f.psi - g.psi).cwiseAbs().maxCoeff(), 1e-10);
    for (int c = 0; c < 10; c++)
        EXPECT_LT((f.J[c] - g.J[c]).norm(), 1e-11);
}

TEST(Network, BesselFunctionsAgreeWithTheStandardLibraryAndAcrossTheSeam) {
    for (double k : {1e-6, 0.01, 0.5, 3.0, 12.0, 29.999, 30.001, 80.0, 400.0}) {
        const VonMises f(k);
        const double i0 = std::cyl_bessel_i(0, k), i1 = std::cyl_bessel_i(1, k);
        EXPECT_NEAR(f.logI0, std::log(i0), 1e-12 * (1 + k));
        EXPECT_NEAR(f.ratio, i1 / i0, 1e-13);
        EXPECT_NEAR(f.ratioByK * k, f.ratio, 1e-14);
    }
    const double h = 1e-4;
    for (double k : {0.3, 3.0, 29.9999, 30.0, 30.0001, 300.0}) {
        const double slope = (VonMises(k + h).ratio - VonMises(k - h).ratio) / (2 * h);
        EXPECT_NEAR(VonMises(k).derivative, slope, 1e-9);
        EXPECT_NEAR(VonMises(k).anisotropy * k * k, slope - VonMises(k).ratioByK, 1e-9);
        const double bend = (VonMises(k + h).anisotropy - VonMises(k - h).anisotropy) / (2 * h);
        EXPECT_NEAR(VonMises(k).anisotropySlope * k, bend, 1e-8 * std::abs(bend) + 1e-11);
    }
    EXPECT_DOUBLE_EQ(VonMises(0).ratioByK, 0.5);
    EXPECT_DOUBLE_EQ(VonMises(0).anisotropy, -0.125);
    EXPECT_DOUBLE_EQ(VonMises(0).anisotropySlope, 1.0 / 12);
    EXPECT_TRUE(std::isfinite(VonMises(1e6).logI0));
    EXPECT_NEAR(VonMises(1e4).derivative * 2e8, 1, 1e-3);  // the radial variance tends to 1/(2 kappa^2)
}

TEST(Network, IsSmoothWhereEveryKappaIsZero) {
    const NetworkModel model(randomParameters(torsions(), 2.0));
    const MatrixXd origin = MatrixXd::Zero(4, 1), near = MatrixXd::Constant(4, 1, 1e-7);
    const Moments a = model.moments(origin), b = model.moments(near);
    EXPECT_TRUE(a.J[0].allFinite());
    EXPECT_LT((a.mu - b.mu).norm(), 1e-5);
    EXPECT_LT((a.J[0] - b.J[0]).norm(), 1e-5);
}

TEST(Network, PointsDoNotDependOnTheirBatch) {
    const NetworkModel model(randomParameters(mixed(), 2.0));
    const MatrixXd eta = points(mixed(), 7);
    const Moments all = model.moments(eta);
    for (int c = 0; c < 7; c++) {
        const Moments one = model.moments(eta.col(c));
        EXPECT_LT((one.mu - all.mu.col(c)).norm(), 1e-12);
        EXPECT_LT((one.J[0] - all.J[c]).norm(), 1e-12);
    }
    EXPECT_EQ(model.evaluations(), 14);
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
    NetworkParameters p = randomParameters(mixed(), 2.0);
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
    const NetworkModel model(randomParameters(torsions(), 1.0));
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
    bad.tensors.erase("layers.1.bias");
    bad.write(path());
    refused("5 tensors");
    bad = good;
    bad.tensors["layers.0.weight"].shape = {5, static_cast<std::int64_t>(bad.tensors["layers.0.weight"].values.size() / 5)};
    bad.write(path());
    refused("layer 0");
    bad = good;
    bad.tensors["layers.1.weight"].values[0] = std::nan("");
    bad.write(path());
    refused("not finite");
}

TEST(Network, ChecksItsRange) {
    NetworkParameters p = randomParameters(mixed(), 1.0);
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
