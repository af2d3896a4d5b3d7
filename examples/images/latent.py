#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Geodesics between two pictures in the latent space of a latent diffusion model: your weights, nothing is downloaded.

    python latent.py --pipeline FOLDER --from a.png --to b.png --out output-latent

FOLDER is a model as the diffusers library saves it (DiffusionPipeline.save_pretrained, or a downloaded repository): an autoencoder (vae or vqvae), a unet and a
scheduler; with a text encoder the denoiser is that of --prompt, without guidance. The pictures are encoded to latents (times the autoencoder's scaling factor), joined
in the spacetime of the latents' denoiser (arXiv:2505.17517), and decoded. Needs: pip install diffusers transformers accelerate. A GPU for anything large:
Stable Diffusion 1.5 has 16,384 latent values; a geodesic takes thousands of evaluations of it.
"""
from __future__ import annotations

import argparse
import os
import sys

import numpy as np

import morph


def load(folder: str, device: str):
    """The pipeline's parts. Leaves the program with one line where there is no such thing."""
    try:
        import diffusers
    except ImportError:
        sys.exit("latent.py: needs the diffusers library: pip install diffusers transformers accelerate")
    if not os.path.isfile(os.path.join(folder, "model_index.json")):
        sys.exit(f"latent.py: --pipeline {folder} holds no diffusers pipeline (it has no model_index.json): give the folder that save_pretrained wrote or that was downloaded")
    try:
        pipeline = diffusers.DiffusionPipeline.from_pretrained(folder, local_files_only=True).to(device)
    except Exception as e:
        sys.exit(f"latent.py: --pipeline {folder} cannot be opened: {str(e).strip().splitlines()[0]}")
    parts = pipeline.components
    autoencoder = parts.get("vae") or parts.get("vqvae")
    if autoencoder is None or "unet" not in parts or not hasattr(parts.get("scheduler"), "alphas_cumprod"):
        sys.exit(f"latent.py: --pipeline {folder} is no latent diffusion model of a kind known here: expected vae or vqvae, unet and a scheduler with alphas_cumprod, it has "
                 + ", ".join(parts))
    return pipeline, autoencoder, parts["unet"], parts["scheduler"]


class Autoencoder:
    """Pictures [K, H, W, 3] in [0, 1] to latents [K, h, w, c] of the denoiser's scale, and back."""

    def __init__(self, network, device: str):
        self.network, self.device = network.eval().requires_grad_(False), device
        self.scale = float(getattr(network.config, "scaling_factor", None) or 1.0)
        self.shift = float(getattr(network.config, "shift_factor", None) or 0.0)

    def _tensor(self, values: np.ndarray):
        import torch

        return torch.as_tensor(values, dtype=torch.float32, device=self.device).permute(0, 3, 1, 2)

    @staticmethod
    def _array(t) -> np.ndarray:
        return t.permute(0, 2, 3, 1).double().cpu().numpy()

    def encode(self, pictures: np.ndarray) -> np.ndarray:
        import torch

        with torch.no_grad():
            found = self.network.encode(2 * self._tensor(pictures) - 1)
            latents = found.latent_dist.mode() if hasattr(found, "latent_dist") else found.latents
        return self._array((latents - self.shift) * self.scale)

    def decode(self, latents: np.ndarray) -> np.ndarray:
        import torch

        with torch.no_grad():
            pictures = [self.network.decode(one / self.scale + self.shift).sample for one in self._tensor(latents).split(1)]
        return self._array(torch.cat(pictures) / 2 + 0.5).clip(0, 1)


def denoiser(unet, scheduler, text=None):
    """(network(x, logSnr), prediction, log-SNR range) of a U-Net that was trained at discrete times of a variance-preserving schedule."""
    import torch

    prediction = {"epsilon": "eps", "v_prediction": "v", "sample": "x0"}.get(scheduler.config.prediction_type)
    if prediction is None:
        sys.exit(f"latent.py: the scheduler predicts '{scheduler.config.prediction_type}', expected epsilon, v_prediction or sample")
    products = scheduler.alphas_cumprod.double().clamp(1e-12, 1 - 1e-12)
    # From noisy to clean, as interpolation wants it; times fall as log-SNR rises.
    table = torch.log(products / (1 - products)).flip(0).float().to(unet.device)
    last = len(table) - 1

    def network(x, logSnr):
        at = torch.searchsorted(table, logSnr.detach().contiguous()).clamp(1, last)
        time = last - (at - 1) - (logSnr - table[at - 1]) / (table[at] - table[at - 1])
        conditions = {} if text is None else {"encoder_hidden_states": text.expand(len(x), -1, -1)}
        return unet(x, time, return_dict=False, **conditions)[0]

    return network, prediction, (max(float(table[0]), -9.0), float(table[-1]))


def prepare(options: argparse.Namespace):
    """The model of the latents, the autoencoder and the two pictures."""
    device = morph.chooseDevice(options.device)
    pipeline, vae, unet, scheduler = load(options.pipeline, device)
    import torch

    import openmmspacetime as st

    text = None
    if hasattr(pipeline, "encode_prompt"):
        with torch.no_grad():
            text = pipeline.encode_prompt(options.prompt, device, 1, False)[0]
    elif hasattr(pipeline, "bert"):
        sys.exit("latent.py: this pipeline's text encoder is of a kind that is not supported")
    autoencoder = Autoencoder(vae, device)
    factor = 2 ** (len(vae.config.block_out_channels) - 1)
    size = options.size or int(unet.config.sample_size) * factor
    if size % factor:
        sys.exit(f"latent.py: --size {size}: expected a multiple of {factor}")
    pictures = morph.readEnds(options, (size, size))
    latents = autoencoder.encode(pictures)
    unet.eval().requires_grad_(False)
    network, prediction, levels = denoiser(unet, scheduler, text)
    model = st.torchModel(network, latents.shape[1:], "vp", prediction, levels, dataVariance=float(np.var(latents)), device=device, batch=options.batch)
    lost = np.sqrt(np.mean((autoencoder.decode(latents) - pictures) ** 2))
    print(f"{len(model.variables):,} latent values ({' x '.join(map(str, latents.shape[1:]))}), prediction {prediction}, log-SNR {levels[0]:.1f} to {levels[1]:.1f}; "
          f"the autoencoder alone changes the pictures by {lost:.3f} (RMS)", flush=True)
    return model, autoencoder, pictures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pipeline", required=True, help="folder of the model")
    parser.add_argument("--prompt", default="", help="for models with a text encoder (default: empty)")
    parser.add_argument("--size", type=int, help="of the pictures in pixels (default: what the U-Net was trained on)")
    morph.addArguments(parser)
    options = parser.parse_args()
    model, autoencoder, pictures = prepare(options)
    morph.run(model, autoencoder.encode, autoencoder.decode, pictures, options, f"Latent diffusion: {os.path.basename(os.path.normpath(options.pipeline))}")


if __name__ == "__main__":
    main()
