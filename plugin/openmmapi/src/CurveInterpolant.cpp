// SPDX-License-Identifier: MIT
#include "openmmspacetime/internal/CurveInterpolant.h"
#include "spacetime/Curve.h"
#include <algorithm>

namespace SpacetimePlugin {

CurveInterpolant::CurveInterpolant(const std::vector<double>& s, const std::vector<double>& eta)
        : numComponents(static_cast<int>(eta.size()/s.size())), nodes(s), values(eta), slopes(eta.size()) {
    // A node's components lie side by side here, which is a column of the core's [m x N+1] matrices.
    Eigen::Map<const Eigen::VectorXd> x(nodes.data(), nodes.size());
    Eigen::Map<const Eigen::MatrixXd> y(values.data(), numComponents, nodes.size());
    Eigen::Map<Eigen::MatrixXd>(slopes.data(), numComponents, nodes.size()) = Spacetime::monotoneSlopes(x, y);
}

void CurveInterpolant::evaluate(double s, std::vector<double>& eta, std::vector<double>* derivative) const {
    double clamped = std::min(1.0, std::max(0.0, s));
    int segment = static_cast<int>(std::upper_bound(nodes.begin()+1, nodes.end()-1, clamped)-nodes.begin())-1;
    double h = nodes[segment+1]-nodes[segment];
    double t = (clamped-nodes[segment])/h;
    double t2 = t*t, t3 = t2*t;
    double h01 = 3*t2-2*t3, h10 = t3-2*t2+t, h11 = t3-t2;
    double d01 = 6*(t-t2)/h, d10 = 3*t2-4*t+1, d11 = 3*t2-2*t;
    bool outside = (s != clamped);
    eta.resize(numComponents);
    if (derivative != nullptr)
        derivative->resize(numComponents);
    const double* y0 = &values[segment*numComponents];
    const double* m0 = &slopes[segment*numComponents];
    const double* y1 = y0+numComponents;
    const double* m1 = m0+numComponents;
    for (int i = 0; i < numComponents; i++) {
        double rise = y1[i]-y0[i];
        // The far node itself, so that eta(1) is the last node to the last bit.
        eta[i] = (t == 1.0 ? y1[i] : y0[i]+h01*rise+h*(h10*m0[i]+h11*m1[i]));
        if (derivative != nullptr)
            (*derivative)[i] = (outside ? 0.0 : d01*rise+d10*m0[i]+d11*m1[i]);
    }
}

}  // namespace SpacetimePlugin
