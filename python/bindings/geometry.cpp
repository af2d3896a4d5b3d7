// SPDX-License-Identifier: MIT
// Exponential and logarithm maps, divergences and the metric; openmmspacetime/geometry.py is their documented face.
#include "spacetime/Geometry.h"
#include "arrays.h"
#include <nanobind/eigen/dense.h>
#include <nanobind/stl/string.h>

using namespace nb::literals;
using namespace Spacetime;
using Eigen::MatrixXd;
using Eigen::VectorXd;

namespace {

using Divergence = double (*)(const PosteriorModel&, const VectorXd&, const VectorXd&, const DivergenceOptions&);

/// One divergence a pair of rows; the caller has made the arrays equally long.
VectorXd divergences(Divergence divergence, const PosteriorModel& model, nb::handle a, nb::handle b, bool integrate) {
    const MatrixXd first = columnsOf(a, "etaA"), second = columnsOf(b, "etaB");
    DivergenceOptions o;
    o.integrate = integrate;
    nb::gil_scoped_release release;
    VectorXd out(first.cols());
    for (Eigen::Index i = 0; i < out.size(); i++)
        out[i] = divergence(model, first.col(i), second.col(i), o);
    return out;
}

}  // namespace

void bindGeometry(nb::module_& m) {
    nb::class_<GeodesicShot>(m, "GeodesicShot", "A geodesic from a point and a velocity; made by exponentialMap.")
        .def_ro("curve", &GeodesicShot::curve, "The geodesic as a Curve, s = t.")
        .def_prop_ro(
            "eta", [](const GeodesicShot& g) { return rowsOf(g.curve.eta()); }, "[points, m] natural parameters at equal steps of t from 0 to 1.")
        .def_prop_ro(
            "velocity", [](const GeodesicShot& g) { return rowsOf(g.velocity); }, "[points, m] d eta/dt.")
        .def_ro("length", &GeodesicShot::length, "Fisher-Rao length, which is the constant speed.")
        .def_ro("speedError", &GeodesicShot::maxSpeedError, "Largest relative deviation of the speed from that at the start.")
        .def_ro("minNEff", &GeodesicShot::minNEff, "Fewest effective samples at a point; nan where the model has none.")
        .def_ro("steps", &GeodesicShot::steps, "Steps of the integration.");
    m.def(
        "exponentialMap",
        [](const PosteriorModel& model, nb::handle eta, nb::handle velocity, int points, double tolerance) {
            const VectorXd start = vectorOf(eta, "eta"), direction = vectorOf(velocity, "velocity");
            ExponentialOptions o;
            o.numPoints = points;
            o.tolerance = tolerance;
            nb::gil_scoped_release release;
            return exponentialMap(model, start, direction, o);
        },
        "model"_a, "eta"_a, "velocity"_a, "points"_a, "tolerance"_a);

    nb::class_<LogarithmResult>(m, "LogarithmResult")
        .def_ro("velocity", &LogarithmResult::velocity)
        .def_ro("length", &LogarithmResult::length)
        .def_ro("residual", &LogarithmResult::residual)
        .def_ro("converged", &LogarithmResult::converged)
        .def_ro("iterations", &LogarithmResult::iterations)
        .def_ro("evaluations", &LogarithmResult::evaluations);
    m.def(
        "logarithmMap",
        [](const PosteriorModel& model, nb::handle etaA, nb::handle etaB, int points, double tolerance) {
            const VectorXd a = vectorOf(etaA, "etaA"), b = vectorOf(etaB, "etaB");
            LogarithmOptions o;
            o.numPoints = points;
            o.tolerance = tolerance;
            nb::gil_scoped_release release;
            return logarithmMap(model, a, b, o);
        },
        "model"_a, "etaA"_a, "etaB"_a, "points"_a, "tolerance"_a);

    m.def(
        "klDivergence", [](const PosteriorModel& model, nb::handle a, nb::handle b, bool integrate) { return divergences(klDivergence, model, a, b, integrate); }, "model"_a,
        "etaA"_a, "etaB"_a, "integrate"_a);
    m.def(
        "jeffreysDivergence", [](const PosteriorModel& model, nb::handle a, nb::handle b) { return divergences(jeffreysDivergence, model, a, b, false); }, "model"_a, "etaA"_a,
        "etaB"_a);
    m.def(
        "fisherInformation",
        [](const PosteriorModel& model, nb::handle eta, bool coordinates) {
            const MatrixXd points = columnsOf(eta, "eta");
            std::vector<MatrixXd> out;
            {
                nb::gil_scoped_release release;
                for (Eigen::Index i = 0; i < points.cols(); i++)
                    out.push_back(coordinates ? metricInCoordinates(model, points.col(i)) : fisherInformation(model, points.col(i)));
            }
            return stack(out);
        },
        "model"_a, "eta"_a, "coordinates"_a);
    m.def(
        "logPartition",
        [](const PosteriorModel& model, nb::handle eta) {
            const MatrixXd points = columnsOf(eta, "eta");
            nb::gil_scoped_release release;
            return logPartition(model, points);
        },
        "model"_a, "eta"_a);
}
