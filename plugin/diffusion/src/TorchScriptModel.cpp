// SPDX-License-Identifier: MIT
#include "spacetime/TorchScriptModel.h"
#include "TorchLibrary.h"
#include "spacetime/Json.h"
#include <filesystem>
#include <stdexcept>

using Eigen::Index;
using Eigen::MatrixXd;
using Eigen::VectorXd;
using nlohmann::json;

namespace Spacetime {

namespace {

/// Points on which a module is tried when it is opened.
const int Trials = 24, LargeTrials = 6;

std::string quoted(const std::string& path) { return "TorchScriptModel: '" + path + "'"; }

}  // namespace

std::unique_ptr<TorchScriptModel> TorchScriptModel::load(const std::string& path, const std::string& device, const std::string& derivatives) {
    if (!derivatives.empty() && derivatives != "forward" && derivatives != "reverse")
        throw std::invalid_argument("TorchScriptModel: expected the derivatives forward or reverse, got '" + derivatives + "'");
    if (!std::filesystem::is_regular_file(path))
        throw std::invalid_argument(quoted(path) + ": no such file");
    const TorchLibrary& torch = TorchLibrary::get();
    char error[1024] = "";
    SpacetimeTorchScript* opened = nullptr;
    const char* metadata = nullptr;
    if (torch.openScript(path.c_str(), device.c_str(), &opened, &metadata, error, sizeof(error)) != 0)
        throw std::invalid_argument(quoted(path) + " " + error);
    Handle module(opened, torch.closeScript);
    if (*metadata == '\0')
        throw std::invalid_argument(quoted(path) + " does not say what its variables, schedule and prediction are: it lacks the extra file spacetime.json. Save the module with "
                                                   "openmmspacetime.saveTorchScript, or with torch.jit.save(module, path, _extra_files={'spacetime.json': ...}) (docs/models.md)");
    const json j = withPrefix(quoted(path) + ", spacetime.json: ", [&] { return parseJson(metadata); });
    return std::unique_ptr<TorchScriptModel>(new TorchScriptModel(path, module, DenoiserParameters::fromJson(j, quoted(path) + ", spacetime.json"), derivatives));
}

TorchScriptModel::TorchScriptModel(const std::string& path, Handle handle, DenoiserParameters parameters, const std::string& only)
    : DenoiserModel(quoted(path), std::move(parameters)), file(path), module(std::move(handle)) {
    const bool isLarge = numCoordinates() > MaxJacobian;
    if (isLarge && only == "reverse")
        throw std::invalid_argument(quoted(path) + ": reverse mode makes whole Jacobians, of which there are none for more than " + std::to_string(MaxJacobian) +
                                    " coordinates (this module has " + std::to_string(numCoordinates()) + "): leave the derivatives to choice");
    const Inputs trials = trialInputs(isLarge ? LargeTrials : Trials);
    char error[1024] = "";
    const char* name = nullptr;
    int isDouble = 0;
    const double levelStep = this->parameters().prediction == "edm" ? 0.125 : 1.0;
    if (TorchLibrary::get().prepareScript(module.get(), trials.x.cols(), numCoordinates(), trials.x.data(), trials.level.data(), isLarge ? nullptr : trials.noise.data(), levelStep,
                                          only.empty() ? nullptr : only.c_str(), &name, &isDouble, error, sizeof(error)) != 0)
        throw std::invalid_argument(quoted(path) + ": " + error);
    mode = name;
    is64Bit = isDouble != 0;
    std::string complaint;
    try {
        if (const int wrong = disagreeingProducts(trials); wrong > trials.x.cols() / 4)
            complaint = "products disagree with finite differences at " + std::to_string(wrong) + " of " + std::to_string(trials.x.cols()) + " points";
    }
    catch (const std::invalid_argument& e) {  // an operation without forward mode
        complaint = e.what();
    }
    forwardProducts = complaint.empty();
    if (isLarge) {
        mode = productMode();
        if (only == "forward" && !forwardProducts)
            throw std::invalid_argument(quoted(path) + ": forward mode does not work (" + complaint + ")");
    }
}

double TorchScriptModel::predictionError() const { return is64Bit ? 1e-15 : 1e-7; }

double TorchScriptModel::derivativeError() const { return is64Bit ? 1e-15 : 1e-6; }

MatrixXd TorchScriptModel::predictAlong(const Inputs& inputs, const MatrixXd& alongX, const VectorXd& alongLevel, MatrixXd& values) const {
    if (!forwardProducts)
        return DenoiserModel::predictAlong(inputs, alongX, alongLevel, values);
    MatrixXd along(inputs.x.rows(), inputs.x.cols());
    values.resizeLike(along);
    char error[1024] = "";
    if (TorchLibrary::get().alongScript(module.get(), inputs.x.cols(), static_cast<int>(inputs.x.rows()), inputs.x.data(), inputs.level.data(), alongX.data(), alongLevel.data(),
                                        values.data(), along.data(), error, sizeof(error)) != 0)
        throw std::invalid_argument(quoted(file) + ": " + error);
    return along;
}

TorchScriptModel::Predictions TorchScriptModel::predict(const Inputs& inputs, bool derivatives) const {
    const Index n = inputs.x.cols(), D = numCoordinates();
    Predictions out;
    out.values.resize(D, n);
    Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor> jacobian(derivatives ? n * D : 0, D + 1);
    char error[1024] = "";
    // The core's columns are the module's rows: the same memory, read the other way.
    if (TorchLibrary::get().predictScript(module.get(), n, static_cast<int>(D), inputs.x.data(), inputs.level.data(), out.values.data(), derivatives ? jacobian.data() : nullptr,
                                          error, sizeof(error)) != 0)
        throw std::invalid_argument(quoted(file) + ": " + error);
    if (derivatives) {
        out.jacobian.reserve(n);
        for (Index i = 0; i < n; i++)
            out.jacobian.push_back(jacobian.middleRows(i * D, D));
    }
    return out;
}

}  // namespace Spacetime
