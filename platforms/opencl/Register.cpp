// SPDX-License-Identifier: MIT
#include "CommonSpacetimeKernelFactory.h"
#include "OpenCLContext.h"
#include "OpenCLPlatform.h"

extern "C" void registerPlatforms() {}

extern "C" void registerKernelFactories() { SpacetimePlugin::CommonSpacetimeKernelFactory<OpenMM::OpenCLPlatform>::registerWith("OpenCL"); }
