// SPDX-License-Identifier: MIT
// Moments against quadrature, derivatives against finite differences, and what the models refuse.
#include "Bessel.h"
#include "ExpectError.h"
#include "spacetime/Models.h"
#include <algorithm>
#include <cmath>
#include <functional>
#include <gtest/gtest.h>
#include <memory>
#include <random>
#include <thread>

using namespace Spacetime;
using Eigen::MatrixXd;
using Eigen::VectorXd;
using Order = PosteriorModel::Order;

namespace {

GaussianMixtureModel mixture2d() {
    MatrixXd means(2, 3);
    means << -1.5, 0.4, 1.6, 0.2, -0.8, 1.0;
    return GaussianMixtureModel(means, Eigen::Vector3d(0.3, 0.5, 0.2), Eigen::Vector3d(0.5, 0.3, 0.2));
}

/// First and second moments of T under q exp(eta·T), on a fine grid.
void quadrature(const Variables& vars, const std::function<double(double, double)>& density, const VectorXd& eta, double low, double high, int n, double& psi, VectorXd& mu,
                MatrixXd& H) {
    const double h = (high - low) / n;
    double Z = 0, total = 0;
    mu = VectorXd::Zero(eta.size());
    MatrixXd second = MatrixXd::Zero(eta.size(), eta.size());
    for (int i = 0; i < n; i++)
        for (int j = 0; j < n; j++) {
            const double a = low + (i + 0.5) * h, b = low + (j + 0.5) * h, q = density(a, b) * h * h;
            const VectorXd T = vars.statistic(Eigen::Vector2d(a, b));
            const double w = q * std::exp(eta.dot(T));
            total += q;
            Z += w;
            mu += w * T;
            second += w * T * T.transpose();
        }
    mu /= Z;
    H = second / Z - mu * mu.transpose();
    psi = std::log(Z / total);
}

void expectDerivatives(const PosteriorModel& model, const VectorXd& eta, double tolerance) {
    const Eigen::Index m = eta.size();
    const VectorXd direction = VectorXd::LinSpaced(m, -0.7, 1.1);
    const MatrixXd dir = direction;
    const Moments at = model.moments(eta, Order::Third, &dir);
    const double h = 1e-4;
    for (Eigen::Index j = 0; j < m; j++) {
        VectorXd plus = eta, minus = eta;
        plus[j] += h;
        minus[j] -= h;
        const Moments a = model.moments(plus), b = model.moments(minus);
        EXPECT_NEAR((a.psi[0] - b.psi[0]) / (2 * h), at.mu(j, 0), tolerance) << "psi, component " << j;
        const VectorXd column = (a.mu.col(0) - b.mu.col(0)) / (2 * h);
        EXPECT_LT((column - at.J[0].col(j)).norm(), tolerance) << "H, component " << j;
    }
    const Moments a = model.moments(eta + h * direction), b = model.moments(eta - h * direction);
    EXPECT_LT(((a.J[0] - b.J[0]) / (2 * h) - at.third[0]).norm(), tolerance) << "third cumulant";
}

double torsionDensity(double a, double b) { return std::exp(1.5 * std::cos(a - 1) + 2 * std::cos(b + 0.5) + std::cos(a + b)); }

EmpiricalModel torsionGrid(int n) {
    MatrixXd x(2, n * n);
    VectorXd w(n * n);
    for (int i = 0; i < n; i++)
        for (int j = 0; j < n; j++) {
            x.col(i * n + j) << -M_PI + (i + 0.5) * 2 * M_PI / n, -M_PI + (j + 0.5) * 2 * M_PI / n;
            w[i * n + j] = std::log(torsionDensity(x(0, i * n + j), x(1, i * n + j)));
        }
    EmpiricalModel::Options o;
    o.grid = true;
    return EmpiricalModel(Variables({Variable::torsion("a"), Variable::torsion("b")}), x, w, o);
}

const Variable gridVariables[] = {Variable::torsion("t1"), Variable::torsion("t2"), Variable::number("u1"), Variable::number("u2")};

/// An n1 x n2 grid in shuffled order with some weights zero, and the same samples with one more, of no weight, off the grid.
struct GridPair {
    Variables vars;
    MatrixXd raw;
    VectorXd logWeights;
    std::unique_ptr<EmpiricalModel> product, kernel;

    GridPair(int first, int second, int n1, int n2, const std::function<double(double, double)>& logDensity) {
        Variable a = gridVariables[first], b = gridVariables[second];
        for (Variable* v : {&a, &b})
            if (!v->lifted()) {
                v->shift = 0.3;
                v->scale = 1.7;
            }
        vars = Variables({a, b});
        std::vector<int> order(n1 * n2);
        for (int k = 0; k < n1 * n2; k++)
            order[k] = k;
        std::shuffle(order.begin(), order.end(), std::mt19937(11));
        raw.resize(2, n1 * n2 + 1);
        logWeights.resize(n1 * n2 + 1);
        for (int k = 0; k < n1 * n2; k++) {
            const int i = order[k] / n2, j = order[k] % n2;
            raw.col(k) << -M_PI + (i + 0.5) * 2 * M_PI / n1, -M_PI + (j + 0.5) * 2 * M_PI / n2;
            logWeights[k] = logDensity(raw(0, k), raw(1, k));
        }
        raw.col(n1 * n2) << 0.0123, 0.0321;
        logWeights[n1 * n2] = -600;
        EmpiricalModel::Options o;
        o.grid = true;
        product = std::make_unique<EmpiricalModel>(vars, raw.leftCols(n1 * n2), logWeights.head(n1 * n2), o);
        kernel = std::make_unique<EmpiricalModel>(vars, raw, logWeights, o);
    }
};

double gridDensity(double a, double b) {
    // Nothing at all in a corner, so that some weights are zero.
    return a > 1.9 && b < -1.1 ? -INFINITY : 3 * std::log(torsionDensity(a, b));
}

void expectSame(const PosteriorModel& model, const PosteriorModel& reference, const MatrixXd& eta, double tolerance = 1e-10) {
    const MatrixXd direction = VectorXd::LinSpaced(eta.rows(), -0.7, 1.1).replicate(1, eta.cols());
    for (Order order : {Order::Mean, Order::Covariance, Order::Third}) {
        const Moments a = model.moments(eta, order, &direction), b = reference.moments(eta, order, &direction);
        ASSERT_EQ(a.J.size(), b.J.size());
        ASSERT_EQ(a.third.size(), b.third.size());
        for (Eigen::Index i = 0; i < eta.cols(); i++) {
            EXPECT_NEAR(a.psi[i], b.psi[i], tolerance * (1 + std::abs(b.psi[i]))) << "point " << i;
            EXPECT_NEAR(a.nEff[i] / b.nEff[i], 1, tolerance) << "point " << i;
            EXPECT_LT((a.mu.col(i) - b.mu.col(i)).norm(), tolerance * b.mu.col(i).norm()) << "point " << i;
            if (order >= Order::Covariance) {
                EXPECT_LT((a.J[i] - b.J[i]).norm(), tolerance * b.J[i].norm()) << "point " << i;
            }
            if (order == Order::Third) {
                EXPECT_LT((a.third[i] - b.third[i]).norm(), tolerance * b.third[i].norm()) << "point " << i;
            }
        }
    }
}

}  // namespace

TEST(GaussianMixture, MomentsAgainstQuadrature) {
    const GaussianMixtureModel g = mixture2d();
    const MixtureModel::Components& c = g.components();
    auto density = [&](double a, double b) {
        double q = 0;
        for (int k = 0; k < 3; k++)
            q += std::exp(c.logWeights[k]) * c.precision(0, k) / (2 * M_PI) * std::exp(-0.5 * c.precision(0, k) * (Eigen::Vector2d(a, b) - c.mean.col(k)).squaredNorm());
        return q;
    };
    for (double l : {-3.0, 0.0, 2.0}) {
        const VectorXd eta = g.variables().naturalParameter(Eigen::Vector2d(0.3, -0.2), l);
        double psi;
        VectorXd mu;
        MatrixXd H;
        quadrature(g.variables(), density, eta, -7, 7, 500, psi, mu, H);
        const Moments m = g.moments(eta);
        EXPECT_NEAR(m.psi[0], psi, 1e-8);
        EXPECT_LT((m.mu.col(0) - mu).norm(), 1e-8);
        EXPECT_LT((m.J[0] - H).norm(), 1e-7);
        expectDerivatives(g, eta, 1e-6);
    }
}

namespace {

MixtureModel mixtureOf(const Variables& vars, int K, unsigned seed) {
    std::mt19937_64 random(seed);
    std::normal_distribution<double> normal;
    MixtureModel::Components c{VectorXd(K), MatrixXd(2 * vars.numLifted(), K), MatrixXd(vars.numUnlifted(), K), MatrixXd(vars.numUnlifted(), K)};
    for (int k = 0; k < K; k++) {
        c.logWeights[k] = normal(random);
        for (Eigen::Index i = 0; i < c.tilt.rows(); i++)
            c.tilt(i, k) = 5 * normal(random);
        for (Eigen::Index i = 0; i < c.mean.rows(); i++) {
            c.mean(i, k) = normal(random);
            c.precision(i, k) = 2 * std::exp(0.5 * normal(random));
        }
    }
    return MixtureModel(vars, c);
}

}  // namespace

TEST(Mixture, MomentsAgainstQuadrature) {
    const Variables vars({Variable::torsion("phi"), Variable::torsion("psi")});
    const MixtureModel mixture = mixtureOf(vars, 5, 1);
    const MixtureModel::Components& c = mixture.components();
    EXPECT_NEAR(c.logWeights.array().exp().sum(), 1, 1e-14);
    auto density = [&](double a, double b) {
        const Eigen::Vector4d T(std::cos(a), std::sin(a), std::cos(b), std::sin(b));
        double q = 0;
        for (int k = 0; k < 5; k++)
            q += std::exp(c.logWeights[k] + c.tilt.col(k).dot(T)) /
                 (4 * M_PI * M_PI * std::cyl_bessel_i(0, c.tilt.col(k).head(2).norm()) * std::cyl_bessel_i(0, c.tilt.col(k).tail(2).norm()));
        return q;
    };
    for (double l : {-1.0, 2.0, 4.0}) {
        const VectorXd eta = vars.naturalParameter(Eigen::Vector2d(0.3, -2.9), l);
        double psi;
        VectorXd mu;
        MatrixXd H;
        quadrature(vars, density, eta, -M_PI, M_PI, 400, psi, mu, H);
        const Moments m = mixture.moments(eta);
        EXPECT_NEAR(m.psi[0], psi, 1e-9);
        EXPECT_LT((m.mu.col(0) - mu).norm(), 1e-9);
        EXPECT_LT((m.J[0] - H).norm(), 1e-9);
    }
    EXPECT_NEAR(mixture.moments(VectorXd::Zero(4)).psi[0], 0, 1e-14);
}

TEST(Mixture, DerivativesOfEveryKindOfVariable) {
    for (const Variables& vars : {Variables({Variable::torsion("a"), Variable::torsion("b"), Variable::torsion("c")}), Variables({Variable::number("x"), Variable::number("y")}),
                                  Variables({Variable::number("x"), Variable::torsion("a"), Variable::distance("d")})}) {
        const MixtureModel mixture = mixtureOf(vars, 7, 3);
        for (double l : {-2.0, 0.5, 3.0})
            expectDerivatives(mixture, vars.naturalParameter(VectorXd::LinSpaced(vars.size(), -0.6, 1.1), l), 1e-6);
    }
}

TEST(Mixture, OfOneGaussianAndOneVonMisesIsTheirProduct) {
    // Mixed sets: against the closed forms of the two factors.
    const Variables vars({Variable::torsion("a"), Variable::number("x")});
    const MixtureModel product(vars, {VectorXd::Zero(1), Eigen::Vector2d(3, -4), MatrixXd::Constant(1, 1, 0.7), MatrixXd::Constant(1, 1, 2.5)});
    Eigen::Vector4d eta(-1.1, 0, 0, 0.4);
    eta.segment<2>(vars.offset(0)) << 0.5, 1.5;
    const Moments m = product.moments(eta);
    const double p = 2.5 + 2.2, mean = (2.5 * 0.7 + 0.4) / p, kappa = std::hypot(3.5, 2.5), length = std::cyl_bessel_i(1, kappa) / std::cyl_bessel_i(0, kappa);
    EXPECT_NEAR(m.mu(vars.offset(1), 0), mean, 1e-14);
    EXPECT_NEAR(m.mu(0, 0), mean * mean + 1 / p, 1e-14);
    EXPECT_NEAR(m.mu(vars.offset(0), 0), length * 3.5 / kappa, 1e-14);
    EXPECT_NEAR(m.psi[0], std::log(std::cyl_bessel_i(0, kappa) / std::cyl_bessel_i(0, 5.0)) - 0.5 * std::log(p / 2.5) + 0.5 * p * mean * mean - 0.5 * 2.5 * 0.49, 1e-13);
    EXPECT_NEAR(product.dataMean()[0], 0.7, 1e-15);
    EXPECT_NEAR(product.dataVariance(), 0.4, 1e-15);
}

TEST(Mixture, BadComponents) {
    const Variables vars({Variable::torsion("a"), Variable::number("x")});
    const MatrixXd tilt = MatrixXd::Ones(2, 3), one = MatrixXd::Ones(1, 3);
    const VectorXd weights = VectorXd::Zero(3);
    auto expectRefused = [&](MixtureModel::Components c, const std::string& part) { expectError([&] { MixtureModel(vars, c); }, {part}); };
    expectRefused({VectorXd(), MatrixXd(2, 0), MatrixXd(1, 0), MatrixXd(1, 0)}, "at least one component");
    expectRefused({weights, MatrixXd::Ones(4, 3), one, one}, "tilts of 2 x 3");
    expectRefused({weights, tilt, one, MatrixXd::Ones(1, 2)}, "means and precisions of 1 x 3");
    expectRefused({weights, tilt, one, -one}, "positive precisions");
    expectRefused({weights, tilt, one * std::nan(""), one}, "finite components");
    expectRefused({VectorXd::Constant(3, -std::numeric_limits<double>::infinity()), tilt, one, one}, "log weights");
    const MixtureModel good(vars, {weights, tilt, one, one});
    expectError([&] { good.moments(Eigen::Vector4d(0.6, 0, 0, 0)); }, {"not normalisable"});
    expectError([&] { good.checkRange(Eigen::Vector4d(0, 1, 1, 1), "the end"); }, {"eta_l"});
}

TEST(VonMises, AgreesWithTheStandardLibraryAndAcrossItsSeams) {
    for (double k : {1e-6, 0.01, 0.5, 3.0, 12.0, 29.999, 30.001, 80.0, 299.999, 300.001, 400.0}) {
        const VonMises f(k);
        const double i0 = std::cyl_bessel_i(0, k), i1 = std::cyl_bessel_i(1, k);
        EXPECT_NEAR(f.logI0, std::log(i0), 1e-14 * (1 + k));
        double logI0;
        logBesselI0(&k, &logI0, 1);
        EXPECT_NEAR(logI0, f.logI0, 1e-15 * (1 + k));
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
    EXPECT_NEAR(VonMises(0).ratioByK, 0.5, 2e-15);
    EXPECT_NEAR(VonMises(0).anisotropy, -0.125, 2e-15);
    EXPECT_NEAR(VonMises(0).anisotropySlope, 1.0 / 12, 2e-15);
    EXPECT_TRUE(std::isfinite(VonMises(1e6).logI0));
    EXPECT_NEAR(VonMises(1e4).derivative * 2e8, 1, 1e-3);  // the radial variance tends to 1/(2 kappa^2)
}

TEST(Empirical, MomentsOfAGridAgainstQuadrature) {
    // A periodic grid integrates a smooth periodic density to machine precision, so 64 points a side must agree with 400.
    const EmpiricalModel e = torsionGrid(64);
    for (double l : {-1.0, 1.0, 3.0}) {
        const VectorXd eta = e.variables().naturalParameter(Eigen::Vector2d(0.3, -2.9), l);
        double psi;
        VectorXd mu;
        MatrixXd H;
        quadrature(e.variables(), torsionDensity, eta, -M_PI, M_PI, 400, psi, mu, H);
        const Moments m = e.moments(eta);
        EXPECT_NEAR(m.psi[0], psi, 1e-9);
        EXPECT_LT((m.mu.col(0) - mu).norm(), 1e-9);
        EXPECT_LT((m.J[0] - H).norm(), 1e-9);
        expectDerivatives(e, eta, 1e-6);
    }
}

TEST(Empirical, ProductGridAgainstTheSamples) {
    const int pairs[][2] = {{0, 1}, {2, 3}, {0, 3}, {2, 1}};
    for (const auto& pair : pairs) {
        SCOPED_TRACE(gridVariables[pair[0]].name + ", " + gridVariables[pair[1]].name);
        const GridPair g(pair[0], pair[1], 90, 61, gridDensity);
        ASSERT_TRUE(g.product->isProductGrid());
        ASSERT_FALSE(g.kernel->isProductGrid());
        std::vector<VectorXd> etas = {VectorXd::Zero(g.vars.numStatistics())};
        // Log-SNRs of kappa = 1, 55, 3000, at a peak, on a slope, at the seam, in the empty corner and beyond the grid.
        for (double l : {0.0, std::log(55.0), 8.0})
            for (const auto& c : {Eigen::Vector2d(0.6, -0.3), Eigen::Vector2d(-1.2, 1.4), Eigen::Vector2d(3.1, -0.4), Eigen::Vector2d(1.95, -1.15), Eigen::Vector2d(-0.9, 3.3)})
                etas.push_back(g.vars.naturalParameter(c, l));
        // A tilt of the torsion alone, at log-SNR -inf of the number, and one that pushes outwards.
        etas.push_back(VectorXd::Unit(g.vars.numStatistics(), 1) * 20);
        etas.push_back(VectorXd::Unit(g.vars.numStatistics(), 0) * 3);
        MatrixXd eta(g.vars.numStatistics(), etas.size());
        for (size_t i = 0; i < etas.size(); i++)
            eta.col(i) = etas[i];
        expectSame(*g.product, *g.kernel, eta);
    }
    const GridPair g(0, 2, 40, 30, gridDensity);
    expectDerivatives(*g.product, g.vars.naturalParameter(Eigen::Vector2d(0.3, -0.4), 1.0), 1e-6);
}

TEST(Empirical, ProductGridWhereTheTiltFindsNoWeight) {
    // A wall of e^-650 around the peak: the products of tilts and weights underflow, and the samples are summed one by one.
    auto wall = [](double a, double b) { return std::abs(a) > 1 || std::abs(b) > 1 ? -650.0 - 0.3 * a + 0.2 * b : torsionDensity(a, b); };
    for (int second : {1, 3}) {
        const GridPair g(0, second, 50, 50, wall);
        ASSERT_TRUE(g.product->isProductGrid());
        MatrixXd eta(g.vars.numStatistics(), 3);
        eta << g.vars.naturalParameter(Eigen::Vector2d(2, 2), 8), g.vars.naturalParameter(Eigen::Vector2d(0.1, 0.2), 8), g.vars.naturalParameter(Eigen::Vector2d(2.2, -2), 3);
        expectSame(*g.product, *g.kernel, eta, 1e-9);
        EXPECT_NEAR(g.vars.meanPosition(g.product->moments(eta).mu.col(0))[0], 2, 0.1) << "the posterior is where the tilt is";
    }
}

TEST(Empirical, WhatIsNoProductGrid) {
    const GridPair g(0, 1, 12, 10, gridDensity);
    EmpiricalModel::Options o;
    auto isProduct = [&](const MatrixXd& raw) { return EmpiricalModel(g.vars, raw, {}, o).isProductGrid(); };
    const MatrixXd raw = g.raw.leftCols(120);
    EXPECT_FALSE(isProduct(raw)) << "not said to be a grid";
    o.grid = true;
    EXPECT_TRUE(isProduct(raw));
    EXPECT_FALSE(isProduct(raw.leftCols(119))) << "a point is missing";
    MatrixXd moved = raw;
    moved.col(7) = raw.col(8);
    EXPECT_FALSE(isProduct(moved)) << "a point is there twice";
    moved = raw;
    moved(0, 7) += 1e-12;
    EXPECT_TRUE(isProduct(moved)) << "rounding";
    moved(0, 7) += 1e-4;
    EXPECT_FALSE(isProduct(moved)) << "off the grid";
    EXPECT_FALSE(EmpiricalModel(Variables({Variable::torsion("a")}), raw.topRows(1), {}, o).isProductGrid());
}

TEST(Empirical, WeightsUnliftedAndBatches) {
    std::mt19937 rng(3);
    std::normal_distribution<double> normal;
    const int K = 3000;
    MatrixXd x(2, K);
    VectorXd logw(K);
    for (int k = 0; k < K; k++) {
        x.col(k) << 0.4 * normal(rng), 2 * normal(rng);
        logw[k] = 700 + 0.5 * normal(rng);  // a large constant must not overflow
    }
    const Variables vars({Variable::number("u"), Variable::torsion("t")});
    const EmpiricalModel e(vars, x, logw);
    MatrixXd eta(vars.numStatistics(), 40);
    for (int i = 0; i < 40; i++)
        eta.col(i) = vars.naturalParameter(Eigen::Vector2d(0.02 * i - 0.4, 0.1 * i), 0.05 * i);
    const Moments m = e.moments(eta);
    const MatrixXd T = vars.statistic(x);
    for (int i = 0; i < 40; i += 13) {
        const Eigen::ArrayXd raw = (T.transpose() * eta.col(i) + logw).array();
        Eigen::ArrayXd p = (raw - raw.maxCoeff()).exp();
        p /= p.sum();
        EXPECT_LT((m.mu.col(i) - T * p.matrix()).norm(), 1e-11);
        EXPECT_NEAR(m.nEff[i], 1 / p.square().sum(), 1e-6 / p.square().sum());
    }
    expectDerivatives(e, eta.col(7), 1e-5);
}

TEST(Models, OneModelInManyThreads) {
    std::mt19937 rng(6);
    std::normal_distribution<double> normal;
    const MatrixXd samples = MatrixXd::NullaryExpr(2, 500, [&] { return normal(rng); });
    const GridPair grid(0, 1, 30, 25, gridDensity);
    ASSERT_TRUE(grid.product->isProductGrid());
    const GaussianMixtureModel mixture = mixture2d();
    const EmpiricalModel empirical(Variables({Variable::number("u"), Variable::torsion("t")}), samples, {});
    for (const PosteriorModel* model : std::initializer_list<const PosteriorModel*>{&mixture, &empirical, grid.product.get()}) {
        const MatrixXd eta = 0.3 * MatrixXd::Random(model->variables().numStatistics(), 30), direction = MatrixXd::Ones(eta.rows(), eta.cols());
        const Moments expected = model->moments(eta, Order::Third, &direction);
        std::vector<std::thread> threads;
        std::vector<int> wrong(4, 0);
        for (int t = 0; t < 4; t++)
            threads.emplace_back([&, t] {
                for (int round = 0; round < 20; round++) {
                    const Moments m = model->moments(eta, Order::Third, &direction);
                    wrong[t] += m.mu != expected.mu || m.psi != expected.psi;
                }
            });
        for (std::thread& thread : threads)
            thread.join();
        EXPECT_EQ(wrong, std::vector<int>(4, 0));
    }
}

TEST(Empirical, BinsKeepWeightAndMean) {
    std::mt19937 rng(5);
    std::normal_distribution<double> normal;
    const int K = 20000;
    MatrixXd x(2, K);
    for (int k = 0; k < K; k++)
        x.col(k) << 0.8 * normal(rng), M_PI + 0.5 * normal(rng);  // the second straddles the seam
    const Variables vars({Variable::torsion("a"), Variable::torsion("b")});
    EmpiricalModel::Options o;
    const EmpiricalModel exact(vars, x, {}, o);
    o.maxExactSamples = 1000;
    const EmpiricalModel binned(vars, x, {}, o);
    ASSERT_TRUE(binned.isBinned());
    ASSERT_FALSE(exact.isBinned());
    EXPECT_LT(binned.support().cols(), 8100);
    const VectorXd zero = VectorXd::Zero(4);
    EXPECT_LT((binned.moments(zero).mu - exact.moments(zero).mu).norm(), 1e-12) << "the untilted mean is kept exactly";
    const VectorXd eta = vars.naturalParameter(Eigen::Vector2d(0.3, 3.0), 3.5);
    const Moments a = exact.moments(eta), b = binned.moments(eta);
    EXPECT_LT((a.mu - b.mu).norm(), 0.01 * std::sqrt(a.J[0].trace()));
    EXPECT_NEAR(b.nEff[0] / a.nEff[0], 1, 0.1);
}

TEST(Empirical, BandwidthIsAConvolution) {
    // One sample smoothed by a kernel is that kernel: on unlifted variables its posterior is Gaussian in closed form.
    EmpiricalModel::Options o;
    o.bandwidth = 0.3;
    o.binsPerVariable = 400;
    const EmpiricalModel e(Variables({Variable::number("u")}), MatrixXd::Constant(1, 2, 0.7), {}, o);
    const VectorXd flat = VectorXd::Zero(2);
    const Moments m = e.moments(flat);
    EXPECT_NEAR(m.mu(1, 0), 0.7, 1e-9);
    EXPECT_NEAR(m.J[0](1, 1), 0.09, 1e-9);
}

TEST(Models, BadInput) {
    const Variables v({Variable::torsion("a"), Variable::torsion("b")});
    MatrixXd x = MatrixXd::Zero(2, 10);
    EXPECT_THROW(EmpiricalModel(v, MatrixXd(2, 0)), std::invalid_argument);
    EXPECT_THROW(EmpiricalModel(v, MatrixXd::Zero(3, 10)), std::invalid_argument);
    EXPECT_THROW(EmpiricalModel(v, x, VectorXd::Zero(9)), std::invalid_argument);
    EXPECT_THROW(EmpiricalModel(v, x, VectorXd::Constant(10, -INFINITY)), std::invalid_argument);
    EXPECT_THROW(EmpiricalModel(v, x, VectorXd::Constant(10, NAN)), std::invalid_argument);
    x(1, 4) = NAN;
    EXPECT_THROW(EmpiricalModel(v, x), std::invalid_argument);
    EXPECT_THROW(GaussianMixtureModel(MatrixXd::Zero(1, 2), Eigen::Vector2d(1, -1), Eigen::Vector2d(1, 1)), std::invalid_argument);
    EXPECT_THROW(GaussianMixtureModel(MatrixXd::Zero(1, 2), Eigen::Vector2d(1, 1), Eigen::Vector3d(1, 1, 1)), std::invalid_argument);
    const GaussianMixtureModel g(MatrixXd::Zero(1, 1), VectorXd::Ones(1), VectorXd::Ones(1));
    EXPECT_THROW(g.moments(VectorXd::Zero(3)), std::invalid_argument);
    EXPECT_THROW(g.moments(Eigen::Vector2d(-1, NAN)), std::invalid_argument);
    EXPECT_THROW(g.moments(Eigen::Vector2d(1, 0)), std::invalid_argument) << "not normalisable";
    const EmpiricalModel grid = torsionGrid(16);
    EXPECT_NO_THROW(grid.checkRange(grid.variables().naturalParameter(Eigen::Vector2d(2, 2), 4), "the start point"));
    std::mt19937 rng(1);
    std::normal_distribution<double> normal;
    MatrixXd near(2, 1000);
    for (int k = 0; k < 1000; k++)
        near.col(k) << 0.3 * normal(rng), 0.3 * normal(rng);
    const EmpiricalModel e(v, near);
    EXPECT_NO_THROW(e.checkRange(v.naturalParameter(Eigen::Vector2d(0, 0), 3), "the start point"));
    EXPECT_THROW(e.checkRange(v.naturalParameter(Eigen::Vector2d(2.5, 2.5), 3), "the end point"), std::invalid_argument);
}
