// SPDX-License-Identifier: MIT
#pragma once

#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace Spacetime {

/// A number as it should stand in a message: six significant digits, whatever the locale.
inline std::string text(double value) {
    std::ostringstream out;
    out.imbue(std::locale::classic());
    out << value;
    return out.str();
}

/// Text from outside as it may stand in a message: control characters, and bytes that are no UTF-8, in hexadecimal; at most 2,000 bytes of it.
std::string printable(const std::string& message);

/// Whether the bytes are UTF-8, as JSON and Python want their text.
bool isUtf8(const std::string& text);

template <class Vector>
std::string textList(const Vector& values) {
    // A picture has thousands of values: an error shows the first.
    const long all = static_cast<long>(values.size()), shown = all > 16 ? 8 : all;
    std::string result;
    for (long i = 0; i < shown; i++)
        result += (i ? ", " : "") + text(values[i]);
    return "(" + result + (shown < all ? ", ... " + std::to_string(all) + " values)" : ")");
}

inline std::vector<std::string> split(const std::string& s, char separator) {
    std::vector<std::string> parts;
    std::istringstream in(s);
    for (std::string part; std::getline(in, part, separator);)
        parts.push_back(part);
    return parts;
}

/// A number out of a word, whatever the locale. Throws std::invalid_argument when the word is not exactly one number.
inline double parseNumber(const std::string& word, const std::string& what) {
    std::istringstream in(word);
    in.imbue(std::locale::classic());
    double value;
    if (!(in >> value) || !(in >> std::ws).eof())
        throw std::invalid_argument(what + ": expected a number, got '" + printable(word) + "'");
    return value;
}

inline std::vector<double> parseNumbers(const std::string& words, const std::string& what) {
    std::vector<double> values;
    for (const std::string& word : split(words, ','))
        values.push_back(parseNumber(word, what));
    return values;
}

}  // namespace Spacetime
