# SPDX-License-Identifier: MIT
"""Transition paths along geodesics in the spacetime of diffusion models, for OpenMM.

A model of the denoising distributions p(c|z) of collective variables c gives a Riemannian manifold of noisy points z
(arXiv:2505.17517). `geodesic` finds its shortest curves, `SpacetimeForce` biases a System along one, `PathSampler` drives
molecules over it, and `analyze` says what came out.
"""
from . import _plugin

_plugin.check()

from ._core import (  # noqa: E402
    Consistency,
    Curve,
    CurveMeasure,
    EmpiricalModel,
    GaussianMixtureModel,
    GeodesicResult,
    Moments,
    NetworkModel,
    PosteriorModel,
    Samples,
    Variable,
    Variables,
    compare,
    readSamples,
)
from .analysis import PathStatistics, Report, analyze  # noqa: E402
from .force import SpacetimeForce  # noqa: E402
from .geodesics import geodesic, geodesics, straightLine, train  # noqa: E402
from .sampling import PathEnsemble, PathRecord, PathSampler  # noqa: E402
from .surface import FreeEnergySurface  # noqa: E402

__version__ = _plugin.version()
