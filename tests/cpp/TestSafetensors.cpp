// SPDX-License-Identifier: MIT
#include "spacetime/Safetensors.h"
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <limits>
#include <sys/stat.h>
#include <unistd.h>

using namespace Spacetime;
namespace fs = std::filesystem;

namespace {

class SafetensorsTest : public ::testing::Test {
protected:
    fs::path folder = fs::temp_directory_path() / ("spacetime_safetensors_" + std::to_string(::getpid()));
    void SetUp() override { fs::create_directories(folder); }
    void TearDown() override { fs::remove_all(folder); }
    std::string path(const std::string& name) const { return (folder / name).string(); }

    /// A file with this header and `data` zero bytes; `length` lies about the header's size when given.
    std::string raw(const std::string& header, size_t data, std::int64_t length = -1) const {
        const std::string name = path("raw.safetensors");
        std::ofstream out(name, std::ios::binary);
        const std::uint64_t size = length < 0 ? header.size() : static_cast<std::uint64_t>(length);
        out.write(reinterpret_cast<const char*>(&size), 8);
        out << header << std::string(data, '\0');
        return name;
    }

    /// The file must be refused with a message that names it and holds `expected`.
    void refused(const std::string& name, const std::string& expected) const {
        try {
            Safetensors::read(name);
            FAIL() << "read a damaged file, expected: " << expected;
        }
        catch (const std::invalid_argument& e) {
            EXPECT_NE(std::string(e.what()).find(name), std::string::npos) << e.what();
            EXPECT_NE(std::string(e.what()).find(expected), std::string::npos) << e.what();
        }
    }

    static std::string tensor(const std::string& shape, const std::string& offsets, const std::string& type = "F32") {
        return "{\"dtype\":\"" + type + "\",\"shape\":" + shape + ",\"data_offsets\":" + offsets + "}";
    }
};

Safetensors example() {
    Safetensors file;
    file.metadata = {{"format", "test"}, {"text", "a \"quoted\" word, \n and é"}};
    file.tensors["single"] = {Safetensors::Tensor::Type::Float32, {2, 3}, {1, -2, 0.5, 1e30, -0.0, 3.25}};
    file.tensors["double"] = {Safetensors::Tensor::Type::Float64, {2}, {1.0 / 3, std::numeric_limits<double>::min()}};
    file.tensors["empty"] = {Safetensors::Tensor::Type::Float32, {0, 4}, {}};
    file.tensors["scalar"] = {Safetensors::Tensor::Type::Float64, {}, {7}};
    return file;
}

}  // namespace

TEST_F(SafetensorsTest, RoundTrip) {
    const Safetensors a = example();
    a.write(path("a.safetensors"));
    const Safetensors b = Safetensors::read(path("a.safetensors"));
    EXPECT_EQ(a.metadata, b.metadata);
    ASSERT_EQ(a.tensors.size(), b.tensors.size());
    for (const auto& item : a.tensors) {
        const auto& t = b.tensors.at(item.first);
        EXPECT_EQ(item.second.type, t.type);
        EXPECT_EQ(item.second.shape, t.shape);
        ASSERT_EQ(item.second.values.size(), t.values.size());
        for (size_t i = 0; i < t.values.size(); i++)
            EXPECT_EQ(item.second.type == Safetensors::Tensor::Type::Float32 ? static_cast<float>(item.second.values[i]) : item.second.values[i], t.values[i]);
    }
}

TEST_F(SafetensorsTest, WritesTheDocumentedLayout) {
    Safetensors file;
    file.tensors["x"] = {Safetensors::Tensor::Type::Float32, {2}, {1, 2}};
    file.write(path("x.safetensors"));
    std::ifstream in(path("x.safetensors"), std::ios::binary);
    std::string bytes((std::istreambuf_iterator<char>(in)), {});
    std::uint64_t header;
    std::memcpy(&header, bytes.data(), 8);
    EXPECT_EQ(bytes.size(), 8 + header + 8);
    EXPECT_EQ(header % 8, 0u);
    EXPECT_EQ(bytes[8], '{');
    float values[2];
    std::memcpy(values, bytes.data() + 8 + header, 8);
    EXPECT_EQ(values[0], 1);
    EXPECT_EQ(values[1], 2);
}

TEST_F(SafetensorsTest, ReplacesAtomicallyAndLeavesNothingBehind) {
    example().write(path("a.safetensors"));
    example().write(path("a.safetensors"));
    EXPECT_EQ(std::distance(fs::directory_iterator(folder), fs::directory_iterator()), 1);
    EXPECT_THROW(example().write(path("no/such/folder.safetensors")), std::invalid_argument);
    Safetensors wrong = example();
    wrong.tensors["single"].shape = {2, 2};
    EXPECT_THROW(wrong.write(path("b.safetensors")), std::invalid_argument);
    EXPECT_FALSE(fs::exists(path("b.safetensors")));
}

TEST_F(SafetensorsTest, RefusesWhatIsNotASafetensorsFile) {
    refused(path("missing.safetensors"), "cannot be opened");
    std::ofstream(path("short.safetensors")) << "abc";
    refused(path("short.safetensors"), "at least 8 bytes, got 3");
    std::ofstream(path("text.safetensors")) << "this is a longer text file, no model";
    refused(path("text.safetensors"), "header should have");
    refused(raw("{\"x\": not json", 0), "cannot be read");
    refused(raw("[1, 2]", 0), "not a JSON object");
    // A header length near 2^64 must be refused before anything is allocated or added to it.
    refused(raw("{}", 0, std::numeric_limits<std::int64_t>::max()), "header should have");
    refused(raw("{}", 0, 3), "header should have");
}

TEST_F(SafetensorsTest, RefusesWhatIsNoFileWithoutWaiting) {
    ASSERT_EQ(mkfifo(path("pipe.safetensors").c_str(), 0600), 0);
    refused(path("pipe.safetensors"), "not a regular file");
    fs::create_directory(path("folder.safetensors"));
    refused(path("folder.safetensors"), "not a regular file");
    refused(raw("{\"x\":" + std::string(200000, '[') + std::string(200000, ']') + "}", 0), "nested more than");
}

TEST_F(SafetensorsTest, RefusesTruncation) {
    example().write(path("a.safetensors"));
    const auto size = fs::file_size(path("a.safetensors"));
    for (std::uintmax_t cut = 0; cut < size; cut++) {
        fs::copy_file(path("a.safetensors"), path("cut.safetensors"), fs::copy_options::overwrite_existing);
        fs::resize_file(path("cut.safetensors"), cut);
        EXPECT_THROW(Safetensors::read(path("cut.safetensors")), std::invalid_argument) << "cut to " << cut << " of " << size << " bytes";
    }
}

TEST_F(SafetensorsTest, RefusesOffsetsThatDoNotTile) {
    refused(raw("{\"x\":" + tensor("[2]", "[0,16]") + "}", 8), "cut short or damaged");
    refused(raw("{\"x\":" + tensor("[2]", "[8,0]") + "}", 8), "cut short or damaged");
    refused(raw("{\"x\":" + tensor("[2]", "[0,4]") + "}", 8), "needs 8 bytes");
    refused(raw("{\"x\":" + tensor("[2]", "[0,8]") + ",\"y\":" + tensor("[2]", "[4,12]") + "}", 12), "starts at byte 4, expected 8");
    refused(raw("{\"x\":" + tensor("[1]", "[0,4]") + ",\"y\":" + tensor("[1]", "[8,12]") + "}", 12), "starts at byte 8, expected 4");
    refused(raw("{\"x\":" + tensor("[1]", "[0,4]") + "}", 12), "end at byte 4, its data at 12");
    refused(raw("{\"x\":" + tensor("[1]", "[-4,0]") + "}", 4), "offsets");
    refused(raw("{\"x\":" + tensor("[1]", "[0]") + "}", 4), "offsets");
}

TEST_F(SafetensorsTest, RefusesShapesAndTypes) {
    refused(raw("{\"x\":" + tensor("[-1]", "[0,4]") + "}", 4), "negative size");
    // 2^62 x 8 elements overflow 64 bits: the product must not wrap round to a small number.
    refused(raw("{\"x\":" + tensor("[4611686018427387904,8]", "[0,0]") + "}", 0), "larger than the file");
    refused(raw("{\"x\":" + tensor("[4294967296,4294967296]", "[0,0]") + "}", 8), "larger than the file");
    refused(raw("{\"x\":" + tensor("[2]", "[0,4]", "F16") + "}", 4), "F16, expected F32 or F64");
    refused(raw("{\"x\":{\"dtype\":\"F32\"}}", 0), "cannot be read");
    refused(raw("{\"__metadata__\":{\"a\":1}}", 0), "cannot be read");
}
