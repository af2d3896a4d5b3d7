// SPDX-License-Identifier: MIT
#include "Bessel.h"
#include <cmath>

namespace Spacetime {

VonMises::VonMises(double kappa) {
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
        logI0 = std::log(i0);
        ratioByK = 0.5 * i1 / i0;
        ratio = kappa * ratioByK;
        anisotropy = 0.25 * i2 / i0 - ratioByK * ratioByK;
        derivative = ratioByK + k2 * anisotropy;
        anisotropySlope = 0.125 * i3 / i0 - ratioByK * (3 * anisotropy + ratioByK * ratioByK);
        return;
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
    logI0 = kappa - 0.5 * std::log(2 * M_PI * kappa) + std::log(i0);
    ratio = i1 / i0;
    ratioByK = ratio / kappa;
    // 1 - A^2 as (1-A)(1+A), with 1-A from the difference of the series, keeps the digits of the small radial variance.
    derivative = (i0 - i1) / i0 * (1 + ratio) - ratioByK;
    anisotropy = (derivative - ratioByK) / k2;
    // From A' = 1 - A/kappa - A^2, differentiated once more.
    anisotropySlope = -(4 * anisotropy + 2 * ratioByK * derivative) / k2;
}

}  // namespace Spacetime
