// SPDX-License-Identifier: MIT
#include "Fuzz.h"
#include "spacetime/Curve.h"
#include <nlohmann/json.hpp>

using namespace Spacetime;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, size_t size) {
    return fuzz([&] {
        const Curve curve = Curve::load(fuzzFile(data, size));
        Eigen::VectorXd eta, slope;
        for (const double s : {0.0, 0.37, 1.0, 1.5})
            curve.evaluate(s, eta, &slope);
        // What was read must be written in a form that is read again.
        const nlohmann::json again = curve.toJson();
        if (Curve::fromJson(again).toJson().dump() != again.dump())
            std::abort();
    });
}
