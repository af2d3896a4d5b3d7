// SPDX-License-Identifier: MIT
#pragma once

#include "spacetime/Models.h"
#include <functional>
#include <string>

namespace Spacetime {

/**
 * How a network is trained. The defaults suit one to four torsions on a surface with barriers of 20-30 kT. A quick run that
 * still gives usable curves: steps 2000, points 10000, width 64.
 */
struct TrainingOptions {
    int steps = 4000;
    int batch = 256;
    int points = 30000;  ///< spacetime points whose exact posterior is computed once and trained on
    int width = 96;
    int layers = 3;
    unsigned seed = 1;
    double learningRate = 0.02;  ///< of the hidden layers (Muon), cosine schedule with warm-up
    double emaDecay = 0.998;     ///< of the running average of the weights, which is what is kept
    double minLogSnr = 1.0, maxLogSnr = 5.5;  ///< range of log-SNR (log kappa for lifted variables) that is trained
    /// Weight of the error of J along random directions. It matters where posteriors are bimodal (low kappa): there it removes
    /// most of the negative eigenvalues of J, which mislead a solver. It adds about half to the time of a step.
    double sobolevWeight = 0.05;
    double temperature = 0.0;  ///< K, recorded in the file; 0 when unknown
    std::string device = "cpu";
    int threads = 0;           ///< 0: all cores for the exact posterior, one for training where layers are small
    /// Called every reportEvery steps with the running loss and the validation error (posterior standard deviations);
    /// return false to stop early and keep what was learned.
    std::function<bool(int step, int steps, double loss, double validation)> progress;
    int reportEvery = 100;
};

/// Error of a model's mu against a reference model, at the given points.
struct Consistency {
    double medianError = 0, error90 = 0;  ///< |H^-1/2 (mu - mu_ref)|/sqrt(m), in posterior standard deviations
    double asymmetry = 0;                 ///< median |J - J^T|/|J + J^T|
    double jacobianError = 0;             ///< median |H^-1/2 (J - H) H^-1/2|/sqrt(m)
    int points = 0;
};
Consistency compare(const PosteriorModel& model, const PosteriorModel& reference, const Eigen::MatrixXd& eta);

struct TrainingResult {
    Consistency consistency;  ///< on points held out of training
    double finalLoss = 0, seconds = 0;
    int steps = 0;
    bool stopped = false;
};

/// Trains a denoising network on the exact posterior of `samples` and writes a safetensors model file.
/// Opens the LibTorch library on first use; throws std::runtime_error saying what to install when it does not load.
TrainingResult train(const EmpiricalModel& samples, const TrainingOptions& options, const std::string& outFile);

}  // namespace Spacetime
