// SPDX-License-Identifier: MIT
#pragma once

#include "CurveEnergy.h"
#include <functional>

namespace Spacetime {

struct NewtonOptions {
    double tolerance = 1e-6;  ///< on the Newton decrement relative to the energy
    int maxIterations = 200;
    /// Size of the barrier, as the number of places times tau relative to the energy: an upper bound of what it costs in energy.
    double gapStart = 0.1, gapEnd = 1e-4;
    /// Constraints by a barrier that is smooth on both sides of a bound: dearer, but it does not stall along curved ones.
    bool smoothBarrier = false;
    std::function<bool()> keepGoing;
};

struct NewtonResult {
    Eigen::MatrixXd zeta;
    double residual = std::numeric_limits<double>::infinity();
    Eigen::VectorXd relaxed;  ///< [constraints] what is still missing of each margin; 0 where the constraint holds at every place
    int iterations = 0;
    bool converged = false, interrupted = false;

    /// True where a constraint is still relaxed.
    bool unmet() const { return relaxed.size() > 0 && relaxed.maxCoeff() > 0; }
};

/**
 * Minimises the objective of `problem` over the inner nodes, from `zeta`.
 *
 * Levenberg-Marquardt Newton on all nodes at once (block-tridiagonal, exact Hessian), an active set for the box bounds of the
 * chart, and a primal-dual interior point for the constraints. A constraint that `zeta` violates is relaxed until it holds and
 * then tightened from step to step as far as the curve yields.
 */
NewtonResult minimise(const CurveProblem& problem, const Eigen::MatrixXd& zeta, const NewtonOptions& options);

}  // namespace Spacetime
