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

}  // namespace Spacetime
