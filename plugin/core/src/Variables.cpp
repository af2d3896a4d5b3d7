// SPDX-License-Identifier: MIT
#include "spacetime/Variables.h"
#include "spacetime/Json.h"
#include <Eigen/SVD>
#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <stdexcept>

using Eigen::MatrixXd;
using Eigen::VectorXd;
using nlohmann::json;

namespace Spacetime {

namespace {

const double TwoPi = 2 * M_PI;

struct KindInfo {
    Variable::Kind kind;
    const char* name;
    int numAtoms;
    const char* unit;
};
const KindInfo kinds[] = {{Variable::Kind::Torsion, "torsion", 4, "rad"},      {Variable::Kind::Angle, "angle", 3, "rad"},      {Variable::Kind::Distance, "distance", 2, "nm"},
                          {Variable::Kind::Coordinate, "coordinate", 1, "nm"}, {Variable::Kind::Position, "position", 1, "nm"}, {Variable::Kind::Number, "number", 0, ""}};

const KindInfo& info(Variable::Kind kind) {
    for (const KindInfo& k : kinds)
        if (k.kind == kind)
            return k;
    throw std::invalid_argument("Variable: unknown kind");
}

Variable::Kind kindFromName(const std::string& name) {
    for (const KindInfo& k : kinds)
        if (name == k.name)
            return k.kind;
    throw std::invalid_argument("Variables: expected one of torsion, angle, distance, coordinate, position, number; got '" + name + "'");
}

Variable make(Variable::Kind kind, const std::string& name, std::vector<Site> atoms) {
    Variable v;
    v.name = name;
    v.kind = kind;
    v.atoms = std::move(atoms);
    if (kind == Variable::Kind::Torsion)
        v.period = TwoPi;
    return v;
}

/// Names the first weight that is not positive and finite. `whose` says whose weights they are.
template <class Weights>
void checkWeights(const Weights& weights, size_t expected, const std::string& whose, const std::string& things) {
    if (weights.size() == 0)
        return;
    if (static_cast<size_t>(weights.size()) != expected)
        throw std::invalid_argument(whose + ": expected one weight for each of " + std::to_string(expected) + " " + things + ", got " + std::to_string(weights.size()));
    for (size_t i = 0; i < expected; i++)
        if (!(weights[i] > 0) || !std::isfinite(weights[i]))
            throw std::invalid_argument(whose + ": expected positive finite weights, got " + text(weights[i]) + " as weight " + std::to_string(i));
}

void checkSites(const std::vector<Site>& sites, const std::string& where) {
    std::map<int, size_t> owner;
    for (size_t i = 0; i < sites.size(); i++) {
        const Site& site = sites[i];
        const std::string whose = where + ", site " + std::to_string(i);
        if (site.atoms.empty())
            throw std::invalid_argument(whose + " is empty: expected the index of an atom or a list of them");
        for (int atom : site.atoms) {
            if (atom < 0)
                throw std::invalid_argument(whose + ": expected atom indices from 0, got " + std::to_string(atom));
            const auto [first, isNew] = owner.emplace(atom, i);
            if (!isNew)
                throw std::invalid_argument(where + " has overlapping sites: atom " + std::to_string(atom) + " is in site " + std::to_string(first->second) +
                                            (first->second == i ? " twice" : " and in site " + std::to_string(i)) + "; do not name the same atom twice");
        }
        checkWeights(site.weights, site.atoms.size(), whose, "atoms");
    }
}

/// Weights on a scale on which they sum to 1.
VectorXd shares(Eigen::Index n, const Eigen::Ref<const VectorXd>& weights) { return weights.size() ? VectorXd(weights / weights.sum()) : VectorXd::Constant(n, 1.0 / n); }

void checkFrame(const Frame& frame, const std::string& where) {
    const Eigen::Index P = frame.sites.size();
    if (P < 3)
        throw std::invalid_argument(where + ": expected at least 3 sites, which fix a rotation, got " + std::to_string(P));
    checkSites(frame.sites, where);
    if (frame.reference.rows() != 3 || frame.reference.cols() != P)
        throw std::invalid_argument(where + ": expected x, y, z of " + std::to_string(P) + " sites as the reference, got " + std::to_string(frame.reference.rows()) +
                                    " numbers for each of " + std::to_string(frame.reference.cols()));
    for (Eigen::Index p = 0; p < P; p++)
        if (!frame.reference.col(p).allFinite())
            throw std::invalid_argument(where + ", site " + std::to_string(p) + ": expected a finite reference, got " + textList(frame.reference.col(p)));
    checkWeights(frame.weights, P, where, "sites");
    const MatrixXd centred = frame.reference.colwise() - frame.reference * shares(P, frame.weights);
    const VectorXd extent = Eigen::JacobiSVD<MatrixXd>(centred).singularValues();
    if (!(extent[1] > 1e-6 * extent[0]))
        throw std::invalid_argument(where + ": the reference lies on a line or in one point (its singular values are " + textList(extent) +
                                    " nm); three points not on a line are needed to fix a rotation");
}

bool same(double a, double b) { return std::abs(a - b) <= 1e-9 * (std::abs(a) + std::abs(b)); }

bool same(const std::vector<Site>& a, const std::vector<Site>& b) {
    auto sharesOf = [](const Site& s) { return shares(s.atoms.size(), Eigen::Map<const VectorXd>(s.weights.data(), s.weights.size())); };
    return std::equal(a.begin(), a.end(), b.begin(), b.end(), [&](const Site& x, const Site& y) { return x.atoms == y.atoms && sharesOf(x).isApprox(sharesOf(y), 1e-9); });
}

bool same(const Frame& a, const Frame& b) {
    return same(a.sites, b.sites) && a.reference.isApprox(b.reference, 1e-9) && shares(a.sites.size(), a.weights).isApprox(shares(b.sites.size(), b.weights), 1e-9);
}

/// Sites under "atoms", single atoms as plain numbers; their weights under `weightsKey`, where there are any that matter.
void writeSites(json& item, const std::vector<Site>& sites, const char* weightsKey) {
    json atoms = json::array(), weights = json::array();
    bool weighted = false;
    for (const Site& site : sites) {
        atoms.push_back(site.atoms.size() == 1 ? json(site.atoms[0]) : json(site.atoms));
        weights.push_back(site.weighted() ? json(site.weights) : json(nullptr));
        weighted = weighted || site.weighted();
    }
    item["atoms"] = atoms;
    if (weighted)
        item[weightsKey] = weights;
}

std::vector<Site> readSites(const json& item, const char* weightsKey, const std::string& where) {
    auto atom = [&](const json& j) {
        // A cast would make an atom of 1.5 and of 2^32 + 1.
        if (!j.is_number_integer() || j != j.get<int>())
            throw std::invalid_argument(where + ": expected indices of atoms, or lists of them, got " + j.dump());
        return j.get<int>();
    };
    std::vector<Site> sites;
    const json atoms = item.value("atoms", json::array());
    if (!atoms.is_array())
        throw std::invalid_argument(where + ": expected a list of atoms, got " + atoms.dump());
    for (const json& part : atoms) {
        sites.emplace_back();
        for (const json& j : part.is_array() ? part : json::array({part}))
            sites.back().atoms.push_back(atom(j));
    }
    const json weights = item.value(weightsKey, json(nullptr));
    if (!weights.is_null() && (!weights.is_array() || weights.size() != sites.size()))
        throw std::invalid_argument(where + ": expected '" + weightsKey + "' to be a list with null or a list of numbers for each of " + std::to_string(sites.size()) +
                                    " sites, got " + weights.dump());
    for (size_t i = 0; i < weights.size(); i++)
        if (!weights[i].is_null())
            sites[i].weights = weights[i].get<std::vector<double>>();
    return sites;
}

json writeFrame(const Frame& frame) {
    json item;
    writeSites(item, frame.sites, "atom_weights");
    item["reference"] = json::array();
    for (const auto& point : frame.reference.colwise())
        item["reference"].push_back({point[0], point[1], point[2]});
    if (frame.weights.size())
        item["weights"] = std::vector<double>(frame.weights.begin(), frame.weights.end());
    return item;
}

std::shared_ptr<const Frame> readFrame(const json& item, const std::string& where) {
    auto frame = std::make_shared<Frame>();
    frame->sites = readSites(item, "atom_weights", where);
    const auto points = item.at("reference").get<std::vector<std::vector<double>>>();
    frame->reference.resize(3, points.size());
    for (size_t p = 0; p < points.size(); p++) {
        if (points[p].size() != 3)
            throw std::invalid_argument(where + ", site " + std::to_string(p) + ": expected x, y, z as its reference, got " + textList(points[p]));
        frame->reference.col(p) = Eigen::Map<const Eigen::Vector3d>(points[p].data());
    }
    const auto weights = item.value("weights", std::vector<double>());
    frame->weights = Eigen::Map<const VectorXd>(weights.data(), weights.size());
    return frame;
}

}  // namespace

std::string Variable::unit() const { return info(kind).unit; }
std::string Variable::kindName() const { return info(kind).name; }
Variable Variable::torsion(const std::string& name, std::vector<Site> atoms) { return make(Kind::Torsion, name, std::move(atoms)); }
Variable Variable::angle(const std::string& name, std::vector<Site> atoms) { return make(Kind::Angle, name, std::move(atoms)); }
Variable Variable::distance(const std::string& name, std::vector<Site> atoms) { return make(Kind::Distance, name, std::move(atoms)); }
Variable Variable::number(const std::string& name) { return make(Kind::Number, name, {}); }
Variable Variable::coordinate(const std::string& name, Site atom, int axis, double period) {
    Variable v = make(Kind::Coordinate, name, {std::move(atom)});
    v.axis = axis;
    v.period = period;
    return v;
}
Variable Variable::position(const std::string& name, Site atom, int axis, std::shared_ptr<const Frame> frame) {
    Variable v = make(Kind::Position, name, {std::move(atom)});
    v.axis = axis;
    v.frame = std::move(frame);
    return v;
}

bool Site::weighted() const {
    return std::any_of(weights.begin(), weights.end(), [this](double w) { return w != weights[0]; });
}

bool Frame::operator==(const Frame& other) const {
    // Eigen compares matrices of one size only.
    return sites == other.sites && reference.rows() == other.reference.rows() && reference.cols() == other.reference.cols() && reference == other.reference &&
           weights.size() == other.weights.size() && weights == other.weights;
}

Variables::Variables(std::vector<Variable> items) : list(std::move(items)) {
    if (list.empty())
        throw std::invalid_argument("Variables: expected at least one variable, got none");
    std::set<std::string> seen;
    std::vector<std::shared_ptr<const Frame>> frames;
    for (size_t i = 0; i < list.size(); i++) {
        Variable& v = list[i];
        const std::string where = "Variables: variable " + std::to_string(i) + " ('" + v.name + "')";
        if (v.name.empty())
            throw std::invalid_argument(where + " has no name");
        if (!isUtf8(v.name))  // which no file of ours could store
            throw std::invalid_argument(where + ": a name must be UTF-8 text");
        if (!seen.insert(v.name).second)
            throw std::invalid_argument(where + " repeats a name: every variable needs its own");
        const KindInfo& k = info(v.kind);
        if (!v.atoms.empty() && static_cast<int>(v.atoms.size()) != k.numAtoms)
            throw std::invalid_argument(where + ": a " + k.name + " is made of " + std::to_string(k.numAtoms) + (k.numAtoms == 1 ? " atom or centroid" : " atoms or centroids") +
                                        ", got " + std::to_string(v.atoms.size()));
        checkSites(v.atoms, where);
        const bool isPosition = v.kind == Variable::Kind::Position;
        if (v.frame && !isPosition)
            throw std::invalid_argument(where + ": only a position has a frame, and this is a " + k.name);
        if (isPosition && (v.frame != nullptr) == v.atoms.empty())
            throw std::invalid_argument(where +
                                        (v.frame ? ": a frame was given, but not whose position it is for" : ": a position of atoms needs a frame that is superposed first") +
                                        "; give both, or neither where the variable is only a name");
        if (isPosition && v.period != 0)
            throw std::invalid_argument(where + ": a position has no period, got " + text(v.period));
        if (v.frame) {
            const auto known = std::find_if(frames.begin(), frames.end(), [&](const auto& f) { return f == v.frame || *f == *v.frame; });
            if (known == frames.end()) {
                checkFrame(*v.frame, where + ", frame");
                frames.push_back(v.frame);
            }
            else
                v.frame = *known;
        }
        if (v.axis < 0 || v.axis > 2)
            throw std::invalid_argument(where + ": expected axis 0, 1 or 2, got " + std::to_string(v.axis));
        if (!(v.period >= 0) || !std::isfinite(v.period))
            throw std::invalid_argument(where + ": expected a period of 0 (none) or more, got " + text(v.period));
        if (v.kind == Variable::Kind::Torsion && v.period > 0 && std::abs(v.period - TwoPi) > 1e-9)
            throw std::invalid_argument(where + ": a torsion has the period 2 pi, got " + text(v.period));
        if (!(v.scale > 0) || !std::isfinite(v.scale) || !std::isfinite(v.shift))
            throw std::invalid_argument(where + ": expected a finite shift and a positive scale, got " + text(v.shift) + " and " + text(v.scale));
        lifted += v.lifted();
    }
    int offset = hasQuadratic() ? 1 : 0;
    for (const Variable& v : list) {
        offsets.push_back(offset);
        offset += v.lifted() ? 2 : 1;
    }
}

std::vector<std::string> Variables::names() const {
    std::vector<std::string> result;
    for (const Variable& v : list)
        result.push_back(v.name);
    return result;
}

MatrixXd Variables::statistic(const Eigen::Ref<const MatrixXd>& raw) const {
    if (raw.rows() != size())
        throw std::invalid_argument("Variables: expected " + std::to_string(size()) + " values a sample, got " + std::to_string(raw.rows()));
    if (!raw.allFinite()) {
        for (Eigen::Index k = 0; k < raw.cols(); k++)
            if (!raw.col(k).allFinite())
                throw std::invalid_argument("Variables: sample " + std::to_string(k) + " holds a value that is not finite");
    }
    MatrixXd T = MatrixXd::Zero(numStatistics(), raw.cols());
    for (int i = 0; i < size(); i++) {
        const Variable& v = list[i];
        if (v.lifted()) {
            T.row(offsets[i]) = (raw.row(i).array() * (TwoPi / v.period)).cos();
            T.row(offsets[i] + 1) = (raw.row(i).array() * (TwoPi / v.period)).sin();
        }
        else {
            T.row(offsets[i]) = (raw.row(i).array() - v.shift) / v.scale;
            T.row(0).array() += T.row(offsets[i]).array().square();
        }
    }
    return T;
}

VectorXd Variables::naturalParameter(const Eigen::Ref<const VectorXd>& raw, double logSnr) const {
    if (!std::isfinite(logSnr))
        throw std::invalid_argument("Variables: expected a finite log-SNR, got " + text(logSnr));
    VectorXd eta = std::exp(logSnr) * statistic(raw);
    if (hasQuadratic())
        eta[0] = -0.5 * std::exp(logSnr);
    return eta;
}

VectorXd Variables::position(const Eigen::Ref<const VectorXd>& values, double divisor) const {
    VectorXd raw(size());
    for (int i = 0; i < size(); i++) {
        const Variable& v = list[i];
        const int o = offsets[i];
        raw[i] = v.lifted() ? std::atan2(values[o + 1], values[o]) * v.period / TwoPi : v.shift + v.scale * values[o] / divisor;
    }
    return raw;
}

VectorXd Variables::center(const Eigen::Ref<const VectorXd>& eta) const { return position(eta, -2 * eta[0]); }
VectorXd Variables::meanPosition(const Eigen::Ref<const VectorXd>& mu) const { return position(mu, 1.0); }

Variables Variables::euclidean() const {
    std::vector<Variable> copy = list;
    for (Variable& v : copy)
        v.period = 0;
    return Variables(copy);
}

bool Variables::compatible(const Variables& other) const {
    if (size() != other.size())
        return false;
    for (int i = 0; i < size(); i++) {
        const Variable &a = list[i], &b = other.list[i];
        if (a.name != b.name || a.kind != b.kind || a.axis != b.axis || !same(a.period, b.period) || !same(a.shift, b.shift) || !same(a.scale, b.scale))
            return false;
        if (!a.atoms.empty() && !b.atoms.empty() && !same(a.atoms, b.atoms))
            return false;
        if (a.frame && b.frame && a.frame != b.frame && !same(*a.frame, *b.frame))
            return false;
    }
    return true;
}

json Variables::toJson() const {
    json result = json::array();
    std::vector<const Frame*> frames;
    for (const Variable& v : list) {
        json item = {{"name", v.name}, {"type", info(v.kind).name}, {"unit", v.unit()}, {"shift", v.shift}, {"scale", v.scale}};
        if (!v.atoms.empty())
            writeSites(item, v.atoms, "weights");
        if (v.kind == Variable::Kind::Coordinate || v.kind == Variable::Kind::Position)
            item["axis"] = v.axis;
        if (v.frame) {
            const auto known = std::find(frames.begin(), frames.end(), v.frame.get());
            item["frame"] = known == frames.end() ? writeFrame(*v.frame) : json(known - frames.begin());
            if (known == frames.end())
                frames.push_back(v.frame.get());
        }
        item["period"] = v.period;
        result.push_back(item);
    }
    return result;
}

Variables Variables::fromJson(const json& j) {
    if (!j.is_array())
        throw std::invalid_argument("Variables: expected a JSON list of names or objects");
    std::vector<Variable> items;
    std::vector<std::shared_ptr<const Frame>> frames;
    for (const json& item : j) {
        if (item.is_string()) {
            items.push_back(Variable::number(item.get<std::string>()));
            continue;
        }
        try {
            const std::string name = item.at("name").get<std::string>(), where = "Variables: variable " + std::to_string(items.size()) + " ('" + name + "')";
            Variable v = make(kindFromName(item.at("type").get<std::string>()), name, readSites(item, "weights", where));
            const json frame = item.value("frame", json(nullptr));
            if (frame.is_object()) {
                frames.push_back(readFrame(frame, where + ", frame"));
                v.frame = frames.back();
            }
            else if (!frame.is_null()) {
                if (!frame.is_number_integer() || frame < 0 || frame >= frames.size())
                    throw std::invalid_argument(where + ": expected a frame or the number of one of the " + std::to_string(frames.size()) + " that came before, got " +
                                                frame.dump());
                v.frame = frames[frame.get<size_t>()];
            }
            v.axis = wholeNumber<int>(item.value("axis", json(0)));
            v.period = item.value("period", v.period);
            v.shift = item.value("shift", 0.0);
            v.scale = item.value("scale", 1.0);
            if (item.contains("unit") && item["unit"] != v.unit())
                throw std::invalid_argument("Variables: '" + v.name + "' is given in '" + item["unit"].get<std::string>() + "', expected '" + v.unit() + "'");
            items.push_back(v);
        }
        catch (const json::exception& e) {
            throw std::invalid_argument(std::string("Variables: expected objects with name, type and optionally atoms, weights, axis, frame, period, shift, scale: ") + e.what());
        }
    }
    return Variables(items);
}

Variables Variables::parse(const std::string& text) {
    std::vector<Variable> items;
    for (const std::string& part : split(text, ',')) {
        const size_t colon = part.find(':');
        const std::string kind = colon == std::string::npos ? part : part.substr(colon + 1);
        const std::string name = colon == std::string::npos ? part + std::to_string(items.size() + 1) : part.substr(0, colon);
        items.push_back(make(kindFromName(kind), name, {}));
    }
    return Variables(items);
}

}  // namespace Spacetime
