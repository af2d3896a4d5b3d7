// SPDX-License-Identifier: MIT
#include "spacetime/DenoiserModel.h"
#include "ModelFile.h"
#include "spacetime/Text.h"
#include <Eigen/Eigenvalues>
#include <algorithm>
#include <cmath>
#include <complex>
#include <nlohmann/json.hpp>
#include <random>
#include <stdexcept>

using Eigen::Index;
using Eigen::MatrixXd;
using Eigen::VectorXd;
using nlohmann::json;

namespace Spacetime {

namespace {

const double NaN = std::numeric_limits<double>::quiet_NaN();

const char* const Schedules[] = {"vp", "cosine", "ve", "edm", "flow"};
const char* const PredictionKinds[] = {"x0", "eps", "score", "v", "flow", "edm"};

template <size_t N>
std::string choose(const std::string& given, const char* const (&known)[N], const std::string& what) {
    std::string list;
    for (size_t i = 0; i < N; i++) {
        if (given == known[i])
            return given;
        list += std::string(i == 0 ? "" : i + 1 == N ? " or " : ", ") + known[i];
    }
    throw std::invalid_argument(what + ": expected " + list + ", got '" + given + "'");
}

/// How chat hangs together with the natural parameter at one l: chat = a eta_x + b P(q eta_x, level).
template <class Number>
struct Relation {
    Number a, b, q, level, noise;

    Relation(const DenoiserParameters& p, const Number& l) {
        using std::exp;
        using std::sqrt;
        Number alpha(1), sigma = exp(-0.5 * l);
        if (p.schedule == "vp" || p.schedule == "cosine") {
            alpha = 1.0 / sqrt(1.0 + exp(-l));
            sigma = 1.0 / sqrt(1.0 + exp(l));
        }
        else if (p.schedule == "flow") {
            alpha = 1.0 / (1.0 + exp(-0.5 * l));
            sigma = 1.0 / (1.0 + exp(0.5 * l));
        }
        const Number k = sigma * sigma / alpha;  // x = k eta_x
        level = l;
        q = k;
        noise = sigma;
        if (p.prediction == "x0") {
            a = 0.0;
            b = 1.0;
        }
        else if (p.prediction == "eps") {
            a = k / alpha;
            b = -sigma / alpha;
        }
        else if (p.prediction == "score") {
            a = k / alpha;
            b = k;
        }
        else if (p.prediction == "v") {
            const Number square = alpha * alpha + sigma * sigma;
            a = k * alpha / square;
            b = -sigma / square;
        }
        else if (p.prediction == "flow") {
            a = k / (alpha + sigma);
            b = -sigma / (alpha + sigma);
        }
        else {  // edm
            const double d = p.sigmaData;
            const Number s = sigma / alpha, square = s * s + d * d, in = 1.0 / sqrt(square);
            a = d * d / square * k / alpha;
            b = s * d * in;
            q = in * k / alpha;
            noise = in * s;
            level = -0.125 * l;
        }
    }
};

/// The relation and its derivative by l, exact to rounding: a complex step of 1e-30 leaves nothing to cancel.
struct RelationAndSlope {
    Relation<double> value;
    double da, db, dq, dlevel;

    RelationAndSlope(const DenoiserParameters& p, double l) : value(p, l) {
        const double h = 1e-30;
        const Relation<std::complex<double>> c(p, {l, h});
        da = c.a.imag() / h;
        db = c.b.imag() / h;
        dq = c.q.imag() / h;
        dlevel = c.level.imag() / h;
    }
};

}  // namespace

json DenoiserParameters::toJson() const {
    json j = {{"format", ModelFormat},    {"version", ModelVersion}, {"variables", variables.toJson()},         {"schedule", schedule},
              {"prediction", prediction}, {"sigma_data", sigmaData}, {"log_snr_range", {minLogSnr, maxLogSnr}}, {"temperature_K", temperature > 0 ? json(temperature) : json()}};
    if (dataMean.size() > 0)
        j["data_mean"] = std::vector<double>(dataMean.data(), dataMean.data() + dataMean.size());
    if (dataVariance > 0)
        j["data_variance"] = dataVariance;
    if (dataRange.size() > 0) {
        j["data_range"] = json::array();
        for (Index i = 0; i < dataRange.cols(); i++)
            j["data_range"].push_back(std::isnan(dataRange(0, i)) ? json() : json({dataRange(0, i), dataRange(1, i)}));
    }
    return j;
}

DenoiserParameters DenoiserParameters::fromJson(const json& j, const std::string& where) {
    const std::string key = where + ", key ";
    if (!j.is_object())
        throw std::invalid_argument(where + ": expected a JSON object");
    if (j.value("format", json()) != ModelFormat)
        throw std::invalid_argument(key + "'format': expected '" + ModelFormat + "', got " + j.value("format", json()).dump());
    if (const json version = j.value("version", json()); !version.is_number_integer() || version > ModelVersion)
        throw std::invalid_argument(key + "'version': this program reads up to " + std::to_string(ModelVersion) + ", got " + version.dump() +
                                    ": upgrade openmm-spacetime (pip install --upgrade openmm-spacetime)");
    std::string reading = "variables";
    try {
        DenoiserParameters p;
        p.variables = Variables::fromJson(j.at("variables"));
        p.schedule = j.at(reading = "schedule").get<std::string>();
        p.prediction = j.at(reading = "prediction").get<std::string>();
        p.sigmaData = j.value(reading = "sigma_data", p.sigmaData);
        const json& range = j.at(reading = "log_snr_range");
        if (!range.is_array() || range.size() != 2)
            throw std::invalid_argument("expected two numbers, got " + range.dump());
        p.minLogSnr = range[0].get<double>();
        p.maxLogSnr = range[1].get<double>();
        const json temperature = j.value(reading = "temperature_K", json());
        p.temperature = temperature.is_null() ? 0 : temperature.get<double>();
        const auto mean = j.value(reading = "data_mean", std::vector<double>());
        p.dataMean = VectorXd::Map(mean.data(), static_cast<Index>(mean.size()));
        p.dataVariance = j.value(reading = "data_variance", 0.0);
        const json ranges = j.value(reading = "data_range", json::array());
        if (!ranges.empty())
            p.dataRange = MatrixXd::Constant(2, static_cast<Index>(ranges.size()), NaN);
        for (size_t i = 0; i < ranges.size(); i++)
            if (!ranges[i].is_null())
                p.dataRange.col(i) << ranges[i].at(0).get<double>(), ranges[i].at(1).get<double>();
        return p;
    }
    catch (const json::exception& e) {
        throw std::invalid_argument(key + "'" + reading + "': " + e.what());
    }
    catch (const std::invalid_argument& e) {
        throw std::invalid_argument(key + "'" + reading + "': " + e.what());
    }
}

DenoiserModel::DenoiserModel(std::string className, DenoiserParameters parameters) : PosteriorModel(parameters.variables), name(std::move(className)), p(std::move(parameters)) {
    if (vars.size() == 0)
        throw std::invalid_argument(name + ": expected at least one variable");
    choose(p.schedule, Schedules, name + ": schedule");
    choose(p.prediction, PredictionKinds, name + ": prediction");
    if (!(p.minLogSnr < p.maxLogSnr) || !std::isfinite(p.minLogSnr) || !std::isfinite(p.maxLogSnr))
        throw std::invalid_argument(name + ": expected a log-SNR range of two finite numbers, the lower one first, got " + text(p.minLogSnr) + " to " + text(p.maxLogSnr));
    if (!(p.sigmaData > 0) || !std::isfinite(p.sigmaData))
        throw std::invalid_argument(name + ": expected a positive sigma_data, got " + text(p.sigmaData));
    if (!(p.temperature >= 0) || !std::isfinite(p.temperature))
        throw std::invalid_argument(name + ": expected a positive temperature in kelvin, got " + text(p.temperature));
    if (p.dataVariance == 0)
        p.dataVariance = p.prediction == "edm" ? p.sigmaData * p.sigmaData : 1;
    if (!(p.dataVariance > 0) || !std::isfinite(p.dataVariance))
        throw std::invalid_argument(name + ": expected a positive variance of the data, got " + text(p.dataVariance));
    if (p.dataMean.size() == 0)
        p.dataMean = VectorXd::Zero(vars.numUnlifted());
    if (p.dataMean.size() != vars.numUnlifted() || !p.dataMean.allFinite())
        throw std::invalid_argument(name + ": expected the data's mean of " + std::to_string(vars.numUnlifted()) + " unlifted variables, got " + textList(p.dataMean));
    if (p.dataRange.size() > 0 && (p.dataRange.rows() != 2 || p.dataRange.cols() != vars.size()))
        throw std::invalid_argument(name + ": expected a data range for each of " + std::to_string(vars.size()) + " variables, got " + std::to_string(p.dataRange.cols()));
    for (Index i = 0; i < p.dataRange.cols(); i++)
        if (!std::isnan(p.dataRange(0, i)) && !(p.dataRange(0, i) < p.dataRange(1, i)))
            throw std::invalid_argument(name + ": expected the data range of '" + vars[i].name + "' with the lower end first, got " + text(p.dataRange(0, i)) + " to " +
                                        text(p.dataRange(1, i)));
    first = vars.hasQuadratic() ? 1 : 0;
    D = vars.numStatistics() - first;
    unlifted = Eigen::ArrayXd::Zero(D);
    for (int i = 0; i < vars.size(); i++)
        if (!vars[i].lifted())
            unlifted[vars.offset(i) - first] = 1;
}

VectorXd DenoiserModel::logSnr(const MatrixXd& eta) const {
    VectorXd l(eta.cols());
    for (Index i = 0; i < eta.cols(); i++) {
        if (first == 0) {
            l[i] = std::clamp(std::log(eta.col(i).norm() / std::sqrt(vars.size())), p.minLogSnr, p.maxLogSnr);
            continue;
        }
        if (!(eta(0, i) < 0))
            throw std::invalid_argument(name + ": point " + std::to_string(i) + " has eta_l = " + text(eta(0, i)) +
                                        ", expected a negative number: a denoiser knows nothing of a log-SNR of minus infinity");
        l[i] = std::log(-2 * eta(0, i));
    }
    return l;
}

DenoiserModel::Denoised DenoiserModel::denoise(const MatrixXd& etaX, const VectorXd& l, bool derivatives) const {
    const Index n = etaX.cols();
    std::vector<RelationAndSlope> relations;
    relations.reserve(n);
    Inputs inputs{MatrixXd(D, n), VectorXd(n), VectorXd(n)};
    for (Index i = 0; i < n; i++) {
        relations.emplace_back(p, l[i]);
        inputs.x.col(i) = relations[i].value.q * etaX.col(i);
        inputs.level[i] = relations[i].value.level;
        inputs.noise[i] = relations[i].value.noise;
    }
    const Predictions raw = predict(inputs, derivatives);
    if (raw.values.rows() != D || raw.values.cols() != n || (derivatives && static_cast<Index>(raw.jacobian.size()) != n))
        throw std::logic_error(name + ": predictions of the wrong shape");
    Denoised out;
    out.mean.resize(D, n);
    if (derivatives) {
        out.byX.resize(n);
        out.byL.resize(D, n);
    }
    for (Index i = 0; i < n; i++) {
        const auto& r = relations[i];
        const auto value = raw.values.col(i);
        auto refuse = [&](const std::string& what, const VectorXd& got) {
            throw std::invalid_argument(name + ": the denoiser's " + what + " is not finite at log-SNR " + text(l[i]) + ", x = " + textList(VectorXd(inputs.x.col(i))) + ": got " +
                                        textList(got));
        };
        if (!value.allFinite())
            refuse("prediction", value);
        out.mean.col(i) = r.value.a * etaX.col(i) + r.value.b * value;
        if (!derivatives)
            continue;
        const MatrixXd& J = raw.jacobian[i];
        if (!J.allFinite())
            refuse("derivative", J.reshaped());
        out.byX[i] = (r.value.b * r.value.q) * J.leftCols(D);
        out.byX[i].diagonal().array() += r.value.a;
        out.byL.col(i) = r.da * etaX.col(i) + r.db * value + r.value.b * (r.dq * J.leftCols(D) * etaX.col(i) + r.dlevel * J.col(D));
    }
    return out;
}

Moments DenoiserModel::momentsAt(const MatrixXd& eta, bool covariance, double step) const {
    const Index n = eta.cols(), m = eta.rows();
    const VectorXd l = logSnr(eta);
    Moments out;
    out.mu.resize(m, n);
    if (covariance)
        out.J.resize(n);
    if (first == 0) {
        const Denoised at = denoise(eta, l, covariance);
        out.mu = at.mean;
        for (Index i = 0; covariance && i < n; i++) {
            out.J[i] = at.byX[i];
            if (l[i] > p.minLogSnr && l[i] < p.maxLogSnr)
                out.J[i] += at.byL.col(i) * eta.col(i).transpose() / eta.col(i).squaredNorm();
        }
        return out;
    }
    // Centres, then those moved in l by a step of a flat prior's Fisher length: it is no longer under any other.
    MatrixXd etaX = eta.bottomRows(D);
    VectorXd levels = l, h(n);
    if (covariance) {
        for (Index i = 0; i < n; i++)
            h[i] = step / std::sqrt(0.5 * vars.numUnlifted() + etaX.col(i).squaredNorm() * std::exp(-l[i]));
        etaX = etaX.replicate(1, 3).eval();
        levels.resize(3 * n);
        levels << l, l + h, l - h;
        addEvaluations(2 * n);
    }
    const Denoised at = denoise(etaX, levels, true);
    auto spread = [&](Index i) { return (at.byX[i].diagonal().array() * unlifted).sum(); };
    for (Index i = 0; i < n; i++) {
        const VectorXd mean = (at.mean.col(i).array() * unlifted).matrix();
        out.mu(0, i) = mean.squaredNorm() + spread(i);
        out.mu.col(i).tail(D) = at.mean.col(i);
        if (!covariance)
            continue;
        const double slope = 1 / eta(0, i);  // dl/d eta_l
        MatrixXd& J = out.J[i];
        J.resize(m, m);
        J.bottomRightCorner(D, D) = at.byX[i];
        J.col(0).tail(D) = slope * at.byL.col(i);
        J.row(0).tail(D) = J.col(0).tail(D).transpose();
        J(0, 0) = 2 * mean.dot(J.col(0).tail(D)) + slope * (spread(n + i) - spread(2 * n + i)) / (2 * h[i]);
    }
    return out;
}

MatrixXd DenoiserModel::computeDenoised(const MatrixXd& eta) const { return denoise(eta.bottomRows(D), logSnr(eta), false).mean; }

MeanProducts DenoiserModel::computeProducts(const MatrixXd& eta, const MatrixXd& direction) const {
    const Index n = eta.cols();
    const VectorXd l = logSnr(eta);
    const auto etaX = eta.bottomRows(D), alongEta = direction.bottomRows(D);
    std::vector<RelationAndSlope> relations;
    relations.reserve(n);
    Inputs inputs{MatrixXd(D, n), VectorXd(n), VectorXd(n)};
    MatrixXd alongX(D, n), values;
    VectorXd alongL(n), alongLevel(n);
    for (Index i = 0; i < n; i++) {
        const RelationAndSlope& r = relations.emplace_back(p, l[i]);
        if (first == 1)
            alongL[i] = direction(0, i) / eta(0, i);
        else
            alongL[i] = l[i] > p.minLogSnr && l[i] < p.maxLogSnr ? eta.col(i).dot(direction.col(i)) / eta.col(i).squaredNorm() : 0;
        inputs.x.col(i) = r.value.q * etaX.col(i);
        inputs.level[i] = r.value.level;
        inputs.noise[i] = r.value.noise;
        alongX.col(i) = r.value.q * alongEta.col(i) + (r.dq * alongL[i]) * etaX.col(i);
        alongLevel[i] = r.dlevel * alongL[i];
    }
    const MatrixXd slopes = predictAlong(inputs, alongX, alongLevel, values);
    MeanProducts out{MatrixXd(D, n), MatrixXd(D, n)};
    for (Index i = 0; i < n; i++) {
        const RelationAndSlope& r = relations[i];
        out.mean.col(i) = r.value.a * etaX.col(i) + r.value.b * values.col(i);
        out.product.col(i) = r.value.a * alongEta.col(i) + r.value.b * slopes.col(i) + alongL[i] * (r.da * etaX.col(i) + r.db * values.col(i));
        if (!out.mean.col(i).allFinite() || !out.product.col(i).allFinite())
            throw std::invalid_argument(name + ": the denoiser's prediction or its derivative is not finite at log-SNR " + text(l[i]) +
                                        ", x = " + textList(VectorXd(inputs.x.col(i))));
    }
    return out;
}

MatrixXd DenoiserModel::predictAlong(const Inputs& inputs, const MatrixXd& alongX, const VectorXd& alongLevel, MatrixXd& values) const {
    const Index n = inputs.x.cols();
    const double levelScale = p.prediction == "edm" ? 0.125 : 1.0, relative = std::cbrt(predictionError());
    const double coordinates = std::sqrt(static_cast<double>(std::min<Index>(D, 64)));
    // Both sides, then the points themselves. A step moves the level by a share of its scale at most, and x by that share of the noise of its coordinates in all.
    Inputs moved{inputs.x.replicate(1, 3), inputs.level.replicate(3, 1), inputs.noise.replicate(3, 1)};
    VectorXd h = VectorXd::Zero(n);
    for (Index i = 0; i < n; i++) {
        const double reach = std::max(alongX.col(i).norm() / inputs.noise[i] / coordinates, std::abs(alongLevel[i]) / levelScale);
        if (reach == 0)
            continue;
        h[i] = relative / reach;
        moved.x.col(i) += h[i] * alongX.col(i);
        moved.x.col(n + i) -= h[i] * alongX.col(i);
        moved.level[i] += h[i] * alongLevel[i];
        moved.level[n + i] -= h[i] * alongLevel[i];
    }
    const Predictions at = predict(moved, false);
    addEvaluations(2 * n);
    values = at.values.rightCols(n);
    MatrixXd out = MatrixXd::Zero(D, n);
    for (Index i = 0; i < n; i++)
        if (h[i] > 0)
            out.col(i) = (at.values.col(i) - at.values.col(n + i)) / (2 * h[i]);
    return out;
}

int DenoiserModel::disagreeingProducts(const Inputs& trials) const {
    const Index n = trials.x.cols();
    const double levelScale = p.prediction == "edm" ? 0.125 : 1.0, tolerance = predictionError() > 1e-10 ? 0.05 : 0.01;
    // What rounding leaves of differences whose step is that of the default.
    const double rounding = 50 * std::pow(predictionError(), 2.0 / 3), coordinates = std::sqrt(static_cast<double>(std::min<Index>(D, 64)));
    std::mt19937_64 random(2);
    std::normal_distribution<double> normal;
    MatrixXd direction(D, n);
    for (Index i = 0; i < n; i++) {
        for (int j = 0; j < D; j++)
            direction(j, i) = normal(random);
        direction.col(i) *= trials.noise[i] / direction.col(i).norm();
    }
    Eigen::ArrayX<bool> wrong = Eigen::ArrayX<bool>::Constant(n, false);
    for (const bool byLevel : {false, true}) {
        const MatrixXd alongX = byLevel ? MatrixXd(MatrixXd::Zero(D, n)) : direction;
        const VectorXd alongLevel = VectorXd::Constant(n, byLevel ? levelScale : 0.0);
        MatrixXd values, expectedValues;
        const MatrixXd given = predictAlong(trials, alongX, alongLevel, values), expected = DenoiserModel::predictAlong(trials, alongX, alongLevel, expectedValues);
        for (Index i = 0; i < n; i++) {
            const double size = 1 + expectedValues.col(i).norm();
            wrong[i] = wrong[i] || !((given.col(i) - expected.col(i)).norm() <= tolerance * expected.col(i).norm() + rounding / (byLevel ? 1 : coordinates) * size) ||
                       !((values.col(i) - expectedValues.col(i)).norm() <= 100 * predictionError() * size);
        }
    }
    return static_cast<int>(wrong.count());
}

Moments DenoiserModel::compute(const MatrixXd& eta, Order order, const MatrixXd* direction) const {
    if (D > MaxJacobian)
        throw std::invalid_argument(name + ": moments() of " + std::to_string(D) + " coordinates would need Jacobians of as many columns, which are made of at most " +
                                    std::to_string(MaxJacobian) + ": use denoised() and products(), and measureWithProbes() and matrixFreeGeodesic() for lengths and geodesics");
    Moments out = momentsAt(eta, order >= Order::Covariance, std::cbrt(derivativeError()));
    if (order != Order::Third)
        return out;
    const Index n = eta.cols(), m = eta.rows();
    auto symmetric = [](const MatrixXd& J) { return MatrixXd(0.5 * (J + J.transpose())); };
    // Second differences, of tr H_xx by l and along the direction: steps at which rounding and curvature balance. They are measured in Fisher length,
    // but go no further than a tenth of the noise where the posterior is so narrow that nothing is long.
    const double step = 2 * std::pow(derivativeError(), 0.25);
    const VectorXd l = logSnr(eta);
    VectorXd h(n);
    MatrixXd moved(m, 2 * n);
    for (Index i = 0; i < n; i++) {
        const VectorXd w = direction->col(i);
        const Eigen::SelfAdjointEigenSolver<MatrixXd> metric(symmetric(out.J[i]));
        const double length = std::sqrt((metric.eigenvalues().cwiseAbs().array() * (metric.eigenvectors().transpose() * w).array().square()).sum());
        const double reach = std::max(w.tail(D).norm() * std::exp(-0.5 * l[i]), first == 1 ? std::abs(w[0] / eta(0, i)) : 0.0);
        h[i] = reach > 0 ? std::min(step / length, 0.1 / reach) : 0;
        moved.col(i) = eta.col(i) + h[i] * w;
        moved.col(n + i) = eta.col(i) - h[i] * w;
    }
    addEvaluations(2 * n);
    const Moments sides = momentsAt(moved, true, step);
    out.third.resize(n);
    for (Index i = 0; i < n; i++)
        out.third[i] = h[i] > 0 ? MatrixXd(symmetric(sides.J[i] - sides.J[n + i]) / (2 * h[i])) : MatrixXd::Zero(m, m);
    return out;
}

DenoiserModel::Predictions DenoiserModel::differences(const Inputs& inputs, double valueError) const {
    const Index n = inputs.x.cols(), sides = 2 * (D + 1);
    const double step = std::cbrt(valueError);
    Inputs moved{inputs.x.replicate(1, sides), inputs.level.replicate(sides, 1), inputs.noise.replicate(sides, 1)};
    const double levelStep = step * (p.prediction == "edm" ? 0.125 : 1.0);
    for (int j = 0; j <= D; j++)
        for (Index i = 0; i < n; i++) {
            const Index plus = 2 * j * n + i, minus = plus + n;
            if (j < D) {
                moved.x(j, plus) += step * inputs.noise[i];
                moved.x(j, minus) -= step * inputs.noise[i];
            }
            else {
                moved.level[plus] += levelStep;
                moved.level[minus] -= levelStep;
            }
        }
    const Predictions at = predict(moved, false);
    Predictions out = predict(inputs, false);
    out.jacobian.assign(n, MatrixXd(D, D + 1));
    for (int j = 0; j <= D; j++)
        for (Index i = 0; i < n; i++) {
            const Index plus = 2 * j * n + i, minus = plus + n;
            // The steps as rounding left them.
            const double width = j < D ? moved.x(j, plus) - moved.x(j, minus) : moved.level[plus] - moved.level[minus];
            out.jacobian[i].col(j) = (at.values.col(plus) - at.values.col(minus)) / width;
        }
    addEvaluations(n * sides);
    return out;
}

DenoiserModel::Inputs DenoiserModel::trialInputs(int n) const {
    std::mt19937_64 random(1);
    std::normal_distribution<double> normal;
    Inputs inputs{MatrixXd(D, n), VectorXd(n), VectorXd(n)};
    VectorXd center = VectorXd::Zero(D);
    for (int i = 0, u = 0; i < vars.size(); i++)
        if (!vars[i].lifted())
            center[vars.offset(i) - first] = p.dataMean[u++];
    for (int i = 0; i < n; i++) {
        const double l = p.minLogSnr + (p.maxLogSnr - p.minLogSnr) * (i + 0.5) / n;
        const Relation<double> r(p, l);
        for (int j = 0; j < D; j++) {
            const double spread = unlifted[j] > 0 ? std::sqrt(p.dataVariance) : std::sqrt(0.5);
            inputs.x(j, i) = r.q * std::exp(l) * (center[j] + std::hypot(spread, std::exp(-0.5 * l)) * normal(random));
        }
        inputs.level[i] = r.level;
        inputs.noise[i] = r.noise;
    }
    return inputs;
}

void DenoiserModel::checkRange(const VectorXd& eta, const std::string& what) const {
    if (eta.size() != numStatistics() || !eta.allFinite())
        throw std::invalid_argument(name + ": expected " + what + " as " + std::to_string(numStatistics()) + " finite numbers");
    auto refuse = [&](const std::string& why) { throw std::invalid_argument(name + ": " + what + " lies outside what the model was trained on: " + why); };
    const VectorXd center = vars.center(eta);
    if (first == 1) {
        if (!(eta[0] < 0))
            refuse("eta_l is " + text(eta[0]) + ", expected a negative number (a finite log-SNR)");
        const double l = std::log(-2 * eta[0]);
        if (!(l >= p.minLogSnr - LogSnrTolerance && l <= p.maxLogSnr + LogSnrTolerance))
            refuse("log-SNR " + text(l) + ", expected " + text(p.minLogSnr) + " to " + text(p.maxLogSnr));
    }
    for (int i = 0; i < vars.size(); i++) {
        const Variable& v = vars[i];
        if (v.lifted()) {
            const double kappa = eta.segment<2>(vars.offset(i)).norm(), most = std::exp(p.maxLogSnr + LogSnrTolerance);
            if (!(kappa <= most))
                refuse("'" + v.name + "' has kappa " + text(kappa) + ", expected at most " + text(most));
        }
        else if (p.dataRange.size() > 0 && !std::isnan(p.dataRange(0, i))) {
            const double low = p.dataRange(0, i), high = p.dataRange(1, i), margin = RangeMargin * (high - low);
            if (!(center[i] >= low - margin && center[i] <= high + margin))
                refuse("'" + v.name + "' = " + text(center[i]) + ", the data span " + text(low) + " to " + text(high));
        }
    }
}

}  // namespace Spacetime
