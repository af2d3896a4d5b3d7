// SPDX-License-Identifier: MIT
#pragma once

#include "spacetime/PosteriorModel.h"
#include <nlohmann/json_fwd.hpp>
#include <string>

namespace Spacetime {

class Features;
class Potential;
class Prior;

/// Everything a model file holds: the variables, what the network was trained on, and its weights.
struct NetworkParameters {
    /// One affine map; all but the last are followed by tanh.
    struct Layer {
        Eigen::MatrixXd weight;  ///< [out x in]
        Eigen::VectorXd bias;    ///< [out]
    };
    /// Histogram cells a turn is divided into for `occupied`.
    static const int Arcs = 36;

    Variables variables;
    std::vector<Layer> layers;
    int harmonics = 5;
    double minLogSnr = 0, maxLogSnr = 0;  ///< trained range; lifted variables are trained down to kappa = 0
    Eigen::VectorXd mean;                 ///< [numUnlifted] of the scaled data
    double variance = 1;                  ///< mean variance of the unlifted scaled variables
    Eigen::VectorXd low, high;            ///< [numUnlifted] range of the scaled data
    std::vector<std::vector<bool>> occupied;  ///< per lifted variable: does the arc hold data
    double temperature = 0;               ///< K, 0 when unknown
    std::string training = "{}";          ///< JSON object: steps, seed, seconds, losses, consistency
};

/**
 * A trained denoising network, evaluated without LibTorch.
 *
 * The network is a scalar N(eta): it models the log-partition as psi(eta) = psi0(eta) + N(eta), with psi0 that of a
 * featureless prior in closed form. The denoiser is its gradient, mu = grad psi (arXiv:2505.17517 calls mu the expectation
 * parameter; E[c|z] is part of it), and J its Hessian. A denoiser made this way is a gradient field, as that of a true
 * distribution is: J is symmetric, Jeffreys divergences telescope, and KL divergences follow from psi without line
 * integrals. Positive definiteness is learned, not built in: where posteriors are bimodal J may have a small negative eigenvalue.
 */
class NetworkModel : public PosteriorModel {
public:
    /// Throws std::invalid_argument where shapes do not fit together.
    explicit NetworkModel(NetworkParameters parameters);
    ~NetworkModel() override;

    static std::unique_ptr<NetworkModel> load(const std::string& path);
    void save(const std::string& path) const;

    bool isExact() const override { return false; }
    bool hasPsi() const override { return true; }
    double dataVariance() const override { return p.variance; }
    Eigen::VectorXd dataMean() const override { return p.mean; }
    /// The trained range.
    double dataLogSnr() const override { return p.maxLogSnr; }
    double minLogSnr() const override { return vars.hasQuadratic() ? p.minLogSnr : PosteriorModel::minLogSnr(); }
    /// Log-SNR within the trained range (kappa of lifted variables from 0 up), centres where there are data.
    void checkRange(const Eigen::VectorXd& eta, const std::string& what) const override;

    const NetworkParameters& parameters() const { return p; }
    /// The metadata of the file: variables, schedule, range, network shape, training record.
    nlohmann::json metadata() const;

protected:
    Moments compute(const Eigen::MatrixXd& eta, Order order, const Eigen::MatrixXd* direction) const override;

private:
    void computeBlock(const Eigen::MatrixXd& eta, const Eigen::MatrixXd* direction, Eigen::Index start, Moments& out) const;

    NetworkParameters p;
    std::unique_ptr<Prior> prior;
    std::unique_ptr<Features> features;
    std::unique_ptr<Potential> potential;
};

}  // namespace Spacetime
