// SPDX-License-Identifier: MIT
#include "Bessel.h"
#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define SPACETIME_CLONES __attribute__((target_clones("arch=haswell", "default")))
#define SPACETIME_INLINE __attribute__((always_inline)) inline
#else
#define SPACETIME_CLONES
#define SPACETIME_INLINE inline
#endif

namespace Spacetime {

namespace {

/// log I0 and, as functions of u = kappa^2 like it, ratioByK = 2 d/du, anisotropy = 4 d^2/du^2 and anisotropySlope = 8 d^3/du^3 of it.
using Four = std::array<double, 4>;

Four series(double kappa) {
    const double k2 = kappa * kappa;
    if (kappa < 30) {
        // Power series: every term is positive, so nothing cancels. I0 = sum q^j/j!^2, I1/kappa = 1/2 sum q^j/(j!(j+1)!), q = kappa^2/4;
        // I2/kappa^2 = 1/4 sum q^j/(j!(j+2)!) gives the anisotropy without a difference: A/kappa - A' = I1^2/I0^2 - I2/I0.
        // I3/kappa^3 gives its slope in the same way, with d/dkappa (I_n/kappa^n) = I_{n+1}/kappa^n.
        const double q = 0.25 * k2;
        double i0 = 0, i1 = 0, i2 = 0, i3 = 0, term = 1;
        for (int j = 0; j < 200; j++) {
            i0 += term;
            i1 += term / (j + 1);
            i2 += term / ((j + 1.0) * (j + 2.0));
            i3 += term / ((j + 1.0) * (j + 2.0) * (j + 3.0));
            term *= q / ((j + 1.0) * (j + 1.0));
            if (term < 1e-18 * i0)
                break;
        }
        const double ratioByK = 0.5 * i1 / i0, anisotropy = 0.25 * i2 / i0 - ratioByK * ratioByK;
        return {std::log(i0), ratioByK, anisotropy, 0.125 * i3 / i0 - ratioByK * (3 * anisotropy + ratioByK * ratioByK)};
    }
    // Asymptotic series of exp(-kappa) sqrt(2 pi kappa) I_nu: the terms fall below 1e-16 before they grow again for kappa >= 30.
    double i0 = 1, i1 = 1, t0 = 1, t1 = 1;
    for (int j = 1; j <= 30; j++) {
        const double odd = (2.0 * j - 1) * (2.0 * j - 1);
        const double next0 = t0 * odd / (8 * j * kappa), next1 = -t1 * (4 - odd) / (8 * j * kappa);
        t0 = next0;
        t1 = next1;
        i0 += t0;
        i1 += t1;
        if (std::abs(t0) < 1e-17 && std::abs(t1) < 1e-17)
            break;
    }
    const double ratio = i1 / i0, ratioByK = ratio / kappa;
    // 1 - A^2 as (1-A)(1+A), with 1-A from the difference of the series, keeps the digits of the small radial variance.
    const double derivative = (i0 - i1) / i0 * (1 + ratio) - ratioByK, anisotropy = (derivative - ratioByK) / k2;
    // From A' = 1 - A/kappa - A^2, differentiated once more.
    return {kappa - 0.5 * std::log(2 * M_PI * kappa) + std::log(i0), ratioByK, anisotropy, -(4 * anisotropy + 2 * ratioByK * derivative) / k2};
}

/**
 * The four functions as polynomials in u, piece by piece. Their nearest singularity is the first zero of I0, at u = -5.78. Pieces are quarters
 * of octaves of x = 1 + u/5.78: at most a ninth of the distance to it from middle to end, so that degree 12 interpolates to
 * rounding. The piece stands in the leading bits of x.
 */
class Table {
public:
    static const Table& get() {
        static const Table table;
        return table;
    }
    /// kappa <= MaxKappa
    SPACETIME_INLINE double first(double kappa) const {
        double t;
        const Piece& p = piece(kappa, t);
        double value = p[Degree][0];
        for (int k = Degree; k-- > 0;)
            value = value * t + p[k][0];
        return value;
    }
    SPACETIME_INLINE Four all(double kappa) const {
        double t;
        const Piece& p = piece(kappa, t);
        Four value = p[Degree];
        for (int k = Degree; k-- > 0;)
            for (int i = 0; i < 4; i++)
                value[i] = value[i] * t + p[k][i];
        return value;
    }
    static constexpr double MaxKappa = 300;

private:
    static constexpr int Degree = 12, BitsDropped = 50;  // exponent and two bits of the mantissa are kept
    static constexpr double Singularity = 5.783185962946785;
    using Piece = std::array<Four, Degree + 1>;

    static SPACETIME_INLINE std::int64_t leadingBits(double x) {
        std::int64_t bits;
        std::memcpy(&bits, &x, sizeof bits);
        return bits >> BitsDropped;
    }
    SPACETIME_INLINE const Piece& piece(double kappa, double& t) const {
        const double x = 1 + kappa * kappa / Singularity;
        const std::int64_t i = leadingBits(x) - leadingBits(1.0);
        t = (x - middle[i]) * byHalf[i];
        return pieces[i];
    }
    Table() {
        const std::int64_t count = leadingBits(1 + MaxKappa * MaxKappa / Singularity) - leadingBits(1.0) + 1;
        for (std::int64_t i = 0; i < count; i++) {
            const double octave = std::ldexp(1.0, static_cast<int>(i / 4)), low = octave * (1 + 0.25 * (i % 4)), half = 0.125 * octave;
            middle.push_back(low + half);
            byHalf.push_back(1 / half);
            // Chebyshev interpolation, then powers of t: the coefficients fall so fast that nothing cancels.
            const int nodes = Degree + 1;
            std::array<Four, Degree + 1> values, chebyshev{};
            for (int j = 0; j < nodes; j++)
                values[j] = series(std::sqrt(Singularity * std::max(0.0, low + half + half * std::cos(M_PI * (j + 0.5) / nodes) - 1)));
            for (int k = 0; k < nodes; k++)
                for (int j = 0; j < nodes; j++)
                    for (int f = 0; f < 4; f++)
                        chebyshev[k][f] += (k == 0 ? 1.0 : 2.0) / nodes * values[j][f] * std::cos(M_PI * k * (j + 0.5) / nodes);
            Piece p{};
            std::array<double, Degree + 1> before{}, current{};  // T_{k-1}, T_k in powers of t
            current[0] = 1;
            for (int k = 0; k < nodes; k++) {
                for (int power = 0; power <= k; power++)
                    for (int f = 0; f < 4; f++)
                        p[power][f] += chebyshev[k][f] * current[power];
                std::array<double, Degree + 1> next{};
                for (int power = 0; power < Degree; power++)
                    next[power + 1] = (k == 0 ? 1 : 2) * current[power];
                for (int power = 0; power <= Degree; power++)
                    next[power] -= before[power];
                before = current;
                current = next;
            }
            pieces.push_back(p);
        }
    }
    std::vector<double> middle, byHalf;
    std::vector<Piece> pieces;
};

}  // namespace

SPACETIME_CLONES
void logBesselI0(const double* kappa, double* result, long n) {
    const Table& table = Table::get();
    for (long i = 0; i < n; i++)
        result[i] = kappa[i] <= Table::MaxKappa ? table.first(kappa[i]) : series(kappa[i])[0];
}

SPACETIME_CLONES
void evaluateVonMises(const double* kappa, VonMises* result, long n) {
    const Table& table = Table::get();
    for (long i = 0; i < n; i++) {
        const Four f = kappa[i] <= Table::MaxKappa ? table.all(kappa[i]) : series(kappa[i]);
        VonMises& r = result[i];
        r.logI0 = f[0];
        r.ratioByK = f[1];
        r.anisotropy = f[2];
        r.anisotropySlope = f[3];
        r.ratio = kappa[i] * f[1];
        r.derivative = f[1] + kappa[i] * kappa[i] * f[2];
    }
}

VonMises::VonMises(double kappa) { evaluateVonMises(&kappa, this, 1); }

}  // namespace Spacetime
