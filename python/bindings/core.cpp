// SPDX-License-Identifier: MIT
#include "arrays.h"
#include "spacetime/Curve.h"
#include "spacetime/Files.h"
#include "spacetime/Json.h"
#include "spacetime/Models.h"
#include "spacetime/NetworkModel.h"
#include "spacetime/Samples.h"
#include "spacetime/Training.h"
#include <nanobind/eigen/dense.h>
#include <nanobind/make_iterator.h>
#include <nanobind/nanobind.h>
#include <nanobind/stl/filesystem.h>
#include <nanobind/stl/function.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/unique_ptr.h>
#include <nanobind/stl/variant.h>
#include <nanobind/stl/vector.h>
#include <nlohmann/json.hpp>
#include <optional>
#include <variant>

namespace nb = nanobind;
using namespace nb::literals;
using namespace Spacetime;
using Eigen::MatrixXd;
using Eigen::VectorXd;

void bindGeodesics(nb::module_& m);   // geodesics.cpp
void bindGeometry(nb::module_& m);    // geometry.cpp
void bindModels(nb::module_& m);      // models.cpp
void bindPictures(nb::module_& m);    // pictures.cpp
void bindMatrixFree(nb::module_& m);  // matrixfree.cpp
void bindImages(nb::module_& m);      // images.cpp
void bindFlow(nb::module_& m);        // flow.cpp
void bindDensity(nb::module_& m);     // density.cpp

namespace {

struct PyMoments {
    Rows mu;
    std::vector<MatrixXd> J;
    std::optional<VectorXd> psi, nEff;
};

Rows positions(const Variables& v, const MatrixXd& points, VectorXd (Variables::*read)(const Eigen::Ref<const VectorXd>&) const) {
    if (points.rows() != v.numStatistics())
        throw std::invalid_argument("Variables: expected " + std::to_string(v.numStatistics()) + " components a point, got " + std::to_string(points.rows()));
    Rows out(points.cols(), v.size());
    for (Eigen::Index i = 0; i < points.cols(); i++)
        out.row(i) = (v.*read)(points.col(i)).transpose();
    return out;
}

// Sites as Python writes them: an int for an atom, a list of ints for a centroid; weights beside them, None where they are equal.
using PySite = std::variant<int, std::vector<int>>;
using PySites = std::vector<PySite>;
using SiteWeights = std::optional<std::vector<double>>;
using PyWeights = std::optional<std::vector<SiteWeights>>;
using Names = std::optional<std::vector<std::string>>;

Site site(const PySite& atoms, const SiteWeights& weights) {
    Site s = std::holds_alternative<int>(atoms) ? Site(std::get<int>(atoms)) : Site(std::get<std::vector<int>>(atoms));
    s.weights = weights.value_or(std::vector<double>());
    return s;
}

/// Throws when a list given beside `expected` others has another length.
template <class List>
void checkLength(const std::optional<List>& list, size_t expected, const std::string& what) {
    if (list && list->size() != expected)
        throw std::invalid_argument(what + ": expected " + std::to_string(expected) + ", got " + std::to_string(list->size()));
}

std::vector<Site> sites(const PySites& atoms, const PyWeights& weights, const std::string& where) {
    checkLength(weights, atoms.size(), where + ", weights of sites (None or a list for each)");
    std::vector<Site> result;
    for (size_t i = 0; i < atoms.size(); i++)
        result.push_back(site(atoms[i], weights ? (*weights)[i] : std::nullopt));
    return result;
}

PySites atomsOf(const std::vector<Site>& list) {
    PySites result;
    for (const Site& s : list)
        result.push_back(s.atoms.size() == 1 ? PySite(s.atoms[0]) : PySite(s.atoms));
    return result;
}

PyWeights siteWeights(const std::vector<Site>& list) {
    std::vector<SiteWeights> result;
    bool weighted = false;
    for (const Site& s : list) {
        result.push_back(s.weighted() ? SiteWeights(s.weights) : std::nullopt);
        weighted = weighted || s.weighted();
    }
    return weighted ? PyWeights(result) : std::nullopt;
}

using VariableMaker = Variable (*)(const std::string&, std::vector<Site>);

/// Binds Variable.`kind` and, for many of them, Variables.`kind`s(`argument`, ...).
void bindKind(nb::class_<Variable>& one, nb::class_<Variables>& many, const std::string& kind, const char* argument, VariableMaker make, const char* doc, const char* docs) {
    one.def_static(
        kind.c_str(),
        [=](const std::string& name, const PySites& atoms, const PyWeights& weights) { return make(name, sites(atoms, weights, "Variable." + kind + " '" + name + "'")); },
        "name"_a, "atoms"_a = nb::make_tuple(), "weights"_a = nb::none(), doc);
    many.def_static((kind + "s").c_str(),
                    [=](const std::vector<PySites>& atoms, const Names& names, const std::optional<std::vector<PyWeights>>& weights) {
                        const std::string where = "Variables." + kind + "s";
                        checkLength(names, atoms.size(), where + ", names");
                        checkLength(weights, atoms.size(), where + ", weights of variables");
                        std::vector<Variable> items;
                        for (size_t i = 0; i < atoms.size(); i++) {
                            const std::string name = names ? (*names)[i] : kind + std::to_string(i + 1);
                            items.push_back(make(name, sites(atoms[i], weights ? (*weights)[i] : std::nullopt, where + " '" + name + "'")));
                        }
                        return Variables(items);
                    },
                    nb::arg(argument), "names"_a = nb::none(), "weights"_a = nb::none(), docs);
}

}  // namespace

NB_MODULE(_core, m) {
    // What a script still holds when Python ends is not a leak worth a page of text.
    nb::set_leak_warnings(false);
    m.doc() = "Collective variables, posterior models, curves, geodesics and networks (C++ core of openmmspacetime).";

    nb::class_<Frame>(m, "Frame", "Sites that are superposed on a reference before a position is read off; made by Variables.positions.")
        .def_prop_ro(
            "atoms", [](const Frame& f) { return atomsOf(f.sites); }, "Per site an int, or a list of ints for a centroid.")
        .def_prop_ro(
            "atomWeights", [](const Frame& f) { return siteWeights(f.sites); }, "Weights within centroids, as Variable.weights gives them.")
        .def_prop_ro(
            "reference", [](const Frame& f) { return rowsOf(f.reference); }, "[P, 3] where the sites belong, in nm.")
        .def_prop_ro(
            "weights", [](const Frame& f) { return optional(f.weights); }, "[P] weights of the sites in the superposition, on any scale; None when all are equal.");

    auto variable =
        nb::class_<Variable>(m, "Variable", "One collective variable; made by Variables.torsions and its siblings.")
            .def_ro("name", &Variable::name, "Name, unique among the variables.")
            .def_prop_ro("kind", &Variable::kindName, "'torsion', 'angle', 'distance', 'coordinate', 'position' or 'number'.")
            .def_prop_ro(
                "atoms", [](const Variable& v) { return atomsOf(v.atoms); }, "0-based particle indices: per site an int, or a list of ints for the centroid of several atoms.")
            .def_prop_ro(
                "weights", [](const Variable& v) { return siteWeights(v.atoms); },
                "Weights within centroids, on any scale: per site a list of floats, or None for equal ones. None when all are equal.")
            .def_ro("axis", &Variable::axis, "0, 1 or 2 for the x, y or z of a coordinate or position.")
            .def_ro("frame", &Variable::frame, "The Frame that is superposed before a position is read off, None for other kinds.")
            .def_ro("period", &Variable::period, "Length of one turn in raw units, 0 when not periodic.")
            .def_ro("shift", &Variable::shift, "What is subtracted from raw values, in raw units, before they are divided by the scale.")
            .def_ro("scale", &Variable::scale, "What raw values are divided by, in raw units.")
            .def_prop_ro("unit", &Variable::unit, "'rad', 'nm' or '' of raw values.")
            .def_prop_ro("lifted", &Variable::lifted, "Whether the variable is periodic and stands in the statistic as (cos, sin).")
            .def_static(
                "coordinate",
                [](const std::string& name, const PySite& atom, int axis, double period, const SiteWeights& weights) {
                    return Variable::coordinate(name, site(atom, weights), axis, period);
                },
                "name"_a, "atom"_a, "axis"_a, "period"_a = 0.0, "weights"_a = nb::none(),
                "One Cartesian component of an atom or centroid (nm); with a period (nm) it is lifted to (cos, sin).")
            .def_static("number", &Variable::number, "name"_a, "A plain number.")
            .def(
                "scaled",
                [](Variable v, double shift, double scale) {
                    v.shift = shift;
                    v.scale = scale;
                    return v;
                },
                "shift"_a, "scale"_a, "The same variable entering as (raw - shift)/scale. Unlifted variables only.");

    auto variables =
        nb::class_<Variables>(m, "Variables",
                              "The ordered set of collective variables.\n\nIts statistic is T = (\\|d\\|^2, then per variable d, or cos and sin); d are the unlifted, scaled\n"
                              "variables, and without any there is no \\|d\\|^2 (arXiv:2505.17517, with torsions lifted to the circle).")
            .def(nb::init<std::vector<Variable>>(), "items"_a)
            .def_static(
                "_positions",
                [](const PySites& atoms, nb::handle reference, nb::handle weights, const std::optional<PySites>& frameAtoms, const Names& names, const PyWeights& atomWeights,
                   const PyWeights& frameAtomWeights) {
                    checkLength(names, atoms.size(), "Variables.positions, names");
                    const auto list = sites(atoms, atomWeights, "Variables.positions");
                    Frame f{frameAtoms ? sites(*frameAtoms, frameAtomWeights, "Variables.positions, frame") : list, columnsOf(reference, "reference"),
                            weights.is_none() ? VectorXd() : vectorOf(weights, "weights")};
                    const auto frame = std::make_shared<const Frame>(std::move(f));
                    std::vector<Variable> items;
                    for (size_t i = 0; i < list.size(); i++)
                        for (int axis = 0; axis < 3; axis++)
                            items.push_back(Variable::position((names ? (*names)[i] : "position" + std::to_string(i + 1)) + "." + "xyz"[axis], list[i], axis, frame));
                    return Variables(items);
                },
                "atoms"_a, "reference"_a, "weights"_a.none(), "frameAtoms"_a.none(), "names"_a.none(), "atomWeights"_a.none(), "frameAtomWeights"_a.none(),
                "Variables.positions, of floats in nm.")
            .def_static(
                "numbers",
                [](const std::vector<std::string>& names) {
                    std::vector<Variable> items;
                    for (const auto& n : names)
                        items.push_back(Variable::number(n));
                    return Variables(items);
                },
                "names"_a, "Plain unlifted numbers.")
            .def_static(
                "fromJson", [](const std::string& text) { return withPrefix("Variables: ", [&] { return Variables::fromJson(parseJson(text)); }); }, "text"_a)
            .def("toJson", [](const Variables& v) { return v.toJson().dump(); })
            .def("__len__", &Variables::size)
            .def("__getitem__",
                 [](const Variables& v, int i) {
                     if (i < 0)
                         i += v.size();
                     if (i < 0 || i >= v.size())
                         throw nb::index_error("variable index out of range");
                     return v[i];
                 })
            .def(
                "__iter__", [](const Variables& v) { return nb::make_iterator<nb::rv_policy::copy>(nb::type<Variables>(), "_Iterator", v.items().begin(), v.items().end()); },
                nb::keep_alive<0, 1>())
            .def(
                "__add__",
                [](const Variables& a, const Variables& b) {
                    std::vector<Variable> items = a.items();
                    items.insert(items.end(), b.items().begin(), b.items().end());
                    return Variables(items);
                },
                nb::is_operator(), "The variables of both, in order; every name may occur once.")
            .def("__eq__", [](const Variables& a, nb::handle b) { return nb::isinstance<Variables>(b) && a.compatible(nb::cast<const Variables&>(b)); })
            .def("__repr__",
                 [](const Variables& v) {
                     std::string s = "Variables(";
                     for (int i = 0; i < v.size(); i++)
                         s += (i ? ", " : "") + v[i].name + ": " + v[i].kindName();
                     return s + ")";
                 })
            .def_prop_ro("names", &Variables::names, "Names, in order.")
            .def_prop_ro("numStatistics", &Variables::numStatistics, "m, the number of components of the statistic T and of eta.")
            .def("euclidean", &Variables::euclidean, "The same variables as plain unwrapped numbers (the way of arXiv:2505.17517).")
            .def(
                "statistic", [](const Variables& v, nb::handle raw) { return rowsOf(v.statistic(columnsOf(raw, "raw"))); }, "raw"_a, "T [K, m] of raw values [K, n].")
            .def(
                "naturalParameter", [](const Variables& v, nb::handle raw, double l) { return v.naturalParameter(vectorOf(raw, "raw"), l); }, "raw"_a, "logSnr"_a,
                "eta [m] of the clean point `raw` [n] seen at a log-SNR; for lifted variables kappa = e^logSnr.")
            .def(
                "center", [](const Variables& v, nb::handle eta) { return positions(v, columnsOf(eta, "eta"), &Variables::center); }, "eta"_a,
                "Raw position [N, n] of the bias centre of eta [N, m].")
            .def(
                "meanPosition", [](const Variables& v, nb::handle mu) { return positions(v, columnsOf(mu, "mu"), &Variables::meanPosition); }, "mu"_a,
                "Raw position [N, n] of expectation parameters mu [N, m].");

    bindKind(variable, variables, "torsion", "atoms", &Variable::torsion, "A dihedral angle of four atoms or centroids (rad), lifted to (cos, sin).",
             "Torsions of four atoms (0-based indices) or centroids (lists of indices) each, in rad.");
    bindKind(variable, variables, "angle", "triples", &Variable::angle, "An angle of three atoms or centroids (rad), the second at its vertex.",
             "Angles of three atoms or centroids each, in rad.");
    bindKind(variable, variables, "distance", "pairs", &Variable::distance, "A distance of two atoms or centroids (nm).", "Distances of two atoms or centroids each, in nm.");

    nb::class_<PyMoments>(m, "Moments", "Moments of p(c|eta) at N points.")
        .def_ro("mu", &PyMoments::mu, "[N, m] expectation parameters E[T].")
        .def_prop_ro(
            "J", [](const PyMoments& p) { return stack(p.J); }, "[N, m, m] d mu/d eta, the Fisher information of an exact posterior.")
        .def_ro("psi", &PyMoments::psi, "[N] log-partition, None where the model has none.")
        .def_ro("nEff", &PyMoments::nEff, "[N] effective number of samples, None where there are none.");

    m.attr("MIN_N_EFF") = MinNEff;
    nb::class_<PosteriorModel>(m, "PosteriorModel", "A model of the denoising distributions p(c\\|z), indexed by the natural parameter eta.")
        .def_prop_ro("variables", &PosteriorModel::variables, "Variables of the clean data.")
        .def_prop_ro("isExact", &PosteriorModel::isExact, "Whether J is the exact covariance of a distribution, symmetric and positive semidefinite; that of a denoiser is not.")
        .def_prop_ro("evaluations", &PosteriorModel::evaluations, "Points at which moments were asked for since the model was made.")
        .def_prop_ro("dataLogSnr", &PosteriorModel::dataLogSnr, "log-SNR at which a noisy point on the data is as good as a clean one.")
        .def_prop_ro("minLogSnr", &PosteriorModel::minLogSnr, "The lowest log-SNR at which the model means anything; -inf for closed forms.")
        .def(
            "denoised",
            [](const PosteriorModel& model, nb::handle eta) {
                const MatrixXd points = columnsOf(eta, "eta");
                nb::gil_scoped_release release;
                return rowsOf(model.denoised(points));
            },
            "eta"_a, "E[c\\|z] [N, D] in scaled coordinates at eta [N, m]: a part of moments, for a denoiser far less work.")
        .def(
            "moments",
            [](const PosteriorModel& model, nb::handle eta) {
                const MatrixXd points = columnsOf(eta, "eta");
                const Moments r = [&] {
                    nb::gil_scoped_release release;
                    return model.moments(points);
                }();
                return PyMoments{rowsOf(r.mu), r.J, optional(r.psi), optional(r.nEff)};
            },
            "eta"_a, "Moments at eta [N, m].")
        .def(
            "products",
            [](const PosteriorModel& model, nb::handle eta, nb::handle direction) {
                const MatrixXd points = columnsOf(eta, "eta"), along = columnsOf(direction, "direction");
                const MeanProducts r = [&] {
                    nb::gil_scoped_release release;
                    return model.products(points, along);
                }();
                return nb::make_tuple(rowsOf(r.mean), rowsOf(r.product));
            },
            "eta"_a, "direction"_a,
            "Denoised means [N, D] at eta [N, m] and their derivatives along one direction a point [N, m]: products with the covariance, which is not made.")
        .def(
            "checkRange", [](const PosteriorModel& model, nb::handle eta, const std::string& what) { model.checkRange(vectorOf(eta, "eta"), what); }, "eta"_a,
            "what"_a = "the point", "ValueError when eta [m] lies outside the model's range.");

    nb::class_<EmpiricalModel, PosteriorModel>(
        m, "EmpiricalModel",
        "The exact posterior of weighted samples.\n\nParameters\n----------\nsamples : array [K, n]\n    Raw values (rad, nm).\nvariables : Variables\nlogWeights : array [K], optional\n"
        "bandwidth : float\n    Standard deviation of a smoothing kernel (rad for torsions), 0 for none.\ngrid : bool\n    The samples are an exhaustive grid: no test of the effective sample size.\n"
        "maxExactSamples : int\n    Beyond this many samples bins keep weight and mean.\n\nRaises\n------\nValueError\n    For NaN, a wrong shape, or weights that are all zero.")
        .def(
            "__init__",
            [](EmpiricalModel* self, nb::handle samples, const Variables& variables, nb::handle logWeights, double bandwidth, bool grid, int maxExactSamples, int binsPerVariable) {
                EmpiricalModel::Options o;
                o.bandwidth = bandwidth;
                o.grid = grid;
                o.maxExactSamples = maxExactSamples;
                o.binsPerVariable = binsPerVariable;
                new (self) EmpiricalModel(variables, columnsOf(samples, "samples"), weightsOf(logWeights), o);
            },
            "samples"_a, "variables"_a, "logWeights"_a.none() = nb::none(), "bandwidth"_a = 0.0, "grid"_a = false, "maxExactSamples"_a = 50000, "binsPerVariable"_a = 90)
        .def_prop_ro(
            "numSupport", [](const EmpiricalModel& e) { return e.support().cols(); }, "Number of support points (samples or bins).");

    nb::class_<GaussianMixtureModel, PosteriorModel>(m, "GaussianMixtureModel", "Mixture of isotropic Gaussians in closed form: means [K, D], variances [K], weights [K].")
        .def(
            "__init__",
            [](GaussianMixtureModel* self, nb::handle means, nb::handle variances, nb::handle weights) {
                new (self) GaussianMixtureModel(columnsOf(means, "means"), vectorOf(variances, "variances"), vectorOf(weights, "weights"));
            },
            "means"_a, "variances"_a, "weights"_a)
        .def_static(
            "load", [](const std::filesystem::path& path) { return readMixture(path.string()); }, "path"_a, "Read a JSON file of means, variances and weights.");

    nb::class_<NetworkModel, PosteriorModel>(m, "NetworkModel", "A trained denoising network, evaluated without LibTorch.")
        .def_static(
            "load", [](const std::filesystem::path& path) { return NetworkModel::load(path.string()); }, "path"_a, "Read a safetensors model file; never runs code.")
        .def_prop_ro(
            "metadata", [](const NetworkModel& n) { return n.metadata().dump(); }, "The file's metadata as a JSON string.");

    nb::class_<CurveMeasure>(m, "CurveMeasure", "Length, energy and consistency of a curve under a model.")
        .def_ro("length", &CurveMeasure::length, "Fisher-Rao length, sum of sqrt(Delta eta . Delta mu).")
        .def_ro("energy", &CurveMeasure::energy, "Discrete energy N/2 sum d_i^2.")
        .def_ro("speedGap", &CurveMeasure::speedGap, "2 energy / length^2 - 1: 0 where the points are equally spaced.")
        .def_ro("lengthExtrapolated", &CurveMeasure::lengthExtrapolated, "Length extrapolated to infinitely many points (Richardson, order 2).")
        .def_ro("negativeEdges", &CurveMeasure::negativeEdges, "Segments whose Delta eta . Delta mu is negative, which only an inconsistent model has.")
        .def_ro("minNEff", &CurveMeasure::minNEff, "Least effective number of samples along the curve, NaN for models that no samples limit.")
        .def_ro("segmentLengths", &CurveMeasure::d, "[N]")
        .def_prop_ro(
            "mu", [](const CurveMeasure& c) { return rowsOf(c.mu); }, "[N+1, m]")
        .def_ro("freeEnergy", &CurveMeasure::beta_F, "[N+1] psi*(mu) = KL(p(.\\|z) \\|\\| q) relative to the first node, in kT.")
        .def_ro("trCov", &CurveMeasure::trCov, "[N+1] trace of the covariance of the lifted, scaled variables.")
        .def_prop_ro(
            "nEff", [](const CurveMeasure& c) { return optional(c.nEff); }, "[N+1] effective number of samples at every point, None where there are none.");

    nb::class_<Curve>(m, "Curve", "A path in spacetime: nodes eta_i at s_i, s = Fisher-Rao arc length/total.\n\nCurve(variables, s [N+1], eta [N+1, m])")
        .def(
            "__init__", [](Curve* self, const Variables& v, nb::handle s, nb::handle eta) { new (self) Curve(v, vectorOf(s, "s"), columnsOf(eta, "eta")); }, "variables"_a, "s"_a,
            "eta"_a)
        .def_prop_ro("variables", &Curve::variables, "Variables whose spacetime the curve lies in.")
        .def_prop_ro(
            "s", [](const Curve& c) { return VectorXd(c.s()); }, "[N+1] from 0 to 1.")
        .def_prop_ro(
            "eta", [](const Curve& c) { return rowsOf(c.eta()); }, "[N+1, m] natural parameters.")
        .def_rw("temperature", &Curve::temperature, "K; 0 when unknown.")
        .def_ro("schedule", &Curve::schedule, "Noise schedule by which x_t = alpha_t E[x_0] is written to the file: 'vp', 've', 'flow', ...; the curve itself has none.")
        .def_ro("energy", &Curve::energy, "Discrete energy N/2 sum d_i^2 of the curve as it was solved, NaN where it was not.")
        .def_ro("length", &Curve::length, "Fisher-Rao length, sum of sqrt(Delta eta . Delta mu), NaN where it was not measured.")
        .def_ro("lengthExtrapolated", &Curve::lengthExtrapolated, "Length extrapolated to infinitely many points (Richardson, order 2).")
        .def_ro("speedGap", &Curve::speedGap, "2 energy / length^2 - 1: 0 where the points are equally spaced.")
        .def_ro("residual", &Curve::residual, "Relative Newton decrement at which the solver stopped.")
        .def_prop_ro(
            "solution", [](const Curve& c) { return c.solution.empty() ? nb::object(nb::none()) : nb::module_::import_("json").attr("loads")(c.solution); },
            "How the solver came to the curve, as a dict: convergence, windings, values of the constraints. None where no solver did.")
        .def(
            "evaluate",
            [](const Curve& c, double s) {
                VectorXd eta;
                c.evaluate(s, eta);
                return eta;
            },
            "s"_a, "eta(s) [m]; s is clamped to [0, 1].")
        .def(
            "derivative",
            [](const Curve& c, double s) {
                VectorXd eta, d;
                c.evaluate(s, eta, &d);
                return d;
            },
            "s"_a, "d eta/ds [m].")
        .def("respaced", &Curve::respaced, "model"_a, "points"_a = 129, nb::call_guard<nb::gil_scoped_release>(),
             "The same path with nodes at equal Fisher-Rao length under `model`.")
        .def(
            "measure", [](const Curve& c, const PosteriorModel& model) { return measure(model, c.eta()); }, "model"_a, nb::call_guard<nb::gil_scoped_release>())
        .def(
            "save", [](const Curve& c, const std::filesystem::path& path, bool overwrite) { c.save(path.string(), overwrite); }, "path"_a, "overwrite"_a = false,
            "Write the JSON curve file. ValueError where it exists and must not be overwritten.")
        .def_static(
            "load", [](const std::filesystem::path& path) { return Curve::load(path.string()); }, "path"_a, "Read a JSON curve file. ValueError for a corrupt or newer file.");

    bindGeodesics(m);
    m.def(
        "straightLine",
        [](const Variables& v, const VectorXd& a, const VectorXd& b, double logSnr, int points, const std::vector<int>& windings) {
            return Curve(v, VectorXd::LinSpaced(points, 0, 1), straightLine(v, a, b, logSnr, points, windings));
        },
        "variables"_a, "a"_a, "b"_a, "logSnr"_a, "points"_a, "windings"_a);

    nb::class_<Samples>(m, "Samples", "Weighted samples read from a file.")
        .def_prop_ro(
            "x", [](const Samples& s) { return rowsOf(s.raw); }, "[K, n] raw values.")
        .def_prop_ro(
            "logWeights", [](const Samples& s) { return optional(s.logWeights); }, "[K] log weights, None where the file has none.")
        .def_prop_ro(
            "variables", [](const Samples& s) { return s.variables.size() ? std::optional<Variables>(s.variables) : std::nullopt; },
            "Variables that the file names, None where it names none.")
        .def_ro("grid", &Samples::grid, "Whether the samples are a grid with weights, which have no sampling error.");
    m.def(
        "readSamples", [](const std::filesystem::path& path) { return readSamples(path.string()); }, "path"_a, "Read .npz, .npy or .csv samples.");

    nb::class_<Consistency>(m, "Consistency", "Error of a model against a reference, in posterior standard deviations.")
        .def_ro("medianError", &Consistency::medianError, "Median over points of |H^-1/2 (mu - mu_ref)| / sqrt(m): the error of mu in posterior standard deviations.")
        .def_ro("error90", &Consistency::error90, "90th percentile of that error.")
        .def_ro("asymmetry", &Consistency::asymmetry, "Median of |J - J^T| / |J + J^T| over points; 0 where mu is a gradient.")
        .def_ro("jacobianError", &Consistency::jacobianError, "Median of |H^-1/2 (J - H) H^-1/2| / sqrt(m), H the reference's covariance.")
        .def_ro("points", &Consistency::points, "Number of points that were compared.");
    m.def(
        "compare",
        [](const PosteriorModel& a, const PosteriorModel& b, nb::handle eta) {
            const MatrixXd points = columnsOf(eta, "eta");
            nb::gil_scoped_release release;
            return compare(a, b, points);
        },
        "model"_a, "reference"_a, "eta"_a, "How far `model` is from `reference` at eta [N, m].");

    nb::class_<TrainingOptions>(m, "TrainingOptions", "Defaults of training; see openmmspacetime.train.")
        .def(nb::init<>())
        .def_rw("steps", &TrainingOptions::steps)
        .def_rw("batch", &TrainingOptions::batch)
        .def_rw("points", &TrainingOptions::points)
        .def_rw("components", &TrainingOptions::components)
        .def_rw("seed", &TrainingOptions::seed)
        .def_rw("learningRate", &TrainingOptions::learningRate)
        .def_rw("minLogSnr", &TrainingOptions::minLogSnr)
        .def_rw("maxLogSnr", &TrainingOptions::maxLogSnr)
        .def_rw("patience", &TrainingOptions::patience)
        .def_rw("temperature", &TrainingOptions::temperature)
        .def_rw("device", &TrainingOptions::device)
        .def_rw("threads", &TrainingOptions::threads)
        .def_rw("resume", &TrainingOptions::resume)
        .def_rw("checkpointSeconds", &TrainingOptions::checkpointSeconds);
    m.def(
        "trainNetwork",
        [](const EmpiricalModel& samples, const std::string& out, TrainingOptions o, std::optional<std::function<bool(int, int, double, double)>> progress) {
            bool failed = false;
            // Both callbacks hold the GIL only for as long as they run; what Python throws in them is thrown again at the end.
            auto guarded = [&failed](auto body) {
                nb::gil_scoped_acquire gil;
                try {
                    if (PyErr_CheckSignals() == 0)
                        return body();
                }
                catch (nb::python_error& e) {
                    e.restore();
                }
                failed = true;
                return false;
            };
            o.preparation = [&](double) { return guarded([] { return true; }); };
            o.progress = [&](int step, int total, double loss, double error) { return guarded([&] { return !progress || (*progress)(step, total, loss, error); }); };
            try {
                nb::gil_scoped_release release;
                train(samples, o, out);
            }
            catch (const std::exception&) {
                if (!failed)
                    throw;
            }
            if (failed)
                throw nb::python_error();
        },
        "samples"_a, "out"_a, "options"_a, "progress"_a.none());

    bindGeometry(m);
    bindModels(m);
    bindPictures(m);
    bindMatrixFree(m);
    bindImages(m);
    bindFlow(m);
    bindDensity(m);
}
