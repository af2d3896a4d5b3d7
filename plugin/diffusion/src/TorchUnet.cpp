// SPDX-License-Identifier: MIT
// The U-Net of ImageModel: values, forward-mode derivatives and training. Single operators are included rather than torch.h, which takes four times as long to
// compile.
#include "TorchEntry.h"
#include "TorchSupport.h"
#include "UnetLayout.h"
#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/avg_pool2d.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/conv2d.h>
#include <ATen/ops/cos.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/group_norm.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/native_group_norm.h>
#include <ATen/ops/native_group_norm_backward.h>
#include <ATen/ops/silu.h>
#include <ATen/ops/silu_backward.h>
#include <ATen/ops/sin.h>
#include <ATen/ops/upsample_nearest2d.h>
#include <ATen/ops/zeros_like.h>
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <optional>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

using at::Tensor;
using namespace SpacetimeTorch;

namespace {

/// Angular frequencies of the noise level c_noise = -l/8: from a tenth to 1.5 a unit of log-SNR. Faster ones would make the derivative by it noise.
const double LowestFrequency = 0.8, HighestFrequency = 12;
const std::int64_t LargestGroups = 8;  ///< of a group norm
const double NormEpsilon = 1e-5;
const std::int64_t LargestPortion = 256;
/// Share of the pictures trained on at log-SNR uniform in the range; the others get log sigma as Karras et al. draw it: curves go where samplers do not.
const double UniformShare = 0.2, SigmaMean = -1.0, SigmaSpread = 1.4;
const std::int64_t NumHeldOutPoints = 128;

/// A tensor and its derivative along a direction, undefined where that is not asked for. LibTorch's own forward mode takes half as long again, and has none for
/// norms of pictures whose channels lie together in memory.
struct Dual {
    Tensor value, slope;

    bool hasSlope() const { return slope.defined(); }
    /// A linear function of both.
    template <class Function>
    Dual map(Function f) const {
        return {f(value), hasSlope() ? f(slope) : Tensor()};
    }
};

/// The net over one flat row of weights, whose gradient is one row too.
class Unet {
public:
    Tensor flat;

    Unet(const SpacetimeUnetShape& shape, const Tensor& flat) : flat(flat), s(shape) {
        std::vector<float> f(UnetFrequencies);
        for (int k = 0; k < UnetFrequencies; k++)
            f[k] = static_cast<float>(LowestFrequency * std::pow(HighestFrequency / LowestFrequency, k / (UnetFrequencies - 1.0)));
        frequencies = at::from_blob(f.data(), {1, UnetFrequencies}, at::kFloat).clone().to(flat.device());
        for (const UnetTensor& t : unetTensors(s)) {
            shapes.push_back(t.shape);
            sizes.push_back(t.size());
        }
    }

    std::int64_t size() const { return static_cast<std::int64_t>(s.height) * s.width * s.channels; }

    /// x [B x D] and level [B] to [B x D]; with slopes where the inputs have them.
    Dual forward(const Dual& x, const Dual& level) const {
        Weights w(*this);
        const std::int64_t B = x.value.size(0), h = s.height / s.patch, v = s.width / s.patch, c = s.channels, q = s.patch;
        const Dual angles = level.map([&](const Tensor& t) { return t.unsqueeze(1) * frequencies; });
        const Tensor cosines = at::cos(angles.value), sines = at::sin(angles.value);
        Dual a{at::cat({cosines, sines}, 1), angles.hasSlope() ? at::cat({-sines * angles.slope, cosines * angles.slope}, 1) : Tensor()};
        const Dual embedding = silu(w.linear(silu(w.linear(a))));
        // Pixels of a patch become channels. What comes out has the channels of a place together in memory, as convolutions like it.
        a = x.map([&](const Tensor& t) { return t.view({B, h, q, v, q, c}).permute({0, 1, 3, 2, 4, 5}).reshape({B, h, v, q * q * c}).permute({0, 3, 1, 2}); });
        a = w.conv(a);
        std::vector<Dual> skips;
        for (int i = 0; i < s.levels; i++) {
            if (i > 0)
                a = a.map([](const Tensor& t) { return at::avg_pool2d(t, {2, 2}); });
            for (int b = 0; b < s.blocks; b++)
                skips.push_back(a = block(w, a, embedding));
        }
        a = block(w, a, embedding);
        for (int i = s.levels - 1; i >= 0; i--) {
            if (i < s.levels - 1)
                a = a.map([&](const Tensor& t) { return at::upsample_nearest2d(t, at::IntArrayRef({h >> i, v >> i})); });
            for (int b = 0; b < s.blocks; b++) {
                a = block(w, {at::cat({a.value, skips.back().value}, 1), a.hasSlope() ? at::cat({a.slope, skips.back().slope}, 1) : Tensor()}, embedding);
                skips.pop_back();
            }
        }
        a = w.conv(silu(w.norm(a)));
        return a.map([&](const Tensor& t) { return t.permute({0, 2, 3, 1}).reshape({B, h, v, q, q, c}).permute({0, 1, 3, 2, 4, 5}).reshape({B, size()}); });
    }

private:
    static Dual silu(const Dual& x) { return {at::silu(x.value), x.hasSlope() ? at::silu_backward(x.slope, x.value) : Tensor()}; }

    /// The weights, taken one after the other.
    class Weights {
    public:
        explicit Weights(const Unet& net) : shapes(net.shapes), parts(net.flat.split_with_sizes(net.sizes)) {}
        Tensor next() {
            const Tensor t = parts[at].view(shapes[at]);
            at++;
            return t;
        }
        Dual conv(const Dual& x) {
            const Tensor w = next(), b = next();
            const std::int64_t edge = w.size(2) / 2;
            auto run = [&](const Tensor& t, const std::optional<Tensor>& bias) { return at::conv2d(t, w, bias, {1, 1}, at::IntArrayRef({edge, edge})); };
            return {run(x.value, b), x.hasSlope() ? run(x.slope, std::nullopt) : Tensor()};
        }
        Dual linear(const Dual& x) {
            const Tensor w = next(), b = next();
            return {at::linear(x.value, w, b), x.hasSlope() ? at::linear(x.slope, w) : Tensor()};
        }
        Dual norm(const Dual& x) {
            const Tensor w = next(), b = next();
            const std::int64_t B = x.value.size(0), C = x.value.size(1), places = x.value.size(2) * x.value.size(3), groups = std::gcd(LargestGroups, C);
            if (!x.hasSlope())
                return {at::group_norm(x.value, groups, w, b, NormEpsilon), Tensor()};
            const auto [value, mean, rstd] = at::native_group_norm(x.value, w, b, B, C, places, groups, NormEpsilon);
            // The jacobian of the normalisation is symmetric: its transpose's product, which LibTorch has, is the one along the slope.
            const Tensor slope = std::get<0>(at::native_group_norm_backward(x.slope, x.value, mean, rstd, {}, B, C, places, groups, {true, false, false}));
            return {value, slope * w.view({1, C, 1, 1})};
        }

    private:
        const std::vector<std::vector<std::int64_t>>& shapes;
        std::vector<Tensor> parts;
        size_t at = 0;
    };

    static Dual block(Weights& w, const Dual& x, const Dual& embedding) {
        Dual a = w.conv(silu(w.norm(x)));
        const Dual level = w.linear(embedding).map([](const Tensor& t) { return t.unsqueeze(2).unsqueeze(3); });
        const std::int64_t out = a.value.size(1);
        a = w.norm(a);
        const Tensor scale = 1 + level.value.narrow(1, 0, out);
        a = {a.value * scale + level.value.narrow(1, out, out),
             a.hasSlope() ? a.slope * scale + a.value * level.slope.narrow(1, 0, out) + level.slope.narrow(1, out, out) : Tensor()};
        a = w.conv(silu(a));
        const Dual past = x.value.size(1) == out ? x : w.conv(x);
        return {a.value + past.value, a.hasSlope() ? a.slope + past.slope : Tensor()};
    }

    SpacetimeUnetShape s;
    Tensor frequencies;
    std::vector<std::vector<std::int64_t>> shapes;
    std::vector<std::int64_t> sizes;
};

/// Multiplications of one value, about: convolutions dominate.
double workOf(const SpacetimeUnetShape& s) {
    double work = 0;
    const double pixels = static_cast<double>(s.height) * s.width / (s.patch * s.patch);
    for (const UnetTensor& t : unetTensors(s))
        if (t.shape.size() == 4) {
            const bool outer = t.name.compare(0, 2, "up") != 0 && t.name.compare(0, 4, "down") != 0 && t.name.compare(0, 6, "middle") != 0;
            const int level = outer ? 0 : t.name[0] == 'm' ? s.levels - 1 : t.name[t.name[0] == 'u' ? 2 : 4] - '0';
            work += static_cast<double>(t.size()) * pixels / std::pow(4.0, level);
        }
    return work;
}

/// Bytes that a point's activations take at the same time, about: the first blocks and the last, whose channels are two levels' together.
double memoryOf(const SpacetimeUnetShape& s) {
    return 4.0 * s.height * s.width / (s.patch * s.patch) * s.base * (s.multipliers[0] + (s.levels > 1 ? s.multipliers[1] : 0)) * (4 + 2 * s.blocks);
}

/// Noisy pictures, what the net is to make of them, and the noise levels.
class Batch {
public:
    Tensor inputs, targets, levels;

    Batch(const SpacetimeUnetJob& job, std::mt19937_64& random, const std::vector<std::int64_t>& pictures, bool flips, at::Device device) {
        const std::int64_t B = static_cast<std::int64_t>(pictures.size()), C = job.shape.channels, W = job.shape.width, D = job.shape.height * W * C;
        std::vector<float> x(B * D), y(B * D), c(B);
        std::uniform_real_distribution<double> uniform(0, 1);
        std::normal_distribution<double> normal;
        std::normal_distribution<float> noise;
        const double d = job.sigmaData;
        for (std::int64_t b = 0; b < B; b++) {
            const bool broad = uniform(random) < UniformShare, flip = flips && uniform(random) < 0.5;
            const double l = broad ? job.minLogSnr + (job.maxLogSnr - job.minLogSnr) * uniform(random)
                                   : std::clamp(-2 * (SigmaMean + SigmaSpread * normal(random)), job.minLogSnr, job.maxLogSnr);
            // Karras et al., Table 1; the weight 1/c_out^2 makes the error that of the net itself.
            const double sigma = std::exp(-0.5 * l), square = sigma * sigma + d * d;
            const float in = static_cast<float>(1 / std::sqrt(square)), skip = static_cast<float>(d * d / square), out = static_cast<float>(std::sqrt(square) / (sigma * d)),
                        s = static_cast<float>(sigma);
            const float* picture = job.pictures + pictures[b] * D;
            for (std::int64_t i = 0; i < D; i++) {
                const std::int64_t column = i / C % W;
                const float clean = picture[flip ? i + (W - 1 - 2 * column) * C : i], noisy = clean + s * noise(random);
                x[b * D + i] = in * noisy;
                y[b * D + i] = out * (clean - skip * noisy);
            }
            c[b] = static_cast<float>(-0.125 * l);
        }
        inputs = at::from_blob(x.data(), {B, D}, at::kFloat).clone().to(device);
        targets = at::from_blob(y.data(), {B, D}, at::kFloat).clone().to(device);
        levels = at::from_blob(c.data(), {B}, at::kFloat).clone().to(device);
    }
};

void train(SpacetimeUnetJob& job) {
    checkVersion();
    const Threads threads(job.threads);
    const at::Device device = deviceFor(job.device);
    const std::int64_t P = unetParameters(job.shape);
    Unet net(job.shape, at::from_blob(job.parameters, {P}, at::kFloat).clone().to(device));
    Tensor average = net.flat.clone(), first = at::zeros_like(average), second = at::zeros_like(average);

    // The same noisy pictures at every report.
    std::vector<std::int64_t> index;
    for (std::int64_t i = 0; job.numHeldOut > 0 && (i < job.numHeldOut || i < NumHeldOutPoints); i++)
        index.push_back(job.numPictures + i % job.numHeldOut);
    std::mt19937_64 fixed(job.seed);
    const Batch heldOut(job, fixed, index, false, device);
    auto judge = [&] {
        if (index.empty())
            return std::numeric_limits<double>::quiet_NaN();
        const c10::AutoGradMode off(false);
        const Unet judged(job.shape, average);
        double sum = 0;
        const std::int64_t n = heldOut.inputs.size(0), portion = std::max(job.batch, 1);
        for (std::int64_t start = 0; start < n; start += portion) {
            const std::int64_t count = std::min(portion, n - start);
            const Tensor error =
                judged.forward({heldOut.inputs.narrow(0, start, count), {}}, {heldOut.levels.narrow(0, start, count), {}}).value - heldOut.targets.narrow(0, start, count);
            sum += error.square().mean().item<double>() * count;
        }
        return sum / n;
    };

    int start = 0;
    float sum = 0, summed = 0;  // in single precision, as they are kept
    Tensor* const kept[] = {&net.flat, &average, &first, &second};
    if (job.state != nullptr) {
        start = static_cast<int>(job.state[0]);
        sum = job.state[1];
        summed = job.state[2];
        for (int i = 0; i < 4; i++)
            kept[i]->copy_(at::from_blob(const_cast<float*>(job.state) + 3 + i * P, {P}, at::kFloat));
    }
    auto keep = [&](int step) {
        std::vector<float> state(spacetimeUnetStateSize(P));
        state[0] = static_cast<float>(step);
        state[1] = sum;
        state[2] = summed;
        for (int i = 0; i < 4; i++) {
            const Tensor c = kept[i]->to(at::kCPU).contiguous();
            std::memcpy(state.data() + 3 + i * P, c.data_ptr<float>(), sizeof(float) * P);
        }
        job.keep(job.user, state.data());
    };
    const int warmup = std::max(1, std::min(200, job.steps / 10));
    const double beta1 = 0.9, beta2 = 0.99, epsilon = 1e-8;
    std::vector<std::int64_t> pictures(job.batch);
    job.stepsDone = start;
    job.stopped = 0;
    job.loss = summed > 0 ? sum / summed : std::numeric_limits<double>::quiet_NaN();
    for (int step = start; step < job.steps; step++) {
        // Drawn anew from the seed at every step, so that training goes on from any of them as if it had never stopped.
        std::mt19937_64 random(job.seed + 0x9e3779b97f4a7c15u * static_cast<std::uint64_t>(step + 1));
        for (std::int64_t& i : pictures)
            i = static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(job.numPictures));
        const Batch batch(job, random, pictures, job.flips != 0, device);
        {
            const c10::AutoGradMode on(true);
            Tensor leaf = net.flat.detach();
            leaf.set_requires_grad(true);
            net.flat = leaf;
            const Tensor loss = (net.forward({batch.inputs, {}}, {batch.levels, {}}).value - batch.targets).square().mean();
            loss.backward();
            sum += loss.item<float>();
            summed++;
            const Tensor& g = leaf.grad();
            net.flat = leaf.detach();
            const c10::AutoGradMode off(false);
            const double t = step + 1, schedule = std::min(1.0, t / warmup) * 0.5 * (1 + std::cos(M_PI * step / job.steps));
            first.mul_(beta1).add_(g, 1 - beta1);
            second.mul_(beta2).addcmul_(g, g, 1 - beta2);
            const Tensor scale = (second / (1 - std::pow(beta2, t))).sqrt_().add_(epsilon);
            net.flat.addcdiv_(first, scale, -job.learningRate * schedule / (1 - std::pow(beta1, t)));
            // Early on the average must not remember the start.
            average.lerp_(net.flat, 1 - std::min(job.averaging, t / (10 + t)));
        }
        job.stepsDone = step + 1;
        job.loss = sum / summed;
        if (!std::isfinite(job.loss))
            throw std::runtime_error("the loss is no longer finite at step " + std::to_string(step + 1) + ": lower the learning rate");
        const bool isLast = step + 1 == job.steps, isReport = (step + 1) % job.reportEvery == 0 || isLast;
        if (isReport) {
            job.heldOutLoss = judge();
            sum = summed = 0;
        }
        const int answer = job.progress(job.user, step + 1, isReport, job.loss, job.heldOutLoss);
        if (!isLast && answer != 1)
            keep(step + 1);
        if (!isLast && answer == 0) {
            job.stopped = 1;
            if (!isReport)
                job.heldOutLoss = judge();
            break;
        }
    }
    const Tensor result = average.to(at::kCPU).contiguous();
    std::memcpy(job.parameters, result.data_ptr<float>(), sizeof(float) * P);
}

}  // namespace

struct SpacetimeUnet {
    SpacetimeUnetShape shape;
    at::Device device;
    Unet net;
    double work, bytes;
    std::int64_t limit = LargestPortion;

    SpacetimeUnet(const SpacetimeUnetShape& shape, const float* parameters, at::Device device)
        : shape(shape), device(device), net(shape, at::from_blob(const_cast<float*>(parameters), {unetParameters(shape)}, at::kFloat).clone().to(device)), work(workOf(shape)),
          bytes(memoryOf(shape)) {}

    Tensor tensor(const double* values, at::IntArrayRef size) const { return at::from_blob(const_cast<double*>(values), size, at::kDouble).to(device, at::kFloat); }

    static void copy(const Tensor& from, double* to) {
        const Tensor c = from.to(at::kCPU, at::kDouble).contiguous();
        std::memcpy(to, c.data_ptr<double>(), sizeof(double) * c.numel());
    }

    void predict(std::int64_t n, const double* x, const double* level, const double* alongX, const double* alongLevel, double* values, double* slopes, double memory) {
        const std::lock_guard<std::mutex> lock(onePass());
        const Threads threads(threadsFor(work * n * (slopes == nullptr ? 1 : 2)));
        const c10::AutoGradMode off(false);
        const std::int64_t fitting = static_cast<std::int64_t>(std::clamp(memory / (bytes * (slopes == nullptr ? 1 : 3)), 1.0, 1e9));
        for (std::int64_t start = 0; start < n;) {
            const std::int64_t count = std::min({limit, fitting, n - start}), D = net.size(), at = start * D;
            try {
                portion(count, x + at, level + start, alongX == nullptr ? nullptr : alongX + at, alongLevel == nullptr ? nullptr : alongLevel + start, values + at,
                        slopes == nullptr ? nullptr : slopes + at);
                start += count;
            }
            catch (const std::exception& e) {
                if (!isOutOfMemory(e) || count == 1)
                    throw;
                limit = count / 2;
                std::fprintf(stderr, "spacetime: not enough memory for %lld pictures at a time, going on with %lld\n", static_cast<long long>(count),
                             static_cast<long long>(limit));
            }
        }
    }

    void portion(std::int64_t n, const double* x, const double* level, const double* alongX, const double* alongLevel, double* values, double* slopes) const {
        const std::int64_t D = net.size();
        const Tensor xs = tensor(x, {n, D}), levels = tensor(level, {n});
        const Dual result = slopes == nullptr ? net.forward({xs, {}}, {levels, {}}) : net.forward({xs, tensor(alongX, {n, D})}, {levels, tensor(alongLevel, {n})});
        copy(result.value, values);
        if (slopes != nullptr)
            copy(result.slope, slopes);
    }
};

#define SPACETIME_EXPORT extern "C" __attribute__((visibility("default")))

SPACETIME_EXPORT int spacetimeUnetOpen(const SpacetimeUnetShape* shape, const float* parameters, const char* device, SpacetimeUnet** unet, char* error, int errorSize) {
    return guarded(error, errorSize, [&] {
        checkVersion();
        *unet = new SpacetimeUnet(*shape, parameters, deviceFor(device));
    });
}

SPACETIME_EXPORT int spacetimeUnetPredict(SpacetimeUnet* unet, std::int64_t n, const double* x, const double* level, const double* alongX, const double* alongLevel, double* values,
                                          double* slopes, double memory, char* error, int errorSize) {
    return guarded(error, errorSize, [&] { unet->predict(n, x, level, alongX, alongLevel, values, slopes, memory); });
}

SPACETIME_EXPORT void spacetimeUnetClose(SpacetimeUnet* unet) { delete unet; }

SPACETIME_EXPORT int spacetimeUnetTrain(SpacetimeUnetJob* job) {
    return guarded(job->error, sizeof(job->error), [&] { train(*job); });
}
