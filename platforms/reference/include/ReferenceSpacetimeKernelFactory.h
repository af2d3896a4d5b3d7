// SPDX-License-Identifier: MIT
#pragma once

#include "openmm/KernelFactory.h"

namespace SpacetimePlugin {

class ReferenceSpacetimeKernelFactory : public OpenMM::KernelFactory {
public:
    OpenMM::KernelImpl* createKernelImpl(std::string name, const OpenMM::Platform& platform, OpenMM::ContextImpl& context) const override;
};

}  // namespace SpacetimePlugin

/// For programs that link to this library instead of loading it as a plugin. Loading it as a plugin calls registerKernelFactories().
extern "C" void registerSpacetimeReferenceKernelFactories();
