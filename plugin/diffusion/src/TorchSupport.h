// SPDX-License-Identifier: MIT
#pragma once
// What the files of the library that links LibTorch share.

#include <c10/core/Device.h>
#include <cstddef>
#include <cstdio>
#include <exception>
#include <string>

namespace SpacetimeTorch {

/// Throws where the installed LibTorch is not of the series this library was built for.
void checkVersion();

/// The device "cpu" or "cuda"; throws for other names and where there is no usable CUDA device.
c10::Device deviceFor(const std::string& name);

/// Runs `body`; what it throws becomes a message, for nothing may be thrown across the boundary.
template <class Body>
int guarded(char* error, size_t size, Body body) {
    try {
        body();
        return 0;
    }
    catch (const std::exception& e) {
        // LibTorch appends a stack trace of its own to the first line.
        const std::string message = std::string(e.what()).substr(0, std::string(e.what()).find('\n'));
        std::snprintf(error, size, "%s", message.c_str());
    }
    catch (...) {
        std::snprintf(error, size, "unknown error");
    }
    return 1;
}

}  // namespace SpacetimeTorch
