// SPDX-License-Identifier: MIT
#pragma once

#include "TorchEntry.h"

namespace Spacetime {

/// The functions of the library that links LibTorch.
struct TorchLibrary {
    decltype(&spacetimeTorchTrain) train;
    decltype(&spacetimeTorchEvaluate) evaluate;
    decltype(&spacetimeTorchScriptOpen) openScript;
    decltype(&spacetimeTorchScriptPrepare) prepareScript;
    decltype(&spacetimeTorchScriptPredict) predictScript;
    decltype(&spacetimeTorchScriptAlong) alongScript;
    decltype(&spacetimeTorchScriptClose) closeScript;
    decltype(&spacetimeUnetOpen) openUnet;
    decltype(&spacetimeUnetPredict) predictUnet;
    decltype(&spacetimeUnetClose) closeUnet;
    decltype(&spacetimeUnetTrain) trainUnet;
    decltype(&spacetimeTorchVersion) version;

    /// Opens the library on first use: $SPACETIME_TORCH_LIBRARY, or libspacetime_torch.so in lib/ beside or above the folder of
    /// the program or module that holds this code. Throws std::runtime_error saying what was tried and what to install, or where the process was
    /// forked after the library was opened.
    static const TorchLibrary& get();
};

}  // namespace Spacetime
