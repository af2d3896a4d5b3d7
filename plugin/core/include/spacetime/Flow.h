// SPDX-License-Identifier: MIT
#pragma once

#include "spacetime/PosteriorModel.h"
#include <functional>

namespace Spacetime {

/**
 * The probability-flow ODE of a diffusion model (Song et al., arXiv:2011.13456), its likelihoods, the reverse SDE, and the geometry that the
 * ODE's decoder pulls back to latent space (arXiv:2505.17517 compares it with spacetime).
 *
 * A noisy point is x = alpha c + sigma eps. Everything here works on y = x/alpha, in which every schedule is the variance-exploding one with
 * the noise sigma = e^(-l/2) at the log-SNR l. c and y are the unlifted variables, scaled as Variables does, and the (cos, sin) pairs of lifted
 * ones: D = numUnlifted + 2 numLifted entries, laid out like the statistic T without its |d|^2. The natural parameter of (l, y) is
 * eta = (-e^l/2, e^l y), without the first entry where no variable is unlifted. With chat(y, l) = E[c|y], part of mu,
 *
 *     dy/dsigma = (y - chat)/sigma.
 *
 * The flow starts at a finite log-SNR, not at clean data: a model says by PosteriorModel::dataLogSnr() where a noisy point counts as clean. Taking
 * c for y there moves a point by sigma^2/2 times the score of the data.
 */

/// D of the variables.
int flowDimension(const Variables& variables);
/// Coordinates c [D x K] of raw values [n x K] (rad, nm). Throws std::invalid_argument where a value is not finite or the shape is wrong.
Eigen::MatrixXd flowCoordinates(const Variables& variables, const Eigen::MatrixXd& raw);
/// Raw values [n x K] of coordinates [D x K]; the angle of a (cos, sin) pair, whatever its length.
Eigen::MatrixXd rawCoordinates(const Variables& variables, const Eigen::MatrixXd& coordinates);
/// Natural parameters [m x K] of points y [D x K] at a log-SNR.
Eigen::MatrixXd flowNaturalParameter(const Variables& variables, const Eigen::MatrixXd& y, double logSnr);

struct FlowOptions {
    /// Adaptive: DOP853 in log sigma. Heun: the second-order method of Karras et al. (arXiv:2206.00364) in sigma, steps equal in log sigma.
    enum class Solver { Adaptive, Heun } solver = Solver::Adaptive;
    int steps = 256;  ///< of Heun's method
    /// Of the adaptive solver: error of a step in y, relative to sqrt(data variance + sigma^2). Where the flow folds the valley between two modes
    /// together the error of a whole decoding is larger, by the factor by which the decoder stretches there.
    double tolerance = 1e-10;
    double dataLogSnr = std::numeric_limits<double>::quiet_NaN();  ///< where data count as clean; NaN: what the model says
    std::function<bool(double fraction)> progress;                 ///< gets the share done; return false to stop: std::runtime_error is thrown
};

struct FlowResult {
    Eigen::MatrixXd y;                                          ///< [D x K] end points
    double minNEff = std::numeric_limits<double>::quiet_NaN();  ///< fewest effective samples at a clean point; NaN where samples set no limit
    int steps = 0;                                              ///< most steps of a point
    long evaluations = 0;                                       ///< model points evaluated
};

/// Points y [D x K] carried from one log-SNR to another, up or down. Throws std::invalid_argument for points or log-SNRs that are not finite, a
/// log-SNR below PosteriorModel::minLogSnr(), and where the adaptive solver gets stuck.
FlowResult transport(const PosteriorModel& model, const Eigen::MatrixXd& y, double fromLogSnr, double toLogSnr, const FlowOptions& options = {});

/// Latent points y [D x K] at `logSnr` of clean data, raw [n x K]. Throws std::invalid_argument as above, where `logSnr` is not below that of data,
/// and for data outside the model's range (few effective samples are reported in the result instead).
FlowResult encode(const PosteriorModel& model, const Eigen::MatrixXd& raw, double logSnr, const FlowOptions& options = {});

/// The inverse of encode: FlowResult::y holds clean coordinates, which rawCoordinates() turns into raw values.
FlowResult decode(const PosteriorModel& model, const Eigen::MatrixXd& y, double logSnr, const FlowOptions& options = {});

struct LikelihoodOptions {
    FlowOptions flow;
    /// The ODE even where the model is exact and knows psi.
    bool integrate = false;
    /// Log-SNR at which the marginal counts as Gaussian; NaN: a noise of 300 standard deviations of the data, or the least the model was trained on.
    double baseLogSnr = std::numeric_limits<double>::quiet_NaN();
};

struct LikelihoodResult {
    Eigen::VectorXd logDensity;  ///< [K] log p_l(y) in nats, a density over the D coordinates
    double truncation = 0;       ///< estimate of the largest error made by the Gaussian at the base: |chat - chat of it||y| e^l; 0 without an ODE
    long evaluations = 0;
};

/**
 * log p_l(y) of the noisy marginal at points y [D x K].
 *
 * Exact models with psi: log p_l(y) = psi(eta) - (D/2) log(2 pi sigma^2) - (|y|^2 + numLifted)/(2 sigma^2), as |c|^2 of the lifted pairs, which psi
 * leaves out, is their number. Others: along the flow d log p/d log sigma = -(D - e^l tr Cov[c|y]); what flows out to the base is compared with
 * N(mean, Cov + sigma^2), whose mean and Cov come from the moments at the base. Its relative error falls as the cube of the data's
 * standard deviation over sigma. Throws std::invalid_argument as transport() does, or where the base is not below `logSnr`.
 */
LikelihoodResult logLikelihood(const PosteriorModel& model, const Eigen::MatrixXd& y, double logSnr, const LikelihoodOptions& options = {});

struct SamplingOptions {
    int steps = 128;
    unsigned seed = 1;
    double startLogSnr = std::numeric_limits<double>::quiet_NaN();  ///< NaN: as LikelihoodOptions::baseLogSnr
    double dataLogSnr = std::numeric_limits<double>::quiet_NaN();   ///< from here the last step goes to no noise at all; NaN: what the model says
    /// Steps with the posterior's covariance. Without it: the ancestral step of Ho et al. (arXiv:2006.11239), which needs means alone.
    bool covariance = true;
    std::function<bool(double fraction)> progress;
};

/**
 * Samples of the data by the reverse SDE, raw [n x count].
 *
 * From sigma to sigma' < sigma, with r = sigma'^2/sigma^2: y' given c and y is N(c + r (y - c), sigma'^2 (1 - r)), so that y' given y has the mean
 * chat + r (y - chat) and the covariance sigma'^2 (1 - r) + (1 - r)^2 Cov[c|y]. A step draws the Gaussian with these: both are exact whatever the length
 * of the step, and exact altogether for Gaussian data (the linear part is integrated, as exponential integrators do; Bao et al.,
 * arXiv:2206.07309, for the covariance). Steps are equal in log sigma; the last goes to sigma' = 0. Sample k depends on the seed and k alone.
 */
Eigen::MatrixXd sampleReverseSde(const PosteriorModel& model, int count, const SamplingOptions& options = {});

/// Jacobians dc/dy [D x D] of the decoder at points y [D x K], by the variational equation dM/dlog sigma = (1 - e^l Cov[c|y]) M along the flow.
/// `clean` [D x K], where given, gets the decoded coordinates. M^T M is the pullback metric.
std::vector<Eigen::MatrixXd> decoderJacobian(const PosteriorModel& model, const Eigen::MatrixXd& y, double logSnr, const FlowOptions& options = {},
                                             Eigen::MatrixXd* clean = nullptr);

struct PullbackOptions {
    FlowOptions flow;
    int numPoints = 33;
    int maxIterations = 100;  ///< of the minimisation
    double tolerance = 1e-6;  ///< of the minimisation: relative decrease of the energy by a step
};

/// A curve in latent space, and what it decodes to.
struct PullbackCurve {
    Eigen::MatrixXd latent;    ///< [D x numPoints]
    Eigen::MatrixXd decoded;   ///< [D x numPoints] clean coordinates
    double energy = 0;         ///< N sum |decoded_{i+1} - decoded_i|^2, the pullback energy; at least |a - b|^2
    double segmentEnergy = 0;  ///< |a - b|^2 of the decoded ends
    double deviation = 0;      ///< largest distance of a decoded point from the segment between the ends, over |a - b|
    int iterations = 0;
    bool converged = true;
};

/// What a latent curve [D x numPoints] at `logSnr` decodes to.
PullbackCurve decodeCurve(const PosteriorModel& model, const Eigen::MatrixXd& latent, double logSnr, const FlowOptions& options = {});

/// The geodesic of the pullback metric between two latent points. The decoder is a diffeomorphism onto data space, which is flat: the geodesic is the
/// straight segment between the decoded ends, encoded. This is why the metric says nothing about the data. Throws std::invalid_argument as decode().
PullbackCurve pullbackGeodesic(const PosteriorModel& model, const Eigen::VectorXd& yA, const Eigen::VectorXd& yB, double logSnr, const PullbackOptions& options = {});

/// The same found the hard way: the energy of a latent curve, at first the straight one, minimised by Levenberg and Marquardt's method on the
/// decoder's Jacobians, without using that data space is flat.
PullbackCurve minimizePullbackEnergy(const PosteriorModel& model, const Eigen::VectorXd& yA, const Eigen::VectorXd& yB, double logSnr, const PullbackOptions& options = {});

}  // namespace Spacetime
