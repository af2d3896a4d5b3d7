// SPDX-License-Identifier: MIT
#include "CommonSpacetimeKernelFactory.h"
#include "CudaContext.h"
#include "CudaPlatform.h"

extern "C" void registerPlatforms() {}

extern "C" void registerKernelFactories() { SpacetimePlugin::CommonSpacetimeKernelFactory<OpenMM::CudaPlatform>::registerWith("CUDA"); }
