// SPDX-License-Identifier: MIT
#include "spacetime/NetworkModel.h"
#include "ModelFile.h"
#include "spacetime/Json.h"
#include "spacetime/Safetensors.h"
#include <algorithm>
#include <cmath>

using Eigen::MatrixXd;
using Eigen::VectorXd;
using nlohmann::json;

namespace Spacetime {

namespace {

json toJson(const VectorXd& v) { return std::vector<double>(v.data(), v.data() + v.size()); }

VectorXd vectorFrom(const json& j) {
    const std::vector<double> values = j.get<std::vector<double>>();
    return Eigen::Map<const VectorXd>(values.data(), static_cast<Eigen::Index>(values.size()));
}

}  // namespace

NetworkModel::NetworkModel(NetworkParameters parameters) : MixtureModel(parameters.variables, parameters.components), p(std::move(parameters)) {
    if (vars.size() == 0)
        throw std::invalid_argument("NetworkModel: expected at least one variable");
    if (!(p.minLogSnr < p.maxLogSnr) || !std::isfinite(p.minLogSnr) || !std::isfinite(p.maxLogSnr))
        throw std::invalid_argument("NetworkModel: expected a log-SNR range, got " + text(p.minLogSnr) + " to " + text(p.maxLogSnr));
    if (static_cast<int>(p.occupied.size()) != vars.numLifted())
        throw std::invalid_argument("NetworkModel: expected the occupancy of " + std::to_string(vars.numLifted()) + " lifted variables, got " + std::to_string(p.occupied.size()));
    for (const auto& arcs : p.occupied)
        if (static_cast<int>(arcs.size()) != NetworkParameters::Arcs)
            throw std::invalid_argument("NetworkModel: expected the occupancy of " + std::to_string(NetworkParameters::Arcs) + " arcs, got " + std::to_string(arcs.size()));
    if (p.low.size() != vars.numUnlifted() || p.high.size() != vars.numUnlifted() || !(p.low.array() < p.high.array()).all())
        throw std::invalid_argument("NetworkModel: expected a range of positive width for each of " + std::to_string(vars.numUnlifted()) + " unlifted variables");
}

void NetworkModel::checkRange(const VectorXd& eta, const std::string& what) const {
    if (eta.size() != numStatistics() || !eta.allFinite())
        throw std::invalid_argument("NetworkModel: expected " + what + " as " + std::to_string(numStatistics()) + " finite numbers");
    const VectorXd center = vars.center(eta);
    auto refuse = [&](const std::string& why) { throw std::invalid_argument("NetworkModel: " + what + " lies outside what the model was trained on: " + why); };
    if (vars.hasQuadratic()) {
        const double l = eta[0] < 0 ? std::log(-2 * eta[0]) : -std::numeric_limits<double>::infinity();
        if (!(l >= p.minLogSnr - LogSnrTolerance && l <= p.maxLogSnr + LogSnrTolerance))
            refuse("log-SNR " + text(l) + ", expected " + text(p.minLogSnr) + " to " + text(p.maxLogSnr));
    }
    for (int i = 0, lifted = 0, u = 0; i < vars.size(); i++) {
        const Variable& v = vars[i];
        const int o = vars.offset(i);
        if (v.lifted()) {
            const double kappa = std::hypot(eta[o], eta[o + 1]);
            if (!(kappa <= std::exp(p.maxLogSnr + LogSnrTolerance)))
                refuse("'" + v.name + "' has kappa " + text(kappa) + ", expected at most " + text(std::exp(p.maxLogSnr)));
            // An arc counts where it or a neighbour holds data; a weak tilt (kappa below the range) says nothing about a place.
            const double turn = center[i] / v.period - std::floor(center[i] / v.period);
            const int arcs = NetworkParameters::Arcs, arc = std::min(static_cast<int>(turn * arcs), arcs - 1);
            const auto& occupied = p.occupied[lifted++];
            if (kappa >= std::exp(p.minLogSnr) && !occupied[arc] && !occupied[(arc + 1) % arcs] && !occupied[(arc + arcs - 1) % arcs])
                refuse("no data near '" + v.name + "' = " + text(center[i]));
        }
        else {
            const double low = v.shift + v.scale * p.low[u], high = v.shift + v.scale * p.high[u], margin = RangeMargin * (high - low);
            u++;
            if (!(center[i] >= low - margin && center[i] <= high + margin))
                refuse("'" + v.name + "' = " + text(center[i]) + ", the data span " + text(low) + " to " + text(high));
        }
    }
}

json NetworkModel::metadata() const {
    json ranges = json::array();
    for (int i = 0, lifted = 0, u = 0; i < vars.size(); i++) {
        const Variable& v = vars[i];
        if (v.lifted())
            ranges.push_back({{"name", v.name}, {"occupied_arcs", p.occupied[lifted++]}});
        else {
            ranges.push_back({{"name", v.name}, {"min", v.shift + v.scale * p.low[u]}, {"max", v.shift + v.scale * p.high[u]}});
            u++;
        }
    }
    return {{"format", ModelFormat},
            {"version", ModelVersion},
            {"variables", vars.toJson()},
            {"schedule", "vp"},
            {"prediction", "x0"},
            {"log_snr_range", {p.minLogSnr, p.maxLogSnr}},
            {"temperature_K", p.temperature > 0 ? json(p.temperature) : json()},
            {"data", {{"low", toJson(p.low)}, {"high", toJson(p.high)}, {"ranges", ranges}}},
            {"network", {{"type", "mixture"}, {"components", p.components.logWeights.size()}}},
            {"training", parseJson(p.training)}};
}

void NetworkModel::save(const std::string& path) const {
    Safetensors file;
    file.metadata = {{"format", ModelFormat}, {"version", std::to_string(ModelVersion)}, {"model", metadata().dump()}};
    auto add = [&](const std::string& name, const MatrixXd& a, std::vector<std::int64_t> shape) {
        Safetensors::Tensor t;
        t.shape = std::move(shape);
        for (Eigen::Index i = 0; i < a.rows(); i++)
            for (Eigen::Index j = 0; j < a.cols(); j++)
                t.values.push_back(a(i, j));
        file.tensors[name] = std::move(t);
    };
    const MixtureModel::Components& c = p.components;
    const Eigen::Index K = c.logWeights.size();
    add("log_weights", c.logWeights, {K});
    add("tilt", c.tilt.transpose(), {K, c.tilt.rows()});
    add("mean", c.mean.transpose(), {K, c.mean.rows()});
    add("precision", c.precision.transpose(), {K, c.precision.rows()});
    file.write(path);
}

std::unique_ptr<NetworkModel> NetworkModel::load(const std::string& path) {
    const Safetensors file = Safetensors::read(path);
    return withPrefix("NetworkModel: '" + path + "' cannot be read: ", [&] {
        auto entry = [&](const char* key) {
            const auto found = file.metadata.find(key);
            return found == file.metadata.end() ? std::string() : found->second;
        };
        if (entry("format") != ModelFormat)
            throw std::invalid_argument("not a model file: expected the metadata format '" + std::string(ModelFormat) + "', got '" + entry("format") + "'");
        if (parseNumber(entry("version"), "metadata version") > ModelVersion)
            throw std::invalid_argument("it has format version " + entry("version") + ", this program reads up to " + std::to_string(ModelVersion) +
                                        ": upgrade openmm-spacetime (pip install --upgrade openmm-spacetime)");
        const json meta = parseJson(entry("model"));
        const json& network = meta.at("network");
        if (network.at("type") == "unet")
            throw std::invalid_argument("it holds a denoiser of pictures: ImageModel, or loadModel, opens it");
        const json& data = meta.at("data");
        if (network.at("type") != "mixture" || meta.at("prediction") != "x0")
            throw std::invalid_argument("it holds a network of type '" + network.at("type").get<std::string>() + "', expected 'mixture' with prediction x0");
        NetworkParameters p;
        p.variables = Variables::fromJson(meta.at("variables"));
        p.minLogSnr = meta.at("log_snr_range").at(0).get<double>();
        p.maxLogSnr = meta.at("log_snr_range").at(1).get<double>();
        p.low = vectorFrom(data.at("low"));
        p.high = vectorFrom(data.at("high"));
        for (const json& range : data.at("ranges"))
            if (range.contains("occupied_arcs"))
                p.occupied.push_back(range["occupied_arcs"].get<std::vector<bool>>());
        p.temperature = meta.at("temperature_K").is_null() ? 0 : meta["temperature_K"].get<double>();
        p.training = meta.at("training").dump();
        const auto K = wholeNumber<Eigen::Index>(network.at("components"));
        auto tensor = [&](const std::string& name, Eigen::Index rows) {
            const auto found = file.tensors.find(name);
            const std::vector<std::int64_t> shape = name == "log_weights" ? std::vector<std::int64_t>{K} : std::vector<std::int64_t>{K, rows};
            if (found == file.tensors.end() || found->second.shape != shape)
                throw std::invalid_argument("it lacks the tensor '" + name + "' with " + std::to_string(rows) + " numbers for each of " + std::to_string(K) + " components");
            // Row-major [K x rows] is column-major [rows x K].
            return MatrixXd(Eigen::Map<const MatrixXd>(found->second.values.data(), rows, K));
        };
        const int lifted = p.variables.numLifted(), unlifted = p.variables.numUnlifted();
        p.components = {tensor("log_weights", 1).transpose(), tensor("tilt", 2 * lifted), tensor("mean", unlifted), tensor("precision", unlifted)};
        return std::make_unique<NetworkModel>(std::move(p));
    });
}

}  // namespace Spacetime
