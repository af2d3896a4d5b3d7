// SPDX-License-Identifier: MIT
#pragma once

#include "spacetime/Models.h"
#include <functional>
#include <string>

namespace Spacetime {

/**
 * How a network is trained: on the exact posterior of the samples at points of spacetime where curves go (its mean, in posterior standard
 * deviations, its covariance along random directions and its log-partition), and on the likelihood of the samples themselves, which
 * counts as much as the posteriors are too poorly sampled to count.
 */
struct TrainingOptions {
    int steps = 400;
    int batch = 0;       ///< points, and samples, a step; 0: 256, fewer where there are many variables
    int points = 20000;  ///< spacetime points whose exact posterior is computed once and trained on; fewer where that would take minutes
    int components = 128;
    unsigned seed = 1;
    double learningRate = 0.03;               ///< of Adam, cosine schedule with warm-up
    double averaging = 0.98;                  ///< decay of the running average of the parameters, which is what is kept
    double minLogSnr = 1.0, maxLogSnr = 5.5;  ///< range of log-SNR (log kappa for lifted variables) that is trained
    double sobolevWeight = 0.05;              ///< of the error of J along random directions
    int patience = 0;                         ///< stop after this many reports without a better validation loss; 0: never. The best is kept in any case.
    double temperature = 0.0;                 ///< K, recorded in the file; 0 when unknown
    std::string device = "cpu";
    int threads = 0;  ///< 0: all cores for the exact posterior, one for the optimiser
    /// Called while the exact posterior is computed with the share done, and at every report of the optimiser with the running loss and the
    /// median error of mu at points held out (posterior standard deviations). Return false to stop: once optimising has begun, what was
    /// learned is kept.
    std::function<bool(double share)> preparation;
    std::function<bool(int step, int steps, double loss, double error)> progress;
    int reportEvery = 25;
    /// Written every few seconds, so that training that was killed can go on: by default the model file's name with ".checkpoint" added.
    /// It is removed when training is complete.
    std::string checkpoint;
    double checkpointSeconds = 5;
    /// Go on from the checkpoint where there is one. Throws std::invalid_argument when it belongs to other samples or options.
    bool resume = false;
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
    Consistency consistency;      ///< on points held out of training
    double effectiveSamples = 0;  ///< (sum w)^2/sum w^2 of the samples' weights
    double finalLoss = 0, seconds = 0;
    int steps = 0;
    bool stopped = false, resumed = false;
};

/// Trains a denoising network on the exact posterior of `samples` and writes a safetensors model file.
/// Throws std::invalid_argument where a variable never varies or the weights leave fewer than 30 effective samples. Opens the LibTorch library on first use; throws std::runtime_error saying what to install when it does not load.
TrainingResult train(const EmpiricalModel& samples, const TrainingOptions& options, const std::string& outFile);

}  // namespace Spacetime
