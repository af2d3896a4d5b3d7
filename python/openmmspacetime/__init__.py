# SPDX-License-Identifier: MIT
"""Transition paths along geodesics in the spacetime of diffusion models, for OpenMM.

A model of the denoising distributions p(c|z) of collective variables c gives a Riemannian manifold of noisy points z
(arXiv:2505.17517). `geodesic` finds its shortest curves, `SpacetimeForce` biases a System along one, `PathSampler` drives
molecules over it, and `analyze` says what came out.
"""
from . import _plugin

_plugin.runStatus()
_plugin.check()

from ._core import (  # noqa: E402
    BatchResult,
    CallableDensity,
    CallableModel,
    Consistency,
    ConstraintValue,
    Curve,
    CurveMeasure,
    DenoiserModel,
    DensityField,
    EmpiricalModel,
    Frame,
    GaussianMixtureModel,
    GeodesicResult,
    GeodesicShot,
    GuidedDensity,
    ImageModel,
    MatrixFreeResult,
    ModelDensity,
    Moments,
    NetworkModel,
    PosteriorModel,
    ProbeMeasure,
    PullbackCurve,
    Samples,
    TorchScriptModel,
    Variable,
    Variables,
    compare,
    readSamples,
)
from . import variables as _variables  # noqa: E402, F401 (adds Variables.measure, .positions and .torsionsOf)
from .analysis import PathStatistics, Report, analyze  # noqa: E402
from .committorresults import CommittorResult, TransitionStates  # noqa: E402
from .committors import committor, transitionStates  # noqa: E402
from .customcv import asCustomCVForce  # noqa: E402
from .density import (  # noqa: E402
    DensityPath,
    SequenceAnalysis,
    analyzeSequence,
    densityGeodesic,
    densityGeodesics,
    densityProfile,
    extrapolate,
    lerp,
    slerp,
)
from .editdistance import EditDistances, editDistances  # noqa: E402
from .estimates import Estimate  # noqa: E402
from .estimators import FreeEnergies, FreeEnergyHistogram, mbar, thermodynamicIntegration  # noqa: E402
from .exchange import (  # noqa: E402
    ExchangeReport,
    ExchangeStates,
    ExpandedEnsemble,
    ReplicaExchange,
    exchangeStates,
    predictAcceptance,
)
from .flow import (  # noqa: E402
    decode,
    decodeCurve,
    decoderJacobian,
    encode,
    latentParameter,
    logLikelihood,
    probabilityFlow,
    pullbackGeodesic,
    pullbackMetric,
    sampleReverseSde,
)
from .force import SpacetimeForce  # noqa: E402
from .freeenergy import FreeEnergyPath, criticalKappa, highestFreeEnergy, minimumFreeEnergyPath, stiffness  # noqa: E402
from .geodesics import Region, distance, geodesic, geodesics, geodesicsOfPairs, straightLine, train  # noqa: E402
from .geometry import exponentialMap, fisherInformation, jeffreysDivergence, klDivergence, logarithmMap, logPartition  # noqa: E402
from .imagemeasures import psnr, ssim  # noqa: E402
from .imagemodels import loadModel, trainImages  # noqa: E402
from .images import Interpolation, PictureSpace, extrapolatePictures, interpolate, interpolationReport  # noqa: E402
from .matrixfree import matrixFreeGeodesic, matrixFreeGeodesics, measureWithProbes  # noqa: E402
from .models import saveTorchScript  # noqa: E402
from .opshandoff import UnbiasedPath, UnbiasedPaths, exportToOpenPathSampling, importFromOpenPathSampling  # noqa: E402
from .pathdensity import PathDensity, PathSimilarity, pathDensity, pathSimilarity  # noqa: E402
from .pathview import viewPath  # noqa: E402
from .pictures import ImageSet, readImage, readImages, writePng  # noqa: E402
from .reporter import Driver, SpacetimeReporter  # noqa: E402
from .sampling import PathEnsemble, PathFailure, PathRecord, PathSampler  # noqa: E402
from .sources import MetadynamicsSamples, TemperatureSamples, metadynamics, temperatureExchange  # noqa: E402
from .states import StateRegion  # noqa: E402
from .statesamples import StateSamples  # noqa: E402
from .surface import FreeEnergySurface  # noqa: E402
from .torchmodels import torchModel  # noqa: E402
from .transitionframes import TransitionFrames, transitionStateCandidates  # noqa: E402
from .validation import ModelValidation, validateModel  # noqa: E402
from .walkers import replicate  # noqa: E402
from .weightedsamples import WeightedSamples  # noqa: E402
from .workfreeenergy import FreeEnergyComparison, WorkFreeEnergy, bar, compareFreeEnergies  # noqa: E402

__all__ = [
    "analyze", "analyzeSequence", "asCustomCVForce", "bar", "BatchResult", "CallableDensity", "CallableModel", "committor", "CommittorResult", "compare",
    "compareFreeEnergies", "Consistency", "ConstraintValue", "criticalKappa", "Curve", "CurveMeasure", "decode", "decodeCurve", "decoderJacobian",
    "DenoiserModel", "DensityField", "densityGeodesic", "densityGeodesics", "DensityPath", "densityProfile", "distance", "Driver", "EditDistances",
    "editDistances", "EmpiricalModel", "encode", "Estimate", "ExchangeReport", "ExchangeStates", "exchangeStates", "ExpandedEnsemble", "exponentialMap",
    "exportToOpenPathSampling", "extrapolate", "extrapolatePictures", "fisherInformation", "Frame", "FreeEnergies", "FreeEnergyComparison",
    "FreeEnergyHistogram", "FreeEnergyPath", "FreeEnergySurface", "GaussianMixtureModel", "geodesic", "GeodesicResult", "geodesics", "GeodesicShot",
    "geodesicsOfPairs", "GuidedDensity", "highestFreeEnergy", "ImageModel", "ImageSet", "importFromOpenPathSampling", "interpolate", "Interpolation",
    "interpolationReport", "jeffreysDivergence", "klDivergence", "latentParameter", "lerp", "loadModel", "logarithmMap", "logLikelihood", "logPartition",
    "matrixFreeGeodesic", "matrixFreeGeodesics", "MatrixFreeResult", "mbar", "measureWithProbes", "metadynamics", "MetadynamicsSamples",
    "minimumFreeEnergyPath", "ModelDensity", "ModelValidation", "Moments", "NetworkModel", "PathDensity", "pathDensity", "PathEnsemble", "PathFailure",
    "PathRecord", "PathSampler", "PathSimilarity", "pathSimilarity", "PathStatistics", "PictureSpace", "PosteriorModel", "predictAcceptance",
    "probabilityFlow", "ProbeMeasure", "psnr", "PullbackCurve", "pullbackGeodesic", "pullbackMetric", "readImage", "readImages", "readSamples", "Region",
    "ReplicaExchange", "replicate", "Report", "sampleReverseSde", "Samples", "saveTorchScript", "SequenceAnalysis", "slerp", "SpacetimeForce",
    "SpacetimeReporter", "ssim", "StateRegion", "StateSamples", "stiffness", "straightLine", "temperatureExchange", "TemperatureSamples",
    "thermodynamicIntegration", "torchModel", "TorchScriptModel", "train", "trainImages", "TransitionFrames", "transitionStateCandidates", "TransitionStates",
    "transitionStates", "UnbiasedPath", "UnbiasedPaths", "validateModel", "Variable", "Variables", "viewPath", "WeightedSamples", "WorkFreeEnergy", "writePng",
]
__version__ = _plugin.version()
