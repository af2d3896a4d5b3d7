// SPDX-License-Identifier: MIT
#include "TrainingData.h"
#include <Eigen/Cholesky>
#include <algorithm>
#include <atomic>
#include <cmath>
#include <exception>
#include <thread>

using Eigen::MatrixXd;
using Eigen::VectorXd;

namespace Spacetime {

namespace {

const double ShareBelowRange = 0.1;
/// Share of the points where every tilt is weak: geodesics that nothing bounds pass there, and few independent draws would leave all
/// variables weak at once. Weak ends a unit of log-SNR inside the range, where posteriors still have several modes and errors of J
/// mislead a solver most.
const double WeakShare = 0.2, WeakTop = 1;
const double MaxNoise = 6;
/// Uniform centres leave the range of the data by this share of its width on each side.
const double Widening = 0.15;
/// Share of the featureless posterior's covariance in the metric that errors are measured in: keeps it finite where few
/// samples are left.
const double Regularisation = 0.1;
const Eigen::Index Block = 256;

}  // namespace

MatrixXd drawPoints(const EmpiricalModel& samples, const DrawRange& range, int count, std::mt19937_64& random) {
    const Variables& v = samples.variables();
    const MatrixXd& T = samples.support();
    const VectorXd& logW = samples.logWeights();
    const VectorXd mean0 = samples.dataMean();
    const double variance = samples.dataVariance();
    std::uniform_real_distribution<double> uniform(0, 1);
    std::normal_distribution<double> normal;
    VectorXd cumulative(logW.size());
    double sum = 0;
    for (Eigen::Index k = 0; k < logW.size(); k++)
        cumulative[k] = sum += std::exp(logW[k]);
    auto drawLogSnr = [&] {
        if (uniform(random) < ShareBelowRange)
            return std::max(range.minLogSnr + std::log(std::max(uniform(random), 1e-3)), range.minLogSnr - 5);
        return range.minLogSnr + (range.maxLogSnr - range.minLogSnr) * uniform(random);
    };
    auto drawWeak = [&] {
        VectorXd point = VectorXd::Zero(v.numStatistics());
        const double strongest = std::exp(std::min(range.minLogSnr + WeakTop, range.maxLogSnr));
        // Uniform in the logarithm of the precision under the Gaussian prior, and in the mean under it.
        const double precision = std::pow(1 + variance * strongest, uniform(random)) / variance;
        if (v.hasQuadratic())
            point[0] = -0.5 * (precision - 1 / variance);
        for (int i = 0, u = 0; i < v.size(); i++) {
            const int o = v.offset(i);
            if (v[i].lifted()) {
                const double kappa = strongest * std::sqrt(uniform(random)), angle = 2 * M_PI * uniform(random);
                point[o] = kappa * std::cos(angle);
                point[o + 1] = kappa * std::sin(angle);
            }
            else {
                point[o] = precision * (range.low[u] + (range.high[u] - range.low[u]) * uniform(random)) - mean0[u] / variance;
                u++;
            }
        }
        return point;
    };
    MatrixXd eta = MatrixXd::Zero(v.numStatistics(), count);
    for (int c = 0; c < count; c++) {
        if (uniform(random) < WeakShare) {
            eta.col(c) = drawWeak();
            continue;
        }
        const bool shared = uniform(random) < 0.5, fromSamples = uniform(random) < 0.5, byWeight = uniform(random) < 0.5;
        const double common = drawLogSnr(), noise = 1 + (MaxNoise - 1) * uniform(random), pick = uniform(random);
        Eigen::Index k = static_cast<Eigen::Index>(pick * logW.size());
        if (byWeight)
            k = std::upper_bound(cumulative.data(), cumulative.data() + cumulative.size(), pick * sum) - cumulative.data();
        k = std::min(k, logW.size() - 1);
        if (v.hasQuadratic())
            eta(0, c) = -0.5 * std::exp(common);
        for (int i = 0, u = 0; i < v.size(); i++) {
            const int o = v.offset(i);
            if (v[i].lifted()) {
                const double kappa = std::exp(shared ? common : drawLogSnr());
                const double angle = fromSamples ? std::atan2(T(o + 1, k), T(o, k)) + noise * normal(random) / std::sqrt(kappa) : 2 * M_PI * uniform(random);
                eta(o, c) = kappa * std::cos(angle);
                eta(o + 1, c) = kappa * std::sin(angle);
            }
            else {
                // Far outside the data the posterior is squeezed against the outermost samples: no curve goes there, and learning it
                // would cost the network its accuracy elsewhere. The mean under the Gaussian prior has to stay in the box.
                const double margin = Widening * (range.high[u] - range.low[u]), low = range.low[u] - margin, high = range.high[u] + margin;
                double center = T(o, k) + noise * normal(random) * std::exp(-0.5 * common);
                const double mean = (std::exp(common) * center + mean0[u] / variance) / (std::exp(common) + 1 / variance);
                if (!fromSamples || mean < low || mean > high)
                    center = low + (high - low) * uniform(random);
                eta(o, c) = std::exp(common) * center;
                u++;
            }
        }
    }
    return eta;
}

std::vector<float> trainingRows(const EmpiricalModel& samples, const Prior& prior, const Features& features, const MatrixXd& eta, int threads,
                                std::mt19937_64& random) {
    const int F = features.size();
    const Eigen::Index M = eta.rows(), count = eta.cols(), length = 2 * F + 2 * M * F + 2 * M + 2;
    std::normal_distribution<double> normal;
    MatrixXd probes(M, count);  // drawn here, so that the result does not depend on the number of threads
    for (Eigen::Index i = 0; i < probes.size(); i++)
        probes.data()[i] = normal(random);
    std::vector<float> rows(static_cast<size_t>(count) * length);

    auto fill = [&](Eigen::Index start, Eigen::Index n) {
        const auto points = eta.middleCols(start, n);
        const Moments exact = samples.moments(points, PosteriorModel::Order::Covariance);
        const Features::Values x = features.evaluate(points);
        MatrixXd G(M, F), K(M, F);
        for (Eigen::Index c = 0; c < n; c++) {
            const Prior::Moments base = prior.moments(points.col(c), true);
            // The metric: errors of mu count in posterior standard deviations.
            const Eigen::LLT<MatrixXd> factor(exact.J[c] + Regularisation * base.H);
            const VectorXd v = factor.matrixU().solve(probes.col(start + c));
            float* out = rows.data() + (start + c) * length;
            auto put = [&out](const auto& block) {  // row-major
                for (Eigen::Index a = 0; a < block.rows(); a++)
                    for (Eigen::Index b = 0; b < block.cols(); b++)
                        *out++ = static_cast<float>(block(a, b));
            };
            G.setZero();
            K.setZero();
            VectorXd tangent(F);
            for (int k = 0; k < F; k++) {
                const int i = features.first[k], j = features.second[k];
                tangent[k] = v[i] * x.d1(k, c) + v[j] * x.d2(k, c);
                G(i, k) += x.d1(k, c);
                G(j, k) += x.d2(k, c);
                K(i, k) += v[i] * x.d11(k, c) + v[j] * x.d12(k, c);
                K(j, k) += v[i] * x.d12(k, c) + v[j] * x.d22(k, c);
            }
            put(x.f.col(c));
            put(tangent);
            put(factor.matrixL().solve(G));
            put(factor.matrixL().solve(exact.mu.col(c) - base.mu));
            put(factor.matrixL().solve(K));
            put(factor.matrixL().solve((exact.J[c] - base.H) * v));
            *out++ = static_cast<float>(exact.psi[c] - base.psi);
            const double nEff = exact.nEff.size() ? exact.nEff[c] : std::numeric_limits<double>::infinity();
            *out++ = static_cast<float>(std::isfinite(nEff) ? nEff / (nEff + HalfWeightNEff) : 1);
        }
    };

    std::atomic<Eigen::Index> next{0};
    std::vector<std::exception_ptr> errors(threads);
    std::vector<std::thread> workers;
    for (int t = 0; t < threads; t++)
        workers.emplace_back([&, t] {
            try {
                for (Eigen::Index start; (start = next.fetch_add(Block)) < count;)
                    fill(start, std::min(Block, count - start));
            }
            catch (...) {
                errors[t] = std::current_exception();
            }
        });
    for (std::thread& w : workers)
        w.join();
    for (const std::exception_ptr& e : errors)
        if (e)
            std::rethrow_exception(e);
    return rows;
}

}  // namespace Spacetime
