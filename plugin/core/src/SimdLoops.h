// SPDX-License-Identifier: MIT
#pragma once

namespace Spacetime {

// The inner loops of the empirical posterior, over contiguous numbers. The compiler makes versions for AVX-512, for AVX2 and for any
// x86-64; the processor's is chosen when the library is loaded.

/// p_k = exp(p_k - top), relative error below 1e-15; returns the sum. Differences below -700 count as e^-700.
double expAndSum(double* p, long n, double top);
/// y += a x
void addScaled(double* y, double a, const double* x, long n);
/// sum of x_k y_k
double dotProduct(const double* x, const double* y, long n);
/// w = x y
void multiply(double* w, const double* x, const double* y, long n);
/// y = x - a
void subtract(double* y, const double* x, double a, long n);

/// Neighbouring weights of one column of a matrix that is multiplied strip by strip.
constexpr int StripSize = 16;
struct alignas(64) WeightStrip {
    double w[StripSize];
};
/// R [rows x count] = W B, W [rows x columns] or its elementwise square. The strips of rows lie `stripsPerRow` apart, the columns of R
/// and B `strideR` and `strideB`. `rows` is a multiple of StripSize, `count` is 1, 2 or 4.
void multiplyStrips(double* R, long strideR, const WeightStrip* W, long stripsPerRow, long rows, const double* B, long strideB, long columns, int count, bool squared);

}  // namespace Spacetime
