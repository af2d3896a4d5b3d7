// SPDX-License-Identifier: MIT
#include "CommonSpacetimeKernels.h"
#include "CommonSpacetimeKernelSources.h"
#include "openmm/common/ContextSelector.h"
#include "openmm/internal/ContextImpl.h"
#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <mutex>

using namespace OpenMM;
using std::string;
using std::vector;

namespace SpacetimePlugin {

// As in spacetimeForce.cc.
static const int FRAME_SIZE = 21, FRAME_FORCE_SIZE = 6;
static const int INCLUDE_FORCES = 1, INCLUDE_ENERGY = 2, INCLUDE_DERIVATIVES = 4, INCLUDE_VALUES = 8;

/**
 * Keeps the particles of each walker together when OpenMM wraps molecules into the box. Where the force is evaluated in a Context of its own, as by
 * CustomCVForce, wrapped positions are all there is.
 */
class CommonCalcSpacetimeForceKernel::ForceInfo : public ComputeForceInfo {  // NOLINT(cppcoreguidelines-virtual-class-destructor)
public:
    explicit ForceInfo(const VariableSet& variables) : variables(variables) {}
    int getNumParticleGroups() override { return static_cast<int>(variables.getWalkers().size()); }
    void getParticlesInGroup(int index, vector<int>& particles) override {
        particles.clear();
        for (const VariableSet::Entry& entry : variables.getEntries())
            particles.push_back(entry.particle + variables.getWalkers()[index].offset);
    }

private:
    const VariableSet& variables;
};

void CommonCalcSpacetimeForceKernel::initializeReals(ComputeArray& array, size_t size, const string& name, int components) {
    array.initialize(cc, std::max<size_t>(size, 1), components * (cc.getUseDoublePrecision() ? sizeof(double) : sizeof(float)), name);
}

void CommonCalcSpacetimeForceKernel::uploadReals(ComputeArray& array, const vector<double>& contents) {
    if (contents.empty())
        return;
    if (cc.getUseDoublePrecision())
        array.upload(static_cast<const void*>(contents.data()));
    else {
        vector<float> converted(contents.begin(), contents.end());
        array.upload(static_cast<const void*>(converted.data()));
    }
}

template <class T>
void CommonCalcSpacetimeForceKernel::initializeWith(ComputeArray& array, vector<T> contents, const string& name) {
    // Kernels take every array as an argument, and an array must not be empty.
    if (contents.empty())
        contents.resize(1);
    array.initialize<T>(cc, contents.size(), name);
    array.upload(contents);
}

void CommonCalcSpacetimeForceKernel::initialize(const System& system, const SpacetimeForce& force) {
    ContextSelector selector(cc);
    variables = VariableSet(force);
    parameterName = force.getParameterName();
    usePeriodic = force.usesPeriodicBoundaryConditions();
    numWalkers = static_cast<int>(variables.getWalkers().size());
    size_t numVariables = variables.size(), numNodes = force.getS().size(), m = variables.getNumStatistics(), numEntries = variables.getEntries().size();
    cc.addForce(new ForceInfo(variables));
    cc.addEnergyParameterDerivative(parameterName);
    cc.addEnergyParameterDerivative(SpacetimeForce::KT());

    // The curve and the variables.

    initializeReals(nodes, numNodes, "spacetimeNodes");
    initializeReals(curveValues, numNodes * m, "spacetimeCurve");
    initializeReals(slopes, numNodes * m, "spacetimeSlopes");
    initializeReals(walkers, numWalkers, "spacetimeWalkers", 2);
    initializeReals(eta, numWalkers * m, "spacetimeEta");
    initializeReals(etaDerivative, numWalkers * m, "spacetimeEtaDerivative");
    initializeReals(scales, numVariables, "spacetimeScales", 4);
    initializeReals(values, numWalkers * numVariables, "spacetimeValues");
    vector<mm_int4> typeContents, siteContents;
    for (int i = 0; i < variables.size(); i++) {
        const VariableSet::Variable& v = variables[i];
        typeContents.push_back(mm_int4(v.type, v.offset, v.axis, v.isInFrame ? -1 - v.frame : v.frame));
        vector<int> s = v.sites;
        s.resize(4, 0);
        siteContents.push_back(mm_int4(s[0], s[1], s[2], s[3]));
    }
    initializeWith(types, typeContents, "spacetimeTypes");
    initializeWith(sites, siteContents, "spacetimeSites");
    entries.initialize<mm_int4>(cc, numWalkers * numEntries, "spacetimeEntries");

    // Centroids. Weights are numbered like entries, and those of single sites not used.

    vector<mm_int2> ranges;
    vector<int> owners(numEntries, 0);
    vector<double> w(variables.getNumSingleSites(), 1.0);
    for (const VariableSet::Centroid& c : variables.getCentroids()) {
        int last = c.first + static_cast<int>(c.weights.size());
        std::fill(owners.begin() + c.first, owners.begin() + last, static_cast<int>(ranges.size()));
        ranges.push_back(mm_int2(c.first, last));
        w.insert(w.end(), c.weights.begin(), c.weights.end());
    }
    numMembers = static_cast<int>(numEntries) - variables.getNumSingleSites();
    size_t numCentroids = numWalkers * ranges.size();
    initializeWith(centroidRanges, ranges, "spacetimeCentroidRanges");
    initializeWith(centroidOfEntry, owners, "spacetimeCentroidOfEntry");
    initializeReals(weights, w.size(), "spacetimeWeights");
    uploadReals(weights, w);
    initializeReals(centroids, numCentroids, "spacetimeCentroids", 4);
    centroidForces.initialize<long long>(cc, std::max<size_t>(3 * numCentroids, 1), "spacetimeCentroidForces");

    // Frames.

    ranges.clear();
    vector<int> siteList;
    vector<double> positions;
    for (const VariableSet::Frame& f : variables.getFrames()) {
        ranges.push_back(mm_int2(static_cast<int>(siteList.size()), static_cast<int>(siteList.size() + f.sites.size())));
        siteList.insert(siteList.end(), f.sites.begin(), f.sites.end());
        for (size_t i = 0; i < f.sites.size(); i++)
            positions.insert(positions.end(), {f.reference[i][0], f.reference[i][1], f.reference[i][2], f.weights[i]});
    }
    size_t numFrames = numWalkers * ranges.size();
    initializeWith(frameRanges, ranges, "spacetimeFrameRanges");
    initializeReals(reference, siteList.size(), "spacetimeReference", 4);
    uploadReals(reference, positions);
    initializeWith(frameSites, siteList, "spacetimeFrameSites");
    initializeReals(frames, numFrames * FRAME_SIZE, "spacetimeFrames");
    frameForces.initialize<long long>(cc, std::max<size_t>(numFrames * FRAME_FORCE_SIZE, 1), "spacetimeFrameForces");
    uploadParameters(force);
}

void CommonCalcSpacetimeForceKernel::uploadParameters(const SpacetimeForce& force) {
    const CurveInterpolant& curve = force.getInterpolant();
    uploadReals(nodes, curve.getNodes());
    uploadReals(curveValues, curve.getValues());
    uploadReals(slopes, curve.getSlopes());
    vector<double> contents;
    for (const VariableSet::Walker& w : variables.getWalkers())
        contents.insert(contents.end(), {w.intercept, w.slope});
    uploadReals(walkers, contents);
    contents.clear();
    for (int i = 0; i < variables.size(); i++) {
        const VariableSet::Variable& v = variables[i];
        double last = (v.type == SpacetimeForce::Position ? variables.getFrames()[v.frame].center[v.axis] : v.period);
        contents.insert(contents.end(), {v.shift, 1 / v.scale, v.isLifted() ? 2 * M_PI / v.period : 0.0, last});
    }
    uploadReals(scales, contents);
    lastS = -1;
}

void CommonCalcSpacetimeForceKernel::copyParametersToContext(ContextImpl& context, const SpacetimeForce& force) {
    ContextSelector selector(cc);
    if (force.getS().size() != nodes.getSize()) {
        nodes.resize(force.getS().size());
        curveValues.resize(force.getEta().size());
        slopes.resize(force.getEta().size());
        hasKernels = false;  // they hold the old arrays
    }
    variables = VariableSet(force);
    uploadParameters(force);
}

// Several forces of one Context share a program, as compiling takes long.
static ComputeProgram compile(ComputeContext& cc, const std::map<string, string>& defines) {
    static std::mutex lock;
    static std::map<std::pair<ComputeContext*, std::map<string, string>>, std::weak_ptr<ComputeProgramImpl>> programs;
    std::lock_guard<std::mutex> guard(lock);
    std::weak_ptr<ComputeProgramImpl>& known = programs[{&cc, defines}];
    ComputeProgram program = known.lock();
    if (!program)
        known = program = cc.compileProgram(CommonSpacetimeKernelSources::spacetimeForce, defines);
    return program;
}

void CommonCalcSpacetimeForceKernel::createKernels() {
    hasKernels = true;
    blockSize = std::min(64, cc.getMaxThreadBlockSize());
    std::map<string, string> defines;
    defines["PADDED_NUM_ATOMS"] = cc.intToString(cc.getPaddedNumAtoms());
    defines["THREAD_BLOCK_SIZE"] = cc.intToString(blockSize);
    if (usePeriodic)
        defines["USE_PERIODIC"] = "1";
    program = compile(cc, defines);
    int numVariables = variables.size(), m = variables.getNumStatistics(), numEntries = static_cast<int>(variables.getEntries().size());
    int numCentroids = static_cast<int>(variables.getCentroids().size()), numFrames = static_cast<int>(variables.getFrames().size());
    int numSingleSites = variables.getNumSingleSites(), numArgs = 0;
    ComputeKernel kernel;
    auto start = [&](const char* name) {
        kernel = program->createKernel(name);
        numArgs = 0;
        return kernel;
    };
    auto add = [&](auto&&... args) {
        (kernel->addArg(args), ...);
        numArgs += sizeof...(args);
    };
    auto addEmpty = [&](int count) {
        for (int i = 0; i < count; i++)
            kernel->addArg();
        numArgs += count;
        return numArgs - count;
    };

    curveKernel = start("evaluateCurve");
    addEmpty(1);
    add(static_cast<int>(nodes.getSize()), m, numWalkers, nodes, curveValues, slopes, walkers, eta, etaDerivative);

    variableKernel = start("computeVariables");
    addEmpty(2);
    add(numWalkers, numVariables, m, numEntries, numCentroids, numFrames, numSingleSites, types, sites, scales, entries, centroids, frames, eta, etaDerivative, values,
        centroidForces, frameForces, cc.getLongForceBuffer(), cc.getEnergyBuffer(), cc.getEnergyParamDerivBuffer());
    const vector<string>& names = cc.getEnergyParamDerivNames();
    auto indexOf = [&](const string& name) { return static_cast<int>(std::find(names.begin(), names.end(), name) - names.begin()); };
    add(static_cast<int>(names.size()), indexOf(parameterName), indexOf(SpacetimeForce::KT()), cc.getPosq());
    variableBox = addEmpty(5);

    if (numCentroids > 0) {
        centroidKernel = start("computeCentroids");
        add(numWalkers, numCentroids, numEntries, entries, centroidRanges, weights, centroids, centroidForces, cc.getPosq());
        centroidBox = addEmpty(5);
        centroidForceKernel = start("applyCentroidForces");
        add(numWalkers, numCentroids, numEntries, numSingleSites, entries, centroidOfEntry, weights, centroidForces, cc.getLongForceBuffer());
    }
    if (numFrames > 0) {
        frameKernel = start("computeFrames");
        add(numWalkers, numFrames, numEntries, numCentroids, numSingleSites, entries, centroids, frameRanges, frameSites, reference, frames, frameForces, cc.getPosq());
        frameBox = addEmpty(5);
        frameForceKernel = start("applyFrameForces");
        add(numWalkers, numFrames, numEntries, numCentroids, numSingleSites, entries, frameRanges, frameSites, reference, frames, frameForces, centroidForces,
            cc.getLongForceBuffer());
    }
    lastS = -1;
    placed.clear();
}

void CommonCalcSpacetimeForceKernel::setReal(ComputeKernel& kernel, int index, double value) {
    // Arguments are copied by size, so a double must not be passed for a float.
    if (cc.getUseDoublePrecision())
        kernel->setArg(index, value);
    else
        kernel->setArg(index, static_cast<float>(value));
}

void CommonCalcSpacetimeForceKernel::setBox(ComputeKernel& kernel, int firstArg) {
    Vec3 a, b, c;
    cc.getPeriodicBoxVectors(a, b, c);
    const Vec3 rows[] = {Vec3(a[0], b[1], c[2]), Vec3(1 / a[0], 1 / b[1], 1 / c[2]), a, b, c};
    for (int i = 0; i < 5; i++) {
        if (cc.getUseDoublePrecision())
            kernel->setArg(firstArg + i, mm_double4(rows[i][0], rows[i][1], rows[i][2], 0));
        else
            kernel->setArg(firstArg + i, mm_float4(static_cast<float>(rows[i][0]), static_cast<float>(rows[i][1]), static_cast<float>(rows[i][2]), 0.0f));
    }
}

void CommonCalcSpacetimeForceKernel::followReordering() {
    // Looked at each time instead of by a listener: setting positions, a rejected move of a barostat and a checkpoint change offsets without telling.
    if (!placed.empty() && !cc.getNonbondedUtilities().getUseCutoff())
        return;
    const vector<int>& order = cc.getAtomIndex();
    const vector<mm_int4>& cells = cc.getPosCellOffsets();
    const vector<VariableSet::Entry>& all = variables.getEntries();
    auto offsetOf = [&](const VariableSet::Entry& entry, int index, int first) {
        // Most variables depend on relative places alone: counting boxes from the walker's first particle keeps numbers small, which single precision needs.
        mm_int4 c = cells[index], c0 = (entry.isAbsolute ? mm_int4(0, 0, 0, 0) : cells[first]);
        return mm_int4(index, c.x - c0.x, c.y - c0.y, c.z - c0.z);
    };
    bool isCurrent = !placed.empty();
    for (int k = 0; k < numWalkers && isCurrent; k++) {
        const mm_int4* own = &placed[k * all.size()];
        for (size_t i = 0; i < all.size() && isCurrent; i++) {
            mm_int4 now = offsetOf(all[i], own[i].x, own[0].x);
            isCurrent = (order[own[i].x] == all[i].particle + variables.getWalkers()[k].offset && now.y == own[i].y && now.z == own[i].z && now.w == own[i].w);
        }
    }
    if (isCurrent)
        return;
    vector<int> place(order.size());
    for (size_t i = 0; i < order.size(); i++)
        place[order[i]] = static_cast<int>(i);
    placed.clear();
    for (const VariableSet::Walker& walker : variables.getWalkers())
        for (const VariableSet::Entry& entry : all)
            placed.push_back(offsetOf(entry, place[entry.particle + walker.offset], place[all[0].particle + walker.offset]));
    entries.upload(placed);
}

void CommonCalcSpacetimeForceKernel::moveTo(double s) {
    if (s == lastS)
        return;
    setReal(curveKernel, 0, s);
    curveKernel->execute(numWalkers * variables.getNumStatistics());
    lastS = s;
}

void CommonCalcSpacetimeForceKernel::evaluate(ContextImpl& context, int include) {
    // Buffers of derivatives exist only after all forces have been initialised, so kernels are created when they are first needed.
    if (!hasKernels)
        createKernels();
    followReordering();
    moveTo(checkS(context.getParameter(parameterName), parameterName));
    int numCentroids = static_cast<int>(variables.getCentroids().size()), numFrames = static_cast<int>(variables.getFrames().size());
    if (numCentroids > 0) {
        setBox(centroidKernel, centroidBox);
        centroidKernel->execute(numWalkers * numCentroids * blockSize, blockSize);
    }
    if (numFrames > 0) {
        setBox(frameKernel, frameBox);
        frameKernel->execute(numWalkers * numFrames * blockSize, blockSize);
    }
    variableKernel->setArg(0, include);
    setReal(variableKernel, 1, context.getParameter(SpacetimeForce::KT()));
    setBox(variableKernel, variableBox);
    variableKernel->execute(numWalkers * variables.size());
    if ((include & INCLUDE_FORCES) == 0)
        return;
    if (numFrames > 0)
        frameForceKernel->execute(numWalkers * numFrames * blockSize, blockSize);
    if (numCentroids > 0)
        centroidForceKernel->execute(numWalkers * numMembers);
}

double CommonCalcSpacetimeForceKernel::execute(ContextImpl& context, bool includeForces, bool includeEnergy) {
    ContextSelector selector(cc);
    evaluate(context, (includeForces ? INCLUDE_FORCES : 0) + (includeEnergy ? INCLUDE_ENERGY : 0) + INCLUDE_DERIVATIVES);
    return 0.0;
}

void CommonCalcSpacetimeForceKernel::getVariableValues(ContextImpl& context, vector<double>& result) {
    ContextSelector selector(cc);
    evaluate(context, INCLUDE_VALUES);
    if (cc.getUseDoublePrecision())
        values.download(result);
    else {
        vector<float> single;
        values.download(single);
        result.assign(single.begin(), single.end());
    }
}

}  // namespace SpacetimePlugin
