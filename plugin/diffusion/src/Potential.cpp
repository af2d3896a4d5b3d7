// SPDX-License-Identifier: MIT
#include "Potential.h"
#include <algorithm>

using Eigen::MatrixXd;
using Eigen::VectorXd;

namespace Spacetime {

namespace {

/// Columns of numbers that keep their memory from block to block.
class Columns {
public:
    void shape(long rows, long count) {
        strips = (rows + StripSize - 1) / StripSize;
        if (data.size() < static_cast<size_t>(strips * count))
            data.resize(strips * count);
    }
    long stride() const { return strips * StripSize; }
    double* operator[](long c) { return data[c * strips].w; }

private:
    long strips = 0;
    std::vector<WeightStrip> data;
};

struct Scratch {
    Columns h, slope, back, delta, gradient, da, tangent, bent;
    Columns hAlong, slopeAlong, backAlong, deltaAlong, gradientAlong, daAlong, tangentAlong, bentAlong;
};

VectorXd padded(const VectorXd& v, long size) {
    VectorXd result = VectorXd::Zero(size);
    result.head(v.size()) = v;
    return result;
}

/// result += -2 X^T Y, known to be symmetric; columns of X and Y lie `stride` apart.
void addSymmetricProduct(MatrixXd& result, const double* X, long strideX, const double* Y, long strideY, long length) {
    const long m = result.rows();
    double R[4][2];
    for (long i = 0; i < m; i += 4) {
        // Vectors beyond the last repeat it.
        const double* const x[4] = {X + i * strideX, X + std::min(i + 1, m - 1) * strideX, X + std::min(i + 2, m - 1) * strideX, X + std::min(i + 3, m - 1) * strideX};
        for (long j = 0; j < std::min(i + 4, m); j += 2) {
            const double* const y[2] = {Y + j * strideY, Y + std::min(j + 1, m - 1) * strideY};
            dotProducts(R, x, y, length);
            for (long a = i; a < std::min(i + 4, m); a++)
                for (long b = j; b <= std::min(j + 1, a); b++) {
                    result(a, b) -= 2 * R[a - i][b - j];
                    if (a != b)
                        result(b, a) -= 2 * R[a - i][b - j];
                }
        }
    }
}

}  // namespace

Potential::Packed::Packed(const MatrixXd& weight) : columns(weight.cols()), strips((weight.rows() + StripSize - 1) / StripSize) {
    W.resize(strips * columns, WeightStrip{});
    for (long i = 0; i < weight.rows(); i++)
        for (long j = 0; j < columns; j++)
            W[i / StripSize * columns + j].w[i % StripSize] = weight(i, j);
}

void Potential::Packed::times(const double* B, long strideB, double* R, long strideR, long count, long begin, long end) const {
    // One strip at a time, so that its weights stay in the nearest cache while all columns pass.
    for (long i = 0; i < strips; i++)
        for (long c = 0, step; c < count; c += step) {
            step = count - c >= 4 ? 4 : count - c >= 2 ? 2 : 1;
            multiplyStrips(R + c * strideR + i * StripSize, strideR, &W[i * columns + begin], columns, StripSize, B + c * strideB + begin, strideB, end - begin,
                           static_cast<int>(step), false);
        }
}

Potential::Potential(const std::vector<NetworkParameters::Layer>& layers, const Features& f, int numStatistics)
    : features(f), m(numStatistics), outBias(layers.back().bias[0]) {
    for (size_t l = 0; l + 1 < layers.size(); l++) {
        forward.emplace_back(layers[l].weight);
        reverse.emplace_back(layers[l].weight.transpose());
        bias.push_back(padded(layers[l].bias, forward[l].paddedRows()));
        offset.push_back(units);
        units += forward[l].paddedRows();
    }
    outWeight = padded(layers.back().weight.transpose(), forward.back().paddedRows());
    dependent.assign(m, {features.size(), 0});
    for (int k = 0; k < features.size(); k++)
        for (int i : {features.first[k], features.second[k]}) {
            dependent[i].begin = std::min<long>(dependent[i].begin, k);
            dependent[i].end = std::max<long>(dependent[i].end, k + 1);
        }
}

Potential::Values Potential::evaluate(const Features::Values& x, MatrixXd* J, const MatrixXd* direction, MatrixXd* third) const {
    static thread_local Scratch s;
    const long n = x.f.cols(), numFeatures = features.size();
    const int hidden = static_cast<int>(forward.size());
    Values out;

    // Forward: activations h and their slopes 1 - h^2.
    for (Columns* a : {&s.h, &s.slope, &s.back, &s.delta})
        a->shape(units, n);
    for (int l = 0; l < hidden; l++) {
        if (l == 0)
            forward[l].times(x.f.data(), numFeatures, s.h[0], units, n);
        else
            forward[l].times(s.h[0] + offset[l - 1], units, s.h[0] + offset[l], units, n);
        for (long c = 0; c < n; c++)
            activate(s.h[c] + offset[l], s.slope[c] + offset[l], bias[l].data(), bias[l].size());
    }
    out.N.resize(n);
    for (long c = 0; c < n; c++)
        out.N[c] = outBias + dotProduct(s.h[c] + offset.back(), outWeight.data(), outWeight.size());

    // Tangents of all points and directions go through each layer as one product; column i n + c is direction i. Along the direction
    // every number has a derivative, which goes through the same steps.
    if (J != nullptr) {
        s.da.shape(units, n * m);
        s.tangent.shape(std::max(units, numFeatures), n * m);
        if (third != nullptr) {
            s.daAlong.shape(units, n * m);
            s.tangentAlong.shape(std::max(units, numFeatures), n * m);
            s.hAlong.shape(units, n);
            s.slopeAlong.shape(units, n);
        }
        const long stride = s.tangent.stride();
        for (int i = 0; i < m; i++) {
            const Range r = dependent[i];
            for (long c = 0; c < n; c++) {
                double* t = s.tangent[i * n + c];
                for (long k = r.begin; k < r.end; k++)
                    t[k] = (features.first[k] == i ? x.d1(k, c) : 0) + (features.second[k] == i ? x.d2(k, c) : 0);
                if (third != nullptr) {
                    t = s.tangentAlong[i * n + c];
                    for (long k = r.begin; k < r.end; k++) {
                        const double v1 = (*direction)(features.first[k], c), v2 = (*direction)(features.second[k], c);
                        t[k] = (features.first[k] == i ? x.d11(k, c) * v1 + x.d12(k, c) * v2 : 0) +
                               (features.second[k] == i ? x.d12(k, c) * v1 + x.d22(k, c) * v2 : 0);
                    }
                }
            }
            forward[0].times(s.tangent[i * n], stride, s.da[i * n], units, n, r.begin, r.end);
            if (third != nullptr)
                forward[0].times(s.tangentAlong[i * n], stride, s.daAlong[i * n], units, n, r.begin, r.end);
        }
        for (int l = 0; l < hidden; l++) {
            const long at = offset[l], width = bias[l].size();
            for (long c = 0; third != nullptr && c < n; c++) {
                double *a = s.hAlong[c] + at, *b = s.slopeAlong[c] + at;
                std::fill_n(a, width, 0.0);
                for (int i = 0; i < m; i++)
                    addScaled(a, (*direction)(i, c), s.da[i * n + c] + at, width);
                multiply(a, a, s.slope[c] + at, width);
                multiply(b, a, s.h[c] + at, width);
                for (long k = 0; k < width; k++)
                    b[k] *= -2;
            }
            if (l + 1 == hidden)
                break;
            for (int i = 0; i < m; i++)
                for (long c = 0; c < n; c++) {
                    const long col = i * n + c;
                    multiply(s.tangent[col], s.da[col] + at, s.slope[c] + at, width);
                    if (third != nullptr)
                        multiplyAndAdd(s.tangentAlong[col], s.daAlong[col] + at, s.slope[c] + at, s.da[col] + at, s.slopeAlong[c] + at, width);
                }
            forward[l + 1].times(s.tangent[0], stride, s.da[0] + offset[l + 1], units, n * m);
            if (third != nullptr)
                forward[l + 1].times(s.tangentAlong[0], stride, s.daAlong[0] + offset[l + 1], units, n * m);
        }
    }

    // Reverse: back = dN/dh, delta = dN/da, then the gradient by the features.
    s.gradient.shape(numFeatures, n);
    if (third != nullptr) {
        s.backAlong.shape(units, n);
        s.deltaAlong.shape(units, n);
        s.gradientAlong.shape(numFeatures, n);
    }
    for (int l = hidden - 1; l >= 0; l--) {
        const long at = offset[l], width = bias[l].size();
        for (long c = 0; c < n; c++) {
            if (l + 1 == hidden) {
                std::copy_n(outWeight.data(), width, s.back[c] + at);
                if (third != nullptr)
                    std::fill_n(s.backAlong[c] + at, width, 0.0);
            }
            multiply(s.delta[c] + at, s.back[c] + at, s.slope[c] + at, width);
            if (third != nullptr)
                multiplyAndAdd(s.deltaAlong[c] + at, s.backAlong[c] + at, s.slope[c] + at, s.back[c] + at, s.slopeAlong[c] + at, width);
        }
        const bool last = l == 0;
        reverse[l].times(s.delta[0] + at, units, last ? s.gradient[0] : s.back[0] + offset[l - 1], last ? s.gradient.stride() : units, n);
        if (third != nullptr)
            reverse[l].times(s.deltaAlong[0] + at, units, last ? s.gradientAlong[0] : s.backAlong[0] + offset[l - 1],
                             last ? s.gradientAlong.stride() : units, n);
    }
    auto copied = [&](Columns& g) { return MatrixXd(Eigen::Map<const MatrixXd, 0, Eigen::OuterStride<>>(g[0], numFeatures, n, Eigen::OuterStride<>(g.stride()))); };
    out.gradient = copied(s.gradient);
    if (third != nullptr)
        out.gradientAlong = copied(s.gradientAlong);
    if (J == nullptr)
        return out;

    // Only tanh bends: Hess N = sum over units of dN/dh tanh''(a) (da/deta)(da/deta)^T, with tanh'' = -2 h slope.
    s.bent.shape(units, m + 1);
    if (third != nullptr)
        s.bentAlong.shape(units, m + 1);
    for (long c = 0; c < n; c++) {
        double *bend = s.bent[m], *bendAlong = nullptr;
        multiply(bend, s.h[c], s.delta[c], units);
        for (int i = 0; i < m; i++)
            multiply(s.bent[i], s.da[i * n + c], bend, units);
        addSymmetricProduct(J[c], s.da[c], n * units, s.bent[0], units, units);
        if (third != nullptr) {
            bendAlong = s.bentAlong[m];
            multiplyAndAdd(bendAlong, s.hAlong[c], s.delta[c], s.h[c], s.deltaAlong[c], units);
            for (int i = 0; i < m; i++)
                multiplyAndAdd(s.bentAlong[i], s.da[i * n + c], bendAlong, s.daAlong[i * n + c], bend, units);
            addSymmetricProduct(third[c], s.da[c], n * units, s.bentAlong[0], units, units);
            addSymmetricProduct(third[c], s.daAlong[c], n * units, s.bent[0], units, units);
        }
    }
    return out;
}

}  // namespace Spacetime
