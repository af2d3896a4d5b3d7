# SPDX-License-Identifier: MIT
"""Threads, forks and the GIL: what runs side by side gives what it gives alone, and long calls let other threads run."""
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import openmm
import openmm.app
import pytest
from openmm import unit

import openmmspacetime as st


@pytest.fixture(scope="module")
def model(alanineSamples, torsions):
    x, w = alanineSamples
    return st.EmpiricalModel(x, torsions, logWeights=w)


def makeContext(platform, shift=0.0):
    """Four beads whose torsion follows a curve, without random numbers: on the Reference platform all Contexts share theirs."""
    system = openmm.System()
    for _ in range(4):
        system.addParticle(15.0)
    bonds = openmm.HarmonicBondForce()
    for i in range(3):
        bonds.addBond(i, i+1, 0.15, 1e5)
    system.addForce(bonds)
    angle = np.linspace(-1, 1, 9)
    force = st.SpacetimeForce(s=np.linspace(0, 1, 9), eta=40*np.stack([np.cos(angle), np.sin(angle)], axis=1), temperature=300)
    force.addTorsion(0, 1, 2, 3, name="t")
    system.addForce(force)
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName(platform), {"Threads": "1"} if platform == "CPU" else {})
    context.setPositions([[0, 0.1, 0], [0, 0, 0], [0.15, 0, 0], [0.15, 0.1*np.cos(2+shift), 0.1*np.sin(2+shift)]])
    return context


def drive(context):
    for s in np.linspace(0, 1, 200):
        context.setParameter("spacetime_s", s)
        context.getIntegrator().step(10)
    return context.getState(positions=True).getPositions(asNumpy=True).value_in_unit(unit.nanometer)


@pytest.mark.parametrize("platform", ["Reference", "CPU"])
def testContextsInThreads(platform):
    alone = [drive(makeContext(platform, shift)) for shift in (0.0, 0.5, 1.0)]
    contexts = [makeContext(platform, shift) for shift in (0.0, 0.5, 1.0)]
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(drive, contexts))
    for a, b in zip(alone, together):
        assert a.tobytes() == b.tobytes()


def testModelIsSharedByThreads(model):
    """One model, many threads: the same curves as one after the other."""
    ends = [([-2.58, 2.79], [1.09, -0.88]), ([-1.4, 1.2], [1.0, -0.9]), ([-2.5, 2.7], [-1.4, 1.2]), ([-2.58, 2.79], [1.09, -0.88])]
    alone = [st.geodesic(model, *pair, points=33) for pair in ends]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda pair: st.geodesic(model, *pair, points=33), ends))
    for a, b in zip(alone, together):
        assert a.eta.tobytes() == b.eta.tobytes()


class Ticker:
    """A thread that counts while the body runs; `share` is the part of the time without a pause of more than half of it."""

    def __enter__(self):
        self.ticks, self.stopped = [], False
        self.thread = threading.Thread(target=self.count)
        self.thread.start()
        return self

    def count(self):
        while not self.stopped:
            self.ticks.append(time.perf_counter())
            time.sleep(0.002)

    def __exit__(self, *error):
        self.end = time.perf_counter()
        self.stopped = True
        self.thread.join()

    def longestPause(self):
        """The longest time without a tick, as a share of all of it."""
        times = np.array([*self.ticks[:-1], self.end])
        return np.diff(times).max()/(times[-1]-times[0])


def calls(model, samples, tmp_path):
    """Long calls: geometry, training, sampling."""
    ends = [-2.58, 2.79], [1.09, -0.88]
    curve = st.geodesic(model, *ends, points=65)
    rng = np.random.default_rng(1)
    pairs = rng.uniform(-3, 3, size=(2, 30, 2))
    context = makeContext("Reference")

    def sample():
        system = openmm.System()
        system.addParticle(1.0)
        force = st.SpacetimeForce(s=[0, 1], eta=[[1.0, 0.0], [0.0, 1.0]], temperature=300)
        force.addCoordinate(0, 0, period=1.0, name="x")
        system.addForce(force)
        topology = openmm.app.Topology()
        topology.addAtom("C", openmm.app.Element.getBySymbol("C"), topology.addResidue("X", topology.addChain()))
        simulation = openmm.app.Simulation(topology, system, openmm.LangevinMiddleIntegrator(300, 10, 0.01), openmm.Platform.getPlatformByName("Reference"))
        simulation.context.setPositions([[0.0, 0, 0]])
        st.PathSampler(simulation, force, numPaths=1, steps=200000, frameStride=100000, equilibrationSteps=100, progress=False).run(tmp_path/"paths")

    return {"geodesics": lambda: st.geodesics(model, *ends, points=257),
            "measure": lambda: [curve.measure(model) for _ in range(20)],
            "distance": lambda: st.distance(model, pairs[0], pairs[1]),
            "densityGeodesic": lambda: st.densityGeodesic(st.ModelDensity(model, logSnr=3.0), *ends, points=129),
            "train": lambda: st.train(*samples, out=tmp_path/"model.safetensors", steps=60),
            "PathSampler": sample,
            "step": lambda: context.getIntegrator().step(300000)}


@pytest.mark.parametrize("name", ["geodesics", "measure", "distance", "densityGeodesic", "train", "PathSampler", "step"])
def testOtherThreadsRunMeanwhile(model, alanineSamples, torsions, tmp_path, name):
    call = calls(model, (alanineSamples[0], torsions, alanineSamples[1]), tmp_path)[name]
    with Ticker() as ticker:
        begin = time.perf_counter()
        call()
        seconds = time.perf_counter()-begin
    assert seconds > 0.05, "too short to tell"
    assert ticker.longestPause() < 0.5


FORK = """
    import os, sys
    import numpy as np
    import openmmspacetime as st
    rng = np.random.default_rng(1)
    variables = st.Variables.torsions([(4, 6, 8, 14), (6, 8, 14, 16)], names=["phi", "psi"])
    x = rng.vonmises(0, 2, size=(4000, 2))
    model = st.EmpiricalModel(x, variables)
    {before}
    reference = st.geodesic(model, [-1, -1], [1, 1], points=33).eta.tobytes()
    child = os.fork()
    if child == 0:
        try:
            {after}
            os._exit(0 if st.geodesic(model, [-1, -1], [1, 1], points=33).eta.tobytes() == reference else 3)
        except RuntimeError as e:
            print(e, flush=True)
            os._exit(4)
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def forked(before="pass", after="pass"):
    done = subprocess.Popen([sys.executable, "-c", textwrap.dedent(FORK).format(before=before, after=after)], stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        out, _ = done.communicate(timeout=120)
    except subprocess.TimeoutExpired:
        os.killpg(done.pid, signal.SIGKILL)
        pytest.fail("the forked process hangs")
    return done.returncode, out


def testForkAfterImport():
    """Geometry has no threads of its own that a child would miss."""
    assert forked() == (0, "")


def testForkAndTraining():
    """A child trains where its parent had not begun to; where LibTorch's threads were at work before the fork, it is told so instead of waiting for them forever."""
    train = "st.train(x, variables, steps=4, batch=64, components=4)"
    assert forked(after=train) == (0, "")
    code, out = forked(before=train, after=train)
    assert code == 4 and "fork" in out and "spawn" in out, out
