// SPDX-License-Identifier: MIT
#include "Probes.h"
#include <algorithm>
#include <cmath>
#include <random>
#include <stdexcept>

using Eigen::Index;
using Eigen::MatrixXd;
using Eigen::VectorXd;

namespace Spacetime {

namespace {

/// Numbers in a batch of points.
const Index BatchNumbers = Index(1) << 21;
const Index MostPoints = 8192;

}  // namespace

Probes::Probes(const VectorXd& chord, int numProbes, unsigned seed) : count(numProbes) {
    const Index D = chord.size();
    const double length = chord.norm();
    exact = length > 0 ? 1 : 0;
    vectors.resize(D, exact + count);
    if (exact > 0)
        vectors.col(0) = chord / length;
    for (int k = 0; k < count; k++) {
        // Vector k depends on the seed and k alone.
        std::mt19937_64 random(seed + 0x9e3779b97f4a7c15u * static_cast<std::uint64_t>(k + 1));
        std::normal_distribution<double> normal;
        auto v = vectors.col(exact + k);
        for (Index i = 0; i < D; i++)
            v[i] = normal(random);
        if (exact > 0)
            v -= v.dot(vectors.col(0)) * vectors.col(0);
        v *= std::sqrt(static_cast<double>(D - exact)) / v.norm();
    }
}

VectorXd Probes::estimates(const VectorXd& quadratic) const { return quadratic.tail(count).array() + quadratic.head(exact).sum(); }

ProductQueue::ProductQueue(const PosteriorModel& m, int batch) : model(m) {
    const Index rows = model.numStatistics(), points = batch > 0 ? batch : std::clamp<Index>(BatchNumbers / rows, 1, MostPoints);
    eta.resize(rows, points);
    direction.resize(rows, points);
}

void ProductQueue::ask(const Eigen::Ref<const VectorXd>& at, double alongL, const Eigen::Ref<const VectorXd>& alongX, Receiver receive) {
    const Index i = receivers.size();
    eta.col(i) = at;
    direction(0, i) = alongL;
    direction.col(i).tail(alongX.size()) = alongX;
    receivers.push_back(std::move(receive));
    if (static_cast<Index>(receivers.size()) == eta.cols())
        flush();
}

void ProductQueue::flush() {
    const Index n = receivers.size();
    if (n == 0)
        return;
    const std::vector<Receiver> waiting = std::move(receivers);
    receivers.clear();
    const MeanProducts out = model.products(eta.leftCols(n), direction.leftCols(n));
    count += n;
    for (Index i = 0; i < n; i++)
        waiting[i](out.mean.col(i), out.product.col(i));
}

void checkUnlifted(const PosteriorModel& model, const std::string& caller) {
    if (model.variables().numLifted() > 0 || model.variables().size() == 0)
        throw std::invalid_argument(caller + ": expected a model whose variables are all unlifted (pictures, latents, plain numbers), got " +
                                    std::to_string(model.variables().numLifted()) + " lifted ones: geodesic() is for these");
}

}  // namespace Spacetime
