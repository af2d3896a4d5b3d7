// SPDX-License-Identifier: MIT
// Training with LibTorch. Single operators are included rather than torch.h, which takes four times as long to compile.
#include "TorchEntry.h"
#include "TorchSupport.h"
#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/argsort.h>
#include <ATen/ops/bmm.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/exp.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/full_like.h>
#include <ATen/ops/log.h>
#include <ATen/ops/log1p.h>
#include <ATen/ops/log_softmax.h>
#include <ATen/ops/logsumexp.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/nonzero.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/special_i0e.h>
#include <ATen/ops/special_i1e.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros_like.h>
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

using at::Tensor;
using namespace SpacetimeTorch;

namespace {

/// log I0 of kappa with the ratio A/kappa and the anisotropy (A' - A/kappa)/kappa^2 of the von Mises covariance.
struct Circles {
    Tensor logI0, ratio, anisotropy;

    explicit Circles(const Tensor& kappa) {
        const Tensor i0 = at::special_i0e(kappa), A = at::special_i1e(kappa) / i0, safe = kappa.clamp_min(1e-3);
        logI0 = at::log(i0) + kappa;
        ratio = at::where(kappa < 1e-3, at::full_like(kappa, 0.5), A / safe);
        // Near zero the difference has no digits left in single precision; its series does.
        const Tensor k2 = kappa * kappa;
        anisotropy = at::where(kappa < 0.3, -0.125 + k2 / 24 - k2 * k2 * (11.0 / 1024), (1 - 2 * ratio - A * A) / (safe * safe));
    }
};

/// Length of the last axis' vectors, with a gradient at zero.
Tensor lengths(const Tensor& x) { return (x * x).sum(-1).add(1e-12).sqrt(); }

/// The mixture over one flat row of parameters, whose gradient is one row too.
class Mixture {
public:
    Tensor flat;

    Mixture(const SpacetimeTorchJob& job, at::Device device) : K(job.numComponents), lifted(job.numLifted), unlifted(job.numUnlifted), M(job.numStatistics) {
        if (job.numParameters != K * (1 + 2 * lifted + 2 * unlifted))
            throw std::runtime_error("the number of parameters does not fit the shape of the mixture");
        flat = at::from_blob(job.parameters, {job.numParameters}, at::kFloat).clone().to(device);
        std::vector<std::int64_t> a, b;
        for (std::int64_t j = 0; j < lifted; j++)
            a.insert(a.end(), {job.liftedRows[j], job.liftedRows[j] + 1});
        for (std::int64_t u = 0; u < unlifted; u++)
            b.push_back(job.unliftedRows[u]);
        liftedRows = at::from_blob(a.data(), {static_cast<std::int64_t>(a.size())}, at::kLong).clone().to(device);
        unliftedRows = at::from_blob(b.data(), {unlifted}, at::kLong).clone().to(device);
    }

    struct Output {
        Tensor psi, mu, product;  ///< [B], [B x M], [B x M] (J times the probe)
    };
    Output forward(const Tensor& eta, const Tensor& v) const {
        const Parts p(*this);
        const std::int64_t B = eta.size(0);
        Tensor logZ = p.constant.unsqueeze(0), slope;  // [B x K]
        std::vector<Tensor> means, along;              // [B x K x rows], and C v
        if (lifted > 0) {
            const Tensor t = eta.index_select(1, liftedRows).view({B, 1, lifted, 2}) + p.tilt, d = v.index_select(1, liftedRows).view({B, 1, lifted, 2});
            const Circles c(lengths(t));
            logZ = logZ + c.logI0.sum(2);
            means.push_back((c.ratio.unsqueeze(3) * t).flatten(2));
            along.push_back((c.ratio.unsqueeze(3) * d + (c.anisotropy * (t * d).sum(3)).unsqueeze(3) * t).flatten(2));
        }
        if (unlifted > 0) {
            const Tensor twist = -2 * eta.narrow(1, 0, 1).unsqueeze(2), v0 = v.narrow(1, 0, 1).unsqueeze(2);
            const Tensor e = eta.index_select(1, unliftedRows).unsqueeze(1), d = v.index_select(1, unliftedRows).unsqueeze(1);
            const Tensor s = 1 / (p.precision + twist), mean = s * (p.precision * p.mean + e), cross = 2 * mean * s;
            logZ = logZ + 0.5 * (mean * mean / s + at::log(s)).sum(2);
            means.insert(means.begin(), (mean * mean + s).sum(2, true));
            means.push_back(mean);
            along.insert(along.begin(), (cross * d + (2 * s * s + 2 * mean * cross) * v0).sum(2, true));
            along.push_back(s * d + cross * v0);
        }
        const Tensor m = at::cat(means, 2), r = at::softmax(logZ, 1).unsqueeze(2);
        const Tensor mu = (r * m).sum(1, true), direction = v.index_select(1, order()).unsqueeze(1);
        slope = ((m - mu) * direction).sum(2, true);
        const Tensor product = (r * (at::cat(along, 2) + m * slope)).sum(1);
        const Tensor back = at::argsort(order());
        return {at::logsumexp(logZ, {1}), mu.squeeze(1).index_select(1, back), product.index_select(1, back)};
    }

    /// Mean log density of samples [B x M], relative to a flat circle or to e^(-log sqrt(2 pi)).
    Tensor logLikelihood(const Tensor& T) const {
        const Parts p(*this);
        Tensor z = p.constant.unsqueeze(0);
        if (lifted > 0)
            z = z + at::mm(T.index_select(1, liftedRows), p.tilt.flatten(1).t());
        if (unlifted > 0) {
            const Tensor d = T.index_select(1, unliftedRows).unsqueeze(1);
            z = z + (p.precision * d * (p.mean - 0.5 * d)).sum(2);
        }
        return at::logsumexp(z, {1}).mean();
    }

private:
    struct Parts {
        Tensor constant, tilt, mean, precision;  ///< [K], [K x lifted x 2], [K x unlifted]
        explicit Parts(const Mixture& m) {
            const std::int64_t K = m.K;
            constant = at::log_softmax(m.flat.narrow(0, 0, K), 0);
            if (m.lifted > 0) {
                tilt = m.flat.narrow(0, K, 2 * K * m.lifted).view({K, m.lifted, 2});
                constant = constant - Circles(lengths(tilt)).logI0.sum(1);
            }
            if (m.unlifted > 0) {
                const std::int64_t at = K * (1 + 2 * m.lifted), size = K * m.unlifted;
                mean = m.flat.narrow(0, at, size).view({K, m.unlifted});
                const Tensor q = m.flat.narrow(0, at + size, size).view({K, m.unlifted});
                precision = at::exp(q);
                constant = constant + 0.5 * (q - precision * mean * mean).sum(1);
            }
        }
    };
    /// Rows of T in the order in which the parts are put together.
    Tensor order() const {
        std::vector<Tensor> parts;
        if (unlifted > 0)
            parts.push_back(at::zeros_like(unliftedRows.narrow(0, 0, 1)));
        if (lifted > 0)
            parts.push_back(liftedRows);
        if (unlifted > 0)
            parts.push_back(unliftedRows);
        return at::cat(parts, 0);
    }

    std::int64_t K, lifted, unlifted, M;
    Tensor liftedRows, unliftedRows;
};

/// Columns of the rows described in TorchEntry.h.
struct Rows {
    Tensor eta, v, L, r, q, psi, w;

    static std::int64_t length(std::int64_t M) { return M * M + 4 * M + 2; }
    Rows(const Tensor& rows, std::int64_t M) {
        std::int64_t at = 0;
        auto next = [&](std::int64_t size) {
            const Tensor part = rows.narrow(1, at, size);
            at += size;
            return part;
        };
        eta = next(M);
        v = next(M);
        L = next(M * M).reshape({rows.size(0), M, M});
        r = next(M);
        q = next(M);
        psi = next(1).squeeze(1);
        w = next(1).squeeze(1);
    }
    Tensor whitened(const Tensor& x) const { return at::bmm(L, x.unsqueeze(2)).squeeze(2); }
    /// Mean over components of the squared error of mu, in posterior variances.
    Tensor error(const Mixture::Output& out) const { return (whitened(out.mu) - r).square().mean(1); }
    Tensor jacobianError(const Mixture::Output& out) const { return (whitened(out.product) - q).square().mean(1); }
};

void train(SpacetimeTorchJob& job) {
    checkVersion();
    const Threads threads(job.threads);
    const at::Device device = deviceFor(job.device);
    const std::int64_t M = job.numStatistics, P = job.numParameters;
    const Tensor all = at::from_blob(const_cast<float*>(job.rows), {job.numPoints + job.numValidation, Rows::length(M)}, at::kFloat).to(device);
    const Tensor samples = at::from_blob(const_cast<float*>(job.samples), {job.numSamples + job.numHeldOut, M}, at::kFloat).to(device);
    const Rows validation(all.narrow(0, job.numPoints, job.numValidation), M);
    const Tensor heldOut = samples.narrow(0, job.numSamples, job.numHeldOut);
    const Tensor rates = at::from_blob(const_cast<float*>(job.rates), {P}, at::kFloat).to(device);
    Mixture mixture(job, device);
    Tensor average = mixture.flat.clone(), best = average.clone(), first = at::zeros_like(average), second = at::zeros_like(average);

    // Far from the answer errors are huge: their logarithm counts, which is the square where they are small.
    auto lossOf = [&](const Rows& x, const Tensor& statistics) {
        const Mixture::Output out = mixture.forward(x.eta, x.v);
        Tensor loss = at::log1p(x.error(out));
        if (job.sobolevWeight > 0)
            loss = loss + job.sobolevWeight * at::log1p(x.jacobianError(out));
        if (job.psiWeight > 0)
            loss = loss + job.psiWeight * at::log1p((out.psi - x.psi).square());
        loss = (loss * x.w).mean();
        return job.likelihoodWeight > 0 ? loss - job.likelihoodWeight * mixture.logLikelihood(statistics) : loss;
    };
    // The averaged parameters are what is kept, so they are what is judged: loss, and median error of mu where the reference is well sampled.
    auto validate = [&](double& error) {
        c10::AutoGradMode off(false);
        const Tensor saved = mixture.flat;
        mixture.flat = average;
        const Tensor trusted = at::nonzero(validation.w >= 0.5 * validation.w.max()).squeeze(1);
        const Rows rows(all.narrow(0, job.numPoints, job.numValidation).index_select(0, trusted), M);
        error = rows.error(mixture.forward(rows.eta, rows.v)).sqrt().median().item<double>();
        const double loss = lossOf(validation, heldOut).item<double>();
        mixture.flat = saved;
        return loss;
    };

    double bestValidation = std::numeric_limits<double>::infinity(), running = 0;
    int start = 0, sinceBest = 0;
    std::vector<float> state(spacetimeTorchStateSize(P));
    const Tensor* const kept[] = {&mixture.flat, &average, &best, &first, &second};
    if (job.state != nullptr) {
        start = static_cast<int>(job.state[0]);
        bestValidation = job.state[1];
        sinceBest = static_cast<int>(job.state[2]);
        for (int i = 0; i < 5; i++)
            kept[i]->copy_(at::from_blob(const_cast<float*>(job.state) + 3 + i * P, {P}, at::kFloat));
    }
    const std::int64_t batch = std::min<std::int64_t>(job.batch, job.numPoints), sampleBatch = std::min<std::int64_t>(job.batch, job.numSamples);
    const int warmup = std::max(1, std::min(50, job.steps / 10));
    const double beta1 = 0.9, beta2 = 0.99, epsilon = 1e-10;
    std::vector<std::int64_t> index(batch), sampleIndex(sampleBatch);
    double sum = 0;
    int summed = 0;
    job.stepsDone = start;
    job.stopped = 0;
    for (int step = start; step < job.steps; step++) {
        // Drawn anew from the seed at every step, so that training goes on from any of them as if it had never stopped.
        std::mt19937_64 random(job.seed + 0x9e3779b97f4a7c15u * static_cast<std::uint64_t>(step + 1));
        for (std::int64_t& i : index)
            i = static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(job.numPoints));
        for (std::int64_t& i : sampleIndex)
            i = static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(job.numSamples));
        const Rows x(all.index_select(0, at::from_blob(index.data(), {batch}, at::kLong).clone().to(device)), M);
        const Tensor statistics = samples.index_select(0, at::from_blob(sampleIndex.data(), {sampleBatch}, at::kLong).clone().to(device));
        Tensor leaf = mixture.flat.detach();
        leaf.set_requires_grad(true);
        mixture.flat = leaf;
        const Tensor loss = lossOf(x, statistics);
        loss.backward();
        const Tensor& g = leaf.grad();
        mixture.flat = leaf.detach();
        sum += loss.item<double>();
        summed++;
        {
            c10::AutoGradMode off(false);
            const double t = step + 1, schedule = std::min(1.0, t / warmup) * 0.5 * (1 + std::cos(M_PI * step / job.steps));
            first.mul_(beta1).add_(g, 1 - beta1);
            second.mul_(beta2).addcmul_(g, g, 1 - beta2);
            const Tensor scale = (second / (1 - std::pow(beta2, t))).sqrt_().add_(epsilon);
            mixture.flat.addcdiv_(first * rates, scale, -job.learningRate * schedule / (1 - std::pow(beta1, t)));
            // Early on the average must not remember the start.
            average.lerp_(mixture.flat, 1 - std::min(job.averaging, t / (10 + t)));
        }
        job.stepsDone = step + 1;
        if ((step + 1) % job.reportEvery != 0 && step + 1 != job.steps)
            continue;
        running = sum / summed;
        sum = summed = 0;
        if (!std::isfinite(running))
            throw std::runtime_error("the loss is no longer finite at step " + std::to_string(step + 1) + ": lower the learning rate");
        double error = 0;
        const double value = validate(error);
        sinceBest++;
        if (value < bestValidation) {
            bestValidation = static_cast<float>(value);  // as it is kept
            best.copy_(average);
            sinceBest = 0;
        }
        job.validation = error;
        state[0] = static_cast<float>(step + 1);
        state[1] = static_cast<float>(bestValidation);
        state[2] = static_cast<float>(sinceBest);
        for (int i = 0; i < 5; i++) {
            const Tensor c = kept[i]->to(at::kCPU).contiguous();
            std::memcpy(state.data() + 3 + i * P, c.data_ptr<float>(), sizeof(float) * P);
        }
        const bool goOn = job.progress == nullptr || job.progress(job.user, step + 1, running, value, error, state.data());
        if (!goOn || (job.patience > 0 && sinceBest >= job.patience)) {
            job.stopped = !goOn && step + 1 < job.steps;
            break;
        }
    }
    job.loss = running;
    const Tensor result = best.to(at::kCPU).contiguous();
    std::memcpy(job.parameters, result.data_ptr<float>(), sizeof(float) * P);
}

}  // namespace

extern "C" __attribute__((visibility("default"))) int spacetimeTorchTrain(SpacetimeTorchJob* job) {
    return guarded(job->error, sizeof(job->error), [&] { train(*job); });
}

extern "C" __attribute__((visibility("default"))) int spacetimeTorchEvaluate(SpacetimeTorchJob* job, std::int64_t points, const float* eta, const float* v, float* psi, float* mu,
                                                                             float* product) {
    return guarded(job->error, sizeof(job->error), [&] {
        checkVersion();
        c10::AutoGradMode off(false);
        const Mixture mixture(*job, at::Device(at::kCPU));
        auto rows = [&](const float* x) { return at::from_blob(const_cast<float*>(x), {points, job->numStatistics}, at::kFloat); };
        const Mixture::Output out = mixture.forward(rows(eta), rows(v));
        auto copy = [](const Tensor& from, float* to) {
            const Tensor c = from.contiguous();
            std::memcpy(to, c.data_ptr<float>(), sizeof(float) * c.numel());
        };
        copy(out.psi, psi);
        copy(out.mu, mu);
        copy(out.product, product);
    });
}
