// SPDX-License-Identifier: MIT
#include "spacetime/ImageModel.h"
#include "ImageModelFile.h"
#include "ModelFile.h"
#include "TorchLibrary.h"
#include "UnetLayout.h"
#include "spacetime/Json.h"
#include "spacetime/NetworkModel.h"
#include <algorithm>
#include <cmath>
#include <stdexcept>

using Eigen::Index;
using Eigen::MatrixXd;
using Eigen::VectorXd;
using nlohmann::json;

namespace Spacetime {

namespace {

const char* const NetworkType = "unet";
/// Bytes of activations at the same time.
const double ActivationMemory = 1e9;

std::string quoted(const std::string& path) { return "ImageModel: '" + path + "'"; }

std::string shapeText(const std::vector<std::int64_t>& shape) {
    std::string s = "[";
    for (size_t i = 0; i < shape.size(); i++)
        s += (i ? ", " : "") + std::to_string(shape[i]);
    return s + "]";
}

/// The metadata's description of the model.
json describe(const Safetensors& file, const std::string& where) {
    auto entry = [&](const char* key) {
        const auto found = file.metadata.find(key);
        return found == file.metadata.end() ? std::string() : found->second;
    };
    if (entry("format") != ModelFormat)
        throw std::invalid_argument(where + " is not a model file: expected the metadata format '" + ModelFormat + "', got '" + printable(entry("format")) + "'");
    return withPrefix(where + " has metadata that cannot be read: ", [&] { return parseJson(entry("model")); });
}

/// "mixture", "unet", or "" where a file does not say.
std::string networkType(const json& model) {
    const json network = model.is_object() ? model.value("network", json()) : json();
    const json type = network.is_object() ? network.value("type", json()) : json();
    return type.is_string() ? type.get<std::string>() : "";
}

}  // namespace

Variables imageVariables(const ImageShape& image) {
    std::vector<Variable> list;
    list.reserve(image.size());
    for (int r = 0; r < image.height; r++)
        for (int c = 0; c < image.width; c++)
            for (int k = 0; k < image.channels; k++) {
                Variable v = Variable::number("r" + std::to_string(r) + "c" + std::to_string(c) + "." + std::to_string(k));
                v.shift = v.scale = 0.5;
                list.push_back(std::move(v));
            }
    return Variables(std::move(list));
}

UnetShape UnetShape::forPictures(const ImageShape& image) {
    UnetShape u;
    const int side = std::min(image.height, image.width);
    if (side <= 16) {
        u.patch = 1;
        u.channels = 24;
        u.multipliers = {1, 2};
    }
    // A level, or the patch, is given up where the sides cannot be halved so often.
    auto divides = [&] { return image.height % (u.patch << (u.multipliers.size() - 1)) == 0 && image.width % (u.patch << (u.multipliers.size() - 1)) == 0; };
    while (!divides() && u.multipliers.size() > 1)
        u.multipliers.pop_back();
    if (!divides())
        u.patch = 1;
    return u;
}

SpacetimeUnetShape checkedShape(const ImageShape& image, const UnetShape& unet, const std::string& where) {
    auto within = [&](int value, int low, int high, const std::string& what) {
        if (value < low || value > high)
            throw std::invalid_argument(where + ": expected " + what + " of " + std::to_string(low) + " to " + std::to_string(high) + ", got " + std::to_string(value));
    };
    within(image.height, 1, 1024, "a height of the pictures");
    within(image.width, 1, 1024, "a width of the pictures");
    if (image.channels != 1 && image.channels != 3)
        throw std::invalid_argument(where + ": expected pictures of 1 or 3 channels, got " + std::to_string(image.channels));
    within(unet.patch, 1, 16, "a patch");
    within(unet.channels, 4, 1024, "channels of the U-Net");
    within(static_cast<int>(unet.multipliers.size()), 1, 8, "a number of levels (multipliers) of the U-Net");
    within(unet.blocks, 1, 8, "blocks a level of the U-Net");
    within(unet.embedding, 4, 2048, "a width of the noise level's embedding");
    SpacetimeUnetShape s{};
    s.height = image.height;
    s.width = image.width;
    s.channels = image.channels;
    s.patch = unet.patch;
    s.base = unet.channels;
    s.blocks = unet.blocks;
    s.embedding = unet.embedding;
    for (const int m : unet.multipliers) {
        within(m, 1, 16, "multipliers of the U-Net's channels");
        s.multipliers[s.levels++] = m;
    }
    const int divisor = unet.patch << (s.levels - 1);
    if (image.height % divisor != 0 || image.width % divisor != 0)
        throw std::invalid_argument(where + ": " + std::to_string(s.levels) + " levels of the U-Net and patches of " + std::to_string(unet.patch) +
                                    " pixels need pictures whose sides are multiples of " + std::to_string(divisor) + ", got " + toString(image) +
                                    ": choose fewer levels, a smaller patch or another size");
    return s;
}

ImageModelFile ImageModelFile::read(const std::string& path) {
    const Safetensors file = Safetensors::read(path);
    const std::string where = quoted(path);
    json model = describe(file, where);
    if (const std::string type = networkType(model); type != NetworkType)
        throw std::invalid_argument(where + " holds " +
                                    (type == "mixture" ? "a model of collective variables (NetworkModel opens it)" : "a network of type '" + printable(type) + "'") +
                                    ", expected a denoiser of pictures, a network of type '" + NetworkType + "'");
    ImageModelFile out;
    withPrefix(where + " has metadata that cannot be read: ", [&] {
        const json &image = model.at("image"), &network = model.at("network");
        out.image = {wholeNumber<int>(image.at("height")), wholeNumber<int>(image.at("width")), wholeNumber<int>(image.at("channels"))};
        out.unet = {wholeNumber<int>(network.at("patch")), wholeNumber<int>(network.at("channels")), wholeNumbers<int>(network.at("multipliers")),
                    wholeNumber<int>(network.at("blocks")), wholeNumber<int>(network.at("embedding"))};
        out.training = model.at("training");
    });
    const SpacetimeUnetShape shape = checkedShape(out.image, out.unet, where);
    auto tensor = [&](const std::string& name, const std::vector<std::int64_t>& expected) -> const std::vector<double>& {
        const auto found = file.tensors.find(name);
        if (found == file.tensors.end())
            throw std::invalid_argument(where + " is damaged: it lacks the tensor '" + name + "' " + shapeText(expected));
        if (found->second.shape != expected)
            throw std::invalid_argument(where + " is damaged: expected the tensor '" + name + "' " + shapeText(expected) + ", got " + shapeText(found->second.shape));
        for (const double x : found->second.values)
            if (!std::isfinite(x))
                throw std::invalid_argument(where + " is damaged: the tensor '" + name + "' holds " + text(x));
        return found->second.values;
    };
    for (const UnetTensor& t : unetTensors(shape)) {
        const std::vector<double>& values = tensor(t.name, t.shape);
        out.weights.insert(out.weights.end(), values.begin(), values.end());
    }
    const std::vector<double>& mean = tensor("data_mean", {out.image.size()});
    model["variables"] = imageVariables(out.image).toJson();
    out.parameters = DenoiserParameters::fromJson(model, where);
    out.parameters.dataMean = VectorXd::Map(mean.data(), static_cast<Index>(mean.size()));
    if (out.parameters.prediction != "edm")
        throw std::invalid_argument(where + ", key 'prediction': expected 'edm', got '" + out.parameters.prediction + "'");
    return out;
}

json ImageModelFile::metadata() const {
    json model = parameters.toJson();
    model.erase("variables");  // thousands, all alike: made from the shape
    model.erase("data_mean");
    model["image"] = {{"height", image.height}, {"width", image.width}, {"channels", image.channels}};
    model["network"] = {{"type", NetworkType},   {"patch", unet.patch},         {"channels", unet.channels},   {"multipliers", unet.multipliers},
                        {"blocks", unet.blocks}, {"embedding", unet.embedding}, {"parameters", weights.size()}};
    model["training"] = training;
    return model;
}

void ImageModelFile::write(const std::string& path) const {
    Safetensors file;
    file.metadata = {{"format", ModelFormat}, {"version", std::to_string(ModelVersion)}, {"model", metadata().dump()}};
    auto at = weights.begin();
    for (const UnetTensor& t : unetTensors(checkedShape(image, unet, "ImageModel"))) {
        file.tensors[t.name] = {Safetensors::Tensor::Type::Float32, t.shape, {at, at + t.size()}};
        at += t.size();
    }
    const VectorXd& mean = parameters.dataMean;
    file.tensors["data_mean"] = {Safetensors::Tensor::Type::Float32, {mean.size()}, {mean.data(), mean.data() + mean.size()}};
    file.write(path);
}

std::unique_ptr<ImageModel> ImageModel::load(const std::string& path, const std::string& device) {
    if (device != "cpu" && device != "cuda")
        throw std::invalid_argument("ImageModel: expected the device cpu or cuda, got '" + device + "'");
    ImageModelFile file = ImageModelFile::read(path);
    const TorchLibrary& torch = TorchLibrary::get();
    const SpacetimeUnetShape shape = checkedShape(file.image, file.unet, quoted(path));
    char error[1024] = "";
    SpacetimeUnet* opened = nullptr;
    if (torch.openUnet(&shape, file.weights.data(), device.c_str(), &opened, error, sizeof(error)) != 0)
        throw std::runtime_error(quoted(path) + ": " + error);
    const Handle net(opened, torch.closeUnet);
    return std::unique_ptr<ImageModel>(new ImageModel(path, net, std::move(file)));
}

ImageModel::ImageModel(const std::string& path, Handle net, ImageModelFile&& file)
    : DenoiserModel(quoted(path), std::move(file.parameters)), path(path), net(std::move(net)), image(file.image), shape(std::move(file.unet)),
      count(static_cast<std::int64_t>(file.weights.size())), record(file.training.dump()), memory(ActivationMemory) {}

void ImageModel::setActivationMemory(double bytes) {
    if (!(bytes > 0))
        throw std::invalid_argument("ImageModel: expected a positive number of bytes for activations, got " + text(bytes));
    memory = bytes;
}

MatrixXd ImageModel::run(const Inputs& inputs, const MatrixXd* alongX, const VectorXd* alongLevel, MatrixXd& values) const {
    const Index n = inputs.x.cols(), D = inputs.x.rows();
    MatrixXd slopes(alongX == nullptr ? 0 : D, n);
    values.resize(D, n);
    char error[1024] = "";
    // The core's columns are the net's rows: the same memory, read the other way.
    if (TorchLibrary::get().predictUnet(net.get(), n, inputs.x.data(), inputs.level.data(), alongX == nullptr ? nullptr : alongX->data(),
                                        alongLevel == nullptr ? nullptr : alongLevel->data(), values.data(), alongX == nullptr ? nullptr : slopes.data(), memory, error,
                                        sizeof(error)) != 0)
        throw std::runtime_error(quoted(path) + ": " + error);
    return slopes;
}

MatrixXd ImageModel::predictAlong(const Inputs& inputs, const MatrixXd& alongX, const VectorXd& alongLevel, MatrixXd& values) const {
    return run(inputs, &alongX, &alongLevel, values);
}

ImageModel::Predictions ImageModel::predict(const Inputs& inputs, bool derivatives) const {
    const Index n = inputs.x.cols(), D = numCoordinates();
    Predictions out;
    if (!derivatives) {
        run(inputs, nullptr, nullptr, out.values);
        return out;
    }
    // The point D + 1 times, each with one of the directions.
    const Index K = D + 1;
    out.values.resize(D, n);
    for (Index i = 0; i < n; i++) {
        const Inputs copies{inputs.x.col(i).replicate(1, K), VectorXd::Constant(K, inputs.level[i]), VectorXd::Constant(K, inputs.noise[i])};
        const VectorXd alongLevel = VectorXd::Unit(K, D);
        MatrixXd alongX = MatrixXd::Zero(D, K), values;
        alongX.leftCols(D).setIdentity();
        out.jacobian.push_back(run(copies, &alongX, &alongLevel, values));
        out.values.col(i) = values.col(0);
    }
    return out;
}

json describeModel(const std::string& path) {
    if (networkType(describe(Safetensors::read(path), "'" + path + "'")) == NetworkType)
        return ImageModelFile::read(path).metadata();
    return NetworkModel::load(path)->metadata();
}

std::unique_ptr<PosteriorModel> loadModel(const std::string& path, const std::string& device) {
    if (networkType(describe(Safetensors::read(path), "'" + path + "'")) == NetworkType)
        return ImageModel::load(path, device);
    if (device != "cpu")
        throw std::invalid_argument("'" + path + "' holds a model of collective variables, which is evaluated on the cpu: expected the device cpu, got '" + device + "'");
    return NetworkModel::load(path);
}

}  // namespace Spacetime
