// SPDX-License-Identifier: MIT
#include "arrays.h"
#include "interruptible.h"
#include "spacetime/Solver.h"
#include <nanobind/eigen/dense.h>
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

using namespace nb::literals;
using namespace Spacetime;
using Eigen::MatrixXd;
using Eigen::VectorXd;

namespace {

GeodesicOptions::Route routeFromName(const std::string& name) {
    if (name == "shortest" || name == "all")  // every winding is returned in any case
        return GeodesicOptions::Route::Shortest;
    if (name == "lowest")
        return GeodesicOptions::Route::Lowest;
    throw std::invalid_argument("geodesic: expected route 'shortest', 'lowest' or 'all', got '" + name + "'");
}

}  // namespace

void bindGeodesics(nb::module_& m) {
    nb::class_<ConstraintValue>(m, "ConstraintValue", "What one constraint came to along a curve, at four points a segment.")
        .def_ro("name", &ConstraintValue::name, "What is bounded, such as 'kappa of phi' or 'tr Cov'.")
        .def_ro("bound", &ConstraintValue::bound, "The bound, in the units of the value.")
        .def_ro("isUpper", &ConstraintValue::isUpper, "False where the value must stay above its bound.")
        .def_ro("extreme", &ConstraintValue::extreme, "The value closest to the bound, or furthest beyond it.")
        .def_ro("s", &ConstraintValue::s, "Where on the curve that is.")
        .def_ro("violation", &ConstraintValue::violation, "Relative to the bound; 0 where it holds.")
        .def("__repr__", [](const ConstraintValue& c) {
            return "<" + c.name + (c.isUpper ? " <= " : " >= ") + std::to_string(c.bound) + ": " + std::to_string(c.extreme) + " at s = " + std::to_string(c.s) + ">";
        });

    nb::class_<GeodesicResult>(m, "GeodesicResult", "One solution: a winding, or one of several minima that the starts led to.")
        .def_ro("curve", &GeodesicResult::curve, "The curve.")
        .def_ro("measure", &GeodesicResult::measure, "CurveMeasure of it.")
        .def_ro("windings", &GeodesicResult::windings, "Whole turns added per variable to the short way round.")
        .def_ro("start", &GeodesicResult::start, "Which start it came from; 0 is the plain one.")
        .def_ro("maxFreeEnergy", &GeodesicResult::maxFreeEnergy, "Highest psi*(mu) along the curve relative to its start, in kT.")
        .def_ro("conformalLength", &GeodesicResult::conformalLength, "Length in the metric that was minimised.")
        .def_ro("lengthDoubled", &GeodesicResult::lengthDoubled, "Length of the same curve by twice as many segments.")
        .def_ro("constraints", &GeodesicResult::constraints, "Bounds and constraints with their values along the curve.")
        .def_ro("residual", &GeodesicResult::residual, "Relative Newton decrement.")
        .def_ro("converged", &GeodesicResult::converged, "Decrement below the tolerance; change by doubling and violations below 1e-2.")
        .def_ro("iterations", &GeodesicResult::iterations, "Newton steps on all levels.")
        .def_ro("evaluations", &GeodesicResult::evaluations, "Points at which the model was evaluated.")
        .def_ro("seconds", &GeodesicResult::seconds, "Wall time.");

    nb::class_<GeodesicOptions>(m, "GeodesicOptions", "Options of the solver, as openmmspacetime.geodesics documents them.")
        .def(nb::init<>())
        .def_rw("points", &GeodesicOptions::numPoints)
        .def_rw("tolerance", &GeodesicOptions::tolerance)
        .def_rw("maxIterations", &GeodesicOptions::maxIterations)
        .def_rw("minLogSnr", &GeodesicOptions::minLogSnr)
        .def_rw("minKappa", &GeodesicOptions::minKappa)
        .def_rw("maxVariance", &GeodesicOptions::maxVariance)
        .def_rw("maxFreeEnergy", &GeodesicOptions::maxFreeEnergy, "kT")
        .def_rw("penaltyLogSnr", &GeodesicOptions::penaltyLogSnr)
        .def_rw("penaltyWeight", &GeodesicOptions::penaltyWeight)
        .def_rw("barrierWeight", &GeodesicOptions::barrierWeight)
        .def_rw("starts", &GeodesicOptions::numStarts)
        .def_rw("seed", &GeodesicOptions::seed)
        .def_rw("threads", &GeodesicOptions::threads)
        .def_prop_rw(
            "route", [](const GeodesicOptions& o) { return std::string(o.route == GeodesicOptions::Route::Lowest ? "lowest" : "shortest"); },
            [](GeodesicOptions& o, const std::string& name) { o.route = routeFromName(name); })
        .def_prop_rw(
            "start", [](const GeodesicOptions& o) { return rowsOf(o.start); }, [](GeodesicOptions& o, nb::handle eta) { o.start = columnsOf(eta, "start"); })
        .def(
            "avoid",
            [](GeodesicOptions& o, nb::handle eta, double nats) {
                o.avoid.push_back({vectorOf(eta, "region"), nats});
            },
            "eta"_a, "nats"_a);

    m.def(
        "geodesicResults",
        [](const PosteriorModel& model, const VectorXd& etaA, const VectorXd& etaB, GeodesicOptions options, const nb::object& progress) {
            return interruptible(options.progress, progress, [&] { return geodesic(model, etaA, etaB, options); });
        },
        "model"_a, "etaA"_a, "etaB"_a, "options"_a, "progress"_a.none() = nb::none());

    nb::class_<BatchResult>(m, "BatchResult", "One pair of a batch: its solutions, best first, or why there are none.")
        .def_ro("results", &BatchResult::results, "GeodesicResult of every winding or start of this pair, the best one first; empty where it could not be solved.")
        .def_ro("error", &BatchResult::error, "What went wrong with this pair, '' where nothing did.")
        .def_ro("same", &BatchResult::same, "Whether both ends are one point to rounding: no curve joins them, and their distance is 0.");
    m.def(
        "geodesicBatch",
        [](const PosteriorModel& model, nb::handle etaA, nb::handle etaB, GeodesicOptions options, const nb::object& progress) {
            const MatrixXd a = columnsOf(etaA, "etaA"), b = columnsOf(etaB, "etaB");
            return interruptible(options.progress, progress, [&] { return geodesicBatch(model, a, b, options); });
        },
        "model"_a, "etaA"_a, "etaB"_a, "options"_a, "progress"_a.none() = nb::none());
    m.def("constraintValues", &constraintValues, "model"_a, "curve"_a, "options"_a, nb::call_guard<nb::gil_scoped_release>());
}
