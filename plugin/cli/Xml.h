// SPDX-License-Identifier: MIT
#pragma once

#include "OpenMM.h"
#include "openmm/serialization/XmlSerializer.h"
#include "spacetime/Text.h"
#include <algorithm>
#include <memory>
#include <sstream>
#include <string>

namespace Spacetime {

/// The object that an XML file holds, wrapped so that `kind`, the end of its type, is looked at where OpenMM uses it: OpenMM takes the object of whatever type a
/// file names for the one that is asked for.
class XmlEnvelope {
public:
    explicit XmlEnvelope(const std::string& kind);
    /// What the envelope makes of the text of a file. Throws std::invalid_argument where that is not XML as OpenMM writes it: elements with attributes in quotes,
    /// balanced, at most 64 levels deep, without text between them. OpenMM's parser, which trusts its input, reads beyond the end of some others.
    std::string wrapped(const std::string& text) const;
    /// The type that came where it is another, "" where it was the right one.
    const std::string& found() const;
};

/// Throws std::invalid_argument where the text is no XML of a `kind` ("System", "State", "Integrator", ...), naming the option and the file.
template <class T>
std::unique_ptr<T> readXml(const std::string& text, const std::string& kind, const std::string& option, const std::string& file) {
    const XmlEnvelope envelope(kind);
    try {
        std::istringstream in(envelope.wrapped(text));
        return std::unique_ptr<T>(OpenMM::XmlSerializer::deserialize<T>(in));
    }
    catch (const std::exception& e) {
        if (!envelope.found().empty())
            throw std::invalid_argument(printable("--" + option + ": expected the XML of " + kind + " in '" + file + "', found " + envelope.found()));
        std::string reason;  // on one line
        for (const std::string& word : split(e.what(), '\n'))
            reason += (reason.empty() ? "" : " ") + word.substr(std::min(word.size(), word.find_first_not_of(" \t")));
        throw std::invalid_argument(printable("--" + option + ": '" + file + "' cannot be read: " + reason));
    }
}

}  // namespace Spacetime
