# SPDX-License-Identifier: MIT
"""For one's own loop: a driver that moves the bias and counts the work, and a reporter of openmm.app's kind."""
from __future__ import annotations

import csv
import os
from typing import Any, Optional, Union

import openmm
from openmm import app, unit

from .force import SpacetimeForce

__all__ = ["Driver", "SpacetimeReporter"]


class Driver:
    r"""Moves s in a Context, and adds up the work that this costs.

    Moving the bias from s to s' at fixed positions costs exactly :math:`-kT (\eta(s') - \eta(s)) \cdot T(c)`. Only who sees each move knows the work, so let the driver
    make all of them.

    Parameters
    ----------
    force : SpacetimeForce
    context : Context

    Attributes
    ----------
    work : Quantity
        Spent since the driver was made; it can be set to another value.
    moves : int

    Raises
    ------
    openmm.OpenMMException
        The force is not part of the Context.

    Examples
    --------
    >>> import numpy as np, openmm
    >>> import openmmspacetime as st
    >>> system = openmm.System()
    >>> particle = system.addParticle(1.0)
    >>> force = st.SpacetimeForce(s=[0, 1], eta=[[-50, 0], [-50, 50]], temperature=300)
    >>> variable = force.addCoordinate(0, 0, name="x")
    >>> index = system.addForce(force)
    >>> context = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatform("Reference"))
    >>> context.setPositions([[0.1, 0, 0]])
    >>> driver = st.Driver(force, context)
    >>> round(driver.move(1.0)._value, 3)
    -12.472
    """

    def __init__(self, force: SpacetimeForce, context: openmm.Context) -> None:
        # Raises the explanation of what to do if the force was added too late.
        force.getVariableValues(context)
        self.force, self.context, self.moves, self.work = force, context, 0, 0*unit.kilojoule_per_mole

    @property
    def s(self) -> float:
        """Where the Context is on the curve."""
        return self.context.getParameter(self.force.getParameterName())

    def move(self, s: float) -> unit.Quantity:
        """Set s, and return the work of this move (kJ/mol).

        Raises
        ------
        ValueError
            s is not in [0, 1].
        """
        if not 0 <= s <= 1:
            raise ValueError(f"Driver: s must be in [0, 1], but it is {s}")
        before = self.force.getBiasEnergy(self.context)
        self.context.setParameter(self.force.getParameterName(), float(s))
        work = self.force.getBiasEnergy(self.context)-before
        self.work += work
        self.moves += 1
        return work

    def __repr__(self) -> str:
        return f"Driver(s = {self.s:g}, {self.moves} moves, work {self.work._value:.3f} kJ/mol)"


class SpacetimeReporter:
    """Writes where a simulation is on the curve, as CSV.

    Columns: ``step``, ``time_ps``, ``s``, each variable by its name in rad or nm, ``bias_energy_kJ_mol`` and, with a driver, ``work_kJ_mol``.
    A force with walkers gets one row per walker, with a column ``walker`` and that walker's own s and bias energy; the work is that of all.

    Parameters
    ----------
    file : path or file object
        Where to write. A file object stays open.
    reportInterval : int
        Time steps between two reports.
    force : SpacetimeForce
        One of the simulation's System.
    append : bool
        Go on with an existing file, whose header must be the one this reporter would write. A missing or empty file gets the header.
    separator : str
        Between columns.
    driver : Driver, optional
        Who moves the bias. Without one there is no column of work: a reporter sees only every `reportInterval`-th step, and work adds up at every move.

    Raises
    ------
    ValueError
        `reportInterval` is below 1, the file to append to has other columns, or the driver drives another force.

    Examples
    --------
    >>> import openmmspacetime as st
    >>> simulation.reporters.append(st.SpacetimeReporter("curve.csv", 100, force, driver=driver))  # doctest: +SKIP
    """

    def __init__(self, file: Any, reportInterval: int, force: SpacetimeForce, append: bool = False, separator: str = ",", driver: Optional[Driver] = None) -> None:
        if int(reportInterval) != reportInterval or reportInterval < 1:
            raise ValueError(f"SpacetimeReporter: reportInterval must be a whole number, 1 or more, but it is {reportInterval}")
        if driver is not None and int(driver.force.this) != int(force.this):
            raise ValueError("SpacetimeReporter: the driver drives another force than the one to be reported")
        self.force, self.driver, self._interval = force, driver, int(reportInterval)
        header = ["step", "time_ps", *(["walker"] if force.getNumWalkers() else []), "s", *force.getVariableNames(), "bias_energy_kJ_mol",
                  *(["work_kJ_mol"] if driver is not None else [])]
        own = isinstance(file, (str, os.PathLike))
        old = _header(file, separator) if own and append else None
        if old is not None and old != header:
            raise ValueError(f"SpacetimeReporter: {os.fspath(file)} has the columns {', '.join(old)}, but this reporter writes {', '.join(header)}: append to a file of its own, "
                             "or start another")
        self._file = open(file, "a" if append else "w", encoding="utf-8", newline="") if own else file
        self._close = own
        self._writer = csv.writer(self._file, delimiter=separator, lineterminator="\n")
        # A stream that is handed over with append=True has its header already.
        if old is None and (own or not append):
            self._writer.writerow(header)
            self._file.flush()

    def describeNextReport(self, simulation: app.Simulation) -> dict:
        """What openmm.app asks: in how many steps, and nothing of the State."""
        return {"steps": self._interval-simulation.currentStep % self._interval, "periodic": None, "include": []}

    def report(self, simulation: app.Simulation, state: openmm.State) -> None:
        """Write the rows of this step. Raises an OpenMMException if the force is not part of the simulation's Context."""
        force, context = self.force, simulation.context
        s = context.getParameter(force.getParameterName())
        head = [simulation.currentStep, repr(state.getTime().value_in_unit(unit.picosecond))]
        tail = [] if self.driver is None else [repr(float(self.driver.work._value))]
        values = force.getVariableValues(context)
        if force.getNumWalkers() == 0:
            rows = [[*head, repr(s), *map(repr, values.tolist()), repr(force.getBiasEnergy(context)._value), *tail]]
        else:
            kT, statistic, rows = context.getParameter("spacetime_kT"), force.getStatistic(context), []
            for k in range(force.getNumWalkers()):
                _, intercept, slope = force.getWalkerParameters(k)
                own = min(1.0, max(0.0, intercept+slope*s))
                rows.append([*head, k, repr(own), *map(repr, values[k].tolist()), repr(-kT*float(force.getEta(own)@statistic[k])), *tail])
        self._writer.writerows(rows)
        self._file.flush()

    def close(self) -> None:
        """Close the file if the reporter opened it."""
        if self._close:
            self._file.close()

    def __del__(self) -> None:
        if getattr(self, "_close", False):
            self._file.close()


def _header(file: Union[str, os.PathLike], separator: str) -> Optional[list]:
    """Columns of an existing file, None where there are none yet."""
    if not os.path.exists(file):
        return None
    with open(file, encoding="utf-8", newline="") as content:
        return next(csv.reader(content, delimiter=separator), None)
