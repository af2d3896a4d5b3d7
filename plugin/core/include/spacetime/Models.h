// SPDX-License-Identifier: MIT
#pragma once

#include "spacetime/PosteriorModel.h"

namespace Spacetime {

class ProductGrid;

/// The exact posterior of a set of weighted samples: moments are weighted sums, psi = log sum_k w_k exp(eta·T_k).
class EmpiricalModel : public PosteriorModel {
public:
    struct Options {
        /// Up to this many samples are used as given; beyond it bins keep weight and mean.
        int maxExactSamples = 50000;
        int binsPerVariable = 90;
        /// Standard deviation of the kernel that smooths the samples, raw units of each variable divided by its scale; 0 for none.
        double bandwidth = 0.0;
        /// The samples are an exhaustive grid: the effective sample size is no test of the range.
        bool grid = false;
    };

    /// raw [n x K], logWeights [K] or empty. Throws std::invalid_argument for NaN, a wrong shape or weights that sum to zero.
    EmpiricalModel(Variables variables, const Eigen::MatrixXd& raw, const Eigen::VectorXd& logWeights, const Options& options);
    EmpiricalModel(Variables variables, const Eigen::MatrixXd& raw, const Eigen::VectorXd& logWeights = {}) : EmpiricalModel(std::move(variables), raw, logWeights, Options()) {}

    bool isExact() const override { return true; }
    bool hasPsi() const override { return true; }
    bool limitedBySamples() const override { return !grid; }
    /// The samples of two variables shared out between the nodes of a grid, where there are many of them.
    const PosteriorModel* surrogate() const override { return coarse.get(); }
    double dataVariance() const override { return variance; }
    Eigen::VectorXd dataMean() const override { return mean; }
    /// Highest log-SNR at which half of the samples (by weight) have 30 effective samples around them: beyond it one sees samples, not their density.
    double dataLogSnr() const override;
    void checkRange(const Eigen::VectorXd& eta, const std::string& what) const override;

    /// Support points after binning and smoothing: statistic [m x K'] and normalised log weights [K'].
    const Eigen::MatrixXd& support() const { return T; }
    const Eigen::VectorXd& logWeights() const { return logW; }
    bool isBinned() const { return binned; }
    /// True where the samples are a grid of every combination of two variables' values, whose moments need far less work.
    bool isProductGrid() const { return product != nullptr; }

protected:
    Moments compute(const Eigen::MatrixXd& eta, Order order, const Eigen::MatrixXd* direction) const override;

private:
    static std::unique_ptr<EmpiricalModel> onGrid(const Variables& vars, const Eigen::MatrixXd& raw, const Eigen::VectorXd& weights);
    void buildTiles();

    Eigen::MatrixXd T, points;  // [m x K'] and its transpose, along whose columns the kernel runs
    Eigen::VectorXd logW, mean;
    Eigen::VectorXd kish;               // [K'] sum of squared sample weights behind each support point, relative to its weight squared
    Eigen::MatrixXd tileLow, tileHigh;  // [m x tiles] range of T in each tile of neighbouring support points
    Eigen::VectorXd tileWeight;         // [tiles] largest log weight
    double variance = 1.0;
    bool grid = false, binned = false;
    std::unique_ptr<EmpiricalModel> coarse;
    std::shared_ptr<const ProductGrid> product;  // empty for samples
};

/**
 * Mixture of product distributions in closed form: a von Mises distribution on every lifted variable and a Gaussian on every unlifted
 * one. A tilt exp(eta·T) turns every component into one of its own kind, so all moments are sums over components; J is positive by
 * construction.
 */
class MixtureModel : public PosteriorModel {
public:
    struct Components {
        Eigen::VectorXd logWeights;       ///< [K], normalised here
        Eigen::MatrixXd tilt;             ///< [2 numLifted x K] kappa cos, kappa sin of each von Mises factor
        Eigen::MatrixXd mean, precision;  ///< [numUnlifted x K] of each Gaussian factor, in scaled units
    };
    /// Throws std::invalid_argument where shapes do not fit, a number is not finite or a precision not positive.
    MixtureModel(Variables variables, Components components);

    bool isExact() const override { return true; }
    bool hasPsi() const override { return true; }
    double dataVariance() const override;
    Eigen::VectorXd dataMean() const override;
    /// Of noise a thousandth of the narrowest component's standard deviation.
    double dataLogSnr() const override;
    void checkRange(const Eigen::VectorXd& eta, const std::string& what) const override;

    const Components& components() const { return c; }
    const Eigen::VectorXd& weights() const { return w; }  ///< [K], their sum is 1

protected:
    Moments compute(const Eigen::MatrixXd& eta, Order order, const Eigen::MatrixXd* direction) const override;
    MeanProducts computeProducts(const Eigen::MatrixXd& eta, const Eigen::MatrixXd& direction) const override;

private:
    Components c;
    Eigen::VectorXd constant, w;  // [K] logarithm of weight over normalisation; weight
};

/// Mixture of isotropic Gaussians over unlifted variables.
class GaussianMixtureModel : public MixtureModel {
public:
    /// means [D x K], variances [K], weights [K] (normalised here).
    GaussianMixtureModel(const Eigen::MatrixXd& means, const Eigen::VectorXd& variances, const Eigen::VectorXd& weights);

    const Eigen::MatrixXd& means() const { return components().mean; }  ///< [D x K]
    const Eigen::VectorXd& variances() const { return v; }              ///< [K]

private:
    Eigen::VectorXd v;
};

}  // namespace Spacetime
