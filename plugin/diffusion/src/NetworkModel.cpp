// SPDX-License-Identifier: MIT
#include "spacetime/NetworkModel.h"
#include "Features.h"
#include "Prior.h"
#include "spacetime/Safetensors.h"
#include "spacetime/Text.h"
#include <algorithm>
#include <cmath>
#include <iterator>
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
/// Points that go through the network together: their tangents should stay in the cache.
const Eigen::Index Block = 64;

json toJson(const VectorXd& v) { return std::vector<double>(v.data(), v.data() + v.size()); }

VectorXd vectorFrom(const json& j) {
    const std::vector<double> values = j.get<std::vector<double>>();
    return Eigen::Map<const VectorXd>(values.data(), static_cast<Eigen::Index>(values.size()));
}

/// tanh through exp, which Eigen vectorises; absolute accuracy 1e-16, which is what sums of units need.
MatrixXd activation(const MatrixXd& a) { return 1 - 2 / ((2 * a.array()).exp() + 1); }

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
}

NetworkModel::~NetworkModel() = default;

Moments NetworkModel::compute(const MatrixXd& eta, Order order, const MatrixXd* direction) const {
    const Eigen::Index n = eta.cols();
    const bool covariance = order >= Order::Covariance;
    Moments out;
    out.mu.resize(eta.rows(), n);
    out.psi.resize(n);
    for (Eigen::Index start = 0; start < n; start += Block) {
        const Eigen::Index count = std::min(Block, n - start);
        Moments part = computeBlock(eta.middleCols(start, count), covariance);
        out.mu.middleCols(start, count) = part.mu;
        out.psi.segment(start, count) = part.psi;
        std::move(part.J.begin(), part.J.end(), std::back_inserter(out.J));
    }
    if (order == Order::Third)
        thirdByDifference(eta, *direction, out);
    return out;
}

Moments NetworkModel::computeBlock(const Eigen::Ref<const MatrixXd>& eta, bool covariance) const {
    const Eigen::Index n = eta.cols(), m = eta.rows();
    const int hidden = static_cast<int>(p.layers.size()) - 1, nf = features->size();
    const Features::Values x = features->evaluate(eta);

    // Forward: activations h and their slopes 1 - h^2.
    std::vector<MatrixXd> h(hidden), slope(hidden), back(hidden);
    for (int l = 0; l < hidden; l++) {
        MatrixXd a = p.layers[l].weight * (l == 0 ? x.f : h[l - 1]);
        a.colwise() += p.layers[l].bias;
        h[l] = activation(a);
        slope[l] = 1 - h[l].array().square();
    }
    // Reverse: back[l] = dN/dh_l, then the gradient by the features.
    const auto& last = p.layers.back();
    MatrixXd g = last.weight.transpose().replicate(1, n);
    for (int l = hidden - 1; l >= 0; l--) {
        back[l] = g;
        g = p.layers[l].weight.transpose() * (back[l].array() * slope[l].array()).matrix();
    }

    Moments out;
    out.psi = ((last.weight * h.back()).array() + last.bias[0]).matrix().transpose();
    out.mu.resize(m, n);
    if (covariance)
        out.J.resize(n);
    for (Eigen::Index c = 0; c < n; c++) {
        Prior::Moments base = prior->moments(eta.col(c), covariance);
        out.psi[c] += base.psi;
        for (int k = 0; k < nf; k++) {
            const int i = features->first[k], j = features->second[k];
            base.mu[i] += g(k, c) * x.d1(k, c);
            base.mu[j] += g(k, c) * x.d2(k, c);
            if (covariance) {
                base.H(i, i) += g(k, c) * x.d11(k, c);
                base.H(j, j) += g(k, c) * x.d22(k, c);
                base.H(i, j) += g(k, c) * x.d12(k, c);
                base.H(j, i) += g(k, c) * x.d12(k, c);
            }
        }
        out.mu.col(c) = base.mu;
        if (covariance)
            out.J[c] = std::move(base.H);
    }

    if (covariance) {
        // Only tanh bends: Hess N = sum over units of dN/dh tanh''(a) (da/deta)(da/deta)^T, plus the features' own curvature
        // above. Tangents of all points and directions go through each layer as one product; column c m + i is direction i.
        MatrixXd tangent = MatrixXd::Zero(nf, n * m);
        for (Eigen::Index c = 0; c < n; c++)
            for (int k = 0; k < nf; k++) {
                tangent(k, c * m + features->first[k]) += x.d1(k, c);
                tangent(k, c * m + features->second[k]) += x.d2(k, c);
            }
        MatrixXd weighted;
        for (int l = 0; l < hidden; l++) {
            const MatrixXd da = p.layers[l].weight * tangent;
            for (Eigen::Index c = 0; c < n; c++) {
                const auto block = da.middleCols(c * m, m);
                const VectorXd bend = -2 * h[l].col(c).array() * slope[l].col(c).array() * back[l].col(c).array();
                weighted.noalias() = bend.asDiagonal() * block;
                out.J[c].noalias() += block.transpose() * weighted;
            }
            if (l + 1 < hidden) {
                tangent.resize(da.rows(), da.cols());
                for (Eigen::Index c = 0; c < n; c++)
                    tangent.middleCols(c * m, m) = da.middleCols(c * m, m).array().colwise() * slope[l].col(c).array();
            }
        }
        for (MatrixXd& J : out.J)
            J = (0.5 * (J + J.transpose())).eval();  // symmetric to the last digit
    }
    return out;
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
