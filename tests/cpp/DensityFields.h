// SPDX-License-Identifier: MIT
#pragma once

#include "spacetime/DensityField.h"
#include "spacetime/Models.h"
#include <cmath>
#include <functional>
#include <random>

namespace Spacetime {

/// A density given by its logarithm and its score at one point.
class AnalyticDensity : public DensityField {
public:
    using Vector = Eigen::VectorXd;
    AnalyticDensity(int dimension, std::function<double(const Vector&)> logP, std::function<Vector(const Vector&)> score, std::function<std::string(const Vector&)> outside = {})
        : D(dimension), logP(std::move(logP)), s(std::move(score)), outside(std::move(outside)) {}
    int dimension() const override { return D; }
    bool hasLogDensity() const override { return true; }
    Eigen::VectorXd logDensity(const Eigen::MatrixXd& x) const override {
        Eigen::VectorXd result(x.cols());
        for (Eigen::Index i = 0; i < x.cols(); i++)
            result[i] = logP(x.col(i));
        return result;
    }
    std::string rangeProblem(const Eigen::VectorXd& x) const override { return outside ? outside(x) : ""; }

protected:
    Eigen::MatrixXd compute(const Eigen::MatrixXd& x, long) const override {
        addEvaluations(x.cols());
        Eigen::MatrixXd result(D, x.cols());
        for (Eigen::Index i = 0; i < x.cols(); i++)
            result.col(i) = s(x.col(i));
        return result;
    }

private:
    int D;
    std::function<double(const Vector&)> logP;
    std::function<Vector(const Vector&)> s;
    std::function<std::string(const Vector&)> outside;
};

/// p = y^k above y = 0. For k tau = 1 its geodesics are those of Poincaré's half-plane: half-circles around points of y = 0.
inline AnalyticDensity halfPlane(double k = 1) {
    return AnalyticDensity(
        2, [k](const Eigen::VectorXd& x) { return k * std::log(x[1]); }, [k](const Eigen::VectorXd& x) { return Eigen::VectorXd(Eigen::Vector2d(0, k / x[1])); },
        [](const Eigen::VectorXd& x) { return x[1] > 0 ? std::string() : std::string("the density is zero below y = 0"); });
}

/// p = r^-k: |dx| r^(k tau) is the length of z^(k tau + 1)/(k tau + 1), so that geodesics are straight lines there.
inline AnalyticDensity powerLaw(int D, double k) {
    return AnalyticDensity(
        D, [k](const Eigen::VectorXd& x) { return -k * std::log(x.norm()); }, [k](const Eigen::VectorXd& x) { return Eigen::VectorXd(-k / x.squaredNorm() * x); });
}

inline AnalyticDensity gaussianDensity(int D, double variance) {
    return AnalyticDensity(
        D, [variance](const Eigen::VectorXd& x) { return -x.squaredNorm() / (2 * variance); }, [variance](const Eigen::VectorXd& x) { return Eigen::VectorXd(-x / variance); });
}

/// log p = k·x: uniform for k = 0, and symmetric around k.
inline AnalyticDensity exponentialDensity(const Eigen::VectorXd& k) {
    return AnalyticDensity(
        static_cast<int>(k.size()), [k](const Eigen::VectorXd& x) { return k.dot(x); }, [k](const Eigen::VectorXd&) { return k; });
}

/// Mixture of isotropic Gaussians, in O(D K n) of time and O(D n) of memory.
class GaussianMixture : public DensityField {
public:
    GaussianMixture(Eigen::MatrixXd means, Eigen::VectorXd variances, Eigen::VectorXd weights)
        : means(std::move(means)), variances(std::move(variances)), weights(std::move(weights)) {}
    int dimension() const override { return static_cast<int>(means.rows()); }
    bool hasLogDensity() const override { return true; }
    Eigen::VectorXd logDensity(const Eigen::MatrixXd& x) const override {
        Eigen::VectorXd result(x.cols());
        for (Eigen::Index i = 0; i < x.cols(); i++) {
            const Eigen::VectorXd e = exponents(x.col(i));
            const double highest = e.maxCoeff();
            result[i] = highest + std::log((e.array() - highest).exp().sum());
        }
        return result;
    }
    template <class Random>
    Eigen::VectorXd sample(Random& random) const {
        const int k = std::discrete_distribution<int>(weights.data(), weights.data() + weights.size())(random);
        std::normal_distribution<double> normal;
        return means.col(k) + std::sqrt(variances[k]) * Eigen::VectorXd::NullaryExpr(means.rows(), [&] { return normal(random); });
    }

    Eigen::MatrixXd means;
    Eigen::VectorXd variances, weights;

protected:
    Eigen::MatrixXd compute(const Eigen::MatrixXd& x, long) const override {
        addEvaluations(x.cols());
        Eigen::MatrixXd result(x.rows(), x.cols());
        for (Eigen::Index i = 0; i < x.cols(); i++) {
            Eigen::VectorXd r = exponents(x.col(i));
            r = (r.array() - r.maxCoeff()).exp();
            r = (r / r.sum()).cwiseQuotient(variances);
            result.col(i) = means * r - r.sum() * x.col(i);
        }
        return result;
    }

private:
    Eigen::VectorXd exponents(const Eigen::VectorXd& x) const {
        return (weights.array().log() - 0.5 * (means.colwise() - x).colwise().squaredNorm().transpose().array() / variances.array() - 0.5 * means.rows() * variances.array().log())
            .matrix();
    }
};

/// 2 to 6 components around random points of a cube of side 6, and two draws from them at least 1 apart.
struct RandomProblem {
    GaussianMixture field;
    Eigen::VectorXd a, b;

    RandomProblem(unsigned seed, int D, double lowestVariance, double highestVariance) : field({}, {}, {}) {
        std::mt19937 random(seed);
        const int K = std::uniform_int_distribution<int>(2, 6)(random);
        auto uniform = [&](double low, double high) { return std::uniform_real_distribution<double>(low, high)(random); };
        field.means = Eigen::MatrixXd::NullaryExpr(D, K, [&] { return uniform(-3, 3); });
        field.variances = Eigen::VectorXd::NullaryExpr(K, [&] { return uniform(lowestVariance, highestVariance); });
        field.weights = Eigen::VectorXd::NullaryExpr(K, [&] { return uniform(0.2, 1); });
        do {
            a = field.sample(random);
            b = field.sample(random);
        } while ((a - b).norm() < 1);
    }
};

}  // namespace Spacetime
