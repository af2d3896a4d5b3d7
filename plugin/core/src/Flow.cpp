// SPDX-License-Identifier: MIT
#include "spacetime/Flow.h"
#include "Dop853.h"
#include "spacetime/DensityPath.h"
#include "spacetime/Text.h"
#include <Eigen/Cholesky>
#include <Eigen/Eigenvalues>
#include <Eigen/LU>
#include <algorithm>
#include <cmath>
#include <random>
#include <stdexcept>

using Eigen::Index;
using Eigen::MatrixXd;
using Eigen::VectorXd;

namespace Spacetime {

namespace {

using Order = PosteriorModel::Order;

/// Steps of log sigma: the first, the one below which the integration is stuck, and how many are worth waiting for.
const double FirstStep = 0.05, MinStep = 1e-10;
const int MaxSteps = 100000;
/// Rounding of a log-SNR that lies on the edge of a trained range.
const double LogSnrTolerance = 1e-9;
/// log-SNR, for data of unit variance, of noise of 300 of their standard deviations: the skewness left in the marginal is 4e-8 of the data's.
const double BaseLogSnr = -11.407564949312402;

/// First row of the coordinates in mu and eta.
int firstRow(const Variables& vars) { return vars.hasQuadratic() ? 1 : 0; }

/// Natural parameters of points that each have a log-SNR of their own.
MatrixXd naturalParameters(const Variables& vars, const MatrixXd& y, const VectorXd& logSnr) {
    const VectorXd precision = logSnr.array().exp();
    MatrixXd eta(vars.numStatistics(), y.cols());
    if (vars.hasQuadratic())
        eta.row(0) = -0.5 * precision.transpose();
    eta.bottomRows(y.rows()) = y * precision.asDiagonal();
    return eta;
}

void checkLogSnr(const PosteriorModel& model, double logSnr, const std::string& where) {
    if (!std::isfinite(logSnr))
        throw std::invalid_argument(where + ": expected a finite log-SNR, got " + text(logSnr));
    if (!(logSnr >= model.minLogSnr() - LogSnrTolerance))
        throw std::invalid_argument(where + ": the model was trained down to a log-SNR of " + text(model.minLogSnr()) + ", got " + text(logSnr));
}

void checkPoints(const PosteriorModel& model, const MatrixXd& y, const std::string& where) {
    const int D = flowDimension(model.variables());
    if (y.rows() != D)
        throw std::invalid_argument(where + ": expected points of " + std::to_string(D) + " coordinates (one an unlifted variable, cos and sin a lifted one), got " +
                                    std::to_string(y.rows()));
    for (Index k = 0; k < y.cols(); k++)
        if (!y.col(k).allFinite())
            throw std::invalid_argument(where + ": point " + std::to_string(k) + " holds a value that is not finite");
}

void checkOptions(const FlowOptions& options, const std::string& where) {
    if (options.steps < 1 || !(options.tolerance > 0))
        throw std::invalid_argument(where + ": expected at least 1 step and a positive tolerance, got " + std::to_string(options.steps) + " and " + text(options.tolerance));
}

double cleanLogSnr(const PosteriorModel& model, double given) { return std::isnan(given) ? model.dataLogSnr() : given; }

double noisiestLogSnr(const PosteriorModel& model, double given) { return std::isnan(given) ? std::max(BaseLogSnr - std::log(model.dataVariance()), model.minLogSnr()) : given; }

void report(const std::function<bool(double)>& progress, double fraction, const std::string& where) {
    if (progress && !progress(fraction))
        throw std::runtime_error(where + ": stopped before the end, nothing came of it");
}

/// What is carried along the flow beside y: one row of log-density, D^2 rows of a Jacobian.
enum class Carried { Nothing, Density, Jacobian };

/// Integrates a state [D + ... x K] between two log-SNRs. tau = log sigma = -l/2 is the time.
class Integrator {
public:
    Integrator(const PosteriorModel& m, Carried c, const FlowOptions& o, std::string name)
        : model(m), carried(c), options(o), where(std::move(name)), D(flowDimension(m.variables())) {}

    int steps = 0;

    MatrixXd run(MatrixXd state, double fromLogSnr, double toLogSnr) {
        checkOptions(options, where);
        checkPoints(model, state.topRows(D), where);
        checkLogSnr(model, fromLogSnr, where);
        checkLogSnr(model, toLogSnr, where);
        if (fromLogSnr == toLogSnr || state.cols() == 0)
            return state;
        const double from = -0.5 * fromLogSnr, to = -0.5 * toLogSnr;
        return options.solver == FlowOptions::Solver::Heun ? heun(std::move(state), from, to) : adaptive(std::move(state), from, to);
    }

private:
    /// d state/dtau: sigma times that of the ODE in sigma.
    bool slopes(const VectorXd& tau, const MatrixXd& state, MatrixXd& slope) const {
        const Variables& vars = model.variables();
        const Index n = state.cols(), first = firstRow(vars);
        if (!state.allFinite())
            return false;
        const VectorXd logSnr = -2 * tau;
        const MatrixXd eta = naturalParameters(vars, state.topRows(D), logSnr);
        slope.resize(state.rows(), n);
        if (carried == Carried::Nothing) {
            // Not as a part of mu, whose first entry costs a denoiser D derivatives.
            slope = state - model.denoised(eta);
            return slope.allFinite();
        }
        const Moments m = model.moments(eta, Order::Covariance);
        slope.topRows(D) = state.topRows(D) - m.mu.bottomRows(D);
        for (Index k = 0; k < n; k++) {
            const MatrixXd drift = MatrixXd::Identity(D, D) - std::exp(logSnr[k]) * m.J[k].block(first, first, D, D);
            if (carried == Carried::Density)
                slope(D, k) = -drift.trace();
            else
                MatrixXd::Map(slope.col(k).data() + D, D, D) = drift * MatrixXd::Map(state.col(k).data() + D, D, D);
        }
        return slope.allFinite();
    }

    [[noreturn]] void stuck(Index point, double tau) const {
        throw std::invalid_argument(where + ": point " + std::to_string(point) + " cannot be carried past log-SNR " + text(-2 * tau) +
                                    ": its steps became too small. Raise the tolerance, or give samples a bandwidth");
    }

    [[noreturn]] void overflowed(double tau) const {
        throw std::invalid_argument(where + ": the flow is not finite at log-SNR " + text(-2 * tau) +
                                    ": expected coordinates of the size of the data and, with Heun's method, more than " + std::to_string(options.steps) + " steps");
    }

    MatrixXd heun(MatrixXd state, double from, double to) {
        const Index n = state.cols();
        MatrixXd before, after;
        for (int i = 0; i < options.steps; i++) {
            const double t0 = from + (to - from) * i / options.steps, t1 = from + (to - from) * (i + 1) / options.steps;
            const double s0 = std::exp(t0), s1 = std::exp(t1), h = s1 - s0;
            if (!slopes(VectorXd::Constant(n, t0), state, before))
                overflowed(t0);
            const MatrixXd guess = state + h / s0 * before;
            if (!slopes(VectorXd::Constant(n, t1), guess, after))
                overflowed(t1);
            state += 0.5 * h * (before / s0 + after / s1);
            report(options.progress, (i + 1.0) / options.steps, where);
        }
        steps = options.steps;
        return state;
    }

    /// Size of an error relative to what is tolerated.
    double size(const Eigen::Ref<const VectorXd>& error, const Eigen::Ref<const VectorXd>& state, double tau) const {
        double value = error.head(D).cwiseAbs().maxCoeff() / std::hypot(std::sqrt(model.dataVariance()), std::exp(tau));
        if (carried == Carried::Density)
            value = std::max(value, std::abs(error[D]));
        else if (carried == Carried::Jacobian)
            value = std::max(value, error.tail(D * D).cwiseAbs().maxCoeff() / state.tail(D * D).cwiseAbs().maxCoeff());
        return value / options.tolerance;
    }

    MatrixXd adaptive(MatrixXd state, double from, double to) {
        const Index K = state.cols();
        const double sign = to > from ? 1 : -1, length = std::abs(to - from);
        // Every point takes its own steps; all that are under way share the evaluations of the model.
        VectorXd time = VectorXd::Constant(K, from), planned = VectorXd::Constant(K, std::min(FirstStep, length));
        std::vector<bool> refused(K, false);
        std::vector<int> taken(K, 0);
        std::vector<Index> active(K);
        for (Index k = 0; k < K; k++)
            active[k] = k;
        auto f = [this](const VectorXd& t, const MatrixXd& y, MatrixXd& slope) { return slopes(t, y, slope); };
        MatrixXd slope;
        if (!slopes(time, state, slope))
            overflowed(from);
        Dop853::Step step;
        while (!active.empty()) {
            const Index n = active.size();
            MatrixXd y(state.rows(), n), first(state.rows(), n);
            VectorXd t(n), h(n);
            for (Index j = 0; j < n; j++) {
                const Index k = active[j];
                y.col(j) = state.col(k);
                first.col(j) = slope.col(k);
                t[j] = time[k];
                const double left = std::abs(to - t[j]);
                h[j] = sign * (1.01 * planned[k] >= left ? left : planned[k]);
            }
            const bool whole = Dop853::step(f, t, y, first, h, step);
            std::vector<Index> rest;
            for (Index j = 0; j < n; j++) {
                const Index k = active[j];
                if (++taken[k] > MaxSteps)
                    stuck(k, t[j]);
                double error = std::numeric_limits<double>::infinity();
                if (whole)
                    error = Dop853::error(size(step.error3.col(j), y.col(j), t[j]), size(step.error5.col(j), y.col(j), t[j]));
                if (!(error <= 1)) {
                    planned[k] = std::abs(h[j]) * Dop853::shrink(error);
                    if (planned[k] < MinStep)
                        stuck(k, t[j]);
                    refused[k] = true;
                    rest.push_back(k);
                    continue;
                }
                const bool last = h[j] == to - t[j];
                state.col(k) = step.end.col(j);
                slope.col(k) = step.slope.col(j);
                time[k] = last ? to : t[j] + h[j];
                planned[k] = std::abs(h[j]) * Dop853::grow(error, refused[k]);
                refused[k] = false;
                if (!last)
                    rest.push_back(k);
            }
            active.swap(rest);
            report(options.progress, (time.array() - from).abs().sum() / (K * length), where);
        }
        steps = *std::max_element(taken.begin(), taken.end());
        return state;
    }

    const PosteriorModel& model;
    const Carried carried;
    const FlowOptions& options;
    const std::string where;
    const int D;
};

/// The noisy marginal as a Gaussian, N(mean, covariance + sigma^2), by the moments at (logSnr, y = 0).
struct GaussianBase {
    VectorXd mean;
    MatrixXd covariance, marginal;
    Eigen::LLT<MatrixXd> factor;

    GaussianBase(const PosteriorModel& model, double logSnr, const std::string& where) {
        const Variables& vars = model.variables();
        const int D = flowDimension(vars);
        const Index first = firstRow(vars);
        const double precision = std::exp(logSnr);
        const Moments m = model.moments(flowNaturalParameter(vars, MatrixXd::Zero(D, 1), logSnr));
        const MatrixXd C = 0.5 * (m.J[0] + m.J[0].transpose()).block(first, first, D, D);
        // The tilt at y = 0 narrows unlifted variables by e^l, and leaves lifted ones alone, whose |c|^2 is constant.
        VectorXd tilt = VectorXd::Zero(D);
        for (int i = 0; i < vars.size(); i++)
            if (!vars[i].lifted())
                tilt[vars.offset(i) - first] = precision;
        const Eigen::PartialPivLU<MatrixXd> undo(MatrixXd::Identity(D, D) - C * tilt.asDiagonal());
        covariance = undo.solve(C);
        covariance = 0.5 * (covariance + covariance.transpose()).eval();
        mean = undo.solve(m.mu.col(0).tail(D));
        marginal = covariance + MatrixXd::Identity(D, D) / precision;
        factor.compute(marginal);
        if (factor.info() != Eigen::Success || !marginal.allFinite() || !(Eigen::SelfAdjointEigenSolver<MatrixXd>(covariance).eigenvalues().minCoeff() > -1e-6 / precision))
            throw std::invalid_argument(where + ": the marginal at log-SNR " + text(logSnr) +
                                        " is no Gaussian: expected a noise of several standard deviations of the data there, log-SNR below " +
                                        text(-std::log(model.dataVariance()) - 4));
    }

    double logDensity(const VectorXd& y) const {
        const VectorXd white = factor.matrixL().solve(y - mean);
        return -0.5 * white.squaredNorm() - factor.matrixLLT().diagonal().array().log().sum() - 0.5 * mean.size() * std::log(2 * M_PI);
    }
    /// E[c|y], were the data Gaussian.
    VectorXd denoised(const VectorXd& y) const { return mean + covariance * factor.solve(y - mean); }
};

/// Curve from the decoded points on.
void finish(PullbackCurve& curve) {
    const Index N = curve.decoded.cols() - 1;
    const VectorXd a = curve.decoded.col(0), ab = curve.decoded.col(N) - a;
    curve.energy = N * (curve.decoded.rightCols(N) - curve.decoded.leftCols(N)).squaredNorm();
    curve.segmentEnergy = ab.squaredNorm();
    curve.deviation = 0;
    for (Index i = 1; i < N && curve.segmentEnergy > 0; i++) {
        const VectorXd d = curve.decoded.col(i) - a;
        const double along = std::clamp(d.dot(ab) / curve.segmentEnergy, 0.0, 1.0);
        curve.deviation = std::max(curve.deviation, (d - along * ab).norm() / std::sqrt(curve.segmentEnergy));
    }
}

MatrixXd latentEnds(const PosteriorModel& model, const VectorXd& yA, const VectorXd& yB, const PullbackOptions& options, const std::string& where) {
    if (options.numPoints < 3 || options.maxIterations < 1 || !(options.tolerance > 0))
        throw std::invalid_argument(where + ": expected at least 3 points and 1 iteration and a positive tolerance, got " + std::to_string(options.numPoints) + ", " +
                                    std::to_string(options.maxIterations) + " and " + text(options.tolerance));
    for (const VectorXd* y : {&yA, &yB})
        checkPoints(model, *y, where);
    MatrixXd ends(yA.size(), 2);
    ends << yA, yB;
    return ends;
}

}  // namespace

int flowDimension(const Variables& variables) { return variables.numUnlifted() + 2 * variables.numLifted(); }

MatrixXd flowCoordinates(const Variables& variables, const MatrixXd& raw) { return variables.statistic(raw).bottomRows(flowDimension(variables)); }

MatrixXd rawCoordinates(const Variables& variables, const MatrixXd& coordinates) {
    VectorXd mu = VectorXd::Zero(variables.numStatistics());
    MatrixXd raw(variables.size(), coordinates.cols());
    for (Index k = 0; k < coordinates.cols(); k++) {
        mu.tail(coordinates.rows()) = coordinates.col(k);
        raw.col(k) = variables.meanPosition(mu);
    }
    return raw;
}

MatrixXd flowNaturalParameter(const Variables& variables, const MatrixXd& y, double logSnr) {
    if (y.rows() != flowDimension(variables))
        throw std::invalid_argument("flowNaturalParameter: expected points of " + std::to_string(flowDimension(variables)) + " coordinates, got " + std::to_string(y.rows()));
    return naturalParameters(variables, y, VectorXd::Constant(y.cols(), logSnr));
}

FlowResult transport(const PosteriorModel& model, const MatrixXd& y, double fromLogSnr, double toLogSnr, const FlowOptions& options) {
    const long before = PosteriorModel::evaluationsOfThread();
    checkPoints(model, y, "transport");
    Integrator integrator(model, Carried::Nothing, options, "transport");
    FlowResult result;
    result.y = integrator.run(y, fromLogSnr, toLogSnr);
    result.steps = integrator.steps;
    result.evaluations = PosteriorModel::evaluationsOfThread() - before;
    return result;
}

namespace {

/// Encoding or decoding between `clean` and `logSnr`, which must lie in this order.
double checkDirection(const PosteriorModel& model, double logSnr, const FlowOptions& options, const std::string& where) {
    const double clean = cleanLogSnr(model, options.dataLogSnr);
    checkLogSnr(model, logSnr, where);
    checkLogSnr(model, clean, where);
    if (!(logSnr < clean))
        throw std::invalid_argument(where + ": expected a log-SNR below that of clean data, " + text(clean) + ", got " + text(logSnr));
    return clean;
}

/// Few effective samples are for the caller to judge; a model that samples do not limit must know the points.
double checkClean(const PosteriorModel& model, const MatrixXd& y, double logSnr, bool refuse) {
    const MatrixXd eta = flowNaturalParameter(model.variables(), y, logSnr);
    if (model.limitedBySamples()) {
        const VectorXd nEff = model.moments(eta, Order::Mean).nEff;
        return nEff.size() ? nEff.minCoeff() : std::numeric_limits<double>::quiet_NaN();
    }
    for (Index k = 0; k < y.cols() && refuse; k++)
        model.checkRange(eta.col(k), "point " + std::to_string(k));
    return std::numeric_limits<double>::quiet_NaN();
}

}  // namespace

FlowResult encode(const PosteriorModel& model, const MatrixXd& raw, double logSnr, const FlowOptions& options) {
    const long before = PosteriorModel::evaluationsOfThread();
    const MatrixXd y = flowCoordinates(model.variables(), raw);
    const double clean = checkDirection(model, logSnr, options, "encode");
    FlowResult result;
    result.minNEff = checkClean(model, y, clean, true);
    Integrator integrator(model, Carried::Nothing, options, "encode");
    result.y = integrator.run(y, clean, logSnr);
    result.steps = integrator.steps;
    result.evaluations = PosteriorModel::evaluationsOfThread() - before;
    return result;
}

FlowResult decode(const PosteriorModel& model, const MatrixXd& y, double logSnr, const FlowOptions& options) {
    const long before = PosteriorModel::evaluationsOfThread();
    const double clean = checkDirection(model, logSnr, options, "decode");
    checkPoints(model, y, "decode");
    Integrator integrator(model, Carried::Nothing, options, "decode");
    FlowResult result;
    result.y = integrator.run(y, logSnr, clean);
    result.minNEff = checkClean(model, result.y, clean, false);
    result.steps = integrator.steps;
    result.evaluations = PosteriorModel::evaluationsOfThread() - before;
    return result;
}

LikelihoodResult logLikelihood(const PosteriorModel& model, const MatrixXd& y, double logSnr, const LikelihoodOptions& options) {
    const long before = PosteriorModel::evaluationsOfThread();
    const Variables& vars = model.variables();
    const int D = flowDimension(vars);
    checkPoints(model, y, "logLikelihood");
    checkLogSnr(model, logSnr, "logLikelihood");
    LikelihoodResult result;
    if (model.isExact() && model.hasPsi() && !options.integrate) {
        const double precision = std::exp(logSnr);
        const VectorXd psi = model.moments(flowNaturalParameter(vars, y, logSnr), Order::Mean).psi;
        result.logDensity = psi.array() - 0.5 * D * (std::log(2 * M_PI) - logSnr) - 0.5 * precision * (y.colwise().squaredNorm().transpose().array() + vars.numLifted());
    }
    else {
        const double base = noisiestLogSnr(model, options.baseLogSnr);
        if (!(base < logSnr))
            throw std::invalid_argument("logLikelihood: expected a base below the log-SNR of the points, " + text(logSnr) + ", got " + text(base));
        checkLogSnr(model, base, "logLikelihood");
        const GaussianBase gaussian(model, base, "logLikelihood");
        MatrixXd state = MatrixXd::Zero(D + 1, y.cols());
        state.topRows(D) = y;
        state = Integrator(model, Carried::Density, options.flow, "logLikelihood").run(state, logSnr, base);
        const MatrixXd mu = model.moments(flowNaturalParameter(vars, state.topRows(D), base), Order::Mean).mu;
        result.logDensity.resize(y.cols());
        for (Index k = 0; k < y.cols(); k++) {
            const VectorXd end = state.col(k).head(D);
            result.logDensity[k] = gaussian.logDensity(end) - state(D, k);
            result.truncation = std::max(result.truncation, std::exp(base) * std::abs((mu.col(k).tail(D) - gaussian.denoised(end)).dot(end - gaussian.mean)));
        }
    }
    result.evaluations = PosteriorModel::evaluationsOfThread() - before;
    return result;
}

MatrixXd sampleReverseSde(const PosteriorModel& model, int count, const SamplingOptions& options) {
    const std::string where = "sampleReverseSde";
    if (count < 1 || options.steps < 1)
        throw std::invalid_argument(where + ": expected at least 1 sample and 1 step, got " + std::to_string(count) + " and " + std::to_string(options.steps));
    const double start = noisiestLogSnr(model, options.startLogSnr), clean = cleanLogSnr(model, options.dataLogSnr);
    checkLogSnr(model, start, where);
    checkLogSnr(model, clean, where);
    if (!(start < clean))
        throw std::invalid_argument(where + ": expected a start below the log-SNR of clean data, " + text(clean) + ", got " + text(start));
    const Variables& vars = model.variables();
    const int D = flowDimension(vars);
    const Index first = firstRow(vars);

    std::vector<std::mt19937_64> generators;
    std::normal_distribution<double> normal;
    for (int k = 0; k < count; k++) {
        std::seed_seq seeds{options.seed, static_cast<unsigned>(k)};
        generators.emplace_back(seeds);
    }
    MatrixXd noise(D, count);
    auto draw = [&] {
        for (int k = 0; k < count; k++) {
            normal.reset();  // a distribution keeps half of a pair of numbers, which belongs to another sample
            for (int i = 0; i < D; i++)
                noise(i, k) = normal(generators[k]);
        }
    };
    draw();
    MatrixXd y;
    if (options.covariance || model.isExact() || vars.numLifted() > 0) {
        const GaussianBase base(model, start, where);
        y = (base.factor.matrixL() * noise).colwise() + base.mean;
    }
    else  // a denoiser's covariance costs D products, and may have negative eigenvalues; next to noise of many standard deviations its shape is all the same
        y = (std::sqrt(model.dataVariance() + std::exp(-start)) * noise).colwise() + VectorXd(model.denoised(flowNaturalParameter(vars, MatrixXd::Zero(D, 1), start)).col(0));
    for (int step = 0; step <= options.steps; step++) {
        // The step after the last of the grid takes what noise is left.
        const bool last = step == options.steps;
        const double l0 = start + (clean - start) * step / options.steps, variance = last ? 0 : std::exp(-(start + (clean - start) * (step + 1) / options.steps));
        const double r = variance * std::exp(l0);
        const MatrixXd eta = flowNaturalParameter(vars, y, l0);
        Moments m;
        if (options.covariance)
            m = model.moments(eta, Order::Covariance);
        draw();
        y = r * y + (1 - r) * (options.covariance ? MatrixXd(m.mu.bottomRows(D)) : model.denoised(eta));
        for (int k = 0; k < count; k++) {
            if (!options.covariance) {
                y.col(k) += std::sqrt(variance * (1 - r)) * noise.col(k);
                continue;
            }
            const MatrixXd C = 0.5 * (m.J[k] + m.J[k].transpose()).block(first, first, D, D);
            const Eigen::SelfAdjointEigenSolver<MatrixXd> eigen(variance * (1 - r) * MatrixXd::Identity(D, D) + (1 - r) * (1 - r) * C);
            // A denoiser's covariance may have a negative eigenvalue.
            // The symmetric root: eigenvectors of their own would turn with the last digit of C where eigenvalues are close.
            y.col(k) += eigen.eigenvectors() * eigen.eigenvalues().cwiseMax(0).cwiseSqrt().cwiseProduct(eigen.eigenvectors().transpose() * noise.col(k));
        }
        report(options.progress, (step + 1.0) / (options.steps + 1), where);
    }
    return rawCoordinates(vars, y);
}

std::vector<MatrixXd> decoderJacobian(const PosteriorModel& model, const MatrixXd& y, double logSnr, const FlowOptions& options, MatrixXd* decoded) {
    const double clean = checkDirection(model, logSnr, options, "decoderJacobian");
    checkPoints(model, y, "decoderJacobian");
    const int D = flowDimension(model.variables());
    MatrixXd state(D + D * D, y.cols());
    state.topRows(D) = y;
    const MatrixXd one = MatrixXd::Identity(D, D);
    state.bottomRows(D * D).colwise() = VectorXd::Map(one.data(), D * D);
    state = Integrator(model, Carried::Jacobian, options, "decoderJacobian").run(state, logSnr, clean);
    std::vector<MatrixXd> result;
    for (Index k = 0; k < y.cols(); k++)
        result.push_back(MatrixXd::Map(state.col(k).data() + D, D, D));
    if (decoded != nullptr)
        *decoded = state.topRows(D);
    return result;
}

PullbackCurve decodeCurve(const PosteriorModel& model, const MatrixXd& latent, double logSnr, const FlowOptions& options) {
    if (latent.cols() < 2)
        throw std::invalid_argument("decodeCurve: expected at least 2 points, got " + std::to_string(latent.cols()));
    PullbackCurve curve;
    curve.latent = latent;
    curve.decoded = decode(model, latent, logSnr, options).y;
    finish(curve);
    return curve;
}

PullbackCurve pullbackGeodesic(const PosteriorModel& model, const VectorXd& yA, const VectorXd& yB, double logSnr, const PullbackOptions& options) {
    const MatrixXd ends = latentEnds(model, yA, yB, options, "pullbackGeodesic");
    const double clean = checkDirection(model, logSnr, options.flow, "pullbackGeodesic");
    const MatrixXd data = decode(model, ends, logSnr, options.flow).y;
    MatrixXd latent = transport(model, lerp(data.col(0), data.col(1), options.numPoints), clean, logSnr, options.flow).y;
    latent.col(0) = yA;
    latent.col(options.numPoints - 1) = yB;
    return decodeCurve(model, latent, logSnr, options.flow);
}

PullbackCurve minimizePullbackEnergy(const PosteriorModel& model, const VectorXd& yA, const VectorXd& yB, double logSnr, const PullbackOptions& options) {
    latentEnds(model, yA, yB, options, "minimizePullbackEnergy");
    const int D = flowDimension(model.variables()), N = options.numPoints - 1;
    const Index inner = static_cast<Index>(D) * (N - 1);
    PullbackCurve curve;
    curve.latent = lerp(yA, yB, options.numPoints);
    std::vector<MatrixXd> jacobians = decoderJacobian(model, curve.latent, logSnr, options.flow, &curve.decoded);
    finish(curve);
    curve.converged = curve.segmentEnergy == 0;
    double damping = 1e-3;
    while (!curve.converged && curve.iterations < options.maxIterations) {
        curve.iterations++;
        // Residuals sqrt(N) (c_{i+1} - c_i): half the gradient and half the Gauss-Newton matrix.
        VectorXd gradient(inner);
        MatrixXd hessian = MatrixXd::Zero(inner, inner);
        for (int i = 1; i < N; i++) {
            const MatrixXd& M = jacobians[i];
            gradient.segment(D * (i - 1), D) = N * M.transpose() * (2 * curve.decoded.col(i) - curve.decoded.col(i - 1) - curve.decoded.col(i + 1));
            hessian.block(D * (i - 1), D * (i - 1), D, D) = 2 * N * M.transpose() * M;
            if (i > 1) {
                const MatrixXd coupling = -N * M.transpose() * jacobians[i - 1];
                hessian.block(D * (i - 1), D * (i - 2), D, D) = coupling;
                hessian.block(D * (i - 2), D * (i - 1), D, D) = coupling.transpose();
            }
        }
        for (bool improved = false; !improved;) {
            MatrixXd damped = hessian;
            damped.diagonal() *= 1 + damping;
            const VectorXd change = -damped.ldlt().solve(gradient);
            PullbackCurve next = curve;
            next.latent.middleCols(1, N - 1) += MatrixXd::Map(change.data(), D, N - 1);
            std::vector<MatrixXd> nextJacobians;
            next.energy = std::numeric_limits<double>::infinity();
            if (next.latent.allFinite()) {
                nextJacobians = decoderJacobian(model, next.latent, logSnr, options.flow, &next.decoded);
                finish(next);
            }
            improved = next.energy < curve.energy;
            if (improved) {
                next.converged = curve.energy - next.energy <= options.tolerance * curve.energy;
                curve = next;
                jacobians = nextJacobians;
                damping = std::max(1e-9, 0.1 * damping);
            }
            else if ((damping *= 10) > 1e8) {  // rounding is all that is left to gain
                curve.converged = true;
                break;
            }
        }
    }
    return curve;
}

}  // namespace Spacetime
