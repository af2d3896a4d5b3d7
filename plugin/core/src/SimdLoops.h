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
/// x -= a
void subtract(double* x, double a, long n);

}  // namespace Spacetime
