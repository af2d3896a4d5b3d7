// SPDX-License-Identifier: MIT
#pragma once

#include <Eigen/Core>
#include <cstdint>
#include <string>
#include <vector>

namespace Spacetime {

struct ImageShape {
    int height = 0, width = 0, channels = 0;  ///< 1 channel (grey) or 3 (red, green, blue)
    int size() const { return height * width * channels; }
    bool operator==(const ImageShape& o) const { return height == o.height && width == o.width && channels == o.channels; }
    bool operator!=(const ImageShape& o) const { return !(*this == o); }
};
/// "32 x 32, 3 channels".
std::string toString(const ImageShape& shape);

/// What is done with a picture whose size or channels are not those expected.
struct ImageReading {
    ImageShape shape;             ///< expected; a size of 0 takes that of the (first) picture
    bool resize = false;          ///< other sizes are scaled to fit, sides in proportion, on the background (averaged where smaller); otherwise refused
    double background = 1.0;      ///< grey level behind transparent pixels
    bool skipUnreadable = false;  ///< files of a folder that cannot be read are left out, and named in ImageSet::skipped; otherwise they are an error
};

/// Pictures as columns of pixel values in [0, 1], row by row, the channels of a pixel together: [height * width * channels x K].
struct ImageSet {
    ImageShape shape;
    Eigen::MatrixXd pixels;
    std::vector<std::string> names;    ///< file names, in order
    std::vector<std::string> skipped;  ///< "name: reason"
};

/// One PNG, JPEG, BMP, GIF, TGA or PNM file. Grey becomes colour and colour grey (Rec. 601 luma) as the channels ask. Throws std::invalid_argument naming the
/// file for files that are no picture, too large, or of another size than expected.
ImageSet readImage(const std::string& path, const ImageReading& reading = {});

/// All pictures of a folder, by name (files with another ending than a picture's are no pictures); or those of a .npy file [K, H, W], [K, H, W, C] of
/// numbers in [0, 1] or of bytes (0 to 255); or one file as readImage(). Throws std::invalid_argument naming the file.
ImageSet readImages(const std::string& path, const ImageReading& reading = {});

/// One column of pixels as a PNG file, values clipped to [0, 1].
void writePng(const std::string& path, const Eigen::VectorXd& pixels, const ImageShape& shape, bool overwrite);

}  // namespace Spacetime
