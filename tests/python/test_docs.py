# SPDX-License-Identifier: MIT
"""Every block of code in docs/ runs as it stands, page by page, or its page says why it does not; what the pages link to and show is there."""
import csv
import pathlib
import re
import shutil
import subprocess
import sys
import warnings

import matplotlib
import numpy as np
import openmm
import pytest
from openmm import app, unit

import openmmspacetime as st
import snippets
from snippets import ROOT

DATA = ROOT/"examples"/"alanine_dipeptide"/"data"/"alanine_vacuum_300K.npz"
LINK = re.compile(r"!?\[[^\]\n]*\]\(([^)\s]+)\)")


def alanine(curve=None, torsions=None, **names):
    """What pages take for granted: a Simulation of alanine dipeptide with a force along `curve`, and the `names` given."""
    pdb = app.PDBFile(str(ROOT/"examples"/"alanine_dipeptide"/"alanine_dipeptide.pdb"))
    system = app.ForceField("amber14-all.xml").createSystem(pdb.topology, constraints=app.HBonds)
    integrator = openmm.LangevinMiddleIntegrator(300*unit.kelvin, 1/unit.picosecond, 2*unit.femtoseconds)
    platform = openmm.Platform.getPlatform("Reference")
    names.update(st=st, np=np, app=app, unit=unit, system=system, integrator=integrator, platform=platform, topology=pdb.topology, positions=pdb.positions, curve=curve)
    if torsions is not None:
        names["force"] = st.SpacetimeForce(curve, torsions, 300*unit.kelvin)
        system.addForce(names["force"])
        names["simulation"] = app.Simulation(pdb.topology, system, integrator, platform)
        names["simulation"].context.setPositions(pdb.positions)
    return names


@pytest.fixture(scope="module")
def surface(alanineSamples):
    return st.FreeEnergySurface.fromSamples(*alanineSamples, temperature=300)


@pytest.fixture(scope="module")
def model(alanineSamples, torsions):
    return st.EmpiricalModel(alanineSamples[0], torsions, logWeights=alanineSamples[1])


@pytest.fixture(scope="module")
def transition(model):
    return st.geodesic(model, (-2.58, 2.79), (1.09, -0.88), preset="transition", temperature=300)


@pytest.fixture(scope="module")
def free(model):
    return st.geodesic(model, (-2.58, 2.79), (1.05, -0.75), logSnr=4.0)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def structures(folder):
    for name in ("start.pdb", "end.pdb"):
        shutil.copy(ROOT/"examples"/"own_molecule"/name, folder)


# ---- the pages in a reader's order

def testTutorial(folder, structures, capsys):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the little sampling
        names = snippets.run("docs/tutorial.md", less={"steps=2_000_000": "steps=60_000, height=6, depositEvery=50, sampleEvery=10", "structure.positions))": "structure.positions), logSnr=3)", 'out="model': 'steps=50, points=300, out="model', "numPaths=20, steps=5000": "numPaths=2, steps=600"})
    said = capsys.readouterr().out
    assert "['phi2', 'psi2'] [-1.4   1.05]" in said and "fewest effective samples" in said and "posterior standard deviations" in said and "straight line (null)" in said
    # What the page shows as printed is of the same form.
    numbers = re.compile(r"[-\d.,]+")
    shown = [block.code for block in snippets.blocks("docs/tutorial.md") if block.language == "text"]
    for block in shown[:-1]:
        assert numbers.sub("#", block) in numbers.sub("#", said), block
    assert shown[-1].split("\n")[0].split() == said[said.index("                      paths"):].split("\n")[0].split()
    assert (folder/"report.html").exists() and len(names["paths"]["geodesic"]) == 2


def testVariables(folder, structures, capsys):
    shown = next(block.code for block in snippets.blocks("docs/variables.md") if block.language == "text")
    reference = np.random.default_rng(1).normal(size=(4, 3))
    assert snippets.run("docs/variables.md", {"reference": reference})["variables"].names == ["phi", "psi", "d", "O.x", "O.y", "O.z"]
    assert capsys.readouterr().out == shown


def testTrainingData(folder, structures, capsys):
    names = {}
    tutorial = next(block.code for block in snippets.blocks("docs/tutorial.md") if block.language == "python")
    exec(tutorial, names)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        snippets.run("docs/training_data.md", names, less={"steps=500_000": "steps=20_000", "steps=400": "steps=50, points=300", "numPaths=16, steps=5000": "numPaths=2, steps=600",
                                                           "simulate(300)": "simulate(40)", "structure.positions))": "structure.positions), logSnr=3)"})
    said = capsys.readouterr().out
    assert "2 ladders of 5 temperatures, 300, 357, 424, 505, 600 K" in said and "of the curve" in said
    assert names["variables"].names == ["phi2", "psi2", "chi1_2"]
    # There are more samples along the line than there were.
    before, after = (st.EmpiricalModel(s.x, names["variables"], s.logWeights).moments(names["line"].eta).nEff.min() for s in (names["samples"], names["pooled"]))
    assert after > 2*before


def testTrainingDataQuotesTheStudy():
    """The summary that the page shows is that of the committed results."""
    import json

    settings = json.loads((ROOT/"examples"/"tetrapeptide"/"results"/"report.json").read_text())["settings"]
    assert settings["samples"] in (ROOT/"docs"/"training_data.md").read_text()
    assert "17 crossings" in settings["phi2 > 0 at 300 K"] and settings["phi2 > 0 at 300 K"].startswith("14.7 ± 2.6 %")


def testConstraints(folder, capsys):
    shutil.copy(DATA, folder)
    snippets.run("docs/constraints.md")
    shown = next(block.code for block in snippets.blocks("docs/constraints.md") if block.language == "text")
    said = capsys.readouterr().out
    for mine, theirs in zip(said.splitlines(), shown.splitlines()):
        assert mine.split()[0] == theirs.split()[0]
        assert [float(x) for x in re.findall(r"\d+\.\d+", mine)] == pytest.approx([float(x) for x in re.findall(r"\d+\.\d+", theirs)], rel=0.02, abs=0.15)


def testModels(folder, alanineSamples, torsions):
    from test_models import FROM, MEANS, TO, VARIANCES, WEIGHTS, mixture

    x, logWeights = alanineSamples
    np.savez(folder/"samples.npz", x=x, log_weights=logWeights)
    names = dict(samples=x, logWeights=logWeights, variables=torsions, st=st, unit=unit)
    few = {"300*unit.kelvin, out=": "300*unit.kelvin, steps=25, points=200, out=", "--temperature 300 --out": "--temperature 300 --steps 25 --points 200 --out",
           "--preset transition": "--min-kappa 50"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        snippets.run("docs/models.md", names, less=few, only=slice(2))
    # The recipe for a denoiser in PyTorch gives nearly the geodesic of the mixture that its samples come from.
    rng = np.random.default_rng(1)
    k = rng.choice(3, 4000, p=WEIGHTS)
    names = dict(samples=MEANS[k]+np.sqrt(VARIANCES[k])[:, None]*rng.normal(size=(4000, 2)), steps=2500)
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # layers this small gain nothing from a second one
    snippets.run("docs/models.md", names, only=slice(2, 3))
    torch.set_num_threads(threads)
    assert names["curve"].length == pytest.approx(st.geodesic(mixture(), FROM, TO, minLogSnr=0).length, rel=0.1)
    names.update(variables=st.Variables.numbers(["d1", "d2"]), network=lambda x, l: names["denoiser"](*(torch.as_tensor(a, dtype=torch.float32) for a in (x, l))))
    # A denoiser is no exact gradient field: the curve is written, and the exit code may be 1.
    snippets.run("docs/models.md", names, less={"--out distances.json": "--out distances.json || test $? = 1"}, only=slice(3, 5))

    class Picture(torch.nn.Module):
        def forward(self, x, logsnr):
            return torch.tanh(x)*torch.sigmoid(logsnr)[:, None, None, None]

    snippets.run("docs/models.md", dict(st=st, network=Picture()), less={', device="cuda"': ""}, only=slice(5, None))


def testGeodesics(folder, surface, torsions):
    grid = surface.model(torsions, 300, bins=60)
    a, b = (-2.58, 2.79), (1.09, -0.88)
    etaA, etaB = (torsions.naturalParameter(np.array(c), 4.0) for c in (a, b))
    A, B = np.array([a, (-1.4, 1.0)]), np.array([b, (-2.0, 2.0)])
    names = snippets.run("docs/geodesics.md", dict(st=st, model=grid, surface=surface, a=a, b=b, eta=etaA, velocity=0.1*(etaB-etaA), etaA=etaA, etaB=torsions.naturalParameter(np.array((-2.2, 2.6)), 4.0), A=A, B=B))
    assert len(names["results"]) == 4


def testFlows(folder):
    import json

    mixture = {"means": [[-1.0], [1.5]], "variances": [0.1, 0.2], "weights": [0.4, 0.6]}
    (folder/"mixture.json").write_text(json.dumps(mixture))
    x = np.array([[-1.2], [0.3], [1.6]])
    np.save("data.npy", x)
    np.savez("samples.npz", x=np.random.default_rng(1).vonmises(0, 1, (2000, 2)))
    np.save("angles.npy", np.zeros((2, 2)))
    names = snippets.run("docs/flows.md", dict(st=st, model=st.GaussianMixtureModel(mixture["means"], mixture["variances"], mixture["weights"]), x=x))
    assert names["x"] == pytest.approx(x, abs=1e-6) and np.load("back.npy") == pytest.approx(x, abs=1e-6)


def testDensity(folder, capsys):
    (folder/DATA.parent.relative_to(ROOT)).mkdir(parents=True)
    shutil.copy(DATA, folder/DATA.relative_to(ROOT))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        names = snippets.run("docs/density.md", only=slice(-1))
    printed = capsys.readouterr().out
    assert "129 nodes" in printed and "best tau" in printed
    # The mixture's straight line, and SLERP.
    numbers = [[float(v) for v in row.split()] for row in printed.splitlines() if re.fullmatch(r"[-\d. e]+", row)]
    assert numbers[0] == pytest.approx([-2.6, 1.6], abs=0.05) and numbers[-1] == pytest.approx([-4.8, -8.6, 1.16], abs=0.05)
    # MaxFlux.
    surface, maxFlux, line, valley = (names[name] for name in ("surface", "maxFlux", "line", "valley"))
    assert surface.highestAlong(maxFlux.path) == pytest.approx(38.8, abs=0.05) and names["mfep"].saddle[1] == pytest.approx(38.8, abs=0.05)
    assert valley.distance/maxFlux.distance == pytest.approx(1.01, abs=0.005) and line.distance/maxFlux.distance == pytest.approx(5.9, abs=0.05)
    assert maxFlux.freeEnergy(300).max() == pytest.approx(36.4, abs=0.1)
    assert names["analysis"].distanceRatio == pytest.approx(1.01, abs=0.005) and np.nanmedian(names["analysis"].residual) > 0.8
    assert st.DensityPath.load("path.json").logSnr == 4 and len(names["curve"].s) == 129
    # Circles about y = 0, and one more half unit of the same circle.
    c = 0.5*(1+1-1-0.25)/2
    for x in (names["circle"].path, names["onward"].path):
        assert np.hypot(x[:, 0]-c, x[:, 1]) == pytest.approx(np.hypot(1-c, 1), abs=2e-3)
    assert np.hypot(names["averaged"].path[:, 0]-c, names["averaged"].path[:, 1]) == pytest.approx(np.hypot(1-c, 1), abs=0.02)
    assert names["path"].path[:, 1].max() > 0.3
    great, slerp = names["great"], names["slerp"]
    assert np.linalg.norm(great.path, axis=1) == pytest.approx(8) and great.logDistance < slerp.logDistance and great.logDensity.min() > slerp.logDensity.min()
    assert names["shot"].length == pytest.approx(1, rel=1e-2)
    assert (folder/"density_alanine.png").stat().st_size > 20000
    snippets.run("docs/density.md", only=slice(-1, None))
    assert {"further.json", "profile.csv"} <= {f.name for f in folder.iterdir()}


def testForce(capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    names = snippets.run("docs/force.md", only=slice(1))
    assert "'CB.x'" in capsys.readouterr().out
    phi, ends = names["force"].getVariableValues(names["simulation"].context)[:2]
    assert abs(phi+2.6) < 0.6 and abs(ends-0.65) < 0.25
    snippets.run("docs/force.md", names, only=slice(1, None))
    assert capsys.readouterr().out.startswith("0 (")


def testWalkers(monkeypatch, free, torsions):
    monkeypatch.chdir(ROOT)
    names = snippets.run("docs/walkers.md", dict(curve=free, variables=torsions), less={"n = 1000": "n = 4"})
    assert names["positions"].shape == (4, 22, 3) and names["many"].getNumParticles() == 88


@pytest.mark.filterwarnings("error::RuntimeWarning")
def testSamplingResumeClusterReport(folder, capsys, surface, transition):
    """Pages about the same paths, on one run."""
    import mdtraj

    names = alanine(transition, surface=surface)
    np.random.seed(1)
    snippets.run("docs/sampling.md", names, only=slice(3))
    out = capsys.readouterr().out
    paths = names["paths"]
    assert len(paths) == 4 and f"4 paths of {paths.steps} steps, forward" in out and "every 10 steps" in out and "hits 4 of 4" in out
    assert paths.steps == pytest.approx(200*transition.length, abs=1)
    assert names["back"].direction == "backward" and names["pulled"].settings["pullSteps"] == 10000
    # The frame that was picked is the one that the index describes.
    phi = mdtraj.compute_phi(names["frame"])[1][0, 0]
    assert phi == pytest.approx(names["top"]["phi"], abs=1e-3)
    snippets.run("docs/resume.md", names)
    assert len(names["paths"]) == 4
    snippets.run("docs/cluster.md", names)
    assert len(st.PathEnsemble.load("dask")) == 4
    snippets.run("docs/report.md", dict(st=st, geodesic=paths, straight=names["pulled"], surface=surface))
    assert {"report.html", "report.json"} <= {f.name for f in folder.iterdir()} and "straight line (null)" in capsys.readouterr().out
    # The program, on files.
    transition.save("curve.json")
    with open("system.xml", "w") as file:
        plain = openmm.XmlSerializer.clone(names["system"])
        plain.removeForce(plain.getNumForces()-1)
        file.write(openmm.XmlSerializer.serialize(plain))
    names["simulation"].context.setPositions(names["positions"])
    with open("state.xml", "w") as file:
        file.write(openmm.XmlSerializer.serialize(names["simulation"].context.getState(positions=True, velocities=True)))
    snippets.run("docs/sampling.md", less={"--platform CUDA": "--platform Reference --equilibrate", "--paths 500": "--paths 1", "--steps-per-length 2000": "--steps-per-length 50", "--out paths": "--out program"}, only=slice(3, None))
    assert (folder/"program"/"path-0000.npz").exists()


def testExchange(folder, alanineSamples, model, free, torsions):
    samples, logWeights = alanineSamples
    assert len([line for line in snippets.blocks("docs/exchange.md")[-1].code.splitlines() if line]) <= 10
    names = snippets.run("docs/exchange.md", alanine(free, torsions, samples=samples, logWeights=logWeights, model=model))
    states, sampler = names["states"], names["sampler"]
    assert states.predicted.min() >= 0.3 and states.predicted.max() < 1.3*states.predicted.min()
    assert sampler.report().iterations == 40 and names["again"].currentIteration == 70
    # Started from the driven paths, the last replica is near C7ax already.
    first = sampler.history["variables"][0, -1]
    assert np.linalg.norm((first-[1.05, -0.75]+np.pi) % (2*np.pi)-np.pi) < 1.2
    with open(folder/"curve.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 10 and float(rows[-1]["work_kJ_mol"]) == names["driver"].work._value and {"phi", "psi"} <= set(rows[0])


def testFreeEnergies(folder, alanineSamples, surface, torsions):
    samples, logWeights = alanineSamples
    model = surface.model(torsions, 300)
    # Within the basin of C5 and C7eq, where a few picoseconds are enough.
    curve = st.geodesic(model, [-2.58, 2.79], [-1.34, 0.95], logSnr=3.0, minKappa=10)
    names = snippets.run("docs/freeenergies.md", alanine(curve, torsions, samples=samples, logWeights=logWeights, model=model))
    exact = -names["stateSamples"].kT*float(np.diff(model.moments(curve.eta[[0, -1]]).psi)[0])
    for e in (names["solved"].freeEnergyDifference(), names["work"].freeEnergyDifference):
        # The surface of the shipped samples is known to a few tenths of a kJ/mol.
        assert abs(e.value-exact) < 4*e.error+1.0 and e.error < 2
    assert abs(names["fromStages"].freeEnergyDifference().value-exact) < 4
    assert np.isfinite(names["surface"].freeEnergy).sum() > 20 and names["w"].sum() > 0.999
    assert len(names["validation"].s) == len(names["states"])
    for name in ("profile", "overlap", "swaps", "surface"):
        assert (folder/f"{name}.png").stat().st_size > 10000


@pytest.fixture(scope="module")
def committors(tmp_path_factory, model, surface, torsions):
    """The folder in which all blocks of docs/committors.md but the last have run, and what they have left."""
    names = alanine(st.geodesic(model, (-2.63, 2.76), (1.07, -0.69), logSnr=4.0), torsions, surface=surface)
    folder = tmp_path_factory.mktemp("committors")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        snippets.run("docs/committors.md", names, only=slice(3))
    return folder, names


def testCommittors(committors):
    from openmmspacetime import plots

    folder, names = committors
    found, result = names["found"], names["result"]
    assert len(found.second) == 3 and found.second.shots == 20 and found.first.shots == 10 and len(result) == 4
    assert (folder/"ts"/"second"/"committor.json").exists() and (folder/"committors.json").exists() and names["script"] == pathlib.Path("ops/run_ops.py")
    figure = plots.committorHistogram({"frames": result, "selected": found.second})
    assert figure.axes[0].get_title().startswith("frames\nmean ") and isinstance(figure, matplotlib.figure.Figure)
    assert sum(patch.get_height() for patch in figure.axes[0].patches if isinstance(patch, matplotlib.patches.Rectangle)) == 4


def testCommittorsUnbiased(opsPython, committors, monkeypatch, capsys):
    folder, names = committors
    monkeypatch.chdir(folder)
    subprocess.run([opsPython, "ops/run_ops.py", "--trials", "60", "--seed", "1"], check=True, timeout=300)
    snippets.run("docs/committors.md", names, only=slice(3, None))
    text = capsys.readouterr().out
    assert "trials since accepted" in text and "what to expect if both were the same" in text


class Digits:
    """What docs/images.md needs of a trained model: sixteen digits as a mixture of Gaussians, which knows no shape of its own."""

    def __init__(self, pixels, module):
        self.model = st.GaussianMixtureModel(pixels[:16].reshape(16, -1), np.full(16, 0.01), np.full(16, 1/16))
        self.module = module

    def __getattr__(self, name):
        found = getattr(self.module, name)
        if name not in ("interpolate", "extrapolatePictures", "editDistances"):
            return found
        return lambda model, *given, **options: found(model, *given, shape=(8, 8, 1), **options)


def testImages(folder):
    """Training is cut short, and what follows runs on a closed-form model of the digits."""
    pytest.importorskip("sklearn")
    pytest.importorskip("PIL")
    names = snippets.run("docs/images.md", less={"steps=1500": "steps=4, batch=8, channels=8"}, only=slice(1))
    assert names["model"].imageShape == (8, 8, 1) and (folder/"digits.safetensors").exists()
    digits = Digits(names["pixels"], st)
    names.update(st=digits, model=digits.model)
    snippets.run("docs/images.md", names, only=slice(1, None))
    lengths = [p.length for p in names["paths"]]
    assert min(lengths) == lengths[0] == pytest.approx(names["path"].length)
    assert {"strip.png", "spacetime.gif", "report.html", "distances.png", "embedding.png"} <= {f.name for f in folder.iterdir()}
    assert names["distances"].distance.shape == (6, 6)


# ---- all pages

def testEveryBlockIsRunOrSaysWhyNot():
    tests = "".join(file.read_text(encoding="utf-8") for file in pathlib.Path(__file__).parent.glob("test_*.py"))
    run = set(re.findall(r'snippets\.run\("([^"]+)"', tests))
    pages = snippets.pages()
    assert len(pages) > 20
    wrong = []
    for page in pages:
        for block in snippets.blocks(page):
            where = f"{page}:{block.line}"
            if block.language in snippets.RUNNABLE:
                if not block.reason and page not in run:
                    wrong.append(f"{where}: no test runs this block; call snippets.run(\"{page}\") in one, or write <!-- not run: REASON --> above it")
            elif block.language not in snippets.OTHER:
                wrong.append(f"{where}: '{block.language}' is neither code to run (python, bash) nor one of {', '.join(sorted(snippets.OTHER))}")
    assert not wrong, "\n".join(wrong)
    assert run <= set(pages)


def anchors(page):
    """Anchors of the headings of a page, as code hosts and MyST make them."""
    text = re.sub(r"^```.*?^```", "", (ROOT/page).read_text(encoding="utf-8"), flags=re.S | re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower().replace("`", "")).strip().replace(" ", "-") for heading in re.findall(r"^#+ (.*)$", text, re.M)}


def testLinks():
    wrong, shown = [], set()
    examples = [p.relative_to(ROOT).as_posix() for pattern in ("**/README.md", "notebooks/*.ipynb") for p in (ROOT/"examples").glob(pattern)]
    for page in ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", *snippets.pages(), *examples]:
        text = re.sub(r"^ *```.*?^ *```", "", (ROOT/page).read_text(encoding="utf-8"), flags=re.S | re.M)
        for target in LINK.findall(text):
            if "://" in target:
                continue
            path, _, anchor = target.partition("#")
            place = ((ROOT/page).parent/path).resolve() if path else ROOT/page
            shown.add(place)
            if not place.exists():
                wrong.append(f"{page}: {target} does not exist")
            elif anchor and anchor not in anchors(place.relative_to(ROOT)):
                wrong.append(f"{page}: no heading for {target}")
    assert not wrong, "\n".join(wrong)
    unused = {f for f in (ROOT/"docs"/"figures").iterdir() if f.suffix != ".md"}-shown
    assert not unused, f"figures that no page shows: {unused}"


def testEveryFigureIsMadeByAScript():
    """docs/figures/README.md names the command that makes each figure, and the script of that command is there."""
    rows = re.findall(r"^\| `([^`|]+)` \| `([^`|]+)` \|", (ROOT/"docs"/"figures"/"README.md").read_text(encoding="utf-8"), re.M)
    figures = {f.name for f in (ROOT/"docs"/"figures").iterdir() if f.suffix != ".md"}
    assert {name for name, _ in rows} == figures
    makefile = (ROOT/"Makefile").read_text()
    for name, command in rows:
        words = command.split()
        if words[0] == "make":
            recipe = re.search(rf"^{words[1]}:.*\n((?:\t.*\n)+)", makefile, re.M).group(1)
            words = re.findall(r"\S+\.py", recipe)
        scripts = [ROOT/word for word in words if word.endswith(".py")]
        assert scripts and all(script.exists() for script in scripts), f"{name}: {command}"


def testEveryPublicNameIsInTheReference():
    import inspect

    listed = [name for page in (ROOT/"docs"/"api").glob("python_*.md") for block in snippets.blocks(page.relative_to(ROOT).as_posix()) for name in block.code.split()]
    public = {name for name, thing in vars(st).items() if not name.startswith("_") and not inspect.ismodule(thing)}
    top = [name for name in listed if "." not in name]
    assert len(set(top)) == len(top) and set(top) == public


def testCommandLineReferenceIsThatOfTheProgram():
    made = subprocess.run([sys.executable, str(ROOT/"docs"/"cli.py"), "--print"], capture_output=True, text=True, check=True).stdout
    assert made == (ROOT/"docs"/"cli.md").read_text(encoding="utf-8"), "docs/cli.md is stale; run docs/cli.py"


def testValidationNamesTestsThatExist():
    """Every test that docs/validation.md names is there."""
    python = {f"{file.stem}.{name}" for file in pathlib.Path(__file__).parent.glob("test_*.py") for name in re.findall(r"^def (test\w+)", file.read_text(encoding="utf-8"), re.M)}
    cpp = {f"{file.stem}.{name}" for file in (ROOT/"tests"/"cpp").iterdir() if file.suffix == ".cpp" for name in re.findall(r"^TEST\w*\(\w+, (\w+)\)", file.read_text(encoding="utf-8"), re.M)}
    named = set(re.findall(r"`((?:test_|Test)\w+\.\w+)`", (ROOT/"docs"/"validation.md").read_text(encoding="utf-8")))
    assert len(named) > 30 and named <= python | cpp, named-python-cpp


def testBenchmarksLeaveTheirPages(tmp_path, monkeypatch):
    """What `make bench` records: the command, the machine and the output, which is text unless it is Markdown."""
    monkeypatch.syspath_prepend(str(ROOT/"tests"/"benchmarks"))
    import record

    text = record.page("killtest", ["--kills", "3"], "3 kills\n")
    assert text.startswith("# killtest\n\nkill -9 at random moments") and "| command | `python tests/benchmarks/killtest.py --kills 3` |" in text
    assert f"OpenMM {openmm.__version__}" in text and text.endswith("```text\n3 kills\n```\n")
    assert record.page("densitybench", [], "| a |\n|---|\n| 1 |\n").endswith("| a |\n|---|\n| 1 |\n")
    (tmp_path/"failing.py").write_text('"""Fails."""\nprint("half a result")\nraise SystemExit(2)\n')
    (tmp_path/"missing.py").write_text('"""Misses its aim."""\nprint("a result")\nraise SystemExit(1)\n')
    monkeypatch.setattr(record, "HERE", tmp_path)
    monkeypatch.setattr(record, "PAGES", tmp_path/"pages")
    for name, code in (("failing", 2), ("missing", 1)):
        monkeypatch.setattr(sys, "argv", ["record.py", name])
        assert record.main() == code
    assert [f.name for f in (tmp_path/"pages").iterdir()] == ["missing.md"]
