// SPDX-License-Identifier: MIT
#pragma once

#include "openmm/serialization/SerializationProxy.h"

namespace SpacetimePlugin {

/**
 * Writes a SpacetimeForce to XML and reads it back, curve included: nothing refers to another file.
 *
 * OpenMM writes numbers so that they read back to the last bit, so copies of a System are exact. Version 1; newer versions are refused.
 */
class SpacetimeForceProxy : public OpenMM::SerializationProxy {
public:
    SpacetimeForceProxy();
    void serialize(const void* object, OpenMM::SerializationNode& node) const override;
    void* deserialize(const OpenMM::SerializationNode& node) const override;
};

}  // namespace SpacetimePlugin
