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
    MatrixXd eta = MatrixXd::Zero(v.numStatistics(), count);
    for (int c = 0; c < count; c++) {
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
                const double width = range.high[u] - range.low[u];
                const double center = fromSamples ? T(o, k) + noise * normal(random) * std::exp(-0.5 * common)
                                                  : range.low[u] + width * ((1 + 2 * Widening) * uniform(random) - Widening);
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
    const Eigen::Index M = eta.rows(), count = eta.cols(), length = 3 * F + M * F + M + 3;
    std::normal_distribution<double> normal;
    MatrixXd probes(M, count);  // drawn here, so that the result does not depend on the number of threads
    for (Eigen::Index i = 0; i < probes.size(); i++)
        probes.data()[i] = normal(random);
    std::vector<float> rows(static_cast<size_t>(count) * length);

    auto fill = [&](Eigen::Index start, Eigen::Index n) {
        const auto points = eta.middleCols(start, n);
        const Moments exact = samples.moments(points, PosteriorModel::Order::Covariance);
        const Features::Values x = features.evaluate(points);
        MatrixXd G(M, F);
        for (Eigen::Index c = 0; c < n; c++) {
            const Prior::Moments base = prior.moments(points.col(c), true);
            // The metric: errors of mu count in posterior standard deviations.
            const Eigen::LLT<MatrixXd> factor(exact.J[c] + Regularisation * base.H);
            const VectorXd v = factor.matrixU().solve(probes.col(start + c));
            float* out = rows.data() + (start + c) * length;
            G.setZero();
            for (int k = 0; k < F; k++) {
                const int i = features.first[k], j = features.second[k];
                G(i, k) += x.d1(k, c);
                G(j, k) += x.d2(k, c);
                out[k] = static_cast<float>(x.f(k, c));
                out[F + k] = static_cast<float>(v[i] * x.d1(k, c) + v[j] * x.d2(k, c));
                out[2 * F + k] = static_cast<float>(v[i] * v[i] * x.d11(k, c) + 2 * v[i] * v[j] * x.d12(k, c) + v[j] * v[j] * x.d22(k, c));
            }
            out += 3 * F;
            factor.matrixL().solveInPlace(G);
            for (Eigen::Index a = 0; a < M; a++)
                for (int k = 0; k < F; k++)
                    *out++ = static_cast<float>(G(a, k));
            const VectorXd r = factor.matrixL().solve(exact.mu.col(c) - base.mu);
            for (Eigen::Index a = 0; a < M; a++)
                *out++ = static_cast<float>(r[a]);
            *out++ = static_cast<float>(v.dot((exact.J[c] - base.H) * v));
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
