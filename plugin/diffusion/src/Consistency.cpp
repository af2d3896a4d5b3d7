// SPDX-License-Identifier: MIT
#include "TrainingData.h"
#include "spacetime/Training.h"
#include <Eigen/Cholesky>
#include <algorithm>
#include <cmath>
#include <stdexcept>

namespace Spacetime {

namespace {

/// Share of the featureless posterior's covariance that is added to H: where samples are so few that H collapses, an error is
/// measured against 3 % of the width that the tilt alone would leave.
const double Regularisation = 1e-3;

double quantile(std::vector<double> values, double q) {
    if (values.empty())
        return 0;
    const size_t k = std::min(values.size() - 1, static_cast<size_t>(q * values.size()));
    std::nth_element(values.begin(), values.begin() + k, values.end());
    return values[k];
}

}  // namespace

Consistency compare(const PosteriorModel& model, const PosteriorModel& reference, const Eigen::MatrixXd& eta) {
    if (!model.variables().compatible(reference.variables()))
        throw std::invalid_argument("compare: the model and the reference have different variables");
    const Moments a = model.moments(eta, PosteriorModel::Order::Covariance), b = reference.moments(eta, PosteriorModel::Order::Covariance);
    const std::vector<Eigen::MatrixXd> flat = featureless(reference.variables(), reference.dataMean(), reference.dataVariance()).moments(eta).J;
    const double root = std::sqrt(static_cast<double>(reference.numStatistics()));
    std::vector<double> errors, asymmetries, jacobianErrors;
    for (Eigen::Index i = 0; i < eta.cols(); i++) {
        const Eigen::MatrixXd H = b.J[i] + Regularisation * flat[i];
        const Eigen::LLT<Eigen::MatrixXd> factor(H);
        if (factor.info() != Eigen::Success)
            continue;  // a point so far out that rounding leaves no covariance: nothing to measure against
        // The Frobenius norm is the same for a Cholesky factor as for the symmetric root.
        errors.push_back(factor.matrixL().solve(a.mu.col(i) - b.mu.col(i)).norm() / root);
        const Eigen::MatrixXd half = factor.matrixL().solve(a.J[i] - b.J[i]);
        jacobianErrors.push_back(factor.matrixL().solve(half.transpose()).norm() / root);
        asymmetries.push_back((a.J[i] - a.J[i].transpose()).norm() / (a.J[i] + a.J[i].transpose()).norm());
    }
    Consistency out;
    out.points = static_cast<int>(errors.size());
    out.medianError = quantile(errors, 0.5);
    out.error90 = quantile(errors, 0.9);
    out.asymmetry = quantile(asymmetries, 0.5);
    out.jacobianError = quantile(jacobianErrors, 0.5);
    return out;
}

}  // namespace Spacetime
