// SPDX-License-Identifier: MIT
// Compiled with -fopenmp-simd: the pragmas allow sums to be reordered in these loops and nowhere else.
#include "SimdLoops.h"
#include <cstdint>

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define SPACETIME_CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define SPACETIME_CLONES
#endif

namespace Spacetime {

SPACETIME_CLONES
double expAndSum(double* p, long n, double top) {
    // exp(x) = 2^k exp(r), |r| <= ln 2/2: Taylor to twelfth order. Adding `magic` rounds to an integer and leaves it in the low bits.
    const double magic = 6755399441055744.0, log2e = 1.4426950408889634074, ln2High = 6.93147180369123816490e-01, ln2Low = 1.90821492927058770002e-10;
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (long i = 0; i < n; i++) {
        double x = p[i] - top;
        x = x < -700 ? -700 : x;
        const double shifted = x * log2e + magic, k = shifted - magic;
        const double r = (x - k * ln2High) - k * ln2Low;
        double y = 1.0 / 479001600;
        y = y * r + 1.0 / 39916800;
        y = y * r + 1.0 / 3628800;
        y = y * r + 1.0 / 362880;
        y = y * r + 1.0 / 40320;
        y = y * r + 1.0 / 5040;
        y = y * r + 1.0 / 720;
        y = y * r + 1.0 / 120;
        y = y * r + 1.0 / 24;
        y = y * r + 1.0 / 6;
        y = y * r + 0.5;
        y = y * r + 1.0;
        y = y * r + 1.0;
        const uint64_t exponent = (__builtin_bit_cast(uint64_t, shifted) + 1023) << 52;
        p[i] = y * __builtin_bit_cast(double, exponent);
        sum += p[i];
    }
    return sum;
}

SPACETIME_CLONES
void addScaled(double* y, double a, const double* x, long n) {
#pragma omp simd
    for (long i = 0; i < n; i++)
        y[i] += a * x[i];
}

SPACETIME_CLONES
double dotProduct(const double* x, const double* y, long n) {
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (long i = 0; i < n; i++)
        sum += x[i] * y[i];
    return sum;
}

SPACETIME_CLONES
void multiply(double* w, const double* x, const double* y, long n) {
#pragma omp simd
    for (long i = 0; i < n; i++)
        w[i] = x[i] * y[i];
}

SPACETIME_CLONES
void subtract(double* x, double a, long n) {
#pragma omp simd
    for (long i = 0; i < n; i++)
        x[i] -= a;
}

}  // namespace Spacetime
