// SPDX-License-Identifier: MIT
#pragma once

#include "spacetime/DenoiserModel.h"

struct SpacetimeTorchScript;

namespace Spacetime {

/**
 * A denoiser that was trained elsewhere, as a TorchScript module: forward(x [N x D], logsnr [N]) -> prediction [N x D].
 *
 * The file is one of torch.jit.save with an extra file spacetime.json, whose keys are those of DenoiserParameters; Python's
 * openmmspacetime.saveTorchScript writes it. Rows must not depend on each other. The module is put into evaluation mode and computes in the type of
 * its parameters, float32 or float64; a module without parameters gets float64.
 *
 * Derivatives are those of reverse-mode automatic differentiation (one pass back for each of the D outputs), or of forward mode where that does not work:
 * the first of the two that agrees with finite differences when the file is opened. Products with single directions take one pass of forward mode, or
 * central differences where that does not work; with more than 256 coordinates there are only products.
 *
 * Needs LibTorch, which is opened on first use. Opening a TorchScript file can run code that it holds: open files of people you trust.
 */
class TorchScriptModel : public DenoiserModel {
public:
    /// `device` is cpu or cuda; `derivatives` forward, reverse or empty for the choice described above. Throws std::invalid_argument for files that are
    /// no TorchScript, lack spacetime.json, or whose module does not do what that promises; std::runtime_error where LibTorch cannot be opened.
    static std::unique_ptr<TorchScriptModel> load(const std::string& path, const std::string& device = "cpu", const std::string& derivatives = "");

    /// "forward" or "reverse"; with more than 256 coordinates as productMode().
    const std::string& derivatives() const { return mode; }
    /// How products with directions are made: "forward" or "differences".
    std::string productMode() const { return forwardProducts ? "forward" : "differences"; }
    bool isDouble() const { return is64Bit; }
    const std::string& path() const { return file; }

protected:
    Predictions predict(const Inputs& inputs, bool derivatives) const override;
    Eigen::MatrixXd predictAlong(const Inputs& inputs, const Eigen::MatrixXd& alongX, const Eigen::VectorXd& alongLevel, Eigen::MatrixXd& values) const override;
    double predictionError() const override;
    double derivativeError() const override;

private:
    using Handle = std::shared_ptr<SpacetimeTorchScript>;
    TorchScriptModel(const std::string& path, Handle module, DenoiserParameters parameters, const std::string& only);

    std::string file, mode;
    Handle module;
    bool is64Bit = false, forwardProducts = true;
};

}  // namespace Spacetime
