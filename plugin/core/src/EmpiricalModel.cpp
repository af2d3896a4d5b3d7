// SPDX-License-Identifier: MIT
#include "spacetime/Models.h"
#include "ProductGrid.h"
#include "SimdLoops.h"
#include "spacetime/Text.h"
#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <unordered_map>

using Eigen::MatrixXd;
using Eigen::VectorXd;

namespace Spacetime {

namespace {

const double TwoPi = 2 * M_PI;
const int MaxSmoothedVariables = 3;
const Eigen::Index TileSize = 64;
/// Samples from which on a grid is so much cheaper that a solver should find its way there first.
const Eigen::Index LeastForSurrogate = 4000;

/// Weighted sums of the samples that fall into one bin.
struct Bin {
    double weight = 0, squares = 0;
    VectorXd statistic;
};

/// Five-point Gauss-Hermite rule for a unit normal: exact to ninth order.
const double hermiteNodes[] = {-2.8569700138728056, -1.3556261799742659, 0, 1.3556261799742659, 2.8569700138728056};
const double hermiteWeights[] = {0.011257411327720689, 0.22207592200561264, 0.53333333333333333, 0.22207592200561264, 0.011257411327720689};

}  // namespace

EmpiricalModel::EmpiricalModel(Variables variables, const MatrixXd& raw, const VectorXd& logWeights, const Options& options)
    : PosteriorModel(std::move(variables)), grid(options.grid) {
    const int n = vars.size();
    const Eigen::Index K = raw.cols();
    if (K < 1)
        throw std::invalid_argument("EmpiricalModel: expected at least one sample");
    if (logWeights.size() != 0 && logWeights.size() != K)
        throw std::invalid_argument("EmpiricalModel: expected " + std::to_string(K) + " log weights, one a sample, got " + std::to_string(logWeights.size()));
    if (!(options.bandwidth >= 0) || !std::isfinite(options.bandwidth))
        throw std::invalid_argument("EmpiricalModel: expected a bandwidth of 0 or more, got " + text(options.bandwidth));
    if (options.bandwidth > 0 && n > MaxSmoothedVariables)
        throw std::invalid_argument("EmpiricalModel: a bandwidth is possible for up to 3 variables, got " + std::to_string(n));
    if (options.binsPerVariable < 2)
        throw std::invalid_argument("EmpiricalModel: expected at least 2 bins a variable, got " + std::to_string(options.binsPerVariable));

    MatrixXd statistic = vars.statistic(raw);  // also refuses wrong shapes and NaN
    VectorXd logw = logWeights.size() ? logWeights : VectorXd::Zero(K);
    for (Eigen::Index k = 0; k < K; k++)
        if (std::isnan(logw[k]) || logw[k] == std::numeric_limits<double>::infinity())
            throw std::invalid_argument("EmpiricalModel: log weight " + std::to_string(k) + " is " + text(logw[k]) + ", expected a number below infinity");
    const double top = logw.maxCoeff();
    if (!std::isfinite(top))
        throw std::invalid_argument("EmpiricalModel: every weight is zero");
    VectorXd w = (logw.array() - top).exp();
    w /= w.sum();

    const bool smooth = options.bandwidth > 0;
    if (n == 2 && !options.grid && !smooth && K >= LeastForSurrogate)
        coarse = onGrid(vars, raw, w);
    binned = !options.grid && (smooth || K > options.maxExactSamples);
    if (!binned) {
        // Samples of weight zero carry nothing and would put -inf into the kernel.
        const Eigen::Index used = (w.array() > 0).count();
        T.resize(statistic.rows(), used);
        logW.resize(used);
        for (Eigen::Index k = 0, j = 0; k < K; k++)
            if (w[k] > 0) {
                T.col(j) = statistic.col(k);
                logW[j++] = std::log(w[k]);
            }
        kish = VectorXd::Ones(used);
        if (options.grid)
            product = ProductGrid::detect(vars, raw, w);
    }
    else {
        VectorXd low = raw.rowwise().minCoeff(), high = raw.rowwise().maxCoeff();
        for (int i = 0; i < n; i++) {  // the bins span the samples and the stencil round them
            low[i] -= 3 * options.bandwidth * vars[i].scale;
            high[i] += 3 * options.bandwidth * vars[i].scale;
        }
        const int nodes = smooth ? 5 : 1;
        int stencil = 1;
        for (int i = 0; i < n; i++)
            stencil *= nodes;
        std::unordered_map<std::string, Bin> bins;
        MatrixXd point(n, stencil);
        VectorXd share(stencil);
        for (Eigen::Index k = 0; k < K; k++) {
            if (w[k] == 0)
                continue;
            for (int q = 0; q < stencil; q++) {
                share[q] = 1;
                for (int i = 0, rest = q; i < n; i++, rest /= nodes) {
                    point(i, q) = raw(i, k);
                    if (smooth) {
                        // A lifted coordinate's bandwidth is an angle; unlifted ones are measured in their scale.
                        const double unit = vars[i].lifted() ? vars[i].period / TwoPi : vars[i].scale;
                        point(i, q) += options.bandwidth * unit * hermiteNodes[rest % nodes];
                        share[q] *= hermiteWeights[rest % nodes];
                    }
                }
            }
            const MatrixXd moved = smooth ? vars.statistic(point) : statistic.col(k);
            for (int q = 0; q < stencil; q++) {
                std::string key(n * sizeof(int), '\0');
                for (int i = 0; i < n; i++) {
                    double position;  // 0..1 over the bins
                    if (vars[i].lifted())
                        position = point(i, q) / vars[i].period - std::floor(point(i, q) / vars[i].period);
                    else
                        position = high[i] > low[i] ? (point(i, q) - low[i]) / (high[i] - low[i]) : 0;
                    const int index = static_cast<int>(std::floor(position * options.binsPerVariable * (1 - 1e-12)));
                    key.replace(i * sizeof(int), sizeof(int), reinterpret_cast<const char*>(&index), sizeof(int));
                }
                Bin& bin = bins[key];
                if (bin.statistic.size() == 0)
                    bin.statistic = VectorXd::Zero(statistic.rows());
                const double weight = w[k] * share[q];
                bin.weight += weight;
                bin.squares += weight * w[k];
                bin.statistic += weight * moved.col(q);
            }
        }
        // Sorted keys: the order of a hash map must not decide the last digits of a result.
        std::vector<const std::pair<const std::string, Bin>*> sorted;
        for (const auto& item : bins)
            sorted.push_back(&item);
        std::sort(sorted.begin(), sorted.end(), [](auto* a, auto* b) { return a->first < b->first; });
        T.resize(statistic.rows(), sorted.size());
        logW.resize(sorted.size());
        kish.resize(sorted.size());
        for (size_t j = 0; j < sorted.size(); j++) {
            const Bin& bin = sorted[j]->second;
            T.col(j) = bin.statistic / bin.weight;
            logW[j] = std::log(bin.weight);
            kish[j] = bin.squares / (bin.weight * bin.weight);
        }
    }

    buildTiles();

    const VectorXd weights = logW.array().exp();
    mean.resize(vars.numUnlifted());
    double spread = 0;
    for (int i = 0, u = 0; i < n; i++)
        if (!vars[i].lifted()) {
            mean[u] = T.row(vars.offset(i)).dot(weights);
            spread += (T.row(vars.offset(i)).array() - mean[u]).square().matrix().dot(weights);
            u++;
        }
    if (mean.size() > 0)
        variance = std::max(spread / mean.size(), 1e-12);
}

std::unique_ptr<EmpiricalModel> EmpiricalModel::onGrid(const Variables& vars, const MatrixXd& raw, const VectorXd& weights) {
    const int nodes = 96;
    VectorXd low = raw.rowwise().minCoeff(), step(2);
    for (int i = 0; i < 2; i++)
        step[i] = vars[i].lifted() ? vars[i].period / nodes : (raw.row(i).maxCoeff() - low[i]) / (nodes - 1);
    if (!(step.minCoeff() > 0))
        return nullptr;
    MatrixXd grid(2, nodes * nodes);
    for (int k = 0; k < nodes * nodes; k++) {
        const int column = k / nodes, row = k % nodes;
        grid.col(k) << low[0] + step[0] * column, low[1] + step[1] * row;
    }
    // A sample goes to the four nodes around it, so that means stay where they are.
    VectorXd shared = VectorXd::Zero(nodes * nodes);
    for (Eigen::Index k = 0; k < raw.cols(); k++) {
        int cell[2][2];
        double part[2];
        for (int i = 0; i < 2; i++) {
            double at = (raw(i, k) - low[i]) / step[i];
            if (vars[i].lifted())
                at -= nodes * std::floor(at / nodes);
            cell[i][0] = std::min(static_cast<int>(at), nodes - 1);
            part[i] = at - cell[i][0];
            cell[i][1] = vars[i].lifted() ? (cell[i][0] + 1) % nodes : std::min(cell[i][0] + 1, nodes - 1);
        }
        for (int corner = 0; corner < 4; corner++) {
            const int a = corner & 1, b = corner >> 1;
            shared[cell[0][a] * nodes + cell[1][b]] += weights[k] * (a ? part[0] : 1 - part[0]) * (b ? part[1] : 1 - part[1]);
        }
    }
    Options options;
    options.grid = true;
    return std::make_unique<EmpiricalModel>(vars, grid, shared.array().log().matrix(), options);
}

double EmpiricalModel::dataLogSnr() const {
    // Support points at equal steps of cumulative weight stand for the samples.
    const int count = 100;
    MatrixXd c(T.rows(), count);
    double cumulative = 0;
    int k = 0;
    for (Eigen::Index j = 0; j < logW.size() && k < count; j++)
        for (cumulative += std::exp(logW[j]); k < count && cumulative >= (k + 0.5) / count; k++)
            c.col(k) = T.col(j);
    for (; k < count; k++)
        c.col(k) = T.col(logW.size() - 1);
    auto enough = [&](double l) {
        MatrixXd eta = std::exp(l) * c;
        if (vars.hasQuadratic())
            eta.row(0).setConstant(-0.5 * std::exp(l));
        const VectorXd nEff = moments(eta, Order::Mean).nEff;
        return 2 * (nEff.array() >= MinNEff).count() >= count;
    };
    // Never below a noise of the data's own standard deviation, however few samples there are.
    double low = -std::log(variance), high = low + CleanLogSnr;
    while (high - low > 0.01)
        (enough(0.5 * (low + high)) ? low : high) = 0.5 * (low + high);
    return low;
}

void EmpiricalModel::checkRange(const VectorXd& eta, const std::string& what) const {
    if (grid)
        return;
    const Moments m = moments(eta, Order::Mean);
    if (!(m.nEff[0] >= MinNEff))
        throw std::invalid_argument("EmpiricalModel: " + what + " at " + textList(vars.center(eta)) + " is outside the range of the samples: only " + text(m.nEff[0]) +
                                    " effective samples lie there, at least 30 are needed. Sample there, lower the log-SNR, or give a bandwidth");
}

void EmpiricalModel::buildTiles() {
    // Neighbours in space become neighbours in memory: ordered by the cells of a coarse grid over the first variables.
    const Eigen::Index K = T.cols(), m = T.rows();
    const int gridded = std::min(vars.size(), 4), cells = gridded <= 2 ? 32 : 12;
    std::vector<std::pair<long, Eigen::Index>> order(K);
    const VectorXd low = T.rowwise().minCoeff(), high = T.rowwise().maxCoeff();
    for (Eigen::Index k = 0; k < K; k++) {
        long key = 0;
        for (int i = 0; i < gridded; i++) {
            const int o = vars.offset(i);
            const double position = vars[i].lifted() ? (std::atan2(T(o + 1, k), T(o, k)) + M_PI) / TwoPi : (T(o, k) - low[o]) / std::max(high[o] - low[o], 1e-300);
            key = key * cells + std::min(static_cast<int>(position * cells), cells - 1);
        }
        order[k] = {key, k};
    }
    std::sort(order.begin(), order.end());
    MatrixXd sortedT(m, K);
    VectorXd sortedW(K), sortedKish(K);
    for (Eigen::Index k = 0; k < K; k++) {
        sortedT.col(k) = T.col(order[k].second);
        sortedW[k] = logW[order[k].second];
        sortedKish[k] = kish[order[k].second];
    }
    T.swap(sortedT);
    logW.swap(sortedW);
    kish.swap(sortedKish);
    points = T.transpose();
    const Eigen::Index tiles = (K + TileSize - 1) / TileSize;
    tileLow.resize(m, tiles);
    tileHigh.resize(m, tiles);
    tileWeight.resize(tiles);
    for (Eigen::Index tile = 0; tile < tiles; tile++) {
        const Eigen::Index first = tile * TileSize, count = std::min<Eigen::Index>(TileSize, K - first);
        tileLow.col(tile) = T.middleCols(first, count).rowwise().minCoeff();
        tileHigh.col(tile) = T.middleCols(first, count).rowwise().maxCoeff();
        tileWeight[tile] = logW.segment(first, count).maxCoeff();
    }
}

Moments EmpiricalModel::compute(const MatrixXd& eta, Order order, const MatrixXd* direction) const {
    const Eigen::Index m = T.rows(), K = T.cols(), n = eta.cols();
    Moments out;
    out.mu.resize(m, n);
    out.psi.resize(n);
    out.nEff.resize(n);
    if (order >= Order::Covariance)
        out.J.resize(n);
    if (order == Order::Third)
        out.third.resize(n);
    // Weights below e^-37 of the largest are beneath the last digit of a double. A tile of support points whose upper
    // bound lies there is never touched: at the log-SNR of transition paths that is nearly all of them.
    const double negligible = 37;
    // Neighbouring tiles make a piece that fits the cache. Its points are read in place; the weights of all pieces lie one behind the other.
    struct Piece {
        Eigen::Index first, count;
    };
    const Eigen::Index longest = 7 * TileSize;  // not a power of two, whose columns would compete for the same lines of the cache
    std::vector<Piece> pieces;
    VectorXd logp, bound;
    MatrixXd centred;
    VectorXd weighted(longest), tilt(longest);
    ProductGrid::Scratch scratch;
    for (Eigen::Index i = 0; i < n; i++) {
        if (product && product->moments(eta, i, order, direction, out, scratch))
            continue;
        logp.resize(K);
        centred.resize(longest, m);
        const VectorXd e = eta.col(i);
        bound.noalias() = tileHigh.transpose() * e.cwiseMax(0.0) + tileLow.transpose() * e.cwiseMin(0.0) + tileWeight;
        auto scan = [&](const Piece& piece, double* p) {
            std::copy_n(&logW[piece.first], piece.count, p);
            for (Eigen::Index a = 0; a < m; a++)
                addScaled(p, e[a], &points(piece.first, a), piece.count);
            return Eigen::Map<const VectorXd>(p, piece.count).maxCoeff();
        };
        auto tilePiece = [&](Eigen::Index tile) { return Piece{tile * TileSize, std::min<Eigen::Index>(TileSize, K - tile * TileSize)}; };
        Eigen::Index best;
        bound.maxCoeff(&best);
        double top = scan(tilePiece(best), logp.data());
        const double lowest = top - negligible;
        pieces.clear();
        for (Eigen::Index tile = 0; tile < bound.size(); tile++)
            if (bound[tile] > lowest) {
                const Piece piece = tilePiece(tile);
                if (!pieces.empty() && pieces.back().first + pieces.back().count == piece.first && pieces.back().count + piece.count <= longest)
                    pieces.back().count += piece.count;
                else
                    pieces.push_back(piece);
            }
        double* p = logp.data();
        Eigen::Index used = 0;
        for (const Piece& piece : pieces) {
            top = std::max(top, scan(piece, p + used));
            used += piece.count;
        }
        const double sum = expAndSum(p, used, top);
        logp.head(used) /= sum;
        out.psi[i] = top + std::log(sum);
        out.mu.col(i).setZero();
        double squares = 0;
        for (const Piece& piece : pieces) {
            multiply(weighted.data(), p, p, piece.count);
            squares += dotProduct(weighted.data(), &kish[piece.first], piece.count);
            for (Eigen::Index a = 0; a < m; a++)
                out.mu(a, i) += dotProduct(p, &points(piece.first, a), piece.count);
            p += piece.count;
        }
        out.nEff[i] = 1 / squares;
        if (order == Order::Mean)
            continue;
        MatrixXd H = MatrixXd::Zero(m, m), third = MatrixXd::Zero(m, m);
        p = logp.data();
        for (const Piece& piece : pieces) {
            // Centred first: the covariance at high log-SNR is a small difference of large moments.
            tilt.setZero();
            for (Eigen::Index a = 0; a < m; a++) {
                subtract(&centred(0, a), &points(piece.first, a), out.mu(a, i), piece.count);
                if (order == Order::Third)
                    addScaled(tilt.data(), (*direction)(a, i), &centred(0, a), piece.count);
            }
            for (Eigen::Index a = 0; a < m; a++) {
                multiply(weighted.data(), &centred(0, a), p, piece.count);
                for (Eigen::Index b = 0; b <= a; b++)
                    H(a, b) += dotProduct(weighted.data(), &centred(0, b), piece.count);
                if (order == Order::Third) {
                    multiply(weighted.data(), weighted.data(), tilt.data(), piece.count);
                    for (Eigen::Index b = 0; b <= a; b++)
                        third(a, b) += dotProduct(weighted.data(), &centred(0, b), piece.count);
                }
            }
            p += piece.count;
        }
        out.J[i] = H.selfadjointView<Eigen::Lower>();
        if (order == Order::Third)
            out.third[i] = third.selfadjointView<Eigen::Lower>();
    }
    return out;
}

}  // namespace Spacetime
