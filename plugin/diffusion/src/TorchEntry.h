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
}
