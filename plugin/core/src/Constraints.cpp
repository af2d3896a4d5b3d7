// SPDX-License-Identifier: MIT
#include "Constraints.h"
#include "spacetime/Text.h"
#include <cmath>
#include <stdexcept>

using Eigen::MatrixXd;
using Eigen::VectorXd;

namespace Spacetime {

namespace {
MatrixXd symmetric(const MatrixXd& J) { return 0.5 * (J + J.transpose()); }
}  // namespace

VarianceConstraint::VarianceConstraint(const Variables& vars, double bound) : quadratic(vars.hasQuadratic()), lifted(vars.numLifted()), limit(bound) {}

double VarianceConstraint::value(const VectorXd&, const VectorXd& mu, double) const {
    return quadratic ? lifted + mu[0] - mu.tail(mu.size() - 1).squaredNorm() : lifted - mu.squaredNorm();
}

PointConstraint::Derivatives VarianceConstraint::derivatives(const VectorXd&, const VectorXd& mu, double, const MatrixXd* J) const {
    VectorXd slope = -2 * mu;  // d tr Cov/d mu
    if (quadratic)
        slope[0] = 1;
    Derivatives d;
    d.third = -slope / limit;
    if (J != nullptr) {
        d.gradient = J->transpose() * d.third;
        MatrixXd Jd = *J;
        if (quadratic)
            Jd.row(0).setZero();
        d.hessian = (2 / limit) * Jd.transpose() * Jd;
    }
    return d;
}

RegionConstraint::RegionConstraint(const PosteriorModel& model, const Region& region, std::string name) : etaStar(region.eta), limit(region.nats), label(std::move(name)) {
    if (!(limit > 0) || !std::isfinite(limit))
        throw std::invalid_argument("geodesic: " + label + " needs a positive number of nats, got " + text(limit));
    if (etaStar.size() != model.numStatistics() || !etaStar.allFinite())
        throw std::invalid_argument("geodesic: " + label + " needs a centre of " + std::to_string(model.numStatistics()) + " finite natural parameters, got " + textList(etaStar));
    const Moments m = model.moments(etaStar, PosteriorModel::Order::Mean);
    muStar = m.mu.col(0);
    psiStar = m.psi[0];
}

double RegionConstraint::value(const VectorXd& eta, const VectorXd&, double psi) const { return std::max(0.0, psi - psiStar - (eta - etaStar).dot(muStar)); }

double RegionConstraint::marginOf(double value) const { return std::sqrt(value / limit) - 1; }

PointConstraint::Derivatives RegionConstraint::derivatives(const VectorXd& eta, const VectorXd& mu, double psi, const MatrixXd* J) const {
    Derivatives d;
    d.third = VectorXd::Zero(eta.size());
    if (J != nullptr) {
        const double root = std::max(std::sqrt(value(eta, mu, psi) / limit), 1e-9);
        d.gradient = (mu - muStar) / (2 * limit * root);
        d.hessian = symmetric(*J) / (2 * limit * root) - d.gradient * d.gradient.transpose() / root;
    }
    return d;
}

FreeEnergyConstraint::FreeEnergyConstraint(const PosteriorModel& model, const VectorXd& etaStart, double bound) : limit(bound) {
    const Moments m = model.moments(etaStart, PosteriorModel::Order::Mean);
    start = etaStart.dot(m.mu.col(0)) - m.psi[0];
}

double FreeEnergyConstraint::value(const VectorXd& eta, const VectorXd& mu, double psi) const { return eta.dot(mu) - psi - start; }

PointConstraint::Derivatives FreeEnergyConstraint::derivatives(const VectorXd& eta, const VectorXd&, double, const MatrixXd* J) const {
    Derivatives d;
    d.third = -eta / limit;
    if (J != nullptr) {
        d.gradient = J->transpose() * d.third;
        d.hessian = -symmetric(*J) / limit;
    }
    return d;
}

std::string kappaName(const Variable& v) { return "kappa of " + v.name; }

Constraints pointConstraints(const PosteriorModel& model, const GeodesicOptions& options, const VectorXd& etaA, bool freeEnergy) {
    Constraints c;
    if (std::isfinite(options.maxVariance))
        c.push_back(std::make_unique<VarianceConstraint>(model.variables(), options.maxVariance));
    for (size_t r = 0; r < options.avoid.size(); r++)
        c.push_back(std::make_unique<RegionConstraint>(model, options.avoid[r], "region " + std::to_string(r + 1)));
    if (freeEnergy && std::isfinite(options.maxFreeEnergy))
        c.push_back(std::make_unique<FreeEnergyConstraint>(model, etaA, options.maxFreeEnergy));
    return c;
}

LogSnrPenalty logSnrPenalty(const Variables& vars, const VectorXd& eta, double low) {
    const double sharpness = 10;
    const Eigen::Index m = eta.size();
    LogSnrPenalty p;
    VectorXd slope = VectorXd::Zero(m);  // of l
    MatrixXd bend = MatrixXd::Zero(m, m);
    double l;
    if (vars.hasQuadratic()) {
        const double e = std::min(eta[0], -1e-300);
        l = std::log(-2 * e);
        slope[0] = 1 / e;
        bend(0, 0) = -1 / (e * e);
    }
    else {
        const double square = std::max(eta.squaredNorm(), 1e-300);
        l = 0.5 * std::log(square / vars.size());
        slope = eta / square;
        bend = MatrixXd::Identity(m, m) / square - 2 * slope * slope.transpose();
    }
    const double x = sharpness * (low - l), sigmoid = 1 / (1 + std::exp(-x));
    p.value = (std::max(x, 0.0) + std::log1p(std::exp(-std::abs(x)))) / sharpness;
    p.gradient = -sigmoid * slope;
    p.hessian = -sigmoid * bend + sharpness * sigmoid * (1 - sigmoid) * slope * slope.transpose();
    return p;
}

}  // namespace Spacetime
