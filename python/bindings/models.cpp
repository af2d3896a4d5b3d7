// SPDX-License-Identifier: MIT
// Models made of other people's denoisers: TorchScript files and Python functions.
#include "arrays.h"
#include "holding.h"
#include "spacetime/TorchScriptModel.h"
#include <nanobind/eigen/dense.h>
#include <nanobind/nanobind.h>
#include <nanobind/stl/filesystem.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/unique_ptr.h>
#include <nlohmann/json.hpp>

using namespace nb::literals;
using namespace Spacetime;
using Eigen::Index;
using Eigen::MatrixXd;
using Eigen::VectorXd;

namespace {

/// A Python function as a denoiser.
class CallableModel : public DenoiserModel {
public:
    CallableModel(nb::object f, nb::object j, nb::object product, DenoiserParameters parameters)
        : DenoiserModel("CallableModel", std::move(parameters)), function(std::move(f)), jacobian(std::move(j)), jvp(std::move(product)) {
        const bool isLarge = numCoordinates() > MaxJacobian;
        const int count = isLarge ? LargeTrials : Trials;
        const Inputs trials = trialInputs(count);
        const nb::object result = call(function, trials);
        numbers(result, {static_cast<size_t>(count), static_cast<size_t>(numCoordinates())}, "the function's prediction");
        // Differences of 32-bit predictions need longer steps.
        single = result.attr("dtype").attr("itemsize").equal(nb::int_(4));
        if (!jvp.is_none())
            if (const int wrong = disagreeingProducts(trials); wrong > count / 4)  // a function with kinks differs at some
                throw std::invalid_argument("CallableModel: the jvp disagrees with the function or its finite differences at " + std::to_string(wrong) + " of " +
                                            std::to_string(count) +
                                            " random points: expected (prediction [N, D], its derivative along (alongX [N, D], alongLogSnr [N]) as [N, D])");
        if (isLarge) {
            if (!jacobian.is_none())
                throw std::invalid_argument("CallableModel: expected no jacobian for " + std::to_string(numCoordinates()) + " coordinates, more than " +
                                            std::to_string(MaxJacobian) + ": give a jvp instead");
            return;
        }
        const Predictions given = predict(trials, true);
        if (jacobian.is_none())
            return;
        const Predictions expected = differences(trials, valueError());
        int wrong = 0;
        for (Index i = 0; i < Trials; i++)
            wrong += (given.jacobian[i] - expected.jacobian[i]).norm() > JacobianTolerance * (expected.jacobian[i].norm() + given.jacobian[i].norm());
        if (wrong > Trials / 4)  // a function with kinks differs at some
            throw std::invalid_argument("CallableModel: the jacobian disagrees with finite differences of the function at " + std::to_string(wrong) + " of " +
                                        std::to_string(Trials) + " random points: expected (d prediction_i/d x_j as [N, D, D], d prediction_i/d logSnr as [N, D])");
    }

    std::vector<nb::object*> held() { return {&function, &jacobian, &jvp}; }

protected:
    Predictions predict(const Inputs& inputs, bool derivatives) const override {
        if (derivatives && jacobian.is_none())
            return differences(inputs, valueError());
        nb::gil_scoped_acquire gil;
        const size_t n = inputs.x.cols(), D = numCoordinates();
        Predictions out;
        out.values = MatrixXd::Map(numbers(call(function, inputs), {n, D}, "the function's prediction").data(), D, n);
        if (!derivatives)
            return out;
        nb::object result = jacobian(inputsAsArray(inputs.x), VectorXd(inputs.level));
        if (!nb::isinstance<nb::tuple>(result) || nb::len(result) != 2)
            throw std::invalid_argument("CallableModel: expected the jacobian as a tuple (dx [N, D, D], dlogSnr [N, D])");
        const auto byX = numbers(asArray(result[0]), {n, D, D}, "the jacobian's dx"), byL = numbers(asArray(result[1]), {n, D}, "the jacobian's dlogSnr");
        out.jacobian.assign(n, MatrixXd(D, D + 1));
        for (size_t i = 0; i < n; i++) {
            out.jacobian[i].leftCols(D) = Rows::Map(byX.data() + i * D * D, D, D);
            out.jacobian[i].col(D) = VectorXd::Map(byL.data() + i * D, D);
        }
        return out;
    }

    MatrixXd predictAlong(const Inputs& inputs, const MatrixXd& alongX, const VectorXd& alongLevel, MatrixXd& values) const override {
        if (jvp.is_none())
            return DenoiserModel::predictAlong(inputs, alongX, alongLevel, values);
        nb::gil_scoped_acquire gil;
        const size_t n = inputs.x.cols(), D = numCoordinates();
        nb::object result = jvp(inputsAsArray(inputs.x), VectorXd(inputs.level), inputsAsArray(alongX), VectorXd(alongLevel));
        if (!nb::isinstance<nb::tuple>(result) || nb::len(result) != 2)
            throw std::invalid_argument("CallableModel: expected of the jvp a tuple (prediction [N, D], derivative [N, D])");
        values = MatrixXd::Map(numbers(asArray(result[0]), {n, D}, "the jvp's prediction").data(), D, n);
        return MatrixXd::Map(numbers(asArray(result[1]), {n, D}, "the jvp's derivative").data(), D, n);
    }

    double predictionError() const override { return valueError(); }

    double derivativeError() const override { return jacobian.is_none() ? std::pow(valueError(), 2.0 / 3) : valueError(); }

private:
    static constexpr int Trials = 24, LargeTrials = 6;
    static constexpr double JacobianTolerance = 0.02;

    double valueError() const { return single ? 1e-7 : 1e-15; }

    static nb::object inputsAsArray(const MatrixXd& x) { return nb::cast(rowsOf(x)); }

    static nb::object asArray(const nb::object& x) { return numpyOf(x, "CallableModel"); }

    static nb::object call(const nb::object& f, const Inputs& inputs) { return asArray(f(inputsAsArray(inputs.x), VectorXd(inputs.level))); }

    static FloatArray numbers(const nb::object& array, const std::vector<size_t>& shape, const char* what) {
        return floatsOfShape(array, shape, std::string("CallableModel: ") + what);
    }

    nb::object function, jacobian, jvp;
    bool single = false;
};

DenoiserParameters parametersOf(const Variables& variables, const std::string& schedule, const std::string& prediction, std::pair<double, double> logSnrRange, double sigmaData,
                                double temperature, nb::handle dataMean, double dataVariance) {
    DenoiserParameters p;
    p.variables = variables;
    p.schedule = schedule;
    p.prediction = prediction;
    std::tie(p.minLogSnr, p.maxLogSnr) = logSnrRange;
    p.sigmaData = sigmaData;
    p.temperature = temperature;
    if (!dataMean.is_none())
        p.dataMean = vectorOf(dataMean, "dataMean");
    p.dataVariance = dataVariance;
    return p;
}

}  // namespace

void bindModels(nb::module_& m) {
    nb::class_<DenoiserModel, PosteriorModel>(m, "DenoiserModel", "A posterior made of a denoiser's predictions (docs/models.md).")
        .def_prop_ro(
            "schedule", [](const DenoiserModel& d) { return d.parameters().schedule; }, "Noise schedule of the denoiser: 'vp', 'cosine', 've', 'edm' or 'flow'.")
        .def_prop_ro(
            "prediction", [](const DenoiserModel& d) { return d.parameters().prediction; }, "What the denoiser predicts: 'x0', 'eps', 'score', 'v', 'flow' or 'edm'.")
        .def_prop_ro(
            "logSnrRange", [](const DenoiserModel& d) { return std::make_pair(d.parameters().minLogSnr, d.parameters().maxLogSnr); },
            "(lowest, highest) log-SNR on which it was trained.")
        .def_prop_ro(
            "metadata", [](const DenoiserModel& d) { return d.parameters().toJson().dump(); }, "What the model knows of its denoiser, as a JSON string.");

    nb::class_<TorchScriptModel, DenoiserModel>(m, "TorchScriptModel", "A denoiser in a TorchScript file, as saveTorchScript writes it.")
        .def_static(
            "load",
            [](const std::filesystem::path& path, const std::string& device, const std::string& derivatives) {
                nb::gil_scoped_release release;
                return TorchScriptModel::load(path.string(), device, derivatives);
            },
            "path"_a, "device"_a = "cpu", "derivatives"_a = "",
            "Open a file with LibTorch. It can hold code that runs when it is opened: open files of people you trust.\n\nParameters\n----------\npath : str or os.PathLike\ndevice : str\n"
            "    'cpu' or 'cuda'.\nderivatives : str\n    'forward' or 'reverse' mode of automatic differentiation; by default the first that agrees with finite differences.\n\n"
            "Raises\n------\nValueError\n    For files that are no TorchScript, lack spacetime.json, or whose module does not do what that promises.\nRuntimeError\n"
            "    Where LibTorch cannot be opened.")
        .def_prop_ro("derivatives", &TorchScriptModel::derivatives, "'forward' or 'reverse'.")
        .def_prop_ro("productMode", &TorchScriptModel::productMode, "How products with directions are made: 'forward' mode or 'differences'.")
        .def_prop_ro(
            "precision", [](const TorchScriptModel& t) { return t.isDouble() ? "float64" : "float32"; }, "'float32' or 'float64': in what the module computes.");

    nb::class_<CallableModel, DenoiserModel>(
        m, "CallableModel", holdingSlots<CallableModel>(),
        "A denoiser given as a Python function.\n\nParameters\n----------\nfunction : callable(x, logSnr)\n"
        "    Gets x [N, D] and logSnr [N] (float64 arrays; with prediction 'edm' c_in x/alpha and c_noise) and returns the prediction [N, D], an array or a tensor.\n"
        "    Rows must not depend on each other. D counts one for an unlifted variable and two (cos, sin) for a lifted one.\n"
        "variables : Variables\nschedule : str\n    'vp', 'cosine', 've' (or 'edm') or 'flow'.\nprediction : str\n    'x0', 'eps', 'score', 'v', 'flow' or 'edm'.\n"
        "logSnrRange : (float, float)\n    Where the function is to be trusted.\n"
        "jacobian : callable(x, logSnr), optional\n    Returns (d prediction/dx [N, D, D], d prediction/dlogSnr [N, D]); by default central differences.\n"
        "jvp : callable(x, logSnr, alongX, alongLogSnr), optional\n    Returns (prediction [N, D], its derivative [N, D] along alongX [N, D] and alongLogSnr [N], one direction a point),\n"
        "    as torch.func.jvp does: for products; by default central differences. With more than 256 coordinates derivatives are products alone.\n"
        "sigmaData : float\n    Of EDM's preconditioning.\ntemperature : float\n    K; 0 when unknown.\n"
        "dataMean : array [unlifted], optional\ndataVariance : float, optional\n    Of the scaled unlifted variables: the scale of the solver's chart.\n\n"
        "Raises\n------\nValueError\n    For unknown schedules and predictions, and for predictions of the wrong shape or that are not finite. What the function raises is raised.")
        .def(
            "__init__",
            [](CallableModel* self, nb::callable function, const Variables& variables, const std::string& schedule, const std::string& prediction,
               std::pair<double, double> logSnrRange, nb::object jacobian, nb::object jvp, double sigmaData, double temperature, nb::handle dataMean, double dataVariance) {
                new (self) CallableModel(std::move(function), std::move(jacobian), std::move(jvp),
                                         parametersOf(variables, schedule, prediction, logSnrRange, sigmaData, temperature, dataMean, dataVariance));
            },
            "function"_a, "variables"_a, "schedule"_a = "vp", "prediction"_a = "x0", nb::kw_only(), "logSnrRange"_a, "jacobian"_a.none() = nb::none(), "jvp"_a.none() = nb::none(),
            "sigmaData"_a = 0.5, "temperature"_a = 0.0, "dataMean"_a.none() = nb::none(), "dataVariance"_a = 0.0);
}
