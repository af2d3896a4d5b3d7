// SPDX-License-Identifier: MIT
#include "Fuzz.h"
#include "spacetime/DensityPath.h"
#include <nlohmann/json.hpp>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, size_t size) {
    return fuzz([&] { Spacetime::loadDensityPath(fuzzFile(data, size)).variables.toJson().dump(); });
}
