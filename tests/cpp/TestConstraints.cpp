// SPDX-License-Identifier: MIT
// Derivatives of energy and constraints against finite differences, the block solver against dense algebra, and constrained geodesics.
#include "Newton.h"
#include "ExpectError.h"
#include "Torus.h"
#include "spacetime/Models.h"
#include <Eigen/Dense>
#include <cmath>
#include <functional>
#include <gtest/gtest.h>
#include <memory>
#include <random>

using namespace Spacetime;
using Eigen::MatrixXd;
using Eigen::VectorXd;
using Order = PosteriorModel::Order;

namespace {

const double Infinity = std::numeric_limits<double>::infinity();

double uniform(std::mt19937& random, double low, double high) { return std::uniform_real_distribution<double>(low, high)(random); }

MatrixXd randomMatrix(std::mt19937& random, Eigen::Index rows, Eigen::Index cols) {
    std::normal_distribution<double> normal;
    return MatrixXd::NullaryExpr(rows, cols, [&] { return normal(random); });
}

/// Weighted samples without any structure: torsions in (-pi, pi), numbers of mean 2 and variance 2.25.
std::shared_ptr<const EmpiricalModel> randomSamples(const std::vector<Variable>& list, int count, unsigned seed) {
    std::mt19937 random(seed);
    MatrixXd raw(list.size(), count);
    VectorXd logWeights(count);
    for (int k = 0; k < count; k++) {
        for (size_t i = 0; i < list.size(); i++)
            raw(i, k) = list[i].lifted() ? uniform(random, -M_PI, M_PI) : 2 + 1.5 * std::normal_distribution<double>()(random);
        logWeights[k] = uniform(random, -1, 1);
    }
    return std::make_shared<EmpiricalModel>(Variables(list), raw, logWeights);
}

Variable scaledNumber(const std::string& name) {
    Variable v = Variable::number(name);
    v.shift = 1.5;
    v.scale = 1.2;
    return v;
}

struct NamedModel {
    std::string name;
    std::shared_ptr<const EmpiricalModel> samples;
};

std::vector<NamedModel> sampleModels() {
    return {{"torsions", randomSamples({Variable::torsion("a"), Variable::torsion("b")}, 200, 1)},
            {"numbers", randomSamples({scaledNumber("x"), Variable::number("y")}, 200, 2)},
            {"mixed", randomSamples({Variable::torsion("a"), scaledNumber("x"), Variable::torsion("b")}, 200, 3)}};
}

/// A point within the samples, wide enough to hold many of them.
VectorXd randomPoint(const PosteriorModel& model, std::mt19937& random) {
    VectorXd raw(model.variables().size());
    for (Eigen::Index i = 0; i < raw.size(); i++)
        raw[i] = model.variables()[i].lifted() ? uniform(random, -M_PI, M_PI) : uniform(random, 0.5, 3.5);
    return model.variables().naturalParameter(raw, uniform(random, -0.5, 1));
}

/// Logarithms of the probabilities of the support points under eta.
VectorXd logProbabilities(const EmpiricalModel& model, const VectorXd& eta) {
    const VectorXd x = model.logWeights() + model.support().transpose() * eta;
    const double top = x.maxCoeff();
    return (x.array() - top - std::log((x.array() - top).exp().sum())).matrix();
}

/// KL between two distributions on the same support, given by their logarithms.
double divergence(const VectorXd& logP, const VectorXd& logQ) { return (logP.array().exp() * (logP - logQ).array()).sum(); }

double marginAt(const PosteriorModel& model, const PointConstraint& constraint, const VectorXd& eta) {
    const Moments m = model.moments(eta, Order::Mean);
    return constraint.margin(eta, m.mu.col(0), m.psi[0]);
}

VectorXd gradientAt(const PosteriorModel& model, const PointConstraint& constraint, const VectorXd& eta) {
    const Moments m = model.moments(eta);
    return constraint.derivatives(eta, m.mu.col(0), m.psi[0], &m.J[0]).gradient;
}

/// Gradient of the margin against its values, Hessian with the third cumulant against the gradient.
void expectMarginDerivatives(const PosteriorModel& model, const PointConstraint& constraint, const VectorXd& eta) {
    const Moments first = model.moments(eta, Order::Mean);
    const MatrixXd direction = constraint.derivatives(eta, first.mu.col(0), first.psi[0], nullptr).third;
    const Moments at = model.moments(eta, Order::Third, &direction);
    const auto d = constraint.derivatives(eta, at.mu.col(0), at.psi[0], &at.J[0]);
    EXPECT_EQ((d.third - direction).norm(), 0) << "third depends on J";
    const MatrixXd hessian = d.hessian + at.third[0];
    const double h = 1e-5;
    VectorXd gradient(eta.size());
    MatrixXd difference(eta.size(), eta.size());
    for (Eigen::Index j = 0; j < eta.size(); j++) {
        const VectorXd step = h * VectorXd::Unit(eta.size(), j);
        gradient[j] = (marginAt(model, constraint, eta + step) - marginAt(model, constraint, eta - step)) / (2 * h);
        difference.col(j) = (gradientAt(model, constraint, eta + step) - gradientAt(model, constraint, eta - step)) / (2 * h);
    }
    EXPECT_GT(gradient.norm(), 1e-3);
    EXPECT_LT((d.gradient - gradient).norm(), 1e-6 * (1 + gradient.norm()));
    EXPECT_LT((hessian - difference).norm(), 1e-6 * (1 + difference.norm()));
}

MatrixXd dense(const BlockSystem& system) {
    const Eigen::Index n = system.diagonal.size(), m = system.gradient.rows();
    MatrixXd A = MatrixXd::Zero(n * m, n * m);
    for (Eigen::Index i = 0; i < n; i++) {
        A.block(i * m, i * m, m, m) = system.diagonal[i];
        if (i + 1 < n) {
            A.block(i * m, (i + 1) * m, m, m) = system.upper[i];
            A.block((i + 1) * m, i * m, m, m) = system.upper[i].transpose();
        }
    }
    return A;
}

/// A positive definite system, L L^T + shift of a random block-bidiagonal L.
BlockSystem randomSystem(std::mt19937& random, Eigen::Index m, Eigen::Index n, double shift) {
    BlockSystem system(m, n);
    MatrixXd below = MatrixXd::Zero(m, m);
    for (Eigen::Index i = 0; i < n; i++) {
        const MatrixXd L = randomMatrix(random, m, m), next = randomMatrix(random, m, m);
        system.diagonal[i] = L * L.transpose() + below * below.transpose() + shift * MatrixXd::Identity(m, m);
        if (i + 1 < n)
            system.upper[i] = L * next.transpose();
        below = next;
    }
    system.gradient = randomMatrix(random, m, n);
    return system;
}

/// The objective minus sum force·margin, or with a barrier -tau sum log(margin + 1): gradient against values, Hessian against gradients.
void expectCurveDerivatives(const CurveProblem& problem, const MatrixXd& zeta, const MatrixXd& multipliers, double tau = 0) {
    const Eigen::Index m = zeta.rows(), N = zeta.cols() - 1, size = m * (N - 1);
    auto terms = [&](const CurveState& s) {
        BarrierTerms t{multipliers, multipliers, MatrixXd::Zero(multipliers.rows(), multipliers.cols())};
        if (tau > 0) {
            const MatrixXd inverse = (s.margins.array() + 1).inverse().matrix();
            t = {tau * inverse, tau * inverse, tau * inverse.cwiseProduct(inverse)};
        }
        return t;
    };
    auto moved = [&](const VectorXd& x) {
        MatrixXd z = zeta;
        z.middleCols(1, N - 1) += Eigen::Map<const MatrixXd>(x.data(), m, N - 1);
        return z;
    };
    auto value = [&](const VectorXd& x) {
        const CurveState s = evaluate(problem, moved(x));
        if (tau > 0)
            return s.objective() - tau * (s.margins.array() + 1).log().sum();
        return s.objective() - multipliers.cwiseProduct(s.margins).sum();
    };
    auto assembled = [&](const VectorXd& x, BlockSystem& hessian) {
        BlockSystem damping(m, N - 1);
        hessian = BlockSystem(m, N - 1);
        CurveState s = evaluate(problem, moved(x));
        const BarrierTerms t = terms(s);
        assemble(problem, s, t, hessian, damping);
        return VectorXd(Eigen::Map<const VectorXd>(hessian.gradient.data(), size));
    };
    BlockSystem hessian(m, N - 1), scratch(m, N - 1);
    const VectorXd gradient = assembled(VectorXd::Zero(size), hessian);
    VectorXd slope(size);
    MatrixXd difference(size, size);
    const double h = 1e-5;
    for (Eigen::Index k = 0; k < size; k++) {
        const VectorXd step = h * VectorXd::Unit(size, k);
        slope[k] = (value(step) - value(-step)) / (2 * h);
        difference.col(k) = (assembled(step, scratch) - assembled(-step, scratch)) / (2 * h);
    }
    EXPECT_GT(slope.norm(), 1e-3);
    EXPECT_LT((gradient - slope).norm(), 1e-6 * slope.norm());
    EXPECT_LT((dense(hessian) - difference).norm(), 1e-6 * difference.norm());
}

struct NamedChart {
    std::string name;
    Chart chart;
};

/// Every chart that the solver would use for a model.
std::vector<NamedChart> charts(const PosteriorModel& model) {
    std::vector<NamedChart> list;
    list.push_back({"plain", Chart(model, -Infinity, -Infinity)});
    if (model.variables().numLifted() > 0)
        list.push_back({"polar", Chart(model, -Infinity, -Infinity, true)});
    list.push_back({"bounded", Chart(model, -1, -1)});
    return list;
}

/// A curve of N edges between two random points, shaken.
MatrixXd shakenCurve(const PosteriorModel& model, const Chart& chart, int N, std::mt19937& random) {
    const VectorXd a = randomPoint(model, random), b = randomPoint(model, random);
    MatrixXd zeta = chart.start(a, b, std::vector<int>(model.variables().size(), 0), N);
    zeta.middleCols(1, N - 1) += 0.1 * randomMatrix(random, zeta.rows(), N - 1);
    return zeta;
}

VectorXd point(const PosteriorModel& model, double a, double b, double logSnr) { return model.variables().naturalParameter(Eigen::Vector2d(a, b), logSnr); }

/// The constraint of that name at four points a segment, computed here from the samples of the model.
VectorXd valuesAlong(const EmpiricalModel& model, const Curve& curve, const Region* region) {
    const int N = curve.numPoints() - 1;
    VectorXd values(4 * N + 1), eta;
    const VectorXd logStar = region != nullptr ? logProbabilities(model, region->eta) : VectorXd();
    for (int k = 0; k <= 4 * N; k++) {
        const int i = std::min(k / 4, N - 1);
        curve.evaluate(curve.s()[i] + (k / 4.0 - i) * (curve.s()[i + 1] - curve.s()[i]), eta);
        const VectorXd logP = logProbabilities(model, eta);
        if (region != nullptr)
            values[k] = divergence(logStar, logP);
        else  // two torsions
            values[k] = 2 - (model.support() * logP.array().exp().matrix()).squaredNorm();
    }
    return values;
}

const GeodesicResult& withWindings(const std::vector<GeodesicResult>& results, const std::vector<int>& windings) {
    for (const GeodesicResult& r : results)
        if (r.windings == windings)
            return r;
    throw std::runtime_error("no result of these windings");
}

/// Nearby curves that meet the constraints at nodes and middles: none may have a smaller energy.
void expectLocalOptimum(const PosteriorModel& model, const GeodesicResult& r, const Constraints& constraints, int wanted, double minKappa = 0) {
    const Chart chart(model, -Infinity, std::log(minKappa), true);
    const CurveProblem problem{model, chart, constraints};
    const MatrixXd best = chart.unwrapped(r.curve.eta(), r.curve.eta().col(0), r.curve.eta().rightCols(1));
    const CurveState at = evaluate(problem, best);
    std::mt19937 random(7);
    const Eigen::Index N = best.cols() - 1;
    int feasible = 0;
    double least = Infinity;
    for (int trial = 0; trial < 40 * wanted && feasible < wanted; trial++) {
        const MatrixXd amplitude = std::pow(10.0, uniform(random, -3, -0.5)) * randomMatrix(random, best.rows(), 4);
        MatrixXd zeta = best;
        for (Eigen::Index i = 1; i < N; i++)
            for (int shape = 0; shape < 4; shape++)
                zeta.col(i) += amplitude.col(shape) * std::sin((shape + 1) * M_PI * i / N) / (shape + 1);
        const CurveState s = evaluate(problem, zeta.cwiseMax(chart.lower().replicate(1, N + 1)));
        if (s.margins.minCoeff() < 0)
            continue;
        feasible++;
        least = std::min(least, s.sum);
    }
    EXPECT_EQ(feasible, wanted);
    EXPECT_GT(least, at.sum * (1 - 1e-3));
}

}  // namespace

TEST(Constraints, VarianceIsThatOfTheSamples) {
    std::mt19937 random(11);
    for (const NamedModel& named : sampleModels()) {
        const EmpiricalModel& model = *named.samples;
        const Variables& vars = model.variables();
        const VarianceConstraint constraint(vars, 0.7);
        for (int k = 0; k < 3; k++) {
            SCOPED_TRACE(named.name);
            const VectorXd eta = randomPoint(model, random), p = logProbabilities(model, eta).array().exp();
            // |c - E c|^2 of the rows of T that are coordinates of c: all but |d|^2.
            const MatrixXd c = model.support().bottomRows(eta.size() - (vars.hasQuadratic() ? 1 : 0));
            const MatrixXd centered = c.colwise() - VectorXd(c * p);
            const double expected = centered.colwise().squaredNorm().dot(p);
            const Moments m = model.moments(eta, Order::Mean);
            EXPECT_NEAR(constraint.value(eta, m.mu.col(0), m.psi[0]), expected, 1e-10);
            EXPECT_NEAR(marginAt(model, constraint, eta), 1 - expected / 0.7, 1e-10);
            EXPECT_TRUE(constraint.isUpper());
            expectMarginDerivatives(model, constraint, eta);
        }
    }
}

TEST(Constraints, RegionIsTheDivergenceFromItsCentre) {
    std::mt19937 random(12);
    for (const NamedModel& named : sampleModels()) {
        const EmpiricalModel& model = *named.samples;
        const VectorXd centre = randomPoint(model, random);
        const RegionConstraint constraint(model, {centre, 1.7}, "region 1");
        for (int k = 0; k < 3; k++) {
            SCOPED_TRACE(named.name);
            const VectorXd eta = randomPoint(model, random);
            const double expected = divergence(logProbabilities(model, centre), logProbabilities(model, eta));
            const Moments m = model.moments(eta, Order::Mean);
            EXPECT_NEAR(constraint.value(eta, m.mu.col(0), m.psi[0]), expected, 1e-10);
            EXPECT_EQ(marginAt(model, constraint, eta) > 0, expected > 1.7);
            EXPECT_FALSE(constraint.isUpper());
            expectMarginDerivatives(model, constraint, eta);
        }
        EXPECT_NEAR(constraint.marginOf(1.7), 0, 1e-15);
        const Moments m = model.moments(centre, Order::Mean);
        EXPECT_NEAR(constraint.value(centre, m.mu.col(0), m.psi[0]), 0, 1e-12);
    }
}

TEST(Constraints, FreeEnergyIsTheDivergenceFromTheData) {
    std::mt19937 random(13);
    for (const NamedModel& named : sampleModels()) {
        const EmpiricalModel& model = *named.samples;
        const VectorXd start = randomPoint(model, random);
        const FreeEnergyConstraint constraint(model, start, 0.8);
        for (int k = 0; k < 3; k++) {
            SCOPED_TRACE(named.name);
            const VectorXd eta = randomPoint(model, random);
            const double expected = divergence(logProbabilities(model, eta), model.logWeights()) - divergence(logProbabilities(model, start), model.logWeights());
            const Moments m = model.moments(eta, Order::Mean);
            EXPECT_NEAR(constraint.value(eta, m.mu.col(0), m.psi[0]), expected, 1e-10);
            EXPECT_NEAR(marginAt(model, constraint, eta), 1 - expected / 0.8, 1e-10);
            expectMarginDerivatives(model, constraint, eta);
        }
    }
}

TEST(Constraints, ReserveLowersTheMargin) {
    const auto model = randomSamples({Variable::torsion("a")}, 100, 4);
    VarianceConstraint constraint(model->variables(), 0.5);
    const VectorXd eta = Eigen::Vector2d(1, -0.4);
    const double before = marginAt(*model, constraint, eta);
    constraint.reserve = 0.125;
    EXPECT_DOUBLE_EQ(marginAt(*model, constraint, eta), before - 0.125);
}

TEST(Constraints, LogSnrPenalty) {
    std::mt19937 random(14);
    for (const NamedModel& named : sampleModels()) {
        const Variables& vars = named.samples->variables();
        for (double offset : {-0.8, -0.1, 0.07, 0.9}) {
            SCOPED_TRACE(named.name + ", " + std::to_string(offset) + " above the log-SNR");
            const VectorXd eta = randomPoint(*named.samples, random);
            const double l = vars.hasQuadratic() ? std::log(-2 * eta[0]) : std::log(eta.norm() / std::sqrt(2.0)), low = l + offset;
            const LogSnrPenalty p = logSnrPenalty(vars, eta, low);
            EXPECT_NEAR(p.value, std::log(1 + std::exp(10 * offset)) / 10, 1e-12);
            const double h = 1e-6;
            for (Eigen::Index j = 0; j < eta.size(); j++) {
                const VectorXd step = h * VectorXd::Unit(eta.size(), j);
                const LogSnrPenalty plus = logSnrPenalty(vars, eta + step, low), minus = logSnrPenalty(vars, eta - step, low);
                EXPECT_NEAR(p.gradient[j], (plus.value - minus.value) / (2 * h), 1e-7 * (1 + p.gradient.norm()));
                EXPECT_LT((p.hessian.col(j) - (plus.gradient - minus.gradient) / (2 * h)).norm(), 1e-6 * (1 + p.hessian.norm()));
            }
        }
    }
}

TEST(CurveEnergy, DerivativesOfTheEnergy) {
    std::mt19937 random(21);
    const Constraints none;
    for (const NamedModel& named : sampleModels())
        for (const NamedChart& c : charts(*named.samples)) {
            const MatrixXd zeta = shakenCurve(*named.samples, c.chart, 4, random);
            for (double barrier : {0.0, 0.6})
                for (double penalty : {0.0, 0.3}) {
                    SCOPED_TRACE(named.name + ", " + c.name + ", barrier " + std::to_string(barrier) + ", penalty " + std::to_string(penalty));
                    expectCurveDerivatives({*named.samples, c.chart, none, barrier, 0.2, penalty}, zeta, MatrixXd());
                }
        }
}

TEST(CurveEnergy, DerivativesOfTheLagrangian) {
    std::mt19937 random(22);
    for (const NamedModel& named : sampleModels())
        for (const NamedChart& c : charts(*named.samples)) {
            const MatrixXd zeta = shakenCurve(*named.samples, c.chart, 4, random);
            const VectorXd start = c.chart.toEta(zeta.leftCols(1));
            auto variance = [&] { return std::make_unique<VarianceConstraint>(named.samples->variables(), 1.1); };
            auto region = [&] { return std::make_unique<RegionConstraint>(*named.samples, Region{-start, 0.9}, "region 1"); };
            auto freeEnergy = [&] { return std::make_unique<FreeEnergyConstraint>(*named.samples, start, 1.3); };
            std::vector<Constraints> sets(4);
            sets[0].push_back(variance());
            sets[1].push_back(region());
            sets[2].push_back(freeEnergy());
            sets[3].push_back(variance());
            sets[3].push_back(region());
            sets[3].push_back(freeEnergy());
            if (named.samples->variables().hasQuadratic())  // a centre at a negative log-SNR is no point
                for (size_t k : {1, 3})
                    sets[k][k == 1 ? 0 : 1] = std::make_unique<RegionConstraint>(*named.samples, Region{randomPoint(*named.samples, random), 0.9}, "region 1");
            for (size_t k = 0; k < sets.size(); k++) {
                SCOPED_TRACE(named.name + ", " + c.name + ", set " + std::to_string(k));
                const MatrixXd multipliers = randomMatrix(random, sets[k].size(), 2 * zeta.cols() - 1).cwiseAbs();
                expectCurveDerivatives({*named.samples, c.chart, sets[k], k == 3 ? 0.4 : 0.0, 0.2, k == 3 ? 0.2 : 0.0}, zeta, multipliers);
            }
        }
}

TEST(CurveEnergy, StiffnessIsThatOfALogarithmicBarrier) {
    std::mt19937 random(23);
    for (const NamedModel& named : sampleModels())
        for (const NamedChart& c : charts(*named.samples)) {
            SCOPED_TRACE(named.name + ", " + c.name);
            const MatrixXd zeta = shakenCurve(*named.samples, c.chart, 4, random);
            Constraints constraints;
            constraints.push_back(std::make_unique<VarianceConstraint>(named.samples->variables(), 3.5));
            constraints.push_back(std::make_unique<RegionConstraint>(*named.samples, Region{randomPoint(*named.samples, random), 0.5}, "region 1"));
            expectCurveDerivatives({*named.samples, c.chart, constraints}, zeta, MatrixXd(), 0.3);
        }
}

TEST(CurveEnergy, HessianTakesTheMultipliersAndTheGradientTheForce) {
    std::mt19937 random(25);
    for (const NamedModel& named : sampleModels())
        for (const NamedChart& c : charts(*named.samples)) {
            SCOPED_TRACE(named.name + ", " + c.name);
            const MatrixXd zeta = shakenCurve(*named.samples, c.chart, 4, random);
            Constraints constraints;
            constraints.push_back(std::make_unique<VarianceConstraint>(named.samples->variables(), 1.1));
            const CurveProblem problem{*named.samples, c.chart, constraints};
            const MatrixXd ones = MatrixXd::Ones(1, 9), zeros = MatrixXd::Zero(1, 9);
            auto assembled = [&](const MatrixXd& multipliers, const MatrixXd& force) {
                BlockSystem hessian(zeta.rows(), 3), damping(zeta.rows(), 3);
                CurveState s = evaluate(problem, zeta);
                assemble(problem, s, {multipliers, force, zeros}, hessian, damping);
                return hessian;
            };
            const BlockSystem both = assembled(ones, ones), multipliers = assembled(ones, zeros), force = assembled(zeros, ones), neither = assembled(zeros, zeros);
            EXPECT_LT((dense(both) - dense(multipliers)).norm(), 1e-12 * dense(both).norm());
            EXPECT_LT((dense(neither) - dense(force)).norm(), 1e-12 * dense(neither).norm());
            EXPECT_GT((dense(both) - dense(neither)).norm(), 1e-3 * dense(both).norm());
            EXPECT_LT((both.gradient - force.gradient).norm(), 1e-12 * both.gradient.norm());
            EXPECT_GT((both.gradient - neither.gradient).norm(), 1e-3 * both.gradient.norm());
        }
}

TEST(CurveEnergy, SumIsTheEnergyOfTheNodes) {
    std::mt19937 random(24);
    const Constraints none;
    for (const NamedModel& named : sampleModels()) {
        const Chart chart(*named.samples, -Infinity, -Infinity);
        const MatrixXd zeta = shakenCurve(*named.samples, chart, 6, random);
        const CurveState s = evaluate({*named.samples, chart, none}, zeta);
        double sum = 0;
        for (int i = 0; i < 6; i++) {  // Jeffreys' divergence of neighbours
            const VectorXd p = logProbabilities(*named.samples, s.eta.col(i)), q = logProbabilities(*named.samples, s.eta.col(i + 1));
            sum += divergence(p, q) + divergence(q, p);
        }
        EXPECT_NEAR(s.sum, sum, 1e-9 * sum) << named.name;
    }
}

TEST(BlockSystem, SolveMatchesDenseAlgebra) {
    std::mt19937 random(31);
    for (Eigen::Index m : {1, 2, 5})
        for (Eigen::Index n : {1, 2, 9}) {
            const BlockSystem system = randomSystem(random, m, n, 0.1), other = randomSystem(random, m, n, 0.1);
            const MatrixXd A = dense(system), b = randomMatrix(random, m, n);
            const VectorXd flat = Eigen::Map<const VectorXd>(b.data(), m * n), expected = A.ldlt().solve(flat), product = A * flat;
            MatrixXd x;
            ASSERT_TRUE(system.solve(b, x));
            EXPECT_LT((Eigen::Map<const VectorXd>(x.data(), m * n) - expected).norm(), 1e-9 * expected.norm());
            const MatrixXd y = system.times(b);
            EXPECT_LT((Eigen::Map<const VectorXd>(y.data(), m * n) - product).norm(), 1e-12 * product.norm());
            const BlockSystem sum = system.plus(0.3, other);
            EXPECT_LT((dense(sum) - A - 0.3 * dense(other)).norm(), 1e-12 * A.norm());
            EXPECT_EQ((sum.gradient - system.gradient).norm(), 0);
            BlockSystem indefinite = system;
            indefinite.diagonal[n / 2](m - 1, m - 1) = -1;
            EXPECT_FALSE(indefinite.solve(b, x));
            EXPECT_FALSE(indefinite.solveBounded(MatrixXd::Constant(m, n, -Infinity), x));
        }
}

TEST(BlockSystem, BoundedSolveFindsTheMinimumInTheBox) {
    std::mt19937 random(32);
    const Eigen::Index m = 2, n = 3, size = m * n;
    int bound = 0;
    for (int trial = 0; trial < 200; trial++) {
        const BlockSystem system = randomSystem(random, m, n, 0.1);
        const MatrixXd A = dense(system);
        const VectorXd g = Eigen::Map<const VectorXd>(system.gradient.data(), size);
        MatrixXd lower(m, n);
        for (Eigen::Index k = 0; k < size; k++)
            lower(k) = trial % 4 == 0 ? 0 : uniform(random, 0, 1) < 0.3 ? -Infinity : -uniform(random, 0, 0.5);
        // The minimum over every set of coordinates that could rest on their bounds.
        VectorXd best;
        double least = Infinity;
        for (int set = 0; set < 1 << size; set++) {
            MatrixXd B = A;
            VectorXd fixed = VectorXd::Zero(size), b;
            bool possible = true;
            for (Eigen::Index k = 0; k < size; k++)
                if (set >> k & 1) {
                    possible = possible && std::isfinite(lower(k));
                    fixed[k] = lower(k);
                }
            if (!possible)
                continue;
            b = -g - A * fixed;
            for (Eigen::Index k = 0; k < size; k++)
                if (set >> k & 1) {
                    B.row(k).setZero();
                    B.col(k).setZero();
                    B(k, k) = 1;
                    b[k] = 0;
                }
            const VectorXd x = B.ldlt().solve(b) + fixed;
            const double value = g.dot(x) + 0.5 * x.dot(A * x);
            if ((x - Eigen::Map<const VectorXd>(lower.data(), size)).minCoeff() >= -1e-12 && value < least) {
                least = value;
                best = x;
            }
        }
        MatrixXd x;
        ASSERT_TRUE(system.solveBounded(lower, x));
        EXPECT_GE((x - lower).minCoeff(), 0);
        EXPECT_LT((Eigen::Map<const VectorXd>(x.data(), size) - best).norm(), 1e-7 * (1 + best.norm())) << "trial " << trial;
        bound += (x.array() == lower.array()).any();
    }
    EXPECT_GT(bound, 100);
}

TEST(BlockSystem, BoundedSolveMeetsTheConditionsOfOptimality) {
    std::mt19937 random(33);
    for (int trial = 0; trial < 30; trial++) {
        const Eigen::Index m = 4, n = 31;
        // Like the energy of a curve: a stiff chain whose upper half has no bounds.
        BlockSystem system = randomSystem(random, m, n, 0.5);
        MatrixXd lower = MatrixXd::Constant(m, n, -Infinity);
        for (Eigen::Index i = 0; i < n; i++)
            for (Eigen::Index j = 0; j < 2; j++)
                lower(j, i) = i % 3 == 0 ? 0 : -uniform(random, 0, 0.3);
        MatrixXd x;
        ASSERT_TRUE(system.solveBounded(lower, x));
        const MatrixXd force = system.times(x) + system.gradient;
        for (Eigen::Index k = 0; k < x.size(); k++) {
            EXPECT_GE(x(k), lower(k));
            if (x(k) > lower(k) + 1e-9) {
                EXPECT_NEAR(force(k), 0, 1e-8) << "trial " << trial;
            }
            else {
                EXPECT_GE(force(k), -1e-8) << "trial " << trial;
            }
        }
    }
}

TEST(ConstrainedGeodesic, VarianceBoundIsActiveAndHolds) {
    const EmpiricalModel e = torus(32);
    const VectorXd a = point(e, -1.2, 0.1, 3.2), b = point(e, 1.2, -0.2, 3.2);
    GeodesicOptions o;
    o.numPoints = 65;
    const auto plain = geodesic(e, a, b, o)[0];
    const double bound = 0.4;
    EXPECT_GT(valuesAlong(e, plain.curve, nullptr).maxCoeff(), 1.5 * bound) << "the bound would not matter";
    o.maxVariance = bound;
    const auto results = geodesic(e, a, b, o);
    ASSERT_EQ(results.size(), 4u);
    for (const auto& r : results) {
        SCOPED_TRACE(std::to_string(r.windings[0]) + " " + std::to_string(r.windings[1]));
        EXPECT_TRUE(r.converged);
        const VectorXd values = valuesAlong(e, r.curve, nullptr);
        EXPECT_LT(values.maxCoeff(), 1.01 * bound);
        EXPECT_GT(values.maxCoeff(), 0.97 * bound) << "the bound is not active";
        EXPECT_GT(r.measure.length, 1.02 * plain.measure.length);
        ASSERT_EQ(r.constraints.size(), 1u);
        EXPECT_EQ(r.constraints[0].name, "tr Cov");
        EXPECT_NEAR(r.constraints[0].extreme, values.maxCoeff(), 1e-9);
    }
    Constraints constraints;
    constraints.push_back(std::make_unique<VarianceConstraint>(e.variables(), bound));
    expectLocalOptimum(e, results[0], constraints, 60);
}

TEST(ConstrainedGeodesic, RegionIsAvoided) {
    const EmpiricalModel e = torus(32);
    const VectorXd a = point(e, -1.2, 0.1, 3.2), b = point(e, 1.2, -0.2, 3.2);
    GeodesicOptions o;
    o.numPoints = 65;
    o.minKappa = 15;
    const auto plain = withWindings(geodesic(e, a, b, o), {0, 0});
    // A region that the free curve goes straight through.
    const Region region{plain.curve.eta().col(28), 1.5};
    EXPECT_LT(valuesAlong(e, plain.curve, &region).minCoeff(), 1e-6);
    o.avoid = {region};
    const auto results = geodesic(e, a, b, o);
    const auto r = withWindings(results, {0, 0});
    EXPECT_TRUE(r.converged);
    const VectorXd values = valuesAlong(e, r.curve, &region);
    EXPECT_GT(values.minCoeff(), 1.5 * (1 - 5e-3));
    EXPECT_LT(values.minCoeff(), 1.5 * 1.03) << "the region is not touched";
    EXPECT_GT(r.measure.length, 1.01 * plain.measure.length);
    Constraints constraints;
    constraints.push_back(std::make_unique<RegionConstraint>(e, region, "region 1"));
    expectLocalOptimum(e, r, constraints, 40, 15);
}

TEST(ConstrainedGeodesic, RegionWithoutOtherBoundsIsALocalOptimum) {
    const EmpiricalModel e = torus(32);
    const VectorXd a = point(e, -1.2, 0.1, 3.2), b = point(e, 1.2, -0.2, 3.2);
    GeodesicOptions o;
    o.numPoints = 65;
    const auto plain = geodesic(e, a, b, o)[0];
    const Region region{plain.curve.eta().col(14), 0.6};
    o.avoid = {region};
    const auto results = geodesic(e, a, b, o);
    Constraints constraints;
    constraints.push_back(std::make_unique<RegionConstraint>(e, region, "region 1"));
    for (const auto& r : results) {
        EXPECT_TRUE(r.converged);
        const VectorXd values = valuesAlong(e, r.curve, &region);
        EXPECT_GT(values.minCoeff(), 0.6 * (1 - 5e-3));
        EXPECT_LT(values.minCoeff(), 0.6 * 1.03);
        EXPECT_GT(r.measure.length, plain.measure.length);
        expectLocalOptimum(e, r, constraints, 40);
    }
}

TEST(ConstrainedGeodesic, BoundsHoldBetweenFewNodes) {
    // With so few nodes tr Cov exceeds the bound by 2 % between the places that are asked, unless they keep a reserve.
    const EmpiricalModel e = torus(24);
    GeodesicOptions o;
    o.numPoints = 17;
    o.maxVariance = 0.536;
    const auto results = geodesic(e, point(e, 0.38, 0.74, 3.2), point(e, -1.38, 2.73, 2.8), o);
    for (const std::vector<int>& windings : {std::vector<int>{0, 0}, {1, 0}, {1, -1}}) {
        const auto r = withWindings(results, windings);
        EXPECT_TRUE(r.converged);
        const double largest = valuesAlong(e, r.curve, nullptr).maxCoeff();
        EXPECT_LT(largest, 0.536 * (1 + 6e-3));
        EXPECT_GT(largest, 0.536 * 0.97);
    }
}

TEST(ConstrainedGeodesic, CurvedBoundOnTheVarianceConverges) {
    // The interior point alone stalls here for 200 steps: its slacks shrink before their time, and its steps with them.
    const EmpiricalModel e = torus(24);
    GeodesicOptions o;
    o.numPoints = 65;
    o.maxVariance = 0.6332;
    const auto at = [&](double a, double b, double logKappa) {
        const double kappa = std::exp(logKappa);
        return VectorXd(kappa * Eigen::Vector4d(std::cos(a), std::sin(a), std::cos(b), std::sin(b)));
    };
    const auto results = geodesic(e, at(-0.5441, -1.6905, 3.8755), at(0.6004, 1.2385, 3.4646), o);
    for (const std::vector<int>& windings : {std::vector<int>{0, 0}, {-1, -1}}) {
        const auto r = withWindings(results, windings);
        EXPECT_TRUE(r.converged);
        EXPECT_LE(std::abs(r.residual), 5e-6);
        EXPECT_LT(valuesAlong(e, r.curve, nullptr).maxCoeff(), 0.6332 * 1.01);
    }
}

TEST(ConstrainedGeodesic, TwoRegionsAndVarianceTogether) {
    const EmpiricalModel e = torus(32);
    const VectorXd a = point(e, -1.2, 0.1, 3.2), b = point(e, 1.2, -0.2, 3.2);
    GeodesicOptions o;
    o.numPoints = 65;
    o.maxVariance = 0.25;
    const auto narrow = withWindings(geodesic(e, a, b, o), {0, 0});
    o.avoid = {{narrow.curve.eta().col(20), 1.0}, {narrow.curve.eta().col(45), 0.8}};
    const auto r = withWindings(geodesic(e, a, b, o), {0, 0});
    EXPECT_TRUE(r.converged);
    EXPECT_GT(r.measure.length, narrow.measure.length);
    Constraints constraints;
    constraints.push_back(std::make_unique<VarianceConstraint>(e.variables(), 0.25));
    for (int k = 0; k < 2; k++) {
        EXPECT_LT(valuesAlong(e, narrow.curve, &o.avoid[k]).minCoeff(), 1e-3);
        const double least = valuesAlong(e, r.curve, &o.avoid[k]).minCoeff();
        EXPECT_GT(least, o.avoid[k].nats * (1 - 5e-3));
        EXPECT_LT(least, o.avoid[k].nats * 1.03);
        constraints.push_back(std::make_unique<RegionConstraint>(e, o.avoid[k], "region"));
    }
    EXPECT_LT(valuesAlong(e, r.curve, nullptr).maxCoeff(), 0.25 * 1.01);
    EXPECT_GT(valuesAlong(e, r.curve, nullptr).maxCoeff(), 0.25 * 0.97);
    expectLocalOptimum(e, r, constraints, 30);
}

TEST(ConstrainedGeodesic, FreeEnergyBoundIsMetByAPolish) {
    // A broad well with a hill beside the straight way from left to right.
    const int n = 40;
    MatrixXd x(2, n * n);
    VectorXd w(n * n);
    for (int i = 0; i < n; i++)
        for (int j = 0; j < n; j++) {
            const double a = -4 + (i + 0.5) * 8 / n, b = -4 + (j + 0.5) * 8 / n;
            x.col(i * n + j) << a, b;
            w[i * n + j] = -(a * a + b * b) / 8 - 4 * std::exp(-(a * a + (b + 0.3) * (b + 0.3)) / 0.8);
        }
    EmpiricalModel::Options grid;
    grid.grid = true;
    const EmpiricalModel e(Variables({Variable::number("x"), Variable::number("y")}), x, w, grid);
    const VectorXd a = point(e, -2, 0, 2.2), b = point(e, 2, 0, 2.2);
    auto highest = [&](const Curve& curve) {
        double value = -Infinity;
        for (Eigen::Index k = 0; k < curve.eta().cols(); k++)
            value = std::max(value, divergence(logProbabilities(e, curve.eta().col(k)), e.logWeights()) - divergence(logProbabilities(e, a), e.logWeights()));
        return value;
    };
    GeodesicOptions o;
    o.numPoints = 65;
    o.minLogSnr = 2;
    const auto plain = geodesic(e, a, b, o)[0];
    EXPECT_NEAR(plain.maxFreeEnergy, highest(plain.curve), 1e-8);
    ASSERT_GT(plain.maxFreeEnergy, 0.5);
    o.maxFreeEnergy = 0.5 * plain.maxFreeEnergy;
    const auto r = geodesic(e, a, b, o)[0];
    EXPECT_TRUE(r.converged);
    EXPECT_NEAR(r.maxFreeEnergy, highest(r.curve), 1e-8);
    EXPECT_LT(r.maxFreeEnergy, 1.01 * o.maxFreeEnergy);
    EXPECT_GT(r.maxFreeEnergy, 0.97 * o.maxFreeEnergy);
    EXPECT_GT(r.measure.length, plain.measure.length);
}

TEST(ConstrainedGeodesic, OnALineTheWayRoundARegionIsNarrower) {
    MatrixXd means(1, 3);
    means << -2.5, 0.5, 2.5;
    const GaussianMixtureModel g(means, VectorXd::Constant(3, 0.5625), Eigen::Vector3d(0.275, 0.45, 0.275));
    const VectorXd a = g.variables().naturalParameter(VectorXd::Constant(1, -2.5), 3), b = g.variables().naturalParameter(VectorXd::Constant(1, 2.5), 3);
    GeodesicOptions o;
    o.minLogSnr = 2;
    o.numPoints = 65;
    const auto plain = geodesic(g, a, b, o)[0];
    o.avoid = {{plain.curve.eta().col(32), 0.5}};
    const auto r = geodesic(g, a, b, o)[0];
    EXPECT_TRUE(r.converged);
    ASSERT_EQ(r.constraints.size(), 2u);
    EXPECT_LT(r.constraints[0].violation, 1e-6);
    EXPECT_GT(r.constraints[1].extreme, 0.5 * (1 - 5e-3));
    EXPECT_LT(r.constraints[1].extreme, 0.5 * 1.03);
    EXPECT_GT(r.measure.length, 1.01 * plain.measure.length);
    EXPECT_LT(r.curve.eta().row(0).minCoeff(), 1.1 * a[0]) << "the way round leads through higher log-SNR";
}

TEST(ConstrainedGeodesic, PenaltyRaisesTheSmallestLogSnr) {
    const EmpiricalModel e = torus(32);
    const VectorXd a = point(e, -1.2, 0.1, 3.2), b = point(e, 1.2, -0.2, 3.2);
    GeodesicOptions o;
    o.numPoints = 65;
    double before = -Infinity, length = 0;
    for (double weight : {0.0, 3.0, 10.0, 30.0, 100.0}) {
        o.penaltyWeight = weight;
        const auto r = geodesic(e, a, b, o)[0];
        EXPECT_TRUE(r.converged) << weight;
        const double least = std::log(r.curve.eta().colwise().norm().minCoeff() / std::sqrt(2.0));
        EXPECT_GT(least, before + 0.05) << weight;
        EXPECT_GT(r.measure.length, length * (1 - 1e-6)) << weight;
        before = least;
        length = r.measure.length;
    }
}

TEST(ConstrainedGeodesic, ErrorsSayWhatWasAskedFor) {
    const EmpiricalModel e = torus(24);
    const VectorXd a = point(e, -1.2, 0.1, 3.2), b = point(e, 1.2, -0.2, 3.2);
    GeodesicOptions o;
    o.numPoints = 33;
    auto call = [&] { geodesic(e, a, b, o); };
    o.maxVariance = 0.0123;
    expectError(call, {"the start point", "tr Cov = 0.0", "0.0123"});
    for (double bad : {0.0, -2.5, double(NAN)}) {
        o.maxVariance = bad;
        expectError(call, {"a positive bound on tr Cov", std::isnan(bad) ? "nan" : bad == 0 ? "got 0" : "-2.5"});
    }
    o = GeodesicOptions();
    o.numPoints = 33;
    o.avoid = {{point(e, 1.3, -0.2, 3.0), 3.25}};
    expectError(call, {"the end point lies inside region 1", "3.25 are asked for"});
    o.avoid = {{point(e, 3, 3, 3.0), 0.5}, {point(e, -1.2, 0.1, 3.0), 2.125}};
    expectError(call, {"the start point lies inside region 2", "2.125"});
    o.avoid = {{point(e, 0, 0, 3.0), 1e6}};
    expectError(call, {"the start point lies inside region 1", "1e+06 are asked for"});
    for (double bad : {0.0, -1.5, double(NAN), Infinity}) {
        o.avoid = {{point(e, 0, 0, 3.0), bad}};
        expectError(call, {"region 1 needs a positive number of nats", std::isnan(bad) ? "nan" : std::isinf(bad) ? "inf" : bad == 0 ? "got 0" : "-1.5"});
    }
    o.avoid = {{VectorXd::Ones(3), 1.0}};
    expectError(call, {"region 1 needs a centre of 4"});
    o.avoid = {{VectorXd::Constant(4, NAN), 1.0}};
    expectError(call, {"region 1 needs a centre of 4 finite"});
    o.avoid.clear();
    for (double bad : {0.0, -3.5, double(NAN)}) {
        o.maxFreeEnergy = bad;
        expectError(call, {"a positive bound on the free energy", std::isnan(bad) ? "nan" : bad == 0 ? "got 0" : "-3.5"});
    }
    o.maxFreeEnergy = Infinity;
    o.penaltyWeight = -4.5;
    expectError(call, {"-4.5"});
    o.penaltyWeight = 0;
    o.numStarts = -3;
    expectError(call, {"-3"});
    o.numStarts = 0;
    o.start = MatrixXd::Ones(3, 5);
    expectError(call, {"got 5 with 3"});
}

TEST(ConstrainedGeodesic, WhatCannotBeMetIsSaid) {
    // Both ways round in b cross a ridge.
    const EmpiricalModel e = torus(24);
    const VectorXd a = point(e, 2.5, 0, 3.2), b = point(e, 2.5, M_PI, 3.2);
    GeodesicOptions o;
    o.numPoints = 33;
    o.minKappa = 20;
    o.maxFreeEnergy = 0.25;
    expectError([&] { geodesic(e, a, b, o); }, {"no curve was found that keeps free energy below 0.25"});
}

TEST(ConstrainedGeodesic, WarmStartIsCheaper) {
    const EmpiricalModel e = torus(32);
    const VectorXd a = point(e, -1.2, 0.1, 3.2), b = point(e, 1.2, -0.2, 3.2);
    for (double bound : {Infinity, 0.4}) {
        SCOPED_TRACE(bound);
        GeodesicOptions o;
        o.numPoints = 65;
        o.maxVariance = bound;
        const auto cold = geodesic(e, a, b, o)[0];
        o.start = cold.curve.eta();
        const auto warm = geodesic(e, a, b, o);
        ASSERT_EQ(warm.size(), 1u);
        EXPECT_TRUE(warm[0].converged);
        EXPECT_EQ(warm[0].windings, cold.windings);
        EXPECT_LT(warm[0].evaluations, cold.evaluations);
        EXPECT_NEAR(warm[0].measure.length, cold.measure.length, (std::isfinite(bound) ? 1e-3 : 1e-6) * cold.measure.length);
    }
}

TEST(ConstrainedGeodesic, ThreadsDoNotChangeTheCurves) {
    const EmpiricalModel e = torus(24);
    const VectorXd a = point(e, -1.2, 0.1, 3.2), b = point(e, 1.2, -0.2, 3.2);
    GeodesicOptions o;
    o.numPoints = 33;
    o.maxVariance = 0.4;
    o.avoid = {{point(e, 0, 0, 2.5), 1.0}};
    const auto one = geodesic(e, a, b, o);
    o.threads = 2;
    const auto two = geodesic(e, a, b, o);
    ASSERT_EQ(one.size(), two.size());
    EXPECT_GE(one.size(), 4u);
    for (size_t k = 0; k < one.size(); k++) {
        EXPECT_EQ(one[k].windings, two[k].windings);
        EXPECT_EQ(one[k].start, two[k].start);
        EXPECT_EQ(one[k].iterations, two[k].iterations);
        EXPECT_EQ(one[k].evaluations, two[k].evaluations);
        EXPECT_TRUE(one[k].curve.eta() == two[k].curve.eta());
    }
}

TEST(ConstrainedGeodesic, BatchEqualsSingleCalls) {
    const EmpiricalModel e = torus(24);
    MatrixXd a(4, 4), b(4, 4);
    for (int k = 0; k < 4; k++) {
        a.col(k) = point(e, -1.2, 0.5 * k, 3.2);
        b.col(k) = point(e, 1.2, -0.2, 3);
    }
    a(2, 1) = NAN;
    GeodesicOptions o;
    o.numPoints = 17;
    o.minKappa = 15;
    for (int threads : {1, 2}) {
        o.threads = threads;
        double last = 0;
        o.progress = [&](double fraction) {
            EXPECT_GT(fraction, last);
            last = fraction;
            return true;
        };
        const auto batch = geodesicBatch(e, a, b, o);
        EXPECT_EQ(last, 1);
        ASSERT_EQ(batch.size(), 4u);
        GeodesicOptions single = o;
        single.threads = 1;
        single.progress = nullptr;
        for (int k = 0; k < 4; k++) {
            if (k == 1) {
                EXPECT_TRUE(batch[k].results.empty());
                EXPECT_NE(batch[k].error.find("4 finite natural parameters"), std::string::npos) << batch[k].error;
                continue;
            }
            EXPECT_EQ(batch[k].error, "");
            const auto alone = geodesic(e, a.col(k), b.col(k), single);
            ASSERT_EQ(batch[k].results.size(), alone.size());
            for (size_t r = 0; r < alone.size(); r++)
                EXPECT_TRUE(batch[k].results[r].curve.eta() == alone[r].curve.eta());
        }
    }
    o.threads = 1;
    o.progress = [](double) { return false; };
    const auto stopped = geodesicBatch(e, a.rightCols(2), b.rightCols(2), o);
    EXPECT_FALSE(stopped[0].results.empty()) << "what was done is kept";
    EXPECT_EQ(stopped[1].error, "interrupted");
    EXPECT_TRUE(stopped[1].results.empty());
    EXPECT_THROW(geodesicBatch(e, a, b.leftCols(2), o), std::invalid_argument);
}
