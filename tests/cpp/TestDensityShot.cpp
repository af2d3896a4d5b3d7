// SPDX-License-Identifier: MIT
// Probability-density geodesics as initial-value problems, measures of given paths, and sequences: against closed forms and against the boundary-value problem.
#include "spacetime/DensityPath.h"
#include "DensityFields.h"
#include "ExpectError.h"
#include <Eigen/Geometry>
#include <cmath>
#include <gtest/gtest.h>

using namespace Spacetime;
using Eigen::MatrixXd;
using Eigen::Vector2d;
using Eigen::Vector3d;
using Eigen::VectorXd;

namespace {

/// The half-circle of radius R around (centre, 0), from the angle `from` (rad, from the x axis) to `to`, at n equal distances.
MatrixXd arc(double centre, double R, double from, double to, int n) {
    const VectorXd angle = VectorXd::LinSpaced(n, from, to);
    MatrixXd x(2, n);
    x << (centre + R * angle.array().cos()).transpose(), (R * angle.array().sin()).transpose();
    return x;
}

DensityShotOptions shot(double length, int numPoints = 129, double tau = 1) {
    DensityShotOptions o;
    o.length = length;
    o.numPoints = numPoints;
    o.tau = tau;
    return o;
}

}  // namespace

TEST(DensityShot, HalfCircle) {
    const AnalyticDensity field = halfPlane();
    const double R = 1.7, from = M_PI - 0.2, to = 0.15;
    const MatrixXd exact = arc(0.4, R, from, to, 65);
    // The speed that is given does not matter, only the direction.
    const DensityPath path = extrapolateDensity(field, exact.col(0), 7 * Vector2d(std::sin(from), -std::cos(from)), shot(R * (from - to), 65));
    ASSERT_EQ(path.x.cols(), 65);
    EXPECT_LT((path.x - exact).colwise().norm().maxCoeff(), 1e-8);
    EXPECT_LT(path.maxSpeedError, 1e-8);
    EXPECT_EQ(path.outside, "");
    EXPECT_LT((path.logDensity.transpose().array() - (exact.row(1) / exact(1, 0)).array().log()).abs().maxCoeff(), 1e-4);
    // Distance along the circle, log(tan(angle/2)), with p(start) taken out.
    const double distance = std::log(std::tan(from / 2)) - std::log(std::tan(to / 2));
    EXPECT_NEAR(path.logDistance, std::log(distance * exact(1, 0)), 1e-3) << "the inscribed polygon's, of 64 segments";
}

TEST(DensityShot, SpeedIsConserved) {
    for (int D : {2, 3, 10})
        for (double tau : {0.3, 1.0}) {
            const RandomProblem p(20 + D, D, 0.2, 0.8);
            const DensityPath path = extrapolateDensity(p.field, p.a, p.b - p.a, shot(5, 65, tau));
            EXPECT_LT(path.maxSpeedError, 1e-8) << "D = " << D << ", tau = " << tau;
            const VectorXd segment = (path.x.rightCols(64) - path.x.leftCols(64)).colwise().norm();
            // Equal arcs, whose chords are a little shorter.
            EXPECT_LT(segment.maxCoeff(), 5.0 / 64 * (1 + 1e-8));
            EXPECT_GT(segment.minCoeff(), 5.0 / 64 * (1 - 0.05));
            DensityShotOptions finer = shot(5, 65, tau);
            finer.tolerance = 1e-13;
            EXPECT_LT((extrapolateDensity(p.field, p.a, p.b - p.a, finer).x - path.x).norm(), 1e-5);
        }
}

TEST(DensityShot, LandsOnTheEndOfTheGeodesic) {
    // Where density is low neighbouring geodesics part exponentially, and so does any error: broad Gaussians and a mild exponent keep that small.
    for (int D : {2, 3, 10}) {
        const RandomProblem p(30 + D, D, 0.6, 1.2);
        const double tau = D < 10 ? 0.5 : 0.2;
        double last = 0;
        for (int N : {128, 256, 512}) {
            DensityGeodesicOptions o;
            o.numPoints = N + 1;
            o.tau = tau;
            o.tolerance = 1e-9;
            o.maxIterations = 2000;
            const DensityPath path = densityGeodesics(p.field, p.a, p.b, o).at(0);
            ASSERT_TRUE(path.converged) << "D = " << D << ", N = " << N << ": " << path.residual;
            const DensityPath back = extrapolateDensity(p.field, p.a, unitTangents(path.x).col(0), shot(path.length, N + 1, tau));
            const double miss = (back.x.col(N) - p.b).norm() / path.length;
            if (N == 512) {
                EXPECT_LT(miss, 2e-3) << "D = " << D;
            }
            if (N > 128) {
                EXPECT_NEAR(last / miss, 4, 1) << "D = " << D << ", N = " << N << ", miss " << miss;
            }
            last = miss;
        }
    }
}

TEST(DensityShot, FixedStepsAreOfFourthOrder) {
    const AnalyticDensity field = halfPlane();
    const double R = 1, from = M_PI - 0.4, to = 0.4;
    const MatrixXd exact = arc(0, R, from, to, 33);
    double last = 0;
    for (int steps : {1, 2, 4}) {
        DensityShotOptions o = shot(R * (from - to), 33);
        o.steps = steps;
        const double error = (extrapolateDensity(field, exact.col(0), Vector2d(std::sin(from), -std::cos(from)), o).x - exact).colwise().norm().maxCoeff();
        EXPECT_GT(error, 0);
        if (steps > 1) {
            EXPECT_NEAR(std::log2(last / error), 4, 0.4) << steps;
        }
        last = error;
    }
}

TEST(DensityShot, ClairautOnTheSphere) {
    const Vector3d axis(0, 0, 1.5), x(1.8, 0, 0.6), v(0, 1, 0.4);
    const AnalyticDensity field = exponentialDensity(axis);
    DensityShotOptions o = shot(6, 257, 0.7);
    o.sphere = true;
    const DensityPath path = extrapolateDensity(field, x, v, o);
    EXPECT_LT((path.x.colwise().norm().array() / x.norm() - 1).abs().maxCoeff(), 1e-12);
    EXPECT_LT(path.maxSpeedError, 1e-8);
    const MatrixXd t = unitTangents(path.x);
    auto conserved = [&](int i) { return std::exp(-o.tau * axis.dot(path.x.col(i))) * Vector3d(path.x.col(i)).cross(Vector3d(t.col(i)))[2]; };
    for (int i = 2; i < 255; i++)
        EXPECT_NEAR(conserved(i) / conserved(2), 1, 1e-5) << i;
    // Without a force the great circle, all the way round and back to its start.
    DensityShotOptions circle = shot(2 * M_PI * x.norm(), 65);
    circle.sphere = true;
    const DensityPath round = extrapolateDensity(exponentialDensity(Vector3d::Zero()), x, v, circle);
    EXPECT_LT((round.x.col(64) - x).norm(), 1e-8);
    EXPECT_LT((round.x.col(32) + x).norm(), 1e-8);
}

TEST(DensityShot, EndsWhereTheRangeEnds) {
    const AnalyticDensity field = halfPlane();
    // A quarter of a circle down to y = 0, which lies at a finite Euclidean length; then nothing is known.
    const DensityPath path = extrapolateDensity(field, Vector2d(0, 1), Vector2d(1, 0), shot(3, 61));
    EXPECT_NE(path.outside.find("zero below y = 0"), std::string::npos) << path.outside;
    EXPECT_LT(path.x.cols(), 61);
    EXPECT_GT(path.x.cols(), 25) << "the path is " << path.length << " long, the quarter of the circle " << M_PI / 2;
    EXPECT_GT(path.x.row(1).minCoeff(), 0);
    EXPECT_LT((path.x.colwise().norm().array() - 1).abs().maxCoeff(), 1e-6);
    EXPECT_EQ(path.logDensity.size(), path.x.cols());
}

TEST(DensityShot, StochasticFieldSharesNoiseWithinAStep) {
    // One Gaussian: noise adds a constant to the score, so that the mean path is that of the smoothed Gaussian.
    const GaussianMixtureModel model(MatrixXd::Zero(2, 1), VectorXd::Constant(1, 1.0), VectorXd::Ones(1));
    const ModelDensity plain(model, 3), stochastic(model, 3, 64, 9);
    const Vector2d x(1.2, 0), v(-0.3, 1);
    const DensityPath exact = extrapolateDensity(plain, x, v, shot(2, 129)), noisy = extrapolateDensity(stochastic, x, v, shot(2, 129)),
                      again = extrapolateDensity(ModelDensity(model, 3, 64, 9), x, v, shot(2, 129));
    EXPECT_EQ(noisy.x, again.x);
    EXPECT_GT((noisy.x - exact.x).norm(), 0);
    EXPECT_LT((noisy.x - exact.x).colwise().norm().maxCoeff(), 0.02);
    EXPECT_LT(noisy.maxSpeedError, 1e-3);
}

TEST(DensityShot, BadInput) {
    const AnalyticDensity field = halfPlane();
    const Vector2d x(0, 1), v(1, 0);
    auto run = [&](const VectorXd& x, const VectorXd& v, const std::function<void(DensityShotOptions&)>& change = {}) {
        return [=, &field] {
            DensityShotOptions o = shot(1);
            if (change)
                change(o);
            extrapolateDensity(field, x, v, o);
        };
    };
    expectError(run(Vector2d(0, -1), v), {"zero below y = 0"});
    expectError(run(x, Vector2d::Zero()), {"direction"});
    expectError(run(x, Vector3d(1, 0, 0)), {"direction", "2 finite"});
    expectError(run(Vector3d(1, 1, 1), v), {"start", "2 finite"});
    expectError(run(x, Vector2d(NAN, 1)), {"finite"});
    for (double tau : {0.0, -0.1, double(NAN)})
        expectError(run(x, v, [&](DensityShotOptions& o) { o.tau = tau; }), {"tau"});
    for (double length : {0.0, -1.0, double(INFINITY)})
        expectError(run(x, v, [&](DensityShotOptions& o) { o.length = length; }), {"length"});
    expectError(run(x, v, [](DensityShotOptions& o) { o.numPoints = 1; }), {"2 points", "1"});
    expectError(run(x, v, [](DensityShotOptions& o) { o.tolerance = -1; }), {"tolerance"});
    expectError(run(x, v, [](DensityShotOptions& o) { o.steps = -1; }), {"steps"});
    // Along the radius there is no direction on the sphere.
    expectError(run(x, Vector2d(0, 2), [](DensityShotOptions& o) { o.sphere = true; }), {"sphere"});
}

TEST(DensityMeasure, LineIntegralAgainstTheDensity) {
    for (int D : {2, 3, 10}) {
        const RandomProblem p(40 + D, D, 0.1, 0.5);
        MatrixXd x = lerp(p.a, p.b, 12);
        std::mt19937 random(1);
        std::normal_distribution<double> normal;
        x.middleCols(1, 10) += 0.2 * MatrixXd::NullaryExpr(D, 10, [&] { return normal(random); });
        const VectorXd exact = p.field.logDensity(x).array() - p.field.logDensity(x)[0];
        for (double tolerance : {1e-2, 1e-4, 1e-8}) {
            const DensityPath path = measureDensityPath(p.field, x, 1, tolerance);
            EXPECT_LT((path.logDensity - exact).cwiseAbs().maxCoeff(), 11 * tolerance) << "D = " << D << ", " << tolerance;
        }
        const DensityPath path = measureDensityPath(p.field, x, 0.7, 1e-6);
        // The distance along the polygon, by a fine midpoint rule.
        double distance = 0, length = 0;
        for (int i = 0; i < 11; i++)
            for (int j = 0; j < 500; j++) {
                const VectorXd at = x.col(i) + (j + 0.5) / 500 * (x.col(i + 1) - x.col(i));
                distance += std::exp(-0.7 * (p.field.logDensity(at)[0] - p.field.logDensity(x.leftCols(1))[0])) * (x.col(i + 1) - x.col(i)).norm() / 500;
            }
        for (int i = 0; i < 11; i++)
            length += (x.col(i + 1) - x.col(i)).norm();
        EXPECT_NEAR(path.logDistance, std::log(distance), 1e-3) << "D = " << D;
        EXPECT_NEAR(path.length, length, 1e-12 * length);
        EXPECT_NEAR(path.spacing, (x.rightCols(11) - x.leftCols(11)).colwise().norm().maxCoeff() / (length / 11) - 1, 1e-12);
        // Without refinement: the trapezoidal rule, one score a node.
        const long before = p.field.evaluations();
        const DensityPath rough = measureDensityPath(p.field, x, 1, INFINITY);
        EXPECT_EQ(p.field.evaluations() - before, 12);
        const MatrixXd s = p.field.score(x);
        double sum = 0;
        for (int i = 0; i < 11; i++)
            EXPECT_NEAR(rough.logDensity[i + 1], sum += 0.5 * (s.col(i) + s.col(i + 1)).dot(x.col(i + 1) - x.col(i)), 1e-10);
    }
}

TEST(DensityMeasure, Residual) {
    // Second order on an exact geodesic, and the closed form on a straight line: no bending, all force, so 1.
    const AnalyticDensity field = halfPlane();
    double last = 0;
    for (int n : {33, 65, 129}) {
        const double residual = measureDensityPath(field, arc(0, 1, 2.6, 0.3, n), 1).residual;
        EXPECT_LT(residual, 10.0 / (n * n));
        if (n > 33) {
            EXPECT_NEAR(last / residual, 4, 0.5);
        }
        last = residual;
    }
    EXPECT_NEAR(measureDensityPath(field, lerp(Vector2d(-1, 1), Vector2d(1, 1), 17), 1).residual, 1, 1e-12);
    EXPECT_LT(measureDensityPath(field, lerp(Vector2d(0, 1), Vector2d(0, 3), 17), 1).residual, 1e-6) << "straight up is a geodesic";
    // Half the temperature: force and bending point the same way, and one of them is twice the other.
    EXPECT_NEAR(measureDensityPath(field, arc(0, 1, 2.6, 0.3, 257), 2).residual, 1.0 / 3, 1e-3);
}

TEST(DensityMeasure, BadInput) {
    const AnalyticDensity field = halfPlane();
    const MatrixXd x = lerp(Vector2d(0, 1), Vector2d(1, 1), 5);
    expectError([&] { measureDensityPath(field, x.leftCols(2), 1); }, {"3", "2"});
    expectError([&] { measureDensityPath(field, MatrixXd::Ones(3, 5), 1); }, {"2", "3"});
    expectError([&] { measureDensityPath(field, x, 0); }, {"tau"});
    expectError([&] { measureDensityPath(field, x, 1, 0); }, {"tolerance"});
    MatrixXd nan = x;
    nan(0, 3) = NAN;
    expectError([&] { measureDensityPath(field, nan, 1); }, {"not finite"});
    MatrixXd twice = x;
    twice.col(2) = twice.col(1);
    expectError([&] { measureDensityPath(field, twice, 1); }, {"1", "2"});
    EXPECT_NE(measureDensityPath(gaussianDensity(2, 1), x, 1).length, 0);
}

TEST(DensityMeasure, UnitTangents) {
    double last = 0;
    for (int n : {17, 33, 65}) {
        const MatrixXd t = unitTangents(arc(0, 2, 0.2, 2, n)), exact = arc(0, 1, 0.2 + M_PI / 2, 2 + M_PI / 2, n);
        MatrixXd direction(2, n);
        const VectorXd angle = VectorXd::LinSpaced(n, 0.2, 2);
        direction << -angle.array().sin().transpose(), angle.array().cos().transpose();
        const double error = (t - direction).colwise().norm().maxCoeff();
        EXPECT_LT((t.colwise().norm().array() - 1).abs().maxCoeff(), 1e-14);
        if (n > 17) {
            EXPECT_GT(std::log2(last / error), 3.6);
        }
        last = error;
    }
}

TEST(DensitySequence, AGeodesicAndWhatIsNone) {
    DensityGeodesicOptions o;
    o.numPoints = 65;
    for (double k : {0.5, 1.0, 2.0}) {
        // Half-circles are geodesics of p = y^k at tau = 1/k.
        o.tau = 1 / k;
        const AnalyticDensity field = halfPlane(k);
        const SequenceAnalysis a = analyzeSequence(field, arc(0, 1, 2.6, 0.4, 65), 0, o);
        ASSERT_EQ(a.angle.size(), 63);
        EXPECT_GT(a.angle.minCoeff(), 179.99);
        EXPECT_LT(a.residual.maxCoeff(), 1e-3);
        EXPECT_NEAR(a.bestTau, 1 / k, 1e-3);
        EXPECT_LT(a.bestTauResidual, 1e-5);
        EXPECT_NEAR(a.lengthRatio, 1, 1e-3);
        EXPECT_NEAR(a.distanceRatio, 1, 1e-3);
        EXPECT_TRUE(a.geodesic.converged);
        EXPECT_LT((a.line.x - lerp(a.frames.x.col(0), a.frames.x.col(64), static_cast<int>(a.line.x.cols()))).norm(), 1e-12);
        // Bent to the low side: the angle is 0, and no positive tau makes it a geodesic.
        MatrixXd mirrored = arc(0, 1, 2.2, 0.9, 65);
        mirrored.row(1) = 3 - mirrored.row(1).array();
        const SequenceAnalysis m = analyzeSequence(field, mirrored, 0, o);
        EXPECT_LT(m.angle.maxCoeff(), 0.01);
        EXPECT_LT(m.bestTau, 0);
        EXPECT_GT(m.distanceRatio, 1.01);
    }
}

TEST(DensitySequence, FramesAtEqualDistances) {
    // Frames of a film that hurries and lingers: resampled, they are those of the even film.
    const AnalyticDensity field = halfPlane();
    const int n = 81;
    MatrixXd uneven(2, n);
    for (int i = 0; i < n; i++) {
        const double u = double(i) / (n - 1), angle = 2.6 - 2.2 * (u - 0.12 * std::sin(2 * M_PI * u));
        uneven.col(i) << std::cos(angle), std::sin(angle);
    }
    DensityGeodesicOptions o;
    o.numPoints = 65;
    const SequenceAnalysis a = analyzeSequence(field, uneven, 41, o);
    EXPECT_EQ(a.frames.x.cols(), 41);
    EXPECT_EQ(a.angle.size(), 39);
    EXPECT_LT(a.frames.spacing, 1e-2);
    EXPECT_LT((a.frames.x - arc(0, 1, 2.6, 0.4, 41)).colwise().norm().maxCoeff(), 2e-3);
    EXPECT_NEAR(a.bestTau, 1, 0.02);
    EXPECT_GT(a.angle.minCoeff(), 175);
    // A straight film: no bending, so no angle; its distance is the line integral of 1/y.
    const SequenceAnalysis line = analyzeSequence(field, lerp(Vector2d(-1, 1), Vector2d(1, 1), 33), 0, o);
    EXPECT_TRUE(line.angle.array().isNaN().all());
    EXPECT_NEAR(line.distanceRatio, 2 / std::acosh(1 + 4.0 / 2), 1e-3);
    EXPECT_NEAR(line.bestTau, 0, 1e-9);
    // No force: no angle either.
    EXPECT_TRUE(analyzeSequence(exponentialDensity(Vector2d::Zero()), arc(0, 1, 2.6, 0.4, 33), 0, o).angle.array().isNaN().all());
}

TEST(DensitySequence, BadInput) {
    const AnalyticDensity field = halfPlane();
    const MatrixXd x = arc(0, 1, 2.6, 0.4, 9);
    expectError([&] { analyzeSequence(field, x.leftCols(2), 0, {}); }, {"3", "2"});
    expectError([&] { analyzeSequence(field, x, 2, {}); }, {"3 frames", "2"});
    expectError([&] { analyzeSequence(field, MatrixXd(x.col(0).replicate(1, 5)), 0, {}); }, {"coincide"});
    expectError([&] { analyzeSequence(field, MatrixXd::Ones(3, 5), 0, {}); }, {"2 coordinates", "3"});
    // A film that stands still for a frame is a film.
    MatrixXd still(2, 34);
    still << arc(0, 1, 2.6, 0.4, 33).leftCols(17), arc(0, 1, 2.6, 0.4, 33).rightCols(17);
    EXPECT_NEAR(analyzeSequence(field, still, 0, {}).bestTau, 1, 0.01);
}
