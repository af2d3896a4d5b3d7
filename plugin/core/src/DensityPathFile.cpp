// SPDX-License-Identifier: MIT
#include "spacetime/DensityPath.h"
#include "spacetime/Files.h"
#include "spacetime/Json.h"
#include <cmath>
#include <stdexcept>

using Eigen::Index;
using Eigen::MatrixXd;
using Eigen::VectorXd;
using nlohmann::json;

namespace Spacetime {

namespace {

const char* const PathFormat = "spacetime-density-path";
const int PathVersion = 1;

}  // namespace

json toJson(const DensityPath& path, const ModelDensity& field) {
    auto number = [](double value) { return std::isfinite(value) ? json(value) : json(nullptr); };
    const MatrixXd raw = field.raw(path.x);
    json nodes = json::array();
    for (Index i = 0; i < raw.cols(); i++)
        nodes.push_back(std::vector<double>(raw.col(i).data(), raw.col(i).data() + raw.rows()));
    return {{"format", PathFormat},
            {"version", PathVersion},
            {"variables", field.variables().toJson()},
            {"log_snr", field.logSnr()},
            {"draws", field.draws()},
            {"tau", path.tau},
            {"sphere", path.sphere},
            {"path", nodes},
            {"log_density", std::vector<double>(path.logDensity.data(), path.logDensity.data() + path.logDensity.size())},
            {"length", number(path.length)},
            {"log_distance", number(path.logDistance)},
            {"residual", number(path.residual)},
            {"residual_error", number(path.residualError)},
            {"spacing", number(path.spacing)},
            {"windings", path.windings},
            {"converged", path.converged},
            {"iterations", path.iterations},
            {"evaluations", path.evaluations},
            {"seconds", path.seconds},
            {"max_speed_error", number(path.maxSpeedError)},
            {"outside", path.outside}};
}

void saveDensityPath(const std::string& file, const DensityPath& path, const ModelDensity& field, bool overwrite) {
    writeFile(file, toJson(path, field).dump(1) + "\n", overwrite);
}

DensityPathFile loadDensityPath(const std::string& file) {
    const std::string content = readFile(file);
    return withPrefix("path file '" + file + "': ", [&] {
        const json j = parseJson(content);
        if (!j.is_object() || j.value("format", json()) != PathFormat)
            throw std::invalid_argument(std::string("expected a JSON object of the format '") + PathFormat + "'");
        if (const json version = j.value("version", json()); !version.is_number_integer() || version > PathVersion)
            throw std::invalid_argument("this program reads up to version " + std::to_string(PathVersion) + ", got " + version.dump() + ": upgrade openmm-spacetime");
        DensityPathFile out;
        out.variables = Variables::fromJson(j.at("variables"));
        out.logSnr = j.at("log_snr").get<double>();
        const auto nodes = j.at("path").get<std::vector<std::vector<double>>>();
        const auto profile = j.at("log_density").get<std::vector<double>>();
        if (nodes.size() < 2 || profile.size() != nodes.size())
            throw std::invalid_argument("expected at least 2 nodes and a log-density for each, got " + std::to_string(nodes.size()) + " and " + std::to_string(profile.size()));
        const Variables& vars = out.variables;
        out.raw.resize(vars.size(), nodes.size());
        out.path.x.resize(vars.size(), nodes.size());
        for (size_t k = 0; k < nodes.size(); k++) {
            if (static_cast<int>(nodes[k].size()) != vars.size())
                throw std::invalid_argument("node " + std::to_string(k) + ": expected " + std::to_string(vars.size()) + " values, got " + std::to_string(nodes[k].size()));
            out.raw.col(k) = VectorXd::Map(nodes[k].data(), nodes[k].size());
        }
        for (int i = 0; i < vars.size(); i++)
            out.path.x.row(i) = vars[i].lifted() ? (2 * M_PI / vars[i].period * out.raw.row(i)).eval() : ((out.raw.row(i).array() - vars[i].shift) / vars[i].scale).matrix().eval();
        auto number = [&](const char* key) { return j.contains(key) && j[key].is_number() ? j[key].get<double>() : std::numeric_limits<double>::quiet_NaN(); };
        DensityPath& p = out.path;
        p.logDensity = VectorXd::Map(profile.data(), profile.size());
        p.tau = j.at("tau").get<double>();
        p.sphere = j.value("sphere", false);
        p.length = number("length");
        p.logDistance = number("log_distance");
        p.residual = number("residual");
        p.residualError = number("residual_error");
        p.spacing = number("spacing");
        p.windings = wholeNumbers<int>(j.value("windings", json(std::vector<int>(vars.size(), 0))));
        p.converged = j.value("converged", false);
        p.iterations = wholeNumber<int>(j.value("iterations", json(0)));
        p.evaluations = wholeNumber<long>(j.value("evaluations", json(0)));
        p.seconds = j.value("seconds", 0.0);
        p.maxSpeedError = number("max_speed_error");
        p.outside = j.value("outside", "");
        if (!out.raw.allFinite() || !p.logDensity.allFinite() || !(p.tau > 0) || static_cast<int>(p.windings.size()) != vars.size())
            throw std::invalid_argument("expected finite nodes and log-densities, a positive tau and a winding for each variable");
        return out;
    });
}

}  // namespace Spacetime
