# SPDX-License-Identifier: MIT
"""Analysis of driven paths on synthetic records with known answers; no molecular dynamics."""
import json
import re
from dataclasses import dataclass, field

import numpy as np
import pytest

pytest.importorskip("scipy")
from openmmspacetime.analysis import analyze, analyzePath
from openmmspacetime.surface import GAS_CONSTANT, FreeEnergySurface, wrap

KT = GAS_CONSTANT * 300.0


def gridded(function, n=72):
    x = -np.pi + 2 * np.pi * np.arange(n) / n
    return function(*np.meshgrid(x, x, indexing="ij"))


# ---- a double well with its minima at phi = ±pi/2 and its passes at phi = 0 (10 kJ/mol) and phi = pi (30 kJ/mol)


def doubleWell(phi, psi):
    return 20 * np.cos(phi) ** 2 - 10 * np.cos(phi) * np.cos(phi) ** 2 + 5 * (1 - np.cos(psi - 0.4))


@pytest.fixture
def surface():
    return FreeEnergySurface(gridded(doubleWell))


@dataclass
class Record:
    variables: np.ndarray
    work: float = 0.0
    index: int = 0
    seed: int = 1
    gradientEvaluations: int = 100
    seconds: float = 0.5
    potentialEnergy: np.ndarray = field(default_factory=lambda: np.array([1.0, 7.0, 2.0]))
    energySteps: np.ndarray = field(default_factory=lambda: np.array([0, 8, 16]))
    s: np.ndarray = None
    workProfile: np.ndarray = None

    def __post_init__(self):
        self.s = np.linspace(0, 1, len(self.variables)) if self.s is None else self.s


class Ensemble(list):
    names = ["phi", "psi"]
    temperature = 300.0
    directory = "."

    def __init__(self, records):
        super().__init__(records)
        self.s = np.array([0.0, 1.0])
        ends = np.array([[-np.pi / 2, 0.4], [np.pi / 2, 0.4]])
        self.eta = np.stack([np.cos(ends), np.sin(ends)], axis=-1).reshape(2, 4) * np.exp(4.0)
        self.steps = len(records[0].variables)


def straight(stop=np.pi / 2, steps=101, psi=0.4, **more):
    """A path from the left well at constant psi, evenly in phi."""
    phi = np.linspace(-np.pi / 2, stop, steps)
    return Record(np.stack([phi, np.full(steps, psi)], axis=1), energySteps=np.array([0, 8, 16]), **more)


class TestSurface:
    def testInterpolatesAClosedForm(self, surface):
        points = np.random.default_rng(1).uniform(-np.pi, np.pi, (500, 2))
        assert np.abs(surface(points) - doubleWell(*points.T)).max() < 5e-3

    def testIsPeriodicAndSmoothAcrossTheSeam(self, surface):
        points = np.random.default_rng(2).uniform(-np.pi, np.pi, (50, 2))
        assert np.allclose(surface(points), surface(points + 2 * np.pi * np.array([1, -3])), atol=1e-9)
        t = np.linspace(-0.02, 0.02, 41)
        across = surface(np.stack([np.pi + t, np.full_like(t, 1.0)], axis=1))
        assert np.abs(np.diff(across, 2)).max() < 1e-3

    def testShapes(self, surface):
        assert surface(np.zeros((3, 4, 2))).shape == (3, 4)
        with pytest.raises(ValueError, match=r"\[\.\.\., 2\]"):
            surface(np.zeros((3, 3)))

    def testMinima(self, surface):
        minima = surface.minima()
        assert len(minima) == 2
        for position, value in minima:
            assert abs(abs(position[0]) - np.pi / 2) < 0.02 or abs(doubleWell(*position)) < 0.05
            assert value == pytest.approx(0.0, abs=0.02)
            assert position[1] == pytest.approx(0.4, abs=1e-3)

    def testSaddleIsTheLowerOfTheTwoPasses(self, surface):
        position, height = surface.saddle((-np.pi / 2, 0.4), (np.pi / 2, 0.4))
        assert height == pytest.approx(10.0, abs=0.01)
        assert position == pytest.approx([0.0, 0.4], abs=1e-3)

    def testSaddleThroughTheSeam(self):
        shifted = FreeEnergySurface(gridded(lambda phi, psi: doubleWell(phi + np.pi, psi)))
        position, height = shifted.saddle((-np.pi / 2, 0.4), (np.pi / 2, 0.4))
        assert height == pytest.approx(10.0, abs=0.01)
        assert np.abs(wrap(position - np.array([np.pi, 0.4]))).max() < 1e-3

    def testSaddleBetweenNeighboursIsTheHigherEnd(self, surface):
        _, height = surface.saddle((-np.pi / 2, 0.4), (-np.pi / 2 + 0.3, 0.4))
        assert height == pytest.approx(doubleWell(-np.pi / 2 + 0.3, 0.4), abs=0.3)

    def testFromUnweightedSamples(self):
        rng = np.random.default_rng(3)
        samples = rng.vonmises(0.0, 1.0, (400_000, 2))
        surface = FreeEnergySurface.fromSamples(samples, temperature=300.0, bins=60, bandwidth=0.1)
        points = rng.uniform(-1.5, 1.5, (200, 2))
        exact = -KT * np.cos(points).sum(axis=1) + 2 * KT
        difference = surface(points) - exact
        assert np.std(difference) < 0.1 * KT

    def testFromWeightedSamplesOfAFlatEnsemble(self):
        rng = np.random.default_rng(4)
        samples = rng.uniform(-np.pi, np.pi, (200_000, 2))
        logWeights = -doubleWell(*samples.T) / KT
        surface = FreeEnergySurface.fromSamples(samples, logWeights, 300.0, bins=90, bandwidth=0.07)
        points = rng.uniform(-np.pi, np.pi, (500, 2))
        difference = surface(points) - doubleWell(*points.T)
        assert np.sqrt(np.mean(difference**2)) < 0.5
        assert surface.saddle((-np.pi / 2, 0.4), (np.pi / 2, 0.4))[1] == pytest.approx(10.0, abs=0.7)

    def testUnsampledRegionsAreMarkedAndHigh(self):
        rng = np.random.default_rng(5)
        surface = FreeEnergySurface.fromSamples(rng.normal(0.0, 0.3, (20_000, 2)), bins=60)
        assert not surface.sampled[0, 0] and surface.sampled[30, 30]
        assert np.all(np.isfinite(surface.values))
        assert surface.values[0, 0] == pytest.approx(surface.values[surface.sampled].max())

    def testFromBias(self):
        bias = gridded(lambda phi, psi: -doubleWell(phi, psi) * 0.9)
        assert np.allclose(FreeEnergySurface.fromBias(bias, 10.0).values, gridded(doubleWell) - gridded(doubleWell).min())

    @pytest.mark.parametrize("values, message", [(np.zeros(9), "8 x 8"), (np.full((9, 9), np.nan), r"values\[0, 0\]")])
    def testRejects(self, values, message):
        with pytest.raises(ValueError, match=message):
            FreeEnergySurface(values)

    def testHighestAlongGoesTheShortWay(self, surface):
        assert surface.highestAlong(np.array([[-0.5, 0.4], [0.5, 0.4]])) == pytest.approx(10.0, abs=0.05)
        assert surface.highestAlong(np.array([[-2.6, 0.4], [2.6, 0.4]])) == pytest.approx(30.0, abs=0.05)


class TestPathStatistics:
    start, target = np.array([-np.pi / 2, 0.4]), np.array([np.pi / 2, 0.4])

    def testMaximaAndHit(self, surface):
        figures = analyzePath(straight(), self.start, self.target, surface)
        assert figures.distance == pytest.approx(0.0)
        assert figures.maxFreeEnergy == pytest.approx(10.0, abs=0.01)
        assert figures.maxFreeEnergyStep == 50
        assert figures.maxPotentialEnergy == 7.0

    def testCrossingFraction(self):
        # From -pi/2 to pi/2 evenly: pi - 2 x 0.75 of a length of pi lies outside both discs.
        figures = analyzePath(straight(steps=20_001), self.start, self.target, radius=0.75)
        assert figures.outside == pytest.approx((np.pi - 1.5) / np.pi, abs=1e-3)
        assert np.isnan(figures.maxFreeEnergy)

    def testDistanceIsPeriodic(self):
        record = Record(np.array([[0.0, 0.0], [-np.pi + 0.1, 0.4]]))
        figures = analyzePath(record, self.start, np.array([np.pi - 0.1, 0.4 + 2 * np.pi]))
        assert figures.distance == pytest.approx(0.2)

    def testNonPeriodicVariables(self):
        record = Record(np.array([[0.0], [7.0]]))
        assert analyzePath(record, np.zeros(1), np.ones(1), periods=np.zeros(1)).distance == pytest.approx(6.0)


class TestAnalyze:
    def ensemble(self):
        works = [10.0, 12.0, 14.0, 16.0]
        stops = [np.pi / 2, np.pi / 2 - 0.5, np.pi / 2 - 0.2, 0.0]  # hits: 3 of 4 within 0.75 rad, 2 within 20 degrees
        return Ensemble([straight(stop, work=w, index=i) for i, (stop, w) in enumerate(zip(stops, works))])

    def testKnownAnswers(self, surface):
        report = analyze({"row": self.ensemble()}, surface, start=(-np.pi / 2, 0.4), target=(np.pi / 2, 0.4), referenceEnergy=2.0, dF=3.0,
                         oneOff={"metadynamics": 1_000_000})
        row = report["row"]
        assert row["hitRate"] == 0.75 and row["hitRate20"] == 0.5
        assert row["dissipated"] == pytest.approx(10.0)
        assert row["dissipatedError"] == pytest.approx(np.std([10, 12, 14, 16], ddof=1) / 2)
        assert row["maxPotential"] == pytest.approx(5.0) and row["maxPotentialAbsolute"] == pytest.approx(7.0)
        assert row["gradientEvaluations"] == 100 and row["seconds"] == 0.5
        assert row["maxFreeEnergy"] == pytest.approx(10.0, abs=0.05)
        assert report.saddle[1] == pytest.approx(10.0, abs=0.01)
        assert len(report.paths("row")) == 4

    def testStatesDefaultToTheEndsOfTheBias(self):
        report = analyze(self.ensemble())
        assert report.target == pytest.approx([np.pi / 2, 0.4])
        assert report["paths"]["hitRate"] == 0.75

    def testTableFitsTheTerminal(self, surface):
        rows = {name: self.ensemble() for name in ("geodesic, exact posterior", "straight line, equal Fisher-Rao")}
        table = analyze(rows, surface, referenceEnergy=-100.0, dF=3.0, oneOff={"metadynamics": 7_000_000}).table
        assert max(len(line) for line in table.splitlines()) <= 120
        for text in ("kJ/mol", "±", "hit rate", "lowest pass", "7,000,000", "every 8 steps", "0.75 rad of B", "dF"):
            assert text in table
        heads = table.splitlines()[0]
        order = [heads.index(t) for t in ("hit rate", "highest F", "highest U", "gradients", "outside", "<W> - dF", "wall")]
        assert order == sorted(order)

    def testWarnsWhenPathsDidNotCross(self, surface):
        report = analyze({"short": Ensemble([straight(-0.8), straight(-0.9)])}, surface, start=(-np.pi / 2, 0.4), target=(np.pi / 2, 0.4))
        assert report["short"]["hitRate"] == 0.0
        assert any("did not cross" in w for w in report.warnings)

    def testCommittorsStandBeforeTheWork(self, surface):
        @dataclass
        class Committors:
            mean: float = 0.47
            meanError: float = 0.02

            def summary(self):
                return "20 frames x 40 shots\nand more"

        @dataclass
        class TransitionStates:
            first: Committors
            second: Committors

        report = analyze({"driven": self.ensemble(), "null": self.ensemble()}, surface, dF=3.0, referenceEnergy=2.0,
                         committors={"driven": TransitionStates(Committors(mean=0.5), Committors())})
        heads, rows = report.table.splitlines()[0], report.table.splitlines()[4:6]
        assert heads.index("outside") < heads.index("committor") < heads.index("<W>")
        assert "0.47 ± 0.02" in rows[0] and "± –" not in rows[1]
        assert "20 frames x 40 shots" in report.table and max(map(len, report.table.splitlines())) <= 120

    def testPublishedRowsShowDashes(self, surface):
        report = analyze({"driven": self.ensemble()}, surface)
        report.addPublished("published, another surface", maxFreeEnergy=37.36, maxFreeEnergyStd=0.6, gradientEvaluations=16e6)
        row = report.table.splitlines()[5]
        assert "37.4 ± 0.6" in row and "16,000,000" in row and row.count("–") == 6 and "nan" not in row
        assert json.loads(report.toJson())["rows"][1]["published"] is True

    def testWeakBiasIsWarnedAbout(self, surface):
        """A ridge of curvature -40/kT = -16 rad^-2 at phi = 0."""
        ridge = FreeEnergySurface(gridded(lambda phi, psi: 20 * np.cos(phi) * np.cos(phi) + 5 * (1 - np.cos(psi - 0.4))))

        def rows(kappa):
            ensemble = Ensemble([straight(work=1.0), straight(work=2.0)])
            phi = np.linspace(-np.pi / 2, np.pi / 2, 65)
            ensemble.s = np.linspace(0, 1, 65)
            ensemble.eta = kappa * np.stack([np.cos(phi), np.sin(phi), np.full(65, np.cos(0.4)), np.full(65, np.sin(0.4))], axis=1)
            return analyze({"row": ensemble}, ridge, start=(-np.pi / 2, 0.4), target=(np.pi / 2, 0.4))

        firm, soft, weak = rows(60.0), rows(8.0), rows(2.0)
        # Averaged over a Gaussian of 0.15 rad, cos(2 phi) loses exp(-2 0.15^2).
        assert firm["row"]["criticalKappa"] == pytest.approx(40 / KT * np.exp(-2 * 0.15**2), rel=0.02)
        assert firm["row"]["softest"] == pytest.approx(60 - firm["row"]["criticalKappa"], rel=0.02) and firm["row"]["smallestKappa"] == pytest.approx(60)
        assert not firm.warnings and any("Critical kappa" in note for note in firm.notes)
        assert soft["row"]["softest"] < 0 and any("hops" in w for w in soft.warnings)
        assert any("lets go" in w for w in weak.warnings)

    def testOnePathHasNoError(self, surface):
        table = analyze({"one": Ensemble([straight(work=5.0)])}, surface, dF=1.0).table
        assert "nan" not in table and "4.0 ± –" in table

    def testQuantitiesAreAccepted(self):
        unit = pytest.importorskip("openmm.unit")
        report = analyze(self.ensemble(), dF=3.0 / 4.184 * unit.kilocalories_per_mole, referenceEnergy=2.0 * unit.kilojoules_per_mole)
        assert report["paths"]["dissipated"] == pytest.approx(10.0)
        assert report["paths"]["maxPotential"] == pytest.approx(5.0)

    def testRejectsEmpty(self):
        with pytest.raises(ValueError, match="at least one path"):
            analyze({"row": []})

    def testStatesMustBeGivenForOtherVariables(self):
        ensemble = self.ensemble()
        ensemble.eta = np.zeros((2, 3))
        with pytest.raises(ValueError, match="give start=... and target=..."):
            analyze(ensemble)

    def testUnknownRow(self):
        with pytest.raises(KeyError, match="no row 'x'"):
            analyze(self.ensemble())["x"]


    def testBackwardPathsEndWhereTheCurveBegins(self):
        back = Ensemble([Record(r.variables[::-1].copy()) for r in (straight(), straight(stop=0.2))])
        assert analyze({"x": back}).rows[0]["hitRate"] == 0.0
        back.direction = "backward"
        report = analyze({"x": back})
        assert report.rows[0]["hitRate"] == 1.0
        np.testing.assert_allclose([report.start[0], report.target[0]], [np.pi / 2, -np.pi / 2], atol=1e-12)


class TestFiles:
    def report(self, surface):
        one = Ensemble([straight(work=w) for w in (4.0, 5.0, 6.0)])
        two = Ensemble([straight(work=w) for w in (6.0, 7.0, 9.0)])
        return analyze({"a <curve>": one, "b": two}, surface, referenceEnergy=0.0, dF=3.0, title="Paths & states")

    def testHtmlIsSelfContained(self, surface, tmp_path):
        pytest.importorskip("matplotlib")
        report = self.report(surface)
        report.save(tmp_path / "report.html")
        text = (tmp_path / "report.html").read_text(encoding="utf-8")
        assert text.count("data:image/png;base64,") == 3
        assert "a &lt;curve&gt;" in text and "a <curve>" not in text and "Paths &amp; states" in text
        for reference in re.findall(r'(?:src|href)="([^"]*)"', text):
            assert reference.startswith("data:")
        assert "<script" not in text and "<link" not in text and "@import" not in text and "url(" not in text and "http" not in text

    def testJson(self, surface, tmp_path):
        report = self.report(surface)
        report.save(tmp_path / "report.json")
        content = json.loads((tmp_path / "report.json").read_text())
        assert content["rows"][0]["name"] == "a <curve>" and len(content["paths"]["b"]) == 3
        assert content["paths"]["b"][0]["maxFreeEnergyStep"] == 50
        assert json.loads(report.toJson()) == content

    def testOverwriteAndEndings(self, surface, tmp_path):
        report = self.report(surface)
        report.save(tmp_path / "table.txt")
        assert (tmp_path / "table.txt").read_text().startswith(report.table.splitlines()[0])
        with pytest.raises(FileExistsError, match="overwrite"):
            report.save(tmp_path / "table.txt", overwrite=False)
        with pytest.raises(ValueError, match="ending"):
            report.save(tmp_path / "report.pdf")

    def testOnlyImagesAreFigures(self, surface, tmp_path):
        (tmp_path / "no.png").write_text("text")
        with pytest.raises(ValueError, match="PNG"):
            self.report(surface).addFigure(tmp_path / "no.png", "title")


class TestPlots:
    def testCommittorsGetAFigure(self, surface):
        plots = pytest.importorskip("openmmspacetime.plots", reason="needs matplotlib")
        import openmmspacetime as st

        n = 5
        result = st.CommittorResult(nA=np.array([20, 15, 22, 30, 18]), nB=np.array([20, 25, 18, 10, 22]), nUndecided=np.zeros(n, int), nBroken=np.zeros(n, int), steps=np.full(n, 90.0),
                                    path=np.arange(n), frame=np.arange(n), step=np.arange(n), s=np.full(n, 0.5), height=np.full(n, np.nan), variables=np.zeros((n, 2)),
                                    names=["phi", "psi"], shots=40, maxSteps=1000, seed=1, source="chosen")
        report = analyze({"row": Ensemble([straight(work=1.0), straight(work=2.0)])}, surface, committors={"row": result})
        figures = plots.standardFigures(report)
        assert [title for _, title, _ in figures][-1] == "Committors" and len(figures) == 4
        assert report["row"]["committor"] == pytest.approx(result.mean) and "5 frames (chosen) x 40" in report.table

    def testFiguresWithoutRecordedEnergies(self, surface):
        plots = pytest.importorskip("openmmspacetime.plots", reason="needs matplotlib")
        record = straight(work=1.0)
        record.potentialEnergy, record.energySteps = np.array([]), np.array([], dtype=int)
        report = analyze({"row": Ensemble([record])}, surface)
        assert len(plots.standardFigures(report)) == 3

    def testPathsAcrossTheSeamAreNotCutOrDrawnAcross(self):
        plots = pytest.importorskip("openmmspacetime.plots", reason="needs matplotlib")
        path = wrap(np.stack([np.linspace(2.5, 4.0, 31), np.linspace(-2.5, -4.0, 31)], axis=1))
        copies = plots._onTorus(path)
        assert all(np.abs(np.diff(c, axis=0)).max() < 0.06 for c in copies)
        inside = sum(int(np.all(np.abs(c) <= np.pi, axis=1).sum()) for c in copies)
        assert inside == len(path)
