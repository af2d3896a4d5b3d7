// SPDX-License-Identifier: MIT
// The probability-flow ODE, its likelihoods, the reverse SDE and the pullback metric against closed forms.
#include "spacetime/Flow.h"
#include "ExpectError.h"
#include "Torus.h"
#include "spacetime/Curve.h"
#include "spacetime/Models.h"
#include <algorithm>
#include <cmath>
#include <gtest/gtest.h>
#include <random>

using namespace Spacetime;
using Eigen::MatrixXd;
using Eigen::VectorXd;

namespace {

const double NaN = std::numeric_limits<double>::quiet_NaN();

GaussianMixtureModel threeWells() {
    MatrixXd means(1, 3);
    means << -2.5, 0.5, 2.5;
    return GaussianMixtureModel(means, VectorXd::Constant(3, 0.5625), Eigen::Vector3d(0.275, 0.45, 0.275));
}

GaussianMixtureModel plane() {
    MatrixXd means(2, 3);
    means << -1.5, 1.2, 0.4, 0.3, -0.8, 1.9;
    return GaussianMixtureModel(means, Eigen::Vector3d(0.2, 0.5, 0.35), Eigen::Vector3d(0.3, 0.5, 0.2));
}

/// log of the mixture's noisy density, by the closed form.
double logMixture(const GaussianMixtureModel& g, const VectorXd& y, double logSnr) {
    double p = 0;
    for (Eigen::Index k = 0; k < g.means().cols(); k++) {
        const double v = g.variances()[k] + std::exp(-logSnr);
        p += g.weights()[k] * std::pow(2 * M_PI * v, -0.5 * y.size()) * std::exp(-0.5 * (y - g.means().col(k)).squaredNorm() / v);
    }
    return std::log(p);
}

/// Points drawn from the mixture.
MatrixXd drawn(const GaussianMixtureModel& g, int count, unsigned seed) {
    std::mt19937_64 generator(seed);
    std::normal_distribution<double> normal;
    std::discrete_distribution<int> component(g.weights().data(), g.weights().data() + g.weights().size());
    MatrixXd x(g.means().rows(), count);
    for (int k = 0; k < count; k++) {
        const int c = component(generator);
        for (Eigen::Index i = 0; i < x.rows(); i++)
            x(i, k) = g.means()(i, c) + std::sqrt(g.variances()[c]) * normal(generator);
    }
    return x;
}

/// Weighted samples of the torus of Torus.h as they would come from a simulation: two angles, not a grid.
EmpiricalModel torusSamples(int count) {
    std::mt19937_64 generator(3);
    std::uniform_real_distribution<double> angle(-M_PI, M_PI);
    MatrixXd x(2, count);
    VectorXd w(count);
    for (int k = 0; k < count; k++) {
        x.col(k) << angle(generator), angle(generator);
        w[k] = -6 * std::exp(4 * (std::cos(x(0, k)) - 1)) + 1.5 * std::cos(2 * x(1, k));
    }
    return EmpiricalModel(Variables({Variable::torsion("a"), Variable::torsion("b")}), x, w);
}

double angleError(const MatrixXd& a, const MatrixXd& b) {
    return (a - b).unaryExpr([](double d) { return std::abs(std::remainder(d, 2 * M_PI)); }).maxCoeff();
}

/// Psi hidden, so that nothing but moments is left, as with many networks.
class MomentsOnly : public PosteriorModel {
public:
    explicit MomentsOnly(const PosteriorModel& model, double least = -std::numeric_limits<double>::infinity()) : PosteriorModel(model.variables()), inner(model), least(least) {}
    bool isExact() const override { return false; }
    bool hasPsi() const override { return false; }
    double dataVariance() const override { return inner.dataVariance(); }
    double dataLogSnr() const override { return inner.dataLogSnr(); }
    double minLogSnr() const override { return least; }
    void checkRange(const VectorXd& eta, const std::string& what) const override {
        if (std::abs(variables().center(eta)[0]) > 10)
            throw std::invalid_argument("MomentsOnly: " + what + " is outside the range");
    }

protected:
    Moments compute(const MatrixXd& eta, Order order, const MatrixXd* direction) const override {
        Moments m = inner.moments(eta, order, direction);
        m.psi.resize(0);
        return m;
    }

private:
    const PosteriorModel& inner;
    double least;
};

}  // namespace

TEST(Flow, GaussianScales) {
    const double mean = 0.4, s2 = 1.5;
    const GaussianMixtureModel g(MatrixXd::Constant(2, 1, mean), VectorXd::Constant(1, s2), VectorXd::Ones(1));
    MatrixXd y(2, 3);
    y << 0.1, -2, 5, 1.1, 0.4, -3;
    for (const auto& [from, to] : {std::pair(9.0, -7.0), std::pair(-7.0, 9.0), std::pair(2.0, 1.0)}) {
        const MatrixXd exact = ((y.array() - mean) * std::sqrt((s2 + std::exp(-to)) / (s2 + std::exp(-from))) + mean).matrix();
        EXPECT_LT((transport(g, y, from, to).y - exact).cwiseAbs().maxCoeff(), 1e-8 * exact.cwiseAbs().maxCoeff());
    }
    EXPECT_EQ(transport(g, y, 3, 3).y, y);
    EXPECT_EQ(transport(g, MatrixXd(2, 0), 3, 1).y.cols(), 0);
}

TEST(Flow, HeunIsOfSecondOrder) {
    const auto g = plane();
    const MatrixXd x = drawn(g, 20, 4);
    const MatrixXd exact = encode(g, x, -4).y;
    FlowOptions o;
    o.solver = FlowOptions::Solver::Heun;
    double errors[3];
    for (int i = 0; i < 3; i++) {
        o.steps = 128 << i;
        const FlowResult r = encode(g, x, -4, o);
        EXPECT_EQ(r.steps, o.steps);
        EXPECT_EQ(r.evaluations, 2L * o.steps * x.cols());
        errors[i] = (r.y - exact).cwiseAbs().maxCoeff();
    }
    EXPECT_NEAR(std::log2(errors[0] / errors[1]), 2, 0.2);
    EXPECT_NEAR(std::log2(errors[1] / errors[2]), 2, 0.1);
}

TEST(Flow, AdaptiveMeetsItsTolerance) {
    const auto g = plane();
    const MatrixXd x = drawn(g, 50, 5);
    FlowOptions o;
    o.tolerance = 1e-13;
    const MatrixXd exact = encode(g, x, -6, o).y;
    const double scale = std::sqrt(g.dataVariance() + std::exp(6.0));
    long evaluations = 1L << 40;
    for (double tolerance : {1e-10, 1e-8, 1e-6, 1e-4}) {
        o.tolerance = tolerance;
        const FlowResult r = encode(g, x, -6, o);
        EXPECT_LT((r.y - exact).cwiseAbs().maxCoeff() / scale, 30 * tolerance) << tolerance;
        EXPECT_LT(r.evaluations, evaluations);
        evaluations = r.evaluations;
    }
}

TEST(Flow, DecodeUndoesEncode) {
    // In one dimension the decoder stretches by the ratio of the densities, 1e4 and more in the tails.
    for (const auto& g : {threeWells(), plane()}) {
        const MatrixXd x = drawn(g, 200, 6);
        for (double l : {2.0, -4.0, -10.0}) {
            EXPECT_LT((rawCoordinates(g.variables(), decode(g, encode(g, x, l).y, l).y) - x).cwiseAbs().maxCoeff(), 1e-6) << l;
            FlowOptions o;
            o.solver = FlowOptions::Solver::Heun;
            o.steps = 2048;
            const MatrixXd few = x.leftCols(40);
            EXPECT_LT((decode(g, encode(g, few, l, o).y, l, o).y - few).cwiseAbs().maxCoeff(), 1e-4) << l;
        }
    }
}

TEST(Flow, OrderIsKeptInOneDimension) {
    const auto g = threeWells();
    const MatrixXd x = VectorXd::LinSpaced(100, -5, 5).transpose();
    const MatrixXd y = encode(g, x, -6).y;
    for (int k = 1; k < 100; k++)
        EXPECT_GT(y(0, k), y(0, k - 1));
}

TEST(Flow, TorsionsComeBack) {
    const auto grid = torus(90);
    // Spacing 2 pi/90: thirty samples lie around a point at a noise of 1.5 spacings and more.
    EXPECT_GT(grid.dataLogSnr(), 3.5);
    EXPECT_LT(grid.dataLogSnr(), 4.6);
    std::mt19937_64 generator(8);
    std::uniform_real_distribution<double> angle(-M_PI, M_PI);
    MatrixXd x(2, 100);
    for (int k = 0; k < 100; k++)
        x.col(k) << angle(generator), angle(generator);
    for (double l : {1.0, -3.0, -8.0}) {
        const FlowResult latent = encode(grid, x, l);
        EXPECT_EQ(latent.y.rows(), 4);
        EXPECT_TRUE(std::isnan(latent.minNEff));
        EXPECT_LT(angleError(rawCoordinates(grid.variables(), decode(grid, latent.y, l).y), x), 1e-4) << l;
    }
    const auto samples = torusSamples(20000);
    const FlowResult latent = encode(samples, x.leftCols(20), -3);
    EXPECT_GT(latent.minNEff, 1);
    EXPECT_LT(angleError(rawCoordinates(samples.variables(), decode(samples, latent.y, -3).y), x.leftCols(20)), 1e-4);
}

TEST(Flow, MixedVariablesComeBack) {
    std::mt19937_64 generator(9);
    std::normal_distribution<double> normal;
    MatrixXd x(2, 5000);
    for (int k = 0; k < 5000; k++) {
        const double a = (k % 2 ? 1.2 : -1.4) + 0.4 * normal(generator);
        x.col(k) << a, 0.35 + 0.05 * std::sin(a) + 0.02 * normal(generator);
    }
    Variable d = Variable::distance("d");
    d.shift = 0.3;
    d.scale = 0.05;
    const EmpiricalModel model(Variables({Variable::torsion("a"), d}), x, VectorXd());
    EXPECT_EQ(flowDimension(model.variables()), 3);
    const MatrixXd c = flowCoordinates(model.variables(), x.leftCols(2));
    EXPECT_NEAR(c(0, 1), std::cos(x(0, 1)), 1e-14);
    EXPECT_NEAR(c(1, 1), std::sin(x(0, 1)), 1e-14);
    EXPECT_NEAR(c(2, 1), (x(1, 1) - 0.3) / 0.05, 1e-12);
    EXPECT_LT((rawCoordinates(model.variables(), c) - x.leftCols(2)).cwiseAbs().maxCoeff(), 1e-14);
    EXPECT_NEAR(flowNaturalParameter(model.variables(), c, 2)(0, 0), -0.5 * std::exp(2.0), 1e-14);
    EXPECT_LT((flowNaturalParameter(model.variables(), c, 2).col(1) - model.variables().naturalParameter(x.col(1), 2)).norm(), 1e-12);
    const MatrixXd few = x.leftCols(30);
    const MatrixXd back = rawCoordinates(model.variables(), decode(model, encode(model, few, -4).y, -4).y);
    EXPECT_LT((back - few).cwiseAbs().maxCoeff(), 1e-4);
}

TEST(Likelihood, AgreesWithTheClosedForm) {
    for (const auto& g : {threeWells(), plane()}) {
        MatrixXd y = drawn(g, 40, 7);
        y *= 1.5;
        for (double l : {6.0, 1.0, -2.0}) {
            VectorXd exact(y.cols());
            for (int k = 0; k < y.cols(); k++)
                exact[k] = logMixture(g, y.col(k), l);
            EXPECT_LT((logLikelihood(g, y, l).logDensity - exact).cwiseAbs().maxCoeff(), 1e-9 * std::exp(std::max(l, 0.0)));
            LikelihoodOptions o;
            o.integrate = true;
            LikelihoodResult r = logLikelihood(g, y, l, o);
            EXPECT_LT((r.logDensity - exact).cwiseAbs().maxCoeff(), 1e-6) << l;
            EXPECT_GT(r.truncation, 0);
            EXPECT_LT(r.truncation, 1e-6);
            // A base too close: the error is seen, and grows as the cube of the data's standard deviation over sigma.
            o.baseLogSnr = -4.5;
            r = logLikelihood(g, y, l, o);
            const double error = (r.logDensity - exact).cwiseAbs().maxCoeff();
            EXPECT_GT(error, 1e-6);
            EXPECT_LT(error, 3 * r.truncation);
            EXPECT_NEAR((logLikelihood(MomentsOnly(g), y, l).logDensity - exact).cwiseAbs().maxCoeff(), 0, 1e-6);
        }
    }
}

TEST(Likelihood, OfTorsionsByTwoWays) {
    const auto grid = torus(48);
    const MatrixXd y = 1.1 * flowCoordinates(grid.variables(), MatrixXd::Random(2, 20) * M_PI);
    LikelihoodOptions o;
    o.integrate = true;
    for (double l : {3.0, 0.0}) {
        const VectorXd exact = logLikelihood(grid, y, l).logDensity;
        EXPECT_LT((logLikelihood(grid, y, l, o).logDensity - exact).cwiseAbs().maxCoeff(), 1e-5);
    }
    // By the definition: the mean over the samples of the noise's density.
    double p = 0;
    for (Eigen::Index k = 0; k < grid.support().cols(); k++)
        p += std::exp(grid.logWeights()[k] - 0.5 * std::exp(3.0) * (y.col(0) - grid.support().col(k)).squaredNorm()) * std::pow(2 * M_PI * std::exp(-3.0), -2);
    EXPECT_NEAR(logLikelihood(grid, y.leftCols(1), 3).logDensity[0], std::log(p), 1e-9);
}

TEST(ReverseSde, SamplesHaveTheMixturesMoments) {
    const auto g = threeWells();
    const int n = 8000;
    SamplingOptions o;
    o.steps = 96;
    const VectorXd x = sampleReverseSde(g, n, o).row(0);
    const double mean = g.dataMean()[0], variance = g.dataVariance();
    EXPECT_LT(std::abs(x.mean() - mean) / std::sqrt(variance / n), 3);
    const Eigen::ArrayXd d = x.array() - mean;
    const double fourth = d.pow(4).mean(), second = d.square().mean();
    EXPECT_LT(std::abs(second - variance) / std::sqrt((fourth - second * second) / n), 3);
    // Shares of the three wells, cut at the minima between them, by the closed form of their error functions.
    const double cuts[] = {-std::numeric_limits<double>::infinity(), -1.0, 1.5, std::numeric_limits<double>::infinity()};
    for (int i = 0; i < 3; i++) {
        double p = 0;
        for (int k = 0; k < 3; k++)
            p += 0.5 * g.weights()[k] * (std::erf((cuts[i + 1] - g.means()(0, k)) / 0.75 / std::sqrt(2.0)) - std::erf((cuts[i] - g.means()(0, k)) / 0.75 / std::sqrt(2.0)));
        const double share = ((x.array() > cuts[i]) && (x.array() < cuts[i + 1])).cast<double>().mean();
        EXPECT_LT(std::abs(share - p) / std::sqrt(p * (1 - p) / n), 3) << i;
    }
    // Few steps suffice because each has the right mean and covariance; the ancestral step of the same length is narrower.
    o.steps = 24;
    const Eigen::ArrayXd coarse = sampleReverseSde(g, n, o).row(0).transpose().array() - mean;
    o.covariance = false;
    const Eigen::ArrayXd ancestral = sampleReverseSde(g, n, o).row(0).transpose().array() - mean;
    EXPECT_LT(std::abs(coarse.square().mean() / variance - 1), 0.03);
    EXPECT_LT(ancestral.square().mean() / variance - 1, -0.1);
}

TEST(ReverseSde, GaussianInAnyNumberOfSteps) {
    const GaussianMixtureModel g(MatrixXd::Constant(1, 1, 0.4), VectorXd::Constant(1, 1.5), VectorXd::Ones(1));
    SamplingOptions o;
    for (int steps : {1, 5, 50}) {
        o.steps = steps;
        const Eigen::ArrayXd x = sampleReverseSde(g, 20000, o).row(0).transpose().array();
        EXPECT_LT(std::abs(x.mean() - 0.4) / std::sqrt(1.5 / 20000), 3) << steps;
        EXPECT_LT(std::abs((x - 0.4).square().mean() / 1.5 - 1) / std::sqrt(2.0 / 20000), 3) << steps;
    }
}

TEST(ReverseSde, SeedDecidesAndTorsionsAreAngles) {
    const auto grid = torus(36);
    SamplingOptions o;
    o.steps = 60;
    const MatrixXd x = sampleReverseSde(grid, 2000, o);
    EXPECT_EQ(x.rows(), 2);
    EXPECT_LE(x.cwiseAbs().maxCoeff(), M_PI);
    EXPECT_EQ(sampleReverseSde(grid, 2000, o), x);
    EXPECT_LT((sampleReverseSde(grid, 7, o) - x.leftCols(7)).cwiseAbs().maxCoeff(), 1e-12);
    o.seed = 2;
    EXPECT_GT((sampleReverseSde(grid, 7, o) - x.leftCols(7)).cwiseAbs().minCoeff(), 0);
    // E cos(2 b) = I1(1.5)/I0(1.5), whatever a is.
    const Eigen::ArrayXd c = (2 * x.row(1)).transpose().array().cos();
    const double exact = std::cyl_bessel_i(1, 1.5) / std::cyl_bessel_i(0, 1.5);
    EXPECT_LT(std::abs(c.mean() - exact) / std::sqrt((c - c.mean()).square().mean() / 2000), 3);
}

TEST(Pullback, JacobianOfTheDecoder) {
    const auto g = plane();
    const MatrixXd y = encode(g, drawn(g, 10, 11), -3).y;
    MatrixXd clean;
    const auto M = decoderJacobian(g, y, -3, {}, &clean);
    EXPECT_LT((clean - decode(g, y, -3).y).cwiseAbs().maxCoeff(), 1e-7);
    const double h = 1e-4;
    for (int i = 0; i < 2; i++) {
        MatrixXd up = y, down = y;
        up.row(i).array() += h;
        down.row(i).array() -= h;
        const MatrixXd difference = (decode(g, up, -3).y - decode(g, down, -3).y) / (2 * h);
        for (int k = 0; k < 10; k++)
            EXPECT_LT((M[k].col(i) - difference.col(k)).norm(), 1e-5 * (1 + M[k].norm()));
    }
    // In one dimension the flow carries the density: dc/dy = p_l(y)/q(c).
    const auto w = threeWells();
    const VectorXd latent = encode(w, VectorXd::LinSpaced(9, -4, 4).transpose(), -5).y.transpose();
    const auto J = decoderJacobian(w, latent.transpose(), -5, {}, &clean);
    for (int k = 0; k < 9; k++)
        EXPECT_NEAR(std::log(J[k](0, 0)), logMixture(w, latent.segment(k, 1), -5) - logMixture(w, clean.col(k), w.dataLogSnr()), 1e-6);
}

TEST(Pullback, GeodesicsDecodeToStraightSegments) {
    const auto g = plane();
    MatrixXd ends(2, 2);
    ends << -1.6, 1.5, 0.4, -0.6;
    const MatrixXd y = encode(g, ends, -3).y;
    PullbackOptions o;
    o.numPoints = 17;
    const PullbackCurve direct = pullbackGeodesic(g, y.col(0), y.col(1), -3, o);
    EXPECT_EQ(direct.latent.cols(), 17);
    EXPECT_EQ(direct.latent.col(0), y.col(0));
    EXPECT_LT(direct.deviation, 1e-6);
    EXPECT_NEAR(direct.energy / (ends.col(1) - ends.col(0)).squaredNorm(), 1, 1e-6);
    // The latent curve is far from straight, and the straight one decodes to something longer.
    const PullbackCurve found = minimizePullbackEnergy(g, y.col(0), y.col(1), -3, o);
    EXPECT_TRUE(found.converged);
    EXPECT_NEAR(found.energy / found.segmentEnergy, 1, 1e-3);
    EXPECT_LT(found.deviation, 1e-2);
    EXPECT_LT((found.latent - direct.latent).cwiseAbs().maxCoeff(), 0.1 * (y.col(1) - y.col(0)).norm());
    const PullbackCurve straight = decodeCurve(g, y.col(0).replicate(1, 17) + (y.col(1) - y.col(0)) * Eigen::RowVectorXd::LinSpaced(17, 0, 1), -3);
    EXPECT_GT(straight.energy, 1.05 * found.energy);
}

TEST(Flow, ProgressIsToldAndStops) {
    const auto g = threeWells();
    const MatrixXd x = drawn(g, 5, 1);
    FlowOptions o;
    double last = 0;
    bool rising = true;
    o.progress = [&](double fraction) {
        rising = rising && fraction >= last;
        last = fraction;
        return true;
    };
    encode(g, x, -3, o);
    EXPECT_TRUE(rising);
    EXPECT_NEAR(last, 1, 1e-12);
    o.progress = [](double) { return false; };
    expectError<std::runtime_error>([&] { encode(g, x, -3, o); }, {"encode", "stopped"});
    SamplingOptions s;
    s.progress = o.progress;
    expectError<std::runtime_error>([&] { sampleReverseSde(g, 5, s); }, {"sampleReverseSde", "stopped"});
}

TEST(Flow, BadInput) {
    const auto g = threeWells();
    MatrixXd x = drawn(g, 5, 1);
    expectError([&] { encode(g, MatrixXd::Zero(2, 3), -3); }, {"expected 1 values a sample, got 2"});
    expectError([&] { encode(g, x, NaN); }, {"encode", "finite log-SNR"});
    expectError([&] { encode(g, x, 20); }, {"below that of clean data", "14.39", "got 20"});
    expectError([&] { decode(g, x, 20); }, {"decode", "below that of clean data"});
    expectError([&] { decode(g, MatrixXd::Constant(1, 1, 1e308), -3); }, {"decode: point 0"});
    expectError([&] { decode(g, MatrixXd::Zero(3, 2), -3); }, {"points of 1 coordinates", "got 3"});
    FlowOptions o;
    o.tolerance = 0;
    expectError([&] { encode(g, x, -3, o); }, {"positive tolerance"});
    o = {};
    o.solver = FlowOptions::Solver::Heun;
    o.steps = 0;
    expectError([&] { encode(g, x, -3, o); }, {"at least 1 step"});
    o = {};
    o.dataLogSnr = -5;
    expectError([&] { encode(g, x, -3, o); }, {"below that of clean data, -5, got -3"});
    const MomentsOnly trained(g, -6);
    expectError([&] { encode(trained, x, -8); }, {"trained down to a log-SNR of -6, got -8"});
    expectError([&] { encode(trained, MatrixXd::Constant(1, 1, 50), -3); }, {"point 0 is outside the range"});
    LikelihoodOptions likelihood;
    likelihood.integrate = true;
    likelihood.baseLogSnr = 3;
    expectError([&] { logLikelihood(g, x, 1, likelihood); }, {"base below the log-SNR"});
    expectError([&] { sampleReverseSde(g, 0); }, {"at least 1 sample"});
    SamplingOptions s;
    s.startLogSnr = 30;
    expectError([&] { sampleReverseSde(g, 3, s); }, {"start below the log-SNR of clean data"});
    PullbackOptions p;
    p.numPoints = 2;
    expectError([&] { pullbackGeodesic(g, x.col(0), x.col(1), -3, p); }, {"at least 3 points"});
    expectError([&] { decodeCurve(g, x.leftCols(1), -3); }, {"at least 2 points"});
    x(0, 2) = NaN;
    expectError([&] { encode(g, x, -3); }, {"sample 2", "not finite"});
    expectError([&] { decode(g, x, -3); }, {"point 2", "not finite"});
    expectError([&] { logLikelihood(g, x, -3); }, {"point 2", "not finite"});
}
