// SPDX-License-Identifier: MIT
#include "ProductGrid.h"
#include <algorithm>
#include <cmath>

using Eigen::ArrayXd;
using Eigen::Index;
using Eigen::MatrixXd;
using Eigen::VectorXd;

namespace Spacetime {

namespace {

const double Tolerance = 1e-9;  // of a variable's range: closer values are the same line
// Lines that together weigh less than this, relative to the largest weight of a single point, are beneath the last digit of a double.
const double Negligible = 8.5e-17;  // e^-37
// Squares of weights above this are far from underflow, and so are products of weights and tilts, which end at e^-300.
const double SmallestWeight = 1e-100, LowestTilt = -300;

/// Sorted distinct values, those within the tolerance taken as one.
std::vector<double> distinct(const VectorXd& raw) {
    std::vector<double> sorted(raw.data(), raw.data() + raw.size()), lines;
    std::sort(sorted.begin(), sorted.end());
    const double closest = Tolerance * (sorted.back() - sorted.front());
    for (double value : sorted)
        if (lines.empty() || value - lines.back() > closest)
            lines.push_back(value);
    return lines;
}

int roundUp(int n) { return (n + StripSize - 1) / StripSize * StripSize; }

}  // namespace

std::shared_ptr<const ProductGrid> ProductGrid::detect(const Variables& variables, const MatrixXd& raw, const VectorXd& weights) {
    const Index K = raw.cols();
    if (variables.size() != 2)
        return nullptr;
    const std::vector<double> lines[2] = {distinct(raw.row(0)), distinct(raw.row(1))};
    const Index n1 = lines[0].size(), n2 = lines[1].size();
    if (n1 * n2 != K)
        return nullptr;
    std::shared_ptr<ProductGrid> grid(new ProductGrid);
    grid->W = MatrixXd::Constant(n1, n2, -1);
    const double top = weights.maxCoeff();
    for (Index k = 0; k < K; k++) {
        Index at[2];
        for (int v = 0; v < 2; v++)
            at[v] = std::upper_bound(lines[v].begin(), lines[v].end(), raw(v, k)) - lines[v].begin() - 1;
        double& w = grid->W(at[0], at[1]);
        if (w >= 0)  // twice the same point, so another one is missing
            return nullptr;
        w = weights[k] / top;
    }
    grid->logScale = std::log(top);

    for (int v = 0; v < 2; v++) {
        Axis& axis = grid->axes[v];
        axis.lines = static_cast<int>(lines[v].size());
        axis.periodic = variables[v].lifted();
        axis.length = roundUp(axis.periodic ? 2 * axis.lines : axis.lines) + StripSize;
        axis.target[0] = variables.offset(v);
        axis.target[1] = axis.periodic ? variables.offset(v) + 1 : 0;
        axis.top = v == 0 ? ArrayXd(grid->W.rowwise().maxCoeff()) : ArrayXd(grid->W.colwise().maxCoeff().transpose());
        MatrixXd points = MatrixXd::Zero(2, axis.lines);
        points.row(v) = Eigen::Map<const Eigen::RowVectorXd>(lines[v].data(), axis.lines);
        const MatrixXd T = variables.statistic(points);
        axis.T = Eigen::ArrayXXd::Zero(axis.length, 2);
        for (int k = 0; k < axis.length; k++) {
            const int line = k % axis.lines;
            axis.T(k, 0) = T(axis.target[0], line);
            // The other variable's share of |d|^2 is not this one's.
            axis.T(k, 1) = axis.periodic ? T(axis.target[1], line) : axis.T(k, 0) * axis.T(k, 0);
        }
    }
    for (int v = 0; v < 2; v++) {
        Axis &axis = grid->axes[v], &other = grid->axes[1 - v];
        axis.strips.resize(static_cast<size_t>(axis.length / StripSize) * other.length);
        for (int k = 0; k < axis.length; k++)
            for (int l = 0; l < other.length; l++) {
                const int mine = k % axis.lines, its = l % other.lines;
                axis.strips[static_cast<size_t>(k / StripSize) * other.length + l].w[k % StripSize] = v == 0 ? grid->W(mine, its) : grid->W(its, mine);
            }
    }
    return grid;
}

ProductGrid::Window ProductGrid::window(const Axis& axis, const double* tilt, double cut) const {
    const int n = axis.lines;
    int begin = -1, last = -1, gap = 0, afterGap = 0;  // of the lines that count: the first, the last so far, and the widest gap between two
    for (int k = 0; k < n; k++)
        if (tilt[k] * axis.top[k] > cut) {
            if (begin < 0)
                begin = k;
            else if (k - last - 1 > gap) {
                gap = k - last - 1;
                afterGap = k;
            }
            last = k;
        }
    int length = last - begin + 1;
    if (axis.periodic && gap > n - length) {
        begin = afterGap;
        length = n - gap;
    }
    const int first = begin / StripSize * StripSize;
    return {first, roundUp(begin + length - first), begin - first, length};
}

bool ProductGrid::moments(const MatrixXd& eta, Index i, PosteriorModel::Order order, const MatrixXd* direction, Moments& out, Scratch& scratch) const {
    using Order = PosteriorModel::Order;
    enum { Tilt, Weight, Sum, Probability, X, Y, G, B0, B1, B2, B3, R0, R1, R2, R3, Columns };
    // The tilt of every line, relative to the largest.
    Index best[2];
    double shift = logScale;
    for (int v = 0; v < 2; v++) {
        const Axis& axis = axes[v];
        if (scratch.line[v].size() == 0)
            scratch.line[v].resize(axis.length, Columns);
        auto tilt = scratch.line[v].col(Tilt).head(axis.lines);
        tilt = eta(axis.target[0], i) * axis.T.col(0).head(axis.lines) + eta(axis.target[1], i) * axis.T.col(1).head(axis.lines);
        const double top = tilt.maxCoeff(&best[v]);
        tilt = tilt.max(top + LowestTilt);
        expAndSum(tilt.data(), axis.lines, top);
        shift += top;
    }
    // A point on the best row or column bounds the largest weight from below. With it, a line's own bound tells whether it counts.
    const double largest = std::max((scratch.line[0].col(Tilt).head(axes[0].lines) * W.col(best[1]).array()).maxCoeff(),
                                    (scratch.line[1].col(Tilt).head(axes[1].lines) * W.row(best[0]).transpose().array()).maxCoeff());
    if (!(largest > SmallestWeight))
        return false;
    Window at[2];
    for (int v = 0; v < 2; v++) {
        at[v] = window(axes[v], &scratch.line[v](0, Tilt), largest * Negligible);
        double* weight = &scratch.line[v](0, Weight);
        std::fill_n(weight, at[v].size, 0.0);
        for (int k = 0, line = at[v].first + at[v].skip; k < at[v].length; k++, line++)
            weight[at[v].skip + k] = scratch.line[v](line < axes[v].lines ? line : line - axes[v].lines, Tilt);
    }
    auto column = [&](int v, int c) { return scratch.line[v].col(c).head(at[v].size); };
    // W times columns over the other variable; the result's columns run over variable v.
    auto contract = [&](int v, int result, int columns, int count, bool squared = false) {
        const Window &mine = at[v], &its = at[1 - v];
        const Index length = axes[1 - v].length;
        multiplyStrips(&scratch.line[v](0, result), axes[v].length, &axes[v].strips[mine.first / StripSize * length + its.first + its.skip], length, mine.size,
                       &scratch.line[1 - v](its.skip, columns), length, its.length, count, squared);
    };

    // First the marginals, which give the mean; everything after it is centred, so that nothing cancels.
    double mean[4], Z = 0;
    for (int v = 0; v < 2; v++) {
        contract(v, Sum, Weight, 1);
        column(v, Probability) = column(v, Weight) * column(v, Sum);
        Z = column(v, Probability).sum();
        column(v, Probability) /= Z;
        for (int c = 0; c < 2; c++)
            mean[2 * v + c] = (column(v, Probability) * axes[v].T.col(c).segment(at[v].first, at[v].size)).sum();
    }
    out.mu.col(i).setZero();
    for (int k = 0; k < 4; k++)
        out.mu(axes[k / 2].target[k % 2], i) += mean[k];
    out.psi[i] = shift + std::log(Z);
    column(1, B0) = column(1, Weight).square();
    contract(0, R0, B0, 1, true);
    out.nEff[i] = Z * Z / (column(0, Weight).square() * column(0, R0)).sum();
    if (order == Order::Mean)
        return true;

    const bool third = order == Order::Third;
    for (int v = 0; v < 2; v++) {
        column(v, X) = axes[v].T.col(0).segment(at[v].first, at[v].size) - mean[2 * v];
        column(v, Y) = axes[v].T.col(1).segment(at[v].first, at[v].size) - mean[2 * v + 1];
        if (third)
            column(v, G) = (*direction)(axes[v].target[0], i) * column(v, X) + (*direction)(axes[v].target[1], i) * column(v, Y);
    }
    column(1, B0) = column(1, Weight) * column(1, X);
    column(1, B1) = column(1, Weight) * column(1, Y);
    if (third) {
        column(1, B2) = column(1, B0) * column(1, G);
        column(1, B3) = column(1, B1) * column(1, G);
    }
    contract(0, R0, B0, third ? 4 : 2);

    // Sums over the lines of variable v with the given weights, of the products of its own two functions.
    auto own = [&](int v, const auto& weight, Eigen::Matrix4d& sums) {
        sums(2 * v, 2 * v) = (weight * column(v, X).square()).sum();
        sums(2 * v + 1, 2 * v) = (weight * column(v, X) * column(v, Y)).sum();
        sums(2 * v + 1, 2 * v + 1) = (weight * column(v, Y).square()).sum();
    };
    auto cross = [&](int c, const auto& weight, Eigen::Matrix4d& sums) {
        sums(2 + c, 0) = (weight * column(0, X)).sum();
        sums(2 + c, 1) = (weight * column(0, Y)).sum();
    };
    auto assemble = [&](const Eigen::Matrix4d& sums, MatrixXd& result) {
        result = MatrixXd::Zero(eta.rows(), eta.rows());
        for (int k = 0; k < 4; k++)
            for (int l = 0; l < 4; l++)
                result(axes[k / 2].target[k % 2], axes[l / 2].target[l % 2]) += sums(std::max(k, l), std::min(k, l));
    };
    Eigen::Matrix4d sums;
    // From here on the weights of the rows carry 1/Z.
    column(0, Weight) /= Z;
    own(0, column(0, Probability), sums);
    own(1, column(1, Probability), sums);
    cross(0, column(0, Weight) * column(0, R0), sums);
    cross(1, column(0, Weight) * column(0, R1), sums);
    assemble(sums, out.J[i]);
    if (!third)
        return true;

    // Along the direction the tilt changes by G of the row plus G of the column.
    column(0, B0) = column(0, Weight) * column(0, G);
    contract(1, R0, B0, 1);
    const double dx = (*direction)(axes[1].target[0], i), dy = (*direction)(axes[1].target[1], i);
    own(0, column(0, Probability) * column(0, G) + column(0, Weight) * (dx * column(0, R0) + dy * column(0, R1)), sums);
    own(1, column(1, Probability) * column(1, G) + column(1, Weight) * column(1, R0), sums);
    cross(0, column(0, Weight) * (column(0, G) * column(0, R0) + column(0, R2)), sums);
    cross(1, column(0, Weight) * (column(0, G) * column(0, R1) + column(0, R3)), sums);
    assemble(sums, out.third[i]);
    return true;
}

}  // namespace Spacetime
