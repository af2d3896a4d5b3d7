// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace Spacetime {

/**
 * The contents of a safetensors file: named tensors and string metadata.
 *
 * Layout: 8 bytes little-endian header length, a JSON header {name: {dtype, shape, data_offsets}, "__metadata__": {..}},
 * then the tensors' bytes, which must cover the rest of the file without holes. Reading never runs code.
 */
struct Safetensors {
    struct Tensor {
        enum class Type { Float32, Float64 };
        Type type = Type::Float32;
        std::vector<std::int64_t> shape;  ///< row-major
        std::vector<double> values;       ///< float32 tensors are widened on reading and rounded on writing
    };

    std::map<std::string, Tensor> tensors;
    std::map<std::string, std::string> metadata;

    /// Throws std::invalid_argument naming the file, what was expected and what came.
    static Safetensors read(const std::string& path);
    /// Writes to a temporary file in the same folder and renames it, so that no half-written model is ever seen.
    void write(const std::string& path) const;
};

}  // namespace Spacetime
