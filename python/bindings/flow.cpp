// SPDX-License-Identifier: MIT
// Probability-flow ODE, likelihoods, reverse SDE and the pullback metric; openmmspacetime/flow.py is their documented face.
#include "spacetime/Flow.h"
#include "arrays.h"
#include "interruptible.h"
#include "spacetime/Curve.h"
#include <nanobind/eigen/dense.h>
#include <nanobind/stl/string.h>

using namespace nb::literals;
using namespace Spacetime;
using Eigen::MatrixXd;
using Eigen::VectorXd;

namespace {

FlowOptions::Solver solverFromName(const std::string& name) {
    if (name == "adaptive")
        return FlowOptions::Solver::Adaptive;
    if (name == "heun")
        return FlowOptions::Solver::Heun;
    throw std::invalid_argument("expected solver 'adaptive' or 'heun', got '" + name + "'");
}

/// `function` with points [N, D] (called `what` in errors) from Python, which sees its progress and can interrupt it.
template <class Result>
auto ofPoints(Result (*function)(const PosteriorModel&, const MatrixXd&, double, const FlowOptions&), const char* what) {
    return [function, what](const PosteriorModel& model, nb::handle points, double logSnr, FlowOptions o, const nb::object& progress) {
        const MatrixXd y = columnsOf(points, what);
        return interruptible(o.progress, progress, [&] { return function(model, y, logSnr, o); });
    };
}

}  // namespace

void bindFlow(nb::module_& m) {
    nb::class_<FlowOptions>(m, "FlowOptions", "Options of the probability-flow ODE, as openmmspacetime.encode documents them.")
        .def(
            "__init__",
            [](FlowOptions* self, const std::string& solver, int steps, double tolerance, double dataLogSnr) {
                new (self) FlowOptions();
                self->solver = solverFromName(solver);
                self->steps = steps;
                self->tolerance = tolerance;
                self->dataLogSnr = dataLogSnr;
            },
            "solver"_a, "steps"_a, "tolerance"_a, "dataLogSnr"_a);

    nb::class_<FlowResult>(m, "FlowResult")
        .def_prop_ro("y", [](const FlowResult& r) { return rowsOf(r.y); })
        .def_ro("minNEff", &FlowResult::minNEff)
        .def_ro("steps", &FlowResult::steps)
        .def_ro("evaluations", &FlowResult::evaluations);

    nb::class_<PullbackCurve>(m, "PullbackCurve", "A curve in latent space and what it decodes to.")
        .def_prop_ro(
            "latent", [](const PullbackCurve& c) { return rowsOf(c.latent); }, "[points, D] latent points y = x/alpha.")
        .def_prop_ro(
            "decoded", [](const PullbackCurve& c) { return rowsOf(c.decoded); }, "[points, D] clean coordinates: scaled variables, (cos, sin) of lifted ones.")
        .def_ro("energy", &PullbackCurve::energy, "N sum |decoded_{i+1} - decoded_i|^2 over the N segments, the energy in the pullback metric.")
        .def_ro("segmentEnergy", &PullbackCurve::segmentEnergy, "|a - b|^2 of the decoded ends, the least energy there can be.")
        .def_ro("deviation", &PullbackCurve::deviation, "Largest distance of a decoded point from the straight segment between the ends, over |a - b|.")
        .def_ro("iterations", &PullbackCurve::iterations, "Steps of the optimiser.")
        .def_ro("converged", &PullbackCurve::converged, "Whether the tolerance was reached.");

    m.def("scheduleAlpha", &scheduleAlpha, "schedule"_a, "logSnr"_a);
    m.def(
        "flowCoordinates", [](const Variables& v, nb::handle raw) { return rowsOf(flowCoordinates(v, columnsOf(raw, "x"))); }, "variables"_a, "raw"_a);
    m.def(
        "rawCoordinates", [](const Variables& v, nb::handle c) { return rowsOf(rawCoordinates(v, columnsOf(c, "y"))); }, "variables"_a, "coordinates"_a);
    m.def(
        "flowNaturalParameter", [](const Variables& v, nb::handle y, double logSnr) { return rowsOf(flowNaturalParameter(v, columnsOf(y, "y"), logSnr)); }, "variables"_a, "y"_a,
        "logSnr"_a);

    m.def("encode", ofPoints(&encode, "x"), "model"_a, "raw"_a, "logSnr"_a, "options"_a, "progress"_a.none());
    m.def("decode", ofPoints(&decode, "latent"), "model"_a, "y"_a, "logSnr"_a, "options"_a, "progress"_a.none());
    m.def(
        "transport",
        [](const PosteriorModel& model, nb::handle points, double from, double to, FlowOptions o, const nb::object& progress) {
            const MatrixXd y = columnsOf(points, "x");
            return interruptible(o.progress, progress, [&] { return transport(model, y, from, to, o); });
        },
        "model"_a, "y"_a, "fromLogSnr"_a, "toLogSnr"_a, "options"_a, "progress"_a.none());
    m.def(
        "logLikelihood",
        [](const PosteriorModel& model, nb::handle points, double logSnr, const FlowOptions& flow, bool integrate, double base, const nb::object& progress) {
            const MatrixXd y = columnsOf(points, "x");
            LikelihoodOptions o;
            o.flow = flow;
            o.integrate = integrate;
            o.baseLogSnr = base;
            const LikelihoodResult r = interruptible(o.flow.progress, progress, [&] { return logLikelihood(model, y, logSnr, o); });
            return nb::make_tuple(r.logDensity, r.truncation);
        },
        "model"_a, "y"_a, "logSnr"_a, "options"_a, "integrate"_a, "baseLogSnr"_a, "progress"_a.none());
    m.def(
        "sampleReverseSde",
        [](const PosteriorModel& model, int count, int steps, unsigned seed, double start, double clean, bool covariance, const nb::object& progress) {
            SamplingOptions o;
            o.steps = steps;
            o.seed = seed;
            o.startLogSnr = start;
            o.dataLogSnr = clean;
            o.covariance = covariance;
            return rowsOf(interruptible(o.progress, progress, [&] { return sampleReverseSde(model, count, o); }));
        },
        "model"_a, "count"_a, "steps"_a, "seed"_a, "startLogSnr"_a, "dataLogSnr"_a, "covariance"_a, "progress"_a.none());
    m.def(
        "decoderJacobian",
        [](const PosteriorModel& model, nb::handle latent, double logSnr, FlowOptions o, const nb::object& progress) {
            const MatrixXd y = columnsOf(latent, "latent");
            return stack(interruptible(o.progress, progress, [&] { return decoderJacobian(model, y, logSnr, o); }));
        },
        "model"_a, "y"_a, "logSnr"_a, "options"_a, "progress"_a.none());
    m.def("decodeCurve", ofPoints(&decodeCurve, "latent"), "model"_a, "y"_a, "logSnr"_a, "options"_a, "progress"_a.none());
    m.def(
        "pullbackGeodesic",
        [](const PosteriorModel& model, nb::handle yA, nb::handle yB, double logSnr, int points, bool minimize, const FlowOptions& flow, const nb::object& progress) {
            const VectorXd a = vectorOf(yA, "latentA"), b = vectorOf(yB, "latentB");
            PullbackOptions o;
            o.flow = flow;
            o.numPoints = points;
            return interruptible(o.flow.progress, progress, [&] { return (minimize ? minimizePullbackEnergy : pullbackGeodesic)(model, a, b, logSnr, o); });
        },
        "model"_a, "yA"_a, "yB"_a, "logSnr"_a, "points"_a, "minimize"_a, "options"_a, "progress"_a.none());
}
