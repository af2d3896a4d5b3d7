# SPDX-License-Identifier: MIT
"""Geodesics without matrices: what Python adds, and that the solver does not stop early."""
import warnings

import numpy as np
import openmmspacetime as st
import pytest


def eta(c, l=3.0):
    return np.concatenate([[-0.5 * np.exp(l)], np.exp(l) * np.asarray(c)])


def cornerMixture(seed, D=32, modes=200, variance=0.09):
    """Modes at corners of a cube, and the ends of a curve between two far ones."""
    means = np.random.default_rng(seed).choice([-1.0, 1.0], size=(modes, D))
    far = np.argmax(np.linalg.norm(means - means[0], axis=1))
    return st.GaussianMixtureModel(means, np.full(modes, variance), np.ones(modes)), eta(means[0]), eta(means[far])


# Solvers that judge by one step of few curvatures stop 20 % above the geodesic here, and call it converged.
@pytest.mark.parametrize("seed", [1, 3])
def testLengthIsThatOfATighterTolerance(seed):
    model, a, b = cornerMixture(seed)
    loose, tight = (st.matrixFreeGeodesic(model, a, b, **options) for options in ({}, {"tolerance": 1e-3, "maxIterations": 400}))
    assert loose.converged and tight.converged
    assert tight.length <= loose.length + 3 * loose.lengthError
    assert loose.length < 1.03 * tight.length


def testTooFewIterationsAreSaid():
    model, a, b = cornerMixture(1, D=8, modes=20)
    with pytest.warns(UserWarning, match="did not converge.*maxIterations"):
        assert not st.matrixFreeGeodesic(model, a, b, maxIterations=1).converged


def testSegmentsOnWhichAModelContradictsItselfAreSaid():
    # Its denoised means move against the data: no posterior does that.
    variables = st.Variables.numbers(["a", "b", "c"])
    model = st.CallableModel(lambda x, l: np.tanh(-np.asarray(x)), variables, "ve", "x0", logSnrRange=(-3, 6))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        result = st.matrixFreeGeodesic(model, eta([1.0, 0, 0]), eta([-1.0, 0.5, 0]), points=5, maxIterations=2)
    assert result.measure.negativeEdges > 0
    assert any(f"inconsistent on {result.measure.negativeEdges} of 4 segments" in str(w.message) for w in said)


def testWrongShapesAndPointsAreRefused():
    model, a, b = cornerMixture(1, D=8, modes=20)
    with pytest.raises(ValueError, match="etaB: expected 9 natural parameters, got shape"):
        st.matrixFreeGeodesic(model, a, b[:-1])
    with pytest.raises(ValueError, match="eta_l below 0"):
        st.matrixFreeGeodesic(model, -a, b)
    with pytest.raises(TypeError, match="unexpected keyword argument 'steps'"):
        st.matrixFreeGeodesics(model, a[None], b[None], steps=3)
