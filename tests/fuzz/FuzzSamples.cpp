// SPDX-License-Identifier: MIT
#include "Fuzz.h"
#include "spacetime/Samples.h"
#include <nlohmann/json.hpp>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, size_t size) {
    return fuzz([&] {
        const Spacetime::Samples samples = Spacetime::readSamples(fuzzFile(data, size));
        if (samples.raw.cols() == 0 || (samples.logWeights.size() > 0 && samples.logWeights.size() != samples.raw.cols()))
            std::abort();
        samples.variables.toJson().dump();  // as a model of these samples would store them
    });
}
