// SPDX-License-Identifier: MIT
// TorchScript modules and their derivatives. In a file of its own because its headers are slow to compile.
#include "TorchEntry.h"
#include "TorchSupport.h"
#include <ATen/core/grad_mode.h>
#include <ATen/ops/_make_dual.h>
#include <ATen/ops/_unpack_dual.h>
#include <ATen/ops/from_blob.h>
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <stdexcept>
#include <string>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/runtime/graph_executor.h>
#include <torch/csrc/jit/serialization/import.h>
#include <vector>

using at::Tensor;
using namespace SpacetimeTorch;

namespace {

/// Rows that go through the module together, and numbers in them: enough to fill the cores, few enough for memory.
const std::int64_t Portion = 8192, PortionNumbers = 1 << 20;
/// Derivatives must agree with central differences at this share of the trial points: a network with kinks differs at some.
const double AgreeingShare = 0.75;

std::string shapeOf(const Tensor& t) {
    std::string s = "[";
    for (std::int64_t i = 0; i < t.dim(); i++)
        s += (i ? ", " : "") + std::to_string(t.size(i));
    return s + "]";
}

/// The interpreter wraps what went wrong in a trace of its own, at whose end the reason stands.
std::string reasonOf(const std::exception& e) {
    const std::string all = e.what(), mark = "Error: ";
    const size_t at = all.rfind(mark);
    const std::string from = at == std::string::npos ? all : all.substr(at + mark.size());
    return from.substr(0, from.find('\n'));
}

}  // namespace

struct SpacetimeTorchScript {
    torch::jit::Module module;
    at::Device device = at::Device(at::kCPU);
    at::ScalarType type = at::kFloat;
    std::string metadata;
    bool forwardMode = false;
    std::int64_t numParameters = 0;
    std::int64_t portion = Portion;  ///< less where memory did not suffice

    /// Numbers of this process as a tensor the module can take.
    Tensor tensor(std::vector<double>& values, at::IntArrayRef shape) const { return at::from_blob(values.data(), shape, at::kDouble).to(device, type); }

    Tensor run(const Tensor& x, const Tensor& level) {
        torch::jit::IValue result;
        try {
            result = module.forward({x, level});
        }
        catch (const std::exception& e) {
            throw std::runtime_error("forward(x " + shapeOf(x) + ", logsnr " + shapeOf(level) + ") failed: " + reasonOf(e));
        }
        if (!result.isTensor())
            throw std::runtime_error("forward must return one tensor " + shapeOf(x) + ", it returned " + result.tagKind());
        const Tensor& out = result.toTensor();
        if (out.sizes() != x.sizes())
            throw std::runtime_error("forward must return a tensor of the shape of x, " + shapeOf(x) + ", it returned " + shapeOf(out));
        return out;
    }

    static void copy(const Tensor& from, std::vector<double>& to) {
        const Tensor c = from.detach().to(at::kCPU, at::kDouble).contiguous();
        to.assign(c.data_ptr<double>(), c.data_ptr<double>() + c.numel());
    }

    void predict(std::int64_t n, int D, const double* x, const double* level, double* values, double* jacobian) {
        const std::lock_guard<std::mutex> lock(onePass());
        const Threads threads(threadsFor(work(n, D, jacobian == nullptr ? 1 : D + 1)));
        // The optimiser specialises on shapes, which vary, and loses tangents.
        const torch::jit::GraphOptimizerEnabledGuard plain(false);
        if (jacobian == nullptr)
            portions(
                D, x, level, [&](std::int64_t row) { return row; }, n,
                [&](std::int64_t start, const Tensor& rows, const Tensor& levels) {
                    const c10::AutoGradMode off(false);
                    std::vector<double> out;
                    copy(run(rows, levels), out);
                    std::copy(out.begin(), out.end(), values + start * D);
                });
        else if (forwardMode)
            predictForward(n, D, x, level, values, jacobian);
        else
            predictReverse(n, D, x, level, values, jacobian);
    }

    /// Multiplications of `passes` passes of n points. Where there are many coordinates the module may be one of convolutions, which use a parameter many times.
    double work(std::int64_t n, int D, int passes) const { return 2.0 * numParameters * n * passes * (D > 256 ? D : 1); }

    /// Calls body(first row, x, level) with `rows` rows, of which row r is point pointOf(r), in portions. A portion that does not fit into memory is halved
    /// and done again.
    template <class PointOf, class Body>
    void portions(int D, const double* x, const double* level, PointOf pointOf, std::int64_t rows, Body body) {
        std::int64_t count = 0;
        for (std::int64_t start = 0; start < rows; start += count) {
            count = std::min({portion, std::max<std::int64_t>(1, PortionNumbers / D), rows - start});
            std::vector<double> xs(count * D), levels(count);
            for (std::int64_t r = 0; r < count; r++) {
                const std::int64_t point = pointOf(start + r);
                std::copy(x + point * D, x + (point + 1) * D, xs.begin() + r * D);
                levels[r] = level[point];
            }
            try {
                body(start, tensor(xs, {count, D}), tensor(levels, {count}));
            }
            catch (const std::exception& e) {
                if (count == 1 || !isOutOfMemory(e))
                    throw;
                if (portion == Portion)
                    std::fprintf(stderr, "TorchScriptModel: %lld points together need more memory than there is: going on with fewer at a time\n", static_cast<long long>(count));
                portion = count / 2;
                count = 0;
            }
        }
    }

    void predictAlong(std::int64_t n, int D, const double* x, const double* level, const double* alongX, const double* alongLevel, double* values, double* along) {
        const std::lock_guard<std::mutex> lock(onePass());
        const Threads threads(threadsFor(work(n, D, 2)));
        const torch::jit::GraphOptimizerEnabledGuard plain(false);
        const c10::AutoGradMode off(false);
        const c10::AutoFwGradMode on(true);
        portions(
            D, x, level, [](std::int64_t row) { return row; }, n,
            [&](std::int64_t start, const Tensor& xs, const Tensor& levels) {
                const std::int64_t count = xs.size(0);
                std::vector<double> tx(alongX + start * D, alongX + (start + count) * D), tl(alongLevel + start, alongLevel + start + count), out, slope;
                runDual(xs, levels, tensor(tx, {count, D}), tensor(tl, {count}), out, slope);
                std::copy(out.begin(), out.end(), values + start * D);
                std::copy(slope.begin(), slope.end(), along + start * D);
            });
    }

    /// One pass of dual numbers.
    void runDual(const Tensor& x, const Tensor& level, const Tensor& alongX, const Tensor& alongLevel, std::vector<double>& out, std::vector<double>& along) {
        const DualLevel dual;
        const Tensor result = run(at::_make_dual(x, alongX, dual.index()), at::_make_dual(level, alongLevel, dual.index()));
        const auto parts = at::_unpack_dual(result, dual.index());
        copy(std::get<0>(parts), out);
        if (std::get<1>(parts).defined())
            copy(std::get<1>(parts), along);
        else
            along.assign(out.size(), 0.0);
    }

    /// Every point D + 1 times, each with one of the tangents: one pass gives all columns of the jacobian.
    void predictForward(std::int64_t n, int D, const double* x, const double* level, double* values, double* jacobian) {
        const std::int64_t K = D + 1;
        const c10::AutoGradMode off(false);
        const c10::AutoFwGradMode on(true);
        portions(
            D, x, level, [K](std::int64_t row) { return row / K; }, n * K,
            [&](std::int64_t start, const Tensor& xs, const Tensor& levels) {
                const std::int64_t count = xs.size(0);
                std::vector<double> tx(count * D, 0.0), tl(count, 0.0), out, along;
                for (std::int64_t r = 0; r < count; r++) {
                    const std::int64_t k = (start + r) % K;
                    (k < D ? tx[r * D + k] : tl[r]) = 1;
                }
                runDual(xs, levels, tensor(tx, {count, D}), tensor(tl, {count}), out, along);
                for (std::int64_t r = 0; r < count; r++) {
                    const std::int64_t point = (start + r) / K, k = (start + r) % K;
                    for (int i = 0; i < D; i++) {
                        jacobian[(point * D + i) * K + k] = along[r * D + i];
                        if (k == 0)
                            values[point * D + i] = out[r * D + i];
                    }
                }
            });
    }

    /// One pass forward, and one back for each output.
    void predictReverse(std::int64_t n, int D, const double* x, const double* level, double* values, double* jacobian) {
        const std::int64_t K = D + 1;
        const c10::AutoGradMode on(true);
        portions(
            D, x, level, [](std::int64_t row) { return row; }, n,
            [&](std::int64_t start, const Tensor& xs, const Tensor& levels) {
                const std::int64_t count = xs.size(0);
                xs.set_requires_grad(true);
                levels.set_requires_grad(true);
                std::vector<double> out;
                const Tensor result = run(xs, levels);
                copy(result, out);
                std::copy(out.begin(), out.end(), values + start * D);
                for (int i = 0; i < D; i++) {
                    std::vector<double> chosen(count * D, 0.0), byX(count * D, 0.0), byLevel(count, 0.0);
                    for (std::int64_t r = 0; r < count; r++)
                        chosen[r * D + i] = 1;
                    if (result.requires_grad()) {
                        const auto gradients = torch::autograd::grad({result}, {xs, levels}, {tensor(chosen, {count, D})}, i + 1 < D, false, true);
                        if (gradients[0].defined())
                            copy(gradients[0], byX);
                        if (gradients[1].defined())
                            copy(gradients[1], byLevel);
                    }
                    for (std::int64_t r = 0; r < count; r++) {
                        double* row = jacobian + ((start + r) * D + i) * K;
                        std::copy(byX.begin() + r * D, byX.begin() + (r + 1) * D, row);
                        row[D] = byLevel[r];
                    }
                }
            });
    }

    /// Central differences, as the jacobian is laid out, and the error that rounding leaves in each column of each point.
    void differences(std::int64_t n, int D, const double* x, const double* level, const double* noise, double levelStep, std::vector<double>& jacobian,
                     std::vector<double>& error) {
        const std::int64_t K = D + 1;
        const double step = type == at::kDouble ? 1e-5 : 1e-2, epsilon = type == at::kDouble ? 1e-16 : 6e-8;
        std::vector<double> plus(n * D), minus(n * D);
        for (std::int64_t k = 0; k < K; k++) {
            for (const int sign : {1, -1}) {
                std::vector<double> xs(x, x + n * D), levels(level, level + n);
                for (std::int64_t r = 0; r < n; r++)
                    (k < D ? xs[r * D + k] : levels[r]) += sign * step * (k < D ? noise[r] : levelStep);
                predict(n, D, xs.data(), levels.data(), sign > 0 ? plus.data() : minus.data(), nullptr);
            }
            for (std::int64_t r = 0; r < n; r++) {
                const double width = 2 * step * (k < D ? noise[r] : levelStep);
                double size = 1;
                for (int i = 0; i < D; i++) {
                    jacobian[(r * D + i) * K + k] = (plus[r * D + i] - minus[r * D + i]) / width;
                    size += std::abs(plus[r * D + i]);
                }
                error[r * K + k] = 50 * epsilon * size / width;
            }
        }
    }

    /// Empty where the derivatives of the present mode are right, else what is wrong with them.
    std::string judge(std::int64_t n, int D, const double* x, const double* level, const std::vector<double>& expected, const std::vector<double>& error) {
        const std::int64_t K = D + 1;
        std::vector<double> values(n * D), jacobian(n * D * K);
        try {
            // An executor that specialises does so after a call or two.
            for (int i = 0; i < 3; i++)
                predict(n, D, x, level, values.data(), jacobian.data());
        }
        catch (const std::exception& e) {
            return e.what();
        }
        for (std::int64_t k = 0; k < K; k++) {
            std::int64_t agreeing = 0;
            for (std::int64_t r = 0; r < n; r++) {
                double off = 0, size = 0;
                for (std::int64_t i = 0; i < D; i++) {
                    const std::int64_t at = (r * D + i) * K + k;
                    off = std::max(off, std::abs(jacobian[at] - expected[at]));
                    size = std::max(size, std::abs(expected[at]));
                }
                agreeing += off <= (type == at::kDouble ? 1e-3 : 0.05) * size + error[r * K + k];
            }
            if (agreeing < AgreeingShare * n)
                return "derivatives by " + std::string(k < D ? "x" : "logsnr") + " disagree with finite differences at " + std::to_string(n - agreeing) + " of " +
                       std::to_string(n) + " points";
        }
        return "";
    }

    void prepare(std::int64_t n, int D, const double* x, const double* level, const double* noise, double levelStep, const std::string& only) {
        std::vector<double> values(n * D);
        predict(n, D, x, level, values.data(), nullptr);
        for (std::int64_t r = 0; r < n; r++)
            for (int i = 0; i < D; i++)
                if (!std::isfinite(values[r * D + i])) {
                    std::string point;
                    for (int j = 0; j < std::min(D, 8); j++)
                        point += (j ? ", " : "") + std::to_string(x[r * D + j]);
                    if (D > 8)
                        point += ", ...";
                    throw std::runtime_error("forward returned " + std::to_string(values[r * D + i]) + " at x = (" + point + "), logsnr = " + std::to_string(level[r]) +
                                             ", inside the range that log_snr_range promises");
                }
        if (noise == nullptr)
            return;
        std::vector<double> expected(n * D * (D + 1)), error(n * (D + 1));
        differences(n, D, x, level, noise, levelStep, expected, error);
        std::string complaints;
        // Reverse mode costs 1 + D passes a point, forward mode 2 (D + 1).
        for (const bool forward : {false, true}) {
            const std::string name = forward ? "forward" : "reverse";
            if (!only.empty() && only != name)
                continue;
            forwardMode = forward;
            const std::string complaint = judge(n, D, x, level, expected, error);
            if (complaint.empty())
                return;
            complaints += (complaints.empty() ? "" : "; ") + name + " mode: " + complaint;
        }
        throw std::runtime_error("no way of differentiating the module works (" + complaints +
                                 "): forward must be differentiable by x and logsnr, without torch.no_grad, detach or numbers made of tensors");
    }
};

#define SPACETIME_EXPORT extern "C" __attribute__((visibility("default")))

SPACETIME_EXPORT int spacetimeTorchScriptOpen(const char* path, const char* device, SpacetimeTorchScript** module, const char** metadata, char* error, int errorSize) {
    return guarded(error, errorSize, [&] {
        checkVersion();
        auto script = std::make_unique<SpacetimeTorchScript>();
        script->device = deviceFor(device);
        torch::jit::ExtraFilesMap extra{{"spacetime.json", ""}};
        try {
            script->module = torch::jit::load(path, at::Device(at::kCPU), extra);
        }
        catch (const std::exception& e) {
            throw std::runtime_error("is not a TorchScript file (files of torch.save and torch.export are none; openmmspacetime.saveTorchScript writes one): " + reasonOf(e));
        }
        script->metadata = extra["spacetime.json"];
        if (!script->module.find_method("forward"))
            throw std::runtime_error("holds a TorchScript module without a forward method: expected forward(x[N, D], logsnr[N]) -> [N, D]");
        script->module.eval();
        script->module.to(script->device);
        bool isFirst = true;
        for (const Tensor& parameter : script->module.parameters()) {
            script->numParameters += parameter.numel();
            parameter.set_requires_grad(false);  // forward mode loses the tangent otherwise, and reverse mode does needless work
            if (isFirst && parameter.is_floating_point())
                script->type = parameter.scalar_type();
            isFirst = false;
        }
        if (isFirst)  // no parameters: its buffers say how it computes, and a module of formulas alone is as exact as it can be
            script->type = at::kDouble;
        for (const Tensor& buffer : script->module.buffers())
            if (isFirst && buffer.is_floating_point()) {
                script->type = buffer.scalar_type();
                isFirst = false;
            }
        if (script->type != at::kFloat && script->type != at::kDouble)
            throw std::runtime_error(std::string("computes in ") + c10::toString(script->type) + ", expected float32 or float64: convert the module with .float()");
        *metadata = script->metadata.c_str();
        *module = script.release();
    });
}

SPACETIME_EXPORT int spacetimeTorchScriptPrepare(SpacetimeTorchScript* module, std::int64_t n, int D, const double* x, const double* level, const double* noise, double levelStep,
                                                 const char* only, const char** name, int* isDouble, char* error, int errorSize) {
    return guarded(error, errorSize, [&] {
        module->prepare(n, D, x, level, noise, levelStep, only == nullptr ? "" : only);
        *name = module->forwardMode ? "forward" : "reverse";
        *isDouble = module->type == at::kDouble;
    });
}

SPACETIME_EXPORT int spacetimeTorchScriptPredict(SpacetimeTorchScript* module, std::int64_t n, int D, const double* x, const double* level, double* values, double* jacobian,
                                                 char* error, int errorSize) {
    return guarded(error, errorSize, [&] { module->predict(n, D, x, level, values, jacobian); });
}

SPACETIME_EXPORT int spacetimeTorchScriptAlong(SpacetimeTorchScript* module, std::int64_t n, int D, const double* x, const double* level, const double* alongX,
                                               const double* alongLevel, double* values, double* along, char* error, int errorSize) {
    return guarded(error, errorSize, [&] { module->predictAlong(n, D, x, level, alongX, alongLevel, values, along); });
}

SPACETIME_EXPORT void spacetimeTorchScriptClose(SpacetimeTorchScript* module) { delete module; }
