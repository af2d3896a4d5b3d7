// SPDX-License-Identifier: MIT
#include "CommonSpacetimeKernelFactory.h"
#include "HipContext.h"
#include "HipPlatform.h"

extern "C" void registerPlatforms() {}

extern "C" void registerKernelFactories() { SpacetimePlugin::CommonSpacetimeKernelFactory<OpenMM::HipPlatform>::registerWith("HIP"); }
