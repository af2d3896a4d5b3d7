// SPDX-License-Identifier: MIT
// These tests open LibTorch: they are few and small.
#include "Features.h"
#include "TorchLibrary.h"
#include "TrainingData.h"
#include "spacetime/NetworkModel.h"
#include "spacetime/Training.h"
#include <Eigen/Cholesky>
#include <Eigen/Eigenvalues>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <random>
#include <unistd.h>

using namespace Spacetime;
using Eigen::MatrixXd;
using Eigen::VectorXd;
namespace fs = std::filesystem;

namespace {

class Training : public ::testing::Test {
protected:
    fs::path folder = fs::temp_directory_path() / ("spacetime_training_" + std::to_string(::getpid()));
    void SetUp() override {
        fs::create_directories(folder);
        ::setenv("SPACETIME_TORCH_LIBRARY", SPACETIME_TORCH_TEST_LIBRARY, 0);  // the one of this build, unless another is asked for
    }
    void TearDown() override { fs::remove_all(folder); }
    std::string path(const std::string& name = "m.safetensors") const { return (folder / name).string(); }
};

TrainingOptions small(int steps) {
    TrainingOptions o;
    o.steps = steps;
    o.batch = 128;
    o.points = 4000;
    o.width = 32;
    o.layers = 2;
    o.minLogSnr = 0;
    o.maxLogSnr = 4;
    o.threads = 1;
    return o;
}

/// The circle in 360 points with weights of a von Mises distribution about `angle`, so that every posterior is von Mises again.
EmpiricalModel vonMises(double kappa, double angle) {
    MatrixXd grid(1, 360);
    grid.row(0) = VectorXd::LinSpaced(361, -M_PI, M_PI).head(360).transpose();
    EmpiricalModel::Options o;
    o.grid = true;
    return EmpiricalModel(Variables({Variable::torsion("phi")}), grid, (kappa * (grid.row(0).array() - angle).cos()).transpose(), o);
}

}  // namespace

// First in the file: a library that is open already cannot be missed any more.
TEST_F(Training, SaysWhatToInstallWhenTheLibraryIsMissing) {
    const std::string given = std::getenv("SPACETIME_TORCH_LIBRARY");
    ::setenv("SPACETIME_TORCH_LIBRARY", "/no/such/library.so", 1);
    try {
        train(vonMises(1, 0), small(1), path());
        ADD_FAILURE() << "trained without a library";
    }
    catch (const std::runtime_error& e) {
        EXPECT_NE(std::string(e.what()).find("pip install"), std::string::npos) << e.what();
        EXPECT_NE(std::string(e.what()).find("/no/such/library.so"), std::string::npos) << e.what();
    }
    ::setenv("SPACETIME_TORCH_LIBRARY", given.c_str(), 1);
}

// The same weights give the same numbers natively and in LibTorch: the log-partition, and through it mu and J.
TEST_F(Training, NativeEvaluationAgreesWithLibTorch) {
    train(vonMises(2, 0.5), small(20), path());
    const auto model = NetworkModel::load(path());
    const NetworkParameters& p = model->parameters();
    const Features features(p.variables, p.harmonics, p.mean, p.variance, p.low, p.high);
    std::vector<float> weights;
    for (const auto& layer : p.layers) {
        for (Eigen::Index i = 0; i < layer.weight.rows(); i++)
            for (Eigen::Index j = 0; j < layer.weight.cols(); j++)
                weights.push_back(static_cast<float>(layer.weight(i, j)));
        for (Eigen::Index i = 0; i < layer.bias.size(); i++)
            weights.push_back(static_cast<float>(layer.bias[i]));
    }
    const int n = 9, F = features.size();
    MatrixXd eta(2, n);
    for (int i = 0; i < n; i++)
        eta.col(i) = std::exp(0.4 * i) * Eigen::Vector2d(std::cos(0.7 * i), std::sin(0.7 * i));
    const auto x = features.evaluate(eta);
    const Eigen::Vector2d v(0.6, -0.8);
    // Column-major [F x n] is row-major [n x F].
    const Eigen::MatrixXf f = x.f.cast<float>(), t = (v[0] * x.d1 + v[1] * x.d2).cast<float>();
    Eigen::VectorXf N(n);
    Eigen::MatrixXf gradient(F, n), product(F, n);
    char error[200] = "";
    ASSERT_EQ(TorchLibrary::get().evaluate(F, p.layers[0].weight.rows(), static_cast<int>(p.layers.size()) - 1, weights.data(), n, f.data(), t.data(), N.data(),
                                           gradient.data(), product.data(), error, sizeof(error)),
              0)
        << error;
    // A network whose output layer is zero leaves the closed-form part, which LibTorch knows nothing of.
    NetworkParameters bare = p;
    bare.layers.back().weight.setZero();
    bare.layers.back().bias.setZero();
    const Moments full = model->moments(eta), base = NetworkModel(bare).moments(eta);
    for (int i = 0; i < n; i++) {
        EXPECT_NEAR(full.psi[i] - base.psi[i], N[i], 1e-5);
        const VectorXd g = gradient.col(i).cast<double>(), h = product.col(i).cast<double>();
        EXPECT_NEAR(full.mu(0, i) - base.mu(0, i), g.dot(x.d1.col(i)), 1e-5);
        EXPECT_NEAR(full.mu(1, i) - base.mu(1, i), g.dot(x.d2.col(i)), 1e-5);
        const VectorXd curvature = v[0] * v[0] * x.d11.col(i) + 2 * v[0] * v[1] * x.d12.col(i) + v[1] * v[1] * x.d22.col(i);
        const double expected = h.dot(v[0] * x.d1.col(i) + v[1] * x.d2.col(i)) + g.dot(curvature);
        EXPECT_NEAR(v.dot((full.J[i] - base.J[i]) * v), expected, 1e-5);
    }
    EXPECT_GT(gradient.norm(), 1e-2f);  // there was something to compare
}

TEST_F(Training, LearnsAVonMisesPosterior) {
    const double kappa = 3, angle = 2.9;
    const TrainingResult result = train(vonMises(kappa, angle), small(500), path());
    EXPECT_LT(result.consistency.medianError, 0.05);
    const auto model = NetworkModel::load(path());
    // The posterior at eta is von Mises at eta + kappa e(angle): the flat circle's moments, shifted.
    MatrixXd fine(1, 2000);
    fine.row(0) = VectorXd::LinSpaced(2001, -M_PI, M_PI).head(2000).transpose();
    const EmpiricalModel circle(model->variables(), fine);
    const Eigen::Vector2d shift = kappa * Eigen::Vector2d(std::cos(angle), std::sin(angle));
    for (double l = 0.5; l < 4; l += 0.5)
        for (double phi = -3; phi < 3; phi += 0.5) {
            const MatrixXd eta = std::exp(l) * Eigen::Vector2d(std::cos(phi), std::sin(phi));
            const Moments exact = circle.moments(eta.colwise() + shift), learned = model->moments(eta);
            const VectorXd error = learned.mu.col(0) - exact.mu.col(0);
            EXPECT_LT(std::sqrt(error.dot(exact.J[0].ldlt().solve(error)) / 2), 0.25) << "log kappa " << l << ", phi " << phi;
            EXPECT_NEAR(learned.psi[0] - exact.psi[0], -std::log(std::cyl_bessel_i(0, kappa)), 0.2);
        }
}

TEST_F(Training, LearnsAGaussianMixtureOfUnliftedNumbers) {
    // Two Gaussians at -1 and 1, summed on a grid and trained on; judged against the closed form.
    const double v = 0.1;
    MatrixXd grid(1, 400);
    grid.row(0) = VectorXd::LinSpaced(400, -3, 3).transpose();
    const VectorXd density = ((-(grid.row(0).array() + 1).square() / (2 * v)).exp() * 0.3 + (-(grid.row(0).array() - 1).square() / (2 * v)).exp() * 0.7).transpose();
    EmpiricalModel::Options o;
    o.grid = true;
    TrainingOptions options = small(800);
    options.maxLogSnr = 3.5;
    train(EmpiricalModel(Variables({Variable::number("c")}), grid, density.array().log(), o), options, path());
    const auto model = NetworkModel::load(path());
    Eigen::MatrixXd means(1, 2);
    means << -1, 1;
    const GaussianMixtureModel exact(means, Eigen::Vector2d(v, v), Eigen::Vector2d(0.3, 0.7));
    std::vector<Eigen::Vector2d> list;
    for (double l = 0.2; l < 3.4; l += 0.4)
        for (double c = -1.5; c <= 1.5; c += 0.25)
            list.emplace_back(-0.5 * std::exp(l), std::exp(l) * c);
    MatrixXd eta(2, list.size());
    for (size_t i = 0; i < list.size(); i++)
        eta.col(i) = list[i];
    const Moments a = model->moments(eta), b = exact.moments(eta);
    VectorXd errors(eta.cols());
    for (Eigen::Index i = 0; i < eta.cols(); i++) {
        const VectorXd e = a.mu.col(i) - b.mu.col(i);
        errors[i] = std::sqrt(e.dot(b.J[i].ldlt().solve(e)) / 2);
    }
    std::sort(errors.data(), errors.data() + errors.size());
    EXPECT_LT(errors[errors.size() / 2], 0.05);
    EXPECT_LT(errors[errors.size() * 9 / 10], 0.15);
}

TEST_F(Training, LearnsMixedVariables) {
    // A torsion whose angle drags a distance along: the two kinds are correlated.
    const int n = 60;
    MatrixXd grid(2, n * n);
    VectorXd logw(n * n);
    for (int i = 0; i < n; i++)
        for (int j = 0; j < n; j++) {
            const double phi = -M_PI + 2 * M_PI * i / n, d = -2.5 + 5.0 * j / (n - 1);
            grid.col(i * n + j) = Eigen::Vector2d(phi, d);
            logw[i * n + j] = 2 * std::cos(2 * phi) - 2 * std::pow(d - std::cos(phi), 2);
        }
    EmpiricalModel::Options o;
    o.grid = true;
    const EmpiricalModel exact(Variables({Variable::torsion("phi"), Variable::number("d")}), grid, logw, o);
    TrainingOptions options = small(600);
    options.width = 64;
    options.layers = 3;
    options.maxLogSnr = 3;
    const TrainingResult result = train(exact, options, path());
    EXPECT_LT(result.consistency.medianError, 0.1);
    EXPECT_LT(result.consistency.error90, 0.4);
    EXPECT_GT(result.consistency.points, 400);
}

// Geodesics that nothing bounds pass where every tilt is weak: points there have to be among those that are trained on.
TEST(DrawPoints, AShareLiesWhereEveryTiltIsWeak) {
    MatrixXd raw(3, 200);
    std::mt19937_64 random(4);
    std::normal_distribution<double> normal;
    for (Eigen::Index k = 0; k < raw.cols(); k++)
        raw.col(k) << normal(random), normal(random), 0.7 * normal(random);
    const Variables v({Variable::torsion("phi"), Variable::torsion("psi"), Variable::number("d")});
    const EmpiricalModel data(v, raw);
    const double minLogSnr = 1, maxLogSnr = 5, strongest = std::exp(minLogSnr + 1);
    const VectorXd low = VectorXd::Constant(1, raw.row(2).minCoeff()), high = VectorXd::Constant(1, raw.row(2).maxCoeff());
    const int count = 4000;
    const MatrixXd eta = drawPoints(data, {minLogSnr, maxLogSnr, low, high}, count, random);
    ASSERT_TRUE(eta.allFinite());
    int weak = 0, weakest = 0;
    for (int c = 0; c < count; c++) {
        const double phi = eta.col(c).segment<2>(v.offset(0)).norm(), psi = eta.col(c).segment<2>(v.offset(1)).norm();
        EXPECT_LE(eta(0, c), 0);
        EXPECT_LE(std::max(phi, psi), std::exp(maxLogSnr) * (1 + 1e-12));
        EXPECT_GE(eta(0, c), -0.5 * std::exp(maxLogSnr) * (1 + 1e-12));
        weak += std::max(phi, psi) <= strongest && -2 * eta(0, c) <= strongest;
        weakest += std::max(phi, psi) <= strongest && -2 * eta(0, c) <= 0.05 / data.dataVariance();
    }
    EXPECT_GT(weak, 0.15 * count);
    EXPECT_LT(weak, 0.35 * count);
    EXPECT_GT(weakest, 5);  // weaker than the data's own width
}

// Without any tilt the posterior is the data's own distribution, whose covariance has no negative eigenvalue.
TEST_F(Training, CovarianceOfTheDataThemselvesIsPositive) {
    const EmpiricalModel data = vonMises(2, 1);
    train(data, small(400), path());
    const auto model = NetworkModel::load(path());
    MatrixXd eta = MatrixXd::Zero(2, 25);
    for (int c = 1; c < eta.cols(); c++)
        eta.col(c) = (0.1 * c) * Eigen::Vector2d(std::cos(2.4 * c), std::sin(2.4 * c));
    const Moments learned = model->moments(eta), exact = data.moments(eta);
    EXPECT_LT((learned.J[0] - exact.J[0]).norm(), 0.15 * exact.J[0].norm());
    for (const MatrixXd& J : learned.J)
        EXPECT_GT(Eigen::SelfAdjointEigenSolver<MatrixXd>(J).eigenvalues()[0], 0);
}

TEST_F(Training, SameSeedSameModel) {
    const EmpiricalModel data = vonMises(2, 1);
    const TrainingOptions a = small(40);
    TrainingOptions b = a;
    b.seed = 2;
    train(data, a, path("a"));
    train(data, a, path("b"));
    train(data, b, path("c"));
    const auto x = NetworkModel::load(path("a")), y = NetworkModel::load(path("b")), z = NetworkModel::load(path("c"));
    EXPECT_EQ(x->parameters().layers[0].weight, y->parameters().layers[0].weight);
    EXPECT_EQ(x->parameters().layers.back().weight, y->parameters().layers.back().weight);
    EXPECT_NE(x->parameters().layers[0].weight, z->parameters().layers[0].weight);
}

TEST_F(Training, StoppingKeepsWhatWasLearnedAndErrorsPassThrough) {
    const EmpiricalModel data = vonMises(2, 1);
    TrainingOptions o = small(500);
    o.reportEvery = 20;
    int calls = 0;
    o.progress = [&](int step, int steps, double loss, double validation) {
        EXPECT_EQ(step, 20 * ++calls);
        EXPECT_EQ(steps, 500);
        EXPECT_TRUE(std::isfinite(loss) && std::isfinite(validation));
        return calls < 3;
    };
    const TrainingResult result = train(data, o, path());
    EXPECT_TRUE(result.stopped);
    EXPECT_EQ(result.steps, 60);
    const auto metadata = NetworkModel::load(path())->metadata();
    EXPECT_EQ(metadata["training"]["steps"], 60);
    EXPECT_EQ(metadata["training"]["losses"].size(), 3u);

    o.progress = [](int, int, double, double) -> bool { throw std::range_error("from the callback"); };
    EXPECT_THROW(train(data, o, path("none")), std::range_error);
    EXPECT_FALSE(fs::exists(path("none")));
}

TEST_F(Training, RefusesBadOptions) {
    const EmpiricalModel data = vonMises(2, 1);
    auto refused = [&](void (*change)(TrainingOptions&)) {
        TrainingOptions o = small(10);
        change(o);
        EXPECT_THROW(train(data, o, path()), std::invalid_argument);
    };
    refused([](TrainingOptions& o) { o.steps = 0; });
    refused([](TrainingOptions& o) { o.batch = -1; });
    refused([](TrainingOptions& o) { o.width = 0; });
    refused([](TrainingOptions& o) { o.learningRate = std::nan(""); });
    refused([](TrainingOptions& o) { o.minLogSnr = o.maxLogSnr; });
    refused([](TrainingOptions& o) { o.emaDecay = 1; });
    TrainingOptions o = small(10);
    o.device = "abacus";
    try {
        train(data, o, path());
        ADD_FAILURE() << "trained on an abacus";
    }
    catch (const std::runtime_error& e) {
        EXPECT_NE(std::string(e.what()).find("abacus"), std::string::npos) << e.what();
    }
}

TEST_F(Training, CompareMeasuresInPosteriorStandardDeviations) {
    const EmpiricalModel a = vonMises(2, 1), b = vonMises(2, 1.1);
    MatrixXd eta(2, 5);
    for (int i = 0; i < 5; i++)
        eta.col(i) = 20 * Eigen::Vector2d(std::cos(i), std::sin(i));
    const Consistency same = compare(a, a, eta), other = compare(b, a, eta);
    EXPECT_EQ(same.medianError, 0);
    EXPECT_EQ(same.jacobianError, 0);
    EXPECT_EQ(same.points, 5);
    const Moments x = a.moments(eta), y = b.moments(eta);
    std::vector<double> expected;
    for (int i = 0; i < 5; i++) {
        const VectorXd e = y.mu.col(i) - x.mu.col(i);
        expected.push_back(std::sqrt(e.dot(x.J[i].ldlt().solve(e)) / 2));
    }
    std::sort(expected.begin(), expected.end());
    EXPECT_NEAR(other.medianError, expected[2], 2e-3 * expected[2]);
    EXPECT_THROW(compare(a, EmpiricalModel(Variables({Variable::torsion("psi")}), MatrixXd::Ones(1, 3)), eta), std::invalid_argument);
}
