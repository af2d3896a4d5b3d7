// SPDX-License-Identifier: MIT
#pragma once

#include "spacetime/Text.h"
#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

namespace Spacetime {

/// A JSON document from outside. Throws std::invalid_argument where it is none, or nested more deeply than any of ours:
/// the library copies and prints by recursion, so that a few hundred kilobytes of brackets would overflow the stack.
nlohmann::json parseJson(const std::string& text);

/// The whole number that a value is. The library casts any number to an integer, those as well for which that is not defined.
/// Throws std::invalid_argument for anything but a whole number that T can hold.
template <class T>
T wholeNumber(const nlohmann::json& j) {
    static_assert(std::is_signed_v<T>, "negative numbers are compared as such");
    const bool fits = j.is_number_unsigned() ? j.get<std::uint64_t>() <= static_cast<std::uint64_t>(std::numeric_limits<T>::max())
                                             : j.is_number_integer() && j.get<std::int64_t>() >= std::numeric_limits<T>::min();
    if (!fits)
        throw std::invalid_argument("expected a whole number, got " + printable(j.dump()));
    return j.get<T>();
}

/// A list of them.
template <class T>
std::vector<T> wholeNumbers(const nlohmann::json& j) {
    if (!j.is_array())
        throw std::invalid_argument("expected a list of whole numbers, got " + printable(j.dump()));
    std::vector<T> numbers;
    for (const nlohmann::json& item : j)
        numbers.push_back(wholeNumber<T>(item));
    return numbers;
}

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
