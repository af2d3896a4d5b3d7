// SPDX-License-Identifier: MIT
#include "ExpectError.h"
#include "spacetime/MatrixFree.h"
#include "spacetime/Models.h"
#include "spacetime/Solver.h"
#include <gtest/gtest.h>
#include <random>

using namespace Spacetime;
using Eigen::MatrixXd;
using Eigen::VectorXd;

namespace {

MatrixXd randomMatrix(int rows, int cols, unsigned seed) {
    std::mt19937 random(seed);
    std::normal_distribution<double> normal;
    MatrixXd x(rows, cols);
    for (double& v : x.reshaped())
        v = normal(random);
    return x;
}

VectorXd point(const VectorXd& clean, double logSnr) {
    VectorXd eta(clean.size() + 1);
    eta << -0.5 * std::exp(logSnr), std::exp(logSnr) * clean;
    return eta;
}

GaussianMixtureModel mixture(int D, int K, double variance, unsigned seed) {
    return GaussianMixtureModel(0.5 * randomMatrix(D, K, seed), VectorXd::Constant(K, variance), VectorXd::Ones(K));
}

/// sqrt(2 D) arccosh(...) of N(0, s2 I).
double hyperbolicLength(const VectorXd& a, double la, const VectorXd& b, double lb, double s2) {
    const double D = a.size();
    auto v = [&](double l) { return 1 / (1 / s2 + std::exp(l)); };
    const VectorXd ma = v(la) * std::exp(la) * a, mb = v(lb) * std::exp(lb) * b;
    const double ya = std::sqrt(2 * D * v(la)), yb = std::sqrt(2 * D * v(lb));
    return std::sqrt(2 * D) * std::acosh(1 + ((ma - mb).squaredNorm() + (ya - yb) * (ya - yb)) / (2 * ya * yb));
}

}  // namespace

TEST(MatrixFree, productsOfMixturesAreTheirCovarianceTimesTheDirection) {
    MixtureModel::Components c;
    c.logWeights = VectorXd::LinSpaced(4, -1, 0);
    c.tilt = MatrixXd(0, 4);
    c.mean = randomMatrix(6, 4, 1);
    c.precision = randomMatrix(6, 4, 2).array().square() + 0.5;
    std::vector<Variable> items;
    for (int i = 0; i < 6; i++)
        items.push_back(Variable::number("c" + std::to_string(i)));
    const MixtureModel model(Variables(items), c);
    MatrixXd eta(7, 3), direction = randomMatrix(7, 3, 3);
    for (int i = 0; i < 3; i++)
        eta.col(i) = point(randomMatrix(6, 1, 4 + i), i - 1.0);
    const MeanProducts out = model.products(eta, direction);
    const Moments expected = model.moments(eta);
    for (int i = 0; i < 3; i++) {
        EXPECT_LT((out.mean.col(i) - expected.mu.col(i).tail(6)).norm(), 1e-12);
        EXPECT_LT((out.product.col(i) - expected.J[i].bottomRows(6) * direction.col(i)).norm(), 1e-12 * expected.J[i].norm());
    }
    EXPECT_EQ(model.evaluations(), 6);
    expectError([&] { model.products(eta, direction.topRows(3)); }, {"direction"});
}

TEST(MatrixFree, measureAgreesWithTheExactTrace) {
    const GaussianMixtureModel model = mixture(40, 5, 0.1, 1);
    MatrixXd eta(41, 17);
    const VectorXd a = model.means().col(0), b = model.means().col(1);
    for (int i = 0; i < 17; i++)
        eta.col(i) = point(a + i / 16.0 * (b - a), 1.0 + std::abs(i - 8) / 8.0);
    const CurveMeasure exact = measure(model, eta);
    ProbeOptions o;
    o.probes = 64;
    const ProbeMeasure m = measureWithProbes(model, eta, o);
    EXPECT_GT(m.lengthError, 0);
    EXPECT_LT(m.lengthError, 0.02 * m.length);
    EXPECT_NEAR(m.length, exact.length, 4 * m.lengthError);
    EXPECT_NEAR(m.energy, exact.energy, 4 * m.energyError);
    EXPECT_LT((m.mean - exact.mu.bottomRows(40)).norm(), 1e-10);
    // Probes of other seeds scatter as the errors say.
    double chi2 = 0;
    for (unsigned seed = 2; seed < 22; seed++) {
        o.probes = 16;
        o.seed = seed;
        const ProbeMeasure other = measureWithProbes(model, eta, o);
        chi2 += std::pow((other.length - exact.length) / other.lengthError, 2) / 20;
    }
    EXPECT_GT(chi2, 0.3);
    EXPECT_LT(chi2, 3.5);
    // The size of the batches changes nothing.
    o.seed = 1;
    const double length = measureWithProbes(model, eta, o).length;
    o.batch = 7;
    EXPECT_NEAR(measureWithProbes(model, eta, o).length, length, 1e-12 * length);
}

TEST(MatrixFree, gaussianGeodesicsHaveTheHyperbolicLength) {
    for (const int D : {50, 3072}) {
        const double s2 = 0.3;
        const GaussianMixtureModel model(MatrixXd::Zero(D, 1), VectorXd::Constant(1, s2), VectorXd::Ones(1));
        const VectorXd a = 0.2 * randomMatrix(D, 1, 1), b = 0.2 * randomMatrix(D, 1, 2);
        MatrixFreeOptions o;
        double error[2];
        for (int k = 0; k < 2; k++) {
            o.numPoints = k ? 65 : 33;
            const MatrixFreeResult r = matrixFreeGeodesic(model, point(a, 3), point(b, 2), o);
            EXPECT_TRUE(r.converged);
            error[k] = r.curve.length / hyperbolicLength(a, 3, b, 2, s2) - 1;
            EXPECT_LT(r.measure.lengthError, 1e-9 * r.curve.length);  // the covariance is a multiple of unity
        }
        EXPECT_LT(std::abs(error[1]), 2e-3);
        EXPECT_LT(std::abs(error[1]), 0.5 * std::abs(error[0]) + 4e-4);
    }
}

TEST(MatrixFree, agreesWithTheDenseSolver) {
    const GaussianMixtureModel model = mixture(12, 6, 0.15, 3);
    for (int k = 1; k < 4; k++) {
        const VectorXd a = point(model.means().col(0), 3), b = point(model.means().col(k), 3);
        GeodesicOptions dense;
        dense.numPoints = 33;
        const GeodesicResult expected = geodesic(model, a, b, dense)[0];
        MatrixFreeOptions o;
        o.numPoints = 33;
        o.tolerance = 1e-3;
        o.probes = 8;
        o.measureProbes = 64;
        const MatrixFreeResult r = matrixFreeGeodesic(model, a, b, o);
        std::printf("dense %.4f in %ld, matrix-free %.4f +- %.4f in %ld (%d iterations, residual %.2g, converged %d)\n", expected.curve.length, expected.evaluations,
                    r.curve.length, r.measure.lengthError, r.evaluations, r.iterations, r.residual, r.converged);
        EXPECT_NEAR(measure(model, r.curve.eta()).length, expected.curve.length, 0.01 * expected.curve.length);
    }
}
