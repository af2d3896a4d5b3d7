# SPDX-License-Identifier: MIT
"""What holds for anything a caller may pass: made-up variables, mixtures, curves, samples and arguments (hypothesis)."""
import math
import tempfile
from pathlib import Path

import numpy as np
import openmm
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as some
from hypothesis.extra import numpy as arrays

import openmmspacetime as st

settings.register_profile("spacetime", deadline=None, derandomize=True, max_examples=60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
settings.load_profile("spacetime")

finite = some.floats(-3, 3).map(lambda x: round(x, 6))
anything = some.one_of(some.none(), some.booleans(), some.integers(), some.floats(), some.text(max_size=8), some.binary(max_size=8), some.lists(some.floats(), max_size=4),
                       some.lists(some.lists(some.floats(), max_size=3), max_size=3), arrays.arrays(some.sampled_from([np.float64, np.int32, np.complex128, "U3", object]), arrays.array_shapes(max_dims=3, max_side=4)))


@some.composite
def variables(draw):
    """Up to four of any kind."""
    items = []
    for i in range(draw(some.integers(1, 4))):
        kind, name = draw(some.sampled_from(["torsion", "angle", "distance", "coordinate", "number"])), draw(some.text(min_size=1, max_size=6).filter(lambda s: s.isprintable()))+str(i)
        atoms = draw(some.lists(some.integers(0, 10**6), min_size=4, max_size=4, unique=True))
        if kind == "coordinate":
            items.append(st.Variable.coordinate(name, atoms[0], draw(some.integers(0, 2)), draw(some.floats(0.1, 10))))
        elif kind == "number":
            items.append(st.Variable.number(name))
        else:
            items.append(getattr(st.Variable, kind)(name, atoms[:{"torsion": 4, "angle": 3, "distance": 2}[kind]]))
    return st.Variables(items)


@some.composite
def mixtures(draw, most=4):
    dimensions, count = draw(some.integers(1, 3)), draw(some.integers(1, most))
    means = draw(arrays.arrays(float, (count, dimensions), elements=finite))
    variances = draw(arrays.arrays(float, count, elements=some.floats(0.05, 2)))
    weights = draw(arrays.arrays(float, count, elements=some.floats(0.05, 1)))
    return st.GaussianMixtureModel(means, variances, weights), means


@given(variables())
def testVariablesSurviveTheirFile(v):
    again = st.Variables.fromJson(v.toJson())
    assert again.toJson() == v.toJson() and again.names == v.names


@given(variables(), some.data())
def testCurvesSurviveTheirFile(v, data):
    raw = [np.array([data.draw(finite) for _ in range(len(v))]) for _ in range(2)]
    curve = st.straightLine(v, *raw, logSnr=data.draw(some.floats(-4, 8)), points=data.draw(some.integers(2, 9)))
    with tempfile.TemporaryDirectory() as folder:
        curve.save(Path(folder)/"c.json")
        again = st.Curve.load(Path(folder)/"c.json")
    assert again.eta.tobytes() == curve.eta.tobytes() and again.s.tobytes() == curve.s.tobytes() and again.variables.toJson() == v.toJson()


@given(variables(), some.data())
def testForcesSurviveXml(v, data):
    count = data.draw(some.integers(2, 5))
    s = np.linspace(0, 1, count)
    assume(all(item.kind != "number" for item in v))
    eta = data.draw(arrays.arrays(float, (count, v.numStatistics), elements=some.floats(-100, 100)))
    if any(not item.lifted for item in v):
        eta[:, 0] = -np.abs(eta[:, 0])
    force = st.SpacetimeForce(st.Curve(v, s, eta), v, data.draw(some.floats(1, 1000)))
    xml = openmm.XmlSerializer.serialize(force)
    assert openmm.XmlSerializer.serialize(openmm.XmlSerializer.deserialize(xml)) == xml


@pytest.mark.parametrize("name", ["<0", "a>", "&", 'say "x"', "it's", "100%", "%3C"])
def testNamesWithSpecialCharactersSurviveXml(name):
    """OpenMM's parser loses what follows an entity at the end of a value."""
    force = st.SpacetimeForce(s=[0, 1], eta=[[1.0, 0.0], [0.0, 1.0]], temperature=300)
    force.addTorsion(0, 1, 2, 3, name=name)
    xml = openmm.XmlSerializer.serialize(force)
    again = openmm.XmlSerializer.deserialize(xml)
    assert openmm.XmlSerializer.serialize(again) == xml and st.SpacetimeForce.cast(again).getVariableNames() == [name]


@given(mixtures(), some.floats(-2, 4), some.data())
@settings(max_examples=25)
def testDistancesAreAMetric(mixture, logSnr, data):
    model, means = mixture
    points = [np.array([data.draw(finite) for _ in range(means.shape[1])]) for _ in range(3)]
    a, b, c = points

    def distance(x, y):
        return float(st.distance(model, x[None], y[None], logSnr=logSnr, points=129)[0])

    ab, ba, bc, ac = distance(a, b), distance(b, a), distance(b, c), distance(a, c)
    assert distance(a, a) == 0
    assert ab >= 0 and ab == pytest.approx(ba, rel=2e-3, abs=1e-6)
    assert ac <= (ab+bc)*(1+2e-3)+1e-6
    # No curve is shorter than the straight one is at most.
    line = st.straightLine(model.variables, a, b, logSnr=logSnr, points=129).measure(model).length
    assert ab <= line*(1+1e-6)+1e-9


@given(mixtures(), some.floats(-2, 4), some.data())
def testMomentsAreTheDerivativesOfLogPartition(mixture, logSnr, data):
    model, means = mixture
    x = np.array([data.draw(finite) for _ in range(means.shape[1])])
    eta = model.variables.naturalParameter(x, logSnr)
    m = model.moments(eta[None])
    for i in range(len(eta)):
        h = 1e-5*max(1, abs(eta[i]))
        up, down = eta.copy(), eta.copy()
        up[i] += h
        down[i] -= h
        slope = (st.logPartition(model, up)-st.logPartition(model, down))/(2*h)
        assert slope == pytest.approx(m.mu[0, i], rel=1e-4, abs=1e-4*(1+np.abs(m.mu).max()))


@given(arrays.arrays(some.sampled_from([np.float64, np.float32, np.int32, np.int64]), some.tuples(some.integers(1, 20), some.integers(1, 4)),
                     elements=some.integers(-1000, 1000)), some.booleans(), some.sampled_from(["npy", "npz", "packed", "csv"]))
def testSamplesOfNumpyAreReadExactly(x, fortran, kind):
    x = np.asfortranarray(x) if fortran else x
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)/("s."+("npz" if kind == "packed" else kind))
        if kind == "npy":
            np.save(path, x)
        elif kind == "csv":
            path.write_text(",".join(f"v{i}" for i in range(x.shape[1]))+"\n"+"".join(",".join(repr(float(n)) for n in row)+"\n" for row in x))
        else:
            (np.savez_compressed if kind == "packed" else np.savez)(path, x=x, log_weights=np.zeros(len(x)))
        assert np.array_equal(st.readSamples(path).x, x.astype(float))


MODEL = st.GaussianMixtureModel([[-1.0, 0.0], [1.0, 0.0]], [0.1, 0.1], [0.5, 0.5])
CURVE = st.straightLine(MODEL.variables, [-1, 0], [1, 0], points=5)
CALLS = {"geodesic a": lambda x: st.geodesic(MODEL, x, [1, 0], points=9), "geodesic logSnr": lambda x: st.geodesic(MODEL, [-1, 0], [1, 0], logSnr=x, points=9),
         "straightLine": lambda x: st.straightLine(MODEL.variables, x, [1, 0]), "EmpiricalModel": lambda x: st.EmpiricalModel(x, st.Variables.numbers(["a", "b"])),
         "weights": lambda x: st.EmpiricalModel([[0.0], [1.0], [2.0]], st.Variables.numbers(["a"]), logWeights=x),
         "GaussianMixtureModel": lambda x: st.GaussianMixtureModel(x, [0.1, 0.1], [0.5, 0.5]), "moments": lambda x: MODEL.moments(x), "evaluate": lambda x: CURVE.evaluate(x),
         "distance": lambda x: st.distance(MODEL, x, [[1, 0]], points=9), "densityGeodesic": lambda x: st.densityGeodesic(st.ModelDensity(MODEL, logSnr=2.0), x, [1, 0], points=9),
         "klDivergence": lambda x: st.klDivergence(MODEL, x, CURVE.eta[0]), "fromJson": lambda x: st.Variables.fromJson(x), "torsions": lambda x: st.Variables.torsions(x),
         "SpacetimeForce eta": lambda x: st.SpacetimeForce(s=[0, 1], eta=x, temperature=300), "SpacetimeForce s": lambda x: st.SpacetimeForce(s=x, eta=[[1, 0], [0, 1]], temperature=300),
         "SpacetimeForce temperature": lambda x: st.SpacetimeForce(s=[0, 1], eta=[[1, 0], [0, 1]], temperature=x)}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.filterwarnings("ignore")
@given(x=anything)
@settings(max_examples=100)
def testAnyArgumentIsTakenOrRefused(name, x):
    """Whatever is passed: a result of finite numbers, or an error that Python's users expect, with words."""
    try:
        result = CALLS[name](x)
    except (ValueError, TypeError, openmm.OpenMMException) as e:
        assert str(e)
        return
    numbers = result.eta if isinstance(result, st.Curve) else result if isinstance(result, (float, np.ndarray)) else 0.0
    assert np.all(np.isfinite(numbers)) or (isinstance(numbers, float) and math.isinf(numbers))
