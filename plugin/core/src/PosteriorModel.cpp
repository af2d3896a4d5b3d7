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

Moments PosteriorModel::moments(const MatrixXd& eta, Order order, const MatrixXd* direction) const {
    const int m = numStatistics();
    if (eta.rows() != m)
        throw std::invalid_argument("PosteriorModel: expected eta with " + std::to_string(m) + " components a point, got " + std::to_string(eta.rows()));
    if (!eta.allFinite())
        throw std::invalid_argument("PosteriorModel: eta holds a value that is not finite");
    if (order == Order::Third && (direction == nullptr || direction->rows() != m || direction->cols() != eta.cols()))
        throw std::invalid_argument("PosteriorModel: third moments need a direction of the shape of eta");
    addEvaluations(eta.cols());
    return compute(eta, order, direction);
}

void PosteriorModel::thirdByDifference(const MatrixXd& eta, const MatrixXd& direction, Moments& result) const {
    const Eigen::Index n = eta.cols();
    // The step is relative to the point, so that a unit-free direction gets the same relative accuracy everywhere.
    Eigen::VectorXd h(n);
    MatrixXd plus = eta, minus = eta;
    for (Eigen::Index i = 0; i < n; i++) {
        const double size = direction.col(i).norm();
        h[i] = size > 0 ? 1e-4 * (1 + eta.col(i).norm()) / size : 1.0;
        plus.col(i) += h[i] * direction.col(i);
        minus.col(i) -= h[i] * direction.col(i);
    }
    const Moments a = moments(plus, Order::Covariance), b = moments(minus, Order::Covariance);
    result.third.resize(n);
    for (Eigen::Index i = 0; i < n; i++) {
        const MatrixXd d = (a.J[i] - b.J[i]) / (2 * h[i]);
        result.third[i] = 0.5 * (d + d.transpose());
    }
}

}  // namespace Spacetime
