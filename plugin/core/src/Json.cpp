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

std::string printable(const std::string& message) {
    const size_t most = 2000;
    // Bytes beyond ASCII are shown as they are where together they are UTF-8.
    size_t end = std::min(message.size(), most);
    while (end < message.size() && end > 0 && (static_cast<unsigned char>(message[end]) & 0xc0) == 0x80)
        end--;
    const bool utf8 = isUtf8(message.substr(0, end));
    std::string out;
    for (size_t i = 0; i < end; i++) {
        const auto c = static_cast<unsigned char>(message[i]);
        if ((c >= 0x20 && c < 0x7f) || (c >= 0x80 && utf8))
            out += message[i];
        else {
            const char* const digits = "0123456789abcdef";
            out += std::string("\\x") + digits[c >> 4] + digits[c & 15];
        }
    }
    return end < message.size() ? out + " ... (" + std::to_string(message.size()) + " bytes)" : out;
}

bool isUtf8(const std::string& text) {
    for (const char c : text)
        if ((static_cast<unsigned char>(c) & 0x80) != 0)
            try {
                return !json(text).dump().empty();  // which refuses anything else
            }
            catch (const json::exception&) {
                return false;
            }
    return true;
}

}  // namespace Spacetime
