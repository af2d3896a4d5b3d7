// SPDX-License-Identifier: MIT
#include "spacetime/Variables.h"
#include "spacetime/Text.h"
#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
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
const KindInfo kinds[] = {{Variable::Kind::Torsion, "torsion", 4, "rad"},
                          {Variable::Kind::Angle, "angle", 3, "rad"},
                          {Variable::Kind::Distance, "distance", 2, "nm"},
                          {Variable::Kind::Coordinate, "coordinate", 1, "nm"},
                          {Variable::Kind::Number, "number", 0, ""}};

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
    throw std::invalid_argument("Variables: expected one of torsion, angle, distance, coordinate, number; got '" + name + "'");
}

Variable make(Variable::Kind kind, const std::string& name, std::vector<int> atoms) {
    Variable v;
    v.name = name;
    v.kind = kind;
    v.atoms = std::move(atoms);
    if (kind == Variable::Kind::Torsion)
        v.period = TwoPi;
    return v;
}

}  // namespace

std::string Variable::unit() const { return info(kind).unit; }
std::string Variable::kindName() const { return info(kind).name; }
Variable Variable::torsion(const std::string& name, std::vector<int> atoms) { return make(Kind::Torsion, name, std::move(atoms)); }
Variable Variable::angle(const std::string& name, std::vector<int> atoms) { return make(Kind::Angle, name, std::move(atoms)); }
Variable Variable::distance(const std::string& name, std::vector<int> atoms) { return make(Kind::Distance, name, std::move(atoms)); }
Variable Variable::number(const std::string& name) { return make(Kind::Number, name, {}); }
Variable Variable::coordinate(const std::string& name, int atom, int axis, double period) {
    Variable v = make(Kind::Coordinate, name, {atom});
    v.axis = axis;
    v.period = period;
    return v;
}

Variables::Variables(std::vector<Variable> items) : list(std::move(items)) {
    if (list.empty())
        throw std::invalid_argument("Variables: expected at least one variable, got none");
    std::set<std::string> seen;
    for (size_t i = 0; i < list.size(); i++) {
        const Variable& v = list[i];
        const std::string where = "Variables: variable " + std::to_string(i) + " ('" + v.name + "')";
        if (v.name.empty())
            throw std::invalid_argument(where + " has no name");
        if (!seen.insert(v.name).second)
            throw std::invalid_argument(where + " repeats a name: every variable needs its own");
        const KindInfo& k = info(v.kind);
        if (!v.atoms.empty() && static_cast<int>(v.atoms.size()) != k.numAtoms)
            throw std::invalid_argument(where + ": a " + k.name + " is made of " + std::to_string(k.numAtoms) + " atoms, got " +
                                        std::to_string(v.atoms.size()));
        std::set<int> atoms(v.atoms.begin(), v.atoms.end());
        if (atoms.size() != v.atoms.size())
            throw std::invalid_argument(where + " names the same atom twice");
        if (!atoms.empty() && *atoms.begin() < 0)
            throw std::invalid_argument(where + ": expected atom indices from 0, got " + std::to_string(*atoms.begin()));
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
    auto same = [](double a, double b) { return std::abs(a - b) <= 1e-9 * (std::abs(a) + std::abs(b)); };
    for (int i = 0; i < size(); i++) {
        const Variable &a = list[i], &b = other.list[i];
        if (a.name != b.name || a.kind != b.kind || a.axis != b.axis || !same(a.period, b.period) || !same(a.shift, b.shift) || !same(a.scale, b.scale))
            return false;
        if (!a.atoms.empty() && !b.atoms.empty() && a.atoms != b.atoms)
            return false;
    }
    return true;
}

json Variables::toJson() const {
    json result = json::array();
    for (const Variable& v : list) {
        json item = {{"name", v.name}, {"type", info(v.kind).name}, {"unit", v.unit()}, {"shift", v.shift}, {"scale", v.scale}};
        if (!v.atoms.empty())
            item["atoms"] = v.atoms;
        if (v.kind == Variable::Kind::Coordinate)
            item["axis"] = v.axis;
        item["period"] = v.period;
        result.push_back(item);
    }
    return result;
}

Variables Variables::fromJson(const json& j) {
    if (!j.is_array())
        throw std::invalid_argument("Variables: expected a JSON list of names or objects");
    std::vector<Variable> items;
    for (const json& item : j) {
        if (item.is_string()) {
            items.push_back(Variable::number(item.get<std::string>()));
            continue;
        }
        try {
            Variable v = make(kindFromName(item.at("type").get<std::string>()), item.at("name").get<std::string>(), item.value("atoms", std::vector<int>()));
            v.axis = item.value("axis", 0);
            v.period = item.value("period", v.period);
            v.shift = item.value("shift", 0.0);
            v.scale = item.value("scale", 1.0);
            if (item.contains("unit") && item["unit"] != v.unit())
                throw std::invalid_argument("Variables: '" + v.name + "' is given in '" + item["unit"].get<std::string>() + "', expected '" + v.unit() + "'");
            items.push_back(v);
        }
        catch (const json::exception& e) {
            throw std::invalid_argument(std::string("Variables: expected objects with name, type and optionally atoms, axis, period, shift, scale: ") + e.what());
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
