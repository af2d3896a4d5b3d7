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

namespace {

/// Relative error below 1e-15 for |x| <= 700.
__attribute__((always_inline)) inline double exponential(double x) {
    // exp(x) = 2^k exp(r), |r| <= ln 2/2: Taylor to twelfth order. Adding `magic` rounds to an integer and leaves it in the low bits.
    const double magic = 6755399441055744.0, log2e = 1.4426950408889634074, ln2High = 6.93147180369123816490e-01, ln2Low = 1.90821492927058770002e-10;
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
    return y * __builtin_bit_cast(double, exponent);
}

/// The sums of one strip of rows stay in registers while the columns pass.
template <int count, bool squared>
__attribute__((always_inline)) inline void stripProduct(double* R, long strideR, const WeightStrip* W, long stripsPerRow, long rows, const double* B, long strideB, long columns) {
    for (long i = 0; i < rows; i += StripSize, W += stripsPerRow) {
        double sum[count][StripSize] = {};
        for (long j = 0; j < columns; j++) {
            const double* w = W[j].w;
#pragma GCC unroll 4
            for (int c = 0; c < count; c++) {
                const double b = B[c * strideB + j];
#pragma omp simd
                for (int s = 0; s < StripSize; s++)
                    sum[c][s] += (squared ? w[s] * w[s] : w[s]) * b;
            }
        }
        for (int c = 0; c < count; c++)
            for (int s = 0; s < StripSize; s++)
                R[c * strideR + i + s] = sum[c][s];
    }
}

}  // namespace

SPACETIME_CLONES
double expAndSum(double* p, long n, double top) {
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (long i = 0; i < n; i++) {
        double x = p[i] - top;
        x = x < -700 ? -700 : x;
        p[i] = exponential(x);
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
    // Four quarters side by side: one sum alone would wait for each addition to end.
    const long q = n / 4;
    double a = 0, b = 0, c = 0, d = 0;
#pragma omp simd reduction(+ : a, b, c, d)
    for (long i = 0; i < q; i++) {
        a += x[i] * y[i];
        b += x[q + i] * y[q + i];
        c += x[2 * q + i] * y[2 * q + i];
        d += x[3 * q + i] * y[3 * q + i];
    }
    for (long i = 4 * q; i < n; i++)
        a += x[i] * y[i];
    return (a + b) + (c + d);
}

SPACETIME_CLONES
void multiply(double* w, const double* x, const double* y, long n) {
#pragma omp simd
    for (long i = 0; i < n; i++)
        w[i] = x[i] * y[i];
}

SPACETIME_CLONES
void subtract(double* y, const double* x, double a, long n) {
#pragma omp simd
    for (long i = 0; i < n; i++)
        y[i] = x[i] - a;
}

SPACETIME_CLONES
void multiplyStrips(double* R, long strideR, const WeightStrip* W, long stripsPerRow, long rows, const double* B, long strideB, long columns, int count, bool squared) {
    if (squared)
        stripProduct<1, true>(R, strideR, W, stripsPerRow, rows, B, strideB, columns);
    else if (count == 1)
        stripProduct<1, false>(R, strideR, W, stripsPerRow, rows, B, strideB, columns);
    else if (count == 2)
        stripProduct<2, false>(R, strideR, W, stripsPerRow, rows, B, strideB, columns);
    else
        stripProduct<4, false>(R, strideR, W, stripsPerRow, rows, B, strideB, columns);
}

}  // namespace Spacetime
