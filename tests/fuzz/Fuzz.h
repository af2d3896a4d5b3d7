// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fcntl.h>
#include <stdexcept>
#include <string>
#include <unistd.h>

/// A file with these bytes, in memory where the system has such a folder; one at a time in a process.
inline const std::string& fuzzFile(const std::uint8_t* data, size_t size) {
    static const std::string name = (access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp") + std::string("/spacetime-fuzz-") + std::to_string(getpid()) + FUZZ_ENDING;
    static const bool isRemoved = std::atexit([] { unlink(name.c_str()); }) == 0;
    const int file = open(name.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (!isRemoved || file < 0 || write(file, data, size) != static_cast<ssize_t>(size) || close(file) != 0) {
        std::perror(name.c_str());
        std::abort();
    }
    return name;
}

/// A complaint must be one line that a terminal can show, and not carry half of the file.
inline void checkMessage(const std::string& message) {
    bool bad = message.empty() || message.size() > 8000;
    for (const char c : message)
        bad = bad || static_cast<unsigned char>(c) < 0x20 || c == 0x7f;
    if (bad) {
        std::fprintf(stderr, "not a message for a terminal (%zu bytes): %.200s\n", message.size(), message.c_str());
        std::abort();
    }
}

/// Runs `body`, which may refuse its file with std::invalid_argument and nothing else.
template <class Body>
int fuzz(Body body) {
    try {
        body();
    }
    catch (const std::invalid_argument& e) {
        checkMessage(e.what());
    }
    return 0;
}
