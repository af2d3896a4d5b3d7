// SPDX-License-Identifier: MIT
// Scores of densities: against derivatives, closed forms and quadrature.
#include "spacetime/DensityField.h"
#include "DensityFields.h"
#include "ExpectError.h"
#include "Torus.h"
#include <cmath>
#include <gtest/gtest.h>
#include <random>

using namespace Spacetime;
using Eigen::MatrixXd;
using Eigen::Vector2d;
using Eigen::Vector3d;
using Eigen::VectorXd;

namespace {

/// Central differences of the field's own log-density.
MatrixXd differences(const DensityField& field, const MatrixXd& x, double h = 1e-4) {
    MatrixXd s(x.rows(), x.cols());
    for (Eigen::Index j = 0; j < x.rows(); j++) {
        MatrixXd above = x, below = x;
        above.row(j).array() += h;
        below.row(j).array() -= h;
        s.row(j) = (field.logDensity(above) - field.logDensity(below)).transpose() / (2 * h);
    }
    return s;
}

void expectGradient(const DensityField& field, const MatrixXd& x, double tolerance = 1e-6) {
    const MatrixXd s = field.score(x), d = differences(field, x);
    for (Eigen::Index i = 0; i < x.cols(); i++)
        EXPECT_LT((s.col(i) - d.col(i)).norm(), tolerance * (1 + d.col(i).norm())) << "point " << i;
    EXPECT_GT(s.norm(), 1e-2);
}

MatrixXd randomMatrix(int rows, int columns, unsigned seed, double scale = 1) {
    std::mt19937 random(seed);
    std::normal_distribution<double> normal(0, scale);
    return MatrixXd::NullaryExpr(rows, columns, [&] { return normal(random); });
}

GaussianMixtureModel mixture(int D) { return GaussianMixtureModel(randomMatrix(D, 3, D, 1.2), Vector3d(0.2, 0.4, 0.9), Vector3d(0.5, 0.2, 0.3)); }

/// A torsion, a distance with shift and scale, a periodic coordinate, and a number.
Variables mixed() {
    Variable d = Variable::distance("d"), x = Variable::number("x");
    d.shift = 0.35;
    d.scale = 0.05;
    x.scale = 3;
    return Variables({Variable::torsion("phi"), d, Variable::coordinate("z", 5, 2, 1.7), x});
}

EmpiricalModel mixedSamples() {
    MatrixXd raw = randomMatrix(4, 3000, 5);
    raw.row(1) = (0.35 + 0.05 * raw.row(1).array()).eval();
    raw.row(2) = 0.3 * raw.row(2) + 0.2 * raw.row(0);
    raw.row(3) = 3 * raw.row(3) + raw.row(0);
    VectorXd logWeights = 0.3 * raw.row(0).transpose().array().sin();
    return EmpiricalModel(mixed(), raw, logWeights);
}

/// A mixture of the exact kind with lifted and unlifted variables.
MixtureModel mixedMixture() {
    MixtureModel::Components c;
    c.logWeights = Vector2d(0, -0.4);
    c.tilt = randomMatrix(4, 2, 8, 3);
    c.mean = randomMatrix(2, 2, 9);
    c.precision = MatrixXd::Constant(2, 2, 2);
    c.precision(0, 1) = 5;
    return MixtureModel(mixed(), c);
}

}  // namespace

TEST(DensityField, GaussianMixtureSmoothedInClosedForm) {
    // Noise adds e^-l to every variance.
    for (int D : {1, 2, 10})
        for (double level : {-1.0, 2.0, 6.0}) {
            const GaussianMixtureModel model = mixture(D);
            const ModelDensity field(model, level);
            const GaussianMixture exact(model.means(), (model.variances().array() + std::exp(-level)).matrix(), model.weights());
            const MatrixXd x = randomMatrix(D, 20, 3);
            EXPECT_LT((field.score(x) - exact.score(x)).norm(), 1e-9 * std::exp(level) + 1e-9 * exact.score(x).norm()) << "D = " << D << ", l = " << level;
            const VectorXd difference = field.logDensity(x) - exact.logDensity(x);
            EXPECT_LT((difference.array() - difference[0]).abs().maxCoeff(), 1e-9 * std::exp(std::max(0.0, level)));
            EXPECT_EQ(field.periods(), VectorXd::Zero(D));
            EXPECT_FALSE(field.isStochastic());
            EXPECT_TRUE(field.hasLogDensity());
        }
}

TEST(DensityField, ScoreIsTheGradient) {
    const MatrixXd points = randomMatrix(4, 15, 4, 0.7);
    const EmpiricalModel samples = mixedSamples();
    const MixtureModel exact = mixedMixture();
    for (double level : {0.0, 1.5}) {
        expectGradient(ModelDensity(samples, level), points);
        expectGradient(ModelDensity(exact, level), points);
        expectGradient(ModelDensity(mixture(3), level), points.topRows(3));
        const EmpiricalModel surface = torus(48, 4, 0.5);
        expectGradient(ModelDensity(surface, level + 1), 3 * points.topRows(2));
    }
    // Fields of the tests themselves.
    const RandomProblem p(3, 3, 0.2, 0.8);
    expectGradient(p.field, points.topRows(3));
}

TEST(DensityField, VonMisesSmoothedInClosedForm) {
    // q(phi) = cos-shaped, smoothed by exp(kappa cos): both by quadrature over the circle.
    MixtureModel::Components c;
    c.logWeights = Vector2d(0.2, -0.3);
    c.tilt.resize(2, 2);
    c.tilt << 2 * std::cos(0.5), 5 * std::cos(-2.0), 2 * std::sin(0.5), 5 * std::sin(-2.0);
    c.mean = c.precision = MatrixXd(0, 2);
    const MixtureModel model(Variables({Variable::torsion("phi")}), c);
    const double level = 1.3, kappa = std::exp(level);
    const ModelDensity field(model, level);
    EXPECT_NEAR(field.periods()[0], 2 * M_PI, 1e-15);
    const int n = 400;
    auto besselI0 = [&](double k) {
        double sum = 0;
        for (int i = 0; i < n; i++)
            sum += std::exp(k * std::cos(2 * M_PI * i / n)) / n;
        return sum;
    };
    auto q = [&](double phi) { return std::exp(0.2) / besselI0(2) * std::exp(2 * std::cos(phi - 0.5)) + std::exp(-0.3) / besselI0(5) * std::exp(5 * std::cos(phi + 2.0)); };
    VectorXd logP(25), score(25);
    MatrixXd phi(1, 25);
    for (int i = 0; i < 25; i++) {
        phi(0, i) = -4 + 0.35 * i;
        double p = 0, dp = 0;
        for (int j = 0; j < n; j++) {
            const double c = 2 * M_PI * j / n, w = q(c) * std::exp(kappa * std::cos(phi(0, i) - c));
            p += w;
            dp -= kappa * std::sin(phi(0, i) - c) * w;
        }
        logP[i] = std::log(p);
        score[i] = dp / p;
    }
    EXPECT_LT((field.score(phi).transpose() - score).cwiseAbs().maxCoeff(), 1e-10);
    const VectorXd difference = field.logDensity(phi) - logP;
    EXPECT_LT((difference.array() - difference[0]).abs().maxCoeff(), 1e-10);
    // Whole turns make no difference.
    EXPECT_LT((field.score((phi.array() + 4 * M_PI).matrix()) - field.score(phi)).norm(), 1e-10);
}

TEST(DensityField, Coordinates) {
    const MixtureModel model = mixedMixture();
    const ModelDensity field(model, 1);
    MatrixXd raw(4, 2);
    raw << 7.5, -1, 0.4, 0.3, 2.0, -3.1, 6, -1.5;
    const MatrixXd x = field.coordinates(raw);
    EXPECT_NEAR(x(0, 0), 7.5, 1e-14) << "whole turns are kept";
    EXPECT_NEAR(x(1, 0), 1, 1e-12);
    EXPECT_NEAR(x(2, 1), -3.1 * 2 * M_PI / 1.7, 1e-12);
    EXPECT_NEAR(x(3, 0), 2, 1e-14);
    EXPECT_LT((field.raw(x) - raw).norm(), 1e-13);
    EXPECT_LT((field.periods() - Eigen::Vector4d(2 * M_PI, 0, 2 * M_PI, 0)).norm(), 1e-14);
    EXPECT_NE(field.describe(x.col(0)).find("7.5"), std::string::npos) << "raw values, as a user knows them: " << field.describe(x.col(0));
    EXPECT_NE(field.describe(x.col(0)).find("0.4"), std::string::npos) << field.describe(x.col(0));
    expectError([&] { field.coordinates(raw.topRows(3)); }, {"4", "3"});
    raw(2, 1) = NAN;
    expectError([&] { field.coordinates(raw); }, {"finite"});
}

TEST(DensityField, GuidedIsTheWeightedSum) {
    const GaussianMixtureModel one = mixture(3), two(randomMatrix(3, 2, 12), Vector2d(0.5, 0.7), Vector2d(1, 1));
    const ModelDensity a(one, 2), b(two, 2);
    const double w = 1.7;
    const GuidedDensity guided({&a, &b}, {1 - w, w});
    const MatrixXd x = randomMatrix(3, 10, 6);
    EXPECT_LT((guided.score(x) - (1 - w) * a.score(x) - w * b.score(x)).norm(), 1e-12);
    EXPECT_LT((guided.logDensity(x) - (1 - w) * a.logDensity(x) - w * b.logDensity(x)).norm(), 1e-12);
    expectGradient(guided, x);
    EXPECT_TRUE(guided.hasLogDensity());
    EXPECT_FALSE(guided.isStochastic());
    const long before = guided.evaluations();
    guided.score(x);
    EXPECT_EQ(guided.evaluations() - before, 20) << "ten points, two fields";
    // The draw goes to all fields.
    const ModelDensity noisy(one, 2, 4, 3);
    const GuidedDensity stochastic({&noisy, &b}, {1, 1});
    EXPECT_TRUE(stochastic.isStochastic());
    EXPECT_FALSE(stochastic.hasLogDensity());
    EXPECT_LT((stochastic.score(x, 7) - noisy.score(x, 7) - b.score(x)).norm(), 1e-12);
    EXPECT_GT((stochastic.score(x, 7) - stochastic.score(x, 8)).norm(), 1e-3);

    const GaussianMixtureModel other = mixture(2);
    const ModelDensity flat(other, 2);
    const MixtureModel torsions = mixedMixture();
    const GaussianMixtureModel fourModel = mixture(4);
    const ModelDensity four(fourModel, 2), periodic(torsions, 2);
    expectError([&] { GuidedDensity({&a, &flat}, {1, 1}); }, {"GuidedDensity", "3", "2"});
    expectError([&] { GuidedDensity({&four, &periodic}, {1, 1}); }, {"GuidedDensity", "period"});
    expectError([&] { GuidedDensity({&a, &b}, {1}); }, {"GuidedDensity", "2", "1"});
    expectError([&] { GuidedDensity({}, {}); }, {"GuidedDensity"});
    expectError([&] { GuidedDensity({&a, nullptr}, {1, 1}); }, {"GuidedDensity", "1"});
    expectError([&] { GuidedDensity({&a, &b}, {1, NAN}); }, {"GuidedDensity", "finite"});
}

TEST(DensityField, StochasticMeanByQuadrature) {
    // E[s(x + e^(-l/2) eps)]: one Gaussian gives the score itself; a mixture needs an integral over eps, here by the trapezoidal rule.
    const MatrixXd means = (MatrixXd(1, 2) << -0.8, 1.1).finished();
    const GaussianMixtureModel model(means, Vector2d(0.15, 0.3), Vector2d(0.4, 0.6));
    const double level = 1, sigma = std::exp(-level / 2);
    const ModelDensity plain(model, level), field(model, level, 20, 11);
    EXPECT_TRUE(field.isStochastic());
    EXPECT_FALSE(field.hasLogDensity());
    expectError([&] { field.logDensity(MatrixXd::Zero(1, 1)); }, {"log-density"});
    const int n = 400, numDraws = 400;
    MatrixXd x(1, 3), sum = MatrixXd::Zero(1, 3), squares = MatrixXd::Zero(1, 3);
    x << -1.5, 0.1, 0.9;
    for (int draw = 0; draw < numDraws; draw++) {
        const MatrixXd s = field.score(x, draw);
        sum += s;
        squares += s.cwiseAbs2();
    }
    for (int i = 0; i < 3; i++) {
        double expected = 0;
        for (int j = 0; j <= n; j++) {
            const double e = -8 + 16.0 * j / n;
            expected += 16.0 / n * std::exp(-e * e / 2) / std::sqrt(2 * M_PI) * plain.score(MatrixXd::Constant(1, 1, x(0, i) + sigma * e))(0, 0);
        }
        const double mean = sum(0, i) / numDraws, error = std::sqrt((squares(0, i) / numDraws - mean * mean) / numDraws);
        EXPECT_NEAR(mean, expected, 4 * error);
        EXPECT_LT(error, 0.02) << "the test would see nothing";
        // A mean over 20 copies has the variance of one over 20: noise of its own in every copy.
        const double variance = squares(0, i) / numDraws - mean * mean;
        double one = 0, first = 0;
        for (int j = 0; j <= n; j++) {
            const double e = -8 + 16.0 * j / n, w = 16.0 / n * std::exp(-e * e / 2) / std::sqrt(2 * M_PI), s = plain.score(MatrixXd::Constant(1, 1, x(0, i) + sigma * e))(0, 0);
            first += w * s;
            one += w * s * s;
        }
        EXPECT_NEAR(variance / ((one - first * first) / 20), 1, 0.3);
    }
}

TEST(DensityField, OneDrawIsOneNoise) {
    const GaussianMixtureModel one(VectorXd::Constant(3, 0.4), VectorXd::Ones(1), VectorXd::Ones(1));
    const ModelDensity plain(one, 1), field(one, 1, 3, 2), otherSeed(one, 1, 3, 4);
    const MatrixXd x = randomMatrix(3, 6, 1);
    const MatrixXd s = field.score(x, 5);
    EXPECT_EQ(s, field.score(x, 5));
    for (int i = 0; i < 6; i++)
        EXPECT_LT((s.col(i) - field.score(x.col(i), 5)).norm(), 1e-12) << "alone as among others";
    // A linear score: the same noise shifts all points by the same amount.
    const MatrixXd shift = s - plain.score(x);
    EXPECT_LT((shift.colwise() - shift.col(0)).norm(), 1e-10);
    EXPECT_GT(shift.norm(), 1e-2);
    EXPECT_GT((field.score(x, 6) - s).norm(), 1e-2);
    EXPECT_GT((otherSeed.score(x, 5) - s).norm(), 1e-2);
    const long before = field.evaluations();
    field.score(x, 1);
    EXPECT_EQ(field.evaluations() - before, 18) << "one a point and draw";
    const long plainBefore = plain.evaluations();
    plain.score(x);
    EXPECT_EQ(plain.evaluations() - plainBefore, 6);
}

TEST(DensityField, Range) {
    const GaussianMixtureModel model = mixture(2);
    const ModelDensity field(model, 4);
    EXPECT_EQ(field.rangeProblem(model.means().col(0)), "");
    field.checkRange(model.means().col(0), "start");
    expectError([&] { field.checkRange(Vector2d(90, 90), "start"); }, {"start", "90"});
    // Everything that data and noise produce is inside.
    std::mt19937 random(1);
    for (int D : {2, 30}) {
        const GaussianMixtureModel inner = mixture(D);
        const ModelDensity f(inner, 2);
        const GaussianMixture smooth(inner.means(), (inner.variances().array() + std::exp(-2.0)).matrix(), inner.weights());
        for (int i = 0; i < 300; i++)
            EXPECT_EQ(f.rangeProblem(smooth.sample(random)), "");
    }
    // Samples: a place with few of them around.
    const EmpiricalModel samples = mixedSamples();
    const ModelDensity sampled(samples, 2);
    EXPECT_EQ(sampled.rangeProblem(VectorXd::Zero(4)), "");
    EXPECT_NE(sampled.rangeProblem(Eigen::Vector4d(3.1, 4, 3, -4)), "");
    // Where a kernel holds a handful of samples only, they are no density.
    const ModelDensity narrow(samples, 8);
    EXPECT_NE(narrow.rangeProblem(VectorXd::Zero(4)).find("effective"), std::string::npos) << narrow.rangeProblem(VectorXd::Zero(4));
    expectError([&] { field.checkRange(Vector3d(0, 0, 0), "start"); }, {"2", "3"});
    expectError([&] { field.checkRange(Vector2d(NAN, 0), "start"); }, {"finite"});
}

TEST(DensityField, BadInput) {
    const GaussianMixtureModel model = mixture(2);
    expectError([&] { ModelDensity(model, NAN); }, {"log-SNR"});
    expectError([&] { ModelDensity(model, INFINITY); }, {"log-SNR"});
    expectError([&] { ModelDensity(model, 2, -1); }, {"draws", "-1"});
    const ModelDensity field(model, 2);
    expectError([&] { field.score(MatrixXd::Zero(3, 4)); }, {"2", "3"});
    MatrixXd x = MatrixXd::Zero(2, 4);
    x(1, 2) = NAN;
    expectError([&] { field.score(x); }, {"2", "finite"});
    expectError([&] { field.logDensity(x); }, {"finite"});
    // Where a score is not finite: which point.
    const AnalyticDensity hole(2, {}, [](const VectorXd& x) { return VectorXd(Vector2d(1 / x[0], 0)); });
    x << 1, 0, 2, 3, 0.5, 0.25, 0.125, 0.5;
    expectError([&] { hole.score(x); }, {"not finite", "0.25"});
}
