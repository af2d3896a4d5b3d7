// SPDX-License-Identifier: MIT
#include "spacetime/Text.h"
#include <nlohmann/json.hpp>

using nlohmann::json;

namespace Spacetime {

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
