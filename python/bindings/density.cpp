// SPDX-License-Identifier: MIT
// Probability-density geodesics; openmmspacetime/density.py is their documented face.
#include "spacetime/DensityPath.h"
#include "arrays.h"
#include "holding.h"
#include "interruptible.h"
#include <nanobind/eigen/dense.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

using namespace nb::literals;
using namespace Spacetime;
using Eigen::MatrixXd;
using Eigen::VectorXd;

namespace {

/// Python functions as a density.
class CallableDensity : public DensityField {
public:
    CallableDensity(nb::object score, int dimension, nb::handle lengths, nb::object density, bool stochastic, nb::object range)
        : scoreFunction(std::move(score)), densityFunction(std::move(density)), rangeFunction(std::move(range)), D(dimension), drawn(stochastic) {
        if (D < 1)
            throw std::invalid_argument("CallableDensity: expected a dimension of at least 1, got " + std::to_string(D));
        turns = lengths.is_none() ? VectorXd(VectorXd::Zero(D)) : vectorOf(lengths, "CallableDensity, periods");
        if (turns.size() != D)
            throw std::invalid_argument("CallableDensity: expected " + std::to_string(D) + " periods, got " + std::to_string(turns.size()));
        for (int i = 0; i < D; i++)
            if (!std::isfinite(turns[i]) || turns[i] < 0)
                throw std::invalid_argument("CallableDensity: expected a positive period of coordinate " + std::to_string(i) + ", or 0 where it is not periodic, got " +
                                            std::to_string(turns[i]));
    }

    std::vector<nb::object*> held() { return {&scoreFunction, &densityFunction, &rangeFunction}; }

    int dimension() const override { return D; }
    VectorXd periods() const override { return turns; }
    bool isStochastic() const override { return drawn; }
    bool hasLogDensity() const override { return !densityFunction.is_none(); }

    VectorXd logDensity(const MatrixXd& x) const override {
        if (!hasLogDensity())
            return DensityField::logDensity(x);
        nb::gil_scoped_acquire gil;
        const size_t n = x.cols();
        return VectorXd::Map(floatsOfShape(numpyOf(densityFunction(rowsOf(x)), LogDensity), {n}, LogDensity).data(), n);
    }

    std::string rangeProblem(const VectorXd& x) const override {
        nb::gil_scoped_acquire gil;
        if (rangeFunction.is_none())
            return "";
        const nb::object answer = rangeFunction(x);
        return answer.is_none() ? "" : nb::str(answer).c_str();
    }

protected:
    MatrixXd compute(const MatrixXd& x, long draw) const override {
        nb::gil_scoped_acquire gil;
        const size_t n = x.cols();
        addEvaluations(x.cols());
        const nb::object result = drawn ? scoreFunction(rowsOf(x), draw) : scoreFunction(rowsOf(x));
        return MatrixXd::Map(floatsOfShape(numpyOf(result, Score), {n, static_cast<size_t>(D)}, Score).data(), D, n);
    }

private:
    static constexpr const char* Score = "CallableDensity: the score";
    static constexpr const char* LogDensity = "CallableDensity: the log-density";

    nb::object scoreFunction, densityFunction, rangeFunction;
    int D;
    bool drawn;
    VectorXd turns;
};

/// A ModelDensity that keeps its model alive.
class HoldingModelDensity : public ModelDensity {
public:
    HoldingModelDensity(nb::object m, double logSnr, int draws, unsigned seed) : ModelDensity(nb::cast<const PosteriorModel&>(m), logSnr, draws, seed), object(std::move(m)) {}
    nb::object modelObject() const { return object; }
    std::vector<nb::object*> held() { return {&object}; }

private:
    nb::object object;
};

/// A GuidedDensity that keeps its fields alive.
class HoldingGuidedDensity : public GuidedDensity {
public:
    HoldingGuidedDensity(nb::tuple fields, std::vector<double> weights) : GuidedDensity(pointers(fields), std::move(weights)), objects(std::move(fields)) {}
    nb::object fieldObjects() const { return objects; }
    std::vector<nb::object*> held() { return {&objects}; }

private:
    static std::vector<const DensityField*> pointers(const nb::tuple& fields) {
        std::vector<const DensityField*> result;
        for (nb::handle field : fields) {
            if (!nb::isinstance<DensityField>(field))
                throw std::invalid_argument("GuidedDensity: expected density fields, got " + std::string(nb::str(field.type()).c_str()) + " at index " +
                                            std::to_string(result.size()));
            result.push_back(nb::cast<const DensityField*>(field));
        }
        return result;
    }

    nb::object objects;
};

DensityGeodesicOptions::Start startFromName(const std::string& name) {
    if (name == "lerp")
        return DensityGeodesicOptions::Start::Lerp;
    if (name == "slerp")
        return DensityGeodesicOptions::Start::Slerp;
    throw std::invalid_argument("densityGeodesic: expected start 'lerp', 'slerp' or a path, got '" + name + "'");
}

/// LERP or SLERP between two points from Python.
auto baseline(MatrixXd (*between)(const VectorXd&, const VectorXd&, int)) {
    return [between](nb::handle a, nb::handle b, int points) { return rowsOf(between(vectorOf(a, "a"), vectorOf(b, "b"), points)); };
}

}  // namespace

void bindDensity(nb::module_& m) {
    nb::class_<DensityField>(m, "DensityField", "The score grad log p of a density over D coordinates, of which probability-density geodesics are made (docs/density.md).")
        .def_prop_ro("dimension", &DensityField::dimension, "D.")
        .def_prop_ro("periods", &DensityField::periods, "[D] length of one turn of each coordinate, 0 where it is not periodic.")
        .def_prop_ro("isStochastic", &DensityField::isStochastic, "Whether scores are averages over random draws.")
        .def_prop_ro("hasLogDensity", &DensityField::hasLogDensity, "Whether log p itself is known.")
        .def_prop_ro("evaluations", &DensityField::evaluations, "Scores evaluated since construction: one a point and draw.")
        .def(
            "score",
            [](const DensityField& f, nb::handle x, long draw) {
                const MatrixXd points = columnsOf(x, "x");
                nb::gil_scoped_release release;
                return rowsOf(f.score(points, draw));
            },
            "x"_a, "draw"_a = 0, "Scores [K, D] at coordinates x [K, D]; the same draw means the same noise at every point.")
        .def(
            "logDensity",
            [](const DensityField& f, nb::handle x) {
                const MatrixXd points = columnsOf(x, "x");
                nb::gil_scoped_release release;
                return f.logDensity(points);
            },
            "x"_a, "log p [K] up to a constant at coordinates x [K, D]. ValueError where it is not known.")
        .def(
            "rangeProblem", [](const DensityField& f, nb::handle x) { return f.rangeProblem(vectorOf(x, "x")); }, "x"_a,
            "Why the density at the coordinates x [D] is zero or unknown; '' where it is known.");

    nb::class_<HoldingModelDensity, DensityField>(
        m, "ModelDensity", holdingSlots<HoldingModelDensity>(),
        "The density of a model's data seen through noise, at one log-SNR.\n\n"
        "Coordinates are one a variable: (raw - shift)/scale of an unlifted variable, the phase 2 pi raw/period of a lifted one, in rad. With k = exp(logSnr) scores are\n"
        "k (E[c\\|y] - y) (Tweedie's formula) and k (E[sin] cos phi - E[cos] sin phi): those of the data's density smoothed by a Gaussian of variance 1/k, or by a von Mises\n"
        "distribution. They come from the posterior mean, so a network of any schedule and prediction type will do.\n\n"
        "Parameters\n----------\nmodel : PosteriorModel\nlogSnr : float\n    Noise level; high ones resolve detail, low ones see the large features of the density.\n"
        "draws : int\n    Above 0 the score is its mean over so many noisy copies of the point (arXiv:2504.06675).\nseed : int\n    Of the draws.\n\n"
        "Raises\n------\nValueError\n    For a log-SNR that is not finite or below the model's range, or draws below 0.")
        .def(
            "__init__",
            [](HoldingModelDensity* self, nb::handle_t<PosteriorModel> model, double logSnr, int draws, unsigned seed) {
                new (self) HoldingModelDensity(nb::borrow(model), logSnr, draws, seed);
            },
            "model"_a, "logSnr"_a, "draws"_a = 0, "seed"_a = 1)
        .def_prop_ro("model", &HoldingModelDensity::modelObject, "The model whose score it is.")
        .def_prop_ro(
            "variables", [](const HoldingModelDensity& f) { return f.variables(); }, "Variables of the model.")
        .def_prop_ro("logSnr", &ModelDensity::logSnr, "log-SNR of the noise through which the density is seen.")
        .def_prop_ro("draws", &ModelDensity::draws, "Noisy draws that the score is a mean over, 0 for none.")
        .def(
            "coordinates", [](const HoldingModelDensity& f, nb::handle raw) { return rowsOf(f.coordinates(columnsOf(raw, "raw"))); }, "raw"_a,
            "Coordinates [K, D] of raw values [K, D] (rad, nm); whole turns are kept.")
        .def(
            "raw", [](const HoldingModelDensity& f, nb::handle x) { return rowsOf(f.raw(columnsOf(x, "x"))); }, "x"_a, "Raw values [K, D] (rad, nm) of coordinates [K, D].");

    nb::class_<HoldingGuidedDensity, DensityField>(
        m, "GuidedDensity", holdingSlots<HoldingGuidedDensity>(),
        "A weighted sum of scores: several models or conditions at once.\n\nClassifier-free guidance with strength w is [unconditional, conditional] with the weights "
        "[1 - w, w]; two models with weights that sum to 1 give\nthe normalised product of their densities to those powers.\n\n"
        "Parameters\n----------\nfields : sequence of DensityField\n    Of the same dimension and periods.\nweights : sequence of float\n    One a field.\n\n"
        "Raises\n------\nValueError\n    Where they do not fit together.")
        .def(
            "__init__",
            [](HoldingGuidedDensity* self, const nb::iterable& fields, std::vector<double> weights) { new (self) HoldingGuidedDensity(nb::tuple(fields), std::move(weights)); },
            "fields"_a, "weights"_a)
        .def_prop_ro("fields", &HoldingGuidedDensity::fieldObjects, "The densities whose scores are added.");

    nb::class_<CallableDensity, DensityField>(
        m, "CallableDensity", holdingSlots<CallableDensity>(),
        "A density whose score is a Python function.\n\n"
        "Parameters\n----------\nscore : callable(x) or callable(x, draw)\n"
        "    Gets points x [K, D] (float64) and returns grad log p there [K, D], an array or a tensor. Where `stochastic` it also gets the number of the draw:\n"
        "    the same number must mean the same noise at every point.\n"
        "dimension : int\n    D.\nperiods : array [D], optional\n    Length of one turn of each coordinate, 0 where it is not periodic.\n"
        "logDensity : callable(x), optional\n    log p [K] up to a constant.\nstochastic : bool\n"
        "rangeProblem : callable(x), optional\n    Why the density at the point x [D] is zero or unknown, a str that goes on from the point, such as \"lies below the surface\"; '' or None where it is known.\n\n"
        "Raises\n------\nValueError\n    For a dimension or periods that are none, and, when it is used, for results of the wrong shape or that are not finite. What the functions raise is raised.")
        .def(
            "__init__",
            [](CallableDensity* self, nb::callable score, int dimension, nb::handle periods, nb::object logDensity, bool stochastic, nb::object range) {
                new (self) CallableDensity(std::move(score), dimension, periods, std::move(logDensity), stochastic, std::move(range));
            },
            "score"_a, "dimension"_a, "periods"_a.none() = nb::none(), "logDensity"_a.none() = nb::none(), "stochastic"_a = false, "rangeProblem"_a.none() = nb::none());

    nb::class_<DensityPath>(m, "DensityPath", "A path as the solver gives it: openmmspacetime.DensityPath documents it.")
        .def_prop_ro("x", [](const DensityPath& p) { return rowsOf(p.x); })
        .def_ro("tau", &DensityPath::tau)
        .def_ro("sphere", &DensityPath::sphere)
        .def_ro("logDensity", &DensityPath::logDensity)
        .def_ro("length", &DensityPath::length)
        .def_ro("logDistance", &DensityPath::logDistance)
        .def_ro("residual", &DensityPath::residual)
        .def_ro("residualError", &DensityPath::residualError)
        .def_ro("spacing", &DensityPath::spacing)
        .def_ro("windings", &DensityPath::windings)
        .def_ro("converged", &DensityPath::converged)
        .def_ro("iterations", &DensityPath::iterations)
        .def_ro("evaluations", &DensityPath::evaluations)
        .def_ro("seconds", &DensityPath::seconds)
        .def_ro("maxSpeedError", &DensityPath::maxSpeedError)
        .def_ro("outside", &DensityPath::outside);

    nb::class_<DensityGeodesicOptions>(m, "DensityGeodesicOptions", "Options of the solver, as openmmspacetime.densityGeodesics documents them.")
        .def(nb::init<>())
        .def_rw("tau", &DensityGeodesicOptions::tau)
        .def_rw("points", &DensityGeodesicOptions::numPoints)
        .def_rw("tolerance", &DensityGeodesicOptions::tolerance)
        .def_rw("maxIterations", &DensityGeodesicOptions::maxIterations)
        .def_rw("sphere", &DensityGeodesicOptions::sphere)
        .def_rw("windings", &DensityGeodesicOptions::windings)
        .def_rw("starts", &DensityGeodesicOptions::starts)
        .def_rw("seed", &DensityGeodesicOptions::seed)
        .def_rw("averagedSteps", &DensityGeodesicOptions::averagedSteps)
        .def(
            "setStart", [](DensityGeodesicOptions& o, const std::string& name) { o.start = startFromName(name); }, "name"_a)
        .def(
            "setPath", [](DensityGeodesicOptions& o, nb::handle path) { o.path = columnsOf(path, "start"); }, "path"_a);

    nb::class_<DensityShotOptions>(m, "DensityShotOptions", "Options of the integrator, as openmmspacetime.extrapolate documents them.")
        .def(nb::init<>())
        .def_rw("tau", &DensityShotOptions::tau)
        .def_rw("length", &DensityShotOptions::length)
        .def_rw("points", &DensityShotOptions::numPoints)
        .def_rw("tolerance", &DensityShotOptions::tolerance)
        .def_rw("steps", &DensityShotOptions::steps)
        .def_rw("sphere", &DensityShotOptions::sphere);

    m.def(
        "densityGeodesics",
        [](const DensityField& field, nb::handle endA, nb::handle endB, DensityGeodesicOptions options, const nb::object& progress) {
            const VectorXd a = vectorOf(endA, "a"), b = vectorOf(endB, "b");
            return interruptible(options.progress, progress, [&] { return densityGeodesics(field, a, b, options); });
        },
        "field"_a, "a"_a, "b"_a, "options"_a, "progress"_a.none() = nb::none());
    m.def(
        "extrapolateDensity",
        [](const DensityField& field, nb::handle start, nb::handle direction, DensityShotOptions options, const nb::object& progress) {
            const VectorXd x = vectorOf(start, "start"), v = vectorOf(direction, "direction");
            return interruptible(options.progress, progress, [&] { return extrapolateDensity(field, x, v, options); });
        },
        "field"_a, "x"_a, "v"_a, "options"_a, "progress"_a.none() = nb::none());
    m.def(
        "measureDensityPath",
        [](const DensityField& field, nb::handle nodes, double tau, double tolerance, bool sphere) {
            const MatrixXd x = columnsOf(nodes, "path");
            nb::gil_scoped_release release;
            return measureDensityPath(field, x, tau, tolerance, sphere);
        },
        "field"_a, "x"_a, "tau"_a, "tolerance"_a = 1e-4, "sphere"_a = false);
    m.def(
        "unitTangents", [](nb::handle nodes) { return rowsOf(unitTangents(columnsOf(nodes, "path"))); }, "x"_a, "Unit tangents [N+1, D] of nodes [N+1, D] at equal distances.");
    m.def("lerp", baseline(&lerp), "a"_a, "b"_a, "points"_a);
    m.def("slerp", baseline(&slerp), "a"_a, "b"_a, "points"_a);

    nb::class_<SequenceAnalysis>(m, "SequenceAnalysis", "As the core gives it: openmmspacetime.SequenceAnalysis documents it.")
        .def_ro("frames", &SequenceAnalysis::frames)
        .def_ro("angle", &SequenceAnalysis::angle)
        .def_ro("residual", &SequenceAnalysis::residual)
        .def_ro("bestTau", &SequenceAnalysis::bestTau)
        .def_ro("bestTauResidual", &SequenceAnalysis::bestTauResidual)
        .def_ro("geodesic", &SequenceAnalysis::geodesic)
        .def_ro("line", &SequenceAnalysis::line)
        .def_ro("lengthRatio", &SequenceAnalysis::lengthRatio)
        .def_ro("distanceRatio", &SequenceAnalysis::distanceRatio);
    m.def(
        "analyzeSequence",
        [](const DensityField& field, nb::handle frames, int numFrames, DensityGeodesicOptions options, const nb::object& progress) {
            const MatrixXd x = columnsOf(frames, "frames");
            return interruptible(options.progress, progress, [&] { return analyzeSequence(field, x, numFrames, options); });
        },
        "field"_a, "frames"_a, "numFrames"_a, "options"_a, "progress"_a.none() = nb::none());

    nb::class_<DensityPathFile>(m, "DensityPathFile")
        .def_ro("variables", &DensityPathFile::variables)
        .def_ro("logSnr", &DensityPathFile::logSnr)
        .def_ro("path", &DensityPathFile::path)
        .def_prop_ro("raw", [](const DensityPathFile& f) { return rowsOf(f.raw); });
    m.def(
        "saveDensityPath",
        [](const std::string& file, const DensityPath& path, const HoldingModelDensity& field, bool overwrite) { saveDensityPath(file, path, field, overwrite); }, "file"_a,
        "path"_a, "field"_a, "overwrite"_a);
    m.def("loadDensityPath", &loadDensityPath, "file"_a);
}
