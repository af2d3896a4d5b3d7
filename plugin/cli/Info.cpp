// SPDX-License-Identifier: MIT
#include "CommandLine.h"
#include "Commands.h"
#include "spacetime/Curve.h"
#include "spacetime/Files.h"
#include "spacetime/NetworkModel.h"
#include "spacetime/Samples.h"
#include "spacetime/Text.h"
#include "spacetime/TorchScriptModel.h"
#include <cstdio>
#include <iostream>

namespace po = boost::program_options;
using nlohmann::json;

namespace Spacetime {

namespace {

bool endsWith(const std::string& s, const std::string& ending) { return s.size() >= ending.size() && s.compare(s.size() - ending.size(), ending.size(), ending) == 0; }

json describe(const std::string& path) {
    if (endsWith(path, ".safetensors")) {
        json j = NetworkModel::load(path)->metadata();
        j["kind"] = "model";
        return j;
    }
    if (endsWith(path, ".pt")) {
        const auto model = TorchScriptModel::load(path);
        json j = model->parameters().toJson();
        j["kind"] = "torchscript";
        j["derivatives"] = model->derivatives();
        j["precision"] = model->isDouble() ? "float64" : "float32";
        return j;
    }
    if (endsWith(path, ".npz") || endsWith(path, ".npy") || endsWith(path, ".csv")) {
        const Samples s = readSamples(path);
        json j = {{"kind", "samples"}, {"samples", s.raw.cols()}, {"columns", s.raw.rows()}, {"weighted", s.logWeights.size() > 0}, {"grid", s.grid}};
        if (s.variables.size())
            j["variables"] = s.variables.toJson();
        json low = json::array(), high = json::array();
        for (Eigen::Index i = 0; i < s.raw.rows(); i++) {
            low.push_back(s.raw.row(i).minCoeff());
            high.push_back(s.raw.row(i).maxCoeff());
        }
        j["lowest"] = low;
        j["highest"] = high;
        if (s.logWeights.size()) {
            const Eigen::ArrayXd w = (s.logWeights.array() - s.logWeights.maxCoeff()).exp();
            j["effective_samples"] = w.sum() * w.sum() / w.square().sum();
        }
        return j;
    }
    if (endsWith(path, ".json")) {
        json j;
        try {
            j = json::parse(readFile(path));
        }
        catch (const json::exception& e) {
            throw std::invalid_argument("'" + path + "': not JSON: " + e.what());
        }
        if (j.is_object() && j.contains("means")) {
            const auto m = readMixture(path);
            return {{"kind", "mixture"}, {"dimensions", m->variables().size()}, {"components", m->components().logWeights.size()}};
        }
        const Curve c = Curve::load(path);
        json out = c.toJson();
        for (const char* key : {"s", "eta", "log_snr", "x"})
            out.erase(key);
        out["kind"] = "curve";
        out["points"] = c.numPoints();
        return out;
    }
    throw std::invalid_argument("'" + path + "': expected a name that ends in .safetensors, .pt, .json, .npz, .npy or .csv");
}

/// The same for a reader: of long lists their ends.
json brief(const json& j) {
    const size_t longest = 8;
    if (j.is_array() && j.size() > longest && !j.front().is_object())
        return j.front().dump() + " ... " + j.back().dump() + " (" + std::to_string(j.size()) + ")";
    if (!j.is_structured())
        return j;
    json out = j;
    for (auto& part : out)
        part = brief(part);
    return out;
}

void printTree(const json& j, int indent) {
    for (auto item = j.begin(); item != j.end(); ++item) {
        const bool list = item->is_array() && !item->empty() && item->front().is_object();
        if (item->is_object() || list) {
            std::printf("%*s%s\n", indent, "", item.key().c_str());
            if (!list)
                printTree(*item, indent + 2);
            else
                for (const json& part : *item)
                    std::printf("%*s%s\n", indent + 2, "", part.dump().c_str());
        }
        else
            std::printf("%*s%-*s %s\n", indent, "", 28 - indent, item.key().c_str(), item->is_string() ? item->get<std::string>().c_str() : item->dump().c_str());
    }
}

}  // namespace

int runInfo(const std::vector<std::string>& words) {
    const CommandLine line("info FILE [--json]", po::options_description(), "file", words);
    if (line.helped())
        return 0;
    const json j = describe(line.require("file"));
    if (line.json())
        std::cout << j.dump() << "\n";
    else
        printTree(brief(j), 0);
    return 0;
}

}  // namespace Spacetime
