// SPDX-License-Identifier: MIT
// Training with LibTorch. Single operators are included rather than torch.h, which takes four times as long to compile.
#include "TorchEntry.h"
#include "TorchSupport.h"
#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/bmm.h>
#include <ATen/ops/norm.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/tanh.h>
#include <ATen/ops/zeros_like.h>
#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

using at::Tensor;
using namespace SpacetimeTorch;

namespace {

/// The weights as leaves of the graph over one flat buffer, their gradients as views of another, so that the optimiser works on
/// one vector.
struct Network {
    struct Layer {
        Tensor weight, bias;
    };
    std::vector<Layer> layers;  ///< the last one maps to N
    Tensor flat, gradient;

    Network(const float* weights, std::int64_t count, int features, int width, int hidden, at::Device device) {
        flat = at::from_blob(const_cast<float*>(weights), {count}, at::kFloat).clone().to(device);
        gradient = at::zeros_like(flat);
        std::int64_t offset = 0;
        auto leaf = [&](at::IntArrayRef shape) {
            const std::int64_t size = std::accumulate(shape.begin(), shape.end(), std::int64_t(1), std::multiplies<std::int64_t>());
            if (offset + size > count)
                throw std::runtime_error("fewer weights than the network's shape needs");
            Tensor t = flat.narrow(0, offset, size).view(shape).detach();
            t.set_requires_grad(true);
            t.mutable_grad() = gradient.narrow(0, offset, size).view(shape);
            offset += size;
            return t;
        };
        for (int l = 0; l <= hidden; l++) {
            const std::int64_t out = l == hidden ? 1 : width, in = l == 0 ? features : width;
            Layer layer;
            layer.weight = leaf({out, in});
            layer.bias = leaf({out});
            layers.push_back(layer);
        }
        if (offset != count)
            throw std::runtime_error("more weights than the network's shape needs");
    }

    struct Output {
        Tensor N, gradient, product;  ///< [B], [B x F], [B x F] (Hessian times the tangents, where those are given)
    };

    /// The reverse sweep and the tangents are written out, so that one ordinary backward pass trains through both.
    Output forward(const Tensor& f, const Tensor* tangents) const {
        const size_t hidden = layers.size() - 1;
        std::vector<Tensor> h(hidden), slope(hidden), back(hidden), bend(hidden);
        for (size_t l = 0; l < hidden; l++) {
            h[l] = at::tanh(at::addmm(layers[l].bias, l == 0 ? f : h[l - 1], layers[l].weight.t()));
            slope[l] = 1 - h[l] * h[l];
        }
        if (tangents != nullptr) {
            Tensor t = *tangents;
            for (size_t l = 0; l < hidden; l++) {
                t = slope[l] * at::mm(t, layers[l].weight.t());
                bend[l] = -2 * h[l] * t;  // derivative of the slope along the tangent
            }
        }
        Output out;
        out.N = at::addmm(layers[hidden].bias, h[hidden - 1], layers[hidden].weight.t()).squeeze(1);
        Tensor g = layers[hidden].weight.expand({f.size(0), layers[hidden].weight.size(1)}), dg;
        for (size_t l = hidden; l-- > 0;) {
            if (tangents != nullptr)
                dg = at::mm(l + 1 == hidden ? g * bend[l] : g * bend[l] + dg * slope[l], layers[l].weight);
            g = at::mm(g * slope[l], layers[l].weight);
        }
        out.gradient = g;
        out.product = dg;
        return out;
    }
};

/**
 * Muon (Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks"): the momentum of each weight matrix is replaced by
 * the nearest orthogonal matrix, found by Newton-Schulz iterations, so that every direction of a layer learns at one rate.
 * For these regressions it reaches a given error in a third to a quarter of the steps that Adam needs.
 */
class Muon {
public:
    explicit Muon(const Network& network) {
        for (size_t l = 0; l + 1 < network.layers.size(); l++) {
            weights.push_back(network.layers[l].weight.detach());
            gradients.push_back(network.layers[l].weight.grad());
            momentum.push_back(at::zeros_like(weights.back()));
        }
    }

    /// Moves the hidden layers' matrices and clears their gradients, so that what remains is left to another optimiser.
    void step(double rate) {
        for (size_t l = 0; l < weights.size(); l++) {
            momentum[l].lerp_(gradients[l], 1 - Beta);
            Tensor x = gradients[l].lerp(momentum[l], Beta);  // Nesterov's look-ahead
            gradients[l].zero_();
            const bool tall = x.size(0) > x.size(1);
            if (tall)
                x = x.t();
            x = x / (x.norm() + 1e-20);
            for (int i = 0; i < 5; i++) {
                const Tensor gram = at::mm(x, x.t());
                x = at::addmm(x, at::addmm(gram, gram, gram, B, C), x, A, 1);
            }
            if (tall)
                x = x.t();
            weights[l].sub_(x, rate * std::sqrt(std::max(1.0, static_cast<double>(x.size(0)) / x.size(1))));
        }
    }

private:
    static constexpr double Beta = 0.95;
    /// Coefficients of the quintic that pulls all singular values towards one in five steps.
    static constexpr double A = 3.4445, B = -4.7750, C = 2.0315;
    std::vector<Tensor> weights, gradients, momentum;
};

/// Columns of the rows described in TorchEntry.h.
struct Rows {
    Tensor f, t, G, r, K, q, psi, w;

    static std::int64_t length(int F, int M) { return 2 * F + 2 * M * F + 2 * M + 2; }
    Rows(const Tensor& rows, int F, int M) {
        std::int64_t at = 0;
        auto next = [&](std::int64_t size) {
            const Tensor part = rows.narrow(1, at, size);
            at += size;
            return part;
        };
        f = next(F);
        t = next(F);
        G = next(std::int64_t(M) * F).reshape({rows.size(0), M, F});
        r = next(M);
        K = next(std::int64_t(M) * F).reshape({rows.size(0), M, F});
        q = next(M);
        psi = next(1).squeeze(1);
        w = next(1).squeeze(1);
    }
    static Tensor times(const Tensor& matrices, const Tensor& vectors) { return at::bmm(matrices, vectors.unsqueeze(2)).squeeze(2); }
    /// Mean over components of the squared error of mu, in posterior variances.
    Tensor error(const Network::Output& out) const { return (times(G, out.gradient) - r).square().mean(1); }
    /// The same of J along the probe direction.
    Tensor jacobianError(const Network::Output& out) const { return (times(G, out.product) + times(K, out.gradient) - q).square().mean(1); }
};

/// Adam's rate for biases and the output layer; results depend on it little between 1e-3 and 1e-2.
const double AdamRate = 3e-3;

void train(SpacetimeTorchJob& job) {
    checkVersion();
    if (job.threads > 0)
        at::set_num_threads(job.threads);
    const at::Device device = deviceFor(job.device);
    const int F = job.numFeatures, M = job.numStatistics;
    const std::int64_t length = Rows::length(F, M);
    const Tensor all = at::from_blob(const_cast<float*>(job.rows), {job.numPoints + job.numValidation, length}, at::kFloat).to(device);
    const Rows validation(all.narrow(0, job.numPoints, job.numValidation), F, M);
    Network network(job.weights, job.numWeights, F, job.width, job.layers, device);
    Muon muon(network);
    Tensor average = network.flat.clone(), first = at::zeros_like(average), second = at::zeros_like(average);

    auto validate = [&]() {
        // The averaged weights are what is kept, so they are what is judged.
        c10::AutoGradMode off(false);
        const Tensor saved = network.flat.clone();
        network.flat.copy_(average);
        const double error = validation.error(network.forward(validation.f, nullptr)).sqrt().median().item<double>();
        network.flat.copy_(saved);
        return error;
    };

    std::mt19937_64 random(job.seed);
    std::vector<std::int64_t> order(job.numPoints);
    std::iota(order.begin(), order.end(), 0);
    std::int64_t cursor = job.numPoints;
    const std::int64_t batch = std::min<std::int64_t>(job.batch, job.numPoints);
    const int warmup = std::max(1, std::min(100, job.steps / 10));
    const double beta1 = 0.9, beta2 = 0.99, epsilon = 1e-10;
    double running = 0;
    Tensor sum = at::zeros_like(validation.w.narrow(0, 0, 1));
    int summed = 0;
    job.stepsDone = job.stopped = 0;
    for (int step = 0; step < job.steps; step++) {
        if (cursor + batch > job.numPoints) {
            for (std::int64_t i = job.numPoints - 1; i > 0; i--)
                std::swap(order[i], order[random() % static_cast<std::uint64_t>(i + 1)]);
            cursor = 0;
        }
        const Tensor index = at::from_blob(order.data() + cursor, {batch}, at::kLong).clone().to(device);
        cursor += batch;
        const Rows x(all.index_select(0, index), F, M);

        const Network::Output out = network.forward(x.f, job.sobolevWeight > 0 ? &x.t : nullptr);
        Tensor loss = x.error(out);
        sum += (loss.detach() * x.w).mean();
        summed++;
        if (job.sobolevWeight > 0)
            loss = loss + job.sobolevWeight * x.jacobianError(out);
        if (job.psiWeight > 0)
            loss = loss + job.psiWeight * (out.N - x.psi).square();
        network.gradient.zero_();
        (loss * x.w).mean().backward();

        {
            c10::AutoGradMode off(false);
            const double t = step + 1, progress = static_cast<double>(step) / job.steps;
            const double schedule = std::min(1.0, t / warmup) * 0.5 * (1 + std::cos(M_PI * progress));
            muon.step(job.learningRate * schedule);
            // Biases and the output layer: Adam, as is usual beside Muon.
            const double rate = AdamRate * schedule;
            const Tensor& g = network.gradient;
            first.mul_(beta1).add_(g, 1 - beta1);
            second.mul_(beta2).addcmul_(g, g, 1 - beta2);
            const Tensor scale = (second / (1 - std::pow(beta2, t))).sqrt_().add_(epsilon);
            network.flat.addcdiv_(first, scale, -rate / (1 - std::pow(beta1, t)));
            // Early on the average must not remember the start.
            const double decay = std::min(job.emaDecay, t / (10 + t));
            average.lerp_(network.flat, 1 - decay);
        }
        job.stepsDone = step + 1;
        if ((step + 1) % job.reportEvery == 0 || step + 1 == job.steps) {
            running = sum.item<double>() / summed;
            sum.zero_();
            summed = 0;
            if (!std::isfinite(running))
                throw std::runtime_error("the loss is no longer finite at step " + std::to_string(step + 1) + ": lower the learning rate");
            if (job.progress != nullptr && !job.progress(job.user, step + 1, running, validate())) {
                job.stopped = step + 1 < job.steps;
                break;
            }
        }
    }
    job.loss = running;
    job.validation = validate();
    const Tensor result = average.to(at::kCPU).contiguous();
    std::memcpy(job.weights, result.data_ptr<float>(), sizeof(float) * job.numWeights);
}

}  // namespace

extern "C" __attribute__((visibility("default"))) int spacetimeTorchTrain(SpacetimeTorchJob* job) {
    return guarded(job->error, sizeof(job->error), [&] { train(*job); });
}

extern "C" __attribute__((visibility("default"))) int spacetimeTorchEvaluate(int numFeatures, int width, int layers, const float* weights,
                                                                             std::int64_t points, const float* f, const float* t, float* N,
                                                                             float* gradient, float* product, char* error, int errorSize) {
    return guarded(error, errorSize, [&] {
        checkVersion();
        c10::AutoGradMode off(false);
        const std::int64_t count =
            static_cast<std::int64_t>(numFeatures) * width + width + (layers - 1) * (static_cast<std::int64_t>(width) * width + width) + width + 1;
        const Network network(weights, count, numFeatures, width, layers, at::Device(at::kCPU));
        const Tensor features = at::from_blob(const_cast<float*>(f), {points, numFeatures}, at::kFloat);
        const Tensor tangents = at::from_blob(const_cast<float*>(t), {points, numFeatures}, at::kFloat);
        const Network::Output out = network.forward(features, &tangents);
        auto copy = [](const Tensor& from, float* to) {
            const Tensor c = from.contiguous();
            std::memcpy(to, c.data_ptr<float>(), sizeof(float) * c.numel());
        };
        copy(out.N, N);
        copy(out.gradient, gradient);
        copy(out.product, product);
    });
}
