# SPDX-License-Identifier: MIT
import os
import pathlib

import numpy as np
import pytest

import openmmspacetime as st

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def alanineSamples():
    """The shipped weighted (phi, psi) samples of vacuum alanine dipeptide: x [K, 2] rad, log weights [K]."""
    with np.load(ROOT / "examples" / "alanine_dipeptide" / "data" / "alanine_vacuum_300K.npz") as data:
        return data["x"].astype(float), data["log_weights"].astype(float)


@pytest.fixture(scope="session")
def torsions():
    """phi and psi of alanine dipeptide."""
    return st.Variables.torsions([(4, 6, 8, 14), (6, 8, 14, 16)], names=["phi", "psi"])


@pytest.fixture(scope="session")
def opsPython():
    """Python of the environment in which OpenPathSampling is."""
    python = os.environ.get("SPACETIME_OPS_PYTHON")
    place = pathlib.Path(python) if python else ROOT/".venv"/"ops"/"bin"/"python"
    if not place.exists():
        if python:
            pytest.fail(f"SPACETIME_OPS_PYTHON={python} does not exist")
        pytest.skip(f"THE OPENPATHSAMPLING HAND-OFF IS NOT TESTED: there is no {place}; `make test` makes it where it is not offline")
    return str(place)
