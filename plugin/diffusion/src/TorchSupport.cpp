// SPDX-License-Identifier: MIT
#include "TorchSupport.h"
#include <ATen/Context.h>
#include <cstdint>
#include <dlfcn.h>
#include <stdexcept>
#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/headeronly/version.h>

namespace SpacetimeTorch {

namespace {
const char* const Install = "pip install 'torch>=2.11,<2.12'";
}

void checkVersion() {
    const std::uint64_t version = aoti_torch_abi_version();
    const int major = static_cast<int>(version >> 56), minor = static_cast<int>(version >> 48 & 0xff);
    if (major != TORCH_VERSION_MAJOR || minor != TORCH_VERSION_MINOR)
        throw std::runtime_error("this library was built for torch " + std::to_string(TORCH_VERSION_MAJOR) + "." + std::to_string(TORCH_VERSION_MINOR) +
                                 ", torch " + std::to_string(major) + "." + std::to_string(minor) + " is installed: " + Install);
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
        throw std::runtime_error("the device cuda was asked for, but this torch finds no usable CUDA device");
    return at::Device(at::kCUDA, 0);
}

}  // namespace SpacetimeTorch
