// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>

/**
 * The boundary between the program and the library that links LibTorch: plain numbers only, so that the library can be
 * opened at run time and neither side shares types, allocators or exceptions with the other.
 *
 * The mixture of K components over the variables of spacetime/Models.h (MixtureModel). Its parameters are one row of numbers: log weights [K],
 * tilts [K x 2 numLifted], means [K x numUnlifted], logarithms of precisions [K x numUnlifted], each row-major.
 *
 * A training row holds, one after the other:
 *   eta [M]    the point
 *   v [M]      its probe direction
 *   L [M x M]  whitening: the error of mu in posterior standard deviations is L mu - r
 *   r [M]
 *   q [M]      the error of J v is L J v - q
 *   psi [1]    log-partition
 *   w [1]      weight of the point
 */
extern "C" {

struct SpacetimeTorchJob {
    std::int32_t numStatistics, numLifted, numUnlifted, numComponents;
    const std::int64_t *liftedRows, *unliftedRows;  ///< rows of T at which the lifted (two each) and unlifted variables start
    std::int64_t numPoints, numValidation;          ///< the validation rows follow the training rows
    const float* rows;
    std::int64_t numSamples, numHeldOut;  ///< likewise the held-out samples
    const float* samples;                 ///< [samples x M] statistics, drawn with the probability of their weights
    float* parameters;                    ///< in: where to start; out: the running average that was best in validation
    const float* rates;                   ///< relative learning rate of every parameter
    std::int64_t numParameters;
    std::int32_t steps, batch, reportEvery, patience, threads;
    std::uint64_t seed;
    double learningRate, averaging, sobolevWeight, psiWeight, likelihoodWeight;
    const char* device;
    /// Called at every report with all that is needed to go on from there; returns 0 to stop.
    int (*progress)(void* user, int step, double loss, double validation, double error, const float* state);
    void* user;
    const float* state;  ///< null, or the state to go on from
    // Results
    double loss, validation;
    std::int32_t stepsDone, stopped;
    char error[1024];
};

/// Numbers in a state: step, best validation, reports since, then parameters, their average, the best average and two moments.
inline std::int64_t spacetimeTorchStateSize(std::int64_t numParameters) { return 3 + 5 * numParameters; }

/// 0 when trained; otherwise `error` says why not.
int spacetimeTorchTrain(SpacetimeTorchJob* job);

/// psi [points], mu and J v [points x M] of the mixture described in `job` at eta and v [points x M], computed by LibTorch: lets tests compare the
/// native evaluation.
int spacetimeTorchEvaluate(SpacetimeTorchJob* job, std::int64_t points, const float* eta, const float* v, float* psi, float* mu, float* product);

/// A TorchScript module and how its derivatives are found.
struct SpacetimeTorchScript;

/// Opens a TorchScript file on "cpu" or "cuda". `metadata` is the content of its extra file spacetime.json, "" where it has none; it lives as
/// long as the module. Opening such a file can run code in it.
int spacetimeTorchScriptOpen(const char* path, const char* device, SpacetimeTorchScript** module, const char** metadata, char* error, int errorSize);

/// Tries the ways of differentiating on n points, x [n x D] and level [n], and keeps the first that agrees with central differences of
/// steps of `noise` [n]: reverse mode, then forward mode. `name` becomes "forward" or "reverse", `isDouble` says whether the module computes in
/// 64 bits. `only` limits the choice to one of the names; null for both. Where `noise` is null no derivatives are tried, as Jacobians would be too large.
int spacetimeTorchScriptPrepare(SpacetimeTorchScript* module, std::int64_t n, int D, const double* x, const double* level, const double* noise, double levelStep, const char* only,
                                const char** name, int* isDouble, char* error, int errorSize);

/// values [n x D], and where it is not null the jacobian [n x D x (D + 1)] of each point: derivatives by x, in the last column by the level.
/// Rows go through the module in bounded portions, smaller ones where memory does not suffice. Calls from several threads wait for each other.
int spacetimeTorchScriptPredict(SpacetimeTorchScript* module, std::int64_t n, int D, const double* x, const double* level, double* values, double* jacobian, char* error,
                                int errorSize);

/// values [n x D] and their derivatives along one direction a point, alongX [n x D] and alongLevel [n], in one pass of forward mode. Rows as above.
int spacetimeTorchScriptAlong(SpacetimeTorchScript* module, std::int64_t n, int D, const double* x, const double* level, const double* alongX, const double* alongLevel,
                              double* values, double* along, char* error, int errorSize);

void spacetimeTorchScriptClose(SpacetimeTorchScript* module);

/// The U-Net of spacetime/ImageModel.h. Its weights are one row of numbers, tensor after tensor in the order of UnetLayout.h.
struct SpacetimeUnetShape {
    std::int32_t height, width, channels;
    std::int32_t patch, base, levels, multipliers[8], blocks, embedding;
};

struct SpacetimeUnet;

/// Copies the weights to the device "cpu" or "cuda".
int spacetimeUnetOpen(const SpacetimeUnetShape* shape, const float* parameters, const char* device, SpacetimeUnet** unet, char* error, int errorSize);

/// values [n x D] at x [n x D] and the noise levels [n], and where `slopes` [n x D] is not null the derivatives along one direction a point, alongX [n x D] and
/// alongLevel [n], in forward mode. Points go through the net in portions whose activations fill about `memory` bytes; smaller ones where that is not to be had.
/// Calls from several threads wait for each other.
int spacetimeUnetPredict(SpacetimeUnet* unet, std::int64_t n, const double* x, const double* level, const double* alongX, const double* alongLevel, double* values, double* slopes,
                         double memory, char* error, int errorSize);

void spacetimeUnetClose(SpacetimeUnet* unet);

struct SpacetimeUnetJob {
    SpacetimeUnetShape shape;
    std::int64_t numPictures, numHeldOut;  ///< the pictures held out follow the others
    const float* pictures;                 ///< [pictures x D], pixels -1 to 1
    float* parameters;                     ///< in: where to start; out: the running average
    std::int32_t steps, batch, reportEvery, threads, flips;
    std::uint64_t seed;
    double learningRate, averaging, sigmaData, minLogSnr, maxLogSnr;
    const char* device;
    /// Called after every step, at a report with the mean loss since the last one and that of the average on the pictures held out. Returns 0 to stop, 1 to
    /// go on, 2 to go on once the state is kept. The state is kept before stopping, too.
    int (*progress)(void* user, int step, int isReport, double loss, double heldOut);
    void (*keep)(void* user, const float* state);
    void* user;
    const float* state;  ///< null, or the state to go on from
    // Results
    double loss, heldOutLoss;
    std::int32_t stepsDone, stopped;
    char error[1024];
};

/// Numbers in a state: step, sum of losses since the last report and their number, then parameters, their average and two moments.
inline std::int64_t spacetimeUnetStateSize(std::int64_t numParameters) { return 3 + 4 * numParameters; }

/// "2.11": the installed LibTorch.
const char* spacetimeTorchVersion();

/// 0 when trained; otherwise `error` says why not.
int spacetimeUnetTrain(SpacetimeUnetJob* job);
}
