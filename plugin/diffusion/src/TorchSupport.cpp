// SPDX-License-Identifier: MIT
#include "TorchSupport.h"
#include "TorchEntry.h"
#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <c10/util/Exception.h>
#include <cstdint>
#include <dlfcn.h>
#include <new>
#include <stdexcept>
#include <string>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/headeronly/version.h>
#include <utility>

namespace SpacetimeTorch {

namespace {
const char* const Install = "pip install 'torch>=2.11,<2.12'";
/// Below so many multiplications one thread does it.
const double SmallWork = 5e8;

std::pair<int, int> installedVersion() {
    const std::uint64_t version = aoti_torch_abi_version();
    return {static_cast<int>(version >> 56), static_cast<int>(version >> 48 & 0xff)};
}

}  // namespace

void checkVersion() {
    const auto [major, minor] = installedVersion();
    if (major != TORCH_VERSION_MAJOR || minor != TORCH_VERSION_MINOR)
        throw std::runtime_error("this library was built for torch " + std::to_string(TORCH_VERSION_MAJOR) + "." + std::to_string(TORCH_VERSION_MINOR) + ", torch " +
                                 std::to_string(major) + "." + std::to_string(minor) + " is installed: " + Install);
}

c10::Device deviceFor(const std::string& name) {
    if (name == "cpu")
        return at::Device(at::kCPU);
    if (name != "cuda")
        throw std::runtime_error("expected the device cpu or cuda, got '" + name + "'");
    // Only LibTorch's CPU part is linked; the CUDA part registers itself when it is opened.
    if (!at::hasCUDA())
        ::dlopen("libtorch_cuda.so", RTLD_NOW | RTLD_GLOBAL);
    if (!at::hasCUDA())
        throw std::runtime_error(
            "the device cuda was asked for, but this torch finds no usable CUDA device: take the device cpu, or see to a GPU with its driver and a torch that is built for CUDA (nvidia-smi shows the one, "
            "torch.cuda.is_available() the other)");
    return at::Device(at::kCUDA, 0);
}

bool isOutOfMemory(const std::exception& e) {
    const std::string what = e.what();
    return dynamic_cast<const std::bad_alloc*>(&e) != nullptr || dynamic_cast<const c10::OutOfMemoryError*>(&e) != nullptr ||
           what.find("can't allocate memory") != std::string::npos || what.find("out of memory") != std::string::npos;
}

std::mutex& onePass() {
    static std::mutex m;
    return m;
}

DualLevel::DualLevel() : level(torch::autograd::forward_ad::enter_dual_level()) {}
DualLevel::~DualLevel() { torch::autograd::forward_ad::exit_dual_level(level); }

Threads::Threads(int count) : before(at::get_num_threads()) {
    if (count > 0 && count != before)
        at::set_num_threads(count);
}

Threads::~Threads() {
    if (at::get_num_threads() != before)
        at::set_num_threads(before);
}

int threadsFor(double work) { return work < SmallWork ? 1 : 0; }

}  // namespace SpacetimeTorch

extern "C" __attribute__((visibility("default"))) const char* spacetimeTorchVersion() {
    static const std::string text = [] {
        const auto [major, minor] = SpacetimeTorch::installedVersion();
        return std::to_string(major) + "." + std::to_string(minor);
    }();
    return text.c_str();
}
