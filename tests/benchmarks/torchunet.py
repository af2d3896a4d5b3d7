# SPDX-License-Identifier: MIT
"""The U-Net of an ImageModel written once more, in PyTorch: for what the plugin does not need, such as differentiating its derivatives."""
import json
import math
import struct

import numpy as np
import torch
import torch.nn.functional as F

FREQUENCIES = torch.tensor(np.geomspace(0.8, 12, 16), dtype=torch.float32)


def readSafetensors(path):
    """(metadata, {name: tensor}) of a file of float32 tensors."""
    with open(path, "rb") as file:
        size, = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(size))
        data = file.read()
    metadata = header.pop("__metadata__")
    tensors = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        tensors[name] = torch.from_numpy(np.frombuffer(data[begin:end], dtype="<f4").reshape(entry["shape"]).copy())
    return metadata, tensors


class TorchUnet(torch.nn.Module):
    """Denoised means E[c|z] of the model in a safetensors file, differentiable as often as one likes. `evaluations` counts points."""

    def __init__(self, path):
        super().__init__()
        metadata, tensors = readSafetensors(path)
        model = json.loads(metadata["model"])
        self.shape, net = model["image"], model["network"]
        self.sigmaData, self.logSnrRange = model["sigma_data"], model["log_snr_range"]
        self.patch, self.levels, self.blocks = net["patch"], len(net["multipliers"]), net["blocks"]
        self.names = list(tensors)
        self.weights = torch.nn.ParameterDict({name.replace(".", "_"): torch.nn.Parameter(t, requires_grad=False) for name, t in tensors.items()})
        self.register_buffer("frequencies", FREQUENCIES)
        self.evaluations = 0

    def _has(self, name):
        return name + ".weight" in self.names

    def _pair(self, name):
        key = name.replace(".", "_")
        return self.weights[key + "_weight"], self.weights[key + "_bias"]

    def _conv(self, name, x):
        weight, bias = self._pair(name)
        return F.conv2d(x, weight, bias, padding=weight.shape[2] // 2)

    def _linear(self, name, x):
        return F.linear(x, *self._pair(name))

    def _norm(self, name, x):
        return F.group_norm(x, math.gcd(8, x.shape[1]), *self._pair(name))

    def _block(self, name, x, embedding):
        a = self._conv(name + ".conv1", F.silu(self._norm(name + ".norm1", x)))
        scale, shift = self._linear(name + ".level", embedding)[:, :, None, None].chunk(2, dim=1)
        a = self._norm(name + ".norm2", a) * (1 + scale) + shift
        a = self._conv(name + ".conv2", F.silu(a))
        return a + (self._conv(name + ".skip", x) if self._has(name + ".skip") else x)

    def net(self, x, level):
        """x [B, D] and level [B] to [B, D]."""
        H, W, C, q = self.shape["height"], self.shape["width"], self.shape["channels"], self.patch
        h, w = H // q, W // q
        angles = level[:, None] * self.frequencies
        embedding = F.silu(self._linear("level2", F.silu(self._linear("level1", torch.cat([angles.cos(), angles.sin()], 1)))))
        a = x.view(-1, h, q, w, q, C).permute(0, 2, 4, 5, 1, 3).reshape(-1, q * q * C, h, w)
        a = self._conv("in", a)
        skips = []
        for i in range(self.levels):
            if i:
                a = F.avg_pool2d(a, 2)
            for b in range(self.blocks):
                a = self._block(f"down{i}.{b}", a, embedding)
                skips.append(a)
        a = self._block("middle", a, embedding)
        for i in reversed(range(self.levels)):
            if i < self.levels - 1:
                a = F.interpolate(a, scale_factor=2, mode="nearest")
            for b in range(self.blocks):
                a = self._block(f"up{i}.{b}", torch.cat([a, skips.pop()], 1), embedding)
        a = self._conv("out", F.silu(self._norm("norm", a)))
        return a.view(-1, q, q, C, h, w).permute(0, 4, 1, 5, 2, 3).reshape(-1, H * W * C)

    def forward(self, y, logSnr):
        """E[c|z] [B, D] at y = c + noise [B, D] of log-SNR [B]; preconditioned as in Karras et al., arXiv:2206.00364, Table 1."""
        self.evaluations += len(y)
        d, s = self.sigmaData, (-0.5 * logSnr).exp()[:, None]
        square = s**2 + d**2
        return d**2 / square * y + s * d / square.sqrt() * self.net(y / square.sqrt(), -logSnr / 8)
