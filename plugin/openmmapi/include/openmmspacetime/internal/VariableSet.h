// SPDX-License-Identifier: MIT
#pragma once

#include "openmm/Vec3.h"
#include "openmmspacetime/SpacetimeForce.h"
#include <string>
#include <vector>

namespace SpacetimePlugin {

/**
 * The collective variables of a SpacetimeForce as flat tables of numbers, which every platform's kernel is built from, and the statistic T of their raw values.
 *
 * Sites are numbered: first the single particles, then the centroids. Entries are particles: first one for each single site, then the members of the
 * centroids, one centroid after the other. All indices are those of the walker with offset 0.
 */
class VariableSet {
public:
    struct Variable {
        std::string name;
        SpacetimeForce::VariableType type = SpacetimeForce::Torsion;
        std::vector<int> sites;
        int axis = 0, frame = 0;
        /// For a position: whether its site belongs to the frame, and is therefore taken where it is, not at the image nearest to the frame.
        bool isInFrame = false;
        /// 2 pi for a torsion, 0 for what is not periodic.
        double period = 0, shift = 0, scale = 1;
        /// Component of T at which the variable starts: its d, or its cos with its sin next to it.
        int offset = 0;
        bool isLifted() const { return period > 0; }
    };
    struct Entry {
        int particle;
        /// Whether the place of the particle matters, as for a coordinate, and not only its place relative to others. Platforms that wrap positions need to know.
        bool isAbsolute;
    };
    /// Members of a centroid: entries[first] and so on, with weights that sum to 1.
    struct Centroid {
        int first;
        std::vector<double> weights;
    };
    struct Frame {
        std::vector<int> sites;
        /// Reference positions relative to their weighted centre.
        std::vector<OpenMM::Vec3> reference;
        OpenMM::Vec3 center;
        /// These sum to 1.
        std::vector<double> weights;
    };
    struct Walker {
        int offset;
        double intercept, slope;
    };

    VariableSet() = default;
    explicit VariableSet(const SpacetimeForce& force);

    int size() const { return static_cast<int>(variables.size()); }
    const Variable& operator[](int index) const { return variables[index]; }
    const std::vector<Entry>& getEntries() const { return entries; }
    const std::vector<Centroid>& getCentroids() const { return centroids; }
    const std::vector<Frame>& getFrames() const { return frames; }
    /// At least one.
    const std::vector<Walker>& getWalkers() const { return walkers; }
    /// Sites below this number are single particles, the entries of the same number; the others are centroids.
    int getNumSingleSites() const { return numSingleSites; }
    /// True when T starts with |d|^2, that is, when there is a variable that is not lifted.
    bool hasQuadratic() const { return quadratic; }
    int getNumStatistics() const { return numStatistics; }
    /// All particles that a variable depends on, those of its frame included.
    std::vector<int> getParticles(int index) const;

    /// True when both sets measure the same on the same particles; periods, shifts, scales, intercepts and slopes may differ.
    bool hasSameTopology(const VariableSet& other) const;

    /// T of the given raw values, one walker after the other.
    void computeStatistic(const std::vector<double>& values, std::vector<double>& statistic) const;

private:
    void appendParticles(int site, std::vector<int>& particles) const;

    std::vector<Variable> variables;
    std::vector<Entry> entries;
    std::vector<Centroid> centroids;
    std::vector<Frame> frames;
    std::vector<Walker> walkers;
    int numSingleSites = 0, numStatistics = 0;
    bool quadratic = false;
};

/// Sum of the products of two equally long vectors.
double dot(const std::vector<double>& a, const std::vector<double>& b);

}  // namespace SpacetimePlugin
