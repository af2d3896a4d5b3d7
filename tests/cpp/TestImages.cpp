// SPDX-License-Identifier: MIT
// Files of pictures. tests/python/test_pictures.py reads what another library wrote.
#include "ExpectError.h"
#include "spacetime/Files.h"
#include "spacetime/Images.h"
#include <cmath>
#include <filesystem>
#include <gtest/gtest.h>

using namespace Spacetime;
using Eigen::Index;
using Eigen::VectorXd;
namespace fs = std::filesystem;

namespace {

std::string temporary(const std::string& name, const std::string& bytes) {
    const std::string path = testing::TempDir() + name;
    writeFile(path, bytes, true);
    return path;
}

std::string ppm(int width, int height, const std::string& bytes) { return "P6 " + std::to_string(width) + " " + std::to_string(height) + " 255\n" + bytes; }

ImageReading expecting(int height, int width, int channels, bool resize = false) {
    ImageReading r;
    r.shape = {height, width, channels};
    r.resize = resize;
    return r;
}

/// A .npy file of bytes 0, 1, 2, ... whose header says this.
std::string npy(const std::string& type, const std::string& shape, bool fortran, size_t bytes) {
    std::string header = "{'descr': '" + type + "', 'fortran_order': " + (fortran ? "True" : "False") + ", 'shape': " + shape + ", }";
    header.append(63 - (10 + header.size()) % 64, ' ');
    header += '\n';
    std::string all = std::string("\x93NUMPY\x01\x00", 8) + static_cast<char>(header.size()) + '\0' + header;
    for (size_t i = 0; i < bytes; i++)
        all += static_cast<char>(i);
    return all;
}

/// A picture without structure that no filter shrinks.
VectorXd noise(const ImageShape& shape) {
    return VectorXd::NullaryExpr(shape.size(), [](Index i) { return static_cast<double>(i * i * 97 % 251) / 255; });
}

}  // namespace

TEST(Images, PngRoundTrip) {
    const std::string path = testing::TempDir() + "round.png";
    for (const int channels : {1, 3}) {
        const ImageShape shape{5, 3, channels};
        const VectorXd pixels = noise(shape);
        writePng(path, pixels, shape, true);
        const ImageSet set = readImage(path);
        EXPECT_EQ(set.shape, shape);
        EXPECT_EQ(set.names, std::vector<std::string>{"round.png"});
        EXPECT_LT((set.pixels.col(0) - pixels).cwiseAbs().maxCoeff(), 1e-6);
    }
    expectError([&] { writePng(path, VectorXd::Zero(3), {1, 1, 3}, false); }, {"round.png", "exists"});
    expectError([&] { writePng(path, VectorXd::Zero(4), {1, 1, 3}, true); }, {"1 x 1, 3 channels", "4 values"});
    expectError([&] { writePng(path, VectorXd::Zero(2), {1, 1, 2}, true); }, {"2 channels"});
    expectError([&] { writePng(path, VectorXd::Constant(1, NAN), {1, 1, 1}, true); }, {"value 0 is not a number"});
    VectorXd wide(2);
    wide << -3, 7;
    writePng(path, wide, {1, 2, 1}, true);
    EXPECT_EQ(readImage(path).pixels.col(0), VectorXd(Eigen::Vector2d(0, 1)));
}

TEST(Images, ColourAndGrey) {
    const std::string path = temporary("two.ppm", ppm(2, 1, {'\xff', '\0', '\0', '\0', '\0', '\x33'}));
    VectorXd colour(6);
    colour << 1, 0, 0, 0, 0, 0.2;
    EXPECT_LT((readImage(path).pixels.col(0) - colour).norm(), 1e-6);
    const ImageSet grey = readImage(path, expecting(0, 0, 1));
    EXPECT_EQ(grey.shape, (ImageShape{1, 2, 1}));
    EXPECT_LT((grey.pixels.col(0) - Eigen::Vector2d(0.299, 0.114 * 0.2)).norm(), 1e-6);
    const std::string pgm = temporary("one.pgm", "P5 1 1 255\n\x66");
    EXPECT_LT((readImage(pgm, expecting(1, 1, 3)).pixels.col(0) - VectorXd::Constant(3, 0.4)).norm(), 1e-6);
}

TEST(Images, Resizing) {
    const ImageShape wide{2, 8, 1};
    const VectorXd pixels = noise(wide);
    const std::string path = testing::TempDir() + "wide.png";
    writePng(path, pixels, wide, true);
    expectError([&] { readImage(path, expecting(4, 4, 0)); }, {"wide.png", "4 x 4", "2 x 8"});
    // Halved, in the middle of a square: averages of 2 x 2 pixels between rows of background.
    ImageReading reading = expecting(3, 4, 1, true);
    reading.background = 0.25;
    const VectorXd small = readImage(path, reading).pixels.col(0);
    EXPECT_EQ(small.head(4), VectorXd::Constant(4, 0.25));
    EXPECT_EQ(small.tail(4), VectorXd::Constant(4, 0.25));
    for (int i = 0; i < 4; i++)
        EXPECT_NEAR(small[4 + i], (pixels[2 * i] + pixels[2 * i + 1] + pixels[8 + 2 * i] + pixels[9 + 2 * i]) / 4, 1e-6) << i;
    // Larger: within the range of its values, corners kept, the mean nearly so.
    const VectorXd large = readImage(path, expecting(6, 24, 1, true)).pixels.col(0);
    EXPECT_GE(large.minCoeff(), pixels.minCoeff() - 1e-6);
    EXPECT_LE(large.maxCoeff(), pixels.maxCoeff() + 1e-6);
    EXPECT_NEAR(large[0], pixels[0], 1e-6);
    EXPECT_NEAR(large[6 * 24 - 1], pixels[15], 1e-6);
    EXPECT_NEAR(large.mean(), pixels.mean(), 0.03);
}

TEST(Images, Folder) {
    const std::string folder = testing::TempDir() + "folder_of_pictures";
    fs::remove_all(folder);
    fs::create_directory(folder);
    expectError([&] { readImages(folder); }, {folder, "found none"});
    const ImageShape shape{2, 2, 1};
    writeFile(folder + "/a.png", "not a picture", false);
    writeFile(folder + "/notes.txt", "not a picture", false);
    expectError(
        [&] {
            ImageReading r;
            r.skipUnreadable = true;
            readImages(folder, r);
        },
        {"none of its 1", "a.png"});
    writePng(folder + "/c.PNG", VectorXd::Constant(4, 0.6), shape, false);
    writePng(folder + "/b.png", VectorXd::Constant(4, 0.2), shape, false);
    writePng(folder + "/d.png", VectorXd::Constant(6, 0.2), {2, 3, 1}, false);
    expectError([&] { readImages(folder); }, {"a.png", "not a PNG"});
    ImageReading skipping;
    skipping.skipUnreadable = true;
    const ImageSet set = readImages(folder, skipping);
    EXPECT_EQ(set.names, (std::vector<std::string>{"b.png", "c.PNG"}));
    ASSERT_EQ(set.pixels.cols(), 2);
    EXPECT_NEAR(set.pixels(3, 1), 0.6, 1e-6);
    ASSERT_EQ(set.skipped.size(), 2u);
    EXPECT_NE(set.skipped[0].find("a.png: not a PNG"), std::string::npos);
    EXPECT_NE(set.skipped[1].find("d.png: expected a picture of 2 x 2"), std::string::npos);
    expectError([] { readImages("/no/such/folder"); }, {"/no/such/folder"});
}

TEST(Images, Arrays) {
    for (const bool fortran : {false, true}) {
        const ImageSet set = readImages(temporary("bytes.npy", npy("|u1", "(4, 2, 3, 1)", fortran, 24)));
        EXPECT_EQ(set.shape, (ImageShape{2, 3, 1}));
        ASSERT_EQ(set.pixels.cols(), 4);
        for (int k = 0; k < 4; k++)
            for (int h = 0; h < 2; h++)
                for (int w = 0; w < 3; w++)
                    EXPECT_NEAR(set.pixels(h * 3 + w, k), (fortran ? k + 4 * h + 8 * w : 6 * k + 3 * h + w) / 255.0, 1e-6);
        EXPECT_EQ(set.names[3], "bytes[3]");
    }
    EXPECT_EQ(readImages(temporary("grey.npy", npy("|u1", "(2, 3, 3)", false, 18)), expecting(3, 3, 3)).pixels.rows(), 27);
    auto reading = [](const std::string& bytes) { return [bytes] { readImages(temporary("bad.npy", bytes)); }; };
    expectError(reading(npy("|u1", "(6,)", false, 6)), {"bad.npy", "[K, H, W]", "shape [6]"});
    expectError(reading(npy("|u1", "(1, 1, 1, 6)", false, 6)), {"at most 4 channels"});
    expectError(reading(npy("|u1", "(0, 2, 3)", false, 0)), {"shape [0, 2, 3]"});
    expectError(reading(npy("|u1", "(4, 2, 3)", false, 23)), {"truncated"});
    expectError(reading(npy("|u1", "(99999999, 99999999, 99999999)", false, 23)), {"does not fit"});
    std::string numbers = npy("<f4", "(1, 1, 2)", false, 0);
    for (const float value : {0.5f, NAN})
        numbers.append(reinterpret_cast<const char*>(&value), 4);
    expectError(reading(numbers), {"picture 0, value 1", "between 0 and 1", "nan"});
}

TEST(Images, ASmallFileCannotClaimAHugePicture) {
    // A PNG of 65 bytes that says it is 8,000 pixels on each side.
    std::string png = "\x89PNG\r\n\x1a\n";
    auto chunk = [&](const std::string& type, const std::string& data) {
        const auto size = static_cast<unsigned>(data.size());
        png +=
            std::string{static_cast<char>(size >> 24), static_cast<char>(size >> 16), static_cast<char>(size >> 8), static_cast<char>(size)} + type + data + std::string(4, '\0');
    };
    chunk("IHDR", std::string("\0\0\x1f\x40\0\0\x1f\x40\x08\x06\0\0\0", 13));
    chunk("IDAT", std::string("\x78\x9c\x03\0\0\0\0\x01", 8));
    chunk("IEND", "");
    const std::string path = testing::TempDir() + "huge.png";
    writeFile(path, png, true);
    expectError([&] { readImage(path); }, {"huge.png", "claims 8000 x 8000 pixels"});
}

TEST(Images, Damage) {
    const ImageShape shape{9, 7, 3};
    const std::string path = testing::TempDir() + "whole.png";
    writePng(path, noise(shape), shape, true);
    const std::string whole = readFile(path);
    for (size_t n = 0; n + 12 < whole.size(); n += 5)
        expectError([&] { readImage(temporary("cut.png", whole.substr(0, n))); }, {"cut.png"});
    for (size_t n = 0; n < whole.size(); n++) {
        std::string damaged = whole;
        damaged[n] = static_cast<char>(damaged[n] ^ 0x5a);
        try {
            EXPECT_TRUE(readImage(temporary("flip.png", damaged)).pixels.allFinite());
        }
        catch (const std::invalid_argument&) {
        }
    }
    expectError([] { readImage(temporary("huge.ppm", ppm(100000, 100000, "x"))); }, {"huge.ppm", "too large", "100000 x 100000", "64 megapixels"});
    expectError([] { readImage(temporary("cut.ppm", ppm(30, 30, "xyz"))); }, {"cut.ppm", "cut off"});
    expectError([] { readImage(temporary("empty.png", "")); }, {"empty.png", "empty"});
    expectError([&] { readImage(path, expecting(1 << 14, 1 << 14, 0, true)); }, {"64 megapixels"});
    expectError([&] { readImage(path, expecting(0, 0, 2)); }, {"1 or 3 channels"});
    ImageReading reading;
    reading.background = 1.5;
    expectError([&] { readImage(path, reading); }, {"background", "1.5"});
}
