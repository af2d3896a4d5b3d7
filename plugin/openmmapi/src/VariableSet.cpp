// SPDX-License-Identifier: MIT
#include "openmmspacetime/internal/VariableSet.h"
#include <algorithm>
#include <cmath>
#include <map>
#include <tuple>

using OpenMM::Vec3;
using std::vector;

namespace SpacetimePlugin {

namespace {

vector<double> normalized(const vector<double>& weights, size_t count) {
    vector<double> result = (weights.empty() ? vector<double>(count, 1.0) : weights);
    double sum = 0;
    for (double w : result)
        sum += w;
    for (double& w : result)
        w /= sum;
    return result;
}

}  // namespace

VariableSet::VariableSet(const SpacetimeForce& force) {
    // Sites in the order in which they are first used; centroids get negative numbers until the number of single sites is known. A particle of which both
    // the place and the place relative to others matter makes two sites.
    std::map<std::pair<int, bool>, int> numbers;
    vector<std::pair<int, bool>> usedCentroids;
    auto numberOf = [&](int handle, bool isAbsolute) {
        auto inserted = numbers.insert({{handle, isAbsolute}, 0});
        if (inserted.second) {
            if (handle >= 0) {
                inserted.first->second = static_cast<int>(entries.size());
                entries.push_back({handle, isAbsolute});
            }
            else {
                usedCentroids.push_back({handle, isAbsolute});
                inserted.first->second = -static_cast<int>(usedCentroids.size());
            }
        }
        return inserted.first->second;
    };
    for (const SpacetimeForce::Variable& source : force.variables) {
        Variable v;
        v.name = source.name;
        v.type = source.type;
        for (int handle : source.sites)
            v.sites.push_back(numberOf(handle, source.type == SpacetimeForce::Coordinate));
        v.axis = source.axis;
        v.frame = std::max(source.frame, 0);
        v.period = source.period;
        v.shift = source.shift;
        v.scale = source.scale;
        if (source.type == SpacetimeForce::Position) {
            const vector<int>& sites = force.frames[source.frame].sites;
            v.isInFrame = (std::find(sites.begin(), sites.end(), source.sites[0]) != sites.end());
        }
        if (!v.isLifted())
            quadratic = true;
        variables.push_back(v);
    }
    for (const SpacetimeForce::Frame& source : force.frames) {
        Frame f;
        for (int handle : source.sites)
            f.sites.push_back(numberOf(handle, false));
        f.weights = normalized(source.weights, source.sites.size());
        for (size_t i = 0; i < source.sites.size(); i++)
            f.center += source.reference[i] * f.weights[i];
        for (const Vec3& r : source.reference)
            f.reference.push_back(r - f.center);
        frames.push_back(f);
    }
    numSingleSites = static_cast<int>(entries.size());
    for (auto& used : usedCentroids) {
        const SpacetimeForce::Centroid& source = force.centroids[-1 - used.first];
        centroids.push_back({static_cast<int>(entries.size()), normalized(source.weights, source.particles.size())});
        for (int particle : source.particles)
            entries.push_back({particle, used.second});
    }
    auto renumber = [&](int& site) {
        if (site < 0)
            site = numSingleSites - 1 - site;
    };
    for (Variable& v : variables)
        for (int& site : v.sites)
            renumber(site);
    for (Frame& f : frames)
        for (int& site : f.sites)
            renumber(site);
    int offset = (quadratic ? 1 : 0);
    for (Variable& v : variables) {
        v.offset = offset;
        offset += (v.isLifted() ? 2 : 1);
    }
    numStatistics = offset;
    for (const SpacetimeForce::Walker& w : force.walkers)
        walkers.push_back({w.offset, w.intercept, w.slope});
    if (walkers.empty())
        walkers.push_back({0, 0.0, 1.0});
}

void VariableSet::appendParticles(int site, vector<int>& particles) const {
    if (site < numSingleSites)
        particles.push_back(entries[site].particle);
    else {
        const Centroid& c = centroids[site - numSingleSites];
        for (size_t i = 0; i < c.weights.size(); i++)
            particles.push_back(entries[c.first + i].particle);
    }
}

vector<int> VariableSet::getParticles(int index) const {
    vector<int> result;
    for (int site : variables[index].sites)
        appendParticles(site, result);
    if (variables[index].type == SpacetimeForce::Position)
        for (int site : frames[variables[index].frame].sites)
            appendParticles(site, result);
    return result;
}

bool VariableSet::hasSameTopology(const VariableSet& other) const {
    auto sameVariable = [](const Variable& a, const Variable& b) {
        return a.sites == b.sites && std::make_tuple(a.type, a.axis, a.frame, a.isInFrame, a.isLifted()) == std::make_tuple(b.type, b.axis, b.frame, b.isInFrame, b.isLifted());
    };
    auto sameEntry = [](const Entry& a, const Entry& b) { return a.particle == b.particle && a.isAbsolute == b.isAbsolute; };
    auto sameCentroid = [](const Centroid& a, const Centroid& b) { return a.first == b.first && a.weights == b.weights; };
    auto sameFrame = [](const Frame& a, const Frame& b) { return a.sites == b.sites && a.weights == b.weights && a.center == b.center && a.reference == b.reference; };
    auto sameWalker = [](const Walker& a, const Walker& b) { return a.offset == b.offset; };
    auto same = [](auto& a, auto& b, auto equal) { return std::equal(a.begin(), a.end(), b.begin(), b.end(), equal); };
    return same(variables, other.variables, sameVariable) && same(entries, other.entries, sameEntry) && same(centroids, other.centroids, sameCentroid) &&
           same(frames, other.frames, sameFrame) && same(walkers, other.walkers, sameWalker);
}

void VariableSet::computeStatistic(const vector<double>& values, vector<double>& statistic) const {
    statistic.assign(walkers.size() * numStatistics, 0.0);
    const double* c = values.data();
    for (double* t = statistic.data(); t < statistic.data() + statistic.size(); t += numStatistics)
        for (const Variable& v : variables) {
            double value = *c++;
            if (v.isLifted()) {
                double theta = value * (2 * M_PI / v.period);
                t[v.offset] = std::cos(theta);
                t[v.offset + 1] = std::sin(theta);
            }
            else {
                double d = (value - v.shift) / v.scale;
                t[v.offset] = d;
                t[0] += d * d;
            }
        }
}

double dot(const vector<double>& a, const vector<double>& b) {
    double sum = 0;
    for (size_t i = 0; i < a.size(); i++)
        sum += a[i] * b[i];
    return sum;
}

}  // namespace SpacetimePlugin
