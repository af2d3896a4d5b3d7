// SPDX-License-Identifier: MIT
#include "Features.h"
#include "spacetime/Text.h"
#include <cmath>

namespace Spacetime {

namespace {

/// A function of two numbers with its first and second derivatives.
struct Jet {
    double v, d1, d2, d11, d12, d22;

    static Jet constant(double c) { return {c, 0, 0, 0, 0, 0}; }
    static Jet first(double x) { return {x, 1, 0, 0, 0, 0}; }
    static Jet second(double y) { return {y, 0, 1, 0, 0, 0}; }
    /// g(this), from g, g' and g'' at v.
    Jet apply(double g, double g1, double g2) const {
        return {g, g1 * d1, g1 * d2, g1 * d11 + g2 * d1 * d1, g1 * d12 + g2 * d1 * d2, g1 * d22 + g2 * d2 * d2};
    }
};

Jet operator+(const Jet& a, const Jet& b) { return {a.v + b.v, a.d1 + b.d1, a.d2 + b.d2, a.d11 + b.d11, a.d12 + b.d12, a.d22 + b.d22}; }
Jet operator*(double c, const Jet& a) { return {c * a.v, c * a.d1, c * a.d2, c * a.d11, c * a.d12, c * a.d22}; }
Jet operator-(const Jet& a, const Jet& b) { return a + -1.0 * b; }
Jet operator+(const Jet& a, double c) { return a + Jet::constant(c); }
Jet operator*(const Jet& a, const Jet& b) {
    return {a.v * b.v,
            a.d1 * b.v + a.v * b.d1,
            a.d2 * b.v + a.v * b.d2,
            a.d11 * b.v + 2 * a.d1 * b.d1 + a.v * b.d11,
            a.d12 * b.v + a.d1 * b.d2 + a.d2 * b.d1 + a.v * b.d12,
            a.d22 * b.v + 2 * a.d2 * b.d2 + a.v * b.d22};
}
Jet power(const Jet& a, double n) {
    const double g = std::pow(a.v, n);
    return a.apply(g, n * g / a.v, n * (n - 1) * g / (a.v * a.v));
}
Jet log(const Jet& a) { return a.apply(std::log(a.v), 1 / a.v, -1 / (a.v * a.v)); }
Jet sin(const Jet& a) { return a.apply(std::sin(a.v), std::cos(a.v), -std::sin(a.v)); }
Jet cos(const Jet& a) { return a.apply(std::cos(a.v), -std::sin(a.v), -std::cos(a.v)); }

/// Logarithms of precisions run from about 1 to 6: this brings them to order one.
Jet standardised(const Jet& logPrecision) { return (1.0 / 3) * logPrecision + -1.0; }

/// Period of the sines and cosines, in half-ranges of the data: margin enough that points beyond the data do not alias.
const double PeriodInHalfRanges = 3;

}  // namespace

Features::Features(const Variables& variables, int numHarmonics, const Eigen::VectorXd& dataMean, double dataVariance, const Eigen::VectorXd& dataLow,
                   const Eigen::VectorXd& dataHigh)
    : vars(variables), harmonics(numHarmonics), mean(dataMean), low(dataLow), high(dataHigh), variance(dataVariance) {
    if (harmonics < 1)
        throw std::invalid_argument("Features: expected at least 1 harmonic, got " + std::to_string(harmonics));
    if (mean.size() != vars.numUnlifted() || low.size() != vars.numUnlifted() || high.size() != vars.numUnlifted())
        throw std::invalid_argument("Features: expected a mean and a range for each of " + std::to_string(vars.numUnlifted()) + " unlifted variables");
    for (int u = 0; u < low.size(); u++)
        if (!(low[u] < high[u]))
            throw std::invalid_argument("Features: expected a range of positive width, got " + text(low[u]) + " to " + text(high[u]));
    auto add = [this](int i, int j, int count) {
        first.insert(first.end(), count, i);
        second.insert(second.end(), count, j);
    };
    if (vars.hasQuadratic())
        add(0, 0, 1);
    for (int i = 0; i < vars.size(); i++) {
        const int o = vars.offset(i);
        if (vars[i].lifted())
            add(o, o + 1, 1 + 2 * harmonics);
        else
            add(0, o, 1 + 2 * harmonics);
    }
}

Features::Values Features::evaluate(const Eigen::Ref<const Eigen::MatrixXd>& eta) const {
    const Eigen::Index n = eta.cols();
    Values out;
    for (Eigen::MatrixXd* a : {&out.f, &out.d1, &out.d2, &out.d11, &out.d12, &out.d22})
        a->resize(size(), n);
    for (Eigen::Index c = 0; c < n; c++) {
        int row = 0;
        auto put = [&](const Jet& j) {
            out.f(row, c) = j.v;
            out.d1(row, c) = j.d1;
            out.d2(row, c) = j.d2;
            out.d11(row, c) = j.d11;
            out.d12(row, c) = j.d12;
            out.d22(row, c) = j.d22;
            row++;
        };
        Jet precision = Jet::constant(1);
        if (vars.hasQuadratic()) {
            precision = -2.0 * Jet::first(eta(0, c)) + 1 / variance;
            put(standardised(log(variance * precision)));
        }
        for (int i = 0, u = 0; i < vars.size(); i++) {
            const int o = vars.offset(i);
            if (vars[i].lifted()) {
                const Jet a = Jet::first(eta(o, c)), b = Jet::second(eta(o + 1, c));
                const Jet norm2 = a * a + b * b + 1.0, inverse = power(norm2, -0.5);
                put(standardised(0.5 * log(norm2)));
                const Jet re = a * inverse, im = b * inverse;
                Jet x = re, y = im;
                for (int k = 1; k <= harmonics; k++) {
                    put(x);
                    put(y);
                    const Jet next = x * re - y * im;
                    y = x * im + y * re;
                    x = next;
                }
            }
            else {
                const Jet m = (Jet::second(eta(o, c)) + mean[u] / variance) * power(precision, -1);
                const Jet t = (2 / (high[u] - low[u])) * (m + -0.5 * (low[u] + high[u]));
                put(t);
                for (int k = 1; k <= harmonics; k++) {
                    const Jet angle = (2 * M_PI * k / PeriodInHalfRanges) * t;
                    put(cos(angle));
                    put(sin(angle));
                }
                u++;
            }
        }
    }
    return out;
}

}  // namespace Spacetime
