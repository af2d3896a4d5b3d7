// SPDX-License-Identifier: MIT
#pragma once

#include "TorchEntry.h"
#include "spacetime/ImageModel.h"
#include "spacetime/Safetensors.h"
#include <nlohmann/json.hpp>

namespace Spacetime {

/// What a file of an ImageModel holds.
struct ImageModelFile {
    DenoiserParameters parameters;
    ImageShape image;
    UnetShape unet;
    nlohmann::json training;
    std::vector<float> weights;

    /// Throws std::invalid_argument, naming the file, for what is no picture model or a damaged one.
    static ImageModelFile read(const std::string& path);
    void write(const std::string& path) const;
    /// What is written beside the weights, without what is made from the shapes.
    nlohmann::json metadata() const;
};

/// The variables of pictures: r3c12.1 is channel 1 of the pixel in row 3, column 12.
Variables imageVariables(const ImageShape& image);
/// The shape as the library that links LibTorch takes it. Throws std::invalid_argument, beginning with `where`, for numbers that are no shape and pictures that
/// the levels do not divide.
SpacetimeUnetShape checkedShape(const ImageShape& image, const UnetShape& unet, const std::string& where);

}  // namespace Spacetime
