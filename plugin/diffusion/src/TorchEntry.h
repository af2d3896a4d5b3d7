// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>

/**
 * The boundary between the program and the library that links LibTorch: plain numbers only, so that the library can be
 * opened at run time and neither side shares types, allocators or exceptions with the other.
 *
 * The network: h_0 = f; h_l = tanh(W_l h_{l-1} + b_l), l = 1..layers; N = W_out h_layers + b_out. Weights come as one row of
 * numbers W_1, b_1, ..., W_out, b_out, matrices row-major.
 *
 * A training row holds, one after the other:
 *   f [F]      features of the point
 *   t [F]      their derivative along the point's probe direction v
 *   G [M x F]  whitened derivatives: the error of mu in posterior standard deviations is G grad_f N - r
 *   r [M]
 *   K [M x F]  derivative of G's unwhitened part along v, whitened: the error of J v is G (Hess_f N) t + K grad_f N - q
 *   q [M]
 *   psi [1]    target of N
 *   w [1]      weight of the point
 */
extern "C" {

struct SpacetimeTorchJob {
    std::int32_t numFeatures, numStatistics, width, layers;
    std::int64_t numPoints, numValidation;  ///< the validation rows follow the training rows
    const float* rows;
    float* weights;  ///< in: where to start; out: running average of the trained weights
    std::int64_t numWeights;
    std::int32_t steps, batch, reportEvery, threads;
    std::uint64_t seed;
    double learningRate, emaDecay, sobolevWeight, psiWeight;
    const char* device;
    /// Returns 0 to stop.
    int (*progress)(void* user, int step, double loss, double validation);
    void* user;
    // Results
    double loss, validation;
    std::int32_t stepsDone, stopped;
    char error[1024];
};

/// 0 when trained; otherwise `error` says why not.
int spacetimeTorchTrain(SpacetimeTorchJob* job);

/// N [points], its gradient by the features and its Hessian times the tangents t [points x F], computed by LibTorch: lets tests
/// compare the native evaluation. f and t are [points x F].
int spacetimeTorchEvaluate(int numFeatures, int width, int layers, const float* weights, std::int64_t points, const float* f, const float* t, float* N,
                           float* gradient, float* product, char* error, int errorSize);

/// A TorchScript module and how its derivatives are found.
struct SpacetimeTorchScript;

/// Opens a TorchScript file on "cpu" or "cuda". `metadata` is the content of its extra file spacetime.json, "" where it has none; it lives as
/// long as the module. Opening such a file can run code in it.
int spacetimeTorchScriptOpen(const char* path, const char* device, SpacetimeTorchScript** module, const char** metadata, char* error, int errorSize);

/// Tries the ways of differentiating on n points, x [n x D] and level [n], and keeps the first that agrees with central differences of
/// steps of `noise` [n]: reverse mode, then forward mode. `name` becomes "forward" or "reverse", `isDouble` says whether the module computes in
/// 64 bits. `only` limits the choice to one of the names; null for both.
int spacetimeTorchScriptPrepare(SpacetimeTorchScript* module, std::int64_t n, int D, const double* x, const double* level, const double* noise, double levelStep,
                                const char* only, const char** name, int* isDouble, char* error, int errorSize);

/// values [n x D], and where it is not null the jacobian [n x D x (D + 1)] of each point: derivatives by x, in the last column by the level.
/// Rows go through the module in bounded portions. Calls from several threads wait for each other.
int spacetimeTorchScriptPredict(SpacetimeTorchScript* module, std::int64_t n, int D, const double* x, const double* level, double* values, double* jacobian, char* error,
                                int errorSize);

void spacetimeTorchScriptClose(SpacetimeTorchScript* module);
}
