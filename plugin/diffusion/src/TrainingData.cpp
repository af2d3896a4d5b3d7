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

MixtureModel featureless(const Variables& variables, const VectorXd& mean, double variance) {
    return MixtureModel(variables, {VectorXd::Zero(1), MatrixXd::Zero(2 * variables.numLifted(), 1), mean, VectorXd::Constant(mean.size(), 1 / variance)});
}

std::vector<float> trainingRows(const EmpiricalModel& samples, const MatrixXd& eta, int threads, std::mt19937_64& random, const std::function<bool(double)>& progress) {
    const Eigen::Index M = eta.rows(), count = eta.cols(), length = M * M + 4 * M + 2;
    std::normal_distribution<double> normal;
    MatrixXd probes(M, count);  // drawn here, so that the result does not depend on the number of threads
    for (Eigen::Index i = 0; i < probes.size(); i++)
        probes.data()[i] = normal(random);
    std::vector<float> rows(static_cast<size_t>(count) * length);
    const MixtureModel flat = featureless(samples.variables(), samples.dataMean(), samples.dataVariance());

    auto fill = [&](Eigen::Index start, Eigen::Index n) {
        const auto points = eta.middleCols(start, n);
        const Moments exact = samples.moments(points, PosteriorModel::Order::Covariance), base = flat.moments(points, PosteriorModel::Order::Covariance);
        for (Eigen::Index c = 0; c < n; c++) {
            // The metric: errors of mu count in posterior standard deviations.
            const Eigen::LLT<MatrixXd> factor(exact.J[c] + Regularisation * base.J[c]);
            const VectorXd v = factor.matrixU().solve(probes.col(start + c));
            const MatrixXd whitening = factor.matrixL().solve(MatrixXd::Identity(M, M));
            float* out = rows.data() + (start + c) * length;
            auto put = [&out](const auto& block) {  // row-major
                for (Eigen::Index a = 0; a < block.rows(); a++)
                    for (Eigen::Index b = 0; b < block.cols(); b++)
                        *out++ = static_cast<float>(block(a, b));
            };
            put(points.col(c));
            put(v);
            put(whitening);
            put(VectorXd(whitening * exact.mu.col(c)));
            put(VectorXd(whitening * (exact.J[c] * v)));
            *out++ = static_cast<float>(exact.psi[c]);
            const double nEff = exact.nEff.size() ? exact.nEff[c] : std::numeric_limits<double>::infinity();
            *out++ = static_cast<float>(std::isfinite(nEff) ? nEff / (nEff + HalfWeightNEff) : 1);
        }
    };

    std::atomic<Eigen::Index> next{0};
    std::atomic<bool> stop{false};
    std::vector<std::exception_ptr> errors(threads);
    std::vector<std::thread> workers;
    auto work = [&](int t) {
        try {
            for (Eigen::Index start; !stop && (start = next.fetch_add(Block)) < count;) {
                fill(start, std::min(Block, count - start));
                // Reports come from the calling thread alone, whose callback need not be safe for several.
                if (t == 0 && progress && !progress(static_cast<double>(start) / count))
                    stop = true;
            }
        }
        catch (...) {
            errors[t] = std::current_exception();
            stop = true;
        }
    };
    for (int t = 1; t < threads; t++)
        workers.emplace_back(work, t);
    work(0);
    for (std::thread& w : workers)
        w.join();
    for (const std::exception_ptr& e : errors)
        if (e)
            std::rethrow_exception(e);
    if (stop)
        rows.clear();
    return rows;
}

DrawnSamples drawSamples(const EmpiricalModel& samples, std::int64_t count, std::mt19937_64& random) {
    const MatrixXd& T = samples.support();
    const VectorXd& logW = samples.logWeights();
    const Eigen::Index K = T.cols(), block = std::max<Eigen::Index>(1, K / 100);
    DrawnSamples out;
    for (int part = 0; part < 2; part++) {
        std::vector<Eigen::Index> members;
        std::vector<double> cumulative;
        double sum = 0;
        for (Eigen::Index k = 0; k < K; k++)
            if (((k / block) % 10 == 9) == (part == 1)) {
                members.push_back(k);
                cumulative.push_back(sum += std::exp(logW[k]));
            }
        const std::int64_t n = sum > 0 ? (part == 0 ? count : count / 10) : 0;
        (part == 0 ? out.numKept : out.numHeldOut) = n;
        std::uniform_real_distribution<double> uniform(0, sum);
        for (std::int64_t i = 0; i < n; i++) {
            const auto found = std::upper_bound(cumulative.begin(), cumulative.end(), uniform(random));
            const Eigen::Index k = members[std::min<size_t>(found - cumulative.begin(), members.size() - 1)];
            for (Eigen::Index a = 0; a < T.rows(); a++)
                out.rows.push_back(static_cast<float>(T(a, k)));
        }
    }
    return out;
}

}  // namespace Spacetime
