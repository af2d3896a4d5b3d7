// SPDX-License-Identifier: MIT
#include "DensityNodes.h"
#include "spacetime/Text.h"
#include <algorithm>
#include <cmath>
#include <stdexcept>

using Eigen::Index;
using Eigen::MatrixXd;
using Eigen::VectorXd;

namespace Spacetime {

SequenceAnalysis analyzeSequence(const DensityField& field, const MatrixXd& given, int numFrames, const DensityGeodesicOptions& options) {
    const std::string where = "analyzeSequence";
    if (numFrames == 0)
        numFrames = static_cast<int>(given.cols());
    if (given.cols() < 3 || numFrames < 3)
        throw std::invalid_argument(where + ": expected at least 3 frames, got " + std::to_string(std::min<Index>(given.cols(), numFrames)));
    checkNodes(field, given, where, "frame");
    if (options.sphere)
        checkOnSphere(given, where);
    const MatrixXd frames = unwrapped(field, given);
    if (!((frames.rightCols(frames.cols() - 1) - frames.leftCols(frames.cols() - 1)).colwise().norm().maxCoeff() > 0))
        throw std::invalid_argument(where + ": all frames coincide");
    SequenceAnalysis out;
    MatrixXd scores;
    out.frames = measureWithScores(field, equallySpaced(frames, numFrames, options.sphere), options.tau, 1e-4, options.sphere, scores);
    const MatrixXd& x = out.frames.x;
    const Index n = x.cols() - 2;
    const NodeForces forces = nodeForces(x, scores.middleCols(1, n), options.tau, options.sphere);
    out.angle.resize(n);
    out.residual.resize(n);
    // Fit of P g'' + tau |g'|^2 P s = 0 for tau, from the terms at options.tau.
    double cross = 0, pulls = 0, bendings = 0;
    for (Index i = 0; i < n; i++) {
        const auto bending = forces.bending.col(i), pull = forces.pull.col(i);
        const double b = bending.norm(), p = pull.norm(), negligible = 1e-6 * forces.largest;
        out.angle[i] = b > negligible && p > negligible ? 180 / M_PI * std::acos(std::clamp(bending.dot(pull) / (b * p), -1.0, 1.0)) : std::numeric_limits<double>::quiet_NaN();
        out.residual[i] = (bending + pull).norm() / std::max(b + p, negligible);
        cross += bending.dot(pull);
        pulls += pull.squaredNorm();
        bendings += bending.squaredNorm();
    }
    const double factor = pulls > 0 ? -cross / pulls : 0;
    out.bestTau = factor * options.tau;
    out.bestTauResidual = bendings > 0 ? std::max(0.0, bendings + 2 * factor * cross + factor * factor * pulls) / bendings : 0;

    DensityGeodesicOptions o = options;
    o.windings = out.frames.windings;
    const VectorXd a = x.col(0), b = x.col(n + 1);
    out.geodesic = densityGeodesics(field, a, b, o)[0];
    const MatrixXd line = options.sphere ? slerp(a, b, options.numPoints) : lerp(a, b, options.numPoints);
    // Turns that the sequence makes are turns of the line: nothing is unwrapped the short way.
    out.line = measureDensityPath(field, line, options.tau, 1e-4, options.sphere);
    out.lengthRatio = out.frames.length / out.geodesic.length;
    out.distanceRatio = std::exp(out.frames.logDistance - out.geodesic.logDistance);
    return out;
}

}  // namespace Spacetime
