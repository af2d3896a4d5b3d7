// SPDX-License-Identifier: MIT
#include "spacetime/Models.h"
#include "spacetime/Text.h"
#include <cmath>
#include <stdexcept>

using Eigen::MatrixXd;
using Eigen::VectorXd;

namespace Spacetime {

namespace {

Variables numbered(Eigen::Index n) {
    if (n < 1)
        throw std::invalid_argument("GaussianMixtureModel: expected means of at least one dimension");
    std::vector<Variable> items;
    for (Eigen::Index i = 0; i < n; i++)
        items.push_back(Variable::number("x" + std::to_string(i + 1)));
    return Variables(items);
}

/// Covariance of T = (|c|^2, c) for c ~ N(a, s I), and its derivative along w in the natural parameter.
struct GaussianStatistic {
    VectorXd a, mean;
    double s;

    GaussianStatistic(const VectorXd& center, double variance) : a(center), mean(center.size() + 1), s(variance) {
        mean[0] = a.squaredNorm() + a.size() * s;
        mean.tail(a.size()) = a;
    }
    MatrixXd covariance() const {
        const Eigen::Index D = a.size();
        MatrixXd C = MatrixXd::Zero(D + 1, D + 1);
        C(0, 0) = 4 * s * a.squaredNorm() + 2 * D * s * s;
        C.block(1, 0, D, 1) = 2 * s * a;
        C.block(0, 1, 1, D) = C.block(1, 0, D, 1).transpose();
        C.bottomRightCorner(D, D).diagonal().setConstant(s);
        return C;
    }
    MatrixXd covarianceAlong(const VectorXd& w) const {
        const Eigen::Index D = a.size();
        const double ds = 2 * s * s * w[0];
        const VectorXd da = s * w.tail(D) + 2 * s * w[0] * a;
        MatrixXd C = MatrixXd::Zero(D + 1, D + 1);
        C(0, 0) = 4 * ds * a.squaredNorm() + 8 * s * a.dot(da) + 4 * D * s * ds;
        C.block(1, 0, D, 1) = 2 * (ds * a + s * da);
        C.block(0, 1, 1, D) = C.block(1, 0, D, 1).transpose();
        C.bottomRightCorner(D, D).diagonal().setConstant(ds);
        return C;
    }
};

}  // namespace

GaussianMixtureModel::GaussianMixtureModel(const MatrixXd& means, const VectorXd& variances, const VectorXd& weights)
    : PosteriorModel(numbered(means.rows())), m(means), v(variances), w(weights) {
    if (m.cols() < 1 || v.size() != m.cols() || w.size() != m.cols())
        throw std::invalid_argument("GaussianMixtureModel: expected as many variances and weights as means, got " + std::to_string(m.cols()) + " means, " +
                                    std::to_string(v.size()) + " variances, " + std::to_string(w.size()) + " weights");
    if (!m.allFinite() || !v.allFinite() || !(v.minCoeff() > 0))
        throw std::invalid_argument("GaussianMixtureModel: expected finite means and positive variances");
    if (!w.allFinite() || !(w.minCoeff() >= 0) || !(w.sum() > 0))
        throw std::invalid_argument("GaussianMixtureModel: expected weights that are not negative and not all zero");
    w /= w.sum();
}

VectorXd GaussianMixtureModel::dataMean() const { return m * w; }

double GaussianMixtureModel::dataVariance() const {
    const MatrixXd centered = m.colwise() - dataMean();
    return v.dot(w) + centered.colwise().squaredNorm().dot(w.transpose()) / m.rows();
}

void GaussianMixtureModel::checkRange(const VectorXd& eta, const std::string& what) const {
    if (!(eta[0] < 0))
        throw std::invalid_argument("GaussianMixtureModel: " + what + " has eta_l = " + text(eta[0]) + ", expected a negative number (a finite log-SNR)");
}

Moments GaussianMixtureModel::compute(const MatrixXd& eta, Order order, const MatrixXd* direction) const {
    const Eigen::Index D = m.rows(), K = m.cols(), n = eta.cols(), M = D + 1;
    Moments out;
    out.mu.resize(M, n);
    out.psi.resize(n);
    for (Eigen::Index i = 0; i < n; i++) {
        std::vector<GaussianStatistic> parts;
        VectorXd logZ(K);
        for (Eigen::Index k = 0; k < K; k++) {
            const double p = 1 / v[k] - 2 * eta(0, i);
            if (!(p > 0))
                throw std::invalid_argument("GaussianMixtureModel: eta_l = " + text(eta(0, i)) + " is not normalisable, expected less than " +
                                            text(0.5 / v.maxCoeff()));
            const VectorXd a = (m.col(k) / v[k] + eta.col(i).tail(D)) / p;
            logZ[k] = std::log(w[k]) - 0.5 * D * std::log(v[k] * p) + 0.5 * p * a.squaredNorm() - 0.5 * m.col(k).squaredNorm() / v[k];
            parts.emplace_back(a, 1 / p);
        }
        const double top = logZ.maxCoeff();
        VectorXd r = (logZ.array() - top).exp();
        const double sum = r.sum();
        out.psi[i] = top + std::log(sum);
        r /= sum;
        VectorXd mu = VectorXd::Zero(M);
        for (Eigen::Index k = 0; k < K; k++)
            mu += r[k] * parts[k].mean;
        out.mu.col(i) = mu;
        if (order == Order::Mean)
            continue;
        MatrixXd C = MatrixXd::Zero(M, M), C3 = MatrixXd::Zero(M, M);
        for (Eigen::Index k = 0; k < K; k++) {
            const VectorXd delta = parts[k].mean - mu;
            const MatrixXd S = parts[k].covariance();
            C += r[k] * (S + delta * delta.transpose());
            if (order == Order::Third) {
                const VectorXd dir = direction->col(i);
                const VectorXd Sw = S * dir;
                const double dw = delta.dot(dir);
                C3 += r[k] * (parts[k].covarianceAlong(dir) + S * dw + Sw * delta.transpose() + delta * Sw.transpose() + delta * delta.transpose() * dw);
            }
        }
        out.J.push_back(C);
        if (order == Order::Third)
            out.third.push_back(C3);
    }
    return out;
}

}  // namespace Spacetime
