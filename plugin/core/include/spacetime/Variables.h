// SPDX-License-Identifier: MIT
#pragma once

#include <Eigen/Core>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

namespace Spacetime {

/// One collective variable: what is measured, in which unit, and how it enters the statistic.
struct Variable {
    enum class Kind { Torsion, Angle, Distance, Coordinate, Number };

    std::string name;
    Kind kind = Kind::Number;
    /// 0-based particle indices (torsion 4, angle 3, distance 2, coordinate 1); empty when the variable is only a name.
    std::vector<int> atoms;
    /// For Kind::Coordinate: 0, 1 or 2 for x, y, z.
    int axis = 0;
    /// Length of one turn in raw units: 2 pi for torsions, the period of a periodic coordinate, 0 when not periodic.
    double period = 0.0;
    /// Unlifted variables enter as c = (raw - shift)/scale.
    double shift = 0.0, scale = 1.0;

    /// Periodic variables are lifted to (cos, sin) of 2 pi raw/period; all others enter as one number and its square.
    bool lifted() const { return period > 0.0; }
    /// "rad" for torsions and angles, "nm" for distances and coordinates, "" for plain numbers.
    std::string unit() const;
    /// "torsion", "angle", "distance", "coordinate" or "number".
    std::string kindName() const;

    static Variable torsion(const std::string& name, std::vector<int> atoms = {});
    static Variable angle(const std::string& name, std::vector<int> atoms = {});
    static Variable distance(const std::string& name, std::vector<int> atoms = {});
    static Variable coordinate(const std::string& name, int atom, int axis, double period = 0.0);
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
    /// Throws std::invalid_argument for an empty list, repeated names, non-positive scales, repeated or negative atoms,
    /// or a wrong number of atoms.
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
    /// True when names, kinds, periods, shifts and scales agree (atoms may be missing on one side).
    bool compatible(const Variables& other) const;

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
