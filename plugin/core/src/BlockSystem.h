// SPDX-License-Identifier: MIT
#pragma once

#include <Eigen/Core>
#include <vector>

namespace Spacetime {

/// Symmetric block-tridiagonal matrix and right-hand side over the n inner nodes of a curve, blocks of m x m.
struct BlockSystem {
    std::vector<Eigen::MatrixXd> diagonal, upper;
    Eigen::MatrixXd gradient;  // [m x n]

    BlockSystem(Eigen::Index m, Eigen::Index n);

    /// (this) x, [m x n].
    Eigen::MatrixXd times(const Eigen::MatrixXd& x) const;
    /// this + lambda other, with the gradient of this.
    BlockSystem plus(double lambda, const BlockSystem& other) const;
    /// x = (this)^-1 b by block Cholesky; false where the matrix is not positive definite.
    bool solve(const Eigen::MatrixXd& b, Eigen::MatrixXd& x) const;
    /// Minimises gradient·x + x^T (this) x/2 over x >= lower by an active set; false where the matrix is not positive definite.
    bool solveBounded(const Eigen::MatrixXd& lower, Eigen::MatrixXd& x) const;
};

}  // namespace Spacetime
