// SPDX-License-Identifier: MIT
// What every geodesic must satisfy, whatever the model: shortest among its competitors, a metric, independent of the units.
#include "spacetime/Models.h"
#include "spacetime/Solver.h"
#include <cmath>
#include <gtest/gtest.h>
#include <numeric>
#include <queue>
#include <random>

using namespace Spacetime;
using Eigen::MatrixXd;
using Eigen::VectorXd;

namespace {

double uniform(std::mt19937& random, double low, double high) { return std::uniform_real_distribution<double>(low, high)(random); }

MatrixXd randomMatrix(std::mt19937& random, Eigen::Index rows, Eigen::Index cols, double size) {
    return MatrixXd::NullaryExpr(rows, cols, [&] { return uniform(random, -size, size); });
}

struct Mixture {
    MatrixXd means;
    VectorXd variances, weights;
    GaussianMixtureModel model() const { return GaussianMixtureModel(means, variances, weights); }
};

Mixture randomMixture(std::mt19937& random, int D) {
    Mixture g{randomMatrix(random, D, 3, 2), VectorXd(3), VectorXd(3)};
    for (int k = 0; k < 3; k++) {
        g.variances[k] = uniform(random, 0.1, 0.6);
        g.weights[k] = uniform(random, 0.2, 1);
    }
    return g;
}

Mixture threeWells() {
    Mixture g{MatrixXd(1, 3), VectorXd::Constant(3, 0.5625), Eigen::Vector3d(0.275, 0.45, 0.275)};
    g.means << -2.5, 0.5, 2.5;
    return g;
}

/// Nodes shaken smoothly: centres and log-SNR of unlifted variables, angles and log kappa of lifted ones, no lower than the floors.
MatrixXd shaken(const Variables& vars, const MatrixXd& eta, std::mt19937& random, double floorLogSnr, double floorLogKappa) {
    const double size = std::pow(10.0, uniform(random, -2.5, 0));
    const MatrixXd a = randomMatrix(random, vars.numStatistics(), 4, size);
    MatrixXd out = eta;
    const Eigen::Index N = eta.cols() - 1;
    for (Eigen::Index i = 1; i < N; i++) {
        VectorXd d = VectorXd::Zero(vars.numStatistics());
        for (int shape = 0; shape < 4; shape++)
            d += a.col(shape) * std::sin((shape + 1) * M_PI * i / N);
        if (vars.hasQuadratic())
            out(0, i) = std::min(eta(0, i) * std::exp(d[0]), -0.5 * std::exp(floorLogSnr));
        for (int v = 0; v < vars.size(); v++) {
            const int o = vars.offset(v);
            if (vars[v].lifted()) {
                const double kappa = std::max(eta.col(i).segment<2>(o).norm() * std::exp(d[o]), std::exp(floorLogKappa)), angle = std::atan2(eta(o + 1, i), eta(o, i)) + d[o + 1];
                out.col(i).segment<2>(o) << kappa * std::cos(angle), kappa * std::sin(angle);
            }
            else
                out(o, i) = (eta(o, i) / eta(0, i) + d[o]) * out(0, i);
        }
    }
    return out;
}

/// The geodesic of a flat prior between two noisy points: a half circle over sqrt(2 D) e^(-l/2).
MatrixXd halfCircle(const VectorXd& a, const VectorXd& b, int N) {
    const Eigen::Index D = a.size() - 1;
    const VectorXd ma = a.tail(D) / (-2 * a[0]), mb = b.tail(D) / (-2 * b[0]);
    const double ya = std::sqrt(D / -a[0]), yb = std::sqrt(D / -b[0]), L = (mb - ma).norm();
    const double center = (L * L + yb * yb - ya * ya) / (2 * L), R = std::hypot(center, ya);
    const double ua = std::log((R - center) / ya), ub = std::log((R + L - center) / yb);
    MatrixXd eta(a.size(), N + 1);
    for (int k = 0; k <= N; k++) {
        const double angle = 2 * std::atan(std::exp(ua + (ub - ua) * k / N)), y = R * std::sin(angle);
        eta(0, k) = -D / (y * y);
        eta.col(k).tail(D) = -2 * eta(0, k) * (ma + (center - R * std::cos(angle)) / L * (mb - ma));
    }
    return eta;
}

GeodesicResult shortest(const PosteriorModel& model, const VectorXd& a, const VectorXd& b, int points = 129) {
    GeodesicOptions o;
    o.numPoints = points;
    o.tolerance = 1e-9;
    const GeodesicResult r = geodesic(model, a, b, o)[0];
    EXPECT_TRUE(r.converged);
    return r;
}

double length(const PosteriorModel& model, const MatrixXd& eta) { return measure(model, eta).length; }

/// mu of the three wells' posteriors by sums over a fine grid of c, apart from everything in the library.
struct Quadrature {
    VectorXd c, q;
    double step;
    Quadrature() {
        const int n = 1201;
        c = VectorXd::LinSpaced(n, -9, 9);
        step = c[1] - c[0];
        q = VectorXd::Zero(n);
        const double means[] = {-2.5, 0.5, 2.5}, weights[] = {0.275, 0.45, 0.275};
        for (int k = 0; k < 3; k++)
            q.array() += weights[k] / std::sqrt(2 * M_PI * 0.5625) * (-(c.array() - means[k]).square() / (2 * 0.5625)).exp();
    }
    Eigen::Vector2d mu(const Eigen::Vector2d& eta, double& psi) const {
        const Eigen::ArrayXd x = eta[0] * c.array().square() + eta[1] * c.array();
        const double top = x.maxCoeff();
        const Eigen::ArrayXd p = q.array() * (x - top).exp();
        const double Z = p.sum();
        psi = top + std::log(Z * step);
        return Eigen::Vector2d((p * c.array().square()).sum(), (p * c.array()).sum()) / Z;
    }
};

/// Grid of points in the posterior's mean and precision under a prior N(m0, s2), and the shortest way over its edges.
struct Grid {
    int columns, rows;
    double low, high, floor, top, m0, s2;  // range of the mean, range of the logarithm of the precision
    std::vector<Eigen::Vector2d> eta, mu;

    Grid(const Quadrature& quadrature, int columns, int rows, double low, double high, double floor, double top, double m0, double s2)
        : columns(columns), rows(rows), low(low), high(high), floor(floor), top(top), m0(m0), s2(s2) {
        double psi;
        for (int j = 0; j < rows; j++)
            for (int i = 0; i < columns; i++) {
                const double p = std::exp(floor + (top - floor) * j / (rows - 1)), m = low + (high - low) * i / (columns - 1);
                eta.emplace_back(-0.5 * (p - 1 / s2), p * m - m0 / s2);
                mu.push_back(quadrature.mu(eta.back(), psi));
            }
    }
    /// Dijkstra with edges to every neighbour up to `reach` cells away that no shorter edge leads to. An edge's sqrt(D eta·D mu) is no
    /// shorter than the straight line in eta, so the result is a bound from above.
    double distance(int from, int to, int reach) const {
        std::vector<std::pair<int, int>> offsets;
        for (int a = -reach; a <= reach; a++)
            for (int b = -reach; b <= reach; b++)
                if (std::gcd(a, b) == 1)
                    offsets.emplace_back(a, b);
        std::vector<double> best(eta.size(), std::numeric_limits<double>::infinity());
        std::priority_queue<std::pair<double, int>, std::vector<std::pair<double, int>>, std::greater<>> queue;
        best[from] = 0;
        queue.emplace(0.0, from);
        while (!queue.empty()) {
            const auto [d, at] = queue.top();
            queue.pop();
            if (at == to)
                return d;
            if (d > best[at])
                continue;
            for (const auto& [a, b] : offsets) {
                const int i = at % columns + a, j = at / columns + b, other = j * columns + i;
                if (i < 0 || i >= columns || j < 0 || j >= rows)
                    continue;
                const double reached = d + std::sqrt((eta[other] - eta[at]).dot(mu[other] - mu[at]));
                if (reached < best[other]) {
                    best[other] = reached;
                    queue.emplace(reached, other);
                }
            }
        }
        return best[to];
    }
};

}  // namespace

TEST(GeodesicProperties, ShorterThanItsCompetitors) {
    std::mt19937 random(1);
    for (int k = 0; k < 12; k++) {
        SCOPED_TRACE("mixture " + std::to_string(k));
        const int D = 1 + k % 3;
        const Mixture mixture = randomMixture(random, D);
        const GaussianMixtureModel g = mixture.model();
        const Variables& vars = g.variables();
        const VectorXd rawA = mixture.means.col(0) + randomMatrix(random, D, 1, 0.3), rawB = mixture.means.col(1) + randomMatrix(random, D, 1, 0.3);
        const double lA = uniform(random, 1.5, 4);
        const VectorXd a = vars.naturalParameter(rawA, lA), b = vars.naturalParameter(rawB, uniform(random, 1.5, 4)), level = vars.naturalParameter(rawB, lA);
        const GeodesicResult r = shortest(g, a, b);
        EXPECT_LT(r.measure.speedGap, 1e-3);
        EXPECT_LT(r.residual, 1e-9);
        for (int c = 0; c < 100; c++) {
            const MatrixXd other = shaken(vars, r.curve.eta(), random, -20, -20);
            const CurveMeasure m = measure(g, other);
            EXPECT_GT(m.energy, r.measure.energy);
            EXPECT_GT(m.length, r.measure.length * (1 - 1e-4));
        }
        EXPECT_GT(length(g, halfCircle(a, b, 512)), r.measure.length * (1 - 1e-4));
        MatrixXd straight(D + 1, 513);
        for (int i = 0; i <= 512; i++)
            straight.col(i) = a + (b - a) * (i / 512.0);
        EXPECT_GT(length(g, straight), r.measure.length);
        // The straight line in raw coordinates, at constant log-SNR.
        const GeodesicResult flat = shortest(g, a, level);
        EXPECT_GT(length(g, straightLine(vars, rawA, rawB, lA, 513)), flat.measure.length);
    }
}

TEST(GeodesicProperties, LengthIsAMetric) {
    std::mt19937 random(2);
    for (int k = 0; k < 12; k++) {
        SCOPED_TRACE("mixture " + std::to_string(k));
        const int D = 1 + k % 3;
        const GaussianMixtureModel g = randomMixture(random, D).model();
        MatrixXd ends(D + 1, 3);
        for (int i = 0; i < 3; i++)
            ends.col(i) = g.variables().naturalParameter(randomMatrix(random, D, 1, 2), uniform(random, 1, 4));
        double d[3];
        for (int i = 0; i < 3; i++)
            d[i] = shortest(g, ends.col(i), ends.col((i + 1) % 3)).measure.lengthExtrapolated;
        for (int i = 0; i < 3; i++)
            EXPECT_LE(d[i], (d[(i + 1) % 3] + d[(i + 2) % 3]) * (1 + 1e-4)) << i;
        EXPECT_NEAR(shortest(g, ends.col(1), ends.col(0)).measure.lengthExtrapolated, d[0], 1e-6 * d[0]) << "from the other end";
        EXPECT_NEAR(shortest(g, ends.col(0), ends.col(1), 257).measure.lengthExtrapolated, d[0], 1e-4 * d[0]) << "twice as many points";
    }
}

TEST(GeodesicProperties, ThreeWellsAgainstQuadratureAndDijkstra) {
    const GaussianMixtureModel g = threeWells().model();
    const Quadrature quadrature;
    const double m0 = g.dataMean()[0], s2 = g.dataVariance();
    for (double bound : {-std::numeric_limits<double>::infinity(), 2.0}) {
        SCOPED_TRACE("bound " + std::to_string(bound));
        const double floor = std::log(std::exp(bound) + 1 / s2), top = std::log(std::exp(3.3) + 1 / s2);
        // Cells about as long as they are wide.
        const bool bounded = std::isfinite(bound);
        const Grid grid(quadrature, bounded ? 481 : 241, bounded ? 31 : 101, -3.2, 3.2, floor, top, m0, s2);
        const int row = (bounded ? 0.75 : 0.97) * (grid.rows - 1), from = row * grid.columns + grid.columns / 9, to = (row - 2) * grid.columns + grid.columns * 7 / 8;
        // The moments themselves.
        for (int k : {from, to, 7 * grid.columns + grid.columns / 2}) {
            double psi;
            const Eigen::Vector2d mu = quadrature.mu(grid.eta[k], psi);
            const Moments m = g.moments(grid.eta[k]);
            EXPECT_LT((m.mu.col(0) - mu).norm(), 1e-8);
            EXPECT_NEAR(m.psi[0], psi, 1e-8);
        }
        GeodesicOptions o;
        o.minLogSnr = bound;
        const GeodesicResult r = geodesic(g, grid.eta[from], grid.eta[to], o)[0];
        EXPECT_TRUE(r.converged);
        // The whole of it lies on the grid.
        const Eigen::ArrayXd p = -2 * r.curve.eta().row(0).array() + 1 / s2, m = (r.curve.eta().row(1).transpose().array() + m0 / s2) / p;
        EXPECT_LT(p.maxCoeff(), std::exp(top));
        EXPECT_LT(m.abs().maxCoeff(), 3.2);
        const double distance = grid.distance(from, to, 5);
        EXPECT_GT(distance, r.measure.length * (1 - 1e-3));
        EXPECT_LT(distance, r.measure.length * 1.01);
    }
}

TEST(GeodesicProperties, ShiftAndScaleDoNotMatter) {
    std::mt19937 random(3);
    for (int k = 0; k < 4; k++) {
        SCOPED_TRACE("mixture " + std::to_string(k));
        const int D = 1 + k % 3;
        const Mixture mixture = randomMixture(random, D);
        const VectorXd rawA = randomMatrix(random, D, 1, 2), rawB = randomMatrix(random, D, 1, 2);
        const double lA = 3, lB = 2.2;
        const GaussianMixtureModel g = mixture.model();
        const double expected = shortest(g, g.variables().naturalParameter(rawA, lA), g.variables().naturalParameter(rawB, lB)).measure.lengthExtrapolated;
        Mixture moved = mixture;
        moved.means.array() += 1.7;
        const GaussianMixtureModel h = moved.model();
        const VectorXd shift = VectorXd::Constant(D, 1.7);
        EXPECT_NEAR(shortest(h, h.variables().naturalParameter(rawA + shift, lA), h.variables().naturalParameter(rawB + shift, lB)).measure.lengthExtrapolated, expected,
                    1e-6 * expected);
        Mixture scaled = mixture;
        scaled.means *= 3;
        scaled.variances *= 9;
        const GaussianMixtureModel f = scaled.model();
        const double l = 2 * std::log(3.0);
        EXPECT_NEAR(shortest(f, f.variables().naturalParameter(3 * rawA, lA - l), f.variables().naturalParameter(3 * rawB, lB - l)).measure.lengthExtrapolated, expected,
                    1e-6 * expected);
    }
}

TEST(GeodesicProperties, UnitsOfAVariableDoNotMatter) {
    std::mt19937 random(4);
    std::normal_distribution<double> normal;
    const MatrixXd raw = MatrixXd::NullaryExpr(1, 1500, [&] { return (uniform(random, 0, 1) < 0.4 ? -1.2 : 1) + 0.5 * normal(random); });
    double expected = 0;
    for (const auto& [shift, scale] : {std::pair(0.0, 1.0), std::pair(0.8, 1.0), std::pair(-0.5, 2.5)}) {
        Variable v = Variable::number("x");
        v.shift = shift;
        v.scale = scale;
        const EmpiricalModel e(Variables({v}), raw, VectorXd());
        const double l = 2 * std::log(scale);  // the same noise in raw units
        const VectorXd a = e.variables().naturalParameter(VectorXd::Constant(1, -1.1), 2.5 + l), b = e.variables().naturalParameter(VectorXd::Constant(1, 1.3), 2 + l);
        const double d = shortest(e, a, b).measure.lengthExtrapolated;
        if (expected == 0)
            expected = d;
        EXPECT_NEAR(d, expected, 1e-6 * expected) << shift << " " << scale;
    }
}

TEST(GeodesicProperties, MixedVariables) {
    std::mt19937 random(5);
    std::normal_distribution<double> normal;
    const int count = 1500;
    MatrixXd raw(2, count);
    for (int k = 0; k < count; k++) {
        const bool left = uniform(random, 0, 1) < 0.5;
        raw.col(k) << (left ? -1 : 1.2) + 0.7 * normal(random), (left ? -1 : 0.8) + 0.6 * normal(random);
    }
    const EmpiricalModel e(Variables({Variable::torsion("a"), Variable::number("x")}), raw, VectorXd());
    const VectorXd a = e.variables().naturalParameter(Eigen::Vector2d(-1, -1), 1.8), b = e.variables().naturalParameter(Eigen::Vector2d(1.2, 0.9), 1.8);
    GeodesicOptions o;
    o.numPoints = 65;
    const double unbounded = geodesic(e, a, b, o)[0].measure.length;
    for (bool bounded : {false, true}) {
        SCOPED_TRACE(bounded);
        if (bounded) {
            o.minLogSnr = 1;
            o.minKappa = 4;
        }
        const GeodesicResult r = geodesic(e, a, b, o)[0];
        EXPECT_TRUE(r.converged);
        EXPECT_LT(r.measure.speedGap, bounded ? 1e-2 : 1e-3);
        if (bounded) {
            const double snr = (-2 * r.curve.eta().row(0)).minCoeff(), kappa = r.curve.eta().middleRows(1, 2).colwise().norm().minCoeff();
            EXPECT_NEAR(snr, std::exp(1.0), 1e-6) << "both bounds are reached and hold";
            EXPECT_NEAR(kappa, 4, 1e-6);
            EXPECT_GT(r.measure.length, 1.01 * unbounded);
        }
        for (int c = 0; c < 100; c++) {
            const MatrixXd other = shaken(e.variables(), r.curve.eta(), random, o.minLogSnr, std::log(o.minKappa));
            const CurveMeasure m = measure(e, other);
            EXPECT_GT(m.energy, r.measure.energy * (1 - 1e-6));
            EXPECT_GT(m.length, r.measure.length * (1 - 1e-3));
        }
    }
}

TEST(GeodesicProperties, ClosedFormGaussianDistanceInManyDimensions) {
    std::mt19937 random(6);
    for (int D : {1, 2, 10, 64}) {
        const double variance = 1.7, mean = -0.3;
        const GaussianMixtureModel g(MatrixXd::Constant(D, 1, mean), VectorXd::Constant(1, variance), VectorXd::Ones(1));
        const VectorXd a = randomMatrix(random, D, 1, 1), b = randomMatrix(random, D, 1, 1);
        const double la = 2.5, lb = 1;
        const GeodesicResult r = shortest(g, g.variables().naturalParameter(a, la), g.variables().naturalParameter(b, lb), D == 64 ? 65 : 129);
        // Posteriors are N(m, v); in (m, y), y^2 = 2 D v, their metric is that of a hyperbolic space times 2 D.
        const double va = 1 / (1 / variance + std::exp(la)), vb = 1 / (1 / variance + std::exp(lb)), ya = std::sqrt(2 * D * va), yb = std::sqrt(2 * D * vb);
        const VectorXd ma = (va * (mean / variance + std::exp(la) * a.array())).matrix(), mb = (vb * (mean / variance + std::exp(lb) * b.array())).matrix();
        const double exact = std::sqrt(2.0 * D) * std::acosh(1 + ((ma - mb).squaredNorm() + (ya - yb) * (ya - yb)) / (2 * ya * yb));
        EXPECT_NEAR(r.measure.lengthExtrapolated, exact, (D == 64 ? 1e-5 : 1e-6) * exact) << "D = " << D;
        EXPECT_LT(r.measure.speedGap, 1e-6);
    }
}
