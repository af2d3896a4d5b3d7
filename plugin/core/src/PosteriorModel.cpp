// SPDX-License-Identifier: MIT
#include "spacetime/PosteriorModel.h"
#include <stdexcept>

using Eigen::MatrixXd;

namespace Spacetime {

namespace {
thread_local long countOfThread = 0;
}

long PosteriorModel::evaluationsOfThread() { return countOfThread; }

void PosteriorModel::addEvaluations(long n) const {
    count += n;
    countOfThread += n;
}

void PosteriorModel::checkPoints(const MatrixXd& eta) const {
    if (eta.rows() != numStatistics())
        throw std::invalid_argument("PosteriorModel: expected eta with " + std::to_string(numStatistics()) + " components a point, got " + std::to_string(eta.rows()));
    if (!eta.allFinite())
        throw std::invalid_argument("PosteriorModel: eta holds a value that is not finite");
}

Moments PosteriorModel::moments(const MatrixXd& eta, Order order, const MatrixXd* direction) const {
    checkPoints(eta);
    if (order == Order::Third && (direction == nullptr || direction->rows() != eta.rows() || direction->cols() != eta.cols()))
        throw std::invalid_argument("PosteriorModel: third moments need a direction of the shape of eta");
    addEvaluations(eta.cols());
    return compute(eta, order, direction);
}

MatrixXd PosteriorModel::denoised(const MatrixXd& eta) const {
    checkPoints(eta);
    addEvaluations(eta.cols());
    return computeDenoised(eta);
}

MeanProducts PosteriorModel::products(const MatrixXd& eta, const MatrixXd& direction) const {
    checkPoints(eta);
    if (direction.rows() != eta.rows() || direction.cols() != eta.cols() || !direction.allFinite())
        throw std::invalid_argument("PosteriorModel: products need finite directions of the shape of eta");
    addEvaluations(eta.cols());
    return computeProducts(eta, direction);
}

MeanProducts PosteriorModel::computeProducts(const MatrixXd& eta, const MatrixXd& direction) const {
    const Moments at = compute(eta, Order::Covariance, nullptr);
    const Eigen::Index D = numStatistics() - (vars.hasQuadratic() ? 1 : 0);
    MeanProducts out{at.mu.bottomRows(D), MatrixXd(D, eta.cols())};
    for (Eigen::Index i = 0; i < eta.cols(); i++)
        out.product.col(i) = at.J[i].bottomRows(D) * direction.col(i);
    return out;
}

MatrixXd PosteriorModel::computeDenoised(const MatrixXd& eta) const { return compute(eta, Order::Mean, nullptr).mu.bottomRows(numStatistics() - (vars.hasQuadratic() ? 1 : 0)); }

}  // namespace Spacetime
