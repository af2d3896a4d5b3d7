// SPDX-License-Identifier: MIT
// Exponential and logarithm maps, divergences and metrics against closed forms.
#include "spacetime/Geometry.h"
#include "ExpectError.h"
#include "Torus.h"
#include "spacetime/Models.h"
#include <Eigen/Cholesky>
#include <cmath>
#include <functional>
#include <gtest/gtest.h>

using namespace Spacetime;
using Eigen::MatrixXd;
using Eigen::Vector2d;
using Eigen::VectorXd;

namespace {

const double DataMean = 0.4, DataVariance = 1.5;

GaussianMixtureModel gaussian(int D) { return GaussianMixtureModel(MatrixXd::Constant(D, 1, DataMean), VectorXd::Constant(1, DataVariance), VectorXd::Ones(1)); }

/// Mean and variance of the Gaussian posterior at eta.
struct Posterior {
    VectorXd m;
    double v;

    explicit Posterior(const VectorXd& eta) {
        const int D = static_cast<int>(eta.size()) - 1;
        v = 1 / (1 / DataVariance - 2 * eta[0]);
        m = v * (VectorXd::Constant(D, DataMean / DataVariance) + eta.tail(D));
    }
    double distance(const Posterior& other) const {
        const double D = m.size(), ya = std::sqrt(2 * D * v), yb = std::sqrt(2 * D * other.v);
        return std::sqrt(2 * D) * std::acosh(1 + ((m - other.m).squaredNorm() + (ya - yb) * (ya - yb)) / (2 * ya * yb));
    }
    double kl(const Posterior& other) const { return 0.5 * ((m - other.m).squaredNorm() / other.v + m.size() * (v / other.v - 1 - std::log(v / other.v))); }
};

GaussianMixtureModel threeWells() {
    MatrixXd means(1, 3);
    means << -2.5, 0.5, 2.5;
    return GaussianMixtureModel(means, VectorXd::Constant(3, 0.5625), Eigen::Vector3d(0.275, 0.45, 0.275));
}

VectorXd well(const GaussianMixtureModel& g, double x, double logSnr) { return g.variables().naturalParameter(VectorXd::Constant(1, x), logSnr); }

EmpiricalModel::Options exhaustive() {
    EmpiricalModel::Options o;
    o.grid = true;
    return o;
}

/// Torsion without a preference: posteriors are von Mises distributions.
EmpiricalModel circle(int n) {
    return EmpiricalModel(Variables({Variable::torsion("a")}), VectorXd::LinSpaced(n, 0, 2 * M_PI * (n - 1) / n).transpose(), VectorXd(), exhaustive());
}

/// Any model with its psi hidden, or with a metric that a badly trained network could have.
class Disguised : public PosteriorModel {
public:
    Disguised(const PosteriorModel& model, double metricSign) : PosteriorModel(model.variables()), inner(model), sign(metricSign) {}
    bool isExact() const override { return false; }
    bool hasPsi() const override { return false; }
    void checkRange(const VectorXd&, const std::string&) const override {}

protected:
    Moments compute(const MatrixXd& eta, Order order, const MatrixXd* direction) const override {
        Moments m = inner.moments(eta, order, direction);
        m.psi.resize(0);
        for (MatrixXd& J : m.J)
            J *= sign;
        return m;
    }

private:
    const PosteriorModel& inner;
    double sign;
};

double metricNorm(const PosteriorModel& model, const VectorXd& eta, const VectorXd& x) { return std::sqrt(x.dot(fisherInformation(model, eta) * x)); }

/// exp(log) lands on B with the length of the logarithm, at constant speed, and the reversed geodesic is the same curve.
void expectInverse(const PosteriorModel& model, const VectorXd& a, const VectorXd& b, double tolerance) {
    const LogarithmResult log = logarithmMap(model, a, b);
    EXPECT_TRUE(log.converged) << log.residual;
    EXPECT_LT(log.residual, 1e-8);
    EXPECT_NEAR(metricNorm(model, a, log.velocity), log.length, 1e-12 * log.length);
    ExponentialOptions o;
    o.numPoints = 65;
    const GeodesicShot shot = exponentialMap(model, a, log.velocity, o);
    EXPECT_NEAR(shot.length, log.length, 1e-12 * log.length);
    EXPECT_LT(shot.maxSpeedError, 1e-6);
    EXPECT_LT(metricNorm(model, b, shot.curve.eta().col(64) - b), tolerance);
    // Back along the same way.
    const LogarithmResult back = logarithmMap(model, b, a);
    EXPECT_NEAR(back.length, log.length, tolerance);
    EXPECT_LT(metricNorm(model, b, back.velocity + shot.velocity.col(64)), tolerance * log.length);
    const GeodesicShot reversed = exponentialMap(model, b, back.velocity, o);
    for (int i : {0, 16, 37, 64})
        EXPECT_LT(metricNorm(model, shot.curve.eta().col(i), reversed.curve.eta().col(64 - i) - shot.curve.eta().col(i)), tolerance) << i;
}

}  // namespace

TEST(Geometry, GaussianDistanceInClosedForm) {
    for (int D : {1, 2, 10}) {
        const GaussianMixtureModel g = gaussian(D);
        const VectorXd a = g.variables().naturalParameter(VectorXd::Constant(D, DataMean - 0.3), 3);
        const VectorXd b = g.variables().naturalParameter(VectorXd::LinSpaced(D, DataMean + 0.1, DataMean + 0.3), 2.3);
        const double exact = Posterior(a).distance(Posterior(b));
        EXPECT_NEAR(logarithmMap(g, a, b).length, exact, 1e-8 * exact) << "D = " << D;
        expectInverse(g, a, b, 1e-6);
    }
}

TEST(Geometry, GaussianGeodesicIsTheHalfCircle) {
    const GaussianMixtureModel g = gaussian(1);
    const VectorXd a = g.variables().naturalParameter(VectorXd::Constant(1, 0.3), 4);
    const MatrixXd H = fisherInformation(g, a);
    const VectorXd v = Eigen::LLT<MatrixXd>(H).matrixU().solve(VectorXd(Vector2d(-1.5, 1)));
    const GeodesicShot shot = exponentialMap(g, a, v);
    EXPECT_LT(shot.maxSpeedError, 1e-6);
    // All points have the same distance to the same centre on the axis y = 0; the length is the hyperbolic one from node to node.
    auto point = [&](int i) {
        const Posterior p(shot.curve.eta().col(i));
        return Vector2d(p.m[0], std::sqrt(2 * p.v));
    };
    const Vector2d first = point(0), end = point(128);
    const double center = 0.5 * (end.squaredNorm() - first.squaredNorm()) / (end[0] - first[0]);
    for (int i = 0; i <= 128; i += 8) {
        EXPECT_NEAR((point(i) - Vector2d(center, 0)).norm(), (first - Vector2d(center, 0)).norm(), 1e-6);
        EXPECT_NEAR(Posterior(a).distance(Posterior(shot.curve.eta().col(i))), shot.length * i / 128, 1e-6);
    }
}

TEST(Geometry, ExponentialAndLogarithmOfAMixture) {
    const GaussianMixtureModel g = threeWells();
    expectInverse(g, well(g, -2.5, 4), well(g, -0.5, 4), 1e-6);
    expectInverse(g, well(g, -2.5, 4), well(g, 0.5, 1), 1e-6);
    // Near points take the straight line to start from, and keep their relative accuracy.
    const VectorXd a = well(g, 0.7, 2), b = a + 1e-6 * Vector2d(0.3, 1);
    const LogarithmResult near = logarithmMap(g, a, b);
    EXPECT_TRUE(near.converged);
    EXPECT_NEAR(near.length, metricNorm(g, a, b - a), 1e-5 * near.length);
    EXPECT_EQ(logarithmMap(g, a, a).length, 0);
    EXPECT_EQ(exponentialMap(g, a, VectorXd::Zero(2)).curve.eta().col(7), a);
}

TEST(Geometry, ExponentialAndLogarithmOnTheTorus) {
    const EmpiricalModel e = torus(48, 3, 0.5);
    expectInverse(e, e.variables().naturalParameter(Vector2d(-1.2, 0.1), 2), e.variables().naturalParameter(Vector2d(1.2, -0.6), 1.5), 1e-6);
}

TEST(Geometry, RadialGeodesicOfVonMises) {
    const EmpiricalModel e = circle(360);
    const Vector2d a(0.6, 0.8);
    const GeodesicShot shot = exponentialMap(e, a, 6 * a);
    EXPECT_LT(shot.maxSpeedError, 1e-6);
    double length = 0;  // of the straight ray, by the midpoint rule in log kappa
    const VectorXd end = shot.curve.eta().col(128);
    const int pieces = 2000;
    for (int i = 0; i < pieces; i++) {
        const double kappa = std::pow(end.norm(), (i + 0.5) / pieces);
        length += metricNorm(e, kappa * a, kappa * a) * std::log(end.norm()) / pieces;
    }
    EXPECT_NEAR(length, shot.length, 1e-6);
    EXPECT_NEAR(end.normalized().dot(a), 1, 1e-12) << "no ray: " << end.transpose();
    EXPECT_TRUE(std::isfinite(shot.minNEff));
}

TEST(Geometry, GaussianDivergencesInClosedForm) {
    for (int D : {1, 2, 10}) {
        const GaussianMixtureModel g = gaussian(D);
        const VectorXd a = g.variables().naturalParameter(VectorXd::Constant(D, -1), 3), b = g.variables().naturalParameter(VectorXd::LinSpaced(D, 0.2, 2), 1);
        const double ab = Posterior(a).kl(Posterior(b)), ba = Posterior(b).kl(Posterior(a));
        DivergenceOptions line;
        line.integrate = true;
        EXPECT_NEAR(klDivergence(g, a, b), ab, 1e-11 * ab);
        EXPECT_NEAR(klDivergence(g, b, a), ba, 1e-11 * ba);
        EXPECT_NEAR(klDivergence(g, a, b, line), ab, 1e-10 * ab);
        EXPECT_NEAR(klDivergence(g, b, a, line), ba, 1e-10 * ba);
        EXPECT_NEAR(jeffreysDivergence(g, a, b), ab + ba, 1e-11 * (ab + ba));
        EXPECT_EQ(klDivergence(g, a, a), 0);
        EXPECT_EQ(jeffreysDivergence(g, a, a), 0);
    }
}

TEST(Geometry, DivergencesOfNearPointsKeepTheirDigits) {
    const GaussianMixtureModel g = gaussian(1);
    const VectorXd a = g.variables().naturalParameter(VectorXd::Constant(1, -1), 6);
    const Vector2d direction(1, -3);
    const double square = direction.dot(fisherInformation(g, a) * direction);
    for (double h : {1e-3, 1e-5, 1e-7, 1e-9}) {
        const VectorXd b = a + h * direction, step = b - a;
        // To leading order half the squared distance; the next order is relative to h.
        const double expected = 0.5 * step.dot(fisherInformation(g, a) * step);
        EXPECT_NEAR(klDivergence(g, a, b), expected, (0.1 * h * std::sqrt(square) + 1e-9) * expected) << h;
        EXPECT_NEAR(jeffreysDivergence(g, a, b), 2 * expected, (0.1 * h * std::sqrt(square) + 1e-7) * expected) << h;
        EXPECT_NEAR(jeffreysDivergence(g, a, b), klDivergence(g, a, b) + klDivergence(g, b, a), 1e-7 * expected) << h;
    }
}

TEST(Geometry, VonMisesDivergenceInClosedForm) {
    const EmpiricalModel e = circle(720);
    const Vector2d a(0.4, -1.1), b(-9, 30);
    auto logI0 = [](double k) { return std::log(std::cyl_bessel_i(0, k)); };
    auto mean = [](const Vector2d& x) { return Vector2d(x.normalized() * std::cyl_bessel_i(1, x.norm()) / std::cyl_bessel_i(0, x.norm())); };
    auto exact = [&](const Vector2d& x, const Vector2d& y) { return logI0(y.norm()) - logI0(x.norm()) - (y - x).dot(mean(x)); };
    DivergenceOptions line;
    line.integrate = true;
    for (const auto& [x, y] : {std::pair(a, b), std::pair(b, a)}) {
        EXPECT_NEAR(klDivergence(e, x, y), exact(x, y), 1e-11 * exact(x, y));
        EXPECT_NEAR(klDivergence(e, x, y, line), exact(x, y), 1e-10 * exact(x, y));
    }
    EXPECT_NEAR(logPartition(e, b)[0], logI0(b.norm()), 1e-11);
}

TEST(Geometry, LineIntegralFindsTheSwitchBetweenWells) {
    // Along the straight line the posterior jumps from one well to the other; pieces that 16 points do not resolve are halved.
    const GaussianMixtureModel g = threeWells();
    const Disguised hidden(g, 1);
    for (double l : {1.0, 4.0, 7.0}) {
        const VectorXd a = well(g, -2.5, l), b = well(g, 2.5, l + 0.5);
        EXPECT_NEAR(klDivergence(hidden, a, b), klDivergence(g, a, b), 1e-9 * klDivergence(g, a, b)) << l;
        EXPECT_NEAR(klDivergence(hidden, b, a), klDivergence(g, b, a), 1e-9 * klDivergence(g, b, a)) << l;
        EXPECT_NEAR(jeffreysDivergence(hidden, a, b), klDivergence(g, a, b) + klDivergence(g, b, a), 1e-9 * klDivergence(g, a, b)) << l;
    }
    const EmpiricalModel e = torus(48, 3, 0.5);
    const VectorXd a = e.variables().naturalParameter(Vector2d(-1.2, 0.1), 3), b = e.variables().naturalParameter(Vector2d(2, -2.6), 3.2);
    EXPECT_NEAR(klDivergence(Disguised(e, 1), a, b), klDivergence(e, a, b), 1e-9 * klDivergence(e, a, b));
}

TEST(Geometry, MetricInCoordinates) {
    // Gaussian posteriors: v = 1/(1/s^2 + e^l), so ds^2 = |dm|^2/v + D dv^2/(2 v^2) with m and v as functions of (l, c).
    const GaussianMixtureModel g = gaussian(1);
    const double l = 1.2, c = 1.7, h = 1e-5;
    const VectorXd eta = well(g, c, l);
    auto speed = [&](double dl, double dc) {
        const Posterior plus(well(g, c + h * dc, l + h * dl)), minus(well(g, c - h * dc, l - h * dl)), here(eta);
        const double dm = (plus.m[0] - minus.m[0]) / (2 * h), dv = (plus.v - minus.v) / (2 * h);
        return dm * dm / here.v + dv * dv / (2 * here.v * here.v);
    };
    const MatrixXd G = metricInCoordinates(g, eta);
    for (const Vector2d& x : {Vector2d(1, 0), Vector2d(0, 1), Vector2d(0.6, -1.3)})
        EXPECT_NEAR(x.dot(G * x), speed(x[0], x[1]), 1e-8);
    // A torsion in (log kappa, phi): kappa^2 A'(kappa) and kappa A(kappa), which the phase does not enter.
    const EmpiricalModel e = circle(360);
    const double kappa = 3, A = std::cyl_bessel_i(1, kappa) / std::cyl_bessel_i(0, kappa);
    const MatrixXd polar = metricInCoordinates(e, kappa * Vector2d(std::cos(2.1), std::sin(2.1)));
    EXPECT_NEAR(polar(0, 0), kappa * kappa * (1 - A / kappa - A * A), 1e-10);
    EXPECT_NEAR(polar(1, 1), kappa * A, 1e-10);
    EXPECT_NEAR(polar(0, 1), 0, 1e-10);
}

TEST(Geometry, GeodesicsThatEnd) {
    const GaussianMixtureModel g = gaussian(1);
    // Straight up in the half-plane: log-SNR reaches minus infinity at a known length.
    const VectorXd a = g.variables().naturalParameter(VectorXd::Constant(1, DataMean), 2);
    const double exit = Posterior(a).distance(Posterior(Vector2d(0, 0)));
    VectorXd up = -a;
    up *= 2 * exit / metricNorm(g, a, up);
    expectError([&] { exponentialMap(g, a, up); }, {"exponentialMap: the geodesic ends at t = 0.5 of 1", "leaves spacetime", "log-SNR minus infinity"});
    EXPECT_NO_THROW(exponentialMap(g, a, 0.499 * up));
    // A half-circle that would pass through variances above that of the data.
    const VectorXd left = g.variables().naturalParameter(VectorXd::Constant(1, -9), 0.5), right = g.variables().naturalParameter(VectorXd::Constant(1, 9), 0.5);
    expectError([&] { logarithmMap(g, left, right); }, {"logarithmMap: ", "boundary of spacetime", "no geodesic"});
    // Away from all other samples: the posterior becomes a single one, and eta runs off to infinity within a finite length.
    const EmpiricalModel e = circle(40);
    expectError([&] { exponentialMap(e, Vector2d(60, 0), Vector2d(3000, 10)); }, {"exponentialMap: the geodesic ends at t = 0.", "collapsed onto one sample"});
    expectError([&] { exponentialMap(Disguised(g, -1), a, up); }, {"ends at t = 0 of 1", "the metric is not positive", "inconsistent"});
    expectError([&] { logarithmMap(Disguised(g, -1), a, 0.5 * a); }, {"logarithmMap: at the start point the metric is not positive"});
    // Two samples carry one direction of the metric only.
    const EmpiricalModel two(Variables({Variable::torsion("a")}), Vector2d(0, 1).transpose(), VectorXd(), exhaustive());
    expectError([&] { exponentialMap(two, Vector2d(1, 0), Vector2d(1, 1)); }, {"ends at t = 0 of 1", "the metric is"});
}

TEST(Geometry, BadInput) {
    const GaussianMixtureModel g = threeWells();
    const VectorXd a = well(g, 0, 2), three = VectorXd::Ones(3);
    const Vector2d positive(1, 0), bad(-1, NAN);
    expectError([&] { exponentialMap(g, three, a); }, {"exponentialMap: the start point: expected 2 finite natural parameters, got (1, 1, 1)"});
    expectError([&] { exponentialMap(g, a, three); }, {"expected a velocity of 2 finite numbers"});
    expectError([&] { exponentialMap(g, a, bad); }, {"expected a velocity of 2 finite numbers, got (-1, nan)"});
    expectError([&] { exponentialMap(g, positive, a); }, {"eta_l = -e^logSNR/2 cannot be positive, got 1"});
    ExponentialOptions o;
    o.numPoints = 1;
    expectError([&] { exponentialMap(g, a, a, o); }, {"expected at least 2 points, got 1"});
    o.numPoints = 5;
    o.tolerance = 0;
    expectError([&] { exponentialMap(g, a, a, o); }, {"expected a positive tolerance"});
    expectError([&] { logarithmMap(g, a, bad); }, {"logarithmMap: the end point: expected 2 finite natural parameters"});
    LogarithmOptions l;
    l.tolerance = -1;
    expectError([&] { logarithmMap(g, a, a, l); }, {"logarithmMap: expected a positive tolerance"});
    expectError([&] { klDivergence(g, a, positive); }, {"klDivergence: the second point: eta_l"});
    expectError([&] { jeffreysDivergence(g, three, a); }, {"jeffreysDivergence: the first point: expected 2"});
    expectError([&] { fisherInformation(g, bad); }, {"fisherInformation: the point: expected 2 finite"});
    expectError([&] { metricInCoordinates(g, Vector2d(0, 1)); }, {"log-SNR is minus infinity"});
    expectError([&] { metricInCoordinates(circle(40), Vector2d(0, 0)); }, {"'a' has kappa = 0"});
    expectError([&] { logPartition(g, MatrixXd::Ones(2, 2)); }, {"logPartition: point 0: eta_l"});
    expectError([&] { logPartition(Disguised(g, 1), a); }, {"does not know its log-partition", "klDivergence"});
}
