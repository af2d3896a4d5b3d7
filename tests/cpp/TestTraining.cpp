// SPDX-License-Identifier: MIT
// These tests open LibTorch: they are few and small.
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
#include <limits>
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
    o.components = 16;
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

// The same parameters give the same numbers natively and in LibTorch, in single precision, for every kind of variable in any order.
TEST_F(Training, NativeEvaluationAgreesWithLibTorch) {
    const Variables v({Variable::number("x"), Variable::torsion("a"), Variable::number("y"), Variable::torsion("b")});
    const int K = 5, n = 9, M = v.numStatistics();
    std::mt19937_64 random(2);
    std::normal_distribution<double> normal;
    std::vector<float> row(K * 9);
    for (float& x : row)
        x = static_cast<float>(normal(random));
    MixtureModel::Components c;
    const VectorXd values = Eigen::Map<Eigen::VectorXf>(row.data(), row.size()).cast<double>();
    c.logWeights = values.head(K);
    c.tilt = Eigen::Map<const MatrixXd>(&values[K], 4, K);
    c.mean = Eigen::Map<const MatrixXd>(&values[5 * K], 2, K);
    c.precision = Eigen::Map<const MatrixXd>(&values[7 * K], 2, K).array().exp();
    MatrixXd eta(M, n), probe(M, n);
    for (int i = 0; i < n; i++) {
        eta.col(i) = v.naturalParameter(Eigen::Vector4d(normal(random), normal(random), normal(random), normal(random)), 0.5 * i - 1.5);
        for (int a = 0; a < M; a++)
            probe(a, i) = normal(random);
    }
    eta.col(0).setZero();
    std::vector<std::int64_t> lifted, unlifted;
    for (int i = 0; i < v.size(); i++)
        (v[i].lifted() ? lifted : unlifted).push_back(v.offset(i));
    SpacetimeTorchJob job{};
    job.numStatistics = M;
    job.numLifted = job.numUnlifted = 2;
    job.numComponents = K;
    job.liftedRows = lifted.data();
    job.unliftedRows = unlifted.data();
    job.parameters = row.data();
    job.numParameters = static_cast<std::int64_t>(row.size());
    // Column-major [M x n] is row-major [n x M].
    const Eigen::MatrixXf e = eta.cast<float>(), d = probe.cast<float>();
    Eigen::VectorXf psi(n);
    Eigen::MatrixXf mu(M, n), product(M, n);
    ASSERT_EQ(TorchLibrary::get().evaluate(&job, n, e.data(), d.data(), psi.data(), mu.data(), product.data()), 0) << job.error;
    const Moments m = MixtureModel(v, c).moments(eta);
    for (int i = 0; i < n; i++) {
        const VectorXd Jv = m.J[i] * probe.col(i);
        EXPECT_NEAR(psi[i], m.psi[i], 2e-5 * (1 + std::abs(m.psi[i])));
        EXPECT_LT((mu.col(i).cast<double>() - m.mu.col(i)).norm(), 2e-5 * (1 + m.mu.col(i).norm()));
        EXPECT_LT((product.col(i).cast<double>() - Jv).norm(), 1e-4 * (1 + Jv.norm()));
    }
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
    options.components = 64;
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
    EXPECT_EQ(x->parameters().components.tilt, y->parameters().components.tilt);
    EXPECT_NE(x->parameters().components.tilt, z->parameters().components.tilt);
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

// Killed after any report and resumed, training ends with the very parameters of a run that nothing disturbed.
TEST_F(Training, ResumesAsIfItHadNeverStopped) {
    const EmpiricalModel data = vonMises(2, 1);
    TrainingOptions o = small(120);
    o.reportEvery = 10;
    o.checkpointSeconds = 0;
    train(data, o, path("whole"));
    EXPECT_FALSE(fs::exists(path("whole.checkpoint")));
    TrainingOptions killed = o;
    killed.progress = [](int step, int, double, double) -> bool {
        if (step == 50)
            throw std::runtime_error("killed");
        return true;
    };
    EXPECT_THROW(train(data, killed, path("parts")), std::runtime_error);
    ASSERT_TRUE(fs::exists(path("parts.checkpoint")));
    EXPECT_FALSE(fs::exists(path("parts")));
    TrainingOptions other = o;
    other.resume = true;
    other.seed = 9;
    EXPECT_THROW(train(data, other, path("parts")), std::invalid_argument) << "the checkpoint of another seed";
    EXPECT_THROW(train(
                     vonMises(2.1, 1),
                     [&] {
                         TrainingOptions r = o;
                         r.resume = true;
                         return r;
                     }(),
                     path("parts")),
                 std::invalid_argument)
        << "of other samples";
    // An orderly stop leaves a model and a checkpoint.
    TrainingOptions again = o;
    again.resume = true;
    again.progress = [](int step, int, double, double) { return step < 80; };
    const TrainingResult second = train(data, again, path("parts"));
    EXPECT_TRUE(second.resumed && second.stopped);
    EXPECT_TRUE(fs::exists(path("parts")) && fs::exists(path("parts.checkpoint")));
    again.progress = nullptr;
    const TrainingResult third = train(data, again, path("parts"));
    EXPECT_TRUE(third.resumed && !third.stopped);
    EXPECT_FALSE(fs::exists(path("parts.checkpoint")));
    const auto a = NetworkModel::load(path("whole")), b = NetworkModel::load(path("parts"));
    EXPECT_EQ(a->parameters().components.tilt, b->parameters().components.tilt);
    EXPECT_EQ(a->parameters().components.logWeights, b->parameters().components.logWeights);
    EXPECT_EQ(a->metadata()["training"]["losses"], b->metadata()["training"]["losses"]);
    again.resume = true;  // nothing to go on from: it starts afresh
    EXPECT_FALSE(train(data, again, path("fresh")).resumed);
}

TEST_F(Training, StopsEarlyAndKeepsTheBest) {
    TrainingOptions o = small(400);
    o.reportEvery = 5;
    o.patience = 3;
    o.learningRate = 1;  // far too much: it soon gets no better
    const TrainingResult r = train(vonMises(2, 1), o, path());
    EXPECT_LT(r.steps, 400);
    EXPECT_FALSE(r.stopped);
    double best = std::numeric_limits<double>::infinity();
    const auto losses = NetworkModel::load(path())->metadata()["training"]["losses"];
    for (const auto& report : losses)
        best = std::min(best, report[2].get<double>());
    EXPECT_EQ(losses.size() >= 4u && losses[losses.size() - 4][2].get<double>() == best, true);
}

TEST_F(Training, RefusesSamplesThatTeachNothing) {
    const Variables v({Variable::torsion("phi"), Variable::number("d")});
    std::mt19937_64 random(1);
    std::normal_distribution<double> normal;
    MatrixXd raw(2, 500);
    for (Eigen::Index i = 0; i < raw.size(); i++)
        raw.data()[i] = normal(random);
    auto complaint = [&](const MatrixXd& x, const VectorXd& logWeights) -> std::string {
        try {
            train(EmpiricalModel(v, x, logWeights), small(2), path());
        }
        catch (const std::invalid_argument& e) {
            return e.what();
        }
        return "";
    };
    MatrixXd constant = raw;
    constant.row(0).setConstant(0.4);
    EXPECT_NE(complaint(constant, {}).find("'phi' has the same value in every sample"), std::string::npos);
    constant = raw;
    constant.row(1).setConstant(0.4);
    EXPECT_NE(complaint(constant, {}).find("'d' has the same value in every sample"), std::string::npos);
    VectorXd dominated = VectorXd::Zero(500);
    dominated[7] = 12;
    EXPECT_NE(complaint(raw, dominated).find("effective samples of 500"), std::string::npos) << complaint(raw, dominated);
    EXPECT_FALSE(fs::exists(path()));
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
    refused([](TrainingOptions& o) { o.components = 0; });
    refused([](TrainingOptions& o) { o.learningRate = std::nan(""); });
    refused([](TrainingOptions& o) { o.minLogSnr = o.maxLogSnr; });
    refused([](TrainingOptions& o) { o.averaging = 1; });
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
