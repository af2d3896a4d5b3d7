// SPDX-License-Identifier: MIT
#pragma once

#include "spacetime/Text.h"
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>

namespace Spacetime {

/// A JSON document from outside. Throws std::invalid_argument where it is none, or nested more deeply than any of ours:
/// the library copies and prints by recursion, so that a few hundred kilobytes of brackets would overflow the stack.
nlohmann::json parseJson(const std::string& text);

/// What `body` returns. What it says against a file becomes std::invalid_argument that begins with `prefix`, in a form that is fit for a terminal.
template <class Body>
auto withPrefix(const std::string& prefix, Body body) -> decltype(body()) {
    try {
        return body();
    }
    catch (const nlohmann::json::exception& e) {
        throw std::invalid_argument(printable(prefix + e.what()));
    }
    catch (const std::invalid_argument& e) {
        throw std::invalid_argument(printable(prefix + e.what()));
    }
}

}  // namespace Spacetime
