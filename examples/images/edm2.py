#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Geodesics between two pictures of an EDM2 network (Karras et al., arXiv:2312.02696): your checkpoint, nothing is downloaded by this script.

    python edm2.py --network edm2-img64-s-1073741-0.075.pkl --repository edm2 --label 207 --from a.png --to b.png --out output-edm2

--repository is a clone of https://github.com/NVlabs/edm2, whose classes the checkpoint is made of. A CHECKPOINT IS A PICKLE: OPENING IT RUNS THE CODE IN IT. Open files
of people you trust. Networks of img64 see pixels; those of img512 see latents of the autoencoder that the repository names, which it loads from its own cache or
downloads. No guidance. A GPU is advised: the smallest img64 network takes seconds a picture on a CPU.
"""
from __future__ import annotations

import argparse
import os
import pickle
import sys

import numpy as np

import morph

#: Of sigma: the ends of the sampler in Karras et al., Table 4.
SIGMA_RANGE = (0.002, 80.0)


def load(path: str, repository: str, device: str):
    """The network and its encoder. Leaves the program with one line where that does not work."""
    if not os.path.isfile(os.path.join(repository, "torch_utils", "persistence.py")):
        sys.exit(f"edm2.py: --repository {repository} is no clone of https://github.com/NVlabs/edm2 (it has no torch_utils/persistence.py)")
    if not os.path.isfile(path):
        sys.exit(f"edm2.py: --network {path}: no such file")
    sys.path.insert(0, repository)
    try:
        with open(path, "rb") as file:
            data = pickle.load(file)
        net, encoder = data["ema"], data.get("encoder")
        if encoder is None:
            from training.encoders import StandardRGBEncoder

            encoder = StandardRGBEncoder()
        net = net.to(device).eval().requires_grad_(False)
        encoder.init(device)
    except Exception as e:
        sys.exit(f"edm2.py: --network {path} does not open as a checkpoint of EDM2: {type(e).__name__}: {str(e).strip().splitlines()[0] if str(e).strip() else ''}")
    return net, encoder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", required=True, help="checkpoint (.pkl)")
    parser.add_argument("--repository", required=True, help="clone of NVlabs/edm2")
    parser.add_argument("--label", type=int, help="class, 0 to 999 for ImageNet (default: the network without a class)")
    morph.addArguments(parser)
    options = parser.parse_args()
    import openmmspacetime as st
    import torch

    device = morph.chooseDevice(options.device)
    net, encoder = load(options.network, options.repository, device)
    if options.label is not None and not 0 <= options.label < net.label_dim:
        sys.exit(f"edm2.py: --label {options.label}: " + (f"expected 0 to {net.label_dim - 1}" if net.label_dim else "this network knows no classes"))
    label = None if options.label is None else torch.nn.functional.one_hot(torch.tensor([options.label], device=device), net.label_dim)

    def network(x, logSnr):
        classes = None if label is None else label.expand(len(x), -1)
        return net(x, torch.exp(-0.5 * logSnr), classes, force_fp32=True)

    def encode(pictures: np.ndarray) -> np.ndarray:
        bytes_ = torch.as_tensor(np.rint(255 * pictures), dtype=torch.uint8, device=device).permute(0, 3, 1, 2)
        torch.manual_seed(options.seed)  # the autoencoder of img512 draws from its posterior
        with torch.no_grad():
            return encoder.encode(bytes_).permute(0, 2, 3, 1).double().cpu().numpy()

    def decode(latents: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return encoder.decode(torch.as_tensor(latents, dtype=torch.float32, device=device).permute(0, 3, 1, 2)).permute(0, 2, 3, 1).cpu().numpy() / 255.0

    isLatent = type(encoder).__name__ != "StandardRGBEncoder"
    size = net.img_resolution * (8 if isLatent else 1)
    levels = tuple(-2 * np.log(sigma) for sigma in reversed(SIGMA_RANGE))
    model = st.torchModel(network, (net.img_resolution, net.img_resolution, net.img_channels), "ve", "x0", levels, dataVariance=float(net.sigma_data) ** 2, device=device,
                          batch=options.batch)
    print(f"{os.path.basename(options.network)}: {size} x {size} pixels, {len(model.variables):,} values" + (" (latents)" if isLatent else ""), flush=True)
    morph.run(model, encode, decode, morph.readEnds(options, (size, size)), options, f"EDM2: {os.path.basename(options.network)}")


if __name__ == "__main__":
    main()
