// SPDX-License-Identifier: MIT
// Files of pictures; openmmspacetime/pictures.py is their documented face.
#include "arrays.h"
#include "spacetime/Images.h"
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

using namespace nb::literals;
using namespace Spacetime;

namespace {

ImageReading readingOf(int height, int width, int channels, bool resize, double background, bool skip) {
    ImageReading r;
    r.shape = {height, width, channels};
    r.resize = resize;
    r.background = background;
    r.skipUnreadable = skip;
    return r;
}

/// (pixels [K, H, W, C], names, skipped): the core's columns are numpy's rows.
nb::tuple asTuple(ImageSet&& set) {
    auto* kept = new Eigen::MatrixXd(std::move(set.pixels));
    nb::capsule owner(kept, [](void* p) noexcept { delete static_cast<Eigen::MatrixXd*>(p); });
    const size_t shape[] = {static_cast<size_t>(kept->cols()), static_cast<size_t>(set.shape.height), static_cast<size_t>(set.shape.width),
                            static_cast<size_t>(set.shape.channels)};
    return nb::make_tuple(nb::ndarray<nb::numpy, double>(kept->data(), 4, shape, owner), set.names, set.skipped);
}

}  // namespace

void bindPictures(nb::module_& m) {
    m.def(
        "readImages",
        [](const std::string& path, int height, int width, int channels, bool resize, double background, bool skip, bool single) {
            ImageSet set = [&] {
                nb::gil_scoped_release release;
                const ImageReading reading = readingOf(height, width, channels, resize, background, skip);
                return single ? readImage(path, reading) : readImages(path, reading);
            }();
            return asTuple(std::move(set));
        },
        "path"_a, "height"_a, "width"_a, "channels"_a, "resize"_a, "background"_a, "skipUnreadable"_a, "single"_a);
    m.def(
        "writePng",
        [](const std::string& path, nb::handle image, bool overwrite) {
            const auto a = floats(image, 3, "image");
            const ImageShape shape{static_cast<int>(a.shape(0)), static_cast<int>(a.shape(1)), static_cast<int>(a.shape(2))};
            writePng(path, Eigen::Map<const Eigen::VectorXd>(a.data(), static_cast<Eigen::Index>(a.size())), shape, overwrite);
        },
        "path"_a, "image"_a, "overwrite"_a);
}
