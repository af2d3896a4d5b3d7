// SPDX-License-Identifier: MIT
#pragma once

#include "spacetime/Models.h"
#include <nlohmann/json_fwd.hpp>
#include <string>

namespace Spacetime {

/// Everything a model file holds: the variables, what the network was trained on, and its weights.
struct NetworkParameters {
    /// Histogram cells a turn is divided into for `occupied`.
    static const int Arcs = 36;

    Variables variables;
    MixtureModel::Components components;
    double minLogSnr = 0, maxLogSnr = 0;      ///< trained range; lifted variables are trained down to kappa = 0
    Eigen::VectorXd low, high;                ///< [numUnlifted] range of the scaled data
    std::vector<std::vector<bool>> occupied;  ///< per lifted variable: does the arc hold data
    double temperature = 0;                   ///< K, 0 when unknown
    std::string training = "{}";              ///< JSON object: steps, seed, seconds, losses, consistency
};

/**
 * A trained denoising network, evaluated without LibTorch.
 *
 * One hidden layer of K units: unit k is a von Mises distribution on every lifted variable and a Gaussian on every unlifted one. Its
 * output is the softmax of the units' log-partitions under the tilt, times their means, which is the exact posterior mean under the
 * mixture of the units (MixtureModel). So psi is convex, mu = grad psi (the expectation parameter of arXiv:2505.17517) and J is a
 * covariance, whatever the training has left of errors: lengths cannot turn negative, and neither can a solver exploit where
 * they would.
 */
class NetworkModel : public MixtureModel {
public:
    /// Throws std::invalid_argument where shapes do not fit together.
    explicit NetworkModel(NetworkParameters parameters);

    static std::unique_ptr<NetworkModel> load(const std::string& path);
    void save(const std::string& path) const;

    /// The highest that was trained.
    double dataLogSnr() const override { return p.maxLogSnr; }
    /// Log-SNR within the trained range (kappa of lifted variables from 0 up), centres where there are data.
    void checkRange(const Eigen::VectorXd& eta, const std::string& what) const override;

    const NetworkParameters& parameters() const { return p; }
    /// The metadata of the file: variables, schedule, range, network shape, training record.
    nlohmann::json metadata() const;

private:
    NetworkParameters p;
};

}  // namespace Spacetime
