// SPDX-License-Identifier: MIT
#include "ReferenceSpacetimeKernelFactory.h"
#include "ReferencePlatform.h"
#include "ReferenceSpacetimeKernels.h"
#include "openmm/OpenMMException.h"

using namespace OpenMM;

extern "C" void registerPlatforms() {}

// Every plugin exports registerKernelFactories(), so a call to it by that name may end in another plugin.
static void registerFactories() {
    for (int i = 0; i < Platform::getNumPlatforms(); i++) {
        Platform& platform = Platform::getPlatform(i);
        if (dynamic_cast<ReferencePlatform*>(&platform) != nullptr)
            platform.registerKernelFactory(SpacetimePlugin::CalcSpacetimeForceKernel::Name(), new SpacetimePlugin::ReferenceSpacetimeKernelFactory());
    }
}

extern "C" void registerKernelFactories() { registerFactories(); }

extern "C" void registerSpacetimeReferenceKernelFactories() { registerFactories(); }

namespace SpacetimePlugin {

KernelImpl* ReferenceSpacetimeKernelFactory::createKernelImpl(std::string name, const Platform& platform, ContextImpl& context) const {
    if (name == CalcSpacetimeForceKernel::Name())
        return new ReferenceCalcSpacetimeForceKernel(name, platform);
    throw OpenMMException("ReferenceSpacetimeKernelFactory: expected the kernel name " + CalcSpacetimeForceKernel::Name() + ", but got " + name);
}

}  // namespace SpacetimePlugin
