// SPDX-License-Identifier: MIT
#include "PathFiles.h"
#include "openmm/Vec3.h"
#include "spacetime/Files.h"
#include "spacetime/Json.h"
#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <map>
#include <stdexcept>
#include <unistd.h>
#include <zlib.h>

namespace fs = std::filesystem;
using nlohmann::json;
using SpacetimePlugin::PathSampler;
using SpacetimePlugin::SpacetimeForce;
using std::string;
using std::vector;

namespace Spacetime {

PathSeeds pathSeeds(std::uint32_t seed, std::uint32_t index) {
    // The algorithm of numpy.random.SeedSequence, for two words of entropy.
    std::uint32_t constant = 0x43b0d7e5;
    auto hash = [&](std::uint32_t value) {
        value ^= constant;
        constant *= 0x931e8875;
        value *= constant;
        return value ^ (value >> 16);
    };
    std::uint32_t pool[4] = {hash(seed), hash(index), hash(0), hash(0)};
    for (int source = 0; source < 4; source++)
        for (int target = 0; target < 4; target++)
            if (source != target) {
                std::uint32_t mixed = 0xca01f9dd * pool[target] - 0x4973f715 * hash(pool[source]);
                pool[target] = mixed ^ (mixed >> 16);
            }
    constant = 0x8b51f9dd;
    int result[2];
    for (int i = 0; i < 2; i++) {
        std::uint32_t value = pool[i] ^ constant;
        constant *= 0x58f38ded;
        value *= constant;
        value ^= value >> 16;
        result[i] = static_cast<int>(value % 0x7FFFFFFE + 1);
    }
    return {result[0], result[1]};
}

string repr(double value) {
    if (!std::isfinite(value))
        return std::isnan(value) ? "nan" : value > 0 ? "inf" : "-inf";
    char buffer[64];
    const string number(buffer, std::to_chars(buffer, buffer + sizeof(buffer), value, std::chars_format::scientific).ptr);
    const size_t e = number.find('e');
    const int exponent = std::stoi(number.substr(e + 1));
    if (exponent < -4 || exponent >= 16)
        return number;
    string result(buffer, std::to_chars(buffer, buffer + sizeof(buffer), value, std::chars_format::fixed).ptr);
    return result.find('.') == string::npos ? result + ".0" : result;
}

namespace {

/// Beside the file itself; a name of one's own, so that a process that was left over cannot interfere.
string temporaryName(const string& path) {
    const fs::path p(path);
    return (p.parent_path() / (".tmp-" + std::to_string(getpid()) + "-" + p.filename().string())).string();
}

[[noreturn]] void cannotWrite(const string& path) {
    throw std::runtime_error("cannot write '" + path + "': " + std::strerror(errno) + "; what is complete stays, make room and go on with --resume");
}

/// Give a file its name once its bytes are on the disk.
void publish(const string& temporary, const string& path) {
    const int file = open(temporary.c_str(), O_RDWR);
    const bool good = file >= 0 && fsync(file) == 0;
    if (file >= 0)
        close(file);
    if (!good || std::rename(temporary.c_str(), path.c_str()) != 0)
        cannotWrite(path);
}

void replaceFile(const string& path, const string& bytes) {
    const string temporary = temporaryName(path);
    errno = 0;
    std::ofstream out(temporary, std::ios::binary);
    out.write(bytes.data(), bytes.size());
    out.close();
    if (!out) {
        const int reason = errno;
        std::remove(temporary.c_str());
        errno = reason;
        cannotWrite(path);
    }
    publish(temporary, path);
}

template <class T>
void append(string& bytes, T value) {
    bytes.append(reinterpret_cast<const char*>(&value), sizeof(T));
}

/// Arrays as members of an uncompressed .npz file.
class Npz {
public:
    template <class T>
    void add(const string& name, const char* type, const T* data, const vector<size_t>& shape) {
        string dimensions;
        size_t count = 1;
        for (size_t n : shape) {
            dimensions += std::to_string(n) + (shape.size() == 1 ? "," : &n == &shape.back() ? "" : ", ");
            count *= n;
        }
        string header = "{'descr': '" + string(type) + "', 'fortran_order': False, 'shape': (" + dimensions + "), }";
        header.append(63 - (10 + header.size()) % 64, ' ');
        header += '\n';
        string content("\x93NUMPY\x01\x00", 8);
        append<std::uint16_t>(content, header.size());
        content += header;
        content.append(reinterpret_cast<const char*>(data), count * sizeof(T));
        const string file = name + ".npy";
        if (content.size() > 0x7fffffff || bytes.size() > 0x7fffffff)
            throw std::runtime_error("the record of a path is larger than 2 GB: record fewer steps");
        // Version, flags, method (stored), time and date (1980-01-01), checksum, sizes, lengths of name and extra field.
        string fields;
        append<std::uint16_t>(fields, 20);
        append<std::uint32_t>(fields, 0);
        append<std::uint32_t>(fields, 0x00210000);
        append<std::uint32_t>(fields, crc32(0, reinterpret_cast<const Bytef*>(content.data()), content.size()));
        append<std::uint32_t>(fields, content.size());
        append<std::uint32_t>(fields, content.size());
        append<std::uint16_t>(fields, file.size());
        append<std::uint16_t>(fields, 0);
        append<std::uint32_t>(directory, 0x02014b50);
        append<std::uint16_t>(directory, 20);
        directory += fields;
        append<std::uint16_t>(directory, 0);
        append<std::uint32_t>(directory, 0);
        append<std::uint32_t>(directory, 0);
        append<std::uint32_t>(directory, bytes.size());
        directory += file;
        append<std::uint32_t>(bytes, 0x04034b50);
        bytes += fields + file + content;
        count_++;
    }
    void add(const string& name, double value) { add(name, "<f8", &value, {}); }
    void add(const string& name, long long value) { add(name, "<i8", &value, {}); }
    void add(const string& name, const vector<double>& values) { add(name, "<f8", values.data(), {values.size()}); }
    void add(const string& name, const vector<int>& values) { add(name, "<i4", values.data(), {values.size()}); }

    string finish() const {
        string end;
        append<std::uint32_t>(end, 0x06054b50);
        append<std::uint32_t>(end, 0);
        append<std::uint16_t>(end, count_);
        append<std::uint16_t>(end, count_);
        append<std::uint32_t>(end, directory.size());
        append<std::uint32_t>(end, bytes.size());
        append<std::uint16_t>(end, 0);
        return bytes + directory + end;
    }

private:
    string bytes, directory;
    int count_ = 0;
};

/// The arrays of 8-byte numbers in a file that Npz wrote.
std::map<string, vector<double>> readNumbers(const string& path) {
    const string bytes = readFile(path);
    std::map<string, vector<double>> result;
    auto word = [&](size_t at, int size) {
        std::uint32_t value = 0;
        std::memcpy(&value, &bytes[at], size);
        return value;
    };
    for (size_t at = 0; at + 30 <= bytes.size() && word(at, 4) == 0x04034b50;) {
        const size_t size = word(at + 18, 4), nameSize = word(at + 26, 2), begin = at + 30 + nameSize + word(at + 28, 2);
        if (begin + size > bytes.size() || size < 10)
            break;
        const size_t data = begin + 10 + word(begin + 8, 2);
        const bool isFloat = bytes.compare(begin + 10, 16, "{'descr': '<f8',") == 0, isInteger = bytes.compare(begin + 10, 16, "{'descr': '<i8',") == 0;
        vector<double>& values = result[bytes.substr(at + 30, nameSize - 4)];
        for (size_t i = data; (isFloat || isInteger) && i + 8 <= begin + size; i += 8) {
            double number;
            std::int64_t integer;
            std::memcpy(&number, &bytes[i], 8);
            std::memcpy(&integer, &bytes[i], 8);
            values.push_back(isFloat ? number : static_cast<double>(integer));
        }
        at = begin + size;
    }
    for (const char* name : {"index", "seed", "work", "gradientEvaluations", "seconds", "highestPotentialEnergy", "hit"})
        if (result[name].size() != 1)
            throw std::runtime_error("'" + path + "' is damaged: remove it and go on with --resume");
    return result;
}

string quoted(const string& text) {
    if (text.find_first_of(",\"\n\r") == string::npos)
        return text;
    string result = "\"";
    for (char c : text)
        result += c == '"' ? string("\"\"") : string(1, c);
    return result + "\"";
}

string stemOf(int index) {
    char name[32];
    std::snprintf(name, sizeof(name), "path-%04d", index);
    return name;
}

string frameHeader(const vector<string>& names) {
    string header = "path,frame,step,s";
    for (const string& name : names)
        header += "," + quoted(name);
    return header + ",U,U_bias,work,F,state,seed\n";
}

}  // namespace

DcdFile::DcdFile(const string& path, int numParticles, bool isPeriodic, double stepSize, int interval, const string& title)
    : path(path), temporary(temporaryName(path)), numParticles(numParticles), interval(interval), isPeriodic(isPeriodic), out(temporary, std::ios::binary) {
    string header;
    append<std::int32_t>(header, 84);
    header += "CORD";
    for (int value : {0, interval, interval, 0, 0, 0, 0, 0, 0})
        append<std::int32_t>(header, value);
    append<float>(header, static_cast<float>(stepSize / 0.04888821));  // AKMA time units
    for (int value : {isPeriodic ? 1 : 0, 0, 0, 0, 0, 0, 0, 0, 0, 24, 84, 164, 2})
        append<std::int32_t>(header, value);
    header += string("Created by OpenMM").append(63, '\0');
    header += (title + string(80, ' ')).substr(0, 80);
    for (int value : {164, 4, numParticles, 4})
        append<std::int32_t>(header, value);
    put(header.data(), header.size());
}

DcdFile::~DcdFile() {
    out.close();
    std::remove(temporary.c_str());
}

void DcdFile::put(const void* data, size_t bytes) {
    if (!out.write(static_cast<const char*>(data), bytes))
        cannotWrite(path);
}

void DcdFile::write(const float* positions, const double* box) {
    numFrames++;
    string bytes;
    if (isPeriodic) {
        const OpenMM::Vec3 a(box[0], box[1], box[2]), b(box[3], box[4], box[5]), c(box[6], box[7], box[8]);
        auto length = [](const OpenMM::Vec3& v) { return std::sqrt(v.dot(v)); };
        auto cosine = [&](const OpenMM::Vec3& v, const OpenMM::Vec3& w) { return v.dot(w) / (length(v) * length(w)); };
        append<std::int32_t>(bytes, 48);
        for (double value : {10 * length(a), cosine(a, b), 10 * length(b), cosine(a, c), cosine(b, c), 10 * length(c)})
            append<double>(bytes, value);
        append<std::int32_t>(bytes, 48);
    }
    for (int axis = 0; axis < 3; axis++) {
        append<std::int32_t>(bytes, 4 * numParticles);
        for (int i = 0; i < numParticles; i++)
            append<float>(bytes, 10.0f * positions[3 * i + axis]);
        append<std::int32_t>(bytes, 4 * numParticles);
    }
    put(bytes.data(), bytes.size());
}

void DcdFile::publish() {
    const std::int32_t count = numFrames, last = interval + (numFrames - 1) * interval;
    out.seekp(8);
    put(&count, 4);
    out.seekp(20);
    put(&last, 4);
    out.close();
    if (!out)
        cannotWrite(path);
    Spacetime::publish(temporary, path);
}

json describeVariables(const SpacetimeForce& force) {
    auto describeSites = [&](const vector<int>& sites) {
        json atoms = json::array(), weights = json::array();
        bool isWeighted = false;
        for (int site : sites) {
            vector<int> members;
            vector<double> own;
            if (site < 0)
                force.getCentroidParameters(site, members, own);
            atoms.push_back(site < 0 ? json(members) : json(site));
            weights.push_back(own.empty() ? json(nullptr) : json(own));
            isWeighted |= !own.empty();
        }
        json result = {{"atoms", atoms}};
        if (isWeighted)
            result["atom_weights"] = weights;
        return result;
    };
    json list = json::array();
    for (int i = 0; i < force.getNumVariables(); i++) {
        const SpacetimeForce::VariableType type = force.getVariableType(i);
        int a = 0, b = 0, c = 0, d = 0, axis = 0, frame = 0;
        double period = 0, shift = 0, scale = 1;
        vector<int> sites;
        json item;
        switch (type) {
        case SpacetimeForce::Torsion:
            force.getTorsionParameters(i, a, b, c, d);
            sites = {a, b, c, d};
            period = 2 * M_PI;
            break;
        case SpacetimeForce::Coordinate:
            force.getCoordinateParameters(i, a, axis, period, shift, scale);
            sites = {a};
            break;
        case SpacetimeForce::Angle:
            force.getAngleParameters(i, a, b, c, shift, scale);
            sites = {a, b, c};
            break;
        case SpacetimeForce::Distance:
            force.getDistanceParameters(i, a, b, shift, scale);
            sites = {a, b};
            break;
        case SpacetimeForce::Position: {
            force.getPositionParameters(i, a, axis, frame, shift, scale);
            sites = {a};
            vector<int> members;
            vector<OpenMM::Vec3> reference;
            vector<double> weights;
            force.getFrameParameters(frame, members, reference, weights);
            item["frame"] = describeSites(members);
            for (const OpenMM::Vec3& r : reference)
                item["frame"]["reference"].push_back({r[0], r[1], r[2]});
            if (!weights.empty())
                item["frame"]["weights"] = weights;
        }
        }
        item.update(
            {{"name", force.getVariableName(i)}, {"kind", SpacetimeForce::getVariableTypeName(type)}, {"axis", axis}, {"period", period}, {"shift", shift}, {"scale", scale}});
        item.update(describeSites(sites));
        list.push_back(item);
    }
    return list;
}

PathDirectory::PathDirectory(const string& path, const json& head, bool isResumed, bool overwrite) : path(path), stepsPerMove(head["settings"]["stepsPerMove"]) {
    for (const json& v : head["variables"])
        names.push_back(v["name"]);
    std::error_code error;
    const bool isOccupied = fs::exists(path) && !fs::is_empty(path, error);
    if (isOccupied && !isResumed && !overwrite)
        throw std::invalid_argument("'" + path + "' is not empty: pass --resume to go on with the run in it, --overwrite to replace it, or choose another folder");
    fs::create_directories(path, error);
    if (access(path.c_str(), W_OK) != 0)
        throw std::invalid_argument("cannot write to the folder '" + path + "': it cannot be made or is not writable");
    const string headFile = path + "/ensemble.json";
    // Before anything is removed: whoever resumes another run by mistake loses nothing.
    const bool isKnown = isResumed && fs::exists(headFile);
    if (isKnown && parseJson(readFile(headFile)) != head)
        throw std::invalid_argument("--resume: '" + path + "' was written with another System, Integrator, curve, state or settings, so its paths cannot be continued");
    for (const fs::directory_entry& entry : fs::directory_iterator(path)) {
        const string name = entry.path().filename().string();
        const bool isOurs = name.rfind("path-", 0) == 0 || name == "index.csv" || name == "paths.csv" || name == "ensemble.json" || name == "topology.pdb";
        if (name.rfind(".tmp-", 0) == 0 || (isOurs && !isResumed))
            fs::remove(entry.path());
    }
    if (!isKnown)
        replaceFile(headFile, head.dump(1));
}

string PathDirectory::file(int index, const string& suffix) const { return path + "/" + stemOf(index) + suffix; }

bool PathDirectory::isDone(int index) const { return fs::exists(file(index, ".npz")) || fs::exists(file(index, ".failed.json")); }

void PathDirectory::forgetFailures() const {
    for (const fs::directory_entry& entry : fs::directory_iterator(path)) {
        const string name = entry.path().filename().string();
        if (name.rfind("path-", 0) == 0 && name.size() > 12 && name.substr(name.size() - 12) == ".failed.json")
            fs::remove(entry.path());
    }
}

void PathDirectory::writePath(int index, int seed, const PathSampler& sampler, const vector<int>& frameSteps, const vector<double>& frameEnergy, const vector<double>& frameBias,
                              double seconds, int hit) const {
    const vector<double>&s = sampler.getS(), &variables = sampler.getVariables(), &energy = sampler.getPotentialEnergy();
    const size_t n = sampler.getNumVariables();
    string rows = frameHeader(names);
    for (size_t frame = 0; frame < frameSteps.size(); frame++) {
        const int step = frameSteps[frame];
        rows += std::to_string(index) + "," + std::to_string(frame) + "," + std::to_string(step) + "," + repr(s[step]);
        for (size_t i = 0; i < n; i++)
            rows += "," + repr(variables[n * step + i]);
        rows += "," + repr(frameEnergy[frame]) + "," + repr(frameBias[frame]) + "," + repr(sampler.getWorkProfile()[step / stepsPerMove]) + ",," + repr(s[step]) + "," +
                std::to_string(seed) + "\n";
    }
    double highest = *std::max_element(frameEnergy.begin(), frameEnergy.end());
    for (double e : energy)
        highest = std::max(highest, e);
    Npz record;
    record.add("index", static_cast<long long>(index));
    record.add("seed", static_cast<long long>(seed));
    record.add("s", s);
    record.add("variables", "<f8", variables.data(), {s.size(), n});
    record.add("work", sampler.getWork());
    record.add("workProfile", sampler.getWorkProfile());
    record.add("potentialEnergy", energy);
    record.add("energySteps", sampler.getEnergySteps());
    record.add("finalVariables", sampler.getFinalVariables());
    record.add("frameSteps", frameSteps);
    record.add("frameEnergy", frameEnergy);
    record.add("frameBias", frameBias);
    record.add("gradientEvaluations", sampler.getNumGradientEvaluations());
    record.add("energyEvaluations", sampler.getNumEnergyEvaluations());
    record.add("seconds", seconds);
    record.add("highestFreeEnergy", std::nan(""));
    record.add("highestPotentialEnergy", highest);
    record.add("hit", static_cast<long long>(hit));
    replaceFile(file(index, ".csv"), rows);
    replaceFile(file(index, ".npz"), record.finish());
}

void PathDirectory::writeFailure(int index, int seed, long long step, double s, const string& message, double seconds) const {
    replaceFile(file(index, ".failed.json"), json{{"index", index}, {"seed", seed}, {"step", step}, {"s", s}, {"message", message}, {"seconds", seconds}}.dump(1));
}

std::pair<int, int> PathDirectory::writeIndex() const {
    std::map<int, string> complete, failed;
    for (const fs::directory_entry& entry : fs::directory_iterator(path)) {
        const string name = entry.path().filename().string();
        if (name.rfind("path-", 0) != 0)
            continue;
        const int index = std::atoi(name.c_str() + 5);
        if (entry.path().extension() == ".npz")
            complete[index] = entry.path().string();
        else if (entry.path().extension() == ".json")
            failed[index] = entry.path().string();
    }
    string frames = frameHeader(names);
    std::map<int, string> rows;
    char seconds[40];
    for (const auto& [index, record] : complete) {
        const string own = readFile(file(index, ".csv"));
        frames += own.substr(own.find('\n') + 1);
        auto values = readNumbers(record);
        std::snprintf(seconds, sizeof(seconds), "%.4f", values["seconds"][0]);
        const double hit = values["hit"][0];
        rows[index] = std::to_string(index) + "," + std::to_string(static_cast<long long>(values["seed"][0])) + ",done," + repr(values["work"][0]) + ",," +
                      repr(values["highestPotentialEnergy"][0]) + "," +
                      (hit < 0   ? ""
                       : hit > 0 ? "1"
                                 : "0") +
                      "," + std::to_string(static_cast<long long>(values["gradientEvaluations"][0])) + "," + seconds + ",,,";
        for (double value : values["finalVariables"])
            rows[index] += "," + repr(value);
    }
    for (const auto& [index, file] : failed) {
        const json f = parseJson(readFile(file));
        std::snprintf(seconds, sizeof(seconds), "%.4f", f["seconds"].get<double>());
        rows[index] = std::to_string(index) + "," + std::to_string(wholeNumber<int>(f["seed"])) + ",failed,,,,,," + seconds + "," +
                      std::to_string(wholeNumber<long long>(f["step"])) + "," + repr(f["s"].get<double>()) + "," + quoted(f["message"]) + string(names.size(), ',');
    }
    string table = "path,seed,status,work,highest_F,highest_U,hit,gradient_evaluations,seconds,failed_step,failed_s,message";
    for (const string& name : names)
        table += "," + quoted("final_" + name);
    table += "\n";
    for (const auto& row : rows)
        table += row.second + "\n";
    replaceFile(path + "/index.csv", frames);
    replaceFile(path + "/paths.csv", table);
    return {static_cast<int>(complete.size()), static_cast<int>(failed.size())};
}

}  // namespace Spacetime
