# SPDX-License-Identifier: MIT
"""Numbers that hold whatever the locale, the number of threads and the BLAS."""
import json
import os
import re
import shutil
import subprocess
import sys
import textwrap

import pytest

from openmmspacetime import program

# Prints digests of what is exact, and numbers of what goes through a BLAS.
SCRIPT = textwrap.dedent("""
    import hashlib, json, locale, pathlib, re, sys, tempfile
    if sys.argv[1] != "C":
        locale.setlocale(locale.LC_ALL, sys.argv[1])
        assert locale.localeconv()["decimal_point"] == ","
    import numpy as np, openmm
    import openmmspacetime as st
    rng = np.random.default_rng(1)
    x = rng.vonmises(0, 2, size=(3000, 2))
    variables = st.Variables.torsions([(4, 6, 8, 14), (6, 8, 14, 16)], names=["phi", "psi"])
    model = st.EmpiricalModel(x, variables)
    folder = pathlib.Path(tempfile.mkdtemp())
    digest = lambda data: hashlib.sha256(data).hexdigest()[:16]
    exact, close = {}, {}
    curve = st.geodesic(model, [-0.75, -0.5], [0.75, 0.5], points=33, temperature=300.5)
    curve.save(folder/"c.json")
    exact["curve"] = digest(re.sub(rb'"seconds":[^,}]*', b"", (folder/"c.json").read_bytes()))
    exact["again"] = digest(st.Curve.load(folder/"c.json").eta.tobytes())
    exact["distances"] = digest(st.distance(model, 0.3*x[:4], 0.3*x[4:8], points=17).tobytes())
    path = st.densityGeodesic(st.ModelDensity(model, logSnr=2.5), [-0.75, -0.5], [0.75, 0.5], points=33)
    path.save(folder/"d.json")
    exact["density"] = digest(path.path.tobytes())
    (folder/"s.csv").write_text("x,y,log_weights\\n" + "".join(f"{a!r},{b!r},-0.5\\n" for a, b in x[:50].tolist()))
    exact["csv"] = digest(np.asarray(st.readSamples(folder/"s.csv").x).tobytes())
    (folder/"m.json").write_text('{"means":[[-1.5,0.25],[1.5,0.75]],"variances":[0.125,0.25],"weights":[0.5,0.5]}')
    exact["mixture"] = digest(st.geodesic(st.GaussianMixtureModel.load(folder/"m.json"), [-1.5, 0.25], [1.5, 0.75], logSnr=1.5, points=33).eta.tobytes())
    trained = st.train(x, variables, steps=4, batch=64, components=4, out=folder/"n.safetensors")
    close["network"] = st.geodesic(st.NetworkModel.load(folder/"n.safetensors"), [-1, -1], [1, 1], points=33).length
    force = st.SpacetimeForce(curve=curve, temperature=300.5)
    xml = openmm.XmlSerializer.serialize(force)
    exact["xml"] = digest(xml.encode())
    exact["xml again"] = digest(openmm.XmlSerializer.serialize(openmm.XmlSerializer.deserialize(xml)).encode())
    try:
        st.geodesic(model, [-0.75, float("nan")], [0.75, 0.5])
    except ValueError as e:
        exact["message"] = str(e)
    try:
        st.SpacetimeForce(s=[0, 0.5], eta=[[1.5, 0.5], [1.5, 0.5]], temperature=300.5)
    except Exception as e:
        exact["message 2"] = str(e)
    work = rng.normal(2.5, 1.5, size=400)
    close["free energy"] = float(np.log(np.mean(np.exp(-work))))
    close["moments"] = np.asarray(model.moments(curve.eta).mu).sum()
    print(json.dumps([exact, close]))
""")


def results(locale="C", **environment):
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", SCRIPT, locale], capture_output=True, text=True, env={**os.environ, **environment}, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def reference():
    return results()


@pytest.fixture(scope="module")
def german(tmp_path_factory):
    """A locale with decimal commas, made from Debian's package `locales`."""
    folder = tmp_path_factory.mktemp("locales")
    if shutil.which("localedef") is None:
        pytest.fail("localedef is missing, which makes a locale with decimal commas: apt install locales")
    done = subprocess.run(["localedef", "-i", "de_DE", "-f", "UTF-8", folder/"de_DE.UTF-8"], capture_output=True, text=True)
    assert (folder/"de_DE.UTF-8").exists(), done.stderr
    return {"LOCPATH": str(folder), "LC_ALL": "de_DE.UTF-8"}


def testLocale(reference, german):
    assert results("de_DE.UTF-8", **german) == reference


def testLocaleOfTheProgram(tmp_path, german):
    (tmp_path/"m.json").write_text('{"means":[[-1.5,0.25],[1.5,0.75]],"variances":[0.125,0.25],"weights":[0.5,0.5]}')

    def out(name, **environment):
        words = ["geodesic", "--mixture", tmp_path/"m.json", "--from", "-1.5,0.25", "--to", "1.5,0.75", "--log-snr", "1.5", "--out", tmp_path/name]
        done = subprocess.run([program.path(), *words], capture_output=True, text=True, env={**os.environ, **environment}, timeout=60)
        assert done.returncode == 0, done.stderr
        seconds = re.compile(r"[0-9.]+ s\b")
        return re.sub(rb'"seconds":[^,}]*', b"", (tmp_path/name).read_bytes()), seconds.sub("", done.stdout.replace(name, ""))

    assert out("a.json") == out("b.json", **german)


@pytest.mark.parametrize("threads", ["1", "2", "5"])
def testThreads(reference, threads):
    exact, close = results(OMP_NUM_THREADS=threads, OPENBLAS_NUM_THREADS=threads, MKL_NUM_THREADS=threads)
    assert exact == reference[0]
    assert close == pytest.approx(reference[1], rel=1e-4)


@pytest.mark.parametrize("core", ["Nehalem", "Sandybridge", "Haswell"])
def testBlas(reference, core):
    """Other kernels of numpy's OpenBLAS, and of LibTorch's MKL: the order of sums is theirs."""
    exact, close = results(OPENBLAS_CORETYPE=core, MKL_CBWR="COMPATIBLE")
    assert exact == reference[0]
    assert close == pytest.approx(reference[1], rel=1e-4)
