// SPDX-License-Identifier: MIT
#include "BlockSystem.h"
#include <Eigen/Cholesky>

using Eigen::MatrixXd;

namespace Spacetime {

BlockSystem::BlockSystem(Eigen::Index m, Eigen::Index n) : diagonal(n, MatrixXd::Zero(m, m)), upper(n > 0 ? n - 1 : 0, MatrixXd::Zero(m, m)), gradient(MatrixXd::Zero(m, n)) {}

MatrixXd BlockSystem::times(const MatrixXd& x) const {
    MatrixXd y(x.rows(), x.cols());
    for (size_t i = 0; i < diagonal.size(); i++) {
        y.col(i).noalias() = diagonal[i] * x.col(i);
        if (i + 1 < diagonal.size())
            y.col(i).noalias() += upper[i] * x.col(i + 1);
        if (i > 0)
            y.col(i).noalias() += upper[i - 1].transpose() * x.col(i - 1);
    }
    return y;
}

BlockSystem BlockSystem::plus(double lambda, const BlockSystem& other) const {
    BlockSystem sum = *this;
    for (size_t i = 0; i < diagonal.size(); i++)
        sum.diagonal[i] += lambda * other.diagonal[i];
    for (size_t i = 0; i < upper.size(); i++)
        sum.upper[i] += lambda * other.upper[i];
    return sum;
}

bool BlockSystem::solve(const MatrixXd& b, MatrixXd& x) const {
    const int n = static_cast<int>(diagonal.size());
    std::vector<Eigen::LLT<MatrixXd>> factors;
    std::vector<MatrixXd> above(n);  // L^-1 U of every row
    factors.reserve(n);
    x = b;
    MatrixXd block;
    for (int i = 0; i < n; i++) {
        block = diagonal[i];
        if (i > 0) {
            block.noalias() -= above[i - 1].transpose() * above[i - 1];
            x.col(i) -= above[i - 1].transpose() * x.col(i - 1);
        }
        factors.emplace_back(block);
        if (factors.back().info() != Eigen::Success || !(factors.back().matrixLLT().diagonal().minCoeff() > 0))
            return false;
        factors.back().matrixL().solveInPlace(x.col(i));
        if (i + 1 < n) {
            above[i] = upper[i];
            factors.back().matrixL().solveInPlace(above[i]);
        }
    }
    for (int i = n - 1; i >= 0; i--) {
        if (i + 1 < n)
            x.col(i) -= above[i] * x.col(i + 1);
        factors[i].matrixU().solveInPlace(x.col(i));
    }
    return x.allFinite();
}

bool BlockSystem::solveBounded(const MatrixXd& lower, MatrixXd& x) const {
    using Mask = Eigen::Array<bool, Eigen::Dynamic, Eigen::Dynamic>;
    const Eigen::Index m = lower.rows(), n = lower.cols();
    const int maxChanges = 12;  // active sets tried; each but the last costs one solve
    // First guess: what rests on its bound and wants to go on through it.
    Mask held = lower.array() >= -1e-13 && gradient.array() > 0;
    for (int change = 0;; change++) {
        // Held coordinates are moved to their bound; the others are solved for.
        const MatrixXd fixed = held.select(lower, MatrixXd::Zero(m, n));
        MatrixXd b = -gradient - times(fixed);
        BlockSystem rest = *this;
        for (Eigen::Index i = 0; i < n; i++)
            for (Eigen::Index j = 0; j < m; j++)
                if (held(j, i)) {
                    rest.diagonal[i].row(j).setZero();
                    rest.diagonal[i].col(j).setZero();
                    rest.diagonal[i](j, j) = 1;
                    if (i + 1 < n)
                        rest.upper[i].row(j).setZero();
                    if (i > 0)
                        rest.upper[i - 1].col(j).setZero();
                    b(j, i) = 0;
                }
        if (!rest.solve(b, x))
            return false;
        x += fixed;
        const Mask beyond = !held && x.array() < lower.array() - 1e-12;
        // A held coordinate whose force points away from the bound is let go; not in the last rounds, so that the search ends.
        Mask freed = held && (times(x) + gradient).array() < 0;
        if (change >= maxChanges / 2)
            freed.setConstant(false);
        if ((!beyond.any() && !freed.any()) || change == maxChanges)
            break;
        held = (held || beyond) && !freed;
    }
    x = x.cwiseMax(lower);
    return true;
}

}  // namespace Spacetime
