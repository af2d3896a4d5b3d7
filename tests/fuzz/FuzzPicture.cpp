// SPDX-License-Identifier: MIT
#include "Fuzz.h"
#include "spacetime/Images.h"
#include <cstring>

using namespace Spacetime;

/// PNG alone: the decoders of the other formats in Debian's stb_image have faults of their own, as docs/robustness.md says.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, size_t size) {
    if (size < 8 || std::memcmp(data, "\x89PNG\r\n\x1a\n", 8) != 0)
        return 0;
    return fuzz([&] {
        ImageReading reading;
        reading.shape = {8, 8, 3};
        reading.resize = true;
        const auto set = readImages(fuzzFile(data, size), reading);
        if (!(set.pixels.minCoeff() >= 0 && set.pixels.maxCoeff() <= 1))
            std::abort();
    });
}
