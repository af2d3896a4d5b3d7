// SPDX-License-Identifier: MIT
#include "openmmspacetime/internal/VariableSet.h"
#include "openmmspacetime/SpacetimeForce.h"
#include <algorithm>
#include <cmath>

using OpenMM::Vec3;

namespace SpacetimePlugin {

namespace {

const double TWO_PI = 2*M_PI;

// Vector from a to b, or to the nearest image of b.
Vec3 displacement(const Vec3& a, const Vec3& b, const Vec3* box) {
    Vec3 d = b-a;
    if (box != nullptr)
        for (int k = 2; k >= 0; k--)
            d -= box[k]*std::floor(d[k]/box[k][k]+0.5);
    return d;
}

struct TorsionGeometry {
    TorsionGeometry(const int* p, const std::vector<Vec3>& positions, const Vec3* box)
            : b1(displacement(positions[p[0]], positions[p[1]], box)), b2(displacement(positions[p[1]], positions[p[2]], box)),
              b3(displacement(positions[p[2]], positions[p[3]], box)), n1(b1.cross(b2)), n2(b2.cross(b3)) {
    }
    Vec3 b1, b2, b3, n1, n2;
};

}  // namespace

VariableSet::VariableSet(const SpacetimeForce& force) {
    for (int i = 0; i < force.getNumVariables(); i++) {
        Variable v;
        v.name = force.getVariableName(i);
        v.isTorsion = (force.getVariableType(i) == SpacetimeForce::Torsion);
        if (v.isTorsion) {
            force.getTorsionParameters(i, v.particles[0], v.particles[1], v.particles[2], v.particles[3]);
            v.period = TWO_PI;
        }
        else
            force.getCoordinateParameters(i, v.particles[0], v.axis, v.period, v.shift, v.scale);
        if (!v.isLifted())
            quadratic = true;
        variables.push_back(v);
    }
    int offset = (quadratic ? 1 : 0);
    for (auto& v : variables) {
        v.offset = offset;
        offset += (v.isLifted() ? 2 : 1);
    }
    numStatistics = offset;
}

bool VariableSet::hasSameTopology(const VariableSet& other) const {
    if (size() != other.size())
        return false;
    for (int i = 0; i < size(); i++) {
        const Variable &a = variables[i], &b = other.variables[i];
        if (a.isTorsion != b.isTorsion || a.axis != b.axis || a.isLifted() != b.isLifted() || !std::equal(a.particles, a.particles+4, b.particles))
            return false;
    }
    return true;
}

double VariableSet::measure(int index, const std::vector<Vec3>& positions, const Vec3* box) const {
    const Variable& v = variables[index];
    if (v.isTorsion) {
        TorsionGeometry g(v.particles, positions, box);
        double y = g.b1.dot(g.n2)*std::sqrt(g.b2.dot(g.b2)), x = g.n1.dot(g.n2);
        // Adding zero turns -0 into +0: atan2(-0, -1) would be -pi, which lies outside (-pi, pi].
        return std::atan2(y+0.0, x);
    }
    double value = positions[v.particles[0]][v.axis];
    if (v.isLifted()) {
        value -= v.period*std::floor(value/v.period+0.5);
        if (value == -0.5*v.period)
            value = 0.5*v.period;
    }
    return value;
}

void VariableSet::measure(const std::vector<Vec3>& positions, const Vec3* box, std::vector<double>& values) const {
    values.resize(variables.size());
    for (int i = 0; i < size(); i++)
        values[i] = measure(i, positions, box);
}

void VariableSet::computeStatistic(const std::vector<double>& values, std::vector<double>& statistic) const {
    statistic.assign(numStatistics, 0.0);
    for (int i = 0; i < size(); i++) {
        const Variable& v = variables[i];
        if (v.isLifted()) {
            double theta = values[i]*(TWO_PI/v.period);
            statistic[v.offset] = std::cos(theta);
            statistic[v.offset+1] = std::sin(theta);
        }
        else {
            double d = (values[i]-v.shift)/v.scale;
            statistic[v.offset] = d;
            statistic[0] += d*d;
        }
    }
}

void VariableSet::addForces(const std::vector<Vec3>& positions, const Vec3* box, const std::vector<double>& values, const std::vector<double>& eta,
                            double kT, std::vector<Vec3>& forces) const {
    for (int i = 0; i < size(); i++) {
        const Variable& v = variables[i];
        if (!v.isLifted()) {
            double d = (values[i]-v.shift)/v.scale;
            forces[v.particles[0]][v.axis] += kT*(2*eta[0]*d+eta[v.offset])/v.scale;
            continue;
        }
        double factor = TWO_PI/v.period, theta = values[i]*factor;
        double force = kT*factor*(eta[v.offset+1]*std::cos(theta)-eta[v.offset]*std::sin(theta));
        if (!v.isTorsion) {
            forces[v.particles[0]][v.axis] += force;
            continue;
        }
        TorsionGeometry g(v.particles, positions, box);
        double b22 = g.b2.dot(g.b2), n11 = g.n1.dot(g.n1), n22 = g.n2.dot(g.n2);
        // Below this the sine of a bond angle is under 1e-10 and the cross product is rounding error. Written so that NaN passes on.
        if (n11 <= 1e-20*b22*g.b1.dot(g.b1) || n22 <= 1e-20*b22*g.b3.dot(g.b3))
            continue;
        double length = std::sqrt(b22);
        Vec3 f1 = g.n1*(-force*length/n11), f4 = g.n2*(force*length/n22);
        Vec3 s = f4*(g.b3.dot(g.b2)/b22)-f1*(g.b1.dot(g.b2)/b22);
        forces[v.particles[0]] += f1;
        forces[v.particles[1]] += s-f1;
        forces[v.particles[2]] -= s+f4;
        forces[v.particles[3]] += f4;
    }
}

double dot(const std::vector<double>& a, const std::vector<double>& b) {
    double sum = 0;
    for (size_t i = 0; i < a.size(); i++)
        sum += a[i]*b[i];
    return sum;
}

}  // namespace SpacetimePlugin
