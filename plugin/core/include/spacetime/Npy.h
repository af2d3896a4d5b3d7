// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace Spacetime {

/// One array of a .npy file: numbers as doubles in row-major order, or text.
struct NpyArray {
    std::vector<size_t> shape;
    std::vector<double> numbers;
    std::string text;
    bool isText = false;
    bool isBytes = false;  ///< unsigned bytes in the file

    /// "shape [3, 8, 8]" or "text", for errors.
    std::string shapeText() const;
};

/// The array in the bytes of a .npy file. Throws std::invalid_argument saying what is wrong with it; nothing is allocated that the file has no bytes for.
NpyArray parseNpy(const std::string& bytes);

}  // namespace Spacetime
