// SPDX-License-Identifier: MIT
#pragma once

namespace Spacetime {

/// Moments of the von Mises distribution on the circle at concentration kappa >= 0 (flat prior), accurate to ~1e-13 at any kappa.
struct VonMises {
    double logI0;       ///< log of the modified Bessel function I0(kappa), the log-partition
    double ratio;       ///< A = I1/I0, the length of the mean direction
    double ratioByK;    ///< A/kappa, the tangential variance (1/2 at kappa = 0)
    double derivative;  ///< dA/dkappa = 1 - A/kappa - A^2, the radial variance
    /// (dA/dkappa - A/kappa)/kappa^2, what makes the covariance anisotropic; finite at kappa = 0 (-1/8).
    double anisotropy;
    double anisotropySlope;  ///< (d anisotropy/dkappa)/kappa (1/12 at kappa = 0)

    VonMises() = default;
    explicit VonMises(double kappa);
};

/// The same for n concentrations, whose evaluations overlap.
void evaluateVonMises(const double* kappa, VonMises* result, long n);
/// log I0 alone.
void logBesselI0(const double* kappa, double* result, long n);

}  // namespace Spacetime
