// SPDX-License-Identifier: MIT
#include "spacetime/Samples.h"
#include "spacetime/Files.h"
#include "spacetime/Text.h"
#include <cmath>
#include <cstdint>
#include <cstring>
#include <map>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <zlib.h>

using Eigen::MatrixXd;
using Eigen::VectorXd;

namespace Spacetime {

namespace {

[[noreturn]] void fail(const std::string& message) { throw std::invalid_argument(message); }

template <class Integer>
Integer readLittle(const std::string& bytes, size_t at) {
    if (at > bytes.size() || bytes.size() - at < sizeof(Integer))
        fail("the file is truncated");
    Integer value;
    std::memcpy(&value, bytes.data() + at, sizeof(Integer));
    return value;
}

/// One array of a .npy file: numbers as doubles in row-major order, or text.
struct Array {
    std::vector<size_t> shape;
    std::vector<double> numbers;
    std::string text;
    bool isText = false;
};

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

Array parseNpy(const std::string& bytes) {
    if (bytes.size() < 10 || bytes.compare(0, 6, "\x93NUMPY") != 0)
        fail("not an .npy array");
    const int major = static_cast<unsigned char>(bytes[6]);
    const size_t headerAt = major == 1 ? 10 : 12;
    const size_t headerSize = major == 1 ? readLittle<uint16_t>(bytes, 8) : readLittle<uint32_t>(bytes, 8);
    if (bytes.size() < headerAt || headerSize > bytes.size() - headerAt)
        fail("the .npy header is truncated");
    const std::string header = bytes.substr(headerAt, headerSize);
    const std::string type = headerValue(header, "descr");
    const bool fortran = headerValue(header, "fortran_order") == "True";
    Array result;
    size_t count = 1;
    const size_t dataAt = headerAt + headerSize, available = bytes.size() - dataAt;
    for (const std::string& word : split(headerValue(header, "shape"), ',')) {
        if (word.find_first_not_of(' ') == std::string::npos)
            continue;
        const double length = parseNumber(word, ".npy shape");
        // Checked against the bytes that are there, before anything is allocated.
        if (!(length >= 0) || length != std::floor(length) || (count > 0 && length > static_cast<double>(available + 1) / count))
            fail("the .npy shape (" + headerValue(header, "shape") + ") does not fit the file's size");
        result.shape.push_back(static_cast<size_t>(length));
        count *= result.shape.back();
    }
    if (type.size() < 3 || (type[0] != '<' && type[0] != '|'))
        fail("expected little-endian numbers, got dtype '" + type + "'");
    const char kind = type[1];
    const double itemSize = parseNumber(type.substr(2), ".npy dtype");
    const size_t width = (kind == 'U' ? 4 : 1) * static_cast<size_t>(itemSize);
    if (width == 0 && count > 0 && kind != 'U' && kind != 'S')
        fail("unknown dtype '" + type + "'");
    if (count > 0 && width > available / count)
        fail("the .npy data is truncated: expected " + std::to_string(count) + " items of " + std::to_string(width) + " bytes, " + std::to_string(available) +
             " bytes are there");
    const char* data = bytes.data() + dataAt;
    if (kind == 'U' || kind == 'S') {
        result.isText = true;
        for (size_t i = 0; i < width; i += kind == 'U' ? 4 : 1)
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
        fail("expected numbers of dtype f8, f4, i8, i4 or b1, got '" + type + "'");
    for (size_t i = 0; i < count; i++) {
        const char* item = data + i * width;
        switch (found->second) {
            case 0: { double x; std::memcpy(&x, item, 8); flat[i] = x; break; }
            case 1: { float x; std::memcpy(&x, item, 4); flat[i] = x; break; }
            case 2: { int64_t x; std::memcpy(&x, item, 8); flat[i] = static_cast<double>(x); break; }
            case 3: { int32_t x; std::memcpy(&x, item, 4); flat[i] = x; break; }
            default: flat[i] = static_cast<unsigned char>(*item);
        }
    }
    if (fortran && result.shape.size() == 2) {
        const size_t rows = result.shape[0], cols = result.shape[1];
        result.numbers.resize(count);
        for (size_t r = 0; r < rows; r++)
            for (size_t c = 0; c < cols; c++)
                result.numbers[r * cols + c] = flat[c * rows + r];
    }
    else
        result.numbers = std::move(flat);
    return result;
}

std::string inflateEntry(const char* data, size_t size, size_t fullSize) {
    // Deflate cannot expand more than about 1032 times: a larger claim is a lie and must not allocate.
    if (fullSize / 1100 > size + 64)
        fail("the archive claims an impossible size");
    std::string out(fullSize, '\0');
    z_stream stream{};
    if (inflateInit2(&stream, -MAX_WBITS) != Z_OK)
        fail("zlib could not be started");
    stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(data));
    stream.avail_in = static_cast<uInt>(size);
    stream.next_out = reinterpret_cast<Bytef*>(&out[0]);
    stream.avail_out = static_cast<uInt>(fullSize);
    const int status = inflate(&stream, Z_FINISH);
    const bool complete = status == Z_STREAM_END && stream.total_out == fullSize;
    inflateEnd(&stream);
    if (!complete)
        fail("the archive's data is corrupt");
    return out;
}

/// The members of an .npz (zip) archive, unpacked.
std::map<std::string, std::string> unzip(const std::string& bytes) {
    const size_t end = bytes.rfind("PK\x05\x06");
    if (end == std::string::npos || end + 22 + readLittle<uint16_t>(bytes, end + 20) > bytes.size())
        fail("not a zip archive, or truncated");
    const int entries = readLittle<uint16_t>(bytes, end + 10);
    size_t at = readLittle<uint32_t>(bytes, end + 16);
    std::map<std::string, std::string> members;
    for (int i = 0; i < entries; i++) {
        if (readLittle<uint32_t>(bytes, at) != 0x02014b50)
            fail("the archive's directory is corrupt");
        const int method = readLittle<uint16_t>(bytes, at + 10);
        const uint32_t crc = readLittle<uint32_t>(bytes, at + 16);
        const size_t size = readLittle<uint32_t>(bytes, at + 20), fullSize = readLittle<uint32_t>(bytes, at + 24);
        const size_t nameSize = readLittle<uint16_t>(bytes, at + 28), extraSize = readLittle<uint16_t>(bytes, at + 30), commentSize = readLittle<uint16_t>(bytes, at + 32);
        const size_t local = readLittle<uint32_t>(bytes, at + 42);
        if (at + 46 + nameSize > bytes.size())
            fail("the archive's directory is truncated");
        const std::string name = bytes.substr(at + 46, nameSize);
        if (readLittle<uint32_t>(bytes, local) != 0x04034b50)
            fail("the archive's member '" + name + "' is corrupt");
        const size_t data = local + 30 + readLittle<uint16_t>(bytes, local + 26) + readLittle<uint16_t>(bytes, local + 28);
        if (data > bytes.size() || size > bytes.size() - data)
            fail("the archive's member '" + name + "' is truncated");
        std::string member;
        if (method == 0 && size == fullSize)
            member = bytes.substr(data, size);
        else if (method == 8)
            member = inflateEntry(bytes.data() + data, size, fullSize);
        else
            fail("the archive's member '" + name + "' is packed in a way that is not supported");
        if (crc32(0, reinterpret_cast<const Bytef*>(member.data()), static_cast<uInt>(member.size())) != crc)
            fail("the archive's member '" + name + "' is corrupt (checksum)");
        members[name] = std::move(member);
        at += 46 + nameSize + extraSize + commentSize;
    }
    return members;
}

MatrixXd asSamples(const Array& a, const std::string& name) {
    if (a.isText || a.shape.size() != 2 || a.shape[0] == 0 || a.shape[1] == 0) {
        std::string got;
        for (size_t n : a.shape)
            got += (got.empty() ? "" : ", ") + std::to_string(n);
        fail(name + ": expected numbers of shape [samples, variables], got " + (a.isText ? "text" : "shape [" + got + "]"));
    }
    return MatrixXd::Map(a.numbers.data(), a.shape[1], a.shape[0]);
}

Samples readNpz(const std::string& bytes) {
    const auto members = unzip(bytes);
    Samples result;
    if (!members.count("x.npy"))
        fail("expected an array 'x' [samples, variables]");
    result.raw = asSamples(parseNpy(members.at("x.npy")), "x");
    if (members.count("log_weights.npy")) {
        const Array w = parseNpy(members.at("log_weights.npy"));
        if (w.isText || w.shape.size() != 1 || static_cast<Eigen::Index>(w.numbers.size()) != result.raw.cols())
            fail("log_weights: expected " + std::to_string(result.raw.cols()) + " numbers, one a sample, got " + std::to_string(w.numbers.size()));
        result.logWeights = VectorXd::Map(w.numbers.data(), w.numbers.size());
    }
    if (members.count("variables.npy")) {
        const Array v = parseNpy(members.at("variables.npy"));
        try {
            result.variables = Variables::fromJson(nlohmann::json::parse(v.text));
        }
        catch (const nlohmann::json::exception& e) {
            fail(std::string("variables: expected a JSON string: ") + e.what());
        }
    }
    if (members.count("grid.npy")) {
        const Array g = parseNpy(members.at("grid.npy"));
        result.grid = !g.numbers.empty() && g.numbers[0] != 0;
    }
    return result;
}

Samples readCsv(const std::string& bytes) {
    std::istringstream in(bytes);
    std::string line;
    if (!std::getline(in, line))
        fail("the file is empty");
    auto clean = [](std::string word) {
        const size_t a = word.find_first_not_of(" \t\r\""), b = word.find_last_not_of(" \t\r\"");
        return a == std::string::npos ? std::string() : word.substr(a, b - a + 1);
    };
    std::vector<Variable> names;
    std::vector<int> column;  // of each variable
    int weights = -1, columns = 0;
    for (const std::string& word : split(line, ',')) {
        if (clean(word) == "log_weights")
            weights = columns;
        else {
            names.push_back(Variable::number(clean(word)));
            column.push_back(columns);
        }
        columns++;
    }
    std::vector<double> values, logw;
    for (int row = 2; std::getline(in, line); row++) {
        if (clean(line).empty())
            continue;
        const auto words = split(line, ',');
        if (static_cast<int>(words.size()) != columns)
            fail("line " + std::to_string(row) + ": expected " + std::to_string(columns) + " columns, got " + std::to_string(words.size()));
        for (int c : column)
            values.push_back(parseNumber(clean(words[c]), "line " + std::to_string(row)));
        if (weights >= 0)
            logw.push_back(parseNumber(clean(words[weights]), "line " + std::to_string(row)));
    }
    if (values.empty())
        fail("expected a header line and rows of numbers, got no rows");
    Samples result;
    result.variables = Variables(names);
    result.raw = MatrixXd::Map(values.data(), names.size(), values.size() / names.size());
    result.logWeights = VectorXd::Map(logw.data(), logw.size());
    return result;
}

}  // namespace

Samples readSamples(const std::string& path) {
    const std::string bytes = readFile(path);
    const std::string ending = path.substr(path.find_last_of('.') == std::string::npos ? path.size() : path.find_last_of('.'));
    try {
        if (ending == ".npz")
            return readNpz(bytes);
        if (ending == ".csv")
            return readCsv(bytes);
        if (ending == ".npy") {
            Samples result;
            result.raw = asSamples(parseNpy(bytes), "array");
            return result;
        }
    }
    catch (const std::invalid_argument& e) {
        fail("samples file '" + path + "': " + e.what());
    }
    fail("samples file '" + path + "': expected a name that ends in .npz, .npy or .csv");
}

}  // namespace Spacetime
