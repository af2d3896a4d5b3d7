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
        throw OpenMMException(string("PathSampler: ")+what+" must be "+std::to_string(least)+" or more, but it is "+std::to_string(value));
}

PathSampler::PathSampler(const SpacetimeForce& force, int numSteps) : force(force) {
    setNumSteps(numSteps);
}

void PathSampler::setNumSteps(int steps) {
    checkAtLeast(steps, 1, "the number of steps");
    numSteps = steps;
}

void PathSampler::setStepsPerMove(int steps) {
    checkAtLeast(steps, 1, "the number of steps per move");
    stepsPerMove = steps;
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
    if (numSteps%stepsPerMove != 0)
        throw OpenMMException("PathSampler: the number of steps must be a multiple of the steps per move, but "+std::to_string(numSteps)+" steps are not a multiple of "+
                              std::to_string(stepsPerMove));
    impl = &force.getImpl(context);
    if (impl->getVariables().getWalkers().size() > 1)
        throw OpenMMException("PathSampler: it drives one walker, but the SpacetimeForce has "+std::to_string(impl->getVariables().getWalkers().size())+
                              "; move the Context parameter in a loop of your own and read getVariableValues()");
    this->context = &context;
    numMoves = numSteps/stepsPerMove;
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
    variables.reserve(static_cast<size_t>(numSteps)*numVariables);
    workProfile.reserve(numMoves);
    work = 0;
    numEnergyEvaluations = numGradientEvaluations = 0;
    firstForceEvaluation = impl->getNumForceEvaluations();
    context.setParameter(force.getParameterName(), 0.0);
    impl->getCurve().evaluate(0.0, eta);
    checkVariables();
}

bool PathSampler::advance(int maxSteps) {
    if (context == nullptr)
        throw OpenMMException("PathSampler: call begin() before advance()");
    checkAtLeast(maxSteps, 1, "the number of steps to advance");
    Integrator& integrator = context->getIntegrator();
    long long total = getNumStepsTotal(), last = std::min(total, stepsDone+maxSteps), curveEnd = static_cast<long long>(numEquilibrationSteps)+numSteps;
    while (stepsDone < last) {
        if (stepsDone < numEquilibrationSteps || stepsDone >= curveEnd) {
            // Nothing is recorded at the ends, so the integrator can run on its own for a while.
            long long end = std::min(last, stepsDone < numEquilibrationSteps ? static_cast<long long>(numEquilibrationSteps) : total);
            int chunk = static_cast<int>(std::min<long long>(end-stepsDone, NAN_CHECK_INTERVAL));
            integrator.step(chunk);
            stepsDone += chunk;
            checkVariables();
            continue;
        }
        if ((stepsDone-numEquilibrationSteps)%stepsPerMove == 0)
            move();
        integrator.step(1);
        stepsDone++;
        recordStep();
    }
    numGradientEvaluations = impl->getNumForceEvaluations()-firstForceEvaluation;
    if (stepsDone < total)
        return true;
    finalVariables = values;
    context = nullptr;
    return false;
}

void PathSampler::move() {
    movesDone++;
    double next = (movesDone == numMoves ? 1.0 : static_cast<double>(movesDone)/numMoves);
    impl->getVariables().computeStatistic(values, statistic);
    impl->getCurve().evaluate(next, nextEta);
    double change = 0;
    for (size_t i = 0; i < eta.size(); i++)
        change += (nextEta[i]-eta[i])*statistic[i];
    work -= context->getParameter(SpacetimeForce::KT())*change;
    workProfile.push_back(work);
    eta.swap(nextEta);
    context->setParameter(force.getParameterName(), next);
}

bool PathSampler::isRecorded(int step, int stride) const {
    return step == numSteps-1 || (stride > 0 && (step+1)%stride == 0);
}

void PathSampler::recordStep() {
    int step = static_cast<int>(s.size());
    s.push_back(movesDone == numMoves ? 1.0 : static_cast<double>(movesDone)/numMoves);
    impl->getVariableValues(impl->getContext(), values);
    for (double value : values) {
        if (!std::isfinite(value))
            checkVariables();
        variables.push_back(value);
    }
    if (energyStride > 0 && isRecorded(step, energyStride))
        recordEnergy(step);
    bool record = isRecorded(step, frameStride);
    if (record || (step+1)%NAN_CHECK_INTERVAL == 0) {
        impl->getContext().getPositions(positions);
        for (const Vec3& p : positions)
            if (!std::isfinite(p[0]+p[1]+p[2]))
                failNaN("a position");
        if (record)
            recordFrame(step);
    }
}

void PathSampler::recordEnergy(int step) {
    vector<double>& bias = nextEta;
    impl->getVariables().computeStatistic(values, statistic);
    impl->getCurve().evaluate(s.back(), bias);
    double energy = impl->getContext().calcForcesAndEnergy(false, true)+context->getParameter(SpacetimeForce::KT())*dot(bias, statistic);
    numEnergyEvaluations++;
    if (!std::isfinite(energy))
        failNaN("the potential energy");
    energySteps.push_back(step);
    potentialEnergy.push_back(energy);
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
}

void PathSampler::checkVariables() {
    impl->getVariableValues(impl->getContext(), values);
    for (int i = 0; i < numVariables; i++)
        if (!std::isfinite(values[i]))
            failNaN("the variable \""+impl->getVariables()[i].name+"\"");
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
