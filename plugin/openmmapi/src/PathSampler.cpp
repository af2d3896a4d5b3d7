// SPDX-License-Identifier: MIT
#include "openmmspacetime/PathSampler.h"
#include "openmm/Integrator.h"
#include "openmm/OpenMMException.h"
#include "openmm/System.h"
#include "openmm/internal/ContextImpl.h"
#include "openmmspacetime/internal/SpacetimeForceImpl.h"
#include <algorithm>
#include <cmath>
#include <sstream>
#include <string>

using namespace OpenMM;
using std::string;
using std::vector;

namespace SpacetimePlugin {

// Positions of all particles are looked at this often, besides when they are recorded.
static const int NAN_CHECK_INTERVAL = 1000;

static void checkAtLeast(int value, int least, const char* what) {
    if (value < least)
        throw OpenMMException(string("PathSampler: ") + what + " must be " + std::to_string(least) + " or more, but it is " + std::to_string(value));
}

PathSampler::PathSampler(const SpacetimeForce& force, int numSteps) : force(force) { setNumSteps(numSteps); }

void PathSampler::setNumSteps(int steps) {
    checkAtLeast(steps, 1, "the number of steps");
    numSteps = steps;
}

void PathSampler::setStepsPerMove(int steps) {
    checkAtLeast(steps, 1, "the number of steps per move");
    stepsPerMove = steps;
}

int PathSampler::stepsForLength(double stepsPerLength, double length, int stepsPerMove) {
    checkAtLeast(stepsPerMove, 1, "the number of steps per move");
    double steps = stepsPerLength * length;
    if (!(stepsPerLength > 0 && length > 0 && steps < 1e9)) {
        std::stringstream message;
        message << "PathSampler: expected a positive number of steps per unit of length and a positive length, and fewer than 1e9 steps in all, but got " << stepsPerLength
                << " and " << length;
        throw OpenMMException(message.str());
    }
    return stepsPerMove * static_cast<int>(std::ceil(steps / stepsPerMove * (1 - 1e-12)));
}

void PathSampler::setNumPullSteps(int steps) {
    checkAtLeast(steps, 0, "the number of pull steps");
    numPullSteps = steps;
}

void PathSampler::setMaxStartDistance(double widths) {
    if (!(widths > 0))
        throw OpenMMException("PathSampler: the largest distance of the start must be positive, but it is " + std::to_string(widths));
    maxStartDistance = widths;
}

void PathSampler::setNumEquilibrationSteps(int steps) {
    checkAtLeast(steps, 0, "the number of equilibration steps");
    numEquilibrationSteps = steps;
}

void PathSampler::setEnergyStride(int stride) {
    checkAtLeast(stride, 0, "the energy stride");
    energyStride = stride;
}

void PathSampler::setFrameStride(int stride) {
    checkAtLeast(stride, 0, "the frame stride");
    frameStride = stride;
}

bool PathSampler::run(Context& context, const Progress& progress, int progressInterval) {
    checkAtLeast(progressInterval, 1, "the progress interval");
    begin(context);
    while (advance(progressInterval))
        if (progress && !progress(stepsDone, getNumStepsTotal()))
            return false;
    if (progress)
        progress(stepsDone, getNumStepsTotal());
    return true;
}

void PathSampler::begin(Context& context) {
    if (numSteps % stepsPerMove != 0)
        throw OpenMMException("PathSampler: the number of steps must be a multiple of the steps per move, but " + std::to_string(numSteps) + " steps are not a multiple of " +
                              std::to_string(stepsPerMove));
    impl = &force.getImpl(context);
    if (impl->getVariables().getWalkers().size() > 1)
        throw OpenMMException("PathSampler: it drives one walker, but the SpacetimeForce has " + std::to_string(impl->getVariables().getWalkers().size()) +
                              "; move the Context parameter in a loop of your own and read getVariableValues()");
    this->context = &context;
    numMoves = numSteps / stepsPerMove;
    movesDone = 0;
    stepsDone = 0;
    numVariables = impl->getVariables().size();
    numParticles = context.getSystem().getNumParticles();
    s.clear();
    variables.clear();
    finalVariables.clear();
    workProfile.clear();
    potentialEnergy.clear();
    energySteps.clear();
    clearFrames();
    s.reserve(numSteps);
    variables.reserve(static_cast<size_t>(numSteps) * numVariables);
    workProfile.reserve(numMoves);
    work = 0;
    numEnergyEvaluations = numGradientEvaluations = 0;
    firstForceEvaluation = impl->getNumForceEvaluations();
    currentS = getPosition(0);
    context.setParameter(force.getParameterName(), currentS);
    impl->getCurve().evaluate(currentS, eta);
    checkVariables();
    if (numPullSteps == 0)
        checkStart(*impl, values, false);
}

double PathSampler::getPosition(int move) const {
    double fraction = (move == numMoves ? 1.0 : static_cast<double>(move) / numMoves);
    return backward ? 1.0 - fraction : fraction;
}

void PathSampler::checkStart(Context& context) const {
    SpacetimeForceImpl& impl = force.getImpl(context);
    vector<double> values;
    impl.getVariableValues(impl.getContext(), values);
    checkStart(impl, values, false);
}

void PathSampler::checkStart(const SpacetimeForceImpl& impl, const vector<double>& values, bool isEquilibrated) const {
    const VariableSet& variables = impl.getVariables();
    vector<double> bias;
    impl.getCurve().evaluate(backward ? 1.0 : 0.0, bias);
    for (int i = 0; i < variables.size(); i++) {
        const VariableSet::Variable& v = variables[i];
        double center, width, difference;
        if (v.isLifted()) {
            double unit = v.period / (2 * M_PI);
            center = unit * std::atan2(bias[v.offset + 1], bias[v.offset]);
            width = unit / std::sqrt(std::hypot(bias[v.offset], bias[v.offset + 1]));
            difference = std::remainder(values[i] - center, v.period);
        }
        else {
            double precision = std::max(0.0, -2 * bias[0]);
            center = v.shift + v.scale * bias[v.offset] / precision;
            width = v.scale / std::sqrt(precision);
            difference = values[i] - center;
        }
        // No bias has no centre, and its width is infinite.
        double distance = (std::isfinite(width) ? std::fabs(difference) / width : 0.0);
        if (distance > maxStartDistance) {
            std::stringstream message;
            message << "PathSampler: the path starts too far from the curve: " << (isEquilibrated ? "after the equilibration " : "") << "the variable \"" << v.name << "\" is "
                    << values[i] << ", but the bias at s = " << (backward ? 1 : 0) << " is centred at " << center << " with a width of " << width << ", so it is " << distance
                    << " widths away (at most " << maxStartDistance << "). "
                    << (isEquilibrated ? "Use more steps to pull and equilibrate it, or check that the curve begins in this state"
                                       : "Start from a state near the beginning of the curve, or have the start pulled there first (equilibrate, setNumPullSteps())");
            throw OpenMMException(message.str());
        }
    }
}

void PathSampler::pull(int steps) {
    // The strength of the bias is the parameter kT; whatever happens, the Context gets its own back.
    struct Restore {
        Context& context;
        double kT;
        ~Restore() { context.setParameter(SpacetimeForce::KT(), kT); }
    } restore{*context, context->getParameter(SpacetimeForce::KT())};
    for (int i = 0; i < steps; i++) {
        context->setParameter(SpacetimeForce::KT(), restore.kT * (stepsDone + 1) / numPullSteps);
        context->getIntegrator().step(1);
        stepsDone++;
    }
}

bool PathSampler::advance(int maxSteps) {
    if (context == nullptr)
        throw OpenMMException("PathSampler: call begin() before advance()");
    checkAtLeast(maxSteps, 1, "the number of steps to advance");
    Integrator& integrator = context->getIntegrator();
    long long total = getNumStepsTotal(), last = std::min(total, stepsDone + maxSteps), curveStart = static_cast<long long>(numPullSteps) + numEquilibrationSteps,
              curveEnd = curveStart + numSteps;
    while (stepsDone < last) {
        if (stepsDone < curveStart || stepsDone >= curveEnd) {
            // Nothing is recorded at the ends, so the integrator can run on its own for a while.
            long long end = std::min(last, stepsDone < numPullSteps ? static_cast<long long>(numPullSteps) : stepsDone < curveStart ? curveStart : total);
            int chunk = static_cast<int>(std::min<long long>(end - stepsDone, NAN_CHECK_INTERVAL));
            if (stepsDone < numPullSteps)
                pull(chunk);
            else {
                integrator.step(chunk);
                stepsDone += chunk;
            }
            checkVariables();
            if (stepsDone == curveStart)
                checkStart(*impl, values, true);
            continue;
        }
        if ((stepsDone - curveStart) % stepsPerMove == 0)
            move();
        integrator.step(1);
        stepsDone++;
        recordStep();
    }
    numGradientEvaluations = impl->getNumForceEvaluations() - firstForceEvaluation;
    if (stepsDone < total)
        return true;
    finalVariables = values;
    context = nullptr;
    return false;
}

void PathSampler::move() {
    movesDone++;
    currentS = getPosition(movesDone);
    impl->getVariables().computeStatistic(values, statistic);
    impl->getCurve().evaluate(currentS, nextEta);
    double change = 0;
    for (size_t i = 0; i < eta.size(); i++)
        change += (nextEta[i] - eta[i]) * statistic[i];
    work -= context->getParameter(SpacetimeForce::KT()) * change;
    workProfile.push_back(work);
    eta.swap(nextEta);
    context->setParameter(force.getParameterName(), currentS);
}

bool PathSampler::isRecorded(int step, int stride) const { return step == numSteps - 1 || (stride > 0 && (step + 1) % stride == 0); }

void PathSampler::recordStep() {
    int step = static_cast<int>(s.size());
    s.push_back(currentS);
    impl->getVariableValues(impl->getContext(), values);
    for (double value : values) {
        if (!std::isfinite(value))
            checkVariables();
        variables.push_back(value);
    }
    bool record = isRecorded(step, frameStride);
    if (record || (step + 1) % NAN_CHECK_INTERVAL == 0) {
        impl->getContext().getPositions(positions);
        for (const Vec3& p : positions)
            if (!std::isfinite(p[0] + p[1] + p[2]))
                failNaN("a position");
        if (record)
            recordFrame(step);
    }
    if (record || (energyStride > 0 && isRecorded(step, energyStride)))
        recordEnergy(step, record);
}

void PathSampler::recordEnergy(int step, bool isFrame) {
    vector<double>& bias = nextEta;
    impl->getVariables().computeStatistic(values, statistic);
    impl->getCurve().evaluate(currentS, bias);
    double biasEnergy = -context->getParameter(SpacetimeForce::KT()) * dot(bias, statistic);
    double energy = impl->getContext().calcForcesAndEnergy(false, true) - biasEnergy;
    numEnergyEvaluations++;
    if (!std::isfinite(energy))
        failNaN("the potential energy");
    if (energyStride > 0 && isRecorded(step, energyStride)) {
        energySteps.push_back(step);
        potentialEnergy.push_back(energy);
    }
    if (isFrame) {
        frameEnergy.push_back(energy);
        frameBias.push_back(biasEnergy);
    }
}

void PathSampler::recordFrame(int step) {
    frameSteps.push_back(step);
    for (const Vec3& p : positions)
        for (int k = 0; k < 3; k++)
            frames.push_back(static_cast<float>(p[k]));
    Vec3 box[3];
    impl->getContext().getPeriodicBoxVectors(box[0], box[1], box[2]);
    for (const Vec3& v : box)
        for (int k = 0; k < 3; k++)
            boxVectors.push_back(v[k]);
}

void PathSampler::clearFrames() {
    frameSteps.clear();
    frames.clear();
    boxVectors.clear();
    frameEnergy.clear();
    frameBias.clear();
}

void PathSampler::checkVariables() {
    impl->getVariableValues(impl->getContext(), values);
    for (int i = 0; i < numVariables; i++)
        if (!std::isfinite(values[i]))
            failNaN("the variable \"" + impl->getVariables()[i].name + "\"");
}

void PathSampler::failNaN(const string& what) const {
    std::stringstream message;
    message << "PathSampler: " << what << " is not a finite number ";
    if (stepsDone == 0)
        message << "at the start of the path; set finite positions before";
    else
        message << "after step " << stepsDone << " of " << getNumStepsTotal() << " (s = " << context->getParameter(force.getParameterName())
                << "). Minimise and equilibrate the starting state, use a shorter time step, more steps along the curve, or a curve whose ends are less sharp";
    throw OpenMMException(message.str());
}

}  // namespace SpacetimePlugin
