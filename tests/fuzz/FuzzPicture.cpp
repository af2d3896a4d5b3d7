// SPDX-License-Identifier: MIT
#include "Fuzz.h"
#include "spacetime/Images.h"

using namespace Spacetime;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, size_t size) {
    return fuzz([&] {
        ImageReading reading;
        reading.shape = {8, 8, 3};
        reading.resize = true;
        const auto set = readImages(fuzzFile(data, size), reading);
        if (!(set.pixels.minCoeff() >= 0 && set.pixels.maxCoeff() <= 1))
            std::abort();
    });
}
