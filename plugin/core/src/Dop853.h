// SPDX-License-Identifier: MIT
#pragma once

#include <Eigen/Core>
#include <functional>

namespace Spacetime {

/**
 * Steps of DOP853 (Hairer, Norsett and Wanner, Solving Ordinary Differential Equations I, 1993): an explicit Runge-Kutta method of order 8 with
 * errors of order 3 and 5 beside it. Any number of independent systems y' = f(t, y), one a column, take their own steps at the same time, so that
 * one call evaluates a model at a stage of all of them. Which error is too large is for the caller to say.
 */
namespace Dop853 {

/// f at times t [n] and states [d x n] into `slope` [d x n]; false where it does not exist, which abandons the step.
using Slope = std::function<bool(const Eigen::VectorXd& t, const Eigen::MatrixXd& state, Eigen::MatrixXd& slope)>;

struct Step {
    Eigen::MatrixXd end;             ///< [d x n] state at t + h
    Eigen::MatrixXd slope;           ///< [d x n] f there: the first stage of the next step
    Eigen::MatrixXd error3, error5;  ///< [d x n] estimates of the error
};

/// One step of length h [n] from `state`, where f is `slope`. Returns what f returned; the last call of f is that at the end of the step.
bool step(const Slope& f, const Eigen::VectorXd& t, const Eigen::MatrixXd& state, const Eigen::MatrixXd& slope, const Eigen::VectorXd& h, Step& result);

/// The error of a step out of the sizes of error3 and error5, both relative to what is tolerated: the step is good where it is at most 1.
double error(double size3, double size5);

/// Factor on the length of a step that was refused with this error (not finite: the step left the domain of f).
double shrink(double error);
/// Factor on the length of a step that was taken. After a refused step the next may not grow: at a boundary it would only be refused again.
double grow(double error, bool refusedBefore);

}  // namespace Dop853

}  // namespace Spacetime
