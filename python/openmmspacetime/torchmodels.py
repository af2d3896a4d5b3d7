# SPDX-License-Identifier: MIT
"""Networks of pictures or latents that were written for PyTorch, as models."""
from __future__ import annotations

import sys
from typing import Callable, Sequence

import numpy as np

from . import _core


def torchModel(
    network: Callable,
    shape: Sequence[int],
    schedule: str,
    prediction: str,
    logSnrRange: tuple[float, float],
    *,
    dataVariance: float = 1.0,
    dataMean=None,
    sigmaData: float = 0.5,
    device: str = "cpu",
    batch: int = 16,
) -> _core.CallableModel:
    """A denoiser of pictures or latents that is at hand as a PyTorch function, in this process.

    Products with directions take one pass of forward-mode differentiation (torch.func.jvp), attention included: what `matrixFreeGeodesic` and
    `measureWithProbes` need. The network is evaluated in 32 bits.

    Parameters
    ----------
    network : callable(x, logSnr)
        Gets x [n, C, H, W] and logSnr [n] (with prediction 'edm' c_in x/alpha and c_noise), float32 tensors on `device`, and returns the prediction
        [n, C, H, W]. Pictures must not depend on each other; no torch.no_grad within.
    shape : (height, width, channels)
        The model's variables are these values, row by row, the channels of a place together: plain numbers, in the network's own units.
    schedule, prediction, logSnrRange, sigmaData
        As for `CallableModel`.
    dataVariance : float
        Mean variance of the data's values.
    dataMean : array [H, W, C], optional
        Of the data's values; 0 by default.
    device : str
    batch : int
        Pictures that go through the network together. Halved, which is said on stderr, where they do not fit into memory.

    Returns
    -------
    CallableModel

    Raises
    ------
    ValueError
        For predictions of another shape or that are not finite, for networks that forward mode cannot differentiate, and as `CallableModel` does.
    """
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.overrides import TorchFunctionMode

    class ContiguousNorms(TorchFunctionMode):
        """The forward mode of torch's group norm fails for inputs whose channels do not lie one after the other, as those of attention."""

        def __torch_function__(self, function, types, args=(), kwargs=None):
            if function in (torch.group_norm, torch.nn.functional.group_norm) and args:
                args = (args[0].clone(memory_format=torch.contiguous_format), *args[1:])
            return function(*args, **(kwargs or {}))

    height, width, channels = (int(n) for n in shape)
    portion = [int(batch)]
    if portion[0] < 1:
        raise ValueError(f"torchModel: expected a batch of at least 1, got {batch}")

    def pictures(x):
        return torch.as_tensor(x, dtype=torch.float32, device=device).reshape(-1, height, width, channels).permute(0, 3, 1, 2).contiguous()

    def levels(logSnr):
        return torch.as_tensor(logSnr, dtype=torch.float32, device=device)

    def rows(t, count):
        if tuple(t.shape) != (count, channels, height, width):
            raise ValueError(f"torchModel: expected of the network a tensor of the shape of x, {(count, channels, height, width)}, it returned {tuple(t.shape)}")
        return t.detach().permute(0, 2, 3, 1).reshape(count, -1).float().cpu().numpy()

    def inPortions(count, work):
        """Joins what work(begin, end) returns: a tuple of arrays."""
        parts, begin = [], 0
        while begin < count:
            end = min(begin + portion[0], count)
            try:
                parts.append(work(begin, end))
                begin = end
            except (MemoryError, torch.OutOfMemoryError, RuntimeError) as e:
                isMemory = isinstance(e, (MemoryError, torch.OutOfMemoryError)) or "out of memory" in str(e) or "can't allocate memory" in str(e)
                if not isMemory or end - begin == 1:
                    raise
                portion[0] = (end - begin) // 2
                print(f"torchModel: not enough memory for {end - begin} pictures at a time, going on with {portion[0]}", file=sys.stderr)
        return tuple(np.concatenate(column) for column in zip(*parts))

    def predict(x, logSnr):
        def work(begin, end):
            with torch.no_grad():
                return (rows(network(pictures(x[begin:end]), levels(logSnr[begin:end])), end - begin),)

        return inPortions(len(x), work)[0]

    def jvp(x, logSnr, alongX, alongLogSnr):
        def work(begin, end):
            part = slice(begin, end)
            # Fused kernels of attention have no forward mode.
            with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), ContiguousNorms():
                # Without has_aux there are two of them; torch's types leave it open.
                value, slope = torch.func.jvp(network, (pictures(x[part]), levels(logSnr[part])), (pictures(alongX[part]), levels(alongLogSnr[part])))  # type: ignore[misc]
            return rows(value, end - begin), rows(slope, end - begin)

        return inPortions(len(x), work)

    variables = _core.Variables.numbers([f"r{r}c{c}.{k}" for r in range(height) for c in range(width) for k in range(channels)])
    return _core.CallableModel(predict, variables, schedule, prediction, logSnrRange=logSnrRange, jvp=jvp, sigmaData=sigmaData,
                               dataMean=None if dataMean is None else np.asarray(dataMean, dtype=float).reshape(-1), dataVariance=float(dataVariance))
