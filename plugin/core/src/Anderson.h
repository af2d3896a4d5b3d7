// SPDX-License-Identifier: MIT
#pragma once

#include <Eigen/Core>
#include <deque>

namespace Spacetime {

/// Anderson's acceleration of a fixed-point iteration x -> x + step(x): what earlier steps say of how a step changes with x is used to foresee where it vanishes.
class Anderson {
public:
    void clear();
    /// The step to take from `place` instead of `step`, both [D x n].
    Eigen::MatrixXd accelerated(const Eigen::MatrixXd& place, const Eigen::MatrixXd& step);

private:
    void remember(const Eigen::MatrixXd& place, const Eigen::MatrixXd& step);

    std::deque<Eigen::MatrixXd> changes, sums;  // of the step from one place to the next; the same and that of the place
    Eigen::MatrixXd lastPlace, lastStep, products;
};

}  // namespace Spacetime
