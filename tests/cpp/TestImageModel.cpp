// SPDX-License-Identifier: MIT
// These tests open LibTorch: they are few and small.
#include "ExpectError.h"
#include "spacetime/Files.h"
#include "spacetime/ImageModel.h"
#include "spacetime/NetworkModel.h"
#include "spacetime/Safetensors.h"
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <limits>
#include <nlohmann/json.hpp>
#include <random>
#include <unistd.h>

using namespace Spacetime;
using Eigen::MatrixXd;
using Eigen::VectorXd;
namespace fs = std::filesystem;

namespace {

/// Bright bars on a dark ground, each in its place, and a little noise.
ImageSet bars(int count, ImageShape shape = {8, 8, 1}) {
    std::mt19937_64 random(7);
    std::uniform_real_distribution<double> noise(0, 0.2);
    ImageSet set;
    set.shape = shape;
    set.pixels.resize(shape.size(), count);
    for (int k = 0; k < count; k++) {
        const int place = static_cast<int>(random() % shape.width);
        for (int i = 0; i < shape.size(); i++)
            set.pixels(i, k) = noise(random) + (i / shape.channels % shape.width == place ? 0.7 : 0.1);
        set.names.push_back("bar" + std::to_string(k) + ".png");
    }
    return set;
}

ImageTrainingOptions small(int steps) {
    ImageTrainingOptions o;
    o.steps = steps;
    o.batch = 8;
    o.unet = {1, 8, {1, 2}, 1, 16};
    o.threads = 1;
    o.reportEvery = 5;
    return o;
}

class Images : public ::testing::Test {
protected:
    fs::path folder = fs::temp_directory_path() / ("spacetime_imagemodel_" + std::to_string(::getpid()));
    void SetUp() override {
        fs::create_directories(folder);
        ::setenv("SPACETIME_TORCH_LIBRARY", SPACETIME_TORCH_TEST_LIBRARY, 0);  // the one of this build, unless another is asked for
    }
    void TearDown() override { fs::remove_all(folder); }
    std::string path(const std::string& name = "m.safetensors") const { return (folder / name).string(); }
    std::unique_ptr<ImageModel> trained(int steps = 20, ImageShape shape = {8, 8, 1}, const UnetShape& unet = {1, 8, {1, 2}, 1, 16}) {
        ImageTrainingOptions o = small(steps);
        o.unet = unet;
        trainImages(bars(64, shape), o, path());
        return ImageModel::load(path());
    }
};

/// Noisy points [m x n] over the whole trained range, and directions that change a tenth of all they could.
void points(const ImageModel& model, int n, MatrixXd& eta, MatrixXd& direction) {
    std::mt19937_64 random(3);
    std::normal_distribution<double> normal;
    const int D = model.numCoordinates();
    eta.resize(D + 1, n);
    direction.resize(D + 1, n);
    for (int k = 0; k < n; k++) {
        const double l = -5 + 12.0 * k / (n - 1), precision = std::exp(l);
        eta(0, k) = -0.5 * precision;
        direction(0, k) = 0.1 * eta(0, k) * normal(random);
        for (int i = 1; i <= D; i++) {
            eta(i, k) = precision * (0.5 * normal(random) + std::exp(-0.5 * l) * normal(random));
            direction(i, k) = 0.1 * std::exp(0.5 * l) * normal(random);
        }
    }
}

double relative(const MatrixXd& a, const MatrixXd& b) { return (a - b).norm() / b.norm(); }

Safetensors changed(const std::string& path, const std::function<void(nlohmann::json&)>& change) {
    Safetensors file = Safetensors::read(path);
    nlohmann::json model = nlohmann::json::parse(file.metadata["model"]);
    change(model);
    file.metadata["model"] = model.dump();
    return file;
}

}  // namespace

TEST_F(Images, ForwardProductsAreTheDerivativesOfTheMeans) {
    // All that a shape can have: patches, more blocks than one, three levels, colours, sides of different length.
    for (const auto& [shape, unet] : {std::pair<ImageShape, UnetShape>{{8, 8, 1}, {1, 8, {1, 2}, 1, 16}}, {{8, 16, 3}, {2, 12, {1, 2, 1}, 2, 16}}}) {
        const auto model = trained(20, shape, unet);
        MatrixXd eta, direction;
        points(*model, 6, eta, direction);
        const MeanProducts p = model->products(eta, direction);
        EXPECT_LT(relative(p.mean, model->denoised(eta)), 1e-5);
        const double h = 0.1;
        const MatrixXd expected = (model->denoised(eta + h * direction) - model->denoised(eta - h * direction)) / (2 * h);
        for (int k = 0; k < eta.cols(); k++)
            EXPECT_LT(relative(p.product.col(k), expected.col(k)), 5e-3) << toString(shape) << ", point " << k;
    }
}

TEST_F(Images, CovariancesAreMadeOfProductsWhereTheyAreSmall) {
    const auto model = trained();
    MatrixXd eta, direction;
    points(*model, 3, eta, direction);
    const Moments m = model->moments(eta);
    const MeanProducts p = model->products(eta, direction);
    for (int k = 0; k < 3; k++)
        EXPECT_LT(relative(p.product.col(k), (m.J[k] * direction.col(k)).tail(64)), 1e-4);
    const auto large = trained(1, {20, 20, 1});
    points(*large, 1 + 1, eta, direction);
    expectError([&] { large->moments(eta); }, {"400 coordinates", "at most 256", "products()"});
}

TEST_F(Images, PortionsDoNotChangeResults) {
    const auto model = trained();
    MatrixXd eta, direction;
    points(*model, 40, eta, direction);
    const MeanProducts whole = model->products(eta, direction);
    model->setActivationMemory(1);
    const MeanProducts single = model->products(eta, direction);
    EXPECT_LT(relative(single.mean, whole.mean), 1e-5);
    EXPECT_LT(relative(single.product, whole.product), 1e-5);
    expectError([&] { model->setActivationMemory(0); }, {"expected a positive number of bytes"});
}

TEST_F(Images, SameSeedSameModelAndResumingIsExact) {
    ImageTrainingOptions o = small(20);
    o.flips = true;
    trainImages(bars(64), o, path("a.safetensors"));
    trainImages(bars(64), o, path("b.safetensors"));
    // Stopped between two reports: what was learned is kept, and so is all that it takes to go on.
    ImageTrainingOptions stopped = o;
    int calls = 0;
    stopped.goOn = [&] { return ++calls < 13; };
    const ImageTrainingResult first = trainImages(bars(64), stopped, path("c.safetensors"));
    EXPECT_TRUE(first.stopped);
    EXPECT_EQ(first.steps, 13);
    EXPECT_EQ(ImageModel::load(path("c.safetensors"))->imageShape(), (ImageShape{8, 8, 1}));
    o.resume = true;
    const ImageTrainingResult second = trainImages(bars(64), o, path("c.safetensors"));
    EXPECT_TRUE(second.resumed);
    EXPECT_EQ(second.steps, 20);
    EXPECT_FALSE(fs::exists(path("c.safetensors.checkpoint")));
    const Safetensors a = Safetensors::read(path("a.safetensors")), b = Safetensors::read(path("b.safetensors")), c = Safetensors::read(path("c.safetensors"));
    for (const auto& [name, tensor] : a.tensors) {
        EXPECT_EQ(tensor.values, b.tensors.at(name).values) << name;
        EXPECT_EQ(tensor.values, c.tensors.at(name).values) << name;
    }
    auto losses = [](const Safetensors& s) { return nlohmann::json::parse(s.metadata.at("model"))["training"]["losses"]; };
    EXPECT_EQ(losses(a), losses(c));
    EXPECT_EQ(losses(a).size(), 4u);
    ImageTrainingOptions other = o;
    other.seed = 2;
    trainImages(bars(64), other, path("d.safetensors"));
    EXPECT_NE(Safetensors::read(path("d.safetensors")).tensors.at("in.weight").values, a.tensors.at("in.weight").values);

    // A checkpoint of other pictures or options is refused.
    calls = 0;
    trainImages(bars(64), stopped, path("e.safetensors"));
    expectError([&] { trainImages(bars(65), o, path("e.safetensors")); }, {"belongs to other data or options"});
    other.steps = 30;
    expectError([&] { trainImages(bars(64), other, path("e.safetensors")); }, {"belongs to other data or options"});
}

TEST_F(Images, WhatACallbackThrowsComesBack) {
    ImageTrainingOptions o = small(20);
    o.progress = [](int, int, double, double) -> bool { throw std::domain_error("enough"); };
    EXPECT_THROW(trainImages(bars(64), o, path()), std::domain_error);
    EXPECT_FALSE(fs::exists(path()));
}

TEST_F(Images, BadPicturesAndOptionsAreRefused) {
    auto refused = [&](const ImageSet& set, const ImageTrainingOptions& o, const std::string& why) { expectError([&] { trainImages(set, o, path()); }, {why}); };
    ImageSet set = bars(64);
    set.pixels(13, 3) = std::numeric_limits<double>::quiet_NaN();
    refused(set, small(5), "expected values from 0 to 1, got nan in picture 3 ('bar3.png'), row 1, column 5, channel 0");
    set.pixels(13, 3) = 255;
    refused(set, small(5), "got 255");
    refused(bars(15), small(5), "at least 16 pictures, got 15");
    set = bars(64);
    set.pixels.colwise() = VectorXd(set.pixels.col(0));
    refused(set, small(5), "all 64 pictures are the same");
    set = bars(64);
    set.shape.width = 9;
    refused(set, small(5), "pictures of 8 x 9, 1 channel, 72 numbers each, got 64");
    refused(
        bars(64, {8, 6, 1}),
        [] {
            auto o = small(5);
            o.unet.multipliers = {1, 1, 1};
            return o;
        }(),
        "multiples of 4, got 8 x 6, 1 channel");
    refused(bars(64, {8, 8, 2}), small(5), "1 or 3 channels, got 2");
    auto with = [](auto set) {
        ImageTrainingOptions o = small(5);
        set(o);
        return o;
    };
    refused(bars(64), with([](auto& o) { o.steps = 0; }), "positive number of steps");
    refused(bars(64), with([](auto& o) { o.minLogSnr = 9; }), "log-SNR range");
    refused(bars(64), with([](auto& o) { o.heldOut = 0.6; }), "held out from 0 to 0.5");
    refused(bars(64), with([](auto& o) { o.unet.channels = 0; }), "channels of the U-Net of 4 to 1024, got 0");
    EXPECT_THROW(trainImages(bars(64), with([](auto& o) { o.learningRate = 1e30; }), path()), std::runtime_error);
    EXPECT_THROW(trainImages(bars(64), with([](auto& o) { o.device = "abacus"; }), path()), std::runtime_error);
}

TEST_F(Images, DamagedAndForeignFilesAreRefused) {
    trained(1);
    const std::string bytes = readFile(path());
    auto refused = [&](const std::string& why) {
        expectError([&] { ImageModel::load(path("x.safetensors")); }, {why});
        expectError([&] { loadModel(path("x.safetensors")); }, {why});
    };
    writeFile(path("x.safetensors"), bytes.substr(0, bytes.size() - 100), true);
    refused("cut short");
    writeFile(path("x.safetensors"), "not a model", true);
    refused("x.safetensors'");
    changed(path(), [](auto& j) { j["network"]["channels"] = 1000; }).write(path("x.safetensors"));  // 100 million weights, none of which are there
    refused("expected the tensor 'in.weight' [1000, 1, 3, 3], got [8, 1, 3, 3]");
    changed(path(), [](auto& j) { j["network"]["channels"] = 2000000000; }).write(path("x.safetensors"));
    refused("channels of the U-Net of 4 to 1024, got 2000000000");
    changed(path(), [](auto& j) { j["network"]["multipliers"] = std::vector<int>(40, 1); }).write(path("x.safetensors"));
    refused("levels");
    changed(path(), [](auto& j) { j["image"]["height"] = -8; }).write(path("x.safetensors"));
    refused("height of the pictures of 1 to 1024, got -8");
    changed(path(), [](auto& j) { j["image"]["height"] = 12; }).write(path("x.safetensors"));
    refused("expected the tensor 'data_mean' [96], got [64]");
    changed(path(), [](auto& j) { j.erase("image"); }).write(path("x.safetensors"));
    refused("metadata that cannot be read");
    changed(path(), [](auto& j) { j["prediction"] = "x0"; }).write(path("x.safetensors"));
    refused("expected 'edm', got 'x0'");
    Safetensors file = Safetensors::read(path());
    file.tensors["out.bias"].values[0] = std::numeric_limits<double>::quiet_NaN();
    file.write(path("x.safetensors"));
    refused("the tensor 'out.bias' holds nan");
    // Each kind of model says what the other one is.
    expectError([&] { NetworkModel::load(path()); }, {"a denoiser of pictures"});
    Safetensors foreign;
    foreign.metadata = {{"format", "another"}};
    foreign.write(path("x.safetensors"));
    refused("is not a model file");
    expectError([&] { ImageModel::load(path(), "abacus"); }, {"expected the device cpu or cuda, got 'abacus'"});
}
