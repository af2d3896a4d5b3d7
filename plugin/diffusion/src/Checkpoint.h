// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace Spacetime {

/// What an interrupted training left behind: the trainer's state, and a record with the losses so far.
struct Checkpoint {
    std::vector<float> state;  ///< empty where there is no checkpoint
    nlohmann::json record = nlohmann::json::object();

    /// Throws std::invalid_argument where the file's state has not `size` numbers, or its record another value of any item of `key`: samples or options differ.
    static Checkpoint read(const std::string& file, const nlohmann::json& key, std::int64_t size, const std::string& caller);
};

}  // namespace Spacetime
