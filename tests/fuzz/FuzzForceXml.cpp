// SPDX-License-Identifier: MIT
#include "Fuzz.h"
#include "openmm/OpenMMException.h"
#include "openmm/serialization/XmlSerializer.h"
#include "openmmspacetime/SpacetimeForce.h"
#include <memory>
#include <sstream>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, size_t size) {
    return fuzz([&] {
        // OpenMM trusts the caller that the object is of the type that the root names, so that the root is ours.
        const std::string rest(reinterpret_cast<const char*>(data), size);
        if (rest.find("type=") != std::string::npos)
            return;
        std::istringstream in("<?xml version=\"1.0\" ?>\n<Force type=\"SpacetimeForce\" " + rest);
        try {
            const std::unique_ptr<SpacetimePlugin::SpacetimeForce> force(OpenMM::XmlSerializer::deserialize<SpacetimePlugin::SpacetimeForce>(in));
            std::ostringstream out;
            OpenMM::XmlSerializer::serialize(force.get(), "Force", out);
        }
        catch (const OpenMM::OpenMMException&) {  // of which OpenMM's own parser throws as well
        }
    });
}
