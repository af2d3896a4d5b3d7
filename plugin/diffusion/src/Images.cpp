// SPDX-License-Identifier: MIT
#include "spacetime/Images.h"
#include "Stb.h"
#include "spacetime/Files.h"
#include "spacetime/Npy.h"
#include "spacetime/Text.h"
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <memory>
#include <new>
#include <stdexcept>
#include <turbojpeg.h>

namespace fs = std::filesystem;
using Eigen::Index;
using Eigen::VectorXd;

namespace Spacetime {

namespace {

/// Larger pictures and files are refused before anything is allocated for them.
const std::int64_t MostPixels = std::int64_t(64) << 20;
/// No format packs more, even one bit a pixel (deflate expands 1,032 times): the claims of a small file must not allocate much.
const std::int64_t MostPixelsPerByte = 8500, SmallPicture = std::int64_t(1) << 20;
const std::uintmax_t MostBytes = std::uintmax_t(512) << 20;

const char* const Endings[] = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tga", ".pnm", ".pgm", ".ppm"};
const char* const Formats = "PNG, JPEG, BMP, GIF, TGA or binary PNM";

[[noreturn]] void fail(const std::string& message) { throw std::invalid_argument(message); }

/// A picture as it comes: floats in [0, 1], with alpha as its last channel where it has 2 or 4.
struct Picture {
    int height = 0, width = 0, channels = 0;
    std::vector<float> values;
};

/// Bytes of a file for stb, which reads zeros where they end: here it shows.
struct Source {
    const std::string& bytes;
    size_t at = 0;
    bool ended = false;
    static constexpr int BufferSize = 128;  ///< of stb

    static int read(void* user, char* data, int size) {
        Source& s = *static_cast<Source*>(user);
        const size_t n = std::min<size_t>(size, s.bytes.size() - s.at);
        std::copy_n(s.bytes.data() + s.at, n, data);
        s.at += n;
        // It fills its buffer as far as it can, and asks for what it needs beyond that.
        s.ended = s.ended || (n == 0 && size > 0) || (n < static_cast<size_t>(size) && size != BufferSize);
        return static_cast<int>(n);
    }
    static void skip(void* user, int n) {
        Source& s = *static_cast<Source*>(user);
        const auto to = static_cast<std::int64_t>(s.at) + n;
        s.ended = s.ended || to > static_cast<std::int64_t>(s.bytes.size());
        s.at = static_cast<size_t>(std::clamp<std::int64_t>(to, 0, static_cast<std::int64_t>(s.bytes.size())));
    }
    static int eof(void* user) {
        const Source& s = *static_cast<Source*>(user);
        return s.at >= s.bytes.size();
    }
};

/// stb allocates what a chunk of a PNG file claims to hold before it reads it.
void checkChunks(const std::string& bytes) {
    if (bytes.compare(0, 8, "\x89PNG\r\n\x1a\n") != 0)
        return;
    for (size_t at = 8; at + 8 <= bytes.size();) {
        size_t length = 0;
        for (size_t i = 0; i < 4; i++)
            length = length << 8 | static_cast<unsigned char>(bytes[at + i]);
        if (length > bytes.size() - at - 8)
            fail("the picture is cut off: the file ends within its data");
        at += length + 12;
    }
}

/// Whether a picture of this size can be read, and can be in a file of so many bytes.
void checkSize(int height, int width, size_t bytes) {
    if (width < 1 || height < 1)
        fail("the picture has no pixels");
    const std::int64_t claimed = static_cast<std::int64_t>(width) * height;
    if (claimed > MostPixels)
        fail("too large: " + std::to_string(height) + " x " + std::to_string(width) + ", expected at most " + std::to_string(MostPixels >> 20) + " megapixels");
    if (claimed > SmallPicture && claimed / MostPixelsPerByte > static_cast<std::int64_t>(bytes))
        fail("the file claims " + std::to_string(height) + " x " + std::to_string(width) + " pixels, which its " + std::to_string(bytes) + " bytes cannot hold");
}

Picture decodeJpeg(const std::string& bytes) {
    const std::unique_ptr<void, int (*)(tjhandle)> decoder(tjInitDecompress(), tjDestroy);
    if (decoder == nullptr)
        throw std::bad_alloc();
    auto complain = [&](const std::string& what) {
        const std::string reason = tjGetErrorStr2(decoder.get());
        fail(reason.find("remature end") != std::string::npos ? "the picture is cut off: the file ends within its data" : what + " (" + reason + ")");
    };
    const auto* data = reinterpret_cast<const unsigned char*>(bytes.data());
    Picture p;
    int subsampling = 0, space = 0;
    if (tjDecompressHeader3(decoder.get(), data, bytes.size(), &p.width, &p.height, &subsampling, &space) != 0)
        complain(std::string("not a ") + Formats + " picture");
    checkSize(p.height, p.width, bytes.size());
    const bool inks = space == TJCS_CMYK || space == TJCS_YCCK;
    p.channels = space == TJCS_GRAY ? 1 : 3;
    const int format = inks ? TJPF_CMYK : space == TJCS_GRAY ? TJPF_GRAY : TJPF_RGB, stored = tjPixelSize[format];
    const size_t pixels = static_cast<size_t>(p.width) * p.height;
    std::vector<unsigned char> values(pixels * stored);
    // What the library calls a warning is data that it had to make up.
    if (tjDecompress2(decoder.get(), data, bytes.size(), values.data(), p.width, 0, p.height, format, TJFLAG_STOPONWARNING | TJFLAG_LIMITSCANS | TJFLAG_ACCURATEDCT) != 0)
        complain("the picture is damaged");
    p.values.resize(pixels * p.channels);
    for (size_t i = 0; i < p.values.size(); i++) {
        const unsigned char* pixel = &values[i / p.channels * stored];
        const float value = pixel[i % p.channels] / 255.0f;
        p.values[i] = inks ? value * (pixel[3] / 255.0f) : value;  // inks are stored as what they let through
    }
    return p;
}

Picture decode(const std::string& bytes) {
    if (bytes.compare(0, 3, "\xff\xd8\xff") == 0)
        return decodeJpeg(bytes);
    const stbi_io_callbacks callbacks = {Source::read, Source::skip, Source::eof};
    auto reason = [] {
        const char* given = stbi_failure_reason();
        return std::string(given == nullptr ? "unknown reason" : given);
    };
    if (bytes.empty())
        fail("the file is empty");
    checkChunks(bytes);
    Picture p;
    Source header{bytes};
    if (stbi_info_from_callbacks(&callbacks, &header, &p.width, &p.height, &p.channels) == 0)
        fail(std::string("not a ") + Formats + " picture (" + reason() + ")");
    checkSize(p.height, p.width, bytes.size());
    Source forDepth{bytes}, source{bytes};
    const bool deep = stbi_is_16_bit_from_callbacks(&callbacks, &forDepth) != 0;
    const std::unique_ptr<void, void (*)(void*)> pixels(deep ? static_cast<void*>(stbi_load_16_from_callbacks(&callbacks, &source, &p.width, &p.height, &p.channels, 0))
                                                             : stbi_load_from_callbacks(&callbacks, &source, &p.width, &p.height, &p.channels, 0),
                                                        stbi_image_free);
    if (source.ended)
        fail("the picture is cut off: the file ends within its data");
    if (pixels == nullptr)
        fail("the picture is damaged (" + reason() + ")");
    const size_t n = static_cast<size_t>(p.width) * p.height * p.channels;
    p.values.resize(n);
    for (size_t i = 0; i < n; i++)
        p.values[i] = deep ? static_cast<const stbi_us*>(pixels.get())[i] / 65535.0f : static_cast<const stbi_uc*>(pixels.get())[i] / 255.0f;
    return p;
}

/// Pixels without alpha, in the number of channels asked for.
Picture converted(const Picture& p, int channels, float background) {
    const bool alpha = p.channels % 2 == 0, grey = p.channels <= 2;
    Picture out{p.height, p.width, channels, std::vector<float>(static_cast<size_t>(p.height) * p.width * channels)};
    for (size_t i = 0; i < out.values.size() / channels; i++) {
        const float* from = &p.values[i * p.channels];
        float colour[3];
        for (int c = 0; c < 3; c++)
            colour[c] = alpha ? background + from[p.channels - 1] * (from[grey ? 0 : c] - background) : from[grey ? 0 : c];
        if (channels == 3)
            std::copy(colour, colour + 3, &out.values[i * 3]);
        else
            out.values[i] = grey ? colour[0] : 0.299f * colour[0] + 0.587f * colour[1] + 0.114f * colour[2];
    }
    return out;
}

/// The whole picture, its sides in proportion, in the middle of another size.
Picture fitted(const Picture& p, int height, int width, float background) {
    const double scale = std::min(static_cast<double>(height) / p.height, static_cast<double>(width) / p.width);
    const int h = std::clamp(static_cast<int>(std::lround(scale * p.height)), 1, height), w = std::clamp(static_cast<int>(std::lround(scale * p.width)), 1, width);
    Picture out{height, width, p.channels, std::vector<float>(static_cast<size_t>(height) * width * p.channels, background)};
    float* corner = &out.values[(static_cast<size_t>((height - h) / 2) * width + (width - w) / 2) * p.channels];
    // Averages where it becomes smaller, lines between pixels where it becomes larger: neither leaves the range of its values.
    const stbir_filter filter = scale < 1 ? STBIR_FILTER_BOX : STBIR_FILTER_TRIANGLE;
    if (stbir_resize_float_generic(p.values.data(), p.width, p.height, 0, corner, w, h, width * p.channels * static_cast<int>(sizeof(float)), p.channels, STBIR_ALPHA_CHANNEL_NONE,
                                   0, STBIR_EDGE_CLAMP, filter, STBIR_COLORSPACE_LINEAR, nullptr) == 0)
        throw std::bad_alloc();
    return out;
}

/// A column of pixels in the shape that `reading` asks for, whose zeros take those of this picture.
VectorXd columnOf(const Picture& p, ImageReading& reading) {
    ImageShape& shape = reading.shape;
    if (shape.channels == 0)
        shape.channels = p.channels <= 2 ? 1 : 3;
    if (shape.height == 0)
        shape.height = p.height;
    if (shape.width == 0)
        shape.width = p.width;
    const auto background = static_cast<float>(reading.background);
    Picture out = converted(p, shape.channels, background);
    if (p.height != shape.height || p.width != shape.width) {
        if (!reading.resize)
            fail("expected a picture of " + std::to_string(shape.height) + " x " + std::to_string(shape.width) + " pixels, got " + std::to_string(p.height) + " x " +
                 std::to_string(p.width) + " (ask for it to be resized)");
        out = fitted(out, shape.height, shape.width, background);
    }
    return VectorXd::NullaryExpr(shape.size(), [&](Index i) { return std::clamp(static_cast<double>(out.values[i]), 0.0, 1.0); });
}

void check(const ImageReading& r) {
    if (r.shape.height < 0 || r.shape.width < 0 || (r.shape.channels != 0 && r.shape.channels != 1 && r.shape.channels != 3))
        fail("pictures: expected a height and width of at least 1 (0: the picture's own) and 1 or 3 channels, got " + toString(r.shape));
    if (static_cast<std::int64_t>(r.shape.height) * r.shape.width > MostPixels)
        fail("pictures: expected at most " + std::to_string(MostPixels >> 20) + " megapixels, got " + toString(r.shape));
    if (!(r.background >= 0 && r.background <= 1))
        fail("pictures: expected a background between 0 (black) and 1 (white), got " + text(r.background));
}

VectorXd readColumn(const fs::path& path, ImageReading& reading) {
    std::error_code error;
    if (const std::uintmax_t size = fs::file_size(path, error); !error && size > MostBytes)
        fail("the file has " + std::to_string(size >> 20) + " MiB, expected a picture of at most " + std::to_string(MostBytes >> 20));
    return columnOf(decode(readFile(path.string())), reading);
}

std::string lower(std::string s) {
    std::transform(s.begin(), s.end(), s.begin(), [](unsigned char c) { return std::tolower(c); });
    return s;
}

ImageSet readArray(const std::string& path, ImageReading reading) {
    const NpyArray a = parseNpy(readFile(path));
    if (a.isText || (a.shape.size() != 3 && a.shape.size() != 4) || a.numbers.empty() || (a.shape.size() == 4 && a.shape[3] > 4))
        fail("expected pictures as an array [K, H, W] or [K, H, W, C] of at most 4 channels, got " + a.shapeText());
    if (a.shape[1] > static_cast<size_t>(MostPixels) / a.shape[2])
        fail("too large: expected pictures of at most " + std::to_string(MostPixels >> 20) + " megapixels, got " + a.shapeText());
    Picture p;
    p.height = static_cast<int>(a.shape[1]);
    p.width = static_cast<int>(a.shape[2]);
    p.channels = a.shape.size() == 4 ? static_cast<int>(a.shape[3]) : 1;
    const size_t K = a.shape[0], n = a.numbers.size() / K;
    ImageSet set;
    for (size_t k = 0; k < K; k++) {
        p.values.resize(n);
        for (size_t i = 0; i < n; i++) {
            const double value = a.isBytes ? a.numbers[k * n + i] / 255 : a.numbers[k * n + i];
            if (!(value >= 0 && value <= 1))  // not a number as well
                fail("picture " + std::to_string(k) + ", value " + std::to_string(i) + ": expected a number between 0 and 1 (or an array of bytes), got " + text(value));
            p.values[i] = static_cast<float>(value);
        }
        const VectorXd column = columnOf(p, reading);
        if (k == 0)
            set.pixels.resize(column.size(), static_cast<Index>(K));
        set.pixels.col(static_cast<Index>(k)) = column;
        set.names.push_back(fs::path(path).stem().string() + "[" + std::to_string(k) + "]");
    }
    set.shape = reading.shape;
    return set;
}

/// Runs `body`; its complaints get the name of the file before them.
template <class Body>
auto named(const std::string& path, Body body) {
    try {
        return body();
    }
    catch (const std::invalid_argument& e) {
        const std::string message = e.what();
        fail(printable(message.find("'" + path + "'") != std::string::npos ? message : "picture '" + path + "': " + message));
    }
    catch (const std::bad_alloc&) {
        fail("picture '" + path + "': there is not enough memory for it");
    }
}

}  // namespace

std::string toString(const ImageShape& s) {
    return std::to_string(s.height) + " x " + std::to_string(s.width) + ", " + std::to_string(s.channels) + (s.channels == 1 ? " channel" : " channels");
}

ImageSet readImage(const std::string& path, const ImageReading& given) {
    ImageReading reading = given;
    check(reading);
    ImageSet set;
    set.pixels = named(path, [&] { return readColumn(path, reading); });
    set.shape = reading.shape;
    set.names = {fs::path(path).filename().string()};
    return set;
}

ImageSet readImages(const std::string& path, const ImageReading& given) {
    ImageReading reading = given;
    check(reading);
    if (!fs::is_directory(path))
        return lower(fs::path(path).extension().string()) == ".npy" ? named(path, [&] { return readArray(path, reading); }) : readImage(path, reading);
    std::vector<fs::path> files;
    std::error_code error;
    for (fs::directory_iterator it(path, error), end; !error && it != end; it.increment(error)) {
        const fs::path file = it->path();
        const bool isPicture = std::find(std::begin(Endings), std::end(Endings), lower(file.extension().string())) != std::end(Endings);
        if (isPicture && file.filename().string()[0] != '.' && !fs::is_directory(file))
            files.push_back(file);
    }
    if (error)
        fail("folder '" + path + "' cannot be read: " + error.message());
    if (files.empty())
        fail("folder '" + path + "': expected pictures (" + Formats + "), found none");
    std::sort(files.begin(), files.end());
    ImageSet set;
    for (const fs::path& file : files) {
        ImageReading tried = reading;  // a file that is left out must not decide the size of the others
        VectorXd column;
        try {
            column = named(file.string(), [&] { return readColumn(file, tried); });
        }
        catch (const std::invalid_argument& e) {
            if (!reading.skipUnreadable)
                throw;
            const std::string prefix = "picture '" + file.string() + "': ", message = e.what();
            set.skipped.push_back(file.filename().string() + ": " + (message.compare(0, prefix.size(), prefix) == 0 ? message.substr(prefix.size()) : message));
            continue;
        }
        reading = tried;
        if (set.names.empty())
            set.pixels.resize(column.size(), static_cast<Index>(files.size()));
        set.pixels.col(static_cast<Index>(set.names.size())) = column;
        set.names.push_back(file.filename().string());
    }
    if (set.names.empty())
        fail("folder '" + path + "': none of its " + std::to_string(files.size()) + " pictures can be read; the first: " + set.skipped[0]);
    set.pixels.conservativeResize(Eigen::NoChange, static_cast<Index>(set.names.size()));
    set.shape = reading.shape;
    return set;
}

void writePng(const std::string& path, const VectorXd& pixels, const ImageShape& shape, bool overwrite) {
    if (shape.height < 1 || shape.width < 1 || (shape.channels != 1 && shape.channels != 3) || shape.size() != pixels.size())
        fail("picture '" + path + "': expected " + toString(shape) + " (1 or 3 channels) and as many values, got " + std::to_string(pixels.size()) + " values");
    std::vector<unsigned char> bytes(pixels.size());
    for (Index i = 0; i < pixels.size(); i++) {
        if (std::isnan(pixels[i]))
            fail("picture '" + path + "': value " + std::to_string(i) + " is not a number");
        bytes[i] = static_cast<unsigned char>(std::lround(255 * std::clamp(pixels[i], 0.0, 1.0)));
    }
    std::string file;
    auto append = [](void* to, void* data, int size) { static_cast<std::string*>(to)->append(static_cast<const char*>(data), size); };
    if (stbi_write_png_to_func(append, &file, shape.width, shape.height, shape.channels, bytes.data(), shape.width * shape.channels) == 0)
        throw std::runtime_error("picture '" + path + "': there is not enough memory to write it");
    writeFile(path, file, overwrite);
}

}  // namespace Spacetime
