// SPDX-License-Identifier: MIT
#pragma once

#include "openmm/Context.h"
#include "openmm/Force.h"
#include "openmmspacetime/internal/CurveInterpolant.h"
#include <string>
#include <vector>

namespace SpacetimePlugin {

class SpacetimeForceImpl;

/**
 * Biases a System along a curve in the spacetime of a diffusion model.
 *
 * A point of spacetime, that is a noise level and a noisy value of the collective variables c, stands for the distribution of clean values that may
 * lie behind it. These denoising distributions p(c|z) ∝ q(c) exp(eta·T(c)) are an exponential family (arXiv:2505.17517), and sampling one of them is
 * ordinary dynamics with the bias
 *
 *     U(X; s) = -kT eta(s)·T(c(X)),        dU/ds = -kT eta'(s)·T(c(X)),
 *
 * with no constant added. The curve eta(s), 0 <= s <= 1, is given by its nodes and interpolated by a monotone cubic per component.
 *
 * The statistic T is, in this order: |d|^2 over the variables that are not periodic, if there are any; then for each variable, in the order in which
 * they were added, d = (raw-shift)/scale, or cos and sin of 2 pi raw/period where the variable is periodic (torsions are, with period 2 pi). For
 * variables that are not periodic U is a harmonic well up to a constant, kT/2 e^l |d - m|^2 with log-SNR l and centre m; for a torsion it is
 * -kT kappa cos(phi - phi0).
 *
 * Two Context parameters steer the force: s (named "spacetime_s" unless changed with setParameterName()), which is clamped to [0, 1], and
 * "spacetime_kT" in kJ/mol. Derivatives of the energy with respect to both are always available through State::ParameterDerivatives. Forces with
 * the same parameter name move together; give each curve its own name to move them separately.
 *
 * The energy is a pure function of positions, periodic box and parameters.
 */
class SpacetimeForce : public OpenMM::Force {
public:
    enum VariableType { Torsion = 0, Coordinate = 1 };

    /**
     * Create a SpacetimeForce without variables.
     *
     * @param s             positions of the nodes, strictly increasing from 0 to 1
     * @param eta           natural parameters, one node after the other, as many numbers per node as the variables have statistics
     * @param temperature   temperature in K
     */
    SpacetimeForce(const std::vector<double>& s, const std::vector<double>& eta, double temperature);

    /// Number of variables added so far.
    int getNumVariables() const;
    /// Length of T for these variables, which is the number of components that eta must have.
    int getNumStatistics() const;

    /**
     * Add the torsion angle of four particles as the next variable.
     *
     * @param name   used in error messages and records; "torsion" and the index when empty
     * @return the index of the variable
     */
    int addTorsion(int particle1, int particle2, int particle3, int particle4, const std::string& name = "");

    /**
     * Add one Cartesian component of a particle as the next variable.
     *
     * @param particle   the index of the particle
     * @param axis       0, 1 or 2 for x, y or z
     * @param period     length of one turn in nm, or 0 when the coordinate is not periodic
     * @param shift      only for a coordinate that is not periodic: it enters as (raw-shift)/scale
     * @param scale      see shift; positive
     * @param name       used in error messages and records; "coordinate" and the index when empty
     * @return the index of the variable
     */
    int addCoordinate(int particle, int axis, double period = 0.0, double shift = 0.0, double scale = 1.0, const std::string& name = "");

    VariableType getVariableType(int index) const;
    const std::string& getVariableName(int index) const;
    void setVariableName(int index, const std::string& name);
    void getTorsionParameters(int index, int& particle1, int& particle2, int& particle3, int& particle4) const;
    void setTorsionParameters(int index, int particle1, int particle2, int particle3, int particle4);
    void getCoordinateParameters(int index, int& particle, int& axis, double& period, double& shift, double& scale) const;
    void setCoordinateParameters(int index, int particle, int axis, double period, double shift, double scale);

    /// Positions of the nodes.
    const std::vector<double>& getS() const { return s; }
    /// Natural parameters at the nodes, one node after the other.
    const std::vector<double>& getEta() const { return eta; }
    /// Replace the curve; see the constructor. Existing Contexts follow after updateParametersInContext().
    void setCurve(const std::vector<double>& s, const std::vector<double>& eta);
    /// eta(s) between the nodes; s is clamped to [0, 1].
    std::vector<double> evaluateEta(double s) const;
    /// d eta/ds, 0 outside [0, 1].
    std::vector<double> evaluateEtaDerivative(double s) const;

    /// Temperature in K. It sets the default of the Context parameter "spacetime_kT"; an existing Context keeps its value.
    double getTemperature() const { return temperature; }
    void setTemperature(double temperature);
    /// Value of s in a new Context.
    double getDefaultS() const { return defaultS; }
    void setDefaultS(double s);
    /// Name of the Context parameter that holds s.
    const std::string& getParameterName() const { return parameterName; }
    void setParameterName(const std::string& name);
    /// Name of the Context parameter that holds kT in kJ/mol, shared by all SpacetimeForces of a System.
    static const std::string& KT();

    /// Whether torsions are measured between nearest periodic images. Coordinates never are: their period says it all.
    bool usesPeriodicBoundaryConditions() const override { return periodic; }
    void setUsesPeriodicBoundaryConditions(bool periodic) { this->periodic = periodic; }

    /**
     * Copy the curve, and the periods, shifts and scales of coordinates, to a Context.
     *
     * The number, types and particles of the variables cannot change in an existing Context, nor its temperature, defaults and names.
     */
    void updateParametersInContext(OpenMM::Context& context);

    /// Raw values of the variables at the Context's positions: rad or nm, periodic ones in (-period/2, period/2].
    std::vector<double> getVariableValues(OpenMM::Context& context) const;
    /// T at the Context's positions.
    std::vector<double> getStatistic(OpenMM::Context& context) const;
    /// U at the Context's positions and parameters, in kJ/mol.
    double getBiasEnergy(OpenMM::Context& context) const;

    /// The curve as the kernels evaluate it.
    const CurveInterpolant& getInterpolant() const { return interpolant; }

protected:
    OpenMM::ForceImpl* createImpl() const override;

private:
    friend class PathSampler;
    struct Variable;
    SpacetimeForceImpl& getImpl(OpenMM::Context& context) const;
    const Variable& variable(int index, VariableType type, const char* method) const;
    int checkVariable(int index) const;

    struct Variable {
        VariableType type;
        int particles[4];
        int axis;
        double period, shift, scale;
        std::string name;
    };
    std::vector<Variable> variables;
    std::vector<double> s, eta;
    CurveInterpolant interpolant;
    double temperature, defaultS;
    std::string parameterName;
    bool periodic;
};

}  // namespace SpacetimePlugin
