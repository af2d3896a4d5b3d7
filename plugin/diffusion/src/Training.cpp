// SPDX-License-Identifier: MIT
#include "spacetime/Training.h"
#include "Checkpoint.h"
#include "TorchLibrary.h"
#include "TrainingData.h"
#include "spacetime/NetworkModel.h"
#include "spacetime/Safetensors.h"
#include "spacetime/Text.h"
#include <algorithm>
#include <chrono>
#include <cmath>
#include <exception>
#include <filesystem>
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
const double PsiWeight = 0.05;
const std::int64_t NumLikelihoodSamples = 100000;
/// Width with which components start: kappa, or the data's variance over the component's.
const double FirstPrecision = 20;
/// What the exact posterior at all the points may cost in multiplications (a minute or so), and hold in numbers.
const double LargestWork = 4e10, LargestRows = 1e8;
/// A step evaluates so many factors at most: batch times components times variables.
const int LargestStep = 1 << 18, LargestBatch = 256, LeastBatch = 32;

void check(bool ok, const std::string& what) {
    if (!ok)
        throw std::invalid_argument("TrainingOptions: expected " + what);
}

void validate(const TrainingOptions& o) {
    check(o.steps > 0, "a positive number of steps, got " + std::to_string(o.steps));
    check(o.batch >= 0, "a positive batch, or 0, got " + std::to_string(o.batch));
    check(o.points > 0, "a positive number of points, got " + std::to_string(o.points));
    check(o.components > 0, "a positive number of components, got " + std::to_string(o.components));
    check(o.learningRate > 0, "a positive learning rate, got " + text(o.learningRate));
    check(o.averaging >= 0 && o.averaging < 1, "an averaging decay from 0 to below 1, got " + text(o.averaging));
    check(o.sobolevWeight >= 0, "a Sobolev weight of 0 or more, got " + text(o.sobolevWeight));
    check(o.patience >= 0, "a patience of 0 or more, got " + std::to_string(o.patience));
    check(std::isfinite(o.minLogSnr) && std::isfinite(o.maxLogSnr) && o.minLogSnr < o.maxLogSnr, "a log-SNR range, got " + text(o.minLogSnr) + " to " + text(o.maxLogSnr));
    check(o.threads >= 0, "0 or more threads, got " + std::to_string(o.threads));
    check(o.reportEvery > 0, "a positive reporting interval, got " + std::to_string(o.reportEvery));
    check(o.temperature >= 0, "a temperature of 0 (unknown) or more, got " + text(o.temperature));
}

/// What the data tell a model file about themselves.
void describeData(const EmpiricalModel& samples, NetworkParameters& p) {
    const Variables& v = samples.variables();
    const MatrixXd& T = samples.support();
    p.variables = v;
    p.low.resize(v.numUnlifted());
    p.high.resize(v.numUnlifted());
    const Eigen::Index K = T.cols();
    auto constant = [](const std::string& name) { throw std::invalid_argument("Training: '" + name + "' has the same value in every sample: leave that column out"); };
    for (int i = 0, u = 0; i < v.size(); i++) {
        const int o = v.offset(i);
        if (v[i].lifted()) {
            std::vector<bool> arcs(NetworkParameters::Arcs, false);
            for (Eigen::Index k = 0; k < T.cols(); k++) {
                const double turn = std::atan2(T(o + 1, k), T(o, k)) / (2 * M_PI);
                arcs[std::min(static_cast<int>((turn - std::floor(turn)) * arcs.size()), static_cast<int>(arcs.size()) - 1)] = true;
            }
            p.occupied.push_back(std::move(arcs));
            if (K > 1 && (T.row(o).maxCoeff() == T.row(o).minCoeff()) && (T.row(o + 1).maxCoeff() == T.row(o + 1).minCoeff()))
                constant(v[i].name);
        }
        else {
            p.low[u] = T.row(o).minCoeff();
            p.high[u] = T.row(o).maxCoeff();
            if (!(p.low[u] < p.high[u]))
                constant(v[i].name);
            u++;
        }
    }
}

/// Parameters as TorchEntry.h lays them out, with relative learning rates that give every kind the same progress.
struct Row {
    std::vector<float> values, rates;

    void add(double value, double rate) {
        values.push_back(static_cast<float>(value));
        rates.push_back(static_cast<float>(rate));
    }
};

/// Components round samples drawn half evenly and half by weight.
Row startingPoint(const EmpiricalModel& samples, int K, std::mt19937_64& random) {
    const Variables& v = samples.variables();
    const VectorXd& logW = samples.logWeights();
    const double variance = samples.dataVariance(), sd = std::sqrt(variance);
    std::vector<double> w(logW.size());
    for (Eigen::Index k = 0; k < logW.size(); k++)
        w[k] = std::exp(logW[k]);
    std::discrete_distribution<Eigen::Index> byWeight(w.begin(), w.end());
    std::uniform_int_distribution<Eigen::Index> evenly(0, logW.size() - 1);
    MatrixXd centers(samples.numStatistics(), K);
    for (int k = 0; k < K; k++)
        centers.col(k) = samples.support().col(k % 2 ? byWeight(random) : evenly(random));
    Row row;
    for (int k = 0; k < K; k++)
        row.add(0, 5);
    for (int k = 0; k < K; k++)
        for (int i = 0; i < v.size(); i++)
            if (v[i].lifted())
                for (int a = 0; a < 2; a++)
                    row.add(FirstPrecision * centers(v.offset(i) + a, k), FirstPrecision);
    for (int k = 0; k < K; k++)
        for (int i = 0; i < v.size(); i++)
            if (!v[i].lifted())
                row.add(centers(v.offset(i), k), sd);
    for (int k = 0; k < K * v.numUnlifted(); k++)
        row.add(std::log(FirstPrecision / variance), 1);
    return row;
}

MixtureModel::Components unpack(const std::vector<float>& row, int K, int lifted, int unlifted) {
    const VectorXd values = Eigen::Map<const Eigen::VectorXf>(row.data(), static_cast<Eigen::Index>(row.size())).cast<double>();
    MixtureModel::Components c;
    c.logWeights = values.head(K);
    // Row-major [K x n] is column-major [n x K].
    c.tilt = Eigen::Map<const MatrixXd>(values.data() + K, 2 * lifted, K);
    c.mean = Eigen::Map<const MatrixXd>(values.data() + K * (1 + 2 * lifted), unlifted, K);
    c.precision = Eigen::Map<const MatrixXd>(values.data() + K * (1 + 2 * lifted + unlifted), unlifted, K).array().exp();
    return c;
}

/// FNV-1a over what is trained on: a checkpoint of other samples is none of ours.
std::string fingerprint(const EmpiricalModel& samples) {
    std::uint64_t hash = 0xcbf29ce484222325u;
    auto add = [&hash](const double* data, Eigen::Index count) {
        const auto* bytes = reinterpret_cast<const unsigned char*>(data);
        for (size_t i = 0; i < count * sizeof(double); i++)
            hash = (hash ^ bytes[i]) * 0x100000001b3u;
    };
    add(samples.support().data(), samples.support().size());
    add(samples.logWeights().data(), samples.logWeights().size());
    return std::to_string(hash);
}

double effectiveSamples(const EmpiricalModel& samples) {
    const double square = (2 * samples.logWeights().array()).exp().sum(), sum = samples.logWeights().array().exp().sum();
    return sum * sum / square;
}

/// Carries the user's callback, and what it throws, across a boundary that exceptions must not cross; keeps the checkpoint.
struct ProgressBridge {
    const TrainingOptions& options;
    const std::string& file;
    const json& key;
    std::int64_t stateSize;
    json losses = json::array();
    std::exception_ptr error = nullptr;
    std::chrono::steady_clock::time_point written = std::chrono::steady_clock::now();

    void save(const float* state) const {
        Safetensors checkpoint;
        json record = key;
        record["losses"] = losses;
        checkpoint.metadata = {{"format", "spacetime-checkpoint"}, {"training", record.dump()}};
        Safetensors::Tensor t;
        t.shape = {stateSize};
        t.values.assign(state, state + stateSize);
        checkpoint.tensors["state"] = std::move(t);
        checkpoint.write(file);
    }
    static int call(void* self, int step, double loss, double validation, double error, const float* state) {
        auto& bridge = *static_cast<ProgressBridge*>(self);
        try {
            bridge.losses.push_back({step, loss, validation, error});
            const bool goOn = !bridge.options.progress || bridge.options.progress(step, bridge.options.steps, loss, error);
            const auto now = std::chrono::steady_clock::now();
            if (step < bridge.options.steps && (!goOn || std::chrono::duration<double>(now - bridge.written).count() >= bridge.options.checkpointSeconds)) {
                bridge.save(state);
                bridge.written = now;
            }
            return goOn;
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
    p.minLogSnr = options.minLogSnr;
    p.maxLogSnr = options.maxLogSnr;
    p.temperature = options.temperature;
    TrainingResult result;
    result.effectiveSamples = effectiveSamples(samples);
    if (samples.limitedBySamples() && result.effectiveSamples < MinNEff)
        throw std::invalid_argument("Training: the weights leave " + text(result.effectiveSamples) + " effective samples of " + std::to_string(samples.logWeights().size()) +
                                    ", expected at least " + text(MinNEff) + ": a few frames hold nearly all the weight");
    const Variables& vars = p.variables;
    const int M = vars.numStatistics(), lifted = vars.numLifted(), unlifted = vars.numUnlifted();
    const Eigen::Index support = samples.support().cols();
    const int K = static_cast<int>(std::clamp<Eigen::Index>(support / 2, 1, options.components));
    const double perPoint = static_cast<double>(M) * M;
    const int points = static_cast<int>(std::min({static_cast<double>(options.points), LargestRows / perPoint, std::max(200.0, LargestWork / (perPoint * support))}));
    const int batch = options.batch > 0 ? options.batch : std::clamp(LargestStep / (K * vars.size()), LeastBatch, LargestBatch);

    std::mt19937_64 random(options.seed);
    const int threads = options.threads > 0 ? options.threads : std::max(1u, std::thread::hardware_concurrency());
    const MatrixXd eta = drawPoints(samples, {p.minLogSnr, p.maxLogSnr, p.low, p.high}, points + NumValidation, random);
    const std::vector<float> rows = trainingRows(samples, eta, threads, random, options.preparation);
    if (rows.empty())
        throw std::runtime_error("Training: stopped before anything was learned");
    const double preparation = seconds();
    const DrawnSamples drawn = drawSamples(samples, NumLikelihoodSamples, random);
    double share = 0;  // of the points that are well sampled
    for (int i = 0; i < points; i++)
        share += rows[(i + 1) * (rows.size() / (points + NumValidation)) - 1] / points;

    Row row = startingPoint(samples, K, random);
    const std::string checkpoint = options.checkpoint.empty() ? outFile + ".checkpoint" : options.checkpoint;
    const json key = {{"samples", fingerprint(samples)},
                      {"variables", vars.toJson()},
                      {"steps", options.steps},
                      {"batch", batch},
                      {"points", points},
                      {"components", K},
                      {"seed", options.seed},
                      {"learning_rate", options.learningRate},
                      {"averaging", options.averaging},
                      {"sobolev_weight", options.sobolevWeight},
                      {"log_snr_range", {p.minLogSnr, p.maxLogSnr}},
                      {"report_every", options.reportEvery}};
    const std::int64_t stateSize = spacetimeTorchStateSize(static_cast<std::int64_t>(row.values.size()));
    ProgressBridge bridge{options, checkpoint, key, stateSize};
    std::vector<float> state;
    if (options.resume) {
        Checkpoint before = Checkpoint::read(checkpoint, key, stateSize, "Training");
        bridge.losses = before.record.value("losses", json::array());
        state = std::move(before.state);
    }
    result.resumed = !state.empty();
    std::vector<std::int64_t> liftedRows, unliftedRows;
    for (int i = 0; i < vars.size(); i++)
        (vars[i].lifted() ? liftedRows : unliftedRows).push_back(vars.offset(i));
    SpacetimeTorchJob job{};
    job.numStatistics = M;
    job.numLifted = lifted;
    job.numUnlifted = unlifted;
    job.numComponents = K;
    job.liftedRows = liftedRows.data();
    job.unliftedRows = unliftedRows.data();
    job.numPoints = points;
    job.numValidation = NumValidation;
    job.rows = rows.data();
    job.numSamples = drawn.numKept;
    job.numHeldOut = drawn.numHeldOut;
    job.samples = drawn.rows.data();
    job.parameters = row.values.data();
    job.rates = row.rates.data();
    job.numParameters = static_cast<std::int64_t>(row.values.size());
    job.steps = options.steps;
    job.batch = batch;
    job.reportEvery = options.reportEvery;
    job.patience = options.patience;
    // Tensors this small gain nothing from a second thread, and lose much when another program wants the core.
    job.threads = options.threads > 0 ? options.threads : 1;
    job.seed = random();
    job.learningRate = options.learningRate;
    job.averaging = options.averaging;
    job.sobolevWeight = options.sobolevWeight;
    job.psiWeight = PsiWeight;
    job.likelihoodWeight = drawn.numHeldOut > 0 ? 1 - share : 0;
    job.device = options.device.c_str();
    job.progress = &ProgressBridge::call;
    job.user = &bridge;
    job.state = state.empty() ? nullptr : state.data();
    if (library.train(&job) != 0)
        throw std::runtime_error(std::string("Training: ") + job.error);
    if (bridge.error)
        std::rethrow_exception(bridge.error);

    result.steps = job.stepsDone;
    result.stopped = job.stopped != 0;
    result.finalLoss = job.loss;
    p.components = unpack(row.values, K, lifted, unlifted);

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
                       {"batch", batch},
                       {"points", points},
                       {"seed", options.seed},
                       {"learning_rate", options.learningRate},
                       {"averaging", options.averaging},
                       {"sobolev_weight", options.sobolevWeight},
                       {"likelihood_weight", job.likelihoodWeight},
                       {"device", options.device},
                       {"seconds", result.seconds},
                       {"seconds_preparation", preparation},
                       {"samples", support},
                       {"effective_samples", result.effectiveSamples},
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
    if (!result.stopped)
        std::filesystem::remove(checkpoint);
    return result;
}

}  // namespace Spacetime
