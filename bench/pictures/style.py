"""How Grafana looks in the dark: its colours, and how it writes numbers."""

from __future__ import annotations

import math
from typing import Final

DOTS_PER_INCH: Final = 100
#: A pixel in the unit of fonts.
POINT: Final = 72 / DOTS_PER_INCH
BACKGROUND: Final = "#0b0c0e"
PANEL: Final = "#181b1f"
BORDER: Final = "#2a2d33"
GRID: Final = "#2c3036"
TEXT: Final = "#ccccdc"
FAINT: Final = "#9a9ba8"
MARK: Final = "#ffffff"

#: Of series that have no colour of their own, in their order.
PALETTE: Final = ("#73bf69", "#f2cc0c", "#8ab8ff", "#ff780a", "#f2495c", "#5794f2", "#b877d9", "#705da0",
                  "#37872d", "#fade2a", "#447ebc", "#c15c17", "#890f02", "#0a437c", "#6d1f62", "#584477")  # fmt: skip
NAMED: Final = {
    "green": "#73bf69", "light-green": "#96d98d", "dark-green": "#37872d",
    "yellow": "#fade2a", "light-yellow": "#ffee52", "dark-yellow": "#e0b400",
    "orange": "#ff9830", "light-orange": "#ffb357", "dark-orange": "#fa6400",
    "red": "#f2495c", "light-red": "#ff7383", "dark-red": "#c4162a",
    "blue": "#5794f2", "light-blue": "#8ab8ff", "dark-blue": "#1f60c4",
    "purple": "#b877d9", "light-purple": "#ca95e5", "dark-purple": "#8f3bb8",
    "text": TEXT,
}  # fmt: skip
#: What fills a stat: darker, so that white can be read on it.
FILLED: Final = {"green": "#3f8f3a", "orange": "#d9730d", "red": "#d62f45", "dark-red": "#a3122a", "blue": "#2f66c0"}

_BINARY: Final = ("B", "KiB", "MiB", "GiB")
_SHORT: Final = ("", " K", " Mil")
_BELOW_A_SECOND: Final = ((1e-3, 1e6, "µs"), (1.0, 1e3, "ms"))


def number(value: float, unit: str, decimals: int | None = None) -> str:
    """Write a number as Grafana does for that unit."""
    if math.isnan(value):
        return "NaN"
    if unit == "s":
        return _seconds(value, decimals)
    if unit == "percentunit":
        return f"{_plain(value * 100, decimals)}%"
    if unit == "bytes":
        return _scaled(value, 1024, _BINARY, decimals)
    if unit.startswith("suffix:"):
        return f"{_plain(value, decimals)}{unit.removeprefix('suffix:')}"
    return _scaled(value, 1000, _SHORT, decimals).strip()


def _seconds(value: float, decimals: int | None) -> str:
    for below, factor, name in _BELOW_A_SECOND:
        if 0 < abs(value) < below:
            return f"{_plain(value * factor, decimals)} {name}"
    return f"{_plain(value, decimals)} s"


def _scaled(value: float, base: int, names: tuple[str, ...], decimals: int | None) -> str:
    power = 0
    while abs(value) >= base and power < len(names) - 1:
        value, power = value / base, power + 1
    return f"{_plain(value, decimals)} {names[power]}".rstrip()


def _plain(value: float, decimals: int | None) -> str:
    if decimals is not None:
        return f"{value:.{decimals}f}"
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
