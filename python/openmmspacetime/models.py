# SPDX-License-Identifier: MIT
"""Denoisers of other programs: how to save one so that the solver can open it."""
from __future__ import annotations

import contextlib
import json
import os
import tempfile
import warnings
from typing import Sequence

from . import _core
from .geodesics import _kelvin

#: Rows on which a module is tried before it is saved.
TRIAL_ROWS = 5


@contextlib.contextmanager
def _withoutDeprecation():
    """torch 2.11 deprecates TorchScript in favour of torch.export, whose programs cannot be differentiated outside Python."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"`torch\.jit\.\w+` is (deprecated|not supported)", category=DeprecationWarning)
        yield


def saveTorchScript(
    module,
    path: str | os.PathLike,
    variables: _core.Variables | Sequence[str],
    schedule: str = "vp",
    prediction: str = "x0",
    *,
    logSnrRange: tuple[float, float],
    sigmaData: float | None = None,
    temperature=None,
    dataMean=None,
    dataVariance: float | None = None,
    dataRange: Sequence[tuple[float, float] | None] | None = None,
    overwrite: bool = False,
) -> None:
    """Save a denoiser written in PyTorch as a TorchScript file for `TorchScriptModel`.

    The module is scripted, or traced where it cannot be scripted, tried on random input, and opened once by the solver's own reader before the file gets
    its name: what is saved can be used.

    Parameters
    ----------
    module : torch.nn.Module
        forward(x [N, D], logsnr [N]) -> prediction [N, D] in float32 or float64. D counts one for an unlifted variable and two (cos, sin) for a lifted
        one. Rows must not depend on each other. It is left on its device and in its training mode.
    path : path
        File to write, `.pt`.
    variables : Variables or list of str
        Names stand for plain numbers.
    schedule : str
        'vp', 'cosine', 've' (or 'edm') or 'flow'.
    prediction : str
        'x0', 'eps', 'score', 'v', 'flow' or 'edm'.
    logSnrRange : (float, float)
        Range of log(alpha^2/sigma^2) that the module was trained on.
    sigmaData : float, optional
        Of EDM's preconditioning (0.5).
    temperature : float or Quantity, optional
        K of the training data.
    dataMean : array [unlifted], optional
    dataVariance : float, optional
        Mean, and mean variance per variable, of the scaled unlifted variables: the scale of the solver's chart.
    dataRange : list of (float, float) or None, optional
        Raw range of the data of each variable, None for those that have none: ends of geodesics must lie within.

    Raises
    ------
    ValueError
        For an existing file without `overwrite`, and for modules that do not do what is promised: wrong shapes, values that are not finite, rows that
        depend on each other, derivatives that do not work.
    """
    import torch

    path = os.fspath(path)
    if os.path.exists(path) and not overwrite:
        raise ValueError(f"'{path}' exists: choose another name or pass overwrite=True")
    if not isinstance(variables, _core.Variables):
        variables = _core.Variables.numbers(list(variables))
    low, high = (float(bound) for bound in logSnrRange)
    metadata = {"format": "spacetime-model", "version": 1, "variables": json.loads(variables.toJson()), "schedule": schedule, "prediction": prediction,
                "log_snr_range": [low, high], "temperature_K": _kelvin(temperature) or None}
    optional = {"sigma_data": sigmaData, "data_variance": dataVariance, "data_mean": None if dataMean is None else [float(m) for m in dataMean],
                "data_range": None if dataRange is None else [None if r is None else [float(r[0]), float(r[1])] for r in dataRange]}
    metadata.update({key: value for key, value in optional.items() if value is not None})

    wasTraining = module.training
    module.eval()
    try:
        D = sum(2 if v.lifted else 1 for v in variables)
        like = next((p for p in module.parameters() if p.is_floating_point()), torch.zeros((), dtype=torch.float64))
        generator = torch.Generator().manual_seed(1)
        x = torch.randn(TRIAL_ROWS, D, generator=generator).to(like)
        logSnr = (low + (high - low) * torch.rand(TRIAL_ROWS, generator=generator)).to(like)
        expected = _forward(module, x, logSnr, "the module")
        with torch.no_grad(), _withoutDeprecation():
            try:
                scripted = module if isinstance(module, torch.jit.ScriptModule) else torch.jit.script(module)
            except Exception as e:
                scripted = _trace(module, x, logSnr, e)
        tolerance = 1e-4 if like.dtype == torch.float32 else 1e-9
        rows = torch.cat([_forward(scripted, x[i:i + 1], logSnr[i:i + 1], "the scripted module") for i in range(TRIAL_ROWS)])
        if not torch.allclose(rows, expected, rtol=tolerance, atol=tolerance):
            raise ValueError("saveTorchScript: rows one at a time give other predictions than all together: the rows must not depend on each other "
                             "(and a traced module must not depend on their number)")
        with tempfile.TemporaryDirectory(dir=os.path.dirname(os.path.abspath(path))) as folder:
            temporary = os.path.join(folder, "model.pt")
            with _withoutDeprecation():
                torch.jit.save(scripted, temporary, _extra_files={"spacetime.json": json.dumps(metadata)})
            try:
                _core.TorchScriptModel.load(temporary)
            except ValueError as e:
                raise ValueError(str(e).replace(temporary, path)) from None
            os.replace(temporary, path)
    finally:
        module.train(wasTraining)


def _trace(module, x, logSnr, reason):
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # what a trace got wrong shows in the rows' comparison
        try:
            return torch.jit.trace(module, (x, logSnr), check_trace=False)
        except Exception as e:
            lines = [str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__ for error in (reason, e)]
            raise ValueError(f"saveTorchScript: the module can be neither scripted ({lines[0]}) nor traced ({lines[1]})") from e


def _forward(module, x, logSnr, what: str):
    import torch

    with torch.no_grad():
        try:
            out = module(x, logSnr)
        except Exception as e:
            raise ValueError(f"saveTorchScript: {what} fails for x {list(x.shape)}, logsnr {list(logSnr.shape)}: {e}") from e
    if not isinstance(out, torch.Tensor) or out.shape != x.shape:
        got = list(out.shape) if isinstance(out, torch.Tensor) else type(out).__name__
        raise ValueError(f"saveTorchScript: {what} must return a tensor of the shape of x, {list(x.shape)}, it returned {got}")
    if not torch.isfinite(out).all():
        raise ValueError(f"saveTorchScript: {what} returns values that are not finite for log-SNR {logSnr.tolist()}, x {x.tolist()}")
    return out
