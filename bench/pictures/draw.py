"""Draws panels at their places of the grid, as Grafana would show them."""

from __future__ import annotations

import io
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import matplotlib as mpl

mpl.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.font_manager import FontProperties
from matplotlib.patches import FancyBboxPatch
from PIL import Image

from bench.pictures import graphs, style

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from bench.dashboards import Panel, Target, Window
    from bench.prometheus import Series

#: In pixels.
WIDTH: Final = 1600
MARGIN: Final = 12
UNIT: Final = 38
GAP: Final = 8
HEAD: Final = 84
COLUMNS: Final = 24
_COLOURS: Final = 255
_LEGEND_SIZE: Final = 11.5
#: A coloured dash before each name, and what lies between two of them.
_LEGEND_SPACE: Final = 18 + 16


@dataclass(frozen=True, slots=True)
class Shown:
    """A panel, where it stands, and what Prometheus answered to each of its queries."""

    panel: Panel
    place: tuple[int, int, int, int]
    answers: Sequence[tuple[Target, Sequence[Series]]]


@dataclass(frozen=True, slots=True)
class Mark:
    """A moment that a line is drawn at in every graph."""

    moment: float
    text: str


class Picture:
    """A dashboard as a picture."""

    def __init__(self, shown: Sequence[Shown], window: Window, marks: Sequence[Mark] = ()) -> None:
        self._shown = shown
        self._window = window
        self._marks = marks
        self._height = HEAD + max(y + height for _, y, _, height in (one.place for one in shown)) * UNIT + MARGIN
        size = (WIDTH / style.DOTS_PER_INCH, self._height / style.DOTS_PER_INCH)
        self._figure = plt.figure(figsize=size, dpi=style.DOTS_PER_INCH, facecolor=style.BACKGROUND)

    def save(self, path: Path, title: str, variables: Sequence[str]) -> None:
        """Draw everything and write it, with few colours so that the file stays small."""
        self._head(title, variables)
        for one in self._shown:
            self._draw(one)
        made = io.BytesIO()
        self._figure.savefig(made, dpi=style.DOTS_PER_INCH, facecolor=style.BACKGROUND, format="png")
        plt.close(self._figure)
        with Image.open(made) as image:
            # This way of choosing keeps the colours of what is small: a thin line of errors.
            few = image.convert("RGB").quantize(_COLOURS, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
            few.save(path, optimize=True)

    def _head(self, title: str, variables: Sequence[str]) -> None:
        self._text(MARGIN + 4, 24, f"Dashboards  >  {title}", size=17, colour=style.TEXT)
        since, until = (
            time.strftime("%H:%M:%S", time.localtime(one)) for one in (self._window.start, self._window.end)
        )
        self._text(WIDTH - MARGIN - 4, 24, f"{since} to {until}", size=14, colour=style.FAINT, align="right")
        x = MARGIN
        for variable in variables:
            name, _, value = variable.partition("=")
            wide = 20 + 8.4 * (len(name) + len(value) + 3)
            self._box(x, 44, wide, 28, colour=style.PANEL)
            self._text(x + 10, 58, name, size=13, colour=style.FAINT)
            self._text(x + wide - 10, 58, value, size=13, colour=style.TEXT, align="right")
            x += wide + GAP

    def _draw(self, shown: Shown) -> None:
        column, y, width, height = shown.place
        each = (WIDTH - 2 * MARGIN + GAP) / COLUMNS
        place = (MARGIN + column * each, HEAD + y * UNIT, width * each - GAP, height * UNIT - GAP)
        if shown.panel.kind == "row":
            self._text(place[0] + 4, place[1] + place[3] / 2 + 2, f"⌄  {shown.panel.title}", size=15, colour=style.TEXT)
        elif shown.panel.kind == "stat":
            self._stat(shown, *place)
        else:
            self._box(*place, colour=style.PANEL)
            self._text(place[0] + 10, place[1] + 16, shown.panel.title, size=13.5, colour=style.TEXT, weight="bold")
            self._graph(shown, *place)

    def _stat(self, shown: Shown, x: float, y: float, width: float, height: float) -> None:
        values = [(target.name(one), one.points[-1][1]) for target, series in shown.answers for one in series]
        defaults, options = shown.panel.defaults, shown.panel.raw["options"]
        each = width / max(len(values), 1)
        for number, (name, value) in enumerate(values or [("", math.nan)]):
            text, colour = _stat_of(defaults, value, there=bool(values))
            if options.get("textMode") == "name":
                text = name
            filled = style.FILLED.get(colour, style.NAMED[colour])
            self._box(x + number * each, y, each, height, colour=filled)
            middle = x + (number + 0.5) * each
            down = 0.58 if len(values) < 2 else 0.5
            self._text(
                middle, y + height * down, text, size=30 if len(text) < 7 else 25, colour="white", align="center"
            )
            if len(values) > 1:
                self._text(middle, y + height * 0.8, name, size=13, colour="white", align="center")
        self._text(x + 8, y + 15, shown.panel.title, size=12, colour="white", weight="bold")

    def _graph(self, shown: Shown, x: float, y: float, width: float, height: float) -> None:
        lines = graphs.lines_of(shown.panel, shown.answers)
        rows = self._legend(lines, x + 10, y + height - 12, width - 20)
        left, top, bottom = 62, 34, 30 + 18 * rows
        axes = self._figure.add_axes(self._share(x + left, y + top, width - left - 14, height - top - bottom))
        defaults = shown.panel.defaults
        graphs.frame(axes, defaults["unit"], self._window)
        graphs.plot(axes, lines, defaults.get("custom", {}), self._window)
        graphs.limits(axes, lines, defaults)
        for mark in self._marks:
            axes.axvline(mark.moment, color=style.MARK, linewidth=1.2, linestyle=(0, (4, 3)))
            beside = {"xytext": (4, -11), "textcoords": "offset points", "xycoords": ("data", "axes fraction")}
            axes.annotate(mark.text, (mark.moment, 1), color=style.MARK, fontsize=11 * style.POINT, **beside)

    def _legend(self, lines: Sequence[graphs.Line], x: float, y: float, width: float) -> int:
        """Write the names from the lowest row up; returns how many rows there are."""
        rows: list[list[graphs.Line]] = [[]]
        used = 0.0
        for line in lines:
            wide = self._wide(line.name) + _LEGEND_SPACE
            if used + wide > width and rows[-1]:
                rows.append([])
                used = 0.0
            rows[-1].append(line)
            used += wide
        for number, row in enumerate(rows):
            level, at = y - 18 * (len(rows) - 1 - number), x
            for line in row:
                self._box(at, level - 2, 13, 4, colour=line.colour, edge=line.colour)
                self._text(at + 18, level, line.name, size=_LEGEND_SIZE, colour=style.TEXT)
                at += self._wide(line.name) + _LEGEND_SPACE
        return len(rows)

    def _wide(self, text: str) -> float:
        font = FontProperties(size=_LEGEND_SIZE * style.POINT)
        return float(self._figure.canvas.get_renderer().get_text_width_height_descent(text, font, ismath=False)[0])

    def _share(self, x: float, y: float, width: float, height: float) -> tuple[float, float, float, float]:
        return x / WIDTH, 1 - (y + height) / self._height, width / WIDTH, height / self._height

    def _box(self, x: float, y: float, width: float, height: float, *, colour: str, edge: str = style.BORDER) -> None:
        """Draw a box; graphs come upon it."""
        left, bottom, wide, high = self._share(x, y, width, height)
        self._figure.add_artist(
            FancyBboxPatch((left, bottom), wide, high, boxstyle="square,pad=0", facecolor=colour, edgecolor=edge,
                           linewidth=0.8, zorder=-1, transform=self._figure.transFigure)
        )  # fmt: skip

    def _text(
        self, x: float, y: float, text: str, *, size: float, colour: str, align: str = "left", weight: str = "normal"
    ) -> None:
        font = {"fontsize": size * style.POINT, "fontweight": weight, "color": colour}
        self._figure.text(x / WIDTH, 1 - y / self._height, text, ha=align, va="center_baseline", **font)


def _stat_of(defaults: dict[str, Any], value: float, *, there: bool) -> tuple[str, str]:
    """Return what a stat says, and its colour."""
    colour = "text"
    for step in defaults["thresholds"]["steps"] if "thresholds" in defaults else []:
        if step["value"] is None or value >= step["value"]:
            colour = step["color"]
    if not there:
        return str(defaults.get("noValue", "No data")), colour
    for mapping in defaults.get("mappings", []):
        if (said := mapping["options"].get(f"{value:g}")) is not None:
            return said["text"], said.get("color", colour)
    return style.number(value, defaults["unit"], defaults.get("decimals")), colour
