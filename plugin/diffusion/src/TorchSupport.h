// SPDX-License-Identifier: MIT
#pragma once
// What the files of the library that links LibTorch share.

#include <c10/core/Device.h>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <mutex>
#include <string>

namespace SpacetimeTorch {

/// Throws where the installed LibTorch is not of the series this library was built for.
void checkVersion();

/// The device "cpu" or "cuda"; throws for other names and where there is no usable CUDA device.
c10::Device deviceFor(const std::string& name);

/// LibTorch has one level of dual numbers and one number of threads for the whole process: one pass at a time.
std::mutex& onePass();

/// A level of dual numbers for as long as it lives.
class DualLevel {
public:
    DualLevel();
    ~DualLevel();
    std::uint64_t index() const { return level; }

private:
    std::uint64_t level;
};

/// LibTorch works with so many threads for as long as it lives; 0: as many as before.
class Threads {
public:
    explicit Threads(int count);
    ~Threads();
    Threads(const Threads&) = delete;
    Threads& operator=(const Threads&) = delete;

private:
    int before;
};

/// Threads for this many multiplications: one for small work, where a second one costs more than it does, by far where the cores are busy; 0 for other work.
int threadsFor(double work);

/// What an allocator throws where there is not enough memory, also through the interpreter, which does not hand on its type.
bool isOutOfMemory(const std::exception& e);

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
