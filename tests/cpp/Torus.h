// SPDX-License-Identifier: MIT
#pragma once

#include "spacetime/Models.h"
#include <cmath>

namespace Spacetime {

/// Exact posterior of a periodic surface as an exhaustive n x n grid: two valleys along b, a mountain of `height` kT at a = 0 that makes
/// the short way round in a the high one, and `skew` times sin(a - b).
inline EmpiricalModel torus(int n, double height = 6, double skew = 0) {
    Eigen::MatrixXd x(2, n * n);
    Eigen::VectorXd w(n * n);
    for (int i = 0; i < n; i++)
        for (int j = 0; j < n; j++) {
            const double a = -M_PI + (i + 0.5) * 2 * M_PI / n, b = -M_PI + (j + 0.5) * 2 * M_PI / n;
            x.col(i * n + j) << a, b;
            w[i * n + j] = -height * std::exp(4 * (std::cos(a) - 1)) + 1.5 * std::cos(2 * b) + skew * std::sin(a - b);
        }
    EmpiricalModel::Options o;
    o.grid = true;
    return EmpiricalModel(Variables({Variable::torsion("a"), Variable::torsion("b")}), x, w, o);
}

}  // namespace Spacetime
