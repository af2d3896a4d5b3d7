// SPDX-License-Identifier: MIT
#include "spacetime/DensityField.h"
#include "DensityNodes.h"
#include "spacetime/Text.h"
#include <cmath>
#include <random>
#include <stdexcept>

using Eigen::Index;
using Eigen::MatrixXd;
using Eigen::VectorXd;

namespace Spacetime {

namespace {

/// Data that noise of standard deviation e^(-l/2) was added to lie sqrt(D) of it from their mean given them. Beyond that and this many more, in that unit,
/// a point is no noisy datum.
const double FarFromData = 6;
/// Coordinates a message has room for.
const Index MaxListed = 8;

}  // namespace

MatrixXd DensityField::score(const MatrixXd& x, long draw) const {
    checkNodes(*this, x, "DensityField", "point");
    const MatrixXd s = compute(x, draw);
    if (s.rows() != x.rows() || s.cols() != x.cols())
        throw std::invalid_argument("DensityField: expected scores of " + std::to_string(x.rows()) + " x " + std::to_string(x.cols()) + " numbers, got " +
                                    std::to_string(s.rows()) + " x " + std::to_string(s.cols()));
    for (Index i = 0; i < x.cols(); i++)
        if (!s.col(i).allFinite())
            throw std::invalid_argument("the score is not finite at " + describe(x.col(i)) + ": the density is zero or unknown there");
    return s;
}

VectorXd DensityField::logDensity(const MatrixXd&) const {
    throw std::invalid_argument("DensityField: this field knows scores only, no log-density: take a line integral of them");
}

void DensityField::checkRange(const VectorXd& x, const std::string& what) const {
    checkNodes(*this, x, "DensityField", "point");
    const std::string problem = rangeProblem(x);
    if (!problem.empty())
        throw std::invalid_argument(what + " " + describe(x) + " " + problem);
}

std::string DensityField::describe(const VectorXd& x) const {
    if (x.size() <= MaxListed)
        return textList(x);
    const std::string list = textList(VectorXd(x.head(MaxListed)));
    return list.substr(0, list.size() - 1) + ", ...)";
}

ModelDensity::ModelDensity(const PosteriorModel& m, double logSnr, int draws, unsigned seedOfDraws)
    : posterior(m), level(logSnr), numDraws(draws), seed(seedOfDraws), shift(m.variables().size()), scale(m.variables().size()) {
    if (!std::isfinite(level))
        throw std::invalid_argument("ModelDensity: expected a finite log-SNR, got " + text(level));
    if (level < posterior.minLogSnr())
        throw std::invalid_argument("ModelDensity: the model was trained down to a log-SNR of " + text(posterior.minLogSnr()) + ", got " + text(level));
    if (numDraws < 0)
        throw std::invalid_argument("ModelDensity: expected a number of draws that is not negative, got " + std::to_string(numDraws));
    const Variables& vars = variables();
    for (int i = 0; i < vars.size(); i++) {
        shift[i] = vars[i].lifted() ? 0 : vars[i].shift;
        scale[i] = vars[i].lifted() ? vars[i].period / (2 * M_PI) : vars[i].scale;
    }
}

VectorXd ModelDensity::periods() const {
    const Variables& vars = variables();
    VectorXd result(vars.size());
    for (int i = 0; i < vars.size(); i++)
        result[i] = vars[i].lifted() ? 2 * M_PI : 0;
    return result;
}

bool ModelDensity::sharesCoordinates(const DensityField& other) const {
    const auto* model = dynamic_cast<const ModelDensity*>(&other);
    return DensityField::sharesCoordinates(other) && (model == nullptr || (model->shift == shift && model->scale == scale));
}

MatrixXd ModelDensity::coordinates(const MatrixXd& rawValues) const {
    checkNodes(*this, rawValues, "DensityField", "raw point");
    return scale.cwiseInverse().asDiagonal() * (rawValues.colwise() - shift);
}

MatrixXd ModelDensity::raw(const MatrixXd& x) const {
    checkNodes(*this, x, "DensityField", "point");
    return (scale.asDiagonal() * x).colwise() + shift;
}

std::string ModelDensity::describe(const VectorXd& x) const { return DensityField::describe(raw(x)); }

MatrixXd ModelDensity::naturalParameter(const MatrixXd& x) const {
    const Variables& vars = variables();
    const double precision = std::exp(level);
    MatrixXd eta(vars.numStatistics(), x.cols());
    if (vars.hasQuadratic())
        eta.row(0).setConstant(-0.5 * precision);
    for (int i = 0; i < vars.size(); i++) {
        const int o = vars.offset(i);
        if (vars[i].lifted()) {
            eta.row(o) = precision * x.row(i).array().cos();
            eta.row(o + 1) = precision * x.row(i).array().sin();
        }
        else
            eta.row(o) = precision * x.row(i);
    }
    return eta;
}

MatrixXd ModelDensity::scoreAt(const MatrixXd& x) const {
    const Variables& vars = variables();
    const double precision = std::exp(level);
    const MatrixXd c = posterior.denoised(naturalParameter(x));
    const int first = vars.hasQuadratic() ? 1 : 0;
    MatrixXd s(x.rows(), x.cols());
    for (int i = 0; i < vars.size(); i++) {
        const int o = vars.offset(i) - first;
        if (vars[i].lifted())
            s.row(i) = precision * (c.row(o + 1).array() * x.row(i).array().cos() - c.row(o).array() * x.row(i).array().sin());
        else
            s.row(i) = precision * (c.row(o) - x.row(i));
    }
    return s;
}

MatrixXd ModelDensity::compute(const MatrixXd& x, long draw) const {
    if (numDraws == 0) {
        addEvaluations(x.cols());
        return scoreAt(x);
    }
    addEvaluations(x.cols() * numDraws);
    // One generator a draw, so that draws do not depend on which were asked for before.
    std::seed_seq sequence{seed, static_cast<unsigned>(draw), static_cast<unsigned>(draw >> 32)};
    std::mt19937_64 generator(sequence);
    std::normal_distribution<double> normal(0, std::exp(-0.5 * level));
    MatrixXd sum = MatrixXd::Zero(x.rows(), x.cols());
    VectorXd noise(x.rows());
    for (int k = 0; k < numDraws; k++) {
        for (Index i = 0; i < noise.size(); i++)
            noise[i] = normal(generator);
        sum += scoreAt(x.colwise() + noise);
    }
    return sum / numDraws;
}

VectorXd ModelDensity::logDensity(const MatrixXd& x) const {
    if (!hasLogDensity())
        return DensityField::logDensity(x);
    checkNodes(*this, x, "DensityField", "point");
    const Variables& vars = variables();
    VectorXd result = posterior.moments(naturalParameter(x), PosteriorModel::Order::Mean).psi;
    for (int i = 0; i < vars.size(); i++)
        if (!vars[i].lifted())
            result -= 0.5 * std::exp(level) * x.row(i).transpose().cwiseAbs2();
    return result;
}

std::string ModelDensity::rangeProblem(const VectorXd& x) const {
    const VectorXd eta = naturalParameter(x);
    try {
        posterior.checkRange(eta, "its noisy point");
    }
    catch (const std::invalid_argument& e) {
        return std::string("lies outside the model's range: ") + e.what();
    }
    const double distance = scoreAt(x).norm() * std::exp(-0.5 * level), limit = FarFromData + 2 * std::sqrt(static_cast<double>(dimension()));
    if (!(distance <= limit))
        return "lies " + text(distance) + " standard deviations of the noise from the nearest data, expected at most " + text(limit) + " at log-SNR " + text(level) +
               ": its density is zero or unknown. Choose a point among the data, or a lower log-SNR";
    return "";
}

GuidedDensity::GuidedDensity(std::vector<const DensityField*> given, std::vector<double> factors) : fields(std::move(given)), weights(std::move(factors)) {
    if (fields.empty() || fields.size() != weights.size())
        throw std::invalid_argument("GuidedDensity: expected at least one field and a weight for each, got " + std::to_string(fields.size()) + " fields and " +
                                    std::to_string(weights.size()) + " weights");
    for (size_t i = 0; i < fields.size(); i++) {
        if (fields[i] == nullptr)
            throw std::invalid_argument("GuidedDensity: field " + std::to_string(i) + " is missing");
        if (!std::isfinite(weights[i]))
            throw std::invalid_argument("GuidedDensity: weight " + std::to_string(i) + " is not finite");
        if (!fields[0]->sharesCoordinates(*fields[i]))
            throw std::invalid_argument("GuidedDensity: field " + std::to_string(i) + " has other coordinates than the first (" + std::to_string(fields[i]->dimension()) +
                                        " of them, expected " + std::to_string(fields[0]->dimension()) + " with the same periods, shifts and scales)");
    }
}

bool GuidedDensity::isStochastic() const {
    for (const DensityField* f : fields)
        if (f->isStochastic())
            return true;
    return false;
}

bool GuidedDensity::hasLogDensity() const {
    for (const DensityField* f : fields)
        if (!f->hasLogDensity())
            return false;
    return true;
}

MatrixXd GuidedDensity::compute(const MatrixXd& x, long draw) const {
    MatrixXd sum = MatrixXd::Zero(x.rows(), x.cols());
    for (size_t i = 0; i < fields.size(); i++) {
        const long before = fields[i]->evaluations();
        sum += weights[i] * fields[i]->score(x, draw);
        addEvaluations(fields[i]->evaluations() - before);
    }
    return sum;
}

VectorXd GuidedDensity::logDensity(const MatrixXd& x) const {
    VectorXd sum = VectorXd::Zero(x.cols());
    for (size_t i = 0; i < fields.size(); i++)
        sum += weights[i] * fields[i]->logDensity(x);
    return sum;
}

std::string GuidedDensity::rangeProblem(const VectorXd& x) const {
    for (size_t i = 0; i < fields.size(); i++) {
        const std::string problem = fields[i]->rangeProblem(x);
        if (!problem.empty())
            return problem + (i > 0 ? " (guide " + std::to_string(i) + ")" : "");
    }
    return "";
}

}  // namespace Spacetime
