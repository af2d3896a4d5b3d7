// SPDX-License-Identifier: MIT
#pragma once

#include "openmm/Context.h"
#include "openmmspacetime/SpacetimeForce.h"
#include <functional>
#include <vector>

namespace SpacetimePlugin {

/**
 * Drives a Context along the curve of a SpacetimeForce by annealed Langevin dynamics (arXiv:2505.17517, Algorithm 1), and records the path.
 *
 * The path starts at s = 0, where it may be equilibrated, and makes numSteps/stepsPerMove moves. Move j of M sets s = j/M at fixed positions, which costs
 * the work -kT (eta(s_j) - eta(s_{j-1}))·T(X), and is followed by stepsPerMove time steps of the Context's Integrator. It ends at s = 1, where it may be
 * equilibrated again. Only the numSteps steps along the curve are recorded. A backward path runs from s = 1 to s = 0 in the same way.
 *
 * A start far from where the curve begins would be torn there by the bias, so it is an error (see setMaxStartDistance()). setNumPullSteps() brings it there first.
 *
 * Positions, velocities and the random stream are taken as they are: setting them up is the caller's business.
 *
 *     PathSampler sampler(force, 16000);
 *     sampler.run(context);                             // or: sampler.begin(context); while (sampler.advance(1000)) ...
 *     double work = sampler.getWork();
 */
class PathSampler {
public:
    /// Called now and then with the steps done and the total, equilibration included. Returning false ends the path early.
    using Progress = std::function<bool(long long done, long long total)>;

    /**
     * Create a PathSampler.
     *
     * @param force      the force; it must be part of the System of the Contexts that are run, and outlive the sampler
     * @param numSteps   the number of time steps along the curve
     */
    PathSampler(const SpacetimeForce& force, int numSteps);

    int getNumSteps() const { return numSteps; }
    void setNumSteps(int steps);
    /// Time steps between two moves of the bias; must divide the number of steps.
    int getStepsPerMove() const { return stepsPerMove; }
    void setStepsPerMove(int steps);
    /// The smallest multiple of `stepsPerMove` that gives at least `stepsPerLength` steps for each unit of Fisher-Rao length of a curve of this `length`.
    static int stepsForLength(double stepsPerLength, double length, int stepsPerMove = 1);
    /// Whether the path runs from s = 1 to s = 0. Work is what moving the bias costs, in either direction.
    bool isBackward() const { return backward; }
    void setBackward(bool isBackward) { backward = isBackward; }
    /// Time steps during which the bias at the start of the curve grows from nothing to full strength, before the equilibration; 0 for the full bias at once.
    int getNumPullSteps() const { return numPullSteps; }
    void setNumPullSteps(int steps);
    /**
     * A path whose variables are farther than this from the centre of the bias at its start is an error, before the first step and after the equilibration; with
     * pull steps only after it. In units of the bias's width: 1/sqrt(kappa) for periodic variables, e^{-l/2} for the others. 5 unless set; infinity for no limit.
     */
    double getMaxStartDistance() const { return maxStartDistance; }
    void setMaxStartDistance(double widths);
    /// Throws the exception that begin() would throw for the Context's positions if there were no pull steps. Changes nothing.
    void checkStart(OpenMM::Context& context) const;
    /// Time steps before the path, at the start of the curve, and after it, at its end.
    int getNumEquilibrationSteps() const { return numEquilibrationSteps; }
    void setNumEquilibrationSteps(int steps);
    /// The potential energy without the bias is recorded every so many steps and after the last one; 0 for never.
    int getEnergyStride() const { return energyStride; }
    void setEnergyStride(int stride);
    /// Positions are recorded every so many steps and after the last one; 0 for the last one only.
    int getFrameStride() const { return frameStride; }
    void setFrameStride(int stride);

    /**
     * Run a whole path.
     *
     * @param context            a Context of the System that holds the force
     * @param progress           called now and then, if given
     * @param progressInterval   about how many steps lie between two calls
     * @return false if `progress` ended the path early
     */
    bool run(OpenMM::Context& context, const Progress& progress = Progress(), int progressInterval = 1000);

    /// Start a path: forget the records of the last one and move the Context to s = 0. The Context must stay alive until the path is done.
    void begin(OpenMM::Context& context);
    /// Run up to `maxSteps` further steps. Returns whether there is anything left to do.
    bool advance(int maxSteps);
    /// Steps done, and in all, equilibration included.
    long long getNumStepsDone() const { return stepsDone; }
    long long getNumStepsTotal() const { return static_cast<long long>(numPullSteps) + numSteps + 2LL * numEquilibrationSteps; }

    int getNumVariables() const { return numVariables; }
    int getNumParticles() const { return numParticles; }
    /// s during each step.
    const std::vector<double>& getS() const { return s; }
    /// Raw values of the variables after each step, one step after the other.
    const std::vector<double>& getVariables() const { return variables; }
    /// Raw values at the end of the path, after the last equilibration.
    const std::vector<double>& getFinalVariables() const { return finalVariables; }
    /// Work spent up to each move, in kJ/mol.
    const std::vector<double>& getWorkProfile() const { return workProfile; }
    /// Work spent on the path in kJ/mol.
    double getWork() const { return work; }
    /// Indices into getS() of the steps after which energies were recorded, and the energies in kJ/mol.
    const std::vector<int>& getEnergySteps() const { return energySteps; }
    const std::vector<double>& getPotentialEnergy() const { return potentialEnergy; }
    /// Indices into getS() of the steps after which positions were recorded; x, y, z of each particle in nm, and the three box vectors.
    const std::vector<int>& getFrameSteps() const { return frameSteps; }
    const std::vector<float>& getFrames() const { return frames; }
    const std::vector<double>& getBoxVectors() const { return boxVectors; }
    /// Potential energy without the bias, and the bias, of each frame, in kJ/mol.
    const std::vector<double>& getFrameEnergy() const { return frameEnergy; }
    const std::vector<double>& getFrameBias() const { return frameBias; }
    /// Forget the frames recorded so far, so that a long trajectory can be written out piece by piece.
    void clearFrames();
    /// Force evaluations of this path, equilibration included.
    long long getNumGradientEvaluations() const { return numGradientEvaluations; }
    /// Further evaluations of the energy alone, made for the record.
    long long getNumEnergyEvaluations() const { return numEnergyEvaluations; }

private:
    void move();
    void recordStep();
    void pull(int steps);
    double getPosition(int move) const;
    void checkStart(const SpacetimeForceImpl& impl, const std::vector<double>& values, bool isEquilibrated) const;
    void recordEnergy(int step, bool isFrame);
    void recordFrame(int step);
    void checkVariables();
    [[noreturn]] void failNaN(const std::string& what) const;
    bool isRecorded(int step, int stride) const;

    const SpacetimeForce& force;
    int numSteps, stepsPerMove = 1, numEquilibrationSteps = 0, energyStride = 0, frameStride = 0, numPullSteps = 0;
    bool backward = false;
    double maxStartDistance = 5.0;

    // State of the path in progress.
    OpenMM::Context* context = nullptr;
    SpacetimeForceImpl* impl = nullptr;
    long long stepsDone = 0, firstForceEvaluation = 0;
    int numMoves = 0, movesDone = 0;
    std::vector<double> eta, nextEta, values, statistic;
    std::vector<OpenMM::Vec3> positions;

    int numVariables = 0, numParticles = 0;
    std::vector<double> s, variables, finalVariables, workProfile, potentialEnergy, boxVectors, frameEnergy, frameBias;
    std::vector<int> energySteps, frameSteps;
    std::vector<float> frames;
    double work = 0, currentS = 0;
    long long numGradientEvaluations = 0, numEnergyEvaluations = 0;
};

}  // namespace SpacetimePlugin
