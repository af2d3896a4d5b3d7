// SPDX-License-Identifier: MIT
#include "spacetime/Files.h"
#include "spacetime/Json.h"
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <fcntl.h>
#include <fstream>
#include <stdexcept>
#include <sys/stat.h>
#include <unistd.h>

using nlohmann::json;

namespace Spacetime {

std::string readFile(const std::string& path) {
    struct stat status;
    if (stat(path.c_str(), &status) != 0)
        throw std::invalid_argument("cannot read '" + path + "': no such file");
    if (!S_ISREG(status.st_mode))
        throw std::invalid_argument("cannot read '" + path + "': it is not a regular file");
    std::ifstream in(path, std::ios::binary);
    std::string bytes(status.st_size, '\0');
    if (!in || (status.st_size > 0 && !in.read(&bytes[0], status.st_size)))
        throw std::invalid_argument("cannot read '" + path + "': permission denied or read error");
    return bytes;
}

namespace {

bool writeAll(int file, const std::string& bytes) {
    for (size_t at = 0; at < bytes.size();) {
        const ssize_t n = write(file, bytes.data() + at, bytes.size() - at);
        if (n < 0 && errno != EINTR)
            return false;
        at += n > 0 ? n : 0;
    }
    return true;
}

/// Writes a file that gets its name when it is complete. A nameless one has none before, so that a process which is killed leaves nothing behind;
/// not every file system can do that.
bool writeWhole(const std::string& path, const std::string& bytes, bool nameless) {
    static std::atomic<unsigned> count{0};
    const std::string temporary = path + ".part" + std::to_string(getpid()) + "-" + std::to_string(count++);
    const std::string folder = path.substr(0, path.rfind('/') + 1);
#ifdef O_TMPFILE
    const int file =
        nameless ? open(folder.empty() ? "." : folder.c_str(), O_TMPFILE | O_WRONLY | O_CLOEXEC, 0666) : open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
#else
    const int file = nameless ? -1 : open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
#endif
    if (file < 0)
        return false;
    // On the disk before it has its name: a power cut leaves the old file or the new one, not an empty one.
    bool good = writeAll(file, bytes) && fsync(file) == 0;
    if (nameless && good)
        good = linkat(AT_FDCWD, ("/proc/self/fd/" + std::to_string(file)).c_str(), AT_FDCWD, temporary.c_str(), AT_SYMLINK_FOLLOW) == 0;
    good = close(file) == 0 && good && std::rename(temporary.c_str(), path.c_str()) == 0;
    if (!good)
        std::remove(temporary.c_str());
    return good;
}

}  // namespace

void writeFile(const std::string& path, const std::string& bytes, bool overwrite) {
    if (!overwrite && access(path.c_str(), F_OK) == 0)
        throw std::invalid_argument("'" + path + "' exists: choose another name or pass --overwrite");
    if (!writeWhole(path, bytes, true) && !writeWhole(path, bytes, false))
        throw std::runtime_error("cannot write '" + path + "': check that the folder exists, is writable and has space");
}

void writeNpy(const std::string& path, const Eigen::MatrixXd& columns, bool overwrite) {
    std::string header = "{'descr': '<f8', 'fortran_order': False, 'shape': (" + std::to_string(columns.cols()) + ", " + std::to_string(columns.rows()) + "), }";
    // Version 1.0 of the format: the data begin at a multiple of 64 bytes, after a newline.
    header.append(63 - (10 + header.size()) % 64, ' ');
    header += '\n';
    std::string bytes = std::string("\x93NUMPY\x01\x00", 8) + static_cast<char>(header.size() & 0xff) + static_cast<char>(header.size() >> 8) + header;
    bytes.append(reinterpret_cast<const char*>(columns.data()), columns.size() * sizeof(double));
    writeFile(path, bytes, overwrite);
}

std::unique_ptr<GaussianMixtureModel> readMixture(const std::string& path) {
    const std::string bytes = readFile(path);
    return withPrefix("mixture file '" + path + "': expected {\"means\":[[..]],\"variances\":[..],\"weights\":[..]}: ", [&] {
        const json j = parseJson(bytes);
        const auto means = j.at("means").get<std::vector<std::vector<double>>>();
        const auto variances = j.at("variances").get<std::vector<double>>();
        const auto weights = j.at("weights").get<std::vector<double>>();
        if (means.empty() || means[0].empty())
            throw std::invalid_argument("expected at least one mean");
        Eigen::MatrixXd m(means[0].size(), means.size());
        for (size_t k = 0; k < means.size(); k++) {
            if (means[k].size() != means[0].size())
                throw std::invalid_argument("mean " + std::to_string(k) + " has another number of dimensions than the first");
            for (size_t d = 0; d < means[k].size(); d++)
                m(d, k) = means[k][d];
        }
        return std::make_unique<GaussianMixtureModel>(m, Eigen::VectorXd::Map(variances.data(), variances.size()), Eigen::VectorXd::Map(weights.data(), weights.size()));
    });
}

}  // namespace Spacetime
