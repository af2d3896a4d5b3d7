# SPDX-License-Identifier: MIT
"""The table of a path study: on the terminal, as JSON, and as one HTML file that needs nothing else."""
from __future__ import annotations

import base64
import html
import io
import json
import math
from dataclasses import asdict, dataclass, field, is_dataclass
from pathlib import Path
from typing import Any, Mapping, Optional, Sequence, Union

import numpy as np

__all__ = ["Column", "Report"]


@dataclass
class Column:
    """One column of the table.

    Attributes
    ----------
    name, detail, unit : str
        The three lines of its heading.
    format : str
        ``str.format`` template over the figures of a row.
    strip : str
        A character taken out of the formatted text (the per cent sign, which the heading already shows).
    """

    name: str
    detail: str
    unit: str
    format: str
    strip: str = ""

    def text(self, row: Mapping[str, Any]) -> str:
        """The cell of `row`; figures that are not known appear as a dash."""
        # A row of published numbers holds some of the figures only.
        text = self.format.format_map(_Known(row)).replace("nan%", "–").replace("nan", "–")
        while "– ± –" in text or "–/–" in text:
            text = text.replace("– ± –", "–").replace("–/–", "–")
        return text.replace(self.strip, "") if self.strip else text


class _Known(dict):
    """Figures of a row; those that it lacks are NaN."""

    def __missing__(self, key: str) -> float:
        return math.nan


def _kind(picture: bytes) -> str:
    return "gif" if picture.startswith(b"GIF8") else "png"


def _plain(value: Any) -> Any:
    """`value` in types that JSON knows; NaN becomes null."""
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [_plain(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


@dataclass
class Report:
    """A comparison of path ensembles, made by :func:`analyze`.

    Attributes
    ----------
    title : str
    rows : list of dict
        The figures of every ensemble; energies in kJ/mol, rates and shares between 0 and 1, times in s.
    columns : list of Column
    notes, warnings : list of str
        Definitions of the columns, and what a reader must not miss.
    oneOff : dict
        Gradient evaluations paid once, by label.
    settings : dict
        How the study was made (seeds, versions, lengths), printed in the HTML and written to JSON.
    """

    title: str = "Driven transition paths"
    rows: list[dict[str, Any]] = field(default_factory=list)
    columns: list[Column] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    oneOff: dict[str, int] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    start: Optional[np.ndarray] = None
    target: Optional[np.ndarray] = None
    radius: float = 0.75
    saddle: Optional[tuple[np.ndarray, float]] = None
    #: The ensembles and the surface, for figures.
    ensembles: dict[str, Any] = field(default_factory=dict, repr=False)
    surface: Any = field(default=None, repr=False)
    #: Committors by row, for a figure.
    committors: dict[str, Any] = field(default_factory=dict, repr=False)
    _paths: dict[str, list[Any]] = field(default_factory=dict, repr=False)
    _figures: list[tuple[bytes, str, str]] = field(default_factory=list, repr=False)

    def addRow(self, name: str, paths: Sequence[Any], figures: Mapping[str, Any]) -> None:
        """Append a row: its name, the figures of its paths, and their summary."""
        self.rows.append({"name": name, **figures})
        self._paths[name] = list(paths)

    def addPublished(self, name: str, **figures: float) -> None:
        """Append a row of numbers from the literature; figures that were not published stay out and show as dashes.

        Parameters
        ----------
        name : str
            Says where the numbers come from.
        **figures
            As in `rows`: maxFreeEnergy and maxFreeEnergyStd (kJ/mol), gradientEvaluations, hitRate (0 to 1), ...
        """
        self.rows.append({"name": name, "published": True, **figures})
        self._paths[name] = []

    def __getitem__(self, name: str) -> dict[str, Any]:
        """The figures of the row called `name`."""
        for row in self.rows:
            if row["name"] == name:
                return row
        raise KeyError(f"Report: no row '{name}'; there are {', '.join(repr(r['name']) for r in self.rows)}")

    def paths(self, name: str) -> list[Any]:
        """PathStatistics of every path of the row called `name`."""
        self[name]
        return self._paths[name]

    # ---- text

    @property
    def table(self) -> str:
        """The table for a terminal of 120 columns, with its definitions below."""
        import textwrap

        cells = [[row["name"]] + [c.text(row) for c in self.columns] for row in self.rows]
        heads = [["", "", ""]] + [[c.name, c.detail, c.unit and f"({c.unit})"] for c in self.columns]
        widths = [max(len(t) for t in [r[i] for r in cells] + heads[i]) for i in range(len(heads))]

        widths[0] = max(12, min(widths[0], 120 - sum(widths[1:]) - 2 * (len(widths) - 1)))
        for row in cells:
            if len(row[0]) > widths[0]:
                row[0] = row[0][: widths[0] - 1] + "…"

        def line(texts: Sequence[str]) -> str:
            return "  ".join([texts[0].ljust(widths[0])] + [t.rjust(w) for t, w in zip(texts[1:], widths[1:])]).rstrip()

        out = [line([h[i] for h in heads]) for i in range(3)]
        rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
        out += [rule] + [line(r) for r in cells] + [rule]
        for label, count in self.oneOff.items():
            out.append(f"once: {label}: {count:,} gradient evaluations")
        for text in self.notes:
            out += textwrap.wrap(text, width=118)
        for text in self.warnings:
            out += textwrap.wrap("! " + text, width=118)
        return "\n".join(out)

    def __str__(self) -> str:
        return self.table

    def toJson(self) -> str:
        """Everything as JSON text: the figures of every row and of every path, notes and settings; unknown figures are null."""
        return json.dumps(_plain({
            "format": "spacetime-report", "version": 1, "title": self.title, "rows": self.rows,
            "paths": dict(self._paths), "oneOffGradientEvaluations": self.oneOff,
            "start": self.start, "target": self.target, "radius": self.radius,
            "saddle": None if self.saddle is None else {"position": self.saddle[0], "freeEnergy": self.saddle[1]},
            "notes": self.notes, "warnings": self.warnings, "settings": self.settings}), indent=1,
            allow_nan=False)

    # ---- figures and files

    def addFigure(self, figure: Any, title: str, caption: str = "") -> None:
        """Add a figure to the HTML file.

        Parameters
        ----------
        figure : matplotlib Figure, or path of a PNG or GIF file
        title, caption : str
        """
        if hasattr(figure, "savefig"):
            buffer = io.BytesIO()
            figure.savefig(buffer, format="png")
            data = buffer.getvalue()
        else:
            data = Path(figure).read_bytes()
        if not data.startswith((b"\x89PNG", b"GIF8")):
            raise ValueError(f"Report.addFigure: expected a matplotlib figure, a PNG or a GIF file, got {figure!r}")
        self._figures.append((data, title, caption))

    def save(self, path: Union[str, Path], overwrite: bool = True) -> Path:
        """Write the report; the ending decides: ``.html`` (self-contained), ``.json`` or ``.txt``.

        An HTML report without figures gets the standard ones where matplotlib is installed.

        Raises
        ------
        FileExistsError
            If the file exists and `overwrite` is False.
        ValueError
            For any other ending.
        """
        path = Path(path)
        if path.exists() and not overwrite:
            raise FileExistsError(f"Report.save: '{path}' exists; give overwrite=True to replace it")
        if path.suffix == ".html":
            self._drawStandardFigures()
            text = self._html()
        elif path.suffix == ".json":
            text = self.toJson()
        elif path.suffix == ".txt":
            text = self.table + "\n"
        else:
            raise ValueError(f"Report.save: expected a file ending in .html, .json or .txt, got '{path.name}'")
        path.write_text(text, encoding="utf-8")
        return path

    def _drawStandardFigures(self) -> None:
        if self._figures or not self.ensembles:
            return
        try:
            from . import plots
        except ImportError:  # matplotlib is an optional dependency; the table stands without it
            self.warnings.append("No figures: matplotlib is not installed (pip install 'openmm-spacetime[analysis]').")
            return
        for figure, title, caption in plots.standardFigures(self):
            self.addFigure(figure, title, caption)

    def _html(self) -> str:
        e = html.escape
        head = "".join(f"<th>{e(c.name)}<span>{e(c.detail)}</span><span>{e(c.unit) or '&nbsp;'}</span></th>" for c in self.columns)
        body = "".join(f"<tr><th>{e(row['name'])}</th>" + "".join(f"<td>{e(c.text(row))}</td>" for c in self.columns) + "</tr>\n"
                       for row in self.rows)
        once = "".join(f"<tr><th>{e(k)}</th><td>{v:,}</td></tr>" for k, v in self.oneOff.items())
        settings = "".join(f"<tr><th>{e(str(k))}</th><td>{e(str(v))}</td></tr>" for k, v in self.settings.items())
        figures = "".join(
            f'<figure><h2>{e(title)}</h2><img alt="{e(title)}" src="data:image/{_kind(data)};base64,{base64.b64encode(data).decode()}">'
            f"<figcaption>{e(caption)}</figcaption></figure>\n" for data, title, caption in self._figures)
        return _PAGE.format(
            title=e(self.title), head=head, body=body, figures=figures,
            warnings="".join(f'<p class="warning">{e(w)}</p>' for w in self.warnings),
            notes="".join(f"<li>{e(n)}</li>" for n in self.notes),
            once=f"<h2>Paid once</h2><table class=\"small\"><tr><th></th><th>gradient evaluations</th></tr>{once}</table>" if once else "",
            settings=f'<h2>How it was made</h2><table class="small left">{settings}</table>' if settings else "")


_PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light; }}
body {{ font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; color: #1b1f24; background: #fff;
  max-width: 68rem; margin: 2.5rem auto; padding: 0 1.5rem; }}
h1 {{ font-size: 1.75rem; line-height: 1.25; margin: 0 0 1.25rem; }}
h2 {{ font-size: 1.125rem; margin: 2.5rem 0 .75rem; }}
.scroll {{ overflow-x: auto; }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem; }}
th, td {{ padding: .45rem .8rem; text-align: right; white-space: nowrap; }}
thead th {{ font-weight: 600; vertical-align: bottom; border-bottom: 1.5px solid #1b1f24; }}
thead span {{ display: block; font-weight: 400; color: #57606a; font-size: .8rem; }}
tbody th {{ font-weight: 500; text-align: left; padding-left: 0; }}
tbody td, tbody th {{ border-bottom: 1px solid #d8dee4; }}
table.small th:first-child {{ text-align: left; padding-left: 0; font-weight: 400; }}
table.small td, table.small th {{ padding: .25rem .8rem; border: 0; font-weight: 400; }}
table.left td {{ text-align: left; white-space: normal; }}
ul {{ padding-left: 1.1rem; color: #3d444d; font-size: .9rem; }} li {{ margin: .3rem 0; }}
figure {{ margin: 0; }} img {{ max-width: 100%; height: auto; }}
figcaption {{ color: #3d444d; font-size: .9rem; max-width: 60rem; }}
.warning {{ border-left: 4px solid #bf5000; background: #fff6ee; padding: .6rem .9rem; margin: 1rem 0; }}
</style></head><body>
<h1>{title}</h1>
<div class="scroll"><table><thead><tr><th></th>{head}</tr></thead><tbody>
{body}</tbody></table></div>
{warnings}<ul>{notes}</ul>
{figures}{once}
{settings}
</body></html>
"""
