"""What is inside a graph: its series, drawn as the panel says, on axes like those of Grafana."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from matplotlib.ticker import FuncFormatter, Locator, MaxNLocator, MultipleLocator

from bench.pictures import style

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from matplotlib.axes import Axes

    from bench.dashboards import Panel, Target, Window
    from bench.prometheus import Series

_TIME_TICKS: Final = 6
_MOST_TICKS: Final = 5


@dataclass(frozen=True, slots=True)
class Line:
    """One series as it is drawn."""

    name: str
    colour: str
    points: Sequence[tuple[float, float]]


def lines_of(panel: Panel, answers: Iterable[tuple[Target, Sequence[Series]]]) -> list[Line]:
    """Return the series of a panel in the order of their names, each with its colour."""
    own = {}
    for override in panel.raw["fieldConfig"]["overrides"]:
        for one in override["properties"]:
            if one["id"] == "color":
                own[override["matcher"]["options"]] = style.NAMED[one["value"]["fixedColor"]]
    found = []
    for target, series in answers:
        for one in sorted(series, key=target.name):
            name = target.name(one)
            colour = own.get(name, style.PALETTE[len(found) % len(style.PALETTE)])
            found.append(Line(name, colour, one.points))
    return found


def frame(axes: Axes, unit: str, window: Window) -> None:
    """Draw what is there without data: grid, times, and how numbers are written."""
    axes.set_facecolor(style.PANEL)
    axes.set_xlim(window.start, window.end)
    axes.grid(visible=True, color=style.GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.tick_params(colors=style.FAINT, labelsize=11 * style.POINT, length=0, pad=5)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: style.number(value, unit)))
    step = _time_step(window.end - window.start)
    first = math.ceil(window.start / step) * step
    ticks = [first + number * step for number in range(int((window.end - first) // step) + 1)]
    form = "%H:%M" if step % 60 == 0 else "%H:%M:%S"
    axes.set_xticks(ticks, [time.strftime(form, time.localtime(one)) for one in ticks])


def _time_step(seconds: float) -> int:
    return next(step for step in (5, 10, 30, 60, 120, 300, 600, 3600) if seconds / step <= _TIME_TICKS)


def plot(axes: Axes, lines: Sequence[Line], custom: dict[str, Any], window: Window) -> None:
    """Draw the series, beside or upon each other as the panel says."""
    bars = custom.get("drawStyle") == "bars"
    if custom.get("stacking", {}).get("mode") != "normal":
        for line in lines:
            moments, values = _with_holes(line.points, window.step_seconds)
            axes.plot(moments, values, color=line.colour, linewidth=1.4)
            axes.fill_between(moments, values, color=line.colour, alpha=custom.get("fillOpacity", 0) / 100, linewidth=0)
        return
    moments = sorted({moment for line in lines for moment, _ in line.points})
    below = [0.0] * len(moments)
    for line in lines:
        at = dict(line.points)
        above = [low + max(_finite(at.get(moment, 0.0)), 0.0) for low, moment in zip(below, moments, strict=True)]
        alpha = custom.get("fillOpacity", 0) / 100
        if bars:
            heights = [high - low for low, high in zip(below, above, strict=True)]
            axes.bar(moments, heights, window.step_seconds, below, color=line.colour, alpha=alpha, linewidth=0)
        else:
            axes.fill_between(moments, below, above, color=line.colour, alpha=alpha, linewidth=0)
        below = above


def _with_holes(points: Sequence[tuple[float, float]], step_seconds: float) -> tuple[list[float], list[float]]:
    moments, values = list[float](), list[float]()
    for moment, value in points:
        if moments and moment - moments[-1] > 1.5 * step_seconds:
            moments.append(moment - step_seconds)
            values.append(math.nan)
        moments.append(moment)
        values.append(value)
    return moments, values


def limits(axes: Axes, lines: Sequence[Line], defaults: dict[str, Any]) -> None:
    """Set how far up the axis goes, and draw the thresholds that are lines."""
    custom = defaults.get("custom", {})
    top = max(axes.get_ylim()[1], custom.get("axisSoftMax") or 0.0)
    if not any(value > 0 for line in lines for _, value in line.points if not math.isnan(value)):
        top = max(custom.get("axisSoftMax") or 0.0, 1.0)
    axes.set_ylim(0, top)
    axes.yaxis.set_major_locator(_ticks(top, defaults["unit"]))
    if custom.get("thresholdsStyle", {}).get("mode", "off") == "off":
        return
    for step in defaults["thresholds"]["steps"]:
        if step["value"] is not None and step["value"] <= top:
            axes.axhline(step["value"], color=style.NAMED[step["color"]], linewidth=1.2, linestyle=(0, (6, 4)))


def _ticks(top: float, unit: str) -> Locator:
    if unit == "bytes":
        return MultipleLocator(2 ** math.ceil(math.log2(top / _MOST_TICKS)))
    if unit == "s" and top > 60:
        return MultipleLocator(30 * math.ceil(top / 30 / _MOST_TICKS))
    return MaxNLocator(nbins=_MOST_TICKS, steps=[1, 2, 2.5, 5, 10])


def _finite(value: float) -> float:
    return 0.0 if math.isnan(value) else value
