// SPDX-License-Identifier: MIT
#pragma once

#include "spacetime/DensityPath.h"
#include <limits>
#include <vector>

namespace Spacetime {

/// Relaxes a string of nodes between fixed ends, on levels from coarse to fine, until the geodesic equation holds on the finest.
class Relaxation {
public:
    /// `radius` is that of the sphere, if there is one.
    Relaxation(const DensityField& field, const DensityGeodesicOptions& options, double radius);

    std::vector<int> levels;      ///< segments of each, the coarsest first
    bool stopped = false;         ///< by the options' progress
    double offset = 0, span = 1;  ///< which part of all the work this is, for progress
    long draw = 0;                ///< of a stochastic field

    /// Through the levels from `first` to `last`; `x` [D x any] may have any number of nodes. Returns the iterations on the last one.
    int run(Eigen::MatrixXd& x, size_t first, size_t last, bool& converged);

    /// Averaged steps of a stochastic field: every step sees the noise of a draw of its own, the mean over the second half of the path's positions does not.
    /// Returns the residual and its standard error; `steps` counts.
    double average(Eigen::MatrixXd& x, double& error, int& steps);

private:
    /// A path with its forces.
    struct String {
        Eigen::MatrixXd x;            // [D x N+1]
        Eigen::MatrixXd force, pull;  // [D x N-1] what is to vanish; its part that is not tension
        double residual = std::numeric_limits<double>::infinity(), spacing = residual;
        bool tooCoarse = false;  // the pull was cut to what the level resolves

        bool settled(double tolerance) const;
    };

    /// Tells the share of the work done: levels count by their nodes.
    void report(size_t level, double share);
    String evaluate(const Eigen::MatrixXd& x);
    /// No node further than a tenth of the path.
    void limit(Eigen::MatrixXd& step, const Eigen::MatrixXd& x) const;
    Eigen::MatrixXd moved(const Eigen::MatrixXd& x, const Eigen::MatrixXd& step) const;
    int solveLevel(Eigen::MatrixXd& x, size_t level, double tolerance, int most, bool& converged);
    /// The string method: implicit steps whose stiffness is learned from how the pull changed, and equal spacing after each.
    String descend(const Eigen::MatrixXd& from, int steps, double until, int& used, size_t level, int most);
    /// Restoring force a unit of displacement at every node, forgotten slowly, and shared with neighbours.
    void learn(const Eigen::MatrixXd& change, const Eigen::MatrixXd& pullChange, double h);
    /// Anderson's acceleration of the implicit step; ends without success where the force keeps growing or the residual does not fall.
    void accelerate(String& s, double tolerance, int most, int& used, size_t level);

    const DensityField& field;
    const DensityGeodesicOptions& options;
    const double radius;
    Eigen::VectorXd stiffness;  // [N-1] of the level at work
};

}  // namespace Spacetime
