// SPDX-License-Identifier: MIT
#pragma once

#include "openmm/Context.h"
#include "openmm/Force.h"
#include "openmm/Vec3.h"
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
 * Variables are measured on sites. A site is a particle, or a weighted centroid of several: addCentroid() returns a negative handle that can be passed
 * wherever the index of a particle is expected. A position is a Cartesian component of a site after the optimal superposition of a frame, that is a group of
 * sites, on reference positions; the forces include those that the rotation passes on to the frame.
 *
 * Several walkers, copies of the same molecule, can live in one System: the variables are then measured once for each walker, on particles whose indices
 * are shifted by the walker's offset, and walker k sits at s_k = clamp(intercept_k + slope_k s, 0, 1). The energy is the sum over the walkers. Without any
 * walker added there is one, with offset 0, intercept 0 and slope 1.
 *
 * Two Context parameters steer the force: s in [0, 1] (named "spacetime_s" unless changed with setParameterName()), and "spacetime_kT" in kJ/mol.
 * Derivatives of the energy with respect to both are always available through State::ParameterDerivatives. Forces with the same parameter name move
 * together; give each curve its own name to move them separately. An s outside [0, 1] by more than 1e-6 raises an exception when the energy is evaluated.
 *
 * The energy is a pure function of positions, periodic box and parameters.
 */
class SpacetimeForce : public OpenMM::Force {
public:
    enum VariableType { Torsion = 0, Coordinate = 1, Angle = 2, Distance = 3, Position = 4 };

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
     * Define the weighted centroid of several particles.
     *
     * Under periodic boundary conditions the particles are taken where they are, not at their nearest images: molecules that were whole stay whole.
     *
     * @param particles   the indices of the particles, all different
     * @param weights     one positive weight per particle, of which only the ratios matter; equal weights when empty
     * @return a handle, -1 for the first centroid, -2 for the second and so on, which can be passed wherever the index of a particle is expected
     */
    int addCentroid(const std::vector<int>& particles, const std::vector<double>& weights = std::vector<double>());
    int getNumCentroids() const { return static_cast<int>(centroids.size()); }
    /// Particles and weights (empty for equal ones) of the centroid with this handle.
    void getCentroidParameters(int handle, std::vector<int>& particles, std::vector<double>& weights) const;

    /**
     * Define a frame: sites that are superposed on reference positions, and in which positions of sites are measured.
     *
     * @param sites       at least three particles or centroids, all different
     * @param reference   their reference positions in nm, not all on one line
     * @param weights     one positive weight per site in the superposition, of which only the ratios matter; equal weights when empty
     * @return the index of the frame
     */
    int addFrame(const std::vector<int>& sites, const std::vector<OpenMM::Vec3>& reference, const std::vector<double>& weights = std::vector<double>());
    int getNumFrames() const { return static_cast<int>(frames.size()); }
    /// Sites, reference positions and weights (empty for equal ones) of a frame.
    void getFrameParameters(int frame, std::vector<int>& sites, std::vector<OpenMM::Vec3>& reference, std::vector<double>& weights) const;

    /**
     * Add the torsion angle of four sites as the next variable. It is periodic.
     *
     * @param site1   the index of a particle or the handle of a centroid
     * @param site2   likewise
     * @param site3   likewise
     * @param site4   likewise
     * @param name    used in error messages and records; "torsion" and the index when empty
     * @return the index of the variable
     */
    int addTorsion(int site1, int site2, int site3, int site4, const std::string& name = "");

    /**
     * Add one Cartesian component of a site as the next variable.
     *
     * @param site       the index of a particle or the handle of a centroid
     * @param axis       0, 1 or 2 for x, y or z
     * @param period     length of one turn in nm, or 0 when the coordinate is not periodic
     * @param shift      only for a coordinate that is not periodic: it enters as (raw-shift)/scale
     * @param scale      see shift; positive
     * @param name       used in error messages and records; "coordinate" and the index when empty
     * @return the index of the variable
     */
    int addCoordinate(int site, int axis, double period = 0.0, double shift = 0.0, double scale = 1.0, const std::string& name = "");

    /**
     * Add the angle of three sites, in rad between 0 and pi, as the next variable. It enters as (raw-shift)/scale.
     *
     * @return the index of the variable
     */
    int addAngle(int site1, int site2, int site3, double shift = 0.0, double scale = 1.0, const std::string& name = "");

    /**
     * Add the distance of two sites in nm as the next variable. It enters as (raw-shift)/scale.
     *
     * @return the index of the variable
     */
    int addDistance(int site1, int site2, double shift = 0.0, double scale = 1.0, const std::string& name = "");

    /**
     * Add one Cartesian component, in nm, of a site in a frame as the next variable: that component of the site's position after the frame was superposed on its
     * reference. It enters as (raw-shift)/scale.
     *
     * @param site    the index of a particle or the handle of a centroid, in the frame or not
     * @param axis    0, 1 or 2 for x, y or z
     * @param frame   the index of the frame
     * @param shift   it enters as (raw-shift)/scale
     * @param scale   see shift; positive
     * @param name    used in error messages and records; "position" and the index when empty
     * @return the index of the variable
     */
    int addPosition(int site, int axis, int frame, double shift = 0.0, double scale = 1.0, const std::string& name = "");

    VariableType getVariableType(int index) const;
    /// The word for a type in messages and files: "torsion", "coordinate", "angle", "distance" or "position".
    static const char* getVariableTypeName(VariableType type);
    const std::string& getVariableName(int index) const;
    void setVariableName(int index, const std::string& name);
    void getTorsionParameters(int index, int& site1, int& site2, int& site3, int& site4) const;
    void setTorsionParameters(int index, int site1, int site2, int site3, int site4);
    void getCoordinateParameters(int index, int& site, int& axis, double& period, double& shift, double& scale) const;
    void setCoordinateParameters(int index, int site, int axis, double period, double shift, double scale);
    void getAngleParameters(int index, int& site1, int& site2, int& site3, double& shift, double& scale) const;
    void setAngleParameters(int index, int site1, int site2, int site3, double shift, double scale);
    void getDistanceParameters(int index, int& site1, int& site2, double& shift, double& scale) const;
    void setDistanceParameters(int index, int site1, int site2, double shift, double scale);
    void getPositionParameters(int index, int& site, int& axis, int& frame, double& shift, double& scale) const;
    void setPositionParameters(int index, int site, int axis, int frame, double shift, double scale);

    /**
     * Add a walker: a copy of the molecule on which the variables are measured as well.
     *
     * @param offset      added to the indices of all particles
     * @param intercept   the walker sits at s_k = clamp(intercept + slope s, 0, 1)
     * @param slope       see intercept
     * @return the index of the walker
     */
    int addWalker(int offset, double intercept = 0.0, double slope = 1.0);
    /// The number of walkers that were added. With none, the variables are measured once, with offset 0, intercept 0 and slope 1.
    int getNumWalkers() const { return static_cast<int>(walkers.size()); }
    void getWalkerParameters(int index, int& offset, double& intercept, double& slope) const;
    void setWalkerParameters(int index, int offset, double intercept, double slope);

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

    /// Whether torsions, angles and distances are measured between nearest periodic images, and positions from the nearest image of the frame's centroid (sites
    /// that belong to the frame: as they are). Coordinates never are: their period says it all.
    bool usesPeriodicBoundaryConditions() const override { return periodic; }
    void setUsesPeriodicBoundaryConditions(bool periodic) { this->periodic = periodic; }

    /**
     * Copy the curve, the periods, shifts and scales of the variables, and the intercepts and slopes of the walkers, to a Context.
     *
     * Nothing else can change in an existing Context: not the variables' number, types and sites, centroids, frames, the number and offsets of walkers, nor
     * the temperature, defaults and names.
     */
    void updateParametersInContext(OpenMM::Context& context);

    /// Raw values of the variables at the Context's positions: rad or nm, periodic ones in (-period/2, period/2]; one walker after the other.
    std::vector<double> getVariableValues(OpenMM::Context& context) const;
    /// T at the Context's positions, one walker after the other.
    std::vector<double> getStatistic(OpenMM::Context& context) const;
    /// U at the Context's positions and parameters, in kJ/mol.
    double getBiasEnergy(OpenMM::Context& context) const;

    /// The curve as the kernels evaluate it.
    const CurveInterpolant& getInterpolant() const { return interpolant; }

protected:
    OpenMM::ForceImpl* createImpl() const override;

private:
    friend class PathSampler;
    friend class VariableSet;
    struct Centroid {
        std::vector<int> particles;
        std::vector<double> weights;
    };
    struct Frame {
        std::vector<int> sites;
        std::vector<OpenMM::Vec3> reference;
        std::vector<double> weights;
    };
    struct Variable {
        VariableType type;
        std::vector<int> sites;
        int axis, frame;
        double period, shift, scale;
        std::string name;
    };
    struct Walker {
        int offset;
        double intercept, slope;
    };
    SpacetimeForceImpl& getImpl(OpenMM::Context& context) const;
    const Variable& variable(int index, VariableType type, const char* method) const;
    int checkVariable(int index) const;
    int addVariable(Variable variable);
    void setVariable(int index, Variable variable);
    void checkVariable(const Variable& variable, const std::string& what) const;
    void checkSites(const std::vector<int>& sites, const std::string& what) const;

    std::vector<Variable> variables;
    std::vector<Centroid> centroids;
    std::vector<Frame> frames;
    std::vector<Walker> walkers;
    std::vector<double> s, eta;
    CurveInterpolant interpolant;
    double temperature, defaultS;
    std::string parameterName;
    bool periodic;
};

}  // namespace SpacetimePlugin
