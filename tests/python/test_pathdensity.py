# SPDX-License-Identifier: MIT
"""Path densities: which cells a path visits, over the seam and between its points; and what overlap means."""
import numpy as np
import pytest

import openmmspacetime as st
from openmmspacetime import plots

TURN = [2*np.pi, 2*np.pi]


class Paths(list):
    """As PathEnsemble and UnbiasedPaths are: a sequence of records, with periods and names."""

    def __init__(self, tracks, periods=TURN, weights=None):
        super().__init__(type("Record", (), {"variables": np.asarray(x, dtype=float), "weight": 1 if weights is None else weights[i]})() for i, x in enumerate(tracks))
        self.periods, self.names = np.array(periods, dtype=float), ["phi", "psi"]


def testCellsOfALineAreThoseItGoesThrough():
    # From the middle of one cell to the middle of another, in one step: a diagonal of 8 cells of 45 degrees, in closed form.
    cell = 2*np.pi/8
    low = -np.pi+cell/2
    density = st.pathDensity(Paths([[[low, low], [low+7*cell, low]]]), 8)
    # The short way round is one step back over the seam, not seven forward.
    assert density.share[[0, 7], 0].tolist() == [1, 1] and density.share.sum() == 2
    density = st.pathDensity(Paths([[[low, low], [low+3*cell, low+3*cell]]]), 8)
    assert np.all(np.diag(density.share)[:4] == 1) and density.share.sum() <= 4+3
    across = st.pathDensity(Paths([[[3.0, -3.0], [-3.0, 3.0]]]), 8).share
    assert across[7, 0] == 1 and across[0, 7] == 1 and across[1:7].sum() == 0
    # Whole turns do not matter.
    np.testing.assert_array_equal(st.pathDensity(Paths([[[3.0, -3.0], [2*np.pi-3.0, 3.0-2*np.pi]]]), 8).share, across)


def testSharesCountPathsNotFrames():
    waits = [[0.1, 0.1]]*50+[[1.0, 0.1]]
    quick = [[0.1, 0.1], [0.1, 1.0]]
    density = st.pathDensity(Paths([waits, quick, quick, quick]), 16)
    assert len(density) == 4 and density.share.max() == 1 and density.names == ("phi", "psi")
    assert density.share[8, 10] == pytest.approx(0.75) and density.share[10, 8] == pytest.approx(0.25)
    weighted = st.pathDensity(Paths([waits, quick], weights=[3, 1]), 16)
    assert weighted.share[10, 8] == pytest.approx(0.75) and weighted.weights.sum() == pytest.approx(1)


def testOnlyThePartBetweenStates():
    a, b = st.StateRegion([-1.0, 0.0], 0.32), st.StateRegion([1.0, 0.0], 0.32)
    x = np.linspace(-1.4, 1.4, 57)
    track = np.stack([x, 0*x], axis=1)
    never = track[:20]
    density = st.pathDensity(Paths([np.vstack([track[:3], track[:3][::-1], track]), never]), 32, stateA=a, stateB=b)
    assert len(density) == 1 and a.bound(np.array(TURN)).contains(density.lines[0][0]) and b.bound(np.array(TURN)).contains(density.lines[0][-1])
    assert density.lines[0][0, 0] == pytest.approx(-0.7) and density.lines[0][-1, 0] == pytest.approx(0.7)
    with pytest.raises(ValueError, match="no path leads"):
        st.pathDensity(Paths([never]), stateA=a, stateB=b)


def testVariablesThatAreNotPeriodic():
    tracks = [[[0.0, 5.0], [1.0, 7.0]], [[0.5, 6.0], [2.0, 5.0]]]
    density = st.pathDensity(Paths(tracks, periods=[0, 0]), (4, 2))
    assert density.edges[0].tolist() == [0, 0.5, 1, 1.5, 2] and density.edges[1].tolist() == [5, 6, 7]
    assert density.share[3, 0] == 0.5 and density.visits[0, 0, 0] and density.visits[0, 2, 1]  # upper edges: 1.0 belongs to the third cell, 7.0 to the last
    outside = st.pathDensity(Paths(tracks, periods=[0, 0]), 2, ranges=[(0, 1), (5, 6)])
    assert outside.share.max() <= 1 and outside.share.sum() < density.share.sum()
    plain = st.pathDensity([np.array(x) for x in tracks], 8)
    assert plain.share.shape == (8, 8) and plain.names == ("variable 0", "variable 1")


def bundles(count, offset, spread, seed):
    """Lines from left to right at heights that scatter around `offset`."""
    random = np.random.default_rng(seed)
    x = np.linspace(-2, 2, 40)
    return Paths([np.stack([x, np.full(40, offset+spread*random.standard_normal())], axis=1) for _ in range(count)])


def testOverlapAgainstItsClosedForm():
    from scipy.stats import norm

    # Horizontal lines at normal heights: in every column the density is that normal, and two normals at a distance d overlap by 2 Phi(-d/2 sigma).
    spread, d = 0.4, 0.5
    first, second = (st.pathDensity(bundles(800, y, spread, seed), 60) for y, seed in ((0, 1), (d, 2)))
    similar = st.pathSimilarity(first, second, splits=2)
    assert similar.overlap == pytest.approx(2*norm.cdf(-d/(2*spread)), abs=0.04)
    assert min(similar.within) > 0.85 and similar.expected > 0.88


def testWhatTheSameLooksLike():
    same = [st.pathDensity(bundles(30, 0, 0.4, seed), 60) for seed in (1, 2)]
    similar = st.pathSimilarity(*same, splits=100)
    # Thirty paths do not fill the cells: two sets from one ensemble do not reach 1, and the null says so.
    assert similar.overlap < 0.85 and abs(similar.overlap-similar.expected) < 3.5*similar.expectedSpread
    assert similar.within[0] < similar.expected+0.02
    other = st.pathDensity(bundles(30, 0.8, 0.4, 3), 60)
    apart = st.pathSimilarity(same[0], other, splits=100)
    assert apart.overlap < apart.expected-5*apart.expectedSpread
    far = st.pathSimilarity(same[0], st.pathDensity(bundles(30, 2.8, 0.05, 4), 60), splits=5)
    assert far.overlap == 0 and st.pathSimilarity(same[0], same[0], splits=5).overlap == pytest.approx(1)
    assert "what to expect if both were the same" in similar.summary()


def testBadInput():
    line = [[0.0, 0.0], [1.0, 1.0]]
    for call, text in ((lambda: st.pathDensity(Paths([])), "no paths"), (lambda: st.pathDensity(Paths([[[0.0, np.nan]]])), "finite"),
                       (lambda: st.pathDensity(Paths([line]), variables=(0, 0)), "two different variables"), (lambda: st.pathDensity(Paths([line]), variables=(0, 2)), "of 0 to 1"),
                       (lambda: st.pathDensity(Paths([line]), 1), "at least 2 bins"), (lambda: st.pathDensity(Paths([line]), ranges=[(0, 1), (0, 1)]), "whole turn"),
                       (lambda: st.pathDensity(Paths([line]), stateA=st.StateRegion([0.0, 0.0], 0.1)), "both states or none"),
                       (lambda: st.pathSimilarity(st.pathDensity(Paths([line]*2), 8), st.pathDensity(Paths([line]*2), 9)), "different grids"),
                       (lambda: st.pathSimilarity(st.pathDensity(Paths([line]), 8), st.pathDensity(Paths([line]*2), 8)), "at least two paths")):
        with pytest.raises(ValueError, match=text):
            call()


def testSurfaceGivesTheGridAndThePlotIsDrawn(tmp_path):
    g = -np.pi+2*np.pi*np.arange(24)/24
    surface = st.FreeEnergySurface(10*(2-np.cos(g)[:, None]-np.cos(g)[None]))
    paths = bundles(5, 0, 0.3, 1)
    density = st.pathDensity(paths, surface)
    assert density.share.shape == (24, 24)
    np.testing.assert_allclose((density.edges[0][1:]+density.edges[0][:-1])/2, surface.axes[0], atol=1e-12)
    # A grid point lies in its own cell.
    one = st.pathDensity(Paths([[[surface.axes[0][0], surface.axes[1][23]]]*2]), surface)
    assert one.share[0, 23] == 1 and one.share.sum() == 1
    states = {"A": st.StateRegion([[-2.9, 0.0], [-2.5, 0.3]], 0.5, periods=TURN), "B": st.StateRegion([2.0, 0.0], 0.5, periods=TURN)}
    figure = plots.pathDensity({"one": density, "two": st.pathDensity(bundles(5, 0.5, 0.3, 2), surface)}, surface, states, np.zeros((3, 2)))
    figure.savefig(tmp_path/"density.png")
    assert (tmp_path/"density.png").stat().st_size > 20000 and [axis.get_title() for axis in figure.axes[:2]] == ["one: 5 paths", "two: 5 paths"]
    flat = st.pathDensity(Paths([[[0.0, 5.0], [1.0, 7.0]]], periods=[0, 0]), 8)
    assert plots.pathDensity({"nm": flat}).axes[0].get_xlabel() == "phi"
