// SPDX-License-Identifier: MIT
#include "Fuzz.h"
#include "Xml.h"
#include "openmmspacetime/SpacetimeForce.h"

/// The XML of a force, read as `spacetime sample` reads a System, whose parts OpenMM makes in the same way.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, size_t size) {
    return fuzz([&] {
        const std::string text(reinterpret_cast<const char*>(data), size);
        const auto force = Spacetime::readXml<SpacetimePlugin::SpacetimeForce>(text, "SpacetimeForce", "system", "a file");
        std::ostringstream out;
        OpenMM::XmlSerializer::serialize(force.get(), "Force", out);
    });
}
