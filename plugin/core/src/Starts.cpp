// SPDX-License-Identifier: MIT
#include "Starts.h"
#include <algorithm>
#include <cmath>
#include <random>

using Eigen::MatrixXd;
using Eigen::VectorXd;

namespace Spacetime {

namespace {
/// The chart in which starts are drawn, whatever the solver's own.
Chart polarChart(const Task& task) { return Chart(task.model, task.options.minLogSnr, minLogKappa(task.options), true); }
}  // namespace

double minLogKappa(const GeodesicOptions& options) { return std::max(options.minLogSnr, std::log(options.minKappa)); }

MatrixXd respace(const CurveProblem& problem, const MatrixXd& zeta) {
    const Eigen::Index N = zeta.cols() - 1;
    const int pieces = 4;  // the length between nodes is read off a finer sampling
    MatrixXd fine(zeta.rows(), pieces * N + 1);
    for (Eigen::Index k = 0; k <= pieces * N; k++) {
        const Eigen::Index i = std::min(k / pieces, N - 1);
        fine.col(k) = zeta.col(i) + (static_cast<double>(k) / pieces - i) * (zeta.col(i + 1) - zeta.col(i));
    }
    const CurveState s = evaluate(problem, fine);
    const VectorXd at = equalParts(s.weights.cwiseProduct(s.squares).cwiseMax(0.0).cwiseSqrt(), static_cast<int>(N) + 1);
    MatrixXd result = zeta;
    for (Eigen::Index i = 1; i < N; i++) {
        const Eigen::Index k = std::min(static_cast<Eigen::Index>(at[i]), pieces * N - 1);
        result.col(i) = fine.col(k) + (at[i] - k) * (fine.col(k + 1) - fine.col(k));
    }
    return result;
}

MatrixXd refine(const Chart& chart, const MatrixXd& zeta, int N) {
    const Eigen::Index old = zeta.cols() - 1;
    const MatrixXd y = chart.toSmooth(zeta);
    MatrixXd result(zeta.rows(), N + 1);
    for (int k = 0; k <= N; k++) {
        // Lagrange's cubic through four neighbouring nodes.
        const double at = static_cast<double>(k) * old / N;
        const Eigen::Index first = std::clamp<Eigen::Index>(static_cast<Eigen::Index>(at) - 1, 0, std::max<Eigen::Index>(0, old - 3)), last = std::min(first + 3, old);
        result.col(k).setZero();
        for (Eigen::Index i = first; i <= last; i++) {
            double weight = 1;
            for (Eigen::Index j = first; j <= last; j++)
                if (j != i)
                    weight *= (at - j) / static_cast<double>(i - j);
            result.col(k) += weight * y.col(i);
        }
    }
    result = chart.fromSmooth(result).cwiseMax(chart.lower().replicate(1, N + 1));
    result.col(0) = zeta.col(0);
    result.col(N) = zeta.col(old);
    return result;
}

std::vector<std::vector<int>> windingChoices(const Variables& vars, const VectorXd& rawA, const VectorXd& rawB, bool polar) {
    std::vector<std::vector<int>> choices = {std::vector<int>(vars.size(), 0)};
    if (!polar)
        return choices;
    const int maxFlips = vars.numLifted() <= 4 ? 4 : 2;
    for (int i = 0; i < vars.size(); i++) {
        if (!vars[i].lifted())
            continue;
        const int longWay = std::remainder(rawB[i] - rawA[i], vars[i].period) > 0 ? -1 : 1;
        const size_t count = choices.size();
        for (size_t c = 0; c < count; c++) {
            std::vector<int> flipped = choices[c];
            flipped[i] = longWay;
            if (std::count_if(flipped.begin(), flipped.end(), [](int w) { return w != 0; }) <= maxFlips)
                choices.push_back(flipped);
        }
    }
    return choices;
}

MatrixXd narrowCurve(const Task& task, const CurveProblem& problem, const std::vector<int>& windings, const VectorXd& sideways, int N) {
    const Chart polar = polarChart(task);
    MatrixXd straight = polar.fromEta(task.etaA).replicate(1, N + 1);
    const VectorXd way = polar.difference(task.etaA, task.etaB, windings);
    for (int k = 1; k <= N; k++)
        straight.col(k) += way * (static_cast<double>(k) / N);
    MatrixXd best;
    double bestMargin = -std::numeric_limits<double>::infinity();
    for (double top = 1; top <= 4096; top *= 2)
        for (double amplitude = sideways.norm() > 0 ? (problem.constraints.empty() ? 0.5 : 0.125) : 0; amplitude <= 1; amplitude = amplitude > 0 ? amplitude * 1.5 : 2) {
            MatrixXd curve = straight;
            for (int k = 1; k < N; k++) {
                // Narrow within a tenth of the way, so that the first edges are not much longer than the rest.
                const double x = static_cast<double>(k) / N, ramp = std::min({1.0, 10 * x, 10 * (1 - x)});
                curve.col(k) = curve.col(k).cwiseMax(polar.lower()) + amplitude * std::pow(std::sin(M_PI * x), 2) * sideways +
                               ramp * std::log(top) * polar.precisions().cast<double>().matrix();
            }
            const MatrixXd zeta = task.chart.unwrapped(polar.toEta(curve), task.etaA, task.etaB);
            const double margin = problem.constraints.empty() ? 1.0 : evaluate(problem, zeta).margins.minCoeff();
            if (margin > 0.02)
                return zeta;
            if (margin > bestMargin) {
                bestMargin = margin;
                best = zeta;
            }
        }
    return best;
}

std::vector<VectorXd> sides(const Task& task, const std::vector<int>& windings, int count) {
    const Chart polar = polarChart(task);
    const Eigen::ArrayXd positions = 1 - polar.precisions().cast<double>();
    VectorXd way = (polar.difference(task.etaA, task.etaB, windings).array() * positions).matrix();
    const double size = std::max(way.norm(), 1.0);
    way.normalize();
    std::mt19937 random(task.options.seed);
    std::normal_distribution<double> normal;
    std::vector<VectorXd> directions;
    for (int k = 0; k < count; k++) {
        if (k % 2 == 1) {
            directions.push_back(-directions.back());
            continue;
        }
        VectorXd d(way.size());
        for (Eigen::Index j = 0; j < d.size(); j++)
            d[j] = positions[j] * normal(random);
        d -= d.dot(way) * way;
        directions.push_back(d.norm() > 1e-9 ? VectorXd(size * d.normalized()) : VectorXd(VectorXd::Zero(d.size())));  // in one dimension there is no side
    }
    return directions;
}

}  // namespace Spacetime
