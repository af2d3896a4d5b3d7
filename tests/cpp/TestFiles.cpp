// SPDX-License-Identifier: MIT
// Readers of files from outside. The .npz and .npy files in tests/data were written by numpy.
#include "ExpectError.h"
#include "spacetime/Curve.h"
#include "spacetime/DensityPath.h"
#include "spacetime/Files.h"
#include "spacetime/Json.h"
#include "spacetime/Samples.h"
#include <cmath>
#include <gtest/gtest.h>
#include <limits>

using namespace Spacetime;

namespace {

std::string data(const std::string& name) { return std::string(SPACETIME_TEST_DATA) + "/" + name; }

std::string temporary(const std::string& name, const std::string& bytes) {
    const std::string path = testing::TempDir() + name;
    writeFile(path, bytes, true);
    return path;
}

/// The message of the exception that reading throws; empty where it throws none.
std::string complaint(const std::string& path) {
    try {
        readSamples(path);
    }
    catch (const std::invalid_argument& e) {
        return e.what();
    }
    return "";
}

}  // namespace

TEST(Files, NumpyArchives) {
    for (const char* name : {"samples.npz", "samples_compressed.npz"}) {
        const Samples s = readSamples(data(name));
        ASSERT_EQ(s.raw.rows(), 2);
        ASSERT_EQ(s.raw.cols(), 5);
        EXPECT_NEAR(s.raw(0, 0), 0.0, 1e-15);
        EXPECT_NEAR(s.raw(1, 4), 0.9, 1e-7);
        ASSERT_EQ(s.logWeights.size(), 5);
        EXPECT_NEAR(s.logWeights[3], -1.5, 1e-12);
        ASSERT_EQ(s.variables.size(), 2);
        EXPECT_EQ(s.variables[0].name, "phi");
        EXPECT_TRUE(s.variables[0].lifted());
        EXPECT_FALSE(s.grid);
    }
    const Samples fortran = readSamples(data("samples_fortran_f4.npy"));
    EXPECT_EQ(fortran.raw.cols(), 5);
    EXPECT_NEAR(fortran.raw(1, 4), 0.9, 1e-6);
    EXPECT_EQ(fortran.logWeights.size(), 0);
}

TEST(Files, Csv) {
    const Samples s = readSamples(temporary("a.csv", "phi, log_weights ,psi\n1.5,-2,3e-1\n-4,0,5\n\n"));
    ASSERT_EQ(s.raw.cols(), 2);
    EXPECT_EQ(s.raw(0, 1), -4);
    EXPECT_EQ(s.raw(1, 0), 0.3);
    EXPECT_EQ(s.logWeights[0], -2);
    EXPECT_EQ(s.variables.names(), (std::vector<std::string>{"phi", "psi"}));
    EXPECT_NE(complaint(temporary("b.csv", "a,b\n1,2\n1\n")).find("line 3"), std::string::npos);
    EXPECT_NE(complaint(temporary("c.csv", "a,b\n1,two\n")).find("expected a number, got 'two'"), std::string::npos);
    EXPECT_NE(complaint(temporary("d.csv", "a,b\n")).find("no rows"), std::string::npos);
    EXPECT_NE(complaint(temporary("e.csv", "")).find("empty"), std::string::npos);
}

TEST(Files, EveryTruncationAndEveryFlippedByteIsRefusedOrHarmless) {
    for (const char* name : {"samples.npz", "samples_compressed.npz", "samples_fortran_f4.npy"}) {
        const std::string bytes = readFile(data(name));
        const std::string ending = std::string(name).substr(std::string(name).rfind('.'));
        for (size_t n = 0; n < bytes.size(); n += 7)
            EXPECT_NE(complaint(temporary("cut" + ending, bytes.substr(0, n))), "") << name << " cut at " << n;
        for (size_t n = 0; n < bytes.size(); n += 3) {
            std::string damaged = bytes;
            damaged[n] = static_cast<char>(damaged[n] ^ 0x5a);
            complaint(temporary("flip" + ending, damaged));  // must not crash; some bytes carry no meaning
        }
    }
    EXPECT_NE(complaint(temporary("x.txt", "1,2")).find(".npz, .npy or .csv"), std::string::npos);
    EXPECT_NE(complaint("/no/such.npz").find("no such file"), std::string::npos);
}

TEST(Files, NpyRoundTrip) {
    const std::string path = temporary("array.npy", "old");
    for (const auto& [n, K] : {std::pair(1, 1), std::pair(4, 3), std::pair(2, 100000)}) {
        const Eigen::MatrixXd m = Eigen::MatrixXd::Random(n, K);
        EXPECT_THROW(writeNpy(path, m, false), std::invalid_argument);
        writeNpy(path, m, true);
        EXPECT_EQ(readSamples(path).raw, m);
        EXPECT_EQ((readFile(path).size() - 8 * m.size()) % 64, 0);
    }
}

/// An .npy file of version 1.0 with this type and shape, and as many bytes of data.
std::string npy(const std::string& type, const std::string& shape, size_t bytes) {
    const std::string header = "{'descr': '" + type + "', 'fortran_order': False, 'shape': (" + shape + "), }\n";
    return std::string("\x93NUMPY\x01\x00", 8) + static_cast<char>(header.size()) + '\0' + header + std::string(bytes, '\0');
}

TEST(Files, SizesThatAnArrayClaimsAreCheckedBeforeAnythingIsAllocated) {
    for (const char* shape : {"1000000000, 1000000000", "1e300, 1", "0, 1e300", "-1, 2", "1.5, 2", "18446744073709551615, 2"})
        EXPECT_NE(complaint(temporary("a.npy", npy("<f8", shape, 64))).find("does not fit"), std::string::npos) << shape;
    for (const char* type : {"<f1e30", "<U1e19", "<f-8", "<f0.5", "<U4611686018427387905"})
        EXPECT_NE(complaint(temporary("a.npy", npy(type, "2, 2", 64))), "") << type;
}

TEST(Files, NestingWithoutEndIsRefused) {
    const std::string deep = std::string(300000, '[') + std::string(300000, ']');
    expectError([&] { parseJson(deep); }, {"nested more than 64 levels"});
    EXPECT_EQ(parseJson("[\"[[[[\\\"\", " + std::string(60, '[') + std::string(60, ']') + "]").size(), 2u);
    expectError([&] { Curve::load(temporary("deep.json", "{\"solution\":" + deep + "}")); }, {"deep.json", "nested"});
    expectError([&] { readMixture(temporary("deep.json", deep)); }, {"deep.json", "nested"});
    expectError([&] { loadDensityPath(temporary("deep.json", deep)); }, {"deep.json", "nested"});
}

TEST(Files, ComplaintsAreFitForATerminal) {
    EXPECT_EQ(printable("a\tb\x1b[31m\xff"), "a\\x09b\\x1b[31m\\xff");
    EXPECT_EQ(printable("\xc3\xa9"), "\xc3\xa9");
    EXPECT_LT(printable(std::string(1000000, 'x')).size(), 2100u);
    // Cut between characters, not within one.
    std::string many;
    for (int i = 0; i < 2000; i++)
        many += "\xc3\xa9";
    EXPECT_TRUE(isUtf8(printable(many)));
    EXPECT_TRUE(isUtf8(printable("x" + many)));
    EXPECT_EQ(complaint(temporary("a.csv", "x\n\x1b[2J\n")).find('\x1b'), std::string::npos);
    EXPECT_NE(complaint(temporary("a.csv", "x\n\x1b[2J\n")).find("\\x1b[2J"), std::string::npos);
    EXPECT_NE(complaint(temporary("a.csv", "caf\xe9\n1\n")).find("UTF-8"), std::string::npos);
}

TEST(Files, Mixture) {
    const auto m = readMixture(temporary("m.json", R"({"means":[[0,1],[2,3]],"variances":[1,2],"weights":[1,3]})"));
    EXPECT_EQ(m->components().mean(0, 1), 2);
    EXPECT_NEAR(m->components().logWeights[1], std::log(0.75), 1e-15);
    for (const char* bad : {"", "{", "[]", R"({"means":[[0],[1,2]],"variances":[1,2],"weights":[1,3]})", R"({"means":[[0]],"variances":[-1],"weights":[1]})",
                            R"({"means":[],"variances":[],"weights":[]})", R"({"means":[["a"]],"variances":[1],"weights":[1]})"})
        EXPECT_THROW(readMixture(temporary("bad.json", bad)), std::invalid_argument) << bad;
}

TEST(Files, WritingIsAtomicAndRefusesToOverwrite) {
    const std::string path = temporary("w.txt", "old");
    EXPECT_THROW(writeFile(path, "new", false), std::invalid_argument);
    EXPECT_EQ(readFile(path), "old");
    EXPECT_THROW(writeFile("/no/such/folder/w.txt", "new", true), std::runtime_error);
}

TEST(Json, WholeNumbers) {
    using nlohmann::json;
    for (int i : {0, -1, std::numeric_limits<int>::max(), std::numeric_limits<int>::min()})
        EXPECT_EQ(wholeNumber<int>(json(i)), i);
    EXPECT_EQ(wholeNumber<std::int64_t>(json(std::numeric_limits<std::int64_t>::min())), std::numeric_limits<std::int64_t>::min());
    EXPECT_EQ(wholeNumbers<int>(json::parse("[1, -2]")), (std::vector<int>{1, -2}));
    for (const char* text : {"2147483648", "-2147483649", "18446744073709551615", "17777777777777777777777", "1e300", "1.5", "1.0", "true", "null", "\"1\"", "[1]", "{}"})
        EXPECT_THROW(wholeNumber<int>(json::parse(text)), std::invalid_argument) << text;
    EXPECT_THROW(wholeNumber<std::int64_t>(json::parse("9223372036854775808")), std::invalid_argument);
    for (const char* text : {"1", "[1, 2.5]", "[[1]]"})
        EXPECT_THROW(wholeNumbers<int>(json::parse(text)), std::invalid_argument) << text;
}
