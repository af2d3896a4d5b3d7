// SPDX-License-Identifier: MIT
#include "Fuzz.h"
#include "spacetime/ImageModel.h"
#include <nlohmann/json.hpp>

using namespace Spacetime;

/// Whatever the file holds is opened as a model, as `spacetime info` and loadModel would; a denoiser of pictures as far as LibTorch is not needed.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, size_t size) {
    return fuzz([&] {
        const std::string& file = fuzzFile(data, size);
        const nlohmann::json description = describeModel(file);
        description.dump();
        if (description.at("network").at("type") != "mixture")
            return;
        const auto model = loadModel(file);
        const Variables& vars = model->variables();
        const Eigen::VectorXd eta = vars.naturalParameter(Eigen::VectorXd::Zero(vars.size()), 1.0);
        model->checkRange(eta, "the point");
        model->moments(eta, PosteriorModel::Order::Covariance);
    });
}
