// SPDX-License-Identifier: MIT
#include "spacetime/Samples.h"
#include "spacetime/Files.h"
#include "spacetime/Json.h"
#include "spacetime/Npy.h"
#include "spacetime/Text.h"
#include <cstdint>
#include <cstring>
#include <map>
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

MatrixXd asSamples(const NpyArray& a, const std::string& name) {
    if (a.isText || a.shape.size() != 2 || a.shape[0] == 0 || a.shape[1] == 0) {
        fail(name + ": expected numbers of shape [samples, variables], got " + a.shapeText());
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
        const NpyArray w = parseNpy(members.at("log_weights.npy"));
        if (w.isText || w.shape.size() != 1 || static_cast<Eigen::Index>(w.numbers.size()) != result.raw.cols())
            fail("log_weights: expected " + std::to_string(result.raw.cols()) + " numbers, one a sample, got " + std::to_string(w.numbers.size()));
        result.logWeights = VectorXd::Map(w.numbers.data(), w.numbers.size());
    }
    if (members.count("variables.npy")) {
        const NpyArray v = parseNpy(members.at("variables.npy"));
        result.variables = withPrefix("variables: expected a JSON string: ", [&] { return Variables::fromJson(parseJson(v.text)); });
    }
    if (members.count("grid.npy")) {
        const NpyArray g = parseNpy(members.at("grid.npy"));
        result.grid = !g.numbers.empty() && g.numbers[0] != 0;
    }
    return result;
}

Samples readCsv(const std::string& bytes) {
    std::istringstream in(bytes);
    std::string line;
    if (!std::getline(in, line))
        fail("the file is empty");
    auto clean = [](const std::string& word) {
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
    return withPrefix("samples file '" + path + "': ", [&]() -> Samples {
        if (ending == ".npz")
            return readNpz(bytes);
        if (ending == ".csv")
            return readCsv(bytes);
        if (ending == ".npy") {
            Samples result;
            result.raw = asSamples(parseNpy(bytes), "array");
            return result;
        }
        fail("expected a name that ends in .npz, .npy or .csv");
    });
}

}  // namespace Spacetime
