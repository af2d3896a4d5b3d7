// SPDX-License-Identifier: MIT
#pragma once
// The weights of the U-Net, in the order in which it uses them: known to the side that reads and writes files and to the side that computes.

#include "TorchEntry.h"
#include <cmath>
#include <string>
#include <vector>

/// Sines and as many cosines of the noise level, which enter the embedding.
inline constexpr int UnetFrequencies = 16;

struct UnetTensor {
    std::string name;
    std::vector<std::int64_t> shape;
    double constant, spread;  ///< first values: a constant plus random numbers of this standard deviation

    std::int64_t size() const {
        std::int64_t n = 1;
        for (const std::int64_t d : shape)
            n *= d;
        return n;
    }
};

/// Channels of the tensors of the net at level `i`, 0 the finest.
inline std::int64_t unetChannels(const SpacetimeUnetShape& s, int i) { return static_cast<std::int64_t>(s.base) * s.multipliers[i]; }

/// All weights. Convolutions that end a block, and the last one, begin at zero: so every block begins as the identity and the net as the constant zero.
inline std::vector<UnetTensor> unetTensors(const SpacetimeUnetShape& s) {
    std::vector<UnetTensor> all;
    auto affine = [&](const std::string& name, std::vector<std::int64_t> shape, bool zero) {
        double fanIn = 1;
        for (size_t i = 1; i < shape.size(); i++)
            fanIn *= static_cast<double>(shape[i]);
        const std::int64_t out = shape[0];
        all.push_back({name + ".weight", std::move(shape), 0, zero ? 0 : 1 / std::sqrt(fanIn)});
        all.push_back({name + ".bias", {out}, 0, 0});
    };
    auto norm = [&](const std::string& name, std::int64_t channels) {
        all.push_back({name + ".weight", {channels}, 1, 0});
        all.push_back({name + ".bias", {channels}, 0, 0});
    };
    auto block = [&](const std::string& name, std::int64_t in, std::int64_t out) {
        norm(name + ".norm1", in);
        affine(name + ".conv1", {out, in, 3, 3}, false);
        affine(name + ".level", {2 * out, s.embedding}, false);
        norm(name + ".norm2", out);
        affine(name + ".conv2", {out, out, 3, 3}, true);
        if (in != out)
            affine(name + ".skip", {out, in, 1, 1}, false);
    };
    const std::int64_t pixel = static_cast<std::int64_t>(s.channels) * s.patch * s.patch;
    affine("level1", {s.embedding, 2 * UnetFrequencies}, false);
    affine("level2", {s.embedding, s.embedding}, false);
    affine("in", {s.base, pixel, 3, 3}, false);
    std::int64_t current = s.base;
    std::vector<std::int64_t> skips;
    for (int i = 0; i < s.levels; i++)
        for (int b = 0; b < s.blocks; b++) {
            block("down" + std::to_string(i) + "." + std::to_string(b), current, unetChannels(s, i));
            skips.push_back(current = unetChannels(s, i));
        }
    block("middle", current, current);
    for (int i = s.levels - 1; i >= 0; i--)
        for (int b = 0; b < s.blocks; b++) {
            block("up" + std::to_string(i) + "." + std::to_string(b), current + skips.back(), unetChannels(s, i));
            skips.pop_back();
            current = unetChannels(s, i);
        }
    norm("norm", current);
    affine("out", {pixel, current, 3, 3}, true);
    return all;
}

inline std::int64_t unetParameters(const SpacetimeUnetShape& s) {
    std::int64_t n = 0;
    for (const UnetTensor& t : unetTensors(s))
        n += t.size();
    return n;
}
