// SPDX-License-Identifier: MIT
#include "spacetime/Npy.h"
#include "spacetime/Text.h"
#include <cmath>
#include <cstdint>
#include <cstring>
#include <map>
#include <stdexcept>

namespace Spacetime {

namespace {

[[noreturn]] void fail(const std::string& message) { throw std::invalid_argument(message); }

/// The value of a key in the Python literal that heads an .npy file.
std::string headerValue(const std::string& header, const std::string& key) {
    const size_t at = header.find("'" + key + "':");
    if (at == std::string::npos)
        fail("the .npy header names no " + key);
    size_t begin = header.find_first_not_of(' ', at + key.size() + 3);
    if (begin == std::string::npos)
        fail("the .npy header is cut off");
    const char open = header[begin];
    if (open == '\'')
        return header.substr(begin + 1, header.find('\'', begin + 1) - begin - 1);
    if (open == '(')
        return header.substr(begin + 1, header.find(')', begin) - begin - 1);
    return header.substr(begin, header.find_first_of(",}", begin) - begin);
}

}  // namespace

std::string NpyArray::shapeText() const {
    if (isText)
        return "text";
    std::string list;
    for (size_t n : shape)
        list += (list.empty() ? "" : ", ") + std::to_string(n);
    return "shape [" + list + "]";
}

NpyArray parseNpy(const std::string& bytes) {
    if (bytes.size() < 10 || bytes.compare(0, 6, "\x93NUMPY") != 0)
        fail("not an .npy array");
    const int major = static_cast<unsigned char>(bytes[6]);
    const size_t headerAt = major == 1 ? 10 : 12;
    const auto byte = [&](size_t at) { return static_cast<size_t>(static_cast<unsigned char>(bytes[at])); };
    if (major != 1 && bytes.size() < 12)
        fail("the .npy header is truncated");
    const size_t headerSize = major == 1 ? byte(8) | byte(9) << 8 : byte(8) | byte(9) << 8 | byte(10) << 16 | byte(11) << 24;
    if (bytes.size() < headerAt || headerSize > bytes.size() - headerAt)
        fail("the .npy header is truncated");
    const std::string header = bytes.substr(headerAt, headerSize);
    const std::string type = headerValue(header, "descr");
    const bool fortran = headerValue(header, "fortran_order") == "True";
    NpyArray result;
    size_t count = 1;
    const size_t dataAt = headerAt + headerSize, available = bytes.size() - dataAt;
    for (const std::string& word : split(headerValue(header, "shape"), ',')) {
        if (word.find_first_not_of(' ') == std::string::npos)
            continue;
        const double length = parseNumber(word, ".npy shape");
        // Checked against the bytes that are there, before anything is allocated; beside a 0 any number will do.
        if (!(length >= 0) || length != std::floor(length) || length > (count > 0 ? static_cast<double>(available + 1) / count : 1e15))
            fail("the .npy shape (" + headerValue(header, "shape") + ") does not fit the file's size");
        result.shape.push_back(static_cast<size_t>(length));
        count *= result.shape.back();
    }
    if (type.size() < 3 || (type[0] != '<' && type[0] != '|'))
        fail("expected little-endian numbers, got dtype '" + type + "'");
    const char kind = type[1];
    const double itemSize = parseNumber(type.substr(2), ".npy dtype");
    if (!(itemSize >= 0 && itemSize <= static_cast<double>(bytes.size())) || itemSize != std::floor(itemSize))
        fail("the .npy dtype '" + type + "' does not fit the file's size");
    const size_t width = (kind == 'U' ? 4 : 1) * static_cast<size_t>(itemSize);
    if (width == 0 && count > 0 && kind != 'U' && kind != 'S')
        fail("unknown dtype '" + type + "'");
    if (count > 0 && width > available / count)
        fail("the .npy data is truncated: expected " + std::to_string(count) + " items of " + std::to_string(width) + " bytes, " + std::to_string(available) + " bytes are there");
    const char* data = bytes.data() + dataAt;
    if (kind == 'U' || kind == 'S') {
        result.isText = true;
        for (size_t i = 0; count > 0 && i < width; i += kind == 'U' ? 4 : 1)
            if (data[i] != '\0') {
                if (kind == 'U' && (data[i + 1] || data[i + 2] || data[i + 3] || (data[i] & 0x80)))
                    fail("expected ASCII text");
                result.text += data[i];
            }
        return result;
    }
    std::vector<double> flat(count);
    const std::map<std::string, int> types = {{"f8", 0}, {"f4", 1}, {"i8", 2}, {"i4", 3}, {"b1", 4}, {"u1", 4}};
    const auto found = types.find(type.substr(1));
    if (found == types.end())
        fail("expected numbers of dtype f8, f4, i8, i4, u1 or b1, got '" + type + "'");
    result.isBytes = type.substr(1) == "u1";
    for (size_t i = 0; i < count; i++) {
        const char* item = data + i * width;
        switch (found->second) {
        case 0: {
            double x;
            std::memcpy(&x, item, 8);
            flat[i] = x;
            break;
        }
        case 1: {
            float x;
            std::memcpy(&x, item, 4);
            flat[i] = x;
            break;
        }
        case 2: {
            int64_t x;
            std::memcpy(&x, item, 8);
            flat[i] = static_cast<double>(x);
            break;
        }
        case 3: {
            int32_t x;
            std::memcpy(&x, item, 4);
            flat[i] = x;
            break;
        }
        default: flat[i] = static_cast<unsigned char>(*item);
        }
    }
    if (fortran && result.shape.size() > 1) {
        // The first index runs fastest in the file, the last one here.
        result.numbers.resize(count);
        std::vector<size_t> index(result.shape.size(), 0);
        for (size_t i = 0; i < count; i++) {
            size_t at = 0;
            for (size_t d = 0; d < index.size(); d++)
                at = at * result.shape[d] + index[d];
            result.numbers[at] = flat[i];
            for (size_t d = 0; d < index.size() && ++index[d] == result.shape[d]; d++)
                index[d] = 0;
        }
    }
    else
        result.numbers = std::move(flat);
    return result;
}

}  // namespace Spacetime
