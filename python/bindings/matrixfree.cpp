// SPDX-License-Identifier: MIT
#include "spacetime/MatrixFree.h"
#include "arrays.h"
#include "interruptible.h"
#include <nanobind/eigen/dense.h>
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

using namespace nb::literals;
using namespace Spacetime;
using Eigen::MatrixXd;

void bindMatrixFree(nb::module_& m) {
    nb::class_<ProbeMeasure>(m, "ProbeMeasure", "Length and energy of a curve with standard errors over probes.")
        .def_ro("probes", &ProbeMeasure::probes, "Number of random probes.")
        .def_ro("length", &ProbeMeasure::length, "Fisher-Rao length, its traces estimated by the probes.")
        .def_ro("lengthError", &ProbeMeasure::lengthError, "Its standard error over probes (jackknife).")
        .def_ro("energy", &ProbeMeasure::energy, "Discrete energy N/2 sum d_i^2.")
        .def_ro("energyError", &ProbeMeasure::energyError, "Its standard error over probes (jackknife).")
        .def_ro("speedGap", &ProbeMeasure::speedGap, "2 energy/length^2 - 1; 0 at constant speed.")
        .def_ro("negativeEdges", &ProbeMeasure::negativeEdges, "Segments on which the model contradicts itself (d eta . d mu < 0).")
        .def_ro("d", &ProbeMeasure::d, "[N] lengths of the segments.")
        .def_ro("trCov", &ProbeMeasure::trCov, "[N+1] trace of Cov[c|z].")
        .def_prop_ro(
            "mean", [](const ProbeMeasure& p) { return rowsOf(p.mean); }, "[N+1, D] denoised means, in scaled coordinates.")
        .def_ro("evaluations", &ProbeMeasure::evaluations, "Points of the model that were evaluated, each with a derivative.");

    nb::class_<MatrixFreeResult>(m, "MatrixFreeResult", "A geodesic found without matrices.")
        .def_ro("curve", &MatrixFreeResult::curve, "The curve.")
        .def_ro("measure", &MatrixFreeResult::measure, "ProbeMeasure of it, with probes of its own.")
        .def_prop_ro(
            "length", [](const MatrixFreeResult& r) { return r.measure.length; }, "Fisher-Rao length, the sum over the nodes.")
        .def_prop_ro(
            "lengthError", [](const MatrixFreeResult& r) { return r.measure.lengthError; }, "Its standard error over probes.")
        .def_prop_ro(
            "energy", [](const MatrixFreeResult& r) { return r.measure.energy; }, "Energy over the probes that were minimised.")
        .def_prop_ro(
            "energyError", [](const MatrixFreeResult& r) { return r.measure.energyError; }, "Its standard error over probes.")
        .def_prop_ro(
            "speedGap", [](const MatrixFreeResult& r) { return r.measure.speedGap; }, "2 energy / length^2 - 1: 0 where the points are equally spaced.")
        .def_ro("residual", &MatrixFreeResult::residual, "Decrease of the energy that the next step would promise, relative to it.")
        .def_ro("converged", &MatrixFreeResult::converged, "Whether the tolerance was reached.")
        .def_ro("iterations", &MatrixFreeResult::iterations, "Steps on all levels.")
        .def_ro("evaluations", &MatrixFreeResult::evaluations, "Points of the model that the solver evaluated, each with a derivative.")
        .def_ro("seconds", &MatrixFreeResult::seconds, "Of the solver alone; of a pair of a batch: its share.")
        .def_ro("error", &MatrixFreeResult::error, "Why a pair of a batch has no curve; else ''.");

    nb::class_<MatrixFreeOptions>(m, "MatrixFreeOptions", "Options of the solver, as openmmspacetime.matrixFreeGeodesic documents them.")
        .def(nb::init<>())
        .def_rw("points", &MatrixFreeOptions::numPoints)
        .def_rw("tolerance", &MatrixFreeOptions::tolerance)
        .def_rw("maxIterations", &MatrixFreeOptions::maxIterations)
        .def_rw("probes", &MatrixFreeOptions::probes)
        .def_rw("measureProbes", &MatrixFreeOptions::measureProbes)
        .def_rw("seed", &MatrixFreeOptions::seed)
        .def_rw("batch", &MatrixFreeOptions::batch)
        .def_rw("minLogSnr", &MatrixFreeOptions::minLogSnr)
        .def_rw("stiffness", &MatrixFreeOptions::stiffness)
        .def_prop_rw(
            "start", [](const MatrixFreeOptions& o) { return rowsOf(o.start); }, [](MatrixFreeOptions& o, nb::handle eta) { o.start = columnsOf(eta, "start"); });

    m.def(
        "matrixFreeGeodesics",
        [](const PosteriorModel& model, nb::handle etaA, nb::handle etaB, MatrixFreeOptions options, const nb::object& progress) {
            const MatrixXd a = columnsOf(etaA, "etaA"), b = columnsOf(etaB, "etaB");
            return interruptible(options.progress, progress, [&] { return matrixFreeGeodesics(model, a, b, options); });
        },
        "model"_a, "etaA"_a, "etaB"_a, "options"_a, "progress"_a.none() = nb::none());
    m.def(
        "measureWithProbes",
        [](const PosteriorModel& model, nb::handle eta, int probes, unsigned seed, int batch, const nb::object& progress) {
            const MatrixXd points = columnsOf(eta, "eta");
            ProbeOptions options;
            options.probes = probes;
            options.seed = seed;
            options.batch = batch;
            return interruptible(options.progress, progress, [&] { return measureWithProbes(model, points, options); });
        },
        "model"_a, "eta"_a, "probes"_a, "seed"_a, "batch"_a, "progress"_a.none() = nb::none());
}
