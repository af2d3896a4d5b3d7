// SPDX-License-Identifier: MIT
#include "CurveEnergy.h"
#include <Eigen/Eigenvalues>
#include <cmath>

using Eigen::MatrixXd;
using Eigen::VectorXd;

namespace Spacetime {

namespace {

using Order = PosteriorModel::Order;

MatrixXd symmetric(const MatrixXd& J) { return 0.5 * (J + J.transpose()); }

MatrixXd positivePart(const MatrixXd& H) {
    const Eigen::SelfAdjointEigenSolver<MatrixXd> eigen(H);
    return eigen.eigenvectors() * eigen.eigenvalues().cwiseMax(0.0).asDiagonal() * eigen.eigenvectors().transpose();
}

}  // namespace

CurveState evaluate(const CurveProblem& problem, const MatrixXd& zeta, const CurveState* base) {
    const PosteriorModel& model = problem.model;
    CurveState s;
    s.zeta = zeta;
    s.eta = problem.chart.toEta(zeta);
    const Eigen::Index N = s.edges();
    s.moments = model.moments(s.eta, model.isExact() || base != nullptr ? Order::Mean : Order::Covariance);
    s.squares.resize(N);
    s.weights = VectorXd::Ones(N);
    s.inconsistent.assign(N, false);
    if (base != nullptr) {
        s.metric = base->metric;
        s.inconsistent = base->inconsistent;
    }
    else if (!model.isExact()) {
        s.metric.resize(N + 1);
        for (Eigen::Index i = 0; i <= N; i++)
            s.metric[i] = positivePart(symmetric(s.moments.J[i]));
    }
    VectorXd cost;
    if (problem.barrierWeight > 0) {
        cost = s.eta.cwiseProduct(s.moments.mu).colwise().sum().transpose() - s.moments.psi;
        cost.array() -= cost[0];
    }
    for (Eigen::Index i = 0; i < N; i++) {
        const VectorXd step = s.eta.col(i + 1) - s.eta.col(i);
        s.squares[i] = step.dot(s.moments.mu.col(i + 1) - s.moments.mu.col(i));
        if (!model.isExact()) {
            // Where a denoiser's J is not positive an edge can come out much shorter than its own metric says: an artefact, not a short cut.
            const double floor = 0.125 * step.dot((s.metric[i] + s.metric[i + 1]) * step);
            if (base == nullptr)
                s.inconsistent[i] = s.squares[i] < floor;
            if (s.inconsistent[i])
                s.squares[i] = floor;
        }
        if (problem.barrierWeight > 0)
            s.weights[i] = std::exp(problem.barrierWeight * (cost[i] + cost[i + 1]));
    }
    s.sum = s.weights.dot(s.squares);
    if (problem.penaltyWeight > 0)
        for (Eigen::Index i = 1; i < N; i++)
            s.penalty += problem.penaltyWeight * logSnrPenalty(model.variables(), s.eta.col(i), problem.penaltyLogSnr).value;
    const size_t count = problem.constraints.size();
    if (count > 0) {
        s.middle = problem.chart.toEta(0.5 * (zeta.leftCols(N) + zeta.rightCols(N)));
        s.middleMoments = model.moments(s.middle, Order::Mean);
        s.margins = MatrixXd::Ones(count, 2 * N + 1);
        for (size_t c = 0; c < count; c++)
            for (Eigen::Index i = 0; i < N; i++) {
                if (i > 0)
                    s.margins(c, 2 * i) = problem.constraints[c]->margin(s.eta.col(i), s.moments.mu.col(i), s.moments.psiAt(i));
                s.margins(c, 2 * i + 1) = problem.constraints[c]->margin(s.middle.col(i), s.middleMoments.mu.col(i), s.middleMoments.psiAt(i));
            }
    }
    return s;
}

void assemble(const CurveProblem& problem, CurveState& s, const BarrierTerms& terms, BlockSystem& hessian, BlockSystem& damping) {
    const PosteriorModel& model = problem.model;
    const Chart& chart = problem.chart;
    const Constraints& constraints = problem.constraints;
    const Eigen::Index N = s.edges(), m = s.eta.rows(), count = static_cast<Eigen::Index>(constraints.size());
    const double w = problem.barrierWeight;

    // One pass gives mu, J and the third cumulant along the one direction in which all the Hessians together ask for it.
    MatrixXd direction = MatrixXd::Zero(m, N + 1);
    for (Eigen::Index i = 1; i < N; i++) {
        for (Eigen::Index edge = i - 1; edge <= i; edge++) {
            if (!s.inconsistent[edge])
                direction.col(i) += s.weights[edge] * (s.eta.col(i) - s.eta.col(edge < i ? i - 1 : i + 1));
            direction.col(i) += w * s.weights[edge] * s.squares[edge] * s.eta.col(i);
        }
        for (Eigen::Index c = 0; c < count; c++)
            direction.col(i) -= terms.multipliers(c, 2 * i) * constraints[c]->derivatives(s.eta.col(i), s.moments.mu.col(i), s.moments.psiAt(i), nullptr).third;
    }
    s.moments = model.moments(s.eta, Order::Third, &direction);
    if (model.isExact())
        s.metric = s.moments.J;
    if (count > 0) {
        MatrixXd middleDirection = MatrixXd::Zero(m, N);
        for (Eigen::Index i = 0; i < N; i++)
            for (Eigen::Index c = 0; c < count; c++)
                middleDirection.col(i) -=
                    terms.multipliers(c, 2 * i + 1) * constraints[c]->derivatives(s.middle.col(i), s.middleMoments.mu.col(i), s.middleMoments.psiAt(i), nullptr).third;
        s.middleMoments = model.moments(s.middle, Order::Third, &middleDirection);
        s.marginGradients.assign(count, MatrixXd::Zero(m, 2 * N + 1));
    }

    std::vector<MatrixXd> H(N + 1), A(N + 1);
    MatrixXd slope(m, N + 1);  // d psi*/d eta
    for (Eigen::Index i = 0; i <= N; i++) {
        H[i] = symmetric(s.moments.J[i]);
        A[i] = chart.jacobian(s.zeta.col(i));
        slope.col(i) = s.moments.J[i].transpose() * s.eta.col(i);
    }
    // Derivative of an edge's square at its end i.
    auto edgeGradient = [&](Eigen::Index edge, Eigen::Index i) -> VectorXd {
        const Eigen::Index other = edge < i ? i - 1 : i + 1;
        const VectorXd step = s.eta.col(i) - s.eta.col(other);
        if (s.inconsistent[edge])
            return 0.25 * (s.metric[edge] + s.metric[edge + 1]) * step;
        return s.moments.mu.col(i) - s.moments.mu.col(other) + s.moments.J[i].transpose() * step;
    };
    // Constraints at one place: force and Hessian in eta but for the third cumulant, and what belongs to the chart.
    auto constrain = [&](Eigen::Index place, const VectorXd& zeta, const VectorXd& eta, const Moments& moments, Eigen::Index column, const MatrixXd& jacobian, VectorXd& g,
                         MatrixXd& block, MatrixXd& inChart) {
        VectorXd dual = g;  // the chart bends under the multipliers' gradient
        for (Eigen::Index c = 0; c < count; c++) {
            const auto d = constraints[c]->derivatives(eta, moments.mu.col(column), moments.psiAt(column), &moments.J[column]);
            g -= terms.force(c, place) * d.gradient;
            dual -= terms.multipliers(c, place) * d.gradient;
            block -= terms.multipliers(c, place) * d.hessian;
            const VectorXd slope = jacobian.transpose() * d.gradient;
            s.marginGradients[c].col(place) = slope;
            inChart += terms.stiffness(c, place) * slope * slope.transpose();
        }
        inChart += chart.curvature(zeta, dual);
    };
    for (Eigen::Index i = 1; i < N; i++) {
        VectorXd g = VectorXd::Zero(m);
        MatrixXd block = s.moments.third[i], damp = MatrixXd::Zero(m, m), outer = MatrixXd::Zero(m, m);
        for (Eigen::Index edge = i - 1; edge <= i; edge++) {
            const double W = s.weights[edge], wq = w * W * s.squares[edge];
            const VectorXd r = edgeGradient(edge, i);
            g += W * r + wq * slope.col(i);
            block += W * (s.inconsistent[edge] ? MatrixXd(0.25 * (s.metric[edge] + s.metric[edge + 1])) : MatrixXd(2 * H[i]));
            if (w > 0)
                block += w * W * (r * slope.col(i).transpose() + slope.col(i) * r.transpose()) + wq * (w * slope.col(i) * slope.col(i).transpose() + H[i]);
            damp += W * (s.metric[edge] + s.metric[edge + 1]);
        }
        if (problem.penaltyWeight > 0) {
            const LogSnrPenalty p = logSnrPenalty(model.variables(), s.eta.col(i), problem.penaltyLogSnr);
            g += problem.penaltyWeight * p.gradient;
            block += problem.penaltyWeight * p.hessian;
        }
        constrain(2 * i, s.zeta.col(i), s.eta.col(i), s.moments, i, A[i], g, block, outer);
        hessian.gradient.col(i - 1) += A[i].transpose() * g;
        hessian.diagonal[i - 1] += A[i].transpose() * block * A[i] + outer;
        damping.diagonal[i - 1] = A[i].transpose() * damp * A[i];
        // A node that the metric does not see (a gap between samples) must still be held.
        damping.diagonal[i - 1].diagonal().array() += 1e-10 * (1e-300 + damping.diagonal[i - 1].diagonal().maxCoeff());
        if (i + 1 < N) {
            const double W = s.weights[i];
            MatrixXd coupling = s.inconsistent[i] ? MatrixXd(-0.25 * (s.metric[i] + s.metric[i + 1])) : MatrixXd(-(H[i] + H[i + 1]));
            if (w > 0)
                coupling += w * (edgeGradient(i, i) * slope.col(i + 1).transpose() + slope.col(i) * edgeGradient(i, i + 1).transpose()) +
                            w * w * s.squares[i] * slope.col(i) * slope.col(i + 1).transpose();
            hessian.upper[i - 1] += W * A[i].transpose() * coupling * A[i + 1];
            damping.upper[i - 1] = -W * A[i].transpose() * (s.metric[i] + s.metric[i + 1]) * A[i + 1];
        }
    }
    for (Eigen::Index edge = 0; edge < N && count > 0; edge++) {
        // A middle lies halfway between its nodes in the chart: half its gradient goes to each, a quarter of its Hessian to every pair.
        const VectorXd zeta = 0.5 * (s.zeta.col(edge) + s.zeta.col(edge + 1));
        const MatrixXd jacobian = chart.jacobian(zeta);
        VectorXd g = VectorXd::Zero(m);
        MatrixXd block = s.middleMoments.third[edge], outer = MatrixXd::Zero(m, m);
        constrain(2 * edge + 1, zeta, s.middle.col(edge), s.middleMoments, edge, jacobian, g, block, outer);
        const VectorXd half = 0.5 * (jacobian.transpose() * g);
        const MatrixXd quarter = 0.25 * (jacobian.transpose() * block * jacobian + outer);
        if (edge > 0) {
            hessian.gradient.col(edge - 1) += half;
            hessian.diagonal[edge - 1] += quarter;
        }
        if (edge + 1 < N) {
            hessian.gradient.col(edge) += half;
            hessian.diagonal[edge] += quarter;
        }
        if (edge > 0 && edge + 1 < N)
            hessian.upper[edge - 1] += quarter;
    }
}

}  // namespace Spacetime
