// SPDX-License-Identifier: MIT
#include "CommandLine.h"
#include "Commands.h"
#include "spacetime/Curve.h"
#include "spacetime/DensityPath.h"
#include "spacetime/Files.h"
#include "spacetime/ImageModel.h"
#include "spacetime/Json.h"
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

json describe(const std::string& path) {
    if (endsWith(path, ".safetensors")) {
        json j = describeModel(path);
        j["kind"] = j.contains("image") ? "model of pictures" : "model";
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
        const std::string bytes = readFile(path);
        json j = withPrefix("'" + path + "': ", [&] { return parseJson(bytes); });
        if (j.is_object() && j.contains("means")) {
            const auto m = readMixture(path);
            return {{"kind", "mixture"}, {"dimensions", m->variables().size()}, {"components", m->components().logWeights.size()}};
        }
        if (j.is_object() && j.value("format", json()) == "spacetime-density-path") {
            const DensityPathFile file = loadDensityPath(path);
            for (const char* key : {"format", "version", "path", "log_density"})
                j.erase(key);
            j["kind"] = "density path";
            j["points"] = file.raw.cols();
            j["lowest_log_density"] = file.path.logDensity.minCoeff();
            return j;
        }
        if (j.is_object() && j.value("format", json()) == "spacetime-density-sequence") {
            for (const char* key : {"format", "version", "angle", "residual", "geodesic", "line"})
                j.erase(key);
            j["variables"] = j.at("frames").at("variables");
            j["kind"] = "density sequence";
            j["frames"] = j.at("frames").at("path").size();
            return j;
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

/// 4, or (0 1 2) for a centroid; of long ones the ends.
std::string describe(const Site& site) {
    const size_t n = site.atoms.size(), longest = 8;
    if (n == 1)
        return std::to_string(site.atoms[0]);
    std::string s;
    for (size_t i = 0; i < n; i++) {
        if (n <= longest || i < 3 || i == n - 1)
            s += (i ? " " : "") + std::to_string(site.atoms[i]);
        else if (i == 3)
            s += " ...";
    }
    return "(" + s + (n > longest ? "; " + std::to_string(n) + " atoms" : "") + (site.weighted() ? "; weighted)" : ")");
}

/// One line for a reader. The files hold more: weights, and the reference of a frame.
std::string describe(const Variable& v) {
    std::string s = v.name + ": " + v.kindName();
    if (v.kind == Variable::Kind::Coordinate || v.kind == Variable::Kind::Position)
        s += std::string(" ") + "xyz"[v.axis];
    for (size_t i = 0; i < v.atoms.size(); i++)
        s += (i ? ", " : " of ") + describe(v.atoms[i]);
    if (v.frame)
        s += ", " + std::to_string(v.frame->sites.size()) + " sites superposed";
    if (!v.unit().empty())
        s += ", " + v.unit();
    if (v.period > 0)
        s += ", period " + text(v.period);
    else if (v.shift != 0 || v.scale != 1)
        s += ", shift " + text(v.shift) + ", scale " + text(v.scale);
    return s;
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
        const bool list = item->is_array() && !item->empty() && (item->front().is_object() || item->front().is_string());
        if (item->is_object() || list) {
            std::printf("%*s%s\n", indent, "", item.key().c_str());
            if (!list)
                printTree(*item, indent + 2);
            else
                for (const json& part : *item)
                    std::printf("%*s%s\n", indent + 2, "", part.is_string() ? part.get<std::string>().c_str() : part.dump().c_str());
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
    else {
        json summary = brief(j);
        if (j.contains("variables")) {
            const Variables variables = Variables::fromJson(j["variables"]);
            summary["variables"] = json::array();
            for (const Variable& v : variables.items())
                summary["variables"].push_back(describe(v));
        }
        printTree(summary, 0);
    }
    return 0;
}

}  // namespace Spacetime
