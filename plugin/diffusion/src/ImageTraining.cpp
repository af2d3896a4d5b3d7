// SPDX-License-Identifier: MIT
#include "Checkpoint.h"
#include "ImageModelFile.h"
#include "TorchLibrary.h"
#include "UnetLayout.h"
#include "spacetime/ImageModel.h"
#include "spacetime/Text.h"
#include <algorithm>
#include <chrono>
#include <cmath>
#include <exception>
#include <filesystem>
#include <numeric>
#include <random>
#include <stdexcept>
#include <thread>

using Eigen::Index;
using Eigen::MatrixXd;
using Eigen::VectorXd;
using nlohmann::json;

namespace Spacetime {

namespace {

const Index LeastPictures = 16;

void check(bool ok, const std::string& what) {
    if (!ok)
        throw std::invalid_argument("ImageTrainingOptions: expected " + what);
}

void validate(const ImageTrainingOptions& o) {
    check(o.steps > 0, "a positive number of steps, got " + std::to_string(o.steps));
    check(o.batch > 0, "a positive batch, got " + std::to_string(o.batch));
    check(o.learningRate > 0 && std::isfinite(o.learningRate), "a positive learning rate, got " + text(o.learningRate));
    check(o.averaging >= 0 && o.averaging < 1, "an averaging decay from 0 to below 1, got " + text(o.averaging));
    check(o.heldOut >= 0 && o.heldOut <= 0.5, "a share of pictures held out from 0 to 0.5, got " + text(o.heldOut));
    check(std::isfinite(o.minLogSnr) && std::isfinite(o.maxLogSnr) && o.minLogSnr < o.maxLogSnr, "a log-SNR range, got " + text(o.minLogSnr) + " to " + text(o.maxLogSnr));
    check(o.threads >= 0, "0 or more threads, got " + std::to_string(o.threads));
    check(o.reportEvery > 0, "a positive reporting interval, got " + std::to_string(o.reportEvery));
}

void validate(const ImageSet& pictures) {
    const MatrixXd& p = pictures.pixels;
    if (p.rows() != pictures.shape.size())
        throw std::invalid_argument("trainImages: expected pictures of " + toString(pictures.shape) + ", " + std::to_string(pictures.shape.size()) + " numbers each, got " +
                                    std::to_string(p.rows()));
    if (p.cols() < LeastPictures)
        throw std::invalid_argument("trainImages: expected at least " + std::to_string(LeastPictures) + " pictures, got " + std::to_string(p.cols()));
    for (Index k = 0; k < p.cols(); k++)
        for (Index i = 0; i < p.rows(); i++)
            if (!(p(i, k) >= 0 && p(i, k) <= 1)) {
                const int C = pictures.shape.channels, W = pictures.shape.width;
                const std::string name = static_cast<size_t>(k) < pictures.names.size() ? " ('" + pictures.names[k] + "')" : "";
                throw std::invalid_argument("trainImages: expected values from 0 to 1, got " + text(p(i, k)) + " in picture " + std::to_string(k) + name + ", row " +
                                            std::to_string(i / C / W) + ", column " + std::to_string(i / C % W) + ", channel " + std::to_string(i % C));
            }
    if ((p.colwise() - p.col(0)).isZero(0))
        throw std::invalid_argument("trainImages: all " + std::to_string(p.cols()) + " pictures are the same");
}

/// FNV-1a over what is trained on: a checkpoint of other pictures is none of ours.
std::string fingerprint(const std::vector<float>& pictures) {
    std::uint64_t hash = 0xcbf29ce484222325u;
    const auto* bytes = reinterpret_cast<const unsigned char*>(pictures.data());
    for (size_t i = 0; i < pictures.size() * sizeof(float); i++)
        hash = (hash ^ bytes[i]) * 0x100000001b3u;
    return std::to_string(hash);
}

/// Carries the user's callbacks, and what they throw, across a boundary that exceptions must not cross; keeps the checkpoint.
struct ProgressBridge {
    const ImageTrainingOptions& options;
    const std::string& file;
    const json& key;
    std::int64_t stateSize;
    json losses = json::array();
    double secondsBefore = 0;
    std::chrono::steady_clock::time_point begun = std::chrono::steady_clock::now(), written = begun;
    std::exception_ptr error = nullptr;

    double seconds() const { return secondsBefore + std::chrono::duration<double>(std::chrono::steady_clock::now() - begun).count(); }

    static int progress(void* self, int step, int isReport, double loss, double heldOut) {
        auto& bridge = *static_cast<ProgressBridge*>(self);
        const ImageTrainingOptions& o = bridge.options;
        try {
            bool goOn = !o.goOn || o.goOn();
            if (isReport) {
                bridge.losses.push_back({step, loss, std::isfinite(heldOut) ? json(heldOut) : json()});
                goOn = (!o.progress || o.progress(step, o.steps, loss, heldOut)) && goOn;
            }
            if (!goOn)
                return 0;
            const auto now = std::chrono::steady_clock::now();
            if (std::chrono::duration<double>(now - bridge.written).count() < o.checkpointSeconds)
                return 1;
            bridge.written = now;
            return 2;
        }
        catch (...) {
            bridge.error = std::current_exception();
            return 0;
        }
    }

    static void keep(void* self, const float* state) {
        auto& bridge = *static_cast<ProgressBridge*>(self);
        try {
            Safetensors checkpoint;
            json record = bridge.key;
            record["losses"] = bridge.losses;
            record["seconds"] = bridge.seconds();
            checkpoint.metadata = {{"format", "spacetime-checkpoint"}, {"training", record.dump()}};
            checkpoint.tensors["state"] = {Safetensors::Tensor::Type::Float32, {bridge.stateSize}, {state, state + bridge.stateSize}};
            checkpoint.write(bridge.file);
        }
        catch (...) {
            bridge.error = std::current_exception();
        }
    }

    /// State of the checkpoint, empty where there is none.
    std::vector<float> resume() {
        Checkpoint checkpoint = Checkpoint::read(file, key, stateSize, "trainImages");
        losses = checkpoint.record.value("losses", json::array());
        secondsBefore = checkpoint.record.value("seconds", 0.0);
        return std::move(checkpoint.state);
    }
};

}  // namespace

ImageTrainingResult trainImages(const ImageSet& pictures, const ImageTrainingOptions& options, const std::string& outFile) {
    validate(options);
    validate(pictures);
    const ImageShape& image = pictures.shape;
    SpacetimeUnetJob job{};
    job.shape = checkedShape(image, options.unet, "trainImages");
    const TorchLibrary& library = TorchLibrary::get();

    // Pictures held out are chosen at random, and put last.
    const Index D = image.size(), K = pictures.pixels.cols();
    const Index heldOut = options.heldOut > 0 ? std::max<Index>(1, std::lround(options.heldOut * K)) : 0, kept = K - heldOut;
    std::mt19937_64 random(options.seed);
    std::vector<Index> order(K);
    std::iota(order.begin(), order.end(), 0);
    std::shuffle(order.begin(), order.end(), random);
    std::vector<float> rows(static_cast<size_t>(K) * D);
    VectorXd mean = VectorXd::Zero(D), square = VectorXd::Zero(D);
    for (Index k = 0; k < K; k++) {
        const VectorXd c = ((pictures.pixels.col(order[k]).array() - 0.5) / 0.5).matrix();
        std::copy(c.data(), c.data() + D, rows.begin() + k * D);
        if (k < kept) {
            mean += c / kept;
            square += c.cwiseAbs2() / kept;
        }
    }
    if (options.flips) {  // half of what is learned is mirrored
        auto mirrored = [&](const VectorXd& v) {
            VectorXd m(D);
            for (Index i = 0; i < D; i++)
                m[i] = v[i + (image.width - 1 - 2 * (i / image.channels % image.width)) * image.channels];
            return m;
        };
        mean = (0.5 * (mean + mirrored(mean))).eval();
        square = (0.5 * (square + mirrored(square))).eval();
    }

    ImageModelFile file;
    file.image = image;
    file.unet = options.unet;
    DenoiserParameters& p = file.parameters;
    p.variables = imageVariables(image);
    p.schedule = "edm";
    p.prediction = "edm";
    p.minLogSnr = options.minLogSnr;
    p.maxLogSnr = options.maxLogSnr;
    p.dataMean = mean;
    p.dataVariance = (square - mean.cwiseAbs2()).mean();
    p.sigmaData = std::sqrt(square.mean());  // about zero, not about the mean: the net's inputs are to have unit size
    if (!(p.dataVariance > 0))
        throw std::invalid_argument("trainImages: all " + std::to_string(kept) + " pictures that are trained on are the same");

    std::vector<float>& weights = file.weights;
    std::normal_distribution<double> normal;
    for (const UnetTensor& t : unetTensors(job.shape))
        for (std::int64_t i = 0; i < t.size(); i++)
            weights.push_back(static_cast<float>(t.constant + (t.spread > 0 ? t.spread * normal(random) : 0)));
    const std::int64_t numParameters = static_cast<std::int64_t>(weights.size());
    job.parameters = weights.data();
    job.numPictures = kept;
    job.numHeldOut = heldOut;
    job.pictures = rows.data();
    job.steps = options.steps;
    job.batch = options.batch;
    job.reportEvery = options.reportEvery;
    const int threads = options.threads > 0 ? options.threads : static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
    job.threads = threads;
    job.flips = options.flips;
    job.seed = random();
    job.learningRate = options.learningRate;
    job.averaging = options.averaging;
    job.sigmaData = p.sigmaData;
    job.minLogSnr = p.minLogSnr;
    job.maxLogSnr = p.maxLogSnr;
    job.device = options.device.c_str();

    const std::string checkpoint = options.checkpoint.empty() ? outFile + ".checkpoint" : options.checkpoint;
    const UnetShape& u = options.unet;
    const json key = {{"pictures", fingerprint(rows)},
                      {"image", {image.height, image.width, image.channels}},
                      {"unet", {u.patch, u.channels, u.multipliers, u.blocks, u.embedding}},
                      {"steps", options.steps},
                      {"batch", options.batch},
                      {"seed", options.seed},
                      {"learning_rate", options.learningRate},
                      {"averaging", options.averaging},
                      {"held_out", heldOut},
                      {"log_snr_range", {p.minLogSnr, p.maxLogSnr}},
                      {"flips", options.flips},
                      {"report_every", options.reportEvery}};
    ProgressBridge bridge{options, checkpoint, key, spacetimeUnetStateSize(numParameters)};
    std::vector<float> state;
    if (options.resume)
        state = bridge.resume();
    job.state = state.empty() ? nullptr : state.data();
    job.progress = &ProgressBridge::progress;
    job.keep = &ProgressBridge::keep;
    job.user = &bridge;
    if (library.trainUnet(&job) != 0)
        throw std::runtime_error(std::string("trainImages: ") + job.error);
    if (bridge.error)
        std::rethrow_exception(bridge.error);

    ImageTrainingResult result;
    result.loss = job.loss;
    result.heldOutLoss = job.heldOutLoss;
    result.steps = job.stepsDone;
    result.pictures = static_cast<int>(kept);
    result.heldOut = static_cast<int>(heldOut);
    result.numParameters = numParameters;
    result.stopped = job.stopped != 0;
    result.resumed = !state.empty();
    result.seconds = bridge.seconds();
    auto number = [](double x) { return std::isfinite(x) ? json(x) : json(); };
    file.training = {{"command", options.command},
                     {"seed", options.seed},
                     {"steps", result.steps},
                     {"steps_planned", options.steps},
                     {"stopped", result.stopped},
                     {"resumed", result.resumed},
                     {"batch", options.batch},
                     {"learning_rate", options.learningRate},
                     {"averaging", options.averaging},
                     {"flips", options.flips},
                     {"pictures", kept},
                     {"pictures_held_out", heldOut},
                     {"device", options.device},
                     {"threads", threads},
                     {"torch", library.version()},
                     {"seconds", result.seconds},
                     {"loss", number(result.loss)},
                     {"held_out_loss", number(result.heldOutLoss)},
                     {"losses", bridge.losses}};
    file.write(outFile);
    if (!result.stopped)
        std::filesystem::remove(checkpoint);
    return result;
}

}  // namespace Spacetime
