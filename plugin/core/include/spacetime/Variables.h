// SPDX-License-Identifier: MIT
#pragma once

#include <Eigen/Core>
#include <initializer_list>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

namespace Spacetime {

/// One atom, or the weighted centroid of several.
struct Site {
    /// 0-based particle indices.
    std::vector<int> atoms;
    /// One positive number an atom, on any scale (masses, for example); empty for equal weights.
    std::vector<double> weights;

    Site() = default;
    // Not explicit, so that a list of sites can be written as {4, 6, 8, 14} or {{0, 1, 2}, 17}.
    Site(int atom) : atoms{atom} {}
    Site(std::initializer_list<int> atoms) : atoms(atoms) {}
    Site(std::vector<int> atoms, std::vector<double> weights = {}) : atoms(std::move(atoms)), weights(std::move(weights)) {}

    /// True when the weights differ: without them the centroid would lie elsewhere.
    bool weighted() const;
    bool operator==(const Site& other) const { return atoms == other.atoms && weights == other.weights; }
};

/**
 * Sites that are superposed on a reference before a position is read off.
 *
 * The superposition is the rotation and translation that brings the sites onto the reference with the least weighted sum of
 * squared distances; a position is then measured in the axes and from the origin of the reference.
 */
struct Frame {
    std::vector<Site> sites;
    /// [3 x P] where the sites belong, in nm.
    Eigen::MatrixXd reference;
    /// [P] positive, on any scale; empty for equal weights.
    Eigen::VectorXd weights;

    bool operator==(const Frame& other) const;
};

/// One collective variable: what is measured, in which unit, and how it enters the statistic.
struct Variable {
    enum class Kind { Torsion, Angle, Distance, Coordinate, Position, Number };

    std::string name;
    Kind kind = Kind::Number;
    /// Atoms or centroids (torsion 4, angle 3, distance 2, coordinate and position 1); empty when the variable is only a name.
    std::vector<Site> atoms;
    /// For Kind::Coordinate and Kind::Position: 0, 1 or 2 for x, y, z.
    int axis = 0;
    /// For Kind::Position: what is superposed first. Null for other kinds, and for a position that is only a name.
    std::shared_ptr<const Frame> frame;
    /// Length of one turn in raw units: 2 pi for torsions, the period of a periodic coordinate, 0 when not periodic.
    double period = 0.0;
    /// Unlifted variables enter as c = (raw - shift)/scale.
    double shift = 0.0, scale = 1.0;

    /// Periodic variables are lifted to (cos, sin) of 2 pi raw/period; all others enter as one number and its square.
    bool lifted() const { return period > 0.0; }
    /// "rad" for torsions and angles, "nm" for distances, coordinates and positions, "" for plain numbers.
    std::string unit() const;
    /// "torsion", "angle", "distance", "coordinate", "position" or "number".
    std::string kindName() const;

    static Variable torsion(const std::string& name, std::vector<Site> atoms = {});
    static Variable angle(const std::string& name, std::vector<Site> atoms = {});
    static Variable distance(const std::string& name, std::vector<Site> atoms = {});
    static Variable coordinate(const std::string& name, Site atom, int axis, double period = 0.0);
    static Variable position(const std::string& name, Site atom, int axis, std::shared_ptr<const Frame> frame);
    static Variable number(const std::string& name);
};

/**
 * The ordered set of collective variables and the sufficient statistic T that belongs to it.
 *
 * T = (|d|^2, then per variable d or cos, sin), where d runs over the unlifted scaled variables. Without unlifted
 * variables there is no |d|^2, and without lifted ones this is the statistic (|c|^2, c) of arXiv:2505.17517.
 */
class Variables {
public:
    Variables() = default;
    /// Throws std::invalid_argument for an empty list, repeated names, non-positive scales, overlapping or empty sites, negative
    /// atoms, weights that are not positive, a wrong number of atoms, or a frame that fixes no rotation. Variables with equal
    /// frames come to share one.
    explicit Variables(std::vector<Variable> list);

    int size() const { return static_cast<int>(list.size()); }
    const Variable& operator[](int i) const { return list[i]; }
    const std::vector<Variable>& items() const { return list; }
    std::vector<std::string> names() const;

    int numLifted() const { return lifted; }
    int numUnlifted() const { return size() - lifted; }
    bool hasQuadratic() const { return lifted < size(); }
    /// Length of T and of eta.
    int numStatistics() const { return (hasQuadratic() ? 1 : 0) + size() + lifted; }
    /// Row of T at which variable i starts (its d, or its cos; its sin follows).
    int offset(int i) const { return offsets[i]; }

    /// Statistic of raw values [n x K], one column per sample; result [m x K]. Throws when the shape is wrong or a value is not finite.
    Eigen::MatrixXd statistic(const Eigen::Ref<const Eigen::MatrixXd>& raw) const;

    /// Natural parameter of the clean point `raw` [n] seen at log-SNR l: eta = (-e^l/2, e^l d) for unlifted variables
    /// (x = alpha c), and kappa (cos, sin) with kappa = e^l for lifted ones.
    Eigen::VectorXd naturalParameter(const Eigen::Ref<const Eigen::VectorXd>& raw, double logSnr) const;

    /// Raw position of the bias centre of a natural parameter [m]: x/alpha unscaled, or the angle phi0 in (-period/2, period/2].
    Eigen::VectorXd center(const Eigen::Ref<const Eigen::VectorXd>& eta) const;
    /// Raw position of an expectation parameter mu [m]: the mean, or for lifted variables the angle of the mean direction.
    Eigen::VectorXd meanPosition(const Eigen::Ref<const Eigen::VectorXd>& mu) const;

    /// The same variables as plain unwrapped numbers (the paper's way).
    Variables euclidean() const;
    /// True when names, kinds, axes, periods, shifts and scales agree, and so do sites and frames (which may be missing on one side).
    bool compatible(const Variables& other) const;

    /// A list of objects; a frame is written once, and by its number (in order of appearance) from then on.
    nlohmann::json toJson() const;
    static Variables fromJson(const nlohmann::json& j);
    /// "torsion,torsion" or "phi:torsion,psi:torsion,d:distance"; unknown kinds are named in the error.
    static Variables parse(const std::string& text);

private:
    /// Raw position of a vector laid out like T, whose unlifted entries are `divisor` times d.
    Eigen::VectorXd position(const Eigen::Ref<const Eigen::VectorXd>& values, double divisor) const;

    std::vector<Variable> list;
    std::vector<int> offsets;
    int lifted = 0;
};

}  // namespace Spacetime
