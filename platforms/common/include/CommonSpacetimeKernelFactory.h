// SPDX-License-Identifier: MIT
#pragma once

#include "CommonSpacetimeKernels.h"
#include "openmm/KernelFactory.h"
#include "openmm/OpenMMException.h"
#include "openmm/internal/ContextImpl.h"

namespace SpacetimePlugin {

/// Makes SpacetimeForce known to one of OpenMM's platforms for GPUs, whose PlatformData holds a ComputeContext for each device.
template <class PlatformClass>
class CommonSpacetimeKernelFactory : public OpenMM::KernelFactory {
public:
    OpenMM::KernelImpl* createKernelImpl(std::string name, const OpenMM::Platform& platform, OpenMM::ContextImpl& context) const override {
        if (name != CalcSpacetimeForceKernel::Name())
            throw OpenMM::OpenMMException("CommonSpacetimeKernelFactory: expected the kernel name " + CalcSpacetimeForceKernel::Name() + ", but got " + name);
        auto& data = *static_cast<typename PlatformClass::PlatformData*>(context.getPlatformData());
        return new CommonCalcSpacetimeForceKernel(name, platform, *data.contexts[0]);
    }

    /// Register with the platform of this name, if OpenMM has it.
    static void registerWith(const std::string& platform) {
        for (int i = 0; i < OpenMM::Platform::getNumPlatforms(); i++)
            if (OpenMM::Platform::getPlatform(i).getName() == platform)
                OpenMM::Platform::getPlatform(i).registerKernelFactory(CalcSpacetimeForceKernel::Name(), new CommonSpacetimeKernelFactory());
    }
};

}  // namespace SpacetimePlugin
