// SPDX-License-Identifier: MIT
#pragma once

#include "openmm/common/ComputeArray.h"
#include "openmm/common/ComputeContext.h"
#include "openmm/common/ComputeKernel.h"
#include "openmm/common/ComputeProgram.h"
#include "openmm/common/ComputeVectorTypes.h"
#include "openmmspacetime/SpacetimeForceKernels.h"
#include "openmmspacetime/internal/VariableSet.h"

namespace SpacetimePlugin {

/**
 * SpacetimeForce for the platforms built on OpenMM's common compute framework: CUDA, OpenCL, HIP.
 *
 * A step launches kernels and waits for nothing. Energy and its derivatives are added to the buffers that OpenMM sums up when somebody asks.
 */
class CommonCalcSpacetimeForceKernel : public CalcSpacetimeForceKernel {
public:
    CommonCalcSpacetimeForceKernel(const std::string& name, const OpenMM::Platform& platform, OpenMM::ComputeContext& cc) : CalcSpacetimeForceKernel(name, platform), cc(cc) {}
    void initialize(const OpenMM::System& system, const SpacetimeForce& force) override;
    double execute(OpenMM::ContextImpl& context, bool includeForces, bool includeEnergy) override;
    void getVariableValues(OpenMM::ContextImpl& context, std::vector<double>& values) override;
    void copyParametersToContext(OpenMM::ContextImpl& context, const SpacetimeForce& force) override;

private:
    class ForceInfo;  // NOLINT(cppcoreguidelines-virtual-class-destructor): its base is OpenMM's
    void initializeReals(OpenMM::ComputeArray& array, size_t size, const std::string& name, int components = 1);
    void uploadReals(OpenMM::ComputeArray& array, const std::vector<double>& contents);
    template <class T>
    void initializeWith(OpenMM::ComputeArray& array, std::vector<T> contents, const std::string& name);
    void uploadParameters(const SpacetimeForce& force);
    void createKernels();
    void setBox(OpenMM::ComputeKernel& kernel, int firstArg);
    void setReal(OpenMM::ComputeKernel& kernel, int index, double value);
    void followReordering();
    void moveTo(double s);
    void evaluate(OpenMM::ContextImpl& context, int include);

    OpenMM::ComputeContext& cc;
    VariableSet variables;
    std::string parameterName;
    bool usePeriodic = false, hasKernels = false;
    int numWalkers = 0, blockSize = 0, numMembers = 0;
    double lastS = -1;
    std::vector<OpenMM::mm_int4> placed;  // where each entry of each walker is: index in the device's order, offset in boxes
    OpenMM::ComputeArray nodes, curveValues, slopes, walkers, eta, etaDerivative;
    OpenMM::ComputeArray types, sites, scales, entries, values;
    OpenMM::ComputeArray centroidRanges, weights, centroidOfEntry, centroids, centroidForces;
    OpenMM::ComputeArray frameRanges, frameSites, reference, frames, frameForces;
    OpenMM::ComputeProgram program;
    OpenMM::ComputeKernel curveKernel, centroidKernel, frameKernel, variableKernel, frameForceKernel, centroidForceKernel;
    // Where the five arguments of the periodic box start, which are the last ones.
    int centroidBox = 0, frameBox = 0, variableBox = 0;
};

}  // namespace SpacetimePlugin
