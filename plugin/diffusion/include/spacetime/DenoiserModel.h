// SPDX-License-Identifier: MIT
#pragma once

#include "spacetime/PosteriorModel.h"
#include <nlohmann/json_fwd.hpp>
#include <string>

namespace Spacetime {

/// What must be known of a denoiser besides its predictions.
struct DenoiserParameters {
    Variables variables;
    std::string schedule = "vp";          ///< vp, cosine, ve (or edm) or flow
    std::string prediction = "x0";        ///< x0, eps, score, v, flow or edm
    double sigmaData = 0.5;               ///< of EDM's preconditioning; used by the prediction edm alone
    double minLogSnr = 0, maxLogSnr = 0;  ///< trained range
    double temperature = 0;               ///< K, 0 when unknown
    Eigen::VectorXd dataMean;             ///< [numUnlifted] of the scaled data; empty for 0
    double dataVariance = 0;              ///< mean variance per unlifted scaled variable; 0 for sigmaData^2 with the prediction edm, else 1
    Eigen::MatrixXd dataRange;            ///< [2 x n] lowest and highest raw value of each variable (NaN where there is none); empty for no range

    /// The keys of spacetime.json: format, version, variables, schedule, prediction, sigma_data, log_snr_range, temperature_K, data_mean,
    /// data_variance, data_range.
    nlohmann::json toJson() const;
    /// Throws std::invalid_argument, beginning with `where`, that names the key that is missing, unknown or of the wrong type.
    static DenoiserParameters fromJson(const nlohmann::json& j, const std::string& where);
};

/**
 * Moments of p(c|z) out of the predictions of any denoiser that was trained on z = (l, x), x = alpha c + sigma eps, l = log(alpha^2/sigma^2).
 *
 * The D coordinates of x follow the variables: one for an unlifted variable, cos and sin for a lifted one. Schedules, as functions of l:
 *
 *   vp, cosine   alpha = sqrt(sigmoid(l)), sigma = sqrt(sigmoid(-l))   (a cosine schedule is VP in log-SNR)
 *   ve, edm      alpha = 1, sigma = e^(-l/2)
 *   flow         alpha = 1 - t, sigma = t, t = 1/(1 + e^(l/2))
 *
 * Predictions and the denoised mean chat = E[c|z] that follows from them:
 *
 *   x0      chat itself
 *   eps     chat = (x - sigma eps)/alpha
 *   score   chat = (x + sigma^2 score)/alpha
 *   v       v = alpha eps - sigma c:  chat = (alpha x - sigma v)/(alpha^2 + sigma^2)
 *   flow    u = eps - c:              chat = (x - sigma u)/(alpha + sigma)
 *   edm     chat = c_skip y + c_out F(c_in y, c_noise), y = x/alpha, s = sigma/alpha, with sigma_data = d:  c_skip = d^2/(s^2 + d^2),
 *           c_out = s d/sqrt(s^2 + d^2), c_in = 1/sqrt(s^2 + d^2), c_noise = log(s)/4 = -l/8 (Karras et al. 2022)
 *
 * The denoiser receives (x, l), with the prediction edm (c_in y, c_noise). Moments follow from chat and its derivatives (arXiv:2505.17517,
 * Tweedie's formulas): with eta_l = -e^l/2, eta_x = (alpha/sigma^2) x and H_xx = d chat/d eta_x = (sigma^2/alpha) d chat/dx,
 *
 *   mu_x = chat,  mu_l = E|d|^2 = |chat|^2 + tr H_xx over the unlifted coordinates,
 *   H_xl = d chat/d eta_l at fixed eta_x,  H_ll = d mu_l/d eta_l = 2 chat·H_xl + d tr H_xx/d eta_l.
 *
 * The last term is a central difference of two further evaluations. H_lx, the gradient of mu_l, is taken as the transpose of H_xl: so it is for
 * every true posterior, and for a denoiser as far as it is a gradient field. Third cumulants are central differences of J along their direction.
 *
 * Without unlifted variables no eta_l says at which noise the denoiser is to be asked. The posterior does not depend on it, |T|^2 being constant,
 * so it is asked where its training data lie: l = log(|eta_x|/sqrt(n)) of n lifted variables, within the trained range; the derivatives of mu
 * include that of l.
 */
class DenoiserModel : public PosteriorModel {
public:
    bool isExact() const override { return false; }
    bool hasPsi() const override { return false; }
    double dataVariance() const override { return p.dataVariance; }
    Eigen::VectorXd dataMean() const override { return p.dataMean; }
    double minLogSnr() const override { return p.minLogSnr; }
    double dataLogSnr() const override { return p.maxLogSnr; }
    /// Log-SNR within the trained range (kappa of lifted variables at most e^maxLogSnr), centres within the range of the data where that is known.
    void checkRange(const Eigen::VectorXd& eta, const std::string& what) const override;

    const DenoiserParameters& parameters() const { return p; }
    /// D: numUnlifted + 2 numLifted.
    int numCoordinates() const { return D; }

protected:
    /// `name` is that of the class, for its errors. Throws std::invalid_argument for unknown schedules and predictions, and for bad numbers.
    DenoiserModel(std::string name, DenoiserParameters parameters);

    /// Points as the denoiser receives them.
    struct Inputs {
        Eigen::MatrixXd x;      ///< [D x n]
        Eigen::VectorXd level;  ///< [n] l, or c_noise with the prediction edm
        /// [n] standard deviation of the noise within x: the scale of differences.
        Eigen::VectorXd noise;
    };
    struct Predictions {
        Eigen::MatrixXd values;                 ///< [D x n]
        std::vector<Eigen::MatrixXd> jacobian;  ///< n times [D x (D + 1)]: derivatives by x, in the last column by the level
    };
    /// Predictions, and their derivatives where asked for. Called by several threads at the same time.
    virtual Predictions predict(const Inputs& inputs, bool derivatives) const = 0;
    /// Predictions [D x n] in `values` and, in the returned matrix [D x n], their derivatives along one direction a point: `alongX` [D x n] and `alongLevel` [n].
    /// Called as predict(). By default central differences, two more evaluations a point.
    virtual Eigen::MatrixXd predictAlong(const Inputs& inputs, const Eigen::MatrixXd& alongX, const Eigen::VectorXd& alongLevel, Eigen::MatrixXd& values) const;
    /// Relative error of the predictions: sets the steps of differences of them.
    virtual double predictionError() const { return 1e-6; }
    /// Relative error of the derivatives that predict() gives: sets the steps of further differences.
    virtual double derivativeError() const = 0;

    /// The derivatives as central differences of predict(inputs, false), whose relative error is `valueError`.
    Predictions differences(const Inputs& inputs, double valueError) const;

    /// Whole Jacobians of more coordinates are not made: only products with directions.
    static constexpr int MaxJacobian = 256;

    /// At how many of the trials predictAlong() disagrees with central differences, along a random direction of x or along the level. For subclasses that
    /// override it, when they open a denoiser; its kinks make up for some.
    int disagreeingProducts(const Inputs& trials) const;

    /// Inputs at random points of the trained range, always the same ones: for tests of a denoiser when it is opened.
    Inputs trialInputs(int n) const;

    Moments compute(const Eigen::MatrixXd& eta, Order order, const Eigen::MatrixXd* direction) const override;
    Eigen::MatrixXd computeDenoised(const Eigen::MatrixXd& eta) const override;
    MeanProducts computeProducts(const Eigen::MatrixXd& eta, const Eigen::MatrixXd& direction) const override;

private:
    /// chat at the columns of eta_x [D x n] and its derivatives by eta_x and l.
    struct Denoised {
        Eigen::MatrixXd mean;              ///< [D x n]
        std::vector<Eigen::MatrixXd> byX;  ///< n times [D x D]
        Eigen::MatrixXd byL;               ///< [D x n] at fixed eta_x
    };
    Denoised denoise(const Eigen::MatrixXd& etaX, const Eigen::VectorXd& l, bool derivatives) const;
    /// `step`: of the difference by l, in Fisher length.
    Moments momentsAt(const Eigen::MatrixXd& eta, bool covariance, double step) const;
    Eigen::VectorXd logSnr(const Eigen::MatrixXd& eta) const;

    std::string name;
    DenoiserParameters p;
    int D, first;             ///< rows of eta before eta_x: 1 with eta_l, else 0
    Eigen::ArrayXd unlifted;  ///< [D] 1 where a coordinate counts in |d|^2
};

}  // namespace Spacetime
