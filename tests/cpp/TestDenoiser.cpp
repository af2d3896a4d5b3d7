// SPDX-License-Identifier: MIT
// Denoisers in closed form, in every schedule and prediction, against the models they are made of.
#include "ExpectError.h"
#include "spacetime/Curve.h"
#include "spacetime/DenoiserModel.h"
#include "spacetime/Models.h"
#include "spacetime/Solver.h"
#include <cmath>
#include <functional>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <random>

using namespace Spacetime;
using Eigen::Index;
using Eigen::MatrixXd;
using Eigen::VectorXd;
using Order = PosteriorModel::Order;
using nlohmann::json;

namespace {

GaussianMixtureModel mixture() {
    MatrixXd means(2, 3);
    means << -1.0, 1.2, 0.3, 0.4, -0.2, 1.1;
    return GaussianMixtureModel(means, Eigen::Vector3d(0.05, 0.1, 0.2), Eigen::Vector3d(0.5, 0.3, 0.2));
}

double sigma(const std::string& schedule, double l) { return scheduleAlpha(schedule, l) * std::exp(-0.5 * l); }

/// The prediction that a perfect network of this kind makes at (x, l), written from its definition.
VectorXd perfect(const std::string& prediction, const VectorXd& x, const VectorXd& chat, double alpha, double sigma, double sigmaData) {
    const VectorXd eps = (x - alpha * chat) / sigma;
    if (prediction == "x0")
        return chat;
    if (prediction == "eps")
        return eps;
    if (prediction == "score")
        return -eps / sigma;
    if (prediction == "v")
        return alpha * eps - sigma * chat;
    if (prediction == "flow")
        return eps - chat;
    const double s = sigma / alpha, d = sigmaData;  // Karras et al. 2022, table 1
    return (chat - d * d / (s * s + d * d) * x / alpha) * std::sqrt(s * s + d * d) / (s * d);
}

/// A perfect denoiser of a model's posterior. With `plain` its derivatives are the differences of the base class.
class PerfectDenoiser : public DenoiserModel {
public:
    PerfectDenoiser(const PosteriorModel& m, DenoiserParameters p, bool plain = false) : DenoiserModel("PerfectDenoiser", std::move(p)), model(m), plainDifferences(plain) {}

    /// Changes predictions on their way out.
    std::function<void(Predictions&)> spoil;

protected:
    Predictions predict(const Inputs& inputs, bool derivatives) const override {
        if (derivatives && plainDifferences)
            return differences(inputs, 1e-15);
        Predictions out;
        out.values = values(inputs.x, inputs.level);
        if (derivatives) {
            // Differences of fourth and sixth order leave errors of 1e-12.
            const Index D = inputs.x.rows(), n = inputs.x.cols();
            out.jacobian.assign(n, MatrixXd::Zero(D, D + 1));
            const double weight[] = {3.0 / 4, -3.0 / 20, 1.0 / 60};
            for (Index k = 0; k <= D; k++)
                for (int j = 1; j <= 3; j++)
                    for (int side : {1, -1}) {
                        MatrixXd x = inputs.x;
                        VectorXd level = inputs.level, h(n);
                        h = k < D ? VectorXd(2e-3 * inputs.noise) : VectorXd::Constant(n, parameters().prediction == "edm" ? 2e-4 : 2e-3);
                        if (k < D)
                            x.row(k) += side * j * h.transpose();
                        else
                            level += side * j * h;
                        const MatrixXd at = values(x, level);
                        for (Index i = 0; i < n; i++)
                            out.jacobian[i].col(k) += side * weight[j - 1] / h[i] * at.col(i);
                    }
        }
        if (spoil)
            spoil(out);
        return out;
    }
    double predictionError() const override { return 1e-15; }
    double derivativeError() const override { return plainDifferences ? 1e-10 : 1e-12; }

private:
    MatrixXd values(const MatrixXd& inputs, const VectorXd& level) const {
        const DenoiserParameters& p = parameters();
        const Index D = inputs.rows(), n = inputs.cols(), m = model.numStatistics();
        MatrixXd eta(m, n), x(D, n);
        VectorXd alphas(n), sigmas(n);
        for (Index i = 0; i < n; i++) {
            const double l = p.prediction == "edm" ? -8 * level[i] : level[i];
            alphas[i] = scheduleAlpha(p.schedule, l);
            sigmas[i] = sigma(p.schedule, l);
            const double s = sigmas[i] / alphas[i];
            x.col(i) = p.prediction == "edm" ? VectorXd(inputs.col(i) * std::hypot(s, p.sigmaData) * alphas[i]) : VectorXd(inputs.col(i));
            eta.col(i).tail(D) = alphas[i] / (sigmas[i] * sigmas[i]) * x.col(i);
            if (m > D)
                eta(0, i) = -0.5 * std::exp(l);
        }
        const MatrixXd mu = model.moments(eta, Order::Mean).mu;
        MatrixXd out(D, n);
        for (Index i = 0; i < n; i++)
            out.col(i) = perfect(p.prediction, x.col(i), mu.col(i).tail(D), alphas[i], sigmas[i], p.sigmaData);
        return out;
    }

    const PosteriorModel& model;
    bool plainDifferences;
};

DenoiserParameters parametersFor(const PosteriorModel& model, const std::string& schedule, const std::string& prediction) {
    DenoiserParameters p;
    p.variables = model.variables();
    p.schedule = schedule;
    p.prediction = prediction;
    p.sigmaData = 0.7;
    p.minLogSnr = -6;
    p.maxLogSnr = 6;
    p.dataMean = model.dataMean();
    p.dataVariance = model.dataVariance();
    return p;
}

/// Noisy points as they come: clean ones of spread 1.2 at a log-SNR between -3 and `highest`.
MatrixXd points(const Variables& v, int count, double highest = 5) {
    std::mt19937_64 random(11);
    std::uniform_real_distribution<double> uniform(-1, 1);
    MatrixXd eta(v.numStatistics(), count);
    for (int c = 0; c < count; c++) {
        VectorXd raw(v.size());
        for (int i = 0; i < v.size(); i++)
            raw[i] = v[i].lifted() ? M_PI * uniform(random) : 1.2 * uniform(random);
        eta.col(c) = v.naturalParameter(raw, -3 + (highest + 3) * 0.5 * (1 + uniform(random)));
    }
    return eta;
}

/// Largest errors relative to the size of what they are errors of, at the worst point.
struct Errors {
    double mu = 0, J = 0, third = 0;
};

Errors compareMoments(const PosteriorModel& a, const PosteriorModel& b, const MatrixXd& eta) {
    const Index n = eta.cols();
    MatrixXd direction = MatrixXd::Ones(eta.rows(), n);
    if (a.variables().hasQuadratic())
        direction.row(0).setConstant(-0.3);
    const Moments x = a.moments(eta, Order::Third, &direction), y = b.moments(eta, Order::Third, &direction);
    Errors e;
    for (Index i = 0; i < n; i++) {
        e.mu = std::max(e.mu, (x.mu.col(i) - y.mu.col(i)).norm() / y.mu.col(i).norm());
        e.J = std::max(e.J, (x.J[i] - y.J[i]).norm() / y.J[i].norm());
        e.third = std::max(e.third, (x.third[i] - y.third[i]).norm() / y.third[i].norm());
    }
    return e;
}

class EveryDenoiser : public ::testing::TestWithParam<std::tuple<std::string, std::string>> {};

}  // namespace

TEST_P(EveryDenoiser, GivesTheMomentsOfTheMixture) {
    const GaussianMixtureModel exact = mixture();
    const auto [schedule, prediction] = GetParam();
    const PerfectDenoiser model(exact, parametersFor(exact, schedule, prediction));
    const MatrixXd eta = points(exact.variables(), 40);
    const Errors e = compareMoments(model, exact, eta);
    EXPECT_LT(e.mu, 1e-9);
    EXPECT_LT(e.J, 1e-6);
    EXPECT_LT(e.third, 1e-4);
    const PerfectDenoiser plain(exact, parametersFor(exact, schedule, prediction), true);
    const Errors f = compareMoments(plain, exact, eta);
    EXPECT_LT(f.mu, 1e-7);
    EXPECT_LT(f.J, 1e-4);
    EXPECT_LT(f.third, 5e-3);
}

TEST_P(EveryDenoiser, GivesTheProductsOfTheMixture) {
    const GaussianMixtureModel exact = mixture();
    const auto [schedule, prediction] = GetParam();
    const PerfectDenoiser model(exact, parametersFor(exact, schedule, prediction));
    const MatrixXd eta = points(exact.variables(), 40);
    // Along eta_l alone, along eta_x alone, along both, and not at all.
    MatrixXd direction = MatrixXd::Random(3, 40);
    direction.row(0).segment(0, 10).setZero();
    direction.bottomRows(2).middleCols(10, 10).setZero();
    direction.rightCols(3).setZero();
    const Moments moments = exact.moments(eta);
    const MeanProducts got = model.products(eta, direction);
    for (Index i = 0; i < 40; i++) {
        const VectorXd expected = (moments.J[i] * direction.col(i)).tail(2);
        EXPECT_LT((got.mean.col(i) - moments.mu.col(i).tail(2)).norm(), 1e-9 * (1 + moments.mu.col(i).norm()));
        EXPECT_LT((got.product.col(i) - expected).norm(), 1e-7 * moments.J[i].norm() * direction.col(i).norm() + 1e-15) << i;
    }
}

TEST_P(EveryDenoiser, HasTheGeodesicOfTheMixture) {
    const GaussianMixtureModel exact = mixture();
    const auto [schedule, prediction] = GetParam();
    const PerfectDenoiser model(exact, parametersFor(exact, schedule, prediction));
    const VectorXd a = exact.variables().naturalParameter(Eigen::Vector2d(-1, 0.4), 4), b = exact.variables().naturalParameter(Eigen::Vector2d(1.2, -0.2), 4);
    GeodesicOptions options;
    options.numPoints = 33;
    const auto best = geodesic(model, a, b, options)[0], reference = geodesic(exact, a, b, options)[0];
    EXPECT_TRUE(best.converged) << best.residual;
    EXPECT_NEAR(best.measure.length / reference.measure.length, 1, 1e-4);
    EXPECT_NEAR(best.measure.length, reference.measure.length, 1e-5);
}

INSTANTIATE_TEST_SUITE_P(All, EveryDenoiser,
                         ::testing::Combine(::testing::Values("vp", "cosine", "ve", "edm", "flow"), ::testing::Values("x0", "eps", "score", "v", "flow", "edm")),
                         [](const auto& info) { return std::string(std::get<0>(info.param)) + "_" + std::get<1>(info.param); });

namespace {

/// Samples of two torsions, with structure; or of a torsion and a number.
EmpiricalModel torsionSamples(bool mixed) {
    std::mt19937_64 random(3);
    std::normal_distribution<double> normal;
    MatrixXd raw(2, 2000);
    for (Index i = 0; i < raw.cols(); i++) {
        const double centre = i % 3 == 0 ? 2.8 : -0.5;
        raw.col(i) << centre + 0.4 * normal(random), 0.3 * centre + 0.5 * normal(random);
    }
    return EmpiricalModel(Variables({Variable::torsion("phi"), mixed ? Variable::number("q") : Variable::torsion("psi")}), raw);
}

}  // namespace

// Torsions alone have no eta_l: the noise at which the denoiser is asked must not matter, within the range and where it is clamped to its ends.
TEST(LiftedDenoiser, GivesTheMomentsOfTheSamples) {
    for (const bool mixed : {false, true})
        for (const char* prediction : {"x0", "eps", "v"}) {
            const EmpiricalModel exact = torsionSamples(mixed);
            DenoiserParameters p = parametersFor(exact, "vp", prediction);
            if (!mixed) {
                p.minLogSnr = -1;
                p.maxLogSnr = 3;
            }
            const PerfectDenoiser model(exact, p);
            const MatrixXd eta = points(exact.variables(), 30, 3);
            const Errors e = compareMoments(model, exact, eta);
            EXPECT_LT(e.mu, 1e-9) << prediction << (mixed ? ", mixed" : "");
            EXPECT_LT(e.J, 1e-6) << prediction << (mixed ? ", mixed" : "");
            EXPECT_LT(e.third, 1e-4) << prediction << (mixed ? ", mixed" : "");
        }
    const EmpiricalModel exact = torsionSamples(false);
    const PerfectDenoiser model(exact, parametersFor(exact, "vp", "x0"));
    const Moments zero = model.moments(MatrixXd::Zero(4, 1)), expected = exact.moments(MatrixXd::Zero(4, 1));
    EXPECT_LT((zero.mu - expected.mu).norm(), 1e-9);
    EXPECT_LT((zero.J[0] - expected.J[0]).norm(), 1e-7);
}

// With an imperfect denoiser mu depends on the noise that was chosen for the tilt; J must be its derivative all the same.
TEST(LiftedDenoiser, DifferentiatesTheNoiseItChose) {
    const EmpiricalModel exact = torsionSamples(false);
    class Imperfect : public DenoiserModel {
    public:
        explicit Imperfect(const DenoiserParameters& p) : DenoiserModel("Imperfect", p) {}

    protected:
        Predictions predict(const Inputs& in, bool) const override {
            Predictions out{in.x, {}};
            for (Index i = 0; i < in.x.cols(); i++) {
                out.values.col(i) *= in.level[i];
                MatrixXd J(in.x.rows(), in.x.rows() + 1);
                J << in.level[i] * MatrixXd::Identity(in.x.rows(), in.x.rows()), in.x.col(i);
                out.jacobian.push_back(J);
            }
            return out;
        }
        double derivativeError() const override { return 1e-15; }
    };
    const Imperfect model(parametersFor(exact, "vp", "eps"));
    const MatrixXd eta = points(exact.variables(), 10);
    const Moments at = model.moments(eta);
    const double h = 1e-5;
    for (int k = 0; k < 4; k++) {
        MatrixXd moved = eta;
        moved.row(k).array() += h;
        const MatrixXd plus = model.moments(moved, Order::Mean).mu;
        moved.row(k).array() -= 2 * h;
        const MatrixXd slope = (plus - model.moments(moved, Order::Mean).mu) / (2 * h);
        for (Index i = 0; i < eta.cols(); i++)
            EXPECT_LT((slope.col(i) - at.J[i].col(k)).norm(), 1e-7 * (1 + at.J[i].norm()));
    }
}

// A test of a forward mode must let a right one pass and a wrong one not, whichever way it is wrong.
TEST(Denoiser, JudgesProductsAgainstDifferences) {
    class Linear : public DenoiserModel {
    public:
        Linear(const DenoiserParameters& p, double x, double l, double v) : DenoiserModel("Linear", p), byX(x), byLevel(l), value(v) {}
        int wrong() const { return disagreeingProducts(trialInputs(8)); }

    protected:
        Predictions predict(const Inputs& in, bool) const override {
            Predictions out;
            out.values = in.x;
            for (Index i = 0; i < in.x.cols(); i++)
                out.values.col(i) *= std::sin(in.level[i]);
            return out;
        }
        MatrixXd predictAlong(const Inputs& in, const MatrixXd& alongX, const VectorXd& alongLevel, MatrixXd& values) const override {
            values = value * predict(in, false).values;
            MatrixXd out(alongX.rows(), alongX.cols());
            for (Index i = 0; i < in.x.cols(); i++)
                out.col(i) = byX * std::sin(in.level[i]) * alongX.col(i) + byLevel * alongLevel[i] * std::cos(in.level[i]) * in.x.col(i);
            return out;
        }
        double predictionError() const override { return 1e-15; }
        double derivativeError() const override { return 1e-15; }

    private:
        double byX, byLevel, value;
    };
    for (const int D : {2, 300}) {
        DenoiserParameters p;
        std::vector<Variable> names;
        for (int i = 0; i < D; i++)
            names.push_back(Variable::number("x" + std::to_string(i)));
        p.variables = Variables(names);
        p.minLogSnr = -4;
        p.maxLogSnr = 5;
        EXPECT_EQ(Linear(p, 1, 1, 1).wrong(), 0);
        EXPECT_GT(Linear(p, 1.1, 1, 1).wrong(), 6);
        EXPECT_GT(Linear(p, 1, 0, 1).wrong(), 6);
        EXPECT_GT(Linear(p, 1, 1, 1.1).wrong(), 6);
        const Linear model(p, 1, 1, 1);
        const VectorXd eta = p.variables.naturalParameter(VectorXd::Ones(D), 1);
        if (D == 300)
            expectError([&] { model.moments(eta); }, {"Linear", "300 coordinates", "at most 256", "products()", "matrixFreeGeodesic()"});
    }
}

TEST(Denoiser, CountsEvaluationsAndKnowsItsRange) {
    const GaussianMixtureModel exact = mixture();
    DenoiserParameters p = parametersFor(exact, "vp", "x0");
    p.dataRange.resize(2, 2);
    p.dataRange << -2, -1, 2, 1.5;
    const PerfectDenoiser model(exact, p);
    const MatrixXd eta = points(exact.variables(), 4);
    model.moments(eta, Order::Mean);
    EXPECT_EQ(model.evaluations(), 4);
    model.moments(eta);
    EXPECT_EQ(model.evaluations(), 16);
    model.moments(eta, Order::Third, &eta);
    EXPECT_EQ(model.evaluations(), 52);
    EXPECT_FALSE(model.isExact());
    EXPECT_FALSE(model.hasPsi());
    EXPECT_EQ(model.moments(eta).psi.size(), 0);
    const Variables& v = exact.variables();
    model.checkRange(v.naturalParameter(Eigen::Vector2d(1, 1), 6), "the point");
    auto check = [&](const VectorXd& at) { return [&model, at] { model.checkRange(at, "the start"); }; };
    expectError(check(v.naturalParameter(Eigen::Vector2d(1, 1), 6.1)), {"the start", "log-SNR 6.1", "-6 to 6"});
    expectError(check(v.naturalParameter(Eigen::Vector2d(1, 1), -7)), {"log-SNR -7"});
    expectError(check(v.naturalParameter(Eigen::Vector2d(2.9, 1), 1)), {"'x1' = 2.9", "-2 to 2"});
    expectError(check(VectorXd::Zero(3)), {"eta_l is 0"});
    expectError([&] { model.moments(MatrixXd::Zero(3, 1)); }, {"eta_l = 0", "expected a negative number"});
    const EmpiricalModel torsions = torsionSamples(false);
    const PerfectDenoiser lifted(torsions, parametersFor(torsions, "vp", "x0"));
    expectError([&] { lifted.checkRange(torsions.variables().naturalParameter(Eigen::Vector2d(1, 1), 7), "the end"); }, {"the end", "kappa"});
}

// Without bounds the way between two states leads through low log-SNR: not lower than the model was trained.
TEST(Denoiser, GeodesicsStayInTheTrainedRange) {
    const GaussianMixtureModel exact = mixture();
    DenoiserParameters p = parametersFor(exact, "flow", "flow");
    p.minLogSnr = 1;
    const PerfectDenoiser model(exact, p);
    const VectorXd a = exact.variables().naturalParameter(Eigen::Vector2d(-1, 0.4), 4), b = exact.variables().naturalParameter(Eigen::Vector2d(1.2, -0.2), 4);
    GeodesicOptions options;
    options.numPoints = 33;
    const auto best = geodesic(model, a, b, options)[0];
    EXPECT_GT(best.curve.eta().row(0).maxCoeff(), -0.5 * std::exp(1.01));
    EXPECT_LT(best.curve.eta().row(0).maxCoeff(), -0.5 * std::exp(0.999));
    GeodesicOptions bounded = options;
    bounded.minLogSnr = 1;
    EXPECT_NEAR(best.measure.length, geodesic(exact, a, b, bounded)[0].measure.length, 1e-5);
}

// What needs psi is refused, what does not works.
TEST(Denoiser, ConstraintsWithoutPsi) {
    const GaussianMixtureModel exact = mixture();
    const PerfectDenoiser model(exact, parametersFor(exact, "vp", "eps"));
    const VectorXd a = exact.variables().naturalParameter(Eigen::Vector2d(-1, 0.4), 4), b = exact.variables().naturalParameter(Eigen::Vector2d(1.2, -0.2), 4);
    GeodesicOptions options;
    options.numPoints = 17;
    options.maxVariance = 0.3;
    const auto best = geodesic(model, a, b, options)[0], reference = geodesic(exact, a, b, options)[0];
    EXPECT_NEAR(best.measure.length / reference.measure.length, 1, 1e-4);
    options.barrierWeight = 0.1;
    expectError([&] { geodesic(model, a, b, options); }, {"psi"});
    options.barrierWeight = 0;
    options.avoid.push_back({a, 1.0});
    expectError([&] { constraintValues(model, best.curve, options); }, {"psi"});
}

TEST(Denoiser, RefusesWhatItCannotUse) {
    const GaussianMixtureModel exact = mixture();
    auto made = [&](const std::function<void(DenoiserParameters&)>& change) {
        return [&exact, change] {
            DenoiserParameters p = parametersFor(exact, "vp", "x0");
            change(p);
            PerfectDenoiser model(exact, p);
        };
    };
    expectError(made([](auto& p) { p.schedule = "linear"; }), {"schedule", "expected vp, cosine, ve, edm or flow", "'linear'"});
    expectError(made([](auto& p) { p.prediction = "noise"; }), {"prediction", "expected x0, eps, score, v, flow or edm", "'noise'"});
    expectError(made([](auto& p) { p.maxLogSnr = -7; }), {"log-SNR range", "-6 to -7"});
    expectError(made([](auto& p) { p.maxLogSnr = INFINITY; }), {"log-SNR range"});
    expectError(made([](auto& p) { p.sigmaData = 0; }), {"sigma_data"});
    expectError(made([](auto& p) { p.dataVariance = -1; }), {"variance"});
    expectError(made([](auto& p) { p.dataMean = VectorXd::Zero(3); }), {"mean of 2"});
    expectError(made([](auto& p) { p.dataRange = MatrixXd::Zero(2, 2); }), {"data range", "lower end first"});
    expectError(made([](auto& p) { p.temperature = -300; }), {"temperature"});

    PerfectDenoiser model(exact, parametersFor(exact, "vp", "eps"));
    const MatrixXd eta = exact.variables().naturalParameter(Eigen::Vector2d(1, 0.5), 2);
    model.spoil = [](auto& out) { out.values(1, 0) = NAN; };
    expectError([&] { model.moments(eta); }, {"PerfectDenoiser", "prediction is not finite", "log-SNR 2", "x = (0.9", "nan"});
    model.spoil = [](auto& out) {
        if (!out.jacobian.empty())
            out.jacobian[0](0, 0) = INFINITY;
    };
    expectError([&] { model.moments(eta); }, {"derivative is not finite", "inf"});
}

TEST(Denoiser, MetadataRoundTrip) {
    const EmpiricalModel samples = torsionSamples(true);
    DenoiserParameters p = parametersFor(samples, "flow", "edm");
    p.temperature = 300;
    p.dataRange.resize(2, 2);
    p.dataRange << NAN, -1, NAN, 2;
    const json j = p.toJson();
    EXPECT_EQ(DenoiserParameters::fromJson(j, "here").toJson(), j);
    EXPECT_TRUE(DenoiserParameters::fromJson(
                    json{{"format", "spacetime-model"}, {"version", 1}, {"variables", {"a", "b"}}, {"schedule", "vp"}, {"prediction", "x0"}, {"log_snr_range", {0, 1}}}, "here")
                    .variables.hasQuadratic());
    auto read = [&](const std::string& key, const json& value) {
        return [j, key, value] {
            json changed = j;
            if (value.is_null())
                changed.erase(key);
            else
                changed[key] = value;
            DenoiserParameters::fromJson(changed, "here");
        };
    };
    expectError(read("format", "x"), {"here", "'format'", "spacetime-model"});
    expectError(read("version", 2), {"'version'", "upgrade"});
    expectError(read("version", json()), {"'version'"});
    expectError(read("variables", json()), {"'variables'"});
    expectError(read("variables", "x"), {"'variables'", "list"});
    expectError(read("schedule", json()), {"'schedule'"});
    expectError(read("prediction", 7), {"'prediction'"});
    expectError(read("log_snr_range", json()), {"'log_snr_range'"});
    expectError(read("log_snr_range", {1.0, 2.0, 3.0}), {"'log_snr_range'", "two numbers"});
    expectError(read("log_snr_range", {"a", "b"}), {"'log_snr_range'"});
    expectError(read("data_mean", "x"), {"'data_mean'"});
}
