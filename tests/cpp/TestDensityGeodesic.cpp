// SPDX-License-Identifier: MIT
// Probability-density geodesics between two points, against closed forms, conserved quantities and distances by fast marching.
#include "spacetime/DensityPath.h"
#include "DensityFields.h"
#include "ExpectError.h"
#include <Eigen/Geometry>
#include <cmath>
#include <complex>
#include <fstream>
#include <gtest/gtest.h>
#include <queue>
#include <random>

using namespace Spacetime;
using Eigen::MatrixXd;
using Eigen::Vector2d;
using Eigen::Vector3d;
using Eigen::VectorXd;

namespace {

using Options = DensityGeodesicOptions;

Options options(int numPoints, double tau = 1, double tolerance = 1e-9) {
    Options o;
    o.numPoints = numPoints;
    o.tau = tau;
    o.tolerance = tolerance;
    o.maxIterations = 2000;
    return o;
}

DensityPath geodesic(const DensityField& field, const VectorXd& a, const VectorXd& b, const Options& o) {
    const std::vector<DensityPath> paths = densityGeodesics(field, a, b, o);
    const DensityPath& path = paths.at(0);
    EXPECT_TRUE(path.converged) << path.residual << " after " << path.iterations << " iterations";
    EXPECT_LE(path.residual, o.tolerance);
    EXPECT_EQ(path.x.cols(), o.numPoints);
    EXPECT_EQ(path.x.col(0), a);
    EXPECT_LT((path.x.col(path.x.cols() - 1) - b).norm(), 1e-12 * (1 + b.norm()));
    EXPECT_LT(path.spacing, 1e-2);
    return path;
}

double hyperbolicDistance(const Vector2d& a, const Vector2d& b) { return std::acosh(1 + (a - b).squaredNorm() / (2 * a[1] * b[1])); }

/// Largest distance of nodes from the half-circle through two points of the half-plane.
double distanceFromCircle(const MatrixXd& x) {
    const Vector2d a = x.col(0), b = x.col(x.cols() - 1), centre((b.squaredNorm() - a.squaredNorm()) / (2 * (b[0] - a[0])), 0);
    return ((x.colwise() - centre).colwise().norm().array() - (a - centre).norm()).abs().maxCoeff();
}

/// p^-tau |x ^ t|, conserved where p has the symmetry of a sphere around 0 (Clairaut's relation, Snell's law), relative to its mean: the largest deviation at inner nodes.
/// With an axis, only the component along it is conserved: p has the symmetry of a cylinder.
double clairautDeviation(const DensityField& field, const MatrixXd& x, double tau, const VectorXd& axis = {}) {
    const MatrixXd t = unitTangents(x);
    const VectorXd logP = field.logDensity(x);
    VectorXd conserved(x.cols());
    for (Eigen::Index i = 0; i < x.cols(); i++) {
        const VectorXd xi = x.col(i), ti = t.col(i);
        const double wedge = axis.size() ? axis.dot(VectorXd(Vector3d(Vector3d(xi).cross(Vector3d(ti))))) : std::sqrt(std::max(0.0, xi.squaredNorm() - std::pow(xi.dot(ti), 2)));
        conserved[i] = std::exp(-tau * (logP[i] - logP[0])) * wedge;
    }
    const auto inner = conserved.segment(2, x.cols() - 4).array();
    return (inner / inner.mean() - 1).abs().maxCoeff();
}

/// Two-dimensional eikonal equation |grad T| = f from a point, by fast marching with second-order upwind differences.
class FastMarching {
public:
    FastMarching(double low, double high, int n) : low(low), h((high - low) / (n - 1)), n(n) {}

    /// T at b. Within 8 cells of a, T is the integral of f along the straight line.
    double distance(const std::function<double(const Vector2d&)>& f, const Vector2d& a, const Vector2d& b) const {
        enum State : char { Far, Near, Done };
        std::vector<double> T(n * n, std::numeric_limits<double>::infinity());
        std::vector<State> state(n * n, Far);
        std::vector<bool> start(n * n, false);
        std::priority_queue<std::pair<double, int>, std::vector<std::pair<double, int>>, std::greater<>> heap;
        auto point = [&](int k) {
            const int column = k % n, row = k / n;
            return Vector2d(low + h * column, low + h * row);
        };
        for (int k = 0; k < n * n; k++) {
            const Vector2d d = point(k) - a;
            if (d.norm() > 8 * h)
                continue;
            T[k] = 0;
            for (int i = 0; i < 16; i++)
                T[k] += f(a + (i + 0.5) / 16 * d) * d.norm() / 16;
            state[k] = Near;
            start[k] = true;
            heap.push({T[k], k});
        }
        // The smaller of the two neighbours along one axis, with the one behind it: a (3T - 4T1 + T2)/2h or a (T - T1)/h.
        auto update = [&](int k) {
            const double fk = f(point(k)) * h;
            double weight[2], value[2];
            int count = 0;
            for (int step : {1, n}) {
                double best = std::numeric_limits<double>::infinity();
                int at = -1, side = 0;
                for (int s : {-1, 1}) {
                    const int i = step == 1 ? k % n : k / n;
                    if (i + s < 0 || i + s >= n || state[k + s * step] != Done)
                        continue;
                    if (T[k + s * step] < best)
                        best = T[at = k + s * step], side = s;
                }
                if (at < 0)
                    continue;
                const int i = (step == 1 ? k % n : k / n) + 2 * side, behind = at + side * step;
                const bool second = i >= 0 && i < n && state[behind] == Done && T[behind] <= T[at];
                weight[count] = second ? 1.5 : 1;
                value[count++] = second ? (4 * T[at] - T[behind]) / 3 : T[at];
            }
            double result = std::numeric_limits<double>::infinity();
            if (count == 2) {  // sum of w_i^2 (T - v_i)^2 = f^2 h^2
                const double A = weight[0] * weight[0] + weight[1] * weight[1], B = weight[0] * weight[0] * value[0] + weight[1] * weight[1] * value[1];
                const double C = std::pow(weight[0] * value[0], 2) + std::pow(weight[1] * value[1], 2) - fk * fk;
                if (B * B - A * C >= 0)
                    result = (B + std::sqrt(B * B - A * C)) / A;
                if (result < std::max(value[0], value[1]))
                    result = std::numeric_limits<double>::infinity();
            }
            if (!std::isfinite(result))
                for (int i = 0; i < count; i++)
                    result = std::min(result, value[i] + fk / weight[i]);
            return result;
        };
        while (!heap.empty()) {
            const auto [t, k] = heap.top();
            heap.pop();
            if (state[k] == Done || t > T[k])
                continue;
            state[k] = Done;
            for (int step : {1, n})
                for (int s : {-1, 1}) {
                    const int i = step == 1 ? k % n : k / n, other = k + s * step;
                    if (i + s < 0 || i + s >= n || state[other] == Done || start[other])
                        continue;
                    const double value = update(other);
                    if (value < T[other]) {
                        T[other] = value;
                        state[other] = Near;
                        heap.push({value, other});
                    }
                }
        }
        const double u = (b[0] - low) / h, v = (b[1] - low) / h;
        const int i = static_cast<int>(u), j = static_cast<int>(v), k = j * n + i;
        return (1 - u + i) * ((1 - v + j) * T[k] + (v - j) * T[k + n]) + (u - i) * ((1 - v + j) * T[k + 1] + (v - j) * T[k + n + 1]);
    }

private:
    double low, h;
    int n;
};

/// A field's scores, times a number.
class Tempered : public DensityField {
public:
    Tempered(const DensityField& field, double power) : field(field), power(power) {}
    int dimension() const override { return field.dimension(); }
    VectorXd periods() const override { return field.periods(); }

protected:
    MatrixXd compute(const MatrixXd& x, long draw) const override {
        addEvaluations(x.cols());
        return power * field.score(x, draw);
    }

private:
    const DensityField& field;
    double power;
};

/// Highest memory that this process held, in bytes, since resetPeak(); 0 where that is not known, or is mostly ThreadSanitizer's own.
long peakMemory() {
#ifdef __has_feature
#if __has_feature(thread_sanitizer)
    return 0;
#endif
#endif
    std::ifstream in("/proc/self/status");
    for (std::string word; in >> word;)
        if (word == "VmHWM:") {
            long kB;
            in >> kB;
            return 1024 * kB;
        }
    return 0;
}
void resetPeak() { std::ofstream("/proc/self/clear_refs") << "5"; }

Variable torsion(const std::string& name) { return Variable::torsion(name); }

/// Two torsions: three states in closed form, whole surface turned by `turn`.
MixtureModel vonMises(double turn = 0) {
    const double centres[3][2] = {{-2.6, 2.7}, {-1.3, 1.0}, {1.1, -0.8}}, kappa[3] = {4, 6, 8};
    MixtureModel::Components c;
    c.logWeights = Vector3d(0, 0.3, -1);
    c.tilt.resize(4, 3);
    c.mean = c.precision = MatrixXd(0, 3);
    for (int k = 0; k < 3; k++)
        for (int j = 0; j < 2; j++)
            c.tilt.block(2 * j, k, 2, 1) = kappa[k] * Vector2d(std::cos(centres[k][j] + turn), std::sin(centres[k][j] + turn));
    return MixtureModel(Variables({torsion("phi"), torsion("psi")}), c);
}

}  // namespace

TEST(DensityGeodesic, HalfPlane) {
    const AnalyticDensity field = halfPlane();
    const double ends[3][4] = {{-1, 0.3, 1.2, 0.5}, {0, 1, 0.4, 3}, {-0.5, 0.1, 0.6, 0.1}};
    for (const auto& e : ends) {
        const Vector2d a(e[0], e[1]), b(e[2], e[3]);
        const double exact = hyperbolicDistance(a, b);
        double last = 0, lastDistance = 0;
        for (int N : {64, 128, 256}) {
            const DensityPath path = geodesic(field, a, b, options(N + 1));
            const double error = distanceFromCircle(path.x), distance = std::exp(path.logDistance) / a[1];
            EXPECT_LT(error, 30.0 / (N * N) * path.length);
            EXPECT_NEAR(distance / exact, 1, 30.0 / (N * N));
            if (N > 64) {  // second order
                EXPECT_NEAR(last / error, 4, 0.5) << N;
                EXPECT_NEAR((lastDistance - exact) / (distance - exact), 4, 0.6) << N;
            }
            last = error;
            lastDistance = distance;
            // p is known along the path: the line integral against it.
            EXPECT_LT((path.logDensity.array() - (path.x.row(1) / a[1]).array().log().transpose()).abs().maxCoeff(), 1e-4);
        }
    }
}

TEST(DensityGeodesic, StraightWhereTheDensityIsUniform) {
    const AnalyticDensity field = exponentialDensity(VectorXd::Zero(3));
    const Vector3d a(0.3, -1, 2), b(4, 2, 0.5);
    const DensityPath path = geodesic(field, a, b, options(17));
    EXPECT_LT((path.x - lerp(a, b, 17)).norm(), 1e-12);
    EXPECT_NEAR(path.length, (b - a).norm(), 1e-12);
    EXPECT_NEAR(path.logDistance, std::log((b - a).norm()), 1e-12);
    EXPECT_LT(path.logDensity.norm(), 1e-14);
}

TEST(DensityGeodesic, PowerLawIsStraightUnderAConformalMap) {
    // With m = k tau the metric is that of w = z^(m+1)/(m+1), in the plane of the two ends; below an angle of pi there the straight line misses w = 0.
    for (int D : {2, 3})
        for (double tau : {1.0, 0.5, 2.0}) {
            const double k = 1, m = k * tau, angle = 0.9, ra = 0.8, rb = 1.7;
            VectorXd e1 = VectorXd::LinSpaced(D, 1, 2), e2 = VectorXd::Zero(D);
            e1.normalize();
            e2[0] = 1;
            e2 = (e2 - e1.dot(e2) * e1).normalized();
            const VectorXd a = ra * e1, b = rb * (std::cos(angle) * e1 + std::sin(angle) * e2);
            const int N = 256;
            const DensityPath path = geodesic(powerLaw(D, k), a, b, options(N + 1, tau));
            const std::complex<double> wa = std::pow(ra, m + 1) / (m + 1), wb = std::polar(std::pow(rb, m + 1) / (m + 1), (m + 1) * angle);
            EXPECT_NEAR(path.logDistance, std::log(std::abs(wb - wa) / std::pow(ra, m)), 2e-4) << "D = " << D << ", tau = " << tau;
            double farthest = 0;
            for (int i = 0; i <= N; i++) {
                const std::complex<double> w = std::pow(std::complex<double>(path.x.col(i).dot(e1), path.x.col(i).dot(e2)), m + 1) / (m + 1);
                farthest = std::max(farthest, std::abs(std::imag((w - wa) * std::conj(wb - wa))) / std::abs(wb - wa));
            }
            EXPECT_LT(farthest, 5e-4 * std::abs(wb - wa));
            EXPECT_LT(clairautDeviation(powerLaw(D, k), path.x, tau), 1e-3);
            // The path stays in the plane of its ends and the centre.
            EXPECT_LT((path.x - e1 * (e1.transpose() * path.x) - e2 * (e2.transpose() * path.x)).norm(), 1e-9);
        }
}

TEST(DensityGeodesic, ClairautAroundAGaussian) {
    for (int D : {2, 3, 10}) {
        VectorXd a = VectorXd::LinSpaced(D, 1, 0.2), b = VectorXd::LinSpaced(D, -1.5, 0.6);
        a[1] += 1;
        for (double tau : {0.5, 1.0}) {
            const AnalyticDensity field = gaussianDensity(D, 1.5);
            double last = 0;
            for (int N : {128, 256, 512}) {
                const DensityPath path = geodesic(field, a, b, options(N + 1, tau, 1e-8));
                const double deviation = clairautDeviation(field, path.x, tau);
                EXPECT_LT(deviation, 100.0 / (N * N)) << "D = " << D << ", tau = " << tau << ", N = " << N;
                if (N > 128) {
                    EXPECT_NEAR(last / deviation, 4, 0.6) << "D = " << D << ", tau = " << tau << ", N = " << N;
                }
                last = deviation;
            }
        }
    }
}

TEST(DensityGeodesic, TemperingIsAPowerOfTheDensity) {
    const RandomProblem p(4, 3, 0.2, 0.8);
    const double tau = 0.4;
    const DensityPath path = geodesic(p.field, p.a, p.b, options(65, tau)), other = geodesic(Tempered(p.field, tau), p.a, p.b, options(65));
    EXPECT_LT((path.x - other.x).norm(), 1e-6);
    EXPECT_NEAR(path.logDistance, other.logDistance, 1e-6);
    EXPECT_LT((tau * path.logDensity - other.logDensity).norm(), 1e-3);
    // and not just the same line whatever tau is
    EXPECT_GT((path.x - geodesic(p.field, p.a, p.b, options(65)).x).norm(), 0.1);
}

TEST(DensityGeodesic, ReversedEndsGiveTheSamePath) {
    const RandomProblem p(7, 2, 0.2, 0.8);
    const DensityPath path = geodesic(p.field, p.a, p.b, options(65)), back = geodesic(p.field, p.b, p.a, options(65));
    EXPECT_LT((path.x - back.x.rowwise().reverse()).norm(), 1e-6);
    EXPECT_NEAR(path.logDistance + path.logDensity[64], back.logDistance, 1e-4);
}

TEST(DensityGeodesic, FastMarching) {
    const Vector2d a(-1, 0.6), b(1.2, 0.9);
    // The half-plane, lifted away from y = 0 so that the grid can hold it, tells how good the grid is.
    auto slowness = [](const DensityField& field, const VectorXd& start) {
        return [&field, logP = field.logDensity(start)[0]](const Vector2d& x) { return std::exp(std::min(50.0, logP - field.logDensity(VectorXd(x))[0])); };
    };
    EXPECT_NEAR(FastMarching(-3, 3, 241).distance([](const Vector2d& x) { return 1 / std::max(0.05, x[1]); }, a, b) / hyperbolicDistance(a, b), 1, 2e-3);
    for (unsigned seed = 1; seed <= 12; seed++) {
        const RandomProblem p(seed, 2, 0.15, 0.8);
        const double T = FastMarching(-6, 6, 401).distance(slowness(p.field, p.a), p.a, p.b);
        Options o = options(129, 1, 1e-3);
        o.starts = 6;
        const DensityPath path = geodesic(p.field, p.a, p.b, o);
        EXPECT_NEAR(path.logDistance, std::log(T), 0.01) << "seed " << seed;
    }
}

/// On a ring of wells the straight line through its middle is in balance, and longer than the way round on either side.
TEST(DensityGeodesic, LeavesABalanceThatIsNoMinimum) {
    for (int wells : {4, 8, 12})
        for (double variance : {0.1, 0.4}) {
            const MatrixXd angle = Eigen::RowVectorXd::LinSpaced(wells, 0, 2 * M_PI * (wells - 1) / wells);
            MatrixXd means(2, wells);
            means << 2 * angle.array().cos().matrix(), 2 * angle.array().sin().matrix();
            const GaussianMixture ring(means, VectorXd::Constant(wells, variance), VectorXd::Ones(wells));
            const Vector2d a(-2, 0), b(2, 0);
            const DensityPath path = geodesic(ring, a, b, options(65, 1, 1e-3));
            EXPECT_LT(path.logDistance, measureDensityPath(ring, lerp(a, b, 65), 1).logDistance - 0.5) << wells << " wells of variance " << variance;
            EXPECT_GT(path.x.row(1).cwiseAbs().maxCoeff(), 0.5);
            Options several = options(65, 1, 1e-3);
            several.starts = 5;
            EXPECT_NEAR(path.logDistance, geodesic(ring, a, b, several).logDistance, 1e-2);
        }
}

TEST(DensityGeodesic, RandomMixturesConvergeToShorterPaths) {
    struct Kind {
        int D;
        double low, high;
    };
    long most = 0;
    int bent = 0;
    for (const Kind& kind : {Kind{2, 0.1, 0.8}, Kind{2, 0.03, 0.1}, Kind{3, 0.1, 0.8}, Kind{10, 0.3, 1.0}})
        for (unsigned seed = 0; seed < 25; seed++) {
            const RandomProblem p(1000 * kind.D + seed, kind.D, kind.low, kind.high);
            Options o;
            const DensityPath path = densityGeodesics(p.field, p.a, p.b, o).at(0);
            const std::string which = "D = " + std::to_string(kind.D) + ", variances from " + std::to_string(kind.low) + ", seed " + std::to_string(seed);
            EXPECT_TRUE(path.converged) << which;
            EXPECT_LE(path.residual, 1e-3) << which;
            const DensityPath line = measureDensityPath(p.field, lerp(p.a, p.b, o.numPoints), 1);
            EXPECT_LE(path.logDistance, line.logDistance + 1e-4) << which;
            bent += path.logDistance < line.logDistance - 0.01;
            most = std::max(most, path.evaluations);
            EXPECT_LT((path.logDensity.array() - (p.field.logDensity(path.x).array() - p.field.logDensity(p.a)[0])).abs().maxCoeff(), 2e-3) << which;
        }
    EXPECT_GT(bent, 60);
    RecordProperty("most_evaluations", static_cast<int>(most));
}

TEST(DensityGeodesic, ManyDimensionsInLinearMemory) {
    const int D = 16384, N = 24;
    std::mt19937 random(3);
    std::normal_distribution<double> normal;
    auto draw = [&](int columns) { return MatrixXd(MatrixXd::NullaryExpr(D, columns, [&] { return normal(random); })); };
    const GaussianMixture field(0.3 * draw(3), Vector3d(0.9, 1, 1.1), Vector3d(1, 1, 1));
    VectorXd a = field.means.col(0) + draw(1), b = field.means.col(2) + draw(1);
    resetPeak();
    const long before = peakMemory();
    Options o = options(N + 1, 1e-3, 1e-3);
    const DensityPath path = geodesic(field, a, b, o);
    if (before > 0) {
        EXPECT_LT(peakMemory() - before, 50L * 8 * N * D + (64 << 20));
    }
    EXPECT_LT(path.logDistance, measureDensityPath(field, lerp(a, b, N + 1), o.tau).logDistance);
    EXPECT_LT(path.evaluations, 1000);
}

TEST(DensityGeodesic, SphereGreatCircles) {
    for (int D : {3, 8}) {
        const AnalyticDensity uniform = exponentialDensity(VectorXd::Zero(D));
        VectorXd a = VectorXd::LinSpaced(D, -1, 2), b = VectorXd::LinSpaced(D, 1.5, 0.1);
        b *= a.norm() / b.norm();
        Options o = options(33, 1, 1e-7);
        o.sphere = true;
        const DensityPath path = geodesic(uniform, a, b, o);
        EXPECT_TRUE(path.sphere);
        const MatrixXd circle = slerp(a, b, 33);
        EXPECT_LT((path.x - circle).norm(), 1e-4);
        // Off the plane of the great circle there is nothing.
        const MatrixXd plane = (MatrixXd(D, 2) << a.normalized(), (b - a.dot(b) / a.squaredNorm() * a).normalized()).finished();
        EXPECT_LT((path.x - plane * (plane.transpose() * path.x)).norm(), 1e-9);
        EXPECT_LT((path.x.colwise().norm().array() / a.norm() - 1).abs().maxCoeff(), 1e-12);
    }
}

TEST(DensityGeodesic, SphereClairaut) {
    const Vector3d axis(0, 0, 2.5);
    const AnalyticDensity field = exponentialDensity(axis);
    const Vector3d a(std::cos(0.1), 0, std::sin(0.1)), b(std::cos(-0.2) * std::cos(2.4), std::cos(-0.2) * std::sin(2.4), std::sin(-0.2));
    double last = 0;
    for (int N : {64, 128, 256}) {
        Options o = options(N + 1, 0.8, 1e-8);
        o.sphere = true;
        const DensityPath path = geodesic(field, 2 * a, 2 * b, o);
        EXPECT_LT((path.x.colwise().norm().array() / 2 - 1).abs().maxCoeff(), 1e-12);
        EXPECT_GT(path.x.row(2).maxCoeff(), 1) << "the path does not bend to the pole, where the density is highest";
        const double deviation = clairautDeviation(field, path.x, o.tau, VectorXd(axis));
        EXPECT_LT(deviation, 100.0 / (N * N));
        if (N > 64) {
            EXPECT_NEAR(last / deviation, 4, 0.8);
        }
        last = deviation;
    }
}

TEST(DensityGeodesic, SlerpStartAndOwnStart) {
    // Far from 0 in many dimensions, LERP passes close to 0; both starts lead to the same geodesic where there is one.
    const AnalyticDensity field = gaussianDensity(4, 4);
    const VectorXd a = VectorXd::LinSpaced(4, 1, 2), b = VectorXd::LinSpaced(4, 2, -1);
    Options o = options(65, 1, 1e-8);
    const DensityPath straight = geodesic(field, a, b, o);
    o.start = Options::Start::Slerp;
    const DensityPath round = geodesic(field, a, b, o);
    EXPECT_LT((straight.x - round.x).norm(), 1e-5);
    o.path = lerp(a, b, 9);
    o.path.middleCols(2, 5).row(0).array() += 0.3;
    EXPECT_LT((straight.x - geodesic(field, a, b, o).x).norm(), 1e-5);
    // SLERP itself: angles and radii change linearly.
    const MatrixXd arc = slerp(a, b, 11);
    for (int i = 0; i <= 10; i++) {
        EXPECT_NEAR(arc.col(i).norm(), a.norm() + i / 10.0 * (b.norm() - a.norm()), 1e-12);
        EXPECT_NEAR(std::acos(arc.col(i).dot(a) / arc.col(i).norm() / a.norm()), i / 10.0 * std::acos(a.dot(b) / a.norm() / b.norm()), 1e-7);
    }
}

TEST(DensityGeodesic, TorsionsBothWindings) {
    const MixtureModel model = vonMises();
    const ModelDensity field(model, std::log(20.0));
    const Vector2d a(-2.6, 2.7), b(1.1, -0.8);
    const std::vector<DensityPath> paths = densityGeodesics(field, a, b, options(97, 1, 1e-6));
    ASSERT_EQ(paths.size(), 4u);
    std::vector<std::vector<int>> seen;
    for (size_t i = 0; i < paths.size(); i++) {
        EXPECT_TRUE(paths[i].converged) << i << ": " << paths[i].residual;
        if (i > 0) {
            EXPECT_LE(paths[i - 1].logDistance, paths[i].logDistance);
        }
        EXPECT_EQ(std::count(seen.begin(), seen.end(), paths[i].windings), 0);
        seen.push_back(paths[i].windings);
        const Vector2d shortWay((b - a)[0] - 2 * M_PI * std::round((b - a)[0] / (2 * M_PI)), (b - a)[1] - 2 * M_PI * std::round((b - a)[1] / (2 * M_PI)));
        const Vector2d way = paths[i].x.col(96) - paths[i].x.col(0);
        for (int j = 0; j < 2; j++)
            EXPECT_NEAR(way[j], shortWay[j] + 2 * M_PI * paths[i].windings[j], 1e-12);
        // Each is a path of its own, and the winding asked for alone.
        Options o = options(97, 1, 1e-6);
        o.windings = paths[i].windings;
        const std::vector<DensityPath> alone = densityGeodesics(field, a, b, o);
        ASSERT_EQ(alone.size(), 1u);
        EXPECT_LT((alone[0].x - paths[i].x).norm(), 1e-4);
    }
}

TEST(DensityGeodesic, TorsionsOverTheSeam) {
    // The same surface turned by 2 rad: the path that crossed the seam does not, or the other way round.
    const MixtureModel model = vonMises(), turned = vonMises(2);
    const Vector2d a(-2.6, 2.7), b(1.1, -0.8), turn(2, 2);
    auto wrapped = [](Vector2d c) { return Vector2d(std::remainder(c[0], 2 * M_PI), std::remainder(c[1], 2 * M_PI)); };
    const std::vector<DensityPath> paths = densityGeodesics(ModelDensity(model, 3), a, b, options(65, 1, 1e-8)),
                                   others = densityGeodesics(ModelDensity(turned, 3), wrapped(a + turn), wrapped(b + turn), options(65, 1, 1e-8));
    ASSERT_EQ(paths.size(), others.size());
    int crossings = 0;
    for (size_t i = 0; i < paths.size(); i++) {
        EXPECT_NEAR(paths[i].logDistance, others[i].logDistance, 1e-6);
        MatrixXd shift = others[i].x - paths[i].x;
        shift.colwise() -= shift.col(0).eval();
        EXPECT_LT(shift.norm(), 1e-5);
        crossings += (paths[i].x.array().abs().maxCoeff() > M_PI) != (others[i].x.array().abs().maxCoeff() > M_PI);
    }
    EXPECT_GT(crossings, 0);
}

TEST(DensityGeodesic, StochasticScores) {
    // ModelDensity with draws follows the gradient of E[log p(x + e^(-l/2) eps)], here by Gauss-Hermite quadrature.
    MatrixXd means(2, 3);
    means << -1.2, 0.1, 1.3, 0.2, 1.4, -0.3;
    const GaussianMixtureModel model(means, Vector3d(0.2, 0.3, 0.25), Vector3d(0.4, 0.3, 0.3));
    const double level = 3;
    const ModelDensity plain(model, level), stochastic(model, level, 16, 5);
    const double node[5] = {-2.8569700138728056, -1.355626179974266, 0, 1.355626179974266, 2.8569700138728056};
    const double weight[5] = {0.011257411327720691, 0.22207592200561266, 0.53333333333333333, 0.22207592200561266, 0.011257411327720691};
    const AnalyticDensity expected(2, {}, [&](const VectorXd& x) {
        VectorXd sum = VectorXd::Zero(2);
        for (int i = 0; i < 5; i++)
            for (int j = 0; j < 5; j++)
                sum += weight[i] * weight[j] * plain.score(x + std::exp(-level / 2) * Vector2d(node[i], node[j]));
        return sum;
    });
    const Vector2d a(-1.3, 0), b(1.4, -0.4);
    Options o = options(33, 1, 0.05);
    const DensityPath reference = geodesic(expected, a, b, options(33)), noisy = densityGeodesics(stochastic, a, b, o).at(0),
                      other = densityGeodesics(ModelDensity(model, level, 16, 6), a, b, o).at(0), again = densityGeodesics(ModelDensity(model, level, 16, 5), a, b, o).at(0);
    EXPECT_TRUE(noisy.converged) << noisy.residual << " +- " << noisy.residualError;
    EXPECT_GT(noisy.residualError, 0);
    EXPECT_EQ(noisy.x, again.x) << "same seed, same path";
    EXPECT_NE(noisy.x, other.x);
    // Two seeds tell the error of a path; the truth lies no farther than a few of them. And the path is not that of the scores without noise.
    const double error = (noisy.x - other.x).norm(), gap = (noisy.x - reference.x).norm();
    EXPECT_LT(gap, 4 * error + 1e-3 * reference.length);
    EXPECT_LT(gap, 0.05 * reference.length);
}

TEST(DensityGeodesic, StoppedByProgress) {
    const RandomProblem p(3, 2, 0.05, 0.1);
    Options o;
    int calls = 0;
    double last = 0;
    o.progress = [&](double fraction) {
        EXPECT_GE(fraction, last - 1e-12);
        EXPECT_LE(fraction, 1);
        last = fraction;
        return ++calls < 4;
    };
    const std::vector<DensityPath> paths = densityGeodesics(p.field, p.a, p.b, o);
    EXPECT_EQ(calls, 4);
    ASSERT_EQ(paths.size(), 1u);
    EXPECT_FALSE(paths[0].converged);
    EXPECT_TRUE(paths[0].x.allFinite());
    EXPECT_EQ(paths[0].x.cols(), o.numPoints);
}

TEST(DensityGeodesic, SameSeedSamePath) {
    const RandomProblem p(5, 2, 0.05, 0.1);
    Options o;
    o.starts = 3;
    EXPECT_EQ(densityGeodesics(p.field, p.a, p.b, o).at(0).x, densityGeodesics(p.field, p.a, p.b, o).at(0).x);
}

TEST(DensityGeodesic, BadInput) {
    const AnalyticDensity plane = halfPlane();
    const Vector2d a(-1, 1), b(1, 0.5);
    auto solve = [](const DensityField& field, const VectorXd& a, const VectorXd& b, const std::function<void(Options&)>& change = {}) {
        return [=, &field] {
            Options o;
            if (change)
                change(o);
            densityGeodesics(field, a, b, o);
        };
    };
    expectError(solve(plane, a, Vector2d(1, -0.5)), {"zero below y = 0", "-0.5"});
    expectError(solve(plane, Vector2d(0, -2), b), {"zero below y = 0", "-2"});
    expectError(solve(plane, a, a), {"same", "(-1, 1)"});
    expectError(solve(plane, a, Vector3d(1, 2, 3)), {"end", "2", "(1, 2, 3)"});
    expectError(solve(plane, a, Vector2d(1, NAN)), {"finite"});
    for (double tau : {0.0, -1.0, double(NAN), double(INFINITY)})
        expectError(solve(plane, a, b, [&](Options& o) { o.tau = tau; }), {"tau"});
    expectError(solve(plane, a, b, [](Options& o) { o.numPoints = 4; }), {"5 points", "4"});
    expectError(solve(plane, a, b, [](Options& o) { o.tolerance = 0; }), {"tolerance"});
    expectError(solve(plane, a, b, [](Options& o) { o.maxIterations = 0; }), {"1 iteration", "0"});
    expectError(solve(plane, a, b, [](Options& o) { o.starts = 0; }), {"1 start", "0"});
    expectError(solve(plane, a, b, [](Options& o) { o.windings = {0, 1}; }), {"winding", "period"});
    expectError(solve(plane, a, b, [](Options& o) { o.windings = {0}; }), {"winding", "2", "1"});
    expectError(solve(plane, a, b, [](Options& o) { o.sphere = true; }), {"sphere"});
    expectError(solve(plane, a, b, [](Options& o) { o.path = MatrixXd::Ones(3, 4); }), {"path", "2 finite"});
    expectError(solve(plane, a, b, [](Options& o) { o.path = MatrixXd::Constant(2, 4, NAN); }), {"path", "finite"});
    // Whole turns apart is identical on the torus.
    const MixtureModel torsions = vonMises();
    const ModelDensity torus(torsions, 3);
    expectError(solve(torus, Vector2d(-1.3, 1), Vector2d(-1.3 + 2 * M_PI, 1 - 2 * M_PI)), {"same"});
    // A score that is not finite on the way: where.
    const AnalyticDensity hole(2, {}, [](const VectorXd& x) { return x.norm() < 0.5 ? VectorXd(Vector2d(NAN, 0)) : VectorXd(Vector2d(0, 0)); });
    expectError(solve(hole, Vector2d(-1, 0), Vector2d(1, 0)), {"score", "finite", "("});
}

TEST(DensityGeodesic, OutsideSaysWhere) {
    // The straight way between two islands of samples leads over the sea; with few iterations the solver cannot help it, and says so.
    const AnalyticDensity islands(
        2, [](const VectorXd&) { return 0.0; }, [](const VectorXd&) { return VectorXd(Vector2d::Zero()); },
        [](const VectorXd& x) { return std::abs(x[0]) < 0.5 ? std::string("the sea") : std::string(); });
    const DensityPath path = densityGeodesics(islands, Vector2d(-1, 0), Vector2d(1, 0), {}).at(0);
    EXPECT_NE(path.outside.find("the sea"), std::string::npos) << path.outside;
    const DensityPath land = densityGeodesics(islands, Vector2d(-1, 0), Vector2d(-1, 1), {}).at(0);
    EXPECT_EQ(land.outside, "");
}
