# SPDX-License-Identifier: MIT
"""A path in three dimensions, in a notebook or a web page, by py3Dmol (3Dmol.js in the reader's browser)."""
from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any, Mapping, Optional, Sequence, Tuple, Union

import numpy as np
from openmm import app, unit

from .ensemble import PathRecord, readFrame

__all__ = ["viewPath"]

#: Up to so many atoms are drawn one by one; larger molecules as a cartoon with thin lines.
_SMALL = 300
_BALLS = {"stick": {"radius": 0.13}, "sphere": {"scale": 0.23}}

# A button, a slider and a text below the picture. py3Dmol puts a number for UNIQUEID when it makes the page. The timer ends with the cell that it was made for.
_CONTROLS = """
<div id="controls_UNIQUEID" style="display: flex; align-items: center; gap: 10px; max-width: {width}px; font: 13px sans-serif">
<button type="button" aria-label="play or pause" style="min-width: 4.5em">Pause</button>
<input type="range" min="0" max="{last}" value="0" aria-label="frame" style="flex: 1">
<span style="min-width: {room}ch; font-variant-numeric: tabular-nums"></span>
</div>
<script>
$3Dmolpromise.then(function() {{
  const box = document.getElementById("controls_UNIQUEID"), viewer = viewer_UNIQUEID, labels = {labels};
  const button = box.children[0], slider = box.children[1], text = box.children[2];
  let playing = labels.length > 1, last = 0;
  function show(k) {{
    slider.value = k;
    text.textContent = labels[k];
    Promise.resolve(viewer.setFrame(k)).then(function() {{ viewer.render(); }});
  }}
  function play(on) {{ playing = on; button.textContent = on ? "Pause" : "Play"; }}
  button.onclick = function() {{ play(!playing); }};
  slider.oninput = function() {{ play(false); show(Number(slider.value)); }};
  play(playing);
  show(0);
  const timer = setInterval(function() {{
    if (!document.body.contains(box)) clearInterval(timer);
    else if (playing) show((Number(slider.value) + 1) % labels.length);
  }}, {interval});
}});
</script>
"""


def viewPath(path: Any, topology: Any = None, *, maxFrames: int = 80, superpose: Union[bool, Sequence[int]] = True, solvent: bool = False,
             labels: Optional[Sequence[str]] = None, style: Optional[Mapping[str, Any]] = None, seconds: float = 6.0, width: int = 640, height: int = 420) -> Any:
    """The frames of a path as a molecule that moves, with a button and a slider: a py3Dmol view.

    ``viewPath(path).show()`` shows it in a notebook; ``view.write_html("path.html")`` makes a page of it. It needs no running Python, but the browser loads
    3Dmol.js from the network. What py3Dmol's views can do works here too, ``view.setStyle({"line": {}})`` for example.

    Parameters
    ----------
    path : PathRecord, mdtraj.Trajectory, array [F, N, 3], Quantity or str
        A path of `PathSampler`, a trajectory, positions in nm, or a trajectory file that mdtraj reads.
    topology : openmm.app.Topology, mdtraj.Topology or str, optional
        What the atoms are: a topology, or a PDB or PDBx/mmCIF file. A path of `PathSampler` and an mdtraj.Trajectory bring their own.
    maxFrames : int
        Frames of a longer path are left out evenly; the first and the last stay.
    superpose : bool or sequence of int
        Lay every frame onto the first, by its heavy atoms or by the atoms with these indices, so that the molecule does not tumble.
    solvent : bool
        Show residues with at most one heavy atom too: water and ions.
    labels : sequence [F] of str, optional
        What stands beside the slider for each frame of the path: s for a path of `PathSampler`, the number of the frame otherwise.
    style : mapping, optional
        A style of 3Dmol.js for all atoms, ``{"stick": {}}`` for example. By default balls and sticks, above 300 atoms a cartoon with thin lines.
    seconds : float
        Time from the first frame to the last.
    width, height : int
        In pixels of the page.

    Returns
    -------
    py3Dmol.view

    Raises
    ------
    ImportError
        py3Dmol is missing, with the command that installs it.
    ValueError
        For positions that do not fit the topology or are no numbers, a topology that is missing, or options out of range.
    FileNotFoundError
        For a file that is not there.
    """
    try:
        import py3Dmol
    except ImportError as e:
        raise ImportError("viewPath: py3Dmol is needed for a view in 3D; install it with: pip install py3Dmol") from e
    if maxFrames < 1 or not seconds > 0 or min(width, height) < 1:
        raise ValueError(f"viewPath: expected maxFrames, seconds, width and height above 0, got {maxFrames}, {seconds:g}, {width} and {height}")
    frames, topology, labels = _load(path, topology, labels, maxFrames)
    if solvent:
        atoms = np.arange(frames.shape[1])
    else:
        topology, atoms = _withoutSolvent(topology, frames[0])
    fit = _fitAtoms(superpose, topology, atoms, frames.shape[1])
    if fit is not None:
        frames = _superposed(frames, fit)
    view = py3Dmol.view(width=width, height=height)
    view.addModelsAsFrames(_pdb(topology, frames[:, atoms]), "pdb", {"keepH": True})
    if style is not None:
        view.setStyle({}, dict(style))
    elif len(atoms) <= _SMALL:
        view.setStyle({}, _BALLS)
    else:
        view.setStyle({}, {"cartoon": {"color": "spectrum"}, "line": {}})
        view.addStyle({"hetflag": True}, _BALLS)
    view.zoomTo()
    interval = max(20, round(1000 * seconds / max(1, len(frames) - 1)))
    # "</" would end the script.
    text = json.dumps(list(labels), ensure_ascii=False).replace("</", "<\\/")
    view.endjs += _CONTROLS.format(width=width, last=len(frames) - 1, labels=text, room=max(map(len, labels)), interval=interval)
    return view


def _load(path: Any, topology: Any, labels: Optional[Sequence[str]], maxFrames: int) -> Tuple[np.ndarray, app.Topology, Sequence[str]]:
    """Frames [F, N, 3] in nm, their topology and labels, thinned to `maxFrames`."""
    if isinstance(path, PathRecord):
        folder = Path(path.trajectory).parent
        own = str(folder / "topology.pdb")
        topology = own if topology is None else topology
        count = len(path.frameSteps)
        if labels is None:
            labels = [f"s = {path.s[step]:.2f}" for step in path.frameSteps]
    else:
        if isinstance(path, (str, os.PathLike)):
            path = _loadFile(path, topology)
        if topology is None:
            topology = getattr(path, "topology", None)
        positions = getattr(path, "xyz", path)
        if unit.is_quantity(positions):
            positions = positions.value_in_unit(unit.nanometer)
        path = np.asarray(positions, dtype=float)
        if path.ndim != 3 or path.shape[2] != 3 or 0 in path.shape:
            raise ValueError(f"viewPath: expected positions [frames, atoms, 3] in nm, got an array of shape {path.shape}")
        count = len(path)
    if topology is None:
        raise ValueError("viewPath: positions alone do not say what the atoms are: give a topology (an OpenMM Topology, an mdtraj.Topology or a PDB file)")
    topology = _topology(topology)
    if labels is None:
        labels = [f"frame {k + 1} of {count}" for k in range(count)]
    if len(labels) != count:
        raise ValueError(f"viewPath: expected a label for each of {count} frames, got {len(labels)}")
    chosen = np.unique(np.linspace(0, count - 1, min(count, maxFrames)).round().astype(int))
    if isinstance(path, PathRecord):
        frames = np.array([readFrame(path.trajectory, own, int(k))[0] for k in chosen])
    else:
        frames = path[chosen]
    if frames.shape[1] != topology.getNumAtoms():
        raise ValueError(f"viewPath: the frames have {frames.shape[1]} atoms, the topology has {topology.getNumAtoms()}")
    bad = np.flatnonzero(~np.isfinite(frames).all(axis=(1, 2)))
    if len(bad):
        raise ValueError(f"viewPath: frame {chosen[bad[0]]} has positions that are no numbers")
    return frames, topology, [str(labels[k]) for k in chosen]


def _loadFile(path: Union[str, os.PathLike], topology: Any) -> Any:
    if not Path(path).exists():
        raise FileNotFoundError(f"viewPath: {path} does not exist")
    try:
        import mdtraj
    except ImportError as e:
        raise ImportError("viewPath: mdtraj is needed to read trajectory files; install it with: pip install mdtraj") from e
    if isinstance(topology, app.Topology):
        topology = mdtraj.Topology.from_openmm(topology)
    return mdtraj.load(os.fspath(path), **({} if topology is None else {"top": topology}))


def _topology(topology: Any) -> app.Topology:
    if isinstance(topology, app.Topology):
        return topology
    if isinstance(topology, (str, os.PathLike)):
        name = os.fspath(topology)
        if not Path(name).exists():
            raise FileNotFoundError(f"viewPath: {name} does not exist")
        return (app.PDBxFile if name.lower().endswith((".cif", ".pdbx", ".mmcif")) else app.PDBFile)(name).topology
    if hasattr(topology, "to_openmm"):
        return topology.to_openmm()
    raise ValueError(f"viewPath: expected a topology of OpenMM or mdtraj or a PDB file, got {type(topology).__name__}")


def _heavy(atom: Any) -> bool:
    return atom.element is not None and atom.element.atomic_number > 1


def _withoutSolvent(topology: app.Topology, positions: np.ndarray) -> Tuple[app.Topology, np.ndarray]:
    """What is left without residues of at most one heavy atom, and the indices of its atoms; everything where nothing else is there."""
    small = [residue for residue in topology.residues() if sum(map(_heavy, residue.atoms())) <= 1]
    if not small or len(small) == topology.getNumResidues():
        return topology, np.arange(topology.getNumAtoms())
    gone = {atom.index for residue in small for atom in residue.atoms()}
    modeller = app.Modeller(topology, positions * unit.nanometer)
    modeller.delete(small)
    return modeller.topology, np.array([k for k in range(topology.getNumAtoms()) if k not in gone])


def _fitAtoms(superpose: Union[bool, Sequence[int]], shown: app.Topology, atoms: np.ndarray, count: int) -> Optional[np.ndarray]:
    """Indices among all atoms of those that are superposed; None where nothing is."""
    if isinstance(superpose, (bool, np.bool_)):
        fit = atoms[[_heavy(atom) for atom in shown.atoms()]]
        # One or two atoms have no orientation.
        return fit if superpose and len(fit) > 2 else None
    fit = np.asarray(superpose)
    if fit.ndim != 1 or len(fit) < 3 or fit.dtype.kind not in "iu" or fit.min() < 0 or fit.max() >= count:
        raise ValueError(f"viewPath: expected superpose to be True, False or at least three indices of atoms from 0 to {count - 1}, got {superpose!r}")
    return fit


def _superposed(frames: np.ndarray, fit: np.ndarray) -> np.ndarray:
    """Every frame [F, N, 3] rotated and moved onto the first, so that the atoms `fit` lie on theirs with the least sum of squares (Kabsch)."""
    centred = frames - frames[:, fit].mean(axis=1, keepdims=True)
    u, _, vt = np.linalg.svd(np.einsum("fai,aj->fij", centred[:, fit], centred[0, fit]))
    # No mirror images.
    u[:, :, 2] *= np.sign(np.linalg.det(u @ vt))[:, None]
    return centred @ (u @ vt)


def _pdb(topology: app.Topology, frames: np.ndarray) -> str:
    """A PDB file with a model a frame. CONECT records in each model: 3Dmol.js joins neither caps nor ligands to their neighbours by itself."""
    bonded: list[list[int]] = [[] for _ in range(topology.getNumAtoms())]
    for a, b in ((bond[0].index, bond[1].index) for bond in topology.bonds()):
        bonded[a].append(b)
        bonded[b].append(a)
    models = []
    conect = None
    for k, frame in enumerate(frames):
        out = io.StringIO()
        app.PDBFile.writeModel(topology, frame * unit.nanometer, out, modelIndex=k + 1)
        lines = out.getvalue().splitlines()
        if conect is None:
            # The last record of a chain takes a number too, so an atom's number is not its index.
            serial = [line[6:11] for line in lines if line.startswith(("ATOM", "HETATM"))]
            conect = ["CONECT" + serial[a] + "".join(serial[b] for b in some[j:j + 4]) for a, some in enumerate(bonded) for j in range(0, len(some), 4)]
        models += [*lines[:-1], *conect, lines[-1]]
    return "\n".join([*models, "END", ""])
