// SPDX-License-Identifier: MIT
#include "Features.h"
#include "spacetime/Text.h"
#include <cmath>

namespace Spacetime {

namespace {

/// A number and its derivative along a direction.
struct Dual {
    double v, along;

    Dual(double value = 0, double derivative = 0) : v(value), along(derivative) {}
};

Dual operator+(Dual a, Dual b) { return {a.v + b.v, a.along + b.along}; }
Dual operator-(Dual a) { return {-a.v, -a.along}; }
Dual operator*(Dual a, Dual b) { return {a.v * b.v, a.along * b.v + a.v * b.along}; }
Dual operator/(Dual a, Dual b) { return {a.v / b.v, (a.along - a.v / b.v * b.along) / b.v}; }
Dual pow(Dual a, double n) { return {std::pow(a.v, n), n * std::pow(a.v, n - 1) * a.along}; }
Dual log(Dual a) { return {std::log(a.v), a.along / a.v}; }
Dual sin(Dual a) { return {std::sin(a.v), std::cos(a.v) * a.along}; }
Dual cos(Dual a) { return {std::cos(a.v), -std::sin(a.v) * a.along}; }
using std::cos;
using std::log;
using std::pow;
using std::sin;

/// A function of two numbers with its first and second derivatives.
template <class T>
struct Jet {
    T v, d1, d2, d11, d12, d22;

    static Jet constant(double c) { return {c, 0, 0, 0, 0, 0}; }
    static Jet first(T x) { return {x, 1, 0, 0, 0, 0}; }
    static Jet second(T y) { return {y, 0, 1, 0, 0, 0}; }
    /// g(this), from g, g' and g'' at v.
    Jet apply(T g, T g1, T g2) const { return {g, g1 * d1, g1 * d2, g1 * d11 + g2 * d1 * d1, g1 * d12 + g2 * d1 * d2, g1 * d22 + g2 * d2 * d2}; }
};

template <class T>
Jet<T> operator+(const Jet<T>& a, const Jet<T>& b) {
    return {a.v + b.v, a.d1 + b.d1, a.d2 + b.d2, a.d11 + b.d11, a.d12 + b.d12, a.d22 + b.d22};
}
template <class T>
Jet<T> operator*(double c, const Jet<T>& a) {
    return {c * a.v, c * a.d1, c * a.d2, c * a.d11, c * a.d12, c * a.d22};
}
template <class T>
Jet<T> operator-(const Jet<T>& a, const Jet<T>& b) {
    return a + -1.0 * b;
}
template <class T>
Jet<T> operator+(const Jet<T>& a, double c) {
    return a + Jet<T>::constant(c);
}
template <class T>
Jet<T> operator*(const Jet<T>& a, const Jet<T>& b) {
    return {a.v * b.v,
            a.d1 * b.v + a.v * b.d1,
            a.d2 * b.v + a.v * b.d2,
            a.d11 * b.v + 2 * a.d1 * b.d1 + a.v * b.d11,
            a.d12 * b.v + a.d1 * b.d2 + a.d2 * b.d1 + a.v * b.d12,
            a.d22 * b.v + 2 * a.d2 * b.d2 + a.v * b.d22};
}
template <class T>
Jet<T> power(const Jet<T>& a, double n) {
    const T g = pow(a.v, n);
    return a.apply(g, n * g / a.v, n * (n - 1) * g / (a.v * a.v));
}
template <class T>
Jet<T> logarithm(const Jet<T>& a) {
    return a.apply(log(a.v), 1 / a.v, -1 / (a.v * a.v));
}
template <class T>
void sineAndCosine(const Jet<T>& a, Jet<T>& sine, Jet<T>& cosine) {
    const T s = sin(a.v), c = cos(a.v);
    sine = a.apply(s, c, -s);
    cosine = a.apply(c, -s, -c);
}

/// Logarithms of precisions run from about 1 to 6: this brings them to order one.
template <class T>
Jet<T> standardised(const Jet<T>& logPrecision) {
    return (1.0 / 3) * logPrecision + -1.0;
}

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

template <class T, class Put>
void Features::evaluatePoint(const T* eta, Put put) const {
    using J = Jet<T>;
    J precision = J::constant(1), inverse = precision;
    if (vars.hasQuadratic()) {
        precision = -2.0 * J::first(eta[0]) + 1 / variance;
        inverse = power(precision, -1);
        put(standardised(logarithm(variance * precision)));
    }
    for (int i = 0, u = 0; i < vars.size(); i++) {
        const int o = vars.offset(i);
        if (vars[i].lifted()) {
            const J a = J::first(eta[o]), b = J::second(eta[o + 1]);
            const J norm2 = a * a + b * b + 1.0, root = power(norm2, -0.5);
            put(standardised(0.5 * logarithm(norm2)));
            const J re = a * root, im = b * root;
            J x = re, y = im;
            for (int k = 1; k <= harmonics; k++) {
                put(x);
                put(y);
                const J next = x * re - y * im;
                y = x * im + y * re;
                x = next;
            }
        }
        else {
            const J m = (J::second(eta[o]) + mean[u] / variance) * inverse;
            const J t = (2 / (high[u] - low[u])) * (m + -0.5 * (low[u] + high[u]));
            put(t);
            for (int k = 1; k <= harmonics; k++) {
                J sine, cosine;
                sineAndCosine((2 * M_PI * k / PeriodInHalfRanges) * t, sine, cosine);
                put(cosine);
                put(sine);
            }
            u++;
        }
    }
}

Features::Values Features::evaluate(const Eigen::Ref<const Eigen::MatrixXd>& eta, const Eigen::MatrixXd* direction) const {
    const Eigen::Index n = eta.cols();
    Values out;
    for (Eigen::MatrixXd* a : {&out.f, &out.d1, &out.d2, &out.d11, &out.d12, &out.d22})
        a->resize(size(), n);
    if (direction == nullptr) {
        for (Eigen::Index c = 0; c < n; c++)
            evaluatePoint(eta.col(c).data(), [&, row = 0](const Jet<double>& j) mutable {
                out.f(row, c) = j.v;
                out.d1(row, c) = j.d1;
                out.d2(row, c) = j.d2;
                out.d11(row, c) = j.d11;
                out.d12(row, c) = j.d12;
                out.d22(row, c) = j.d22;
                row++;
            });
        return out;
    }
    for (Eigen::MatrixXd* a : {&out.d11Along, &out.d12Along, &out.d22Along})
        a->resize(size(), n);
    std::vector<Dual> point(eta.rows());
    for (Eigen::Index c = 0; c < n; c++) {
        for (Eigen::Index i = 0; i < eta.rows(); i++)
            point[i] = Dual(eta(i, c), (*direction)(i, c));
        evaluatePoint(point.data(), [&, row = 0](const Jet<Dual>& j) mutable {
            out.f(row, c) = j.v.v;
            out.d1(row, c) = j.d1.v;
            out.d2(row, c) = j.d2.v;
            out.d11(row, c) = j.d11.v;
            out.d12(row, c) = j.d12.v;
            out.d22(row, c) = j.d22.v;
            out.d11Along(row, c) = j.d11.along;
            out.d12Along(row, c) = j.d12.along;
            out.d22Along(row, c) = j.d22.along;
            row++;
        });
    }
    return out;
}

}  // namespace Spacetime
