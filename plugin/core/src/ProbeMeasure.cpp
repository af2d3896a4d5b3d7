// SPDX-License-Identifier: MIT
#include "Probes.h"
#include "spacetime/MatrixFree.h"
#include <cmath>
#include <stdexcept>

using Eigen::Index;
using Eigen::MatrixXd;
using Eigen::VectorXd;

namespace Spacetime {

ProbeMeasure measureWithProbes(const PosteriorModel& model, const MatrixXd& eta, const ProbeOptions& options) {
    checkUnlifted(model, "measureWithProbes");
    const Index n = eta.cols(), m = model.numStatistics(), D = m - 1, N = n - 1;
    if (eta.rows() != m || n < 2)
        throw std::invalid_argument("measureWithProbes: expected at least two points of " + std::to_string(m) + " natural parameters, got " + std::to_string(n) + " of " +
                                    std::to_string(eta.rows()));
    if (!eta.allFinite() || !(eta.row(0).maxCoeff() < 0))
        throw std::invalid_argument("measureWithProbes: expected finite natural parameters with eta_l below 0 (a finite log-SNR)");
    if (options.probes < 2)
        throw std::invalid_argument("measureWithProbes: expected at least 2 probes, of which errors are made, got " + std::to_string(options.probes));
    auto clean = [&](Index i) { return VectorXd(eta.col(i).tail(D) / (-2 * eta(0, i))); };
    const Probes probes(clean(N) - clean(0), options.probes, options.seed);
    const int K = options.probes;

    ProbeMeasure out;
    out.probes = K;
    out.mean.resize(D, n);
    MatrixXd quadratic(probes.size(), n), traces(K, n);
    ProductQueue queue(model, options.batch);
    for (Index i = 0; i < n; i++) {
        for (Index k = 0; k < probes.size(); k++)
            queue.ask(eta.col(i), 0, probes.directions().col(k), [&, i, k](const auto& mean, const auto& product) {
                out.mean.col(i) = mean;
                quadratic(k, i) = probes.directions().col(k).dot(product);
            });
        if (options.progress && !options.progress(static_cast<double>(i) / n))
            throw std::runtime_error("measureWithProbes: stopped");
    }
    queue.flush();
    for (Index i = 0; i < n; i++)
        traces.col(i) = probes.estimates(quadratic.col(i));
    out.evaluations = queue.evaluations();
    out.trCov = traces.colwise().mean().transpose();

    // Squares of the segments by each probe; the same probes serve both ends, so that most of their noise cancels.
    MatrixXd squares(K, N);
    for (Index i = 0; i < N; i++) {
        const VectorXd a = out.mean.col(i), b = out.mean.col(i + 1);
        const double dl = eta(0, i + 1) - eta(0, i);
        const double known = dl * (b.squaredNorm() - a.squaredNorm()) + (eta.col(i + 1) - eta.col(i)).tail(D).dot(b - a);
        squares.col(i) = known + dl * (traces.col(i + 1) - traces.col(i)).array();
    }
    const VectorXd mean = squares.colwise().mean();
    out.negativeEdges = static_cast<int>((mean.array() < 0).count());
    auto lengthOf = [](const VectorXd& s) { return s.cwiseMax(0).cwiseSqrt().sum(); };
    out.d = mean.cwiseMax(0).cwiseSqrt();
    out.length = out.d.sum();
    out.energy = 0.5 * N * mean.sum();
    out.speedGap = out.length > 0 ? 2 * out.energy / (out.length * out.length) - 1 : 0;
    // Jackknife: what is left out is one probe.
    VectorXd lengths(K), energies(K);
    for (int k = 0; k < K; k++) {
        const VectorXd without = (K * mean - squares.row(k).transpose()) / (K - 1);
        lengths[k] = lengthOf(without);
        energies[k] = 0.5 * N * without.sum();
    }
    auto error = [K](const VectorXd& x) { return std::sqrt((K - 1.0) / K * (x.array() - x.mean()).square().sum()); };
    out.lengthError = error(lengths);
    out.energyError = error(energies);
    return out;
}

}  // namespace Spacetime
