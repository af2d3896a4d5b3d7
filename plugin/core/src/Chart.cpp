// SPDX-License-Identifier: MIT
#include "Chart.h"
#include <algorithm>
#include <cmath>

using Eigen::MatrixXd;
using Eigen::VectorXd;

namespace Spacetime {

Chart::Chart(const PosteriorModel& model, double minLogSnr, double minLogKappa, bool polar)
    : vars(model.variables()), m(vars.numStatistics()), isPolar(vars.numLifted() > 0 && (polar || std::isfinite(minLogKappa))), s2(model.dataVariance()), m0(model.dataMean()) {
    low = VectorXd::Constant(m, -std::numeric_limits<double>::infinity());
    limit = VectorXd::Constant(m, std::numeric_limits<double>::infinity());
    isPrecision = Eigen::Array<bool, Eigen::Dynamic, 1>::Constant(m, false);
    if (vars.hasQuadratic()) {
        isPrecision[0] = true;
        low[0] = std::log(std::exp(std::max(minLogSnr, model.minLogSnr())) + 1 / s2);
        limit[0] = 1.0;
    }
    for (int i = 0; i < vars.size(); i++) {
        const int o = vars.offset(i);
        if (!vars[i].lifted())
            unliftedRows.push_back(o);
        else if (isPolar) {
            isPrecision[o] = true;
            low[o] = minLogKappa;
            limit[o] = 1.0;
            limit[o + 1] = 0.7;
        }
    }
}

VectorXd Chart::fromEta(const VectorXd& eta) const {
    VectorXd z = eta;
    if (vars.hasQuadratic()) {
        const double p = -2 * eta[0] + 1 / s2;
        z[0] = std::log(p);
        for (size_t u = 0; u < unliftedRows.size(); u++)
            z[unliftedRows[u]] = (eta[unliftedRows[u]] + m0[u] / s2) / p;
    }
    if (isPolar)
        for (int i = 0; i < vars.size(); i++)
            if (vars[i].lifted()) {
                const int o = vars.offset(i);
                z[o] = std::log(std::hypot(eta[o], eta[o + 1]));
                z[o + 1] = std::atan2(eta[o + 1], eta[o]);
            }
    return z;
}

MatrixXd Chart::toEta(const MatrixXd& zeta) const {
    MatrixXd eta = zeta;
    for (Eigen::Index k = 0; k < zeta.cols(); k++) {
        if (vars.hasQuadratic()) {
            const double p = std::exp(zeta(0, k));
            eta(0, k) = std::min(0.0, -0.5 * (p - 1 / s2));  // rounding must not leave the half-space at l = -inf
            for (size_t u = 0; u < unliftedRows.size(); u++)
                eta(unliftedRows[u], k) = p * zeta(unliftedRows[u], k) - m0[u] / s2;
        }
        if (isPolar)
            for (int i = 0; i < vars.size(); i++)
                if (vars[i].lifted()) {
                    const int o = vars.offset(i);
                    const double kappa = std::exp(zeta(o, k));
                    eta(o, k) = kappa * std::cos(zeta(o + 1, k));
                    eta(o + 1, k) = kappa * std::sin(zeta(o + 1, k));
                }
    }
    return eta;
}

MatrixXd Chart::jacobian(const VectorXd& zeta) const {
    MatrixXd A = MatrixXd::Identity(m, m);
    if (vars.hasQuadratic()) {
        const double p = std::exp(zeta[0]);
        A(0, 0) = -0.5 * p;
        for (int r : unliftedRows) {
            A(r, 0) = p * zeta[r];
            A(r, r) = p;
        }
    }
    if (isPolar)
        for (int i = 0; i < vars.size(); i++)
            if (vars[i].lifted()) {
                const int o = vars.offset(i);
                const double kappa = std::exp(zeta[o]), c = kappa * std::cos(zeta[o + 1]), s = kappa * std::sin(zeta[o + 1]);
                A.block<2, 2>(o, o) << c, -s, s, c;
            }
    return A;
}

MatrixXd Chart::curvature(const VectorXd& zeta, const VectorXd& g) const {
    MatrixXd B = MatrixXd::Zero(m, m);
    if (vars.hasQuadratic()) {
        const double p = std::exp(zeta[0]);
        B(0, 0) = -0.5 * p * g[0];
        for (int r : unliftedRows) {
            B(0, 0) += p * zeta[r] * g[r];
            B(0, r) = B(r, 0) = p * g[r];
        }
    }
    if (isPolar)
        for (int i = 0; i < vars.size(); i++)
            if (vars[i].lifted()) {
                const int o = vars.offset(i);
                const double kappa = std::exp(zeta[o]), c = kappa * std::cos(zeta[o + 1]), s = kappa * std::sin(zeta[o + 1]);
                const double along = g[o] * c + g[o + 1] * s, across = -g[o] * s + g[o + 1] * c;
                B.block<2, 2>(o, o) << along, across, across, -along;
            }
    return B;
}

MatrixXd Chart::scaleKappa(MatrixXd zeta, double (*scaled)(double)) const {
    for (int i = 0; !isPolar && i < vars.size(); i++)
        if (vars[i].lifted())
            for (Eigen::Index k = 0; k < zeta.cols(); k++) {
                const double size = zeta.col(k).segment<2>(vars.offset(i)).norm();
                if (size > 0)
                    zeta.col(k).segment<2>(vars.offset(i)) *= scaled(size) / size;
            }
    return zeta;
}

MatrixXd Chart::toSmooth(const MatrixXd& zeta) const { return scaleKappa(zeta, std::asinh); }
MatrixXd Chart::fromSmooth(const MatrixXd& smooth) const { return scaleKappa(smooth, std::sinh); }

MatrixXd Chart::unwrapped(const MatrixXd& eta, const VectorXd& etaA, const VectorXd& etaB) const {
    const Eigen::Index last = eta.cols() - 1;
    MatrixXd zeta(m, last + 1);
    for (Eigen::Index k = 0; k <= last; k++) {
        zeta.col(k) = fromEta(k == 0 ? etaA : k == last ? etaB : VectorXd(eta.col(k)));
        for (int i = 0; isPolar && k > 0 && i < vars.size(); i++)
            if (vars[i].lifted()) {
                double& angle = zeta(vars.offset(i) + 1, k);
                const double before = zeta(vars.offset(i) + 1, k - 1);
                angle = before + std::remainder(angle - before, 2 * M_PI);
            }
        if (k > 0 && k < last)
            zeta.col(k) = zeta.col(k).cwiseMax(low);
    }
    return zeta;
}

std::vector<int> Chart::turns(const MatrixXd& zeta) const {
    std::vector<int> result(vars.size(), 0);
    for (int i = 0; isPolar && i < vars.size(); i++)
        if (vars[i].lifted()) {
            const double way = zeta(vars.offset(i) + 1, zeta.cols() - 1) - zeta(vars.offset(i) + 1, 0);
            result[i] = static_cast<int>(std::lround((way - std::remainder(way, 2 * M_PI)) / (2 * M_PI)));
        }
    return result;
}

VectorXd Chart::difference(const VectorXd& etaA, const VectorXd& etaB, const std::vector<int>& turns) const {
    VectorXd d = fromEta(etaB) - fromEta(etaA);
    for (int i = 0; isPolar && i < vars.size(); i++)
        if (vars[i].lifted()) {
            double& angle = d[vars.offset(i) + 1];
            angle = std::remainder(angle, 2 * M_PI) + 2 * M_PI * turns[i];
        }
    return d;
}

MatrixXd Chart::start(const VectorXd& etaA, const VectorXd& etaB, const std::vector<int>& turns, int N) const {
    const VectorXd a = fromEta(etaA), way = difference(etaA, etaB, turns);
    MatrixXd zeta(m, N + 1);
    for (int k = 0; k <= N; k++)
        zeta.col(k) = a + way * (static_cast<double>(k) / N);
    if (vars.hasQuadratic() && etaA[0] < 0 && etaB[0] < 0) {
        // Half-circle in (m, y), y = sqrt(2 D) e^{-l/2}, traversed at constant hyperbolic speed; y is capped at the data's width.
        const int D = static_cast<int>(unliftedRows.size());
        VectorXd ma(D), mb(D);
        for (int u = 0; u < D; u++) {
            ma[u] = etaA[unliftedRows[u]] / (-2 * etaA[0]);
            mb[u] = etaB[unliftedRows[u]] / (-2 * etaB[0]);
        }
        const double ya = std::sqrt(2 * D / (-2 * etaA[0])), yb = std::sqrt(2 * D / (-2 * etaB[0])), yMax = std::max({ya, yb, std::sqrt(2 * D * s2)});
        const double L = (mb - ma).norm();
        for (int k = 1; k < N; k++) {
            const double t = static_cast<double>(k) / N;
            double y, along = t;
            if (L < 1e-9 * std::min(ya, yb))
                y = ya * std::pow(yb / ya, t);
            else {
                const double center = (L * L + yb * yb - ya * ya) / (2 * L), R = std::hypot(center, ya);
                const double ua = std::log((R - center) / ya), ub = std::log((R + L - center) / yb);
                const double angle = 2 * std::atan(std::exp(ua + (ub - ua) * t));
                along = (center - R * std::cos(angle)) / L;
                y = R * std::sin(angle);
            }
            y = std::min(y, yMax);
            VectorXd eta = etaA;
            eta[0] = -D / (y * y);
            for (int u = 0; u < D; u++)
                eta[unliftedRows[u]] = -2 * eta[0] * (ma[u] + along * (mb[u] - ma[u]));
            const VectorXd point = fromEta(eta);
            zeta(0, k) = point[0];
            for (int r : unliftedRows)
                zeta(r, k) = point[r];
        }
    }
    return zeta;
}

}  // namespace Spacetime
