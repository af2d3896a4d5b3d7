// SPDX-License-Identifier: MIT
#pragma once

#include "BlockSystem.h"
#include "Chart.h"
#include "Constraints.h"

namespace Spacetime {

/**
 * What the solver minimises over the inner nodes of a curve.
 *
 * The energy in the conformal metric e^(2 w psi*) ds_FR^2: an edge counts as exp(w (psi*_i + psi*_{i+1})) D eta · D mu; w = 0 is
 * the Fisher-Rao metric itself. psi* = eta·mu - psi is the information cost of localising the distribution there, taken relative
 * to the first node. Constraints are asked for at the nodes and at the middle of every edge, so that no edge leaps over them.
 */
struct CurveProblem {
    const PosteriorModel& model;
    const Chart& chart;
    const Constraints& constraints;
    double barrierWeight = 0;
    double penaltyLogSnr = 0, penaltyWeight = 0;
};

/// A curve with all that was computed at it. Column 2 i of a matrix over "places" is node i, column 2 i + 1 the middle of edge i.
struct CurveState {
    Eigen::MatrixXd zeta, eta, middle;  // nodes in the chart and in natural parameters, [m x N+1]; middles of the edges in eta, [m x N] or empty
    Moments moments, middleMoments;
    std::vector<Eigen::MatrixXd> metric;           // H, or the positive part of J where the model is not exact
    std::vector<bool> inconsistent;                // edges valued by the metric because D eta · D mu is too small to be true
    Eigen::VectorXd squares, weights;              // Fisher-Rao square and conformal weight of each edge
    double sum = 0;                                // of weighted squares
    double penalty = 0;                            // in units of that sum
    Eigen::MatrixXd margins;                       // [constraints x places], 0 at the bound; ends are fixed and hold 1
    std::vector<Eigen::MatrixXd> marginGradients;  // [m x places] for every constraint, in the chart

    Eigen::Index edges() const { return eta.cols() - 1; }
    double objective() const { return sum + penalty; }
};

/**
 * The value alone: mu for an exact posterior; a denoiser is also asked for J, which tells its artefacts apart.
 *
 * Within one step of the solver a denoiser's artefacts stay those of `base`, and so does the metric that values them: the
 * derivatives know nothing of how either changes, and a step would be refused that the derivatives promise.
 */
CurveState evaluate(const CurveProblem& problem, const Eigen::MatrixXd& zeta, const CurveState* base = nullptr);

/// What an interior point asks of the derivatives at every place, [constraints x places]: multipliers z of the margins' curvature, the
/// force along their gradients, and the stiffness z/slack across them.
struct BarrierTerms {
    Eigen::MatrixXd multipliers, force, stiffness;
};

/**
 * Gradient and Hessian in the chart of the objective minus sum force·margin, with the constraints' share of the Hessian
 * -sum multipliers margin'' + sum stiffness margin' margin'^T, and the positive damping matrix that goes with them. Adds the derivatives of the
 * moments and of the margins to `state`.
 */
void assemble(const CurveProblem& problem, CurveState& state, const BarrierTerms& barrier, BlockSystem& hessian, BlockSystem& damping);

}  // namespace Spacetime
