// SPDX-License-Identifier: MIT
#include "spacetime/Json.h"

using nlohmann::json;

namespace Spacetime {

namespace {

const int MaxDepth = 64;

}  // namespace

json parseJson(const std::string& text) {
    int depth = 0;
    bool inString = false;
    for (size_t i = 0; i < text.size(); i++) {
        const char c = text[i];
        if (c == '"')
            inString = !inString;
        else if (inString)
            i += c == '\\';
        else if (c == '[' || c == '{') {
            if (++depth > MaxDepth)
                throw std::invalid_argument("not a file of ours: its JSON is nested more than " + std::to_string(MaxDepth) + " levels deep");
        }
        else if (c == ']' || c == '}')
            depth--;
    }
    try {
        return json::parse(text);
    }
    catch (const json::exception& e) {
        throw std::invalid_argument(printable(std::string("not JSON: ") + e.what()));
    }
}

}  // namespace Spacetime
