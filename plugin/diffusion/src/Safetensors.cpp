// SPDX-License-Identifier: MIT
#include "spacetime/Safetensors.h"
#include "spacetime/Files.h"
#include "spacetime/Json.h"
#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <tuple>

using nlohmann::json;
using std::string;

namespace Spacetime {

namespace {

/// The reference implementation's own limit; a longer header is a damaged length field.
const std::uint64_t MaxHeader = 100000000;

static_assert(sizeof(float) == 4 && sizeof(double) == 8, "safetensors stores IEEE numbers");
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "safetensors files are little-endian: this machine needs byte swapping"
#endif

[[noreturn]] void fail(const string& path, const string& why) { throw std::invalid_argument(printable("Safetensors: '" + path + "' " + why)); }

/// Number of elements of a shape, refused where the product could not fit into `limit` elements.
std::uint64_t countElements(const std::vector<std::int64_t>& shape, std::uint64_t limit, const string& path, const string& name) {
    std::uint64_t count = 1;
    for (std::int64_t d : shape) {
        if (d < 0)
            fail(path, "gives tensor '" + name + "' a negative size");
        if (d != 0 && count > limit / static_cast<std::uint64_t>(d))
            fail(path, "gives tensor '" + name + "' a shape larger than the file");
        count *= static_cast<std::uint64_t>(d);
    }
    return count;
}

}  // namespace

Safetensors Safetensors::read(const string& path) {
    std::error_code error;
    const auto status = std::filesystem::status(path, error);
    // Opening a pipe would wait for a writer.
    if (std::filesystem::exists(status) && !std::filesystem::is_regular_file(status))
        fail(path, "is not a regular file");
    std::ifstream in(path, std::ios::binary);
    const std::uint64_t size = std::filesystem::file_size(path, error);
    if (!in || error)
        fail(path, "cannot be opened for reading" + (error ? ": " + error.message() : string(": permission denied or read error")));
    if (size < 8)
        fail(path, "is not a safetensors file: expected at least 8 bytes, got " + std::to_string(size));
    std::uint64_t headerSize = 0;
    in.read(reinterpret_cast<char*>(&headerSize), 8);
    if (headerSize > MaxHeader || headerSize > size - 8)
        fail(path, "is not a safetensors file or is cut short: its header should have " + std::to_string(headerSize) + " bytes, the file has " + std::to_string(size));
    string header(headerSize, '\0');
    in.read(header.data(), static_cast<std::streamsize>(headerSize));
    const std::uint64_t dataSize = size - 8 - headerSize;

    Safetensors file;
    struct Extent {
        std::uint64_t begin, end;
        string name;
    };
    std::vector<Extent> extents;
    try {
        const json parsed = withPrefix("Safetensors: '" + path + "' has a header that cannot be read: ", [&] { return parseJson(header); });
        if (!parsed.is_object())
            fail(path, "has a header that is not a JSON object");
        for (const auto& item : parsed.items()) {
            if (item.key() == "__metadata__") {
                file.metadata = item.value().get<std::map<string, string>>();
                continue;
            }
            Tensor tensor;
            const string& name = item.key();
            const string type = item.value().at("dtype").get<string>();
            if (type != "F32" && type != "F64")
                fail(path, "stores tensor '" + name + "' as " + type + ", expected F32 or F64");
            tensor.type = type == "F32" ? Tensor::Type::Float32 : Tensor::Type::Float64;
            tensor.shape = withPrefix("Safetensors: '" + path + "' has a header that cannot be read: shape of tensor '" + name + "': ",
                                      [&] { return wholeNumbers<std::int64_t>(item.value().at("shape")); });
            const json& offsets = item.value().at("data_offsets");
            if (!offsets.is_array() || offsets.size() != 2 || !offsets[0].is_number_unsigned() || !offsets[1].is_number_unsigned())
                fail(path, "gives tensor '" + name + "' no valid pair of offsets");
            const std::uint64_t begin = offsets[0].get<std::uint64_t>(), end = offsets[1].get<std::uint64_t>();
            if (begin > end || end > dataSize)
                fail(path, "is cut short or damaged: tensor '" + name + "' should lie at bytes " + std::to_string(begin) + " to " + std::to_string(end) + " of " +
                               std::to_string(dataSize));
            const std::uint64_t width = type == "F32" ? 4 : 8;
            const std::uint64_t count = countElements(tensor.shape, dataSize / width, path, name);
            if (count * width != end - begin)
                fail(path, "is damaged: the shape of tensor '" + name + "' needs " + std::to_string(count * width) + " bytes, its offsets span " + std::to_string(end - begin));
            extents.push_back({begin, end, name});
            file.tensors.emplace(name, std::move(tensor));
        }
    }
    catch (const json::exception& e) {
        fail(path, string("has a header that cannot be read: ") + e.what());
    }

    // The tensors must tile the data exactly: an overlap or a hole means that the header was tampered with.
    std::sort(extents.begin(), extents.end(), [](const Extent& a, const Extent& b) { return std::tie(a.begin, a.end) < std::tie(b.begin, b.end); });
    std::uint64_t expected = 0;
    for (const Extent& e : extents) {
        if (e.begin != expected)
            fail(path, "is damaged: tensor '" + e.name + "' starts at byte " + std::to_string(e.begin) + ", expected " + std::to_string(expected));
        expected = e.end;
    }
    if (expected != dataSize)
        fail(path, "is damaged: its tensors end at byte " + std::to_string(expected) + ", its data at " + std::to_string(dataSize));

    for (const Extent& e : extents) {
        Tensor& tensor = file.tensors[e.name];
        std::vector<char> bytes(e.end - e.begin);
        in.read(bytes.data(), static_cast<std::streamsize>(bytes.size()));
        if (static_cast<std::uint64_t>(in.gcount()) != bytes.size())
            fail(path, "ended while tensor '" + e.name + "' was read");
        if (tensor.type == Tensor::Type::Float64) {
            tensor.values.resize(bytes.size() / 8);
            if (!bytes.empty())
                std::memcpy(tensor.values.data(), bytes.data(), bytes.size());
        }
        else {
            std::vector<float> single(bytes.size() / 4);
            if (!bytes.empty())
                std::memcpy(single.data(), bytes.data(), bytes.size());
            tensor.values.assign(single.begin(), single.end());
        }
    }
    return file;
}

void Safetensors::write(const string& path) const {
    json header = json::object();
    header["__metadata__"] = metadata;
    std::uint64_t offset = 0;
    for (const auto& item : tensors) {
        const Tensor& t = item.second;
        const bool single = t.type == Tensor::Type::Float32;
        std::uint64_t count = 1;
        for (std::int64_t d : t.shape)
            count *= static_cast<std::uint64_t>(d);
        if (count != t.values.size())
            throw std::invalid_argument("Safetensors: the shape of tensor '" + item.first + "' has " + std::to_string(count) + " elements, its values are " +
                                        std::to_string(t.values.size()));
        const std::uint64_t bytes = count * (single ? 4 : 8);
        header[item.first] = {{"dtype", single ? "F32" : "F64"}, {"shape", t.shape}, {"data_offsets", {offset, offset + bytes}}};
        offset += bytes;
    }
    string text = header.dump();
    text.resize((text.size() + 7) / 8 * 8, ' ');  // keeps the tensors aligned for readers that map the file

    const std::uint64_t headerSize = text.size();
    string bytes(reinterpret_cast<const char*>(&headerSize), 8);
    bytes += text;
    for (const auto& item : tensors) {
        const Tensor& t = item.second;
        if (t.type == Tensor::Type::Float64)
            bytes.append(reinterpret_cast<const char*>(t.values.data()), 8 * t.values.size());
        else {
            const std::vector<float> single(t.values.begin(), t.values.end());
            bytes.append(reinterpret_cast<const char*>(single.data()), 4 * single.size());
        }
    }
    try {
        writeFile(path, bytes, true);
    }
    catch (const std::runtime_error& e) {
        fail(path, e.what());
    }
}

}  // namespace Spacetime
