// SPDX-License-Identifier: MIT
#include "TorchLibrary.h"
#include <cstdlib>
#include <dlfcn.h>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <unistd.h>
#include <vector>

namespace fs = std::filesystem;

namespace Spacetime {

namespace {

TorchLibrary open() {
    const std::string name = "libspacetime_torch.so", install = "; training and TorchScript models need LibTorch: pip install 'torch>=2.11,<2.12'";
    std::vector<fs::path> candidates;
    if (const char* given = std::getenv("SPACETIME_TORCH_LIBRARY"); given != nullptr && *given != '\0')
        candidates.push_back(given);
    else {
        Dl_info self;
        fs::path folder;
        if (::dladdr(reinterpret_cast<const void*>(&TorchLibrary::get), &self) != 0 && self.dli_fname != nullptr)
            folder = fs::path(self.dli_fname).parent_path();
        // A program started through PATH is known to the loader by its bare name only.
        std::error_code error;
        if (folder.empty())
            folder = fs::read_symlink("/proc/self/exe", error).parent_path();
        folder = fs::weakly_canonical(folder, error);
        candidates = {folder / ".." / "lib" / name, folder / "lib" / name, folder / name};
    }
    std::string tried;
    for (const fs::path& path : candidates) {
        std::error_code error;
        if (!fs::exists(path, error)) {
            tried += (tried.empty() ? "" : ", ") + path.lexically_normal().string();
            continue;
        }
        void* handle = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
        if (handle == nullptr)
            throw std::runtime_error("LibTorch: " + path.string() + " could not be opened: " + ::dlerror() + install);
        TorchLibrary library;
        auto find = [&](auto& function, const char* symbol) {
            function = reinterpret_cast<std::decay_t<decltype(function)>>(::dlsym(handle, symbol));
            if (function == nullptr)
                throw std::runtime_error("LibTorch: " + path.string() + " is not the library of this openmm-spacetime, it lacks " + symbol);
        };
        find(library.train, "spacetimeTorchTrain");
        find(library.evaluate, "spacetimeTorchEvaluate");
        find(library.openScript, "spacetimeTorchScriptOpen");
        find(library.prepareScript, "spacetimeTorchScriptPrepare");
        find(library.predictScript, "spacetimeTorchScriptPredict");
        find(library.alongScript, "spacetimeTorchScriptAlong");
        find(library.closeScript, "spacetimeTorchScriptClose");
        find(library.openUnet, "spacetimeUnetOpen");
        find(library.predictUnet, "spacetimeUnetPredict");
        find(library.closeUnet, "spacetimeUnetClose");
        find(library.trainUnet, "spacetimeUnetTrain");
        find(library.version, "spacetimeTorchVersion");
        return library;
    }
    throw std::runtime_error("LibTorch: libspacetime_torch.so was not found (tried " + tried + ")" + install);
}

}  // namespace

const TorchLibrary& TorchLibrary::get() {
    static const TorchLibrary library = open();  // a failure is thrown again at the next try
    static const pid_t opener = getpid();
    if (getpid() != opener)
        throw std::runtime_error("LibTorch was in use before this process was forked, and would wait for threads that only the parent has: start processes by multiprocessing's "
                                 "'spawn' or 'forkserver', or fork before anything is trained and before TorchScript models or models of pictures are opened");
    return library;
}

}  // namespace Spacetime
