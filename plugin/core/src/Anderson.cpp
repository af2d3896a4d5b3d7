// SPDX-License-Identifier: MIT
#include "Anderson.h"
#include <Eigen/Eigenvalues>
#include <limits>

using Eigen::Index;
using Eigen::MatrixXd;
using Eigen::VectorXd;

namespace Spacetime {

namespace {

/// Steps that Anderson's method remembers, and the share of the largest eigenvalue of their products below which they count as repetitions.
const size_t Memory = 8;
const double MemoryRank = 1e-12;

}  // namespace

void Anderson::clear() {
    changes.clear();
    sums.clear();
    lastStep.resize(0, 0);
}

MatrixXd Anderson::accelerated(const MatrixXd& place, const MatrixXd& step) {
    if (lastStep.size() > 0)
        remember(place, step);
    lastPlace = place;
    lastStep = step;
    MatrixXd result = step;
    const Index m = changes.size();
    if (m == 0)
        return result;
    // Least squares by normal equations of unit columns: they are long and few, and weights to six digits will do. Repetitions get none.
    const VectorXd norms = products.diagonal().cwiseSqrt().cwiseMax(std::numeric_limits<double>::min());
    VectorXd target(m);
    for (Index k = 0; k < m; k++)
        target[k] = changes[k].cwiseProduct(step).sum() / norms[k];
    const Eigen::SelfAdjointEigenSolver<MatrixXd> modes(norms.cwiseInverse().asDiagonal() * products * norms.cwiseInverse().asDiagonal());
    const Eigen::ArrayXd values = modes.eigenvalues();
    const VectorXd along = modes.eigenvectors().transpose() * target;
    const VectorXd weights = (modes.eigenvectors() * (values > MemoryRank * values.maxCoeff()).select(along.array() / values, 0).matrix()).cwiseQuotient(norms);
    for (Index k = 0; k < m; k++)
        result -= weights[k] * sums[k];
    return result;
}

void Anderson::remember(const MatrixXd& place, const MatrixXd& step) {
    if (changes.size() == Memory) {
        changes.pop_front();
        sums.pop_front();
        products = products.bottomRightCorner(Memory - 1, Memory - 1).eval();
    }
    changes.push_back(step - lastStep);
    sums.push_back(changes.back() + place - lastPlace);
    const Index m = changes.size();
    products.conservativeResize(m, m);
    for (Index k = 0; k < m; k++)
        products(k, m - 1) = products(m - 1, k) = changes[k].cwiseProduct(changes[m - 1]).sum();
}

}  // namespace Spacetime
