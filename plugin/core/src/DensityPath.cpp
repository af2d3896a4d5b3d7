// SPDX-License-Identifier: MIT
#include "spacetime/DensityPath.h"
#include "DensityNodes.h"
#include "spacetime/Text.h"
#include <algorithm>
#include <cmath>
#include <stdexcept>

using Eigen::Index;
using Eigen::MatrixXd;
using Eigen::VectorXd;

namespace Spacetime {

namespace {

/// Bending by less than this share of the spacing, a turn of a millionth of a radian a node, counts as straight.
const double StraightBending = 1e-6;
const double SphereTolerance = 1e-6;
/// Times a segment is halved at most when the score is integrated along it.
const int MaxHalvings = 10;

/// A piece of the segment between two nodes: the integral of s·dx over it, and s·dx/du at its ends, u in [0, 1] along the segment.
struct Piece {
    Index segment;
    double from, to, integral, atFrom, atTo;
    bool operator<(const Piece& other) const { return segment != other.segment ? segment < other.segment : from < other.from; }
};

/// The integral of s·dx along the straight segments between the columns of x, by Simpson's rule on halves until two levels agree.
std::vector<Piece> lineIntegrals(const DensityField& field, const MatrixXd& x, const MatrixXd& scores, double tolerance) {
    const Index N = x.cols() - 1;
    std::vector<Piece> result;
    struct Interval {
        Index segment;
        double from, to, atFrom, atMiddle, atTo;  // s·dx/du at three points of the segment, u in [0, 1]
        double simpson() const { return (to - from) / 6 * (atFrom + 4 * atMiddle + atTo); }
    };
    const MatrixXd chords = x.rightCols(N) - x.leftCols(N);
    const VectorXd atStart = chords.cwiseProduct(scores.leftCols(N)).colwise().sum(), atEnd = chords.cwiseProduct(scores.rightCols(N)).colwise().sum();
    if (!std::isfinite(tolerance)) {
        for (Index i = 0; i < N; i++)
            result.push_back({i, 0, 1, 0.5 * (atStart[i] + atEnd[i]), atStart[i], atEnd[i]});
        return result;
    }
    auto evaluate = [&](const std::vector<std::pair<Index, double>>& at) {
        MatrixXd points(x.rows(), at.size());
        for (size_t k = 0; k < at.size(); k++)
            points.col(k) = x.col(at[k].first) + at[k].second * chords.col(at[k].first);
        const MatrixXd s = field.score(points);
        VectorXd values(at.size());
        for (size_t k = 0; k < at.size(); k++)
            values[k] = s.col(k).dot(chords.col(at[k].first));
        return values;
    };
    std::vector<std::pair<Index, double>> at;
    for (Index i = 0; i < N; i++)
        at.push_back({i, 0.5});
    VectorXd values = evaluate(at);
    std::vector<Interval> active;
    for (Index i = 0; i < N; i++)
        active.push_back({i, 0, 1, atStart[i], values[i], atEnd[i]});
    for (int halving = 0; !active.empty(); halving++) {
        at.clear();
        for (const Interval& v : active) {
            const double quarter = 0.25 * (v.to - v.from);
            at.push_back({v.segment, v.from + quarter});
            at.push_back({v.segment, v.to - quarter});
        }
        values = evaluate(at);
        std::vector<Interval> rest;
        for (size_t k = 0; k < active.size(); k++) {
            const Interval& v = active[k];
            const double middle = 0.5 * (v.from + v.to);
            const Interval left{v.segment, v.from, middle, v.atFrom, values[2 * k], v.atMiddle}, right{v.segment, middle, v.to, v.atMiddle, values[2 * k + 1], v.atTo};
            const double fine = left.simpson() + right.simpson(), error = (fine - v.simpson()) / 15;
            if (std::abs(error) <= tolerance / N * (v.to - v.from) || halving == MaxHalvings)
                for (const Interval& half : {left, right})
                    result.push_back({v.segment, half.from, half.to, half.simpson() + error / 2, half.atFrom, half.atTo});
            else {
                rest.push_back(left);
                rest.push_back(right);
            }
        }
        active.swap(rest);
    }
    std::sort(result.begin(), result.end());
    return result;
}

/// Integral over [0, 1] of exp(-tau l(u)) relative to exp(-tau l(0)), l the cubic through the values 0 and `change` with the given slopes: log of it.
double logIntegral(double change, double slope0, double slope1, double tau) {
    static const double nodes[] = {0.019855071751231884, 0.10166676129318664, 0.2372337950418355, 0.4082826787521751,
                                   0.5917173212478249,   0.7627662049581645,  0.8983332387068134, 0.9801449282487681};
    static const double weights[] = {0.05061426814518813, 0.11119051722668724, 0.15685332293894363, 0.18134189168918099,
                                     0.18134189168918099, 0.15685332293894363, 0.11119051722668724, 0.05061426814518813};
    double exponents[8], top = -std::numeric_limits<double>::infinity(), sum = 0;
    for (int k = 0; k < 8; k++) {
        const double u = nodes[k], v = 1 - u;
        exponents[k] = -tau * (change * u * u * (3 - 2 * u) + slope0 * u * v * v - slope1 * u * u * v);
        top = std::max(top, exponents[k]);
    }
    for (int k = 0; k < 8; k++)
        sum += weights[k] * std::exp(exponents[k] - top);
    return top + std::log(sum);
}

void checkEnds(const VectorXd& a, const VectorXd& b, int numPoints, const std::string& where) {
    if (a.size() != b.size() || a.size() == 0 || numPoints < 2)
        throw std::invalid_argument(where + ": expected two points of the same number of coordinates and at least 2 nodes, got " + std::to_string(a.size()) + " and " +
                                    std::to_string(b.size()) + " coordinates, " + std::to_string(numPoints) + " nodes");
}

double logAdd(double a, double b) { return std::max(a, b) + std::log1p(std::exp(-std::abs(a - b))); }

}  // namespace

void checkNodes(const DensityField& field, const MatrixXd& x, const std::string& where, const std::string& what) {
    if (x.rows() != field.dimension())
        throw std::invalid_argument(where + ": expected " + what + "s of " + std::to_string(field.dimension()) + " coordinates, got " + std::to_string(x.rows()));
    for (Index i = 0; i < x.cols(); i++)
        if (!x.col(i).allFinite())
            throw std::invalid_argument(where + ": " + what + " " + std::to_string(i) + " has a coordinate that is not finite");
}

void ontoSphere(MatrixXd& x, double radius) { x = x * (radius * x.colwise().norm().cwiseInverse()).asDiagonal(); }

void checkOnSphere(const MatrixXd& x, const std::string& where) {
    const VectorXd norms = x.colwise().norm();
    const double radius = norms.mean();
    if (!(radius > 0) || !((norms.array() - radius).abs().maxCoeff() <= SphereTolerance * radius))
        throw std::invalid_argument(where + ": the sphere constraint needs points of one norm, got " + text(norms.minCoeff()) + " to " + text(norms.maxCoeff()) +
                                    ": scale them to a common norm first");
}

MatrixXd unwrapped(const DensityField& field, const MatrixXd& x) {
    const VectorXd periods = field.periods();
    MatrixXd result = x;
    for (Index d = 0; d < x.rows(); d++)
        for (Index i = 1; i < x.cols() && periods[d] > 0; i++)
            result(d, i) = result(d, i - 1) + std::remainder(x(d, i) - x(d, i - 1), periods[d]);
    return result;
}

NodeForces nodeForces(const MatrixXd& x, const MatrixXd& scores, double tau, bool sphere) {
    const Index n = x.cols() - 2;
    NodeForces out{MatrixXd(x.rows(), n), MatrixXd(x.rows(), n), MatrixXd(x.rows(), n)};
    double worst = 0;
    VectorXd tangent, radial;
    for (Index i = 0; i < n; i++) {
        tangent = x.col(i + 2) - x.col(i);
        auto second = out.bending.col(i);
        auto pull = out.pull.col(i);
        second = x.col(i + 2) - 2 * x.col(i + 1) + x.col(i);
        pull = scores.col(i);
        if (sphere) {
            radial = x.col(i + 1).normalized();
            for (auto* v : {&second, &pull})
                *v -= radial.dot(*v) * radial;
            tangent -= radial.dot(tangent) * radial;
        }
        const double h = 0.5 * tangent.norm();
        if (h > 0)
            tangent /= 2 * h;
        out.slide.col(i) = tangent.dot(second) * tangent;
        second -= out.slide.col(i);
        pull = tau * h * h * (pull - tangent.dot(pull) * tangent).eval();
        out.meanSegment += h / n;
        worst = std::max(worst, (second + pull).norm());
        out.largest = std::max(out.largest, second.norm() + pull.norm());
    }
    out.largest = std::max(out.largest, StraightBending * out.meanSegment);
    out.residual = worst / out.largest;
    return out;
}

MatrixXd equallySpaced(const MatrixXd& given, int numPoints, bool sphere) {
    // Nodes that coincide with their neighbour say nothing.
    std::vector<Index> kept = {0};
    VectorXd at(given.cols());
    at[0] = 0;
    const double all = (given.rightCols(given.cols() - 1) - given.leftCols(given.cols() - 1)).colwise().norm().sum();
    for (Index i = 1; i < given.cols(); i++) {
        const double step = (given.col(i) - given.col(kept.back())).norm();
        if (!(step > 1e-12 * all))
            continue;
        at[kept.size()] = at[kept.size() - 1] + step;
        kept.push_back(i);
    }
    const Index n = kept.size();
    MatrixXd x = given(Eigen::all, kept), result(x.rows(), numPoints);
    result.col(0) = given.col(0);
    result.col(numPoints - 1) = given.col(given.cols() - 1);
    for (Index k = 1, piece = 0; k + 1 < numPoints; k++) {
        const double t = at[n - 1] * k / (numPoints - 1);
        while (piece + 2 < n && at[piece + 1] < t)
            piece++;
        // Lagrange's cubic through four neighbours.
        const Index first = std::clamp<Index>(piece - 1, 0, std::max<Index>(0, n - 4)), last = std::min(first + 3, n - 1);
        result.col(k).setZero();
        for (Index i = first; i <= last; i++) {
            double weight = 1;
            for (Index j = first; j <= last; j++)
                if (j != i)
                    weight *= (t - at[j]) / (at[i] - at[j]);
            result.col(k) += weight * x.col(i);
        }
    }
    if (sphere) {
        const double radius = given.col(0).norm();
        for (Index k = 1; k + 1 < numPoints; k++)
            result.col(k) *= radius / result.col(k).norm();
    }
    return result;
}

std::string outsideOf(const DensityField& field, const MatrixXd& x) {
    int count = 0;
    std::string first;
    for (Index i = 0; i < x.cols(); i++) {
        const std::string problem = field.rangeProblem(x.col(i));
        if (problem.empty())
            continue;
        if (count++ == 0)
            first = "node " + std::to_string(i) + " of " + std::to_string(x.cols() - 1) + ", " + field.describe(x.col(i)) + ", " + problem;
    }
    return count <= 1 ? first : first + " (and " + std::to_string(count - 1) + " other nodes)";
}

void measureAlong(const DensityField& field, DensityPath& path, const MatrixXd& scores, double tolerance) {
    const MatrixXd& x = path.x;
    const Index N = x.cols() - 1;
    const VectorXd h = (x.rightCols(N) - x.leftCols(N)).colwise().norm();
    path.length = h.sum();
    path.spacing = h.maxCoeff() / h.mean() - 1;
    path.logDensity.resize(N + 1);
    path.logDensity[0] = 0;
    path.logDistance = -std::numeric_limits<double>::infinity();
    double here = 0;
    for (const Piece& piece : lineIntegrals(field, x, scores, tolerance)) {
        const double width = piece.to - piece.from;
        const double part = std::log(width * h[piece.segment]) - path.tau * here + logIntegral(piece.integral, width * piece.atFrom, width * piece.atTo, path.tau);
        path.logDistance = std::isfinite(path.logDistance) ? logAdd(path.logDistance, part) : part;
        here += piece.integral;
        path.logDensity[piece.segment + 1] = here;
    }
}

DensityPath measureDensityPath(const DensityField& field, const MatrixXd& given, double tau, double tolerance, bool sphere) {
    MatrixXd scores;
    return measureWithScores(field, given, tau, tolerance, sphere, scores);
}

DensityPath measureWithScores(const DensityField& field, const MatrixXd& given, double tau, double tolerance, bool sphere, MatrixXd& scores) {
    const std::string where = "measureDensityPath";
    if (!(tau > 0) || !std::isfinite(tau))
        throw std::invalid_argument(where + ": expected a positive tau, got " + text(tau));
    if (!(tolerance > 0))
        throw std::invalid_argument(where + ": expected a positive tolerance, got " + text(tolerance));
    if (given.cols() < 3)
        throw std::invalid_argument(where + ": expected at least 3 nodes, got " + std::to_string(given.cols()));
    checkNodes(field, given, where, "node");
    DensityPath path;
    path.x = unwrapped(field, given);
    path.tau = tau;
    path.sphere = sphere;
    const Index N = path.x.cols() - 1;
    const VectorXd h = (path.x.rightCols(N) - path.x.leftCols(N)).colwise().norm();
    Index shortest;
    if (!(h.minCoeff(&shortest) > 0))
        throw std::invalid_argument(where + ": nodes " + std::to_string(shortest) + " and " + std::to_string(shortest + 1) + " coincide");
    if (sphere)
        checkOnSphere(path.x, where);
    const long before = field.evaluations();
    path.outside = outsideOf(field, path.x);
    scores = field.score(path.x);
    measureAlong(field, path, scores, field.isStochastic() ? std::numeric_limits<double>::infinity() : tolerance);
    path.residual = nodeForces(path.x, scores.middleCols(1, N - 1), tau, sphere).residual;
    path.windings.assign(path.x.rows(), 0);
    const VectorXd periods = field.periods();
    for (Index d = 0; d < path.x.rows(); d++)
        if (periods[d] > 0) {
            const double change = path.x(d, N) - path.x(d, 0);
            path.windings[d] = static_cast<int>(std::lround((change - std::remainder(change, periods[d])) / periods[d]));
        }
    path.evaluations = field.evaluations() - before;
    return path;
}

MatrixXd lerp(const VectorXd& a, const VectorXd& b, int numPoints) {
    checkEnds(a, b, numPoints, "lerp");
    const VectorXd u = VectorXd::LinSpaced(numPoints, 0, 1);
    MatrixXd x = a * (1 - u.array()).matrix().transpose() + b * u.transpose();
    x.col(0) = a;
    x.col(numPoints - 1) = b;
    return x;
}

MatrixXd slerp(const VectorXd& a, const VectorXd& b, int numPoints) {
    checkEnds(a, b, numPoints, "slerp");
    const double ra = a.norm(), rb = b.norm();
    if (!(ra > 0) || !(rb > 0))
        throw std::invalid_argument("slerp: expected two points other than the origin");
    const VectorXd from = a / ra, across = b / rb - from.dot(b / rb) * from;
    // Half the chord's sine keeps its digits at small angles, and at those near pi.
    const double angle = 2 * std::atan2((from - b / rb).norm(), (from + b / rb).norm());
    if (!(across.norm() > 1e-12))
        return angle < 1 ? lerp(a, b, numPoints) : throw std::invalid_argument("slerp: the points lie opposite each other, no great circle is the shortest");
    const VectorXd side = across.normalized();
    MatrixXd x(a.size(), numPoints);
    for (int i = 0; i < numPoints; i++) {
        const double u = static_cast<double>(i) / (numPoints - 1);
        x.col(i) = ((1 - u) * ra + u * rb) * (std::cos(u * angle) * from + std::sin(u * angle) * side);
    }
    x.col(0) = a;
    x.col(numPoints - 1) = b;
    return x;
}

MatrixXd unitTangents(const MatrixXd& x) {
    const Index n = x.cols();
    if (n < 2)
        throw std::invalid_argument("unitTangents: expected at least 2 nodes, got " + std::to_string(n));
    MatrixXd v(x.rows(), n);
    if (n < 5) {
        for (Index i = 0; i < n; i++)
            v.col(i) = x.col(std::min(i + 1, n - 1)) - x.col(std::max<Index>(i - 1, 0));
        if (n > 2) {
            v.col(0) = -3 * x.col(0) + 4 * x.col(1) - x.col(2);
            v.col(n - 1) = 3 * x.col(n - 1) - 4 * x.col(n - 2) + x.col(n - 3);
        }
    }
    else {
        for (Index i = 2; i + 2 < n; i++)
            v.col(i) = x.col(i - 2) - 8 * x.col(i - 1) + 8 * x.col(i + 1) - x.col(i + 2);
        v.col(0) = -25 * x.col(0) + 48 * x.col(1) - 36 * x.col(2) + 16 * x.col(3) - 3 * x.col(4);
        v.col(1) = -3 * x.col(0) - 10 * x.col(1) + 18 * x.col(2) - 6 * x.col(3) + x.col(4);
        v.col(n - 1) = 25 * x.col(n - 1) - 48 * x.col(n - 2) + 36 * x.col(n - 3) - 16 * x.col(n - 4) + 3 * x.col(n - 5);
        v.col(n - 2) = 3 * x.col(n - 1) + 10 * x.col(n - 2) - 18 * x.col(n - 3) + 6 * x.col(n - 4) - x.col(n - 5);
    }
    for (Index i = 0; i < n; i++) {
        if (!(v.col(i).norm() > 0))
            throw std::invalid_argument("unitTangents: nodes around " + std::to_string(i) + " coincide");
        v.col(i).normalize();
    }
    return v;
}

}  // namespace Spacetime
