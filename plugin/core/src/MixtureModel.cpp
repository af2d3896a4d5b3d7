// SPDX-License-Identifier: MIT
#include "Bessel.h"
#include "spacetime/Models.h"
#include "spacetime/Text.h"
#include <algorithm>
#include <cmath>
#include <stdexcept>

using Eigen::MatrixXd;
using Eigen::VectorXd;

namespace Spacetime {

namespace {

/// Components this far below the largest, in nats, change no digit of a sum.
const double Negligible = 40;

Variables numbered(Eigen::Index n) {
    if (n < 1)
        throw std::invalid_argument("GaussianMixtureModel: expected means of at least one dimension");
    std::vector<Variable> items;
    for (Eigen::Index i = 0; i < n; i++)
        items.push_back(Variable::number("x" + std::to_string(i + 1)));
    return Variables(items);
}

void check(bool ok, const std::string& what) {
    if (!ok)
        throw std::invalid_argument("MixtureModel: expected " + what);
}

MixtureModel::Components gaussians(const MatrixXd& means, const VectorXd& variances, const VectorXd& weights) {
    if (means.cols() < 1 || variances.size() != means.cols() || weights.size() != means.cols())
        throw std::invalid_argument("GaussianMixtureModel: expected as many variances and weights as means, got " + std::to_string(means.cols()) + " means, " +
                                    std::to_string(variances.size()) + " variances, " + std::to_string(weights.size()) + " weights");
    if (!means.allFinite() || !variances.allFinite() || !(variances.minCoeff() > 0))
        throw std::invalid_argument("GaussianMixtureModel: expected finite means and positive variances");
    if (!weights.allFinite() || !(weights.minCoeff() >= 0) || !(weights.sum() > 0))
        throw std::invalid_argument("GaussianMixtureModel: expected weights that are not negative and not all zero");
    return {weights.array().log(), MatrixXd(0, means.cols()), means, variances.cwiseInverse().transpose().replicate(means.rows(), 1)};
}

}  // namespace

MixtureModel::MixtureModel(Variables variables, Components components) : PosteriorModel(std::move(variables)), c(std::move(components)) {
    const Eigen::Index K = c.logWeights.size(), lifted = 2 * vars.numLifted(), unlifted = vars.numUnlifted();
    check(K > 0, "at least one component");
    check(c.tilt.rows() == lifted && c.tilt.cols() == K,
          "tilts of " + std::to_string(lifted) + " x " + std::to_string(K) + " numbers, got " + std::to_string(c.tilt.rows()) + " x " + std::to_string(c.tilt.cols()));
    for (const MatrixXd* a : {&c.mean, &c.precision})
        check(a->rows() == unlifted && a->cols() == K,
              "means and precisions of " + std::to_string(unlifted) + " x " + std::to_string(K) + " numbers, got " + std::to_string(a->rows()) + " x " + std::to_string(a->cols()));
    check(c.tilt.allFinite() && c.mean.allFinite() && c.precision.allFinite(), "finite components");
    check(unlifted == 0 || c.precision.minCoeff() > 0, "positive precisions");
    const double top = c.logWeights.maxCoeff();
    check(std::isfinite(top) && !c.logWeights.hasNaN(), "log weights of which one at least is finite, and none NaN");
    c.logWeights.array() -= top + std::log((c.logWeights.array() - top).exp().sum());
    // What does not depend on the point: normalisation of every factor.
    constant = c.logWeights;
    for (Eigen::Index k = 0; k < K; k++) {
        for (Eigen::Index j = 0; j < lifted; j += 2)
            constant[k] -= VonMises(std::hypot(c.tilt(j, k), c.tilt(j + 1, k))).logI0;
        for (Eigen::Index u = 0; u < unlifted; u++)
            constant[k] += 0.5 * std::log(c.precision(u, k)) - 0.5 * c.precision(u, k) * c.mean(u, k) * c.mean(u, k);
    }
    w = c.logWeights.array().exp();
}

VectorXd MixtureModel::dataMean() const { return c.mean * w; }

double MixtureModel::dataVariance() const {
    if (vars.numUnlifted() == 0)
        return 1;
    const MatrixXd centered = c.mean.colwise() - dataMean();
    return (c.precision.cwiseInverse() + centered.cwiseAbs2()).colwise().mean().dot(w.transpose());
}

double MixtureModel::dataLogSnr() const {
    double largest = c.precision.size() > 0 ? c.precision.maxCoeff() : 1;
    for (Eigen::Index j = 0; j < c.tilt.rows(); j += 2)
        largest = std::max(largest, c.tilt.middleRows(j, 2).colwise().norm().maxCoeff());
    return CleanLogSnr + std::log(largest);
}

void MixtureModel::checkRange(const VectorXd& eta, const std::string& what) const {
    if (eta.size() != numStatistics() || !eta.allFinite())
        throw std::invalid_argument("MixtureModel: expected " + what + " as " + std::to_string(numStatistics()) + " finite numbers");
    if (vars.hasQuadratic() && !(eta[0] < 0))
        throw std::invalid_argument("MixtureModel: " + what + " has eta_l = " + text(eta[0]) + ", expected a negative number (a finite log-SNR)");
}

Moments MixtureModel::compute(const MatrixXd& eta, Order order, const MatrixXd* direction) const {
    const Eigen::Index K = c.logWeights.size(), n = eta.cols(), M = eta.rows();
    const bool quadratic = vars.hasQuadratic();
    std::vector<Eigen::Index> lifted, unlifted;  // rows of T
    for (int i = 0; i < vars.size(); i++)
        (vars[i].lifted() ? lifted : unlifted).push_back(vars.offset(i));
    const Eigen::Index nLifted = lifted.size(), nUnlifted = unlifted.size();
    Moments out;
    out.mu.resize(M, n);
    out.psi.resize(n);
    if (order >= Order::Covariance)
        out.J.reserve(n);
    if (order == Order::Third)
        out.third.reserve(n);
    VectorXd logZ(K), r(K);
    MatrixXd means(M, K), along(M, K), concentration(nLifted, K), logI0(nLifted, K);
    std::vector<VonMises> circles(nLifted * K);
    std::vector<double> keptConcentration(nLifted * K);
    std::vector<Eigen::Index> kept;
    for (Eigen::Index i = 0; i < n; i++) {
        const auto e = eta.col(i);
        const double twist = quadratic ? 2 * e[0] : 0;
        for (Eigen::Index k = 0; k < K; k++)
            for (Eigen::Index j = 0; j < nLifted; j++) {
                const double a = e[lifted[j]] + c.tilt(2 * j, k), b = e[lifted[j] + 1] + c.tilt(2 * j + 1, k);
                concentration(j, k) = std::sqrt(a * a + b * b);
            }
        logBesselI0(concentration.data(), logI0.data(), logI0.size());
        for (Eigen::Index k = 0; k < K; k++) {
            double z = constant[k];
            for (Eigen::Index j = 0; j < nLifted; j++)
                z += logI0(j, k);
            for (Eigen::Index u = 0; u < nUnlifted; u++) {
                const double p = c.precision(u, k) - twist, b = c.precision(u, k) * c.mean(u, k) + e[unlifted[u]];
                if (!(p > 0))
                    throw std::invalid_argument("MixtureModel: eta_l = " + text(e[0]) + " is not normalisable, expected less than " + text(0.5 * c.precision.minCoeff()));
                z += 0.5 * b * b / p - 0.5 * std::log(p);
            }
            logZ[k] = z;
        }
        const double top = logZ.maxCoeff();
        kept.clear();
        double sum = 0;
        for (Eigen::Index k = 0; k < K; k++)
            if (logZ[k] > top - Negligible) {
                r[kept.size()] = std::exp(logZ[k] - top);
                sum += r[kept.size()];
                kept.push_back(k);
            }
        const Eigen::Index m = kept.size();
        r.head(m) /= sum;
        out.psi[i] = top + std::log(sum);

        // What the components' own covariances add, and theirs along the direction, is as sparse as they are: sums over factors.
        MatrixXd J, third;
        VectorXd v;
        if (order >= Order::Covariance)
            J = MatrixXd::Zero(M, M);
        if (order == Order::Third) {
            third = MatrixXd::Zero(M, M);
            v = direction->col(i);
            along.leftCols(m).setZero();
        }
        for (Eigen::Index q = 0; q < m; q++)
            std::copy_n(concentration.data() + kept[q] * nLifted, nLifted, keptConcentration.data() + q * nLifted);
        evaluateVonMises(keptConcentration.data(), circles.data(), nLifted * m);
        for (Eigen::Index q = 0; q < m; q++) {
            const Eigen::Index k = kept[q];
            if (quadratic)
                means(0, q) = 0;
            for (Eigen::Index j = 0; j < nLifted; j++) {
                const Eigen::Index o = lifted[j];
                const double ratio = circles[q * nLifted + j].ratioByK;
                means(o, q) = ratio * (e[o] + c.tilt(2 * j, k));
                means(o + 1, q) = ratio * (e[o + 1] + c.tilt(2 * j + 1, k));
            }
            for (Eigen::Index u = 0; u < nUnlifted; u++) {
                const double p = c.precision(u, k) - twist, mean = (c.precision(u, k) * c.mean(u, k) + e[unlifted[u]]) / p;
                means(unlifted[u], q) = mean;
                means(0, q) += mean * mean + 1 / p;
            }
        }
        const VectorXd mu = means.leftCols(m) * r.head(m);
        out.mu.col(i) = mu;
        if (order == Order::Mean)
            continue;
        means.leftCols(m).colwise() -= mu;  // from here on the components' deviations
        VectorXd slope;                     // of the log weights along the direction
        if (order == Order::Third)
            slope = means.leftCols(m).transpose() * v;
        for (Eigen::Index q = 0; q < m; q++) {
            const Eigen::Index k = kept[q];
            const double share = r[q];
            for (Eigen::Index j = 0; j < nLifted; j++) {
                const Eigen::Index o = lifted[j];
                const VonMises& f = circles[q * nLifted + j];
                const double x = e[o] + c.tilt(2 * j, k), y = e[o + 1] + c.tilt(2 * j + 1, k);
                const double xx = f.ratioByK + f.anisotropy * x * x, xy = f.anisotropy * x * y, yy = f.ratioByK + f.anisotropy * y * y;
                J(o, o) += share * xx;
                J(o, o + 1) += share * xy;
                J(o + 1, o) += share * xy;
                J(o + 1, o + 1) += share * yy;
                if (order == Order::Third) {
                    const double dx = v[o], dy = v[o + 1], turn = x * dx + y * dy, g = f.anisotropy, h = f.anisotropySlope * turn, s = slope[q];
                    third(o, o) += share * (s * xx + turn * g + h * x * x + 2 * g * x * dx);
                    const double mixed = share * (s * xy + h * x * y + g * (x * dy + y * dx));
                    third(o, o + 1) += mixed;
                    third(o + 1, o) += mixed;
                    third(o + 1, o + 1) += share * (s * yy + turn * g + h * y * y + 2 * g * y * dy);
                    along(o, q) = xx * dx + xy * dy;
                    along(o + 1, q) = xy * dx + yy * dy;
                }
            }
            for (Eigen::Index u = 0; u < nUnlifted; u++) {
                const Eigen::Index o = unlifted[u];
                const double p = c.precision(u, k) - twist, s = 1 / p, mean = s * (c.precision(u, k) * c.mean(u, k) + e[o]);
                const double cross = 2 * mean * s, square = 2 * s * s + 4 * mean * mean * s;
                J(o, o) += share * s;
                J(o, 0) += share * cross;
                J(0, o) += share * cross;
                J(0, 0) += share * square;
                if (order == Order::Third) {
                    const double sAlong = 2 * s * s * v[0], meanAlong = s * v[o] + cross * v[0];
                    const double crossAlong = 2 * (meanAlong * s + mean * sAlong), squareAlong = 4 * s * sAlong + 8 * mean * meanAlong * s + 4 * mean * mean * sAlong;
                    third(o, o) += share * (slope[q] * s + sAlong);
                    third(o, 0) += share * (slope[q] * cross + crossAlong);
                    third(0, o) += share * (slope[q] * cross + crossAlong);
                    third(0, 0) += share * (slope[q] * square + squareAlong);
                    along(o, q) += s * v[o] + cross * v[0];
                    along(0, q) += cross * v[o] + square * v[0];
                }
            }
        }
        const auto deviations = means.leftCols(m);
        const MatrixXd weighted = deviations * r.head(m).asDiagonal();
        J.noalias() += weighted * deviations.transpose();
        if (order == Order::Third) {
            const MatrixXd mixed = weighted * along.leftCols(m).transpose();
            third += mixed + mixed.transpose();
            third.noalias() += weighted * slope.asDiagonal() * deviations.transpose();
            third = (0.5 * (third + third.transpose())).eval();
            out.third.push_back(std::move(third));
        }
        J = (0.5 * (J + J.transpose())).eval();
        out.J.push_back(std::move(J));
    }
    return out;
}

MeanProducts MixtureModel::computeProducts(const MatrixXd& eta, const MatrixXd& direction) const {
    if (vars.numLifted() > 0)
        return PosteriorModel::computeProducts(eta, direction);
    const Eigen::Index n = eta.cols(), D = vars.size(), K = c.logWeights.size();
    MeanProducts out{MatrixXd(D, n), MatrixXd(D, n)};
    Eigen::ArrayXXd p(D, K), means(D, K);
    for (Eigen::Index i = 0; i < n; i++) {
        const auto e = eta.col(i).tail(D).array(), alongX = direction.col(i).tail(D).array();
        const double alongL = direction(0, i);
        p = c.precision.array() - 2 * eta(0, i);
        if (!(p.minCoeff() > 0))
            throw std::invalid_argument("MixtureModel: eta_l = " + text(eta(0, i)) + " is not normalisable, expected less than " + text(0.5 * c.precision.minCoeff()));
        means = ((c.precision.array() * c.mean.array()).colwise() + e) / p;
        const Eigen::ArrayXd logZ = constant.array() + (0.5 * (means.square() * p - p.log())).colwise().sum().transpose();
        Eigen::ArrayXd r = (logZ - logZ.maxCoeff()).exp();
        r /= r.sum();
        out.mean.col(i) = means.matrix() * r.matrix();
        // Every component's own derivative, and the turn of the weights: their logarithms grow as the components' E[T] along the direction.
        const Eigen::ArrayXd slope = alongL * (means.square() + p.inverse()).colwise().sum().transpose() + (means.colwise() * alongX).colwise().sum().transpose();
        out.product.col(i) = (((2 * alongL) * means).colwise() + alongX).cwiseQuotient(p).matrix() * r.matrix() + means.matrix() * (r * (slope - (r * slope).sum())).matrix();
    }
    return out;
}

GaussianMixtureModel::GaussianMixtureModel(const MatrixXd& means, const VectorXd& variances, const VectorXd& weights)
    : MixtureModel(numbered(means.rows()), gaussians(means, variances, weights)), v(variances) {}

}  // namespace Spacetime
