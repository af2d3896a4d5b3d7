// SPDX-License-Identifier: MIT
#include "spacetime/Training.h"
#include "TorchLibrary.h"
#include "TrainingData.h"
#include "spacetime/NetworkModel.h"
#include "spacetime/Text.h"
#include <algorithm>
#include <chrono>
#include <cmath>
#include <exception>
#include <nlohmann/json.hpp>
#include <thread>

using Eigen::MatrixXd;
using Eigen::VectorXd;
using nlohmann::json;

namespace Spacetime {

namespace {

const int NumValidation = 1024;
/// Held-out points that the record's figures are computed on; those with fewer effective samples say more about the data's noise
/// than about the network.
const int NumHeldOut = 512;
const double MinHeldOutNEff = 20;
/// Weight of the log-partition's own error (in nats), next to errors of its gradient in posterior standard deviations.
const double PsiWeight = 0.1;
const int Harmonics = 5;

void check(bool ok, const std::string& what) {
    if (!ok)
        throw std::invalid_argument("TrainingOptions: expected " + what);
}

void validate(const TrainingOptions& o) {
    check(o.steps > 0, "a positive number of steps, got " + std::to_string(o.steps));
    check(o.batch > 0, "a positive batch, got " + std::to_string(o.batch));
    check(o.points > 0, "a positive number of points, got " + std::to_string(o.points));
    check(o.width > 0 && o.layers > 0, "a positive width and number of layers, got " + std::to_string(o.width) + " and " + std::to_string(o.layers));
    check(o.learningRate > 0, "a positive learning rate, got " + text(o.learningRate));
    check(o.emaDecay >= 0 && o.emaDecay < 1, "an averaging decay from 0 to below 1, got " + text(o.emaDecay));
    check(o.sobolevWeight >= 0, "a Sobolev weight of 0 or more, got " + text(o.sobolevWeight));
    check(std::isfinite(o.minLogSnr) && std::isfinite(o.maxLogSnr) && o.minLogSnr < o.maxLogSnr,
          "a log-SNR range, got " + text(o.minLogSnr) + " to " + text(o.maxLogSnr));
    check(o.threads >= 0, "0 or more threads, got " + std::to_string(o.threads));
    check(o.reportEvery > 0, "a positive reporting interval, got " + std::to_string(o.reportEvery));
    check(o.temperature >= 0, "a temperature of 0 (unknown) or more, got " + text(o.temperature));
}

/// What the data tell a model file about themselves.
void describeData(const EmpiricalModel& samples, NetworkParameters& p) {
    const Variables& v = samples.variables();
    const MatrixXd& T = samples.support();
    p.variables = v;
    p.mean = samples.dataMean();
    p.variance = samples.dataVariance();
    p.low.resize(v.numUnlifted());
    p.high.resize(v.numUnlifted());
    for (int i = 0, u = 0; i < v.size(); i++) {
        const int o = v.offset(i);
        if (v[i].lifted()) {
            std::vector<bool> arcs(NetworkParameters::Arcs, false);
            for (Eigen::Index k = 0; k < T.cols(); k++) {
                const double turn = std::atan2(T(o + 1, k), T(o, k)) / (2 * M_PI);
                arcs[std::min(static_cast<int>((turn - std::floor(turn)) * arcs.size()), static_cast<int>(arcs.size()) - 1)] = true;
            }
            p.occupied.push_back(std::move(arcs));
        }
        else {
            p.low[u] = T.row(o).minCoeff();
            p.high[u] = T.row(o).maxCoeff();
            if (!(p.low[u] < p.high[u]))
                throw std::invalid_argument("Training: '" + v[i].name + "' has the same value in every sample");
            u++;
        }
    }
}

/// Layers this small gain nothing from a second thread and lose much when another program wants the core.
int torchThreads(const TrainingOptions& o) {
    if (o.threads > 0)
        return o.threads;
    return static_cast<long>(o.batch) * o.width < 100000 ? 1 : 0;
}

/// Where to start: unit-variance activations from features of order one, and an output near zero (the featureless prior).
std::vector<float> initialWeights(int features, int width, int layers, std::mt19937_64& random) {
    std::normal_distribution<double> normal;
    std::vector<float> weights;
    auto add = [&](int count, double scale) {
        for (int i = 0; i < count; i++)
            weights.push_back(static_cast<float>(scale * normal(random)));
    };
    for (int l = 0; l < layers; l++) {
        const int in = l == 0 ? features : width;
        add(width * in, 1 / std::sqrt(in));
        add(width, 0.3);
    }
    add(width, 0.1 / std::sqrt(width));
    add(1, 0);
    return weights;
}

std::vector<NetworkParameters::Layer> unpack(const std::vector<float>& weights, int features, int width, int layers) {
    using RowMajor = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
    std::vector<NetworkParameters::Layer> result;
    const float* at = weights.data();
    for (int l = 0; l <= layers; l++) {
        const int in = l == 0 ? features : width, out = l == layers ? 1 : width;
        NetworkParameters::Layer layer;
        layer.weight = Eigen::Map<const RowMajor>(at, out, in).cast<double>();
        at += out * in;
        layer.bias = Eigen::Map<const Eigen::VectorXf>(at, out).cast<double>();
        at += out;
        result.push_back(std::move(layer));
    }
    return result;
}

/// Carries the user's callback, and what it throws, across a boundary that exceptions must not cross.
struct ProgressBridge {
    const TrainingOptions& options;
    json losses = json::array();
    std::exception_ptr error = nullptr;

    static int call(void* self, int step, double loss, double validation) {
        auto& bridge = *static_cast<ProgressBridge*>(self);
        bridge.losses.push_back({step, loss, validation});
        if (!bridge.options.progress)
            return 1;
        try {
            return bridge.options.progress(step, bridge.options.steps, loss, validation);
        }
        catch (...) {
            bridge.error = std::current_exception();
            return 0;
        }
    }
};

}  // namespace

TrainingResult train(const EmpiricalModel& samples, const TrainingOptions& options, const std::string& outFile) {
    validate(options);
    const TorchLibrary& library = TorchLibrary::get();  // before anything that takes time
    const auto start = std::chrono::steady_clock::now();
    auto seconds = [&] { return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count(); };

    NetworkParameters p;
    describeData(samples, p);
    p.harmonics = Harmonics;
    p.minLogSnr = options.minLogSnr;
    p.maxLogSnr = options.maxLogSnr;
    p.temperature = options.temperature;
    const Prior prior(p.variables, p.mean, p.variance);
    const Features features(p.variables, p.harmonics, p.mean, p.variance, p.low, p.high);
    std::mt19937_64 random(options.seed);
    const int threads = options.threads > 0 ? options.threads : std::max(1u, std::thread::hardware_concurrency());
    const MatrixXd eta = drawPoints(samples, {p.minLogSnr, p.maxLogSnr, p.low, p.high}, options.points + NumValidation, random);
    const std::vector<float> rows = trainingRows(samples, prior, features, eta, threads, random);
    const double preparation = seconds();

    std::vector<float> weights = initialWeights(features.size(), options.width, options.layers, random);
    ProgressBridge bridge{options};
    SpacetimeTorchJob job{};
    job.numFeatures = features.size();
    job.numStatistics = p.variables.numStatistics();
    job.width = options.width;
    job.layers = options.layers;
    job.numPoints = options.points;
    job.numValidation = NumValidation;
    job.rows = rows.data();
    job.weights = weights.data();
    job.numWeights = static_cast<std::int64_t>(weights.size());
    job.steps = options.steps;
    job.batch = options.batch;
    job.reportEvery = options.reportEvery;
    job.threads = torchThreads(options);
    job.seed = random();
    job.learningRate = options.learningRate;
    job.emaDecay = options.emaDecay;
    job.sobolevWeight = options.sobolevWeight;
    job.psiWeight = PsiWeight;
    job.device = options.device.c_str();
    job.progress = &ProgressBridge::call;
    job.user = &bridge;
    if (library.train(&job) != 0)
        throw std::runtime_error(std::string("Training: ") + job.error);
    if (bridge.error)
        std::rethrow_exception(bridge.error);

    TrainingResult result;
    result.steps = job.stepsDone;
    result.stopped = job.stopped != 0;
    result.finalLoss = job.loss;
    p.layers = unpack(weights, features.size(), options.width, options.layers);

    // Fresh points of the same spread, never seen in training.
    const MatrixXd fresh = drawPoints(samples, {p.minLogSnr, p.maxLogSnr, p.low, p.high}, NumHeldOut, random);
    const Moments exact = samples.moments(fresh, PosteriorModel::Order::Mean);
    std::vector<int> kept;
    for (int i = 0; i < NumHeldOut; i++)
        if (exact.nEff.size() == 0 || !(exact.nEff[i] < MinHeldOutNEff))
            kept.push_back(i);
    const MatrixXd heldOut = fresh(Eigen::all, kept);
    result.consistency = compare(NetworkModel(p), samples, heldOut);
    result.seconds = seconds();

    const Consistency& c = result.consistency;
    p.training = json({{"steps", result.steps},
                       {"stopped", result.stopped},
                       {"batch", options.batch},
                       {"points", options.points},
                       {"seed", options.seed},
                       {"learning_rate", options.learningRate},
                       {"sobolev_weight", options.sobolevWeight},
                       {"ema_decay", options.emaDecay},
                       {"device", options.device},
                       {"seconds", result.seconds},
                       {"seconds_preparation", preparation},
                       {"final_loss", result.finalLoss},
                       {"losses", bridge.losses},
                       {"consistency",
                        {{"median_error", c.medianError},
                         {"error_90", c.error90},
                         {"asymmetry", c.asymmetry},
                         {"jacobian_error", c.jacobianError},
                         {"points", c.points},
                         {"min_n_eff", MinHeldOutNEff}}}})
                     .dump();
    NetworkModel(p).save(outFile);
    return result;
}

}  // namespace Spacetime
