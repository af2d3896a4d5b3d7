// SPDX-License-Identifier: MIT
#include "Checkpoint.h"
#include "spacetime/Json.h"
#include "spacetime/Safetensors.h"
#include <filesystem>

using nlohmann::json;

namespace Spacetime {

Checkpoint Checkpoint::read(const std::string& file, const json& key, std::int64_t size, const std::string& caller) {
    Checkpoint result;
    if (!std::filesystem::exists(file))
        return result;
    const Safetensors stored = Safetensors::read(file);
    const auto record = stored.metadata.find("training");
    const auto tensor = stored.tensors.find("state");
    if (record != stored.metadata.end())
        result.record = withPrefix(caller + ": the checkpoint '" + file + "': ", [&] { return parseJson(record->second); });
    bool same = result.record.is_object() && result.record.contains("losses") && tensor != stored.tensors.end() && static_cast<std::int64_t>(tensor->second.values.size()) == size;
    for (const auto& [name, value] : key.items())
        same = same && result.record.contains(name) && result.record[name] == value;
    if (!same)
        throw std::invalid_argument(caller + ": the checkpoint '" + file + "' belongs to other data or options: train with the same ones, or without resuming");
    result.state.assign(tensor->second.values.begin(), tensor->second.values.end());
    return result;
}

}  // namespace Spacetime
