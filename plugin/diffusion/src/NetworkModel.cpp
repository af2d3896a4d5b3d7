// SPDX-License-Identifier: MIT
#include "spacetime/NetworkModel.h"
#include "Features.h"
#include "Potential.h"
#include "Prior.h"
#include "spacetime/Safetensors.h"
#include "spacetime/Text.h"
#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

using Eigen::MatrixXd;
using Eigen::VectorXd;
using nlohmann::json;

namespace Spacetime {

namespace {

const char* const Format = "spacetime-model";
const int Version = 1;
/// Ends of a curve are asked for at the very edge of the range: rounding must not refuse them.
const double LogSnrTolerance = 1e-6;
/// Unlifted centres may leave the range of the data by this share of its width (training goes as far).
const double RangeMargin = 0.1;
/// Points that go through the network together, and what their number times the directions should come to: tangents stay in the cache.
const Eigen::Index Block = 64, BlockTangents = 128;

json toJson(const VectorXd& v) { return std::vector<double>(v.data(), v.data() + v.size()); }

VectorXd vectorFrom(const json& j) {
    const std::vector<double> values = j.get<std::vector<double>>();
    return Eigen::Map<const VectorXd>(values.data(), static_cast<Eigen::Index>(values.size()));
}

}  // namespace

NetworkModel::NetworkModel(NetworkParameters parameters) : PosteriorModel(parameters.variables), p(std::move(parameters)) {
    if (vars.size() == 0)
        throw std::invalid_argument("NetworkModel: expected at least one variable");
    if (!(p.minLogSnr < p.maxLogSnr) || !std::isfinite(p.minLogSnr) || !std::isfinite(p.maxLogSnr))
        throw std::invalid_argument("NetworkModel: expected a log-SNR range, got " + text(p.minLogSnr) + " to " + text(p.maxLogSnr));
    if (static_cast<int>(p.occupied.size()) != vars.numLifted())
        throw std::invalid_argument("NetworkModel: expected the occupancy of " + std::to_string(vars.numLifted()) + " lifted variables, got " +
                                    std::to_string(p.occupied.size()));
    for (const auto& arcs : p.occupied)
        if (static_cast<int>(arcs.size()) != NetworkParameters::Arcs)
            throw std::invalid_argument("NetworkModel: expected the occupancy of " + std::to_string(NetworkParameters::Arcs) + " arcs, got " +
                                        std::to_string(arcs.size()));
    prior = std::make_unique<Prior>(vars, p.mean, p.variance);
    features = std::make_unique<Features>(vars, p.harmonics, p.mean, p.variance, p.low, p.high);
    if (p.layers.size() < 2)
        throw std::invalid_argument("NetworkModel: expected at least one hidden layer");
    Eigen::Index in = features->size();
    for (size_t i = 0; i < p.layers.size(); i++) {
        const auto& layer = p.layers[i];
        const Eigen::Index out = i + 1 == p.layers.size() ? 1 : layer.weight.rows();
        if (layer.weight.cols() != in || layer.weight.rows() != out || out == 0 || layer.bias.size() != out)
            throw std::invalid_argument("NetworkModel: expected layer " + std::to_string(i) + " to map " + std::to_string(in) + " numbers" +
                                        (out == 1 ? " to one" : "") + ", got a weight of " + std::to_string(layer.weight.rows()) + " x " +
                                        std::to_string(layer.weight.cols()) + " and a bias of " + std::to_string(layer.bias.size()));
        if (!layer.weight.allFinite() || !layer.bias.allFinite())
            throw std::invalid_argument("NetworkModel: layer " + std::to_string(i) + " holds a weight that is not finite");
        in = out;
    }
    potential = std::make_unique<Potential>(p.layers, *features, numStatistics());
}

NetworkModel::~NetworkModel() = default;

Moments NetworkModel::compute(const MatrixXd& eta, Order order, const MatrixXd* direction) const {
    const Eigen::Index n = eta.cols(), m = eta.rows();
    Moments out;
    out.mu.resize(m, n);
    out.psi.resize(n);
    if (order >= Order::Covariance)
        out.J.resize(n);
    if (order == Order::Third)
        out.third.resize(n);
    const Eigen::Index block = order == Order::Mean ? Block : std::clamp<Eigen::Index>(BlockTangents / m, 2, Block);
    for (Eigen::Index start = 0; start < n; start += block) {
        const Eigen::Index count = std::min(block, n - start);
        if (order == Order::Third) {
            const MatrixXd along = direction->middleCols(start, count);
            computeBlock(eta.middleCols(start, count), &along, start, out);
        }
        else
            computeBlock(eta.middleCols(start, count), nullptr, start, out);
    }
    return out;
}

void NetworkModel::computeBlock(const MatrixXd& eta, const MatrixXd* direction, Eigen::Index start, Moments& out) const {
    MatrixXd *J = out.J.empty() ? nullptr : &out.J[start], *third = out.third.empty() ? nullptr : &out.third[start];
    const Features::Values x = features->evaluate(eta, direction);
    for (Eigen::Index c = 0; c < eta.cols(); c++) {
        Prior::Moments base = prior->moments(eta.col(c), J != nullptr, direction == nullptr ? nullptr : &(*direction)(0, c));
        out.psi[start + c] = base.psi;
        out.mu.col(start + c) = base.mu;
        if (J != nullptr)
            J[c] = std::move(base.H);
        if (third != nullptr)
            third[c] = std::move(base.third);
    }
    const Potential::Values N = potential->evaluate(x, J, direction, third);
    out.psi.segment(start, eta.cols()) += N.N;
    for (Eigen::Index c = 0; c < eta.cols(); c++)
        for (int k = 0; k < features->size(); k++) {
            const int i = features->first[k], j = features->second[k];
            const double g = N.gradient(k, c);
            out.mu(i, start + c) += g * x.d1(k, c);
            out.mu(j, start + c) += g * x.d2(k, c);
            // The features' own curvature.
            auto add = [i, j](MatrixXd& H, double d11, double d12, double d22) {
                H(i, i) += d11;
                H(j, j) += d22;
                H(i, j) += d12;
                H(j, i) += d12;
            };
            if (J != nullptr)
                add(J[c], g * x.d11(k, c), g * x.d12(k, c), g * x.d22(k, c));
            if (third != nullptr) {
                const double along = N.gradientAlong(k, c);
                add(third[c], along * x.d11(k, c) + g * x.d11Along(k, c), along * x.d12(k, c) + g * x.d12Along(k, c),
                    along * x.d22(k, c) + g * x.d22Along(k, c));
            }
        }
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
    return {{"format", Format},
            {"version", Version},
            {"variables", vars.toJson()},
            {"schedule", "vp"},
            {"prediction", "x0"},
            {"log_snr_range", {p.minLogSnr, p.maxLogSnr}},
            {"temperature_K", p.temperature > 0 ? json(p.temperature) : json()},
            {"data", {{"mean", toJson(p.mean)}, {"variance", p.variance}, {"low", toJson(p.low)}, {"high", toJson(p.high)}, {"ranges", ranges}}},
            {"network",
             {{"type", "potential"},
              {"activation", "tanh"},
              {"harmonics", p.harmonics},
              {"layers", p.layers.size() - 1},
              {"width", p.layers.front().weight.rows()},
              {"inputs", features->size()}}},
            {"training", json::parse(p.training)}};
}

void NetworkModel::save(const std::string& path) const {
    Safetensors file;
    file.metadata = {{"format", Format}, {"version", std::to_string(Version)}, {"model", metadata().dump()}};
    auto add = [&](const std::string& name, const MatrixXd& a, std::vector<std::int64_t> shape) {
        Safetensors::Tensor t;
        t.shape = std::move(shape);
        for (Eigen::Index i = 0; i < a.rows(); i++)
            for (Eigen::Index j = 0; j < a.cols(); j++)
                t.values.push_back(a(i, j));
        file.tensors[name] = std::move(t);
    };
    for (size_t i = 0; i < p.layers.size(); i++) {
        const auto& layer = p.layers[i];
        add("layers." + std::to_string(i) + ".weight", layer.weight, {layer.weight.rows(), layer.weight.cols()});
        add("layers." + std::to_string(i) + ".bias", layer.bias, {layer.bias.size()});
    }
    file.write(path);
}

std::unique_ptr<NetworkModel> NetworkModel::load(const std::string& path) {
    const Safetensors file = Safetensors::read(path);
    const std::string where = "NetworkModel: '" + path + "' ";
    auto entry = [&](const char* key) {
        const auto found = file.metadata.find(key);
        return found == file.metadata.end() ? std::string() : found->second;
    };
    if (entry("format") != Format)
        throw std::invalid_argument(where + "is not a model file: expected the metadata format '" + Format + "', got '" + entry("format") + "'");
    const double version = parseNumber(entry("version"), where + "metadata version");
    if (version > Version)
        throw std::invalid_argument(where + "has format version " + entry("version") + ", this program reads up to " + std::to_string(Version) +
                                    ": upgrade openmm-spacetime (pip install --upgrade openmm-spacetime)");
    try {
        const json meta = json::parse(entry("model"));
        const json& network = meta.at("network");
        const json& data = meta.at("data");
        if (network.at("type") != "potential" || network.at("activation") != "tanh" || meta.at("prediction") != "x0")
            throw std::invalid_argument(where + "holds a network of type '" + network.at("type").get<std::string>() +
                                        "', expected 'potential' with activation tanh and prediction x0");
        NetworkParameters p;
        p.variables = Variables::fromJson(meta.at("variables"));
        p.harmonics = network.at("harmonics").get<int>();
        p.minLogSnr = meta.at("log_snr_range").at(0).get<double>();
        p.maxLogSnr = meta.at("log_snr_range").at(1).get<double>();
        p.mean = vectorFrom(data.at("mean"));
        p.variance = data.at("variance").get<double>();
        p.low = vectorFrom(data.at("low"));
        p.high = vectorFrom(data.at("high"));
        for (const json& range : data.at("ranges"))
            if (range.contains("occupied_arcs"))
                p.occupied.push_back(range["occupied_arcs"].get<std::vector<bool>>());
        p.temperature = meta.at("temperature_K").is_null() ? 0 : meta["temperature_K"].get<double>();
        p.training = meta.at("training").dump();
        const int layers = network.at("layers").get<int>();
        if (layers < 1 || file.tensors.size() != 2 * (static_cast<size_t>(layers) + 1))
            throw std::invalid_argument(where + "holds " + std::to_string(file.tensors.size()) + " tensors, expected a weight and a bias for each of " +
                                        std::to_string(layers) + " layers and the output");
        for (int i = 0; i <= layers; i++) {
            const std::string name = "layers." + std::to_string(i);
            const auto weight = file.tensors.find(name + ".weight"), bias = file.tensors.find(name + ".bias");
            if (weight == file.tensors.end() || bias == file.tensors.end() || weight->second.shape.size() != 2 || bias->second.shape.size() != 1)
                throw std::invalid_argument(where + "lacks " + name + ".weight [out, in] or " + name + ".bias [out]");
            using RowMajor = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
            const auto& shape = weight->second.shape;
            NetworkParameters::Layer layer;
            layer.weight = Eigen::Map<const RowMajor>(weight->second.values.data(), shape[0], shape[1]);
            layer.bias = Eigen::Map<const VectorXd>(bias->second.values.data(), bias->second.shape[0]);
            p.layers.push_back(std::move(layer));
        }
        return std::make_unique<NetworkModel>(std::move(p));
    }
    catch (const json::exception& e) {
        throw std::invalid_argument(where + "has metadata that cannot be read: " + e.what());
    }
    catch (const std::invalid_argument& e) {
        if (std::string(e.what()).find(path) != std::string::npos)
            throw;
        throw std::invalid_argument(where + "is damaged: " + e.what());
    }
}

}  // namespace Spacetime
