// SPDX-License-Identifier: MIT
#include "Fuzz.h"
#include "spacetime/Files.h"

using namespace Spacetime;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, size_t size) {
    return fuzz([&] {
        const auto model = readMixture(fuzzFile(data, size));
        const Eigen::VectorXd eta = model->variables().naturalParameter(model->dataMean(), 1.0);
        model->checkRange(eta, "the point");
        model->moments(eta, PosteriorModel::Order::Covariance);
    });
}
