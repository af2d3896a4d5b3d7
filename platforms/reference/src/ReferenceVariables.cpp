// SPDX-License-Identifier: MIT
#include "ReferenceVariables.h"
#include <Eigen/Dense>
#include <cmath>

using OpenMM::Vec3;
using std::vector;

namespace SpacetimePlugin {

namespace {

const double TWO_PI = 2 * M_PI;
// Sines of bond angles below the root of this make cross products rounding error.
const double COLLINEAR = 1e-20;

// The vector, or its nearest image.
inline Vec3 nearest(Vec3 d, const Vec3* box) {
    if (box != nullptr)
        for (int k = 2; k >= 0; k--)
            d -= box[k] * std::floor(d[k] / box[k][k] + 0.5);
    return d;
}

struct TorsionGeometry {
    TorsionGeometry(const Vec3& p1, const Vec3& p2, const Vec3& p3, const Vec3& p4, const Vec3* box)
        : b1(nearest(p2 - p1, box)), b2(nearest(p3 - p2, box)), b3(nearest(p4 - p3, box)), n1(b1.cross(b2)), n2(b2.cross(b3)), length(std::sqrt(b2.dot(b2))), x(n1.dot(n2)),
          y(b1.dot(n2) * length) {}
    Vec3 b1, b2, b3, n1, n2;
    double length, x, y;
};

struct AngleGeometry {
    AngleGeometry(const Vec3& p1, const Vec3& p2, const Vec3& p3, const Vec3* box)
        : a(nearest(p1 - p2, box)), b(nearest(p3 - p2, box)), n(a.cross(b)), sine(std::sqrt(n.dot(n))), value(std::atan2(sine, a.dot(b))) {}
    Vec3 a, b, n;
    double sine, value;
};

// Value of a periodic coordinate in (-period/2, period/2].
double wrapped(double value, double period) {
    value -= period * std::floor(value / period + 0.5);
    return value == -0.5 * period ? 0.5 * period : value;
}

}  // namespace

ReferenceVariables::ReferenceVariables(const VariableSet& variables)
    : variables(variables), centroids(variables.getCentroids().size()), centroidForces(centroids.size()), frames(variables.getFrames().size()) {
    for (const VariableSet::Entry& entry : variables.getEntries())
        particles.push_back(entry.particle);
}

inline const Vec3& ReferenceVariables::site(int index, const Vec3* positions) const {
    int numSingle = variables.getNumSingleSites();
    return index < numSingle ? positions[particles[index]] : centroids[index - numSingle];
}

inline void ReferenceVariables::addForce(int site, const Vec3& force, Vec3* forces) {
    int numSingle = variables.getNumSingleSites();
    if (site < numSingle)
        forces[particles[site]] += force;
    else
        centroidForces[site - numSingle] += force;
}

void ReferenceVariables::place(const Vec3* positions) {
    for (size_t i = 0; i < centroids.size(); i++) {
        const VariableSet::Centroid& c = variables.getCentroids()[i];
        centroids[i] = Vec3();
        for (size_t k = 0; k < c.weights.size(); k++)
            centroids[i] += positions[particles[c.first + k]] * c.weights[k];
        centroidForces[i] = Vec3();
    }
    for (size_t i = 0; i < frames.size(); i++)
        superpose(variables.getFrames()[i], positions, frames[i]);
}

void ReferenceVariables::superpose(const VariableSet::Frame& frame, const Vec3* positions, FrameState& state) const {
    state.center = state.force = state.torque = Vec3();
    int numSites = static_cast<int>(frame.sites.size());
    for (int i = 0; i < numSites; i++)
        state.center += site(frame.sites[i], positions) * frame.weights[i];
    // The rotation that maps positions x on the reference y is the leading eigenvector of a 4x4 matrix of S = sum w x y^T, as a quaternion
    // (Horn, J. Opt. Soc. Am. A 4, 629 (1987)).
    Eigen::Matrix3d S = Eigen::Matrix3d::Zero();
    for (int i = 0; i < numSites; i++) {
        Vec3 x = (site(frame.sites[i], positions) - state.center) * frame.weights[i];
        for (int a = 0; a < 3; a++)
            for (int b = 0; b < 3; b++)
                S(a, b) += x[a] * frame.reference[i][b];
    }
    Eigen::Matrix4d N;
    N(0, 0) = S.trace();
    for (int a = 0; a < 3; a++) {
        int b = (a + 1) % 3, c = (a + 2) % 3;
        N(0, a + 1) = N(a + 1, 0) = S(b, c) - S(c, b);
        N(a + 1, a + 1) = 2 * S(a, a) - S.trace();
        N(a + 1, b + 1) = N(b + 1, a + 1) = S(a, b) + S(b, a);
    }
    const Eigen::Vector4d q = Eigen::SelfAdjointEigenSolver<Eigen::Matrix4d>(N).eigenvectors().col(3);
    const Eigen::Matrix3d R = Eigen::Quaterniond(q[0], q[1], q[2], q[3]).toRotationMatrix();
    const Eigen::Matrix3d RS = R * S, A = RS.trace() * Eigen::Matrix3d::Identity() - 0.5 * (RS + RS.transpose());
    // Where two rotations superpose equally well A is singular and the torque has no answer: the frame then moves without turning.
    Eigen::Matrix3d inverse = Eigen::Matrix3d::Zero();
    if (!(std::abs(A.determinant()) <= 1e-14 * std::pow(A.norm(), 3)))
        inverse = A.inverse();
    for (int a = 0; a < 3; a++) {
        state.rotation[a] = Vec3(R(a, 0), R(a, 1), R(a, 2));
        state.inverse[a] = Vec3(inverse(a, 0), inverse(a, 1), inverse(a, 2));
    }
}

Vec3 ReferenceVariables::relativeToFrame(const VariableSet::Variable& v, const Vec3* positions, const Vec3* box) const {
    return frames[v.frame].rotate(nearest(site(v.sites[0], positions) - frames[v.frame].center, v.isInFrame ? nullptr : box));
}

void ReferenceVariables::measure(const vector<Vec3>& positions, const Vec3* box, vector<double>& values) {
    values.clear();
    values.reserve(variables.getWalkers().size() * variables.size());
    for (const VariableSet::Walker& walker : variables.getWalkers()) {
        const Vec3* p = positions.data() + walker.offset;
        place(p);
        auto at = [&](const VariableSet::Variable& v, int k) -> const Vec3& { return site(v.sites[k], p); };
        for (int i = 0; i < variables.size(); i++) {
            const VariableSet::Variable& v = variables[i];
            switch (v.type) {
            case SpacetimeForce::Torsion: {
                TorsionGeometry g(at(v, 0), at(v, 1), at(v, 2), at(v, 3), box);
                // Adding zero turns -0 into +0: atan2(-0, -1) would be -pi, which lies outside (-pi, pi].
                values.push_back(std::atan2(g.y + 0.0, g.x));
                break;
            }
            case SpacetimeForce::Angle: values.push_back(AngleGeometry(at(v, 0), at(v, 1), at(v, 2), box).value); break;
            case SpacetimeForce::Distance: {
                Vec3 d = nearest(at(v, 1) - at(v, 0), box);
                values.push_back(std::sqrt(d.dot(d)));
                break;
            }
            case SpacetimeForce::Position: values.push_back(relativeToFrame(v, p, box)[v.axis] + variables.getFrames()[v.frame].center[v.axis]); break;
            case SpacetimeForce::Coordinate: values.push_back(v.isLifted() ? wrapped(at(v, 0)[v.axis], v.period) : at(v, 0)[v.axis]); break;
            }
        }
    }
}

ReferenceVariables::Products ReferenceVariables::evaluate(int walker, const vector<Vec3>& positions, const Vec3* box, const double* eta, const double* etaDerivative, double kT,
                                                          vector<Vec3>* allForces) {
    int particleOffset = variables.getWalkers()[walker].offset;
    const Vec3* p = positions.data() + particleOffset;
    Vec3* forces = (allForces == nullptr ? nullptr : allForces->data() + particleOffset);
    place(p);
    Products result = {0, 0};
    // Adds a variable that enters as a number, and returns the force along it, -dU/draw.
    auto addNumber = [&](const VariableSet::Variable& v, double raw) {
        double d = (raw - v.shift) / v.scale;
        result.energy += (eta[0] * d + eta[v.offset]) * d;
        result.derivative += (etaDerivative[0] * d + etaDerivative[v.offset]) * d;
        return kT * (2 * eta[0] * d + eta[v.offset]) / v.scale;
    };
    // The same for one that enters as cosine and sine of an angle; returns the force along the angle.
    auto addLifted = [&](const VariableSet::Variable& v, double cosine, double sine) {
        result.energy += eta[v.offset] * cosine + eta[v.offset + 1] * sine;
        result.derivative += etaDerivative[v.offset] * cosine + etaDerivative[v.offset + 1] * sine;
        return kT * (eta[v.offset + 1] * cosine - eta[v.offset] * sine);
    };
    auto at = [&](const VariableSet::Variable& v, int k) -> const Vec3& { return site(v.sites[k], p); };
    for (int i = 0; i < variables.size(); i++) {
        const VariableSet::Variable& v = variables[i];
        switch (v.type) {
        case SpacetimeForce::Torsion: {
            TorsionGeometry g(at(v, 0), at(v, 1), at(v, 2), at(v, 3), box);
            double n11 = g.n1.dot(g.n1), n22 = g.n2.dot(g.n2), b22 = g.length * g.length, product = std::sqrt(g.x * g.x + g.y * g.y);
            // Written so that NaN passes on.
            bool isUndefined = (n11 <= COLLINEAR * b22 * g.b1.dot(g.b1) || n22 <= COLLINEAR * b22 * g.b3.dot(g.b3));
            double force = (product == 0 ? addLifted(v, 1, 0) : addLifted(v, g.x / product, g.y / product));
            if (forces == nullptr || isUndefined)
                break;
            Vec3 f1 = g.n1 * (-force * g.length / n11), f4 = g.n2 * (force * g.length / n22);
            Vec3 s = f4 * (g.b3.dot(g.b2) / b22) - f1 * (g.b1.dot(g.b2) / b22);
            addForce(v.sites[0], f1, forces);
            addForce(v.sites[1], s - f1, forces);
            addForce(v.sites[2], -s - f4, forces);
            addForce(v.sites[3], f4, forces);
            break;
        }
        case SpacetimeForce::Angle: {
            AngleGeometry g(at(v, 0), at(v, 1), at(v, 2), box);
            double force = addNumber(v, g.value), a2 = g.a.dot(g.a), b2 = g.b.dot(g.b);
            if (forces == nullptr || g.sine * g.sine <= COLLINEAR * a2 * b2)
                break;
            Vec3 f1 = g.a.cross(g.n) * (force / (a2 * g.sine)), f3 = g.n.cross(g.b) * (force / (b2 * g.sine));
            addForce(v.sites[0], f1, forces);
            addForce(v.sites[1], -f1 - f3, forces);
            addForce(v.sites[2], f3, forces);
            break;
        }
        case SpacetimeForce::Distance: {
            Vec3 d = nearest(at(v, 1) - at(v, 0), box);
            double r = std::sqrt(d.dot(d)), force = addNumber(v, r);
            if (forces == nullptr || r == 0)
                break;
            Vec3 f = d * (force / r);
            addForce(v.sites[0], -f, forces);
            addForce(v.sites[1], f, forces);
            break;
        }
        case SpacetimeForce::Position: {
            FrameState& frame = frames[v.frame];
            Vec3 z = relativeToFrame(v, p, box), f;
            f[v.axis] = addNumber(v, z[v.axis] + variables.getFrames()[v.frame].center[v.axis]);
            if (forces == nullptr)
                break;
            addForce(v.sites[0], frame.rotateBack(f), forces);
            frame.force += f;
            frame.torque += z.cross(f);
            break;
        }
        case SpacetimeForce::Coordinate: {
            double raw = at(v, 0)[v.axis], factor = TWO_PI / v.period;
            Vec3 f;
            f[v.axis] = (v.isLifted() ? factor * addLifted(v, std::cos(raw * factor), std::sin(raw * factor)) : addNumber(v, raw));
            if (forces != nullptr)
                addForce(v.sites[0], f, forces);
            break;
        }
        }
    }
    if (forces == nullptr)
        return result;
    // A position moves with the frame's centre, and with the rotation omega = A^-1 sum w (R dx) × y that keeps the superposition optimal.
    for (size_t i = 0; i < frames.size(); i++) {
        const VariableSet::Frame& frame = variables.getFrames()[i];
        const FrameState& state = frames[i];
        Vec3 lambda(state.inverse[0].dot(state.torque), state.inverse[1].dot(state.torque), state.inverse[2].dot(state.torque));
        for (size_t k = 0; k < frame.sites.size(); k++)
            addForce(frame.sites[k], state.rotateBack(frame.reference[k].cross(lambda) - state.force) * frame.weights[k], forces);
    }
    for (size_t i = 0; i < centroids.size(); i++) {
        const VariableSet::Centroid& c = variables.getCentroids()[i];
        for (size_t k = 0; k < c.weights.size(); k++)
            forces[particles[c.first + k]] += centroidForces[i] * c.weights[k];
    }
    return result;
}

}  // namespace SpacetimePlugin
