"""The dashboards as a program reads them: each panel with its queries, and the queries as Grafana would send them."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from bench.children import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.prometheus import Prometheus, Series

FOLDER: Final = ROOT / "deploy" / "grafana"
DASHBOARDS: Final = ("operators.json", "contact-centre.json")
_LABEL_VALUES: Final = re.compile(r"label_values\((.+), (\w+)\)")
#: Grafana takes at least four scrapes for a rate, so that one that failed leaves no hole.
_SCRAPES_OF_A_RATE: Final = 4


@dataclass(frozen=True, slots=True)
class Window:
    """The time that a dashboard shows, and the time between two points of a line."""

    start: float
    end: float
    step_seconds: float
    scrape_seconds: float

    def builtins(self) -> dict[str, str]:
        """Return Grafana's own variables; the longer names stand first."""
        rate = max(self.step_seconds + self.scrape_seconds, _SCRAPES_OF_A_RATE * self.scrape_seconds)
        return {
            "$__rate_interval": _duration(rate),
            "$__interval": _duration(self.step_seconds),
            "$__range": _duration(self.end - self.start),
        }


@dataclass(frozen=True, slots=True)
class Target:
    """One query of a panel."""

    expr: str
    legend: str
    instant: bool

    def name(self, series: Series) -> str:
        """Return what the legend calls a series."""
        if not self.legend:
            return ", ".join(f"{name}={value}" for name, value in series.labels.items()) or "Value"
        return re.sub(r"{{\s*(\w+)\s*}}", lambda found: series.labels.get(found[1], ""), self.legend)


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel; `raw` is its JSON."""

    title: str
    kind: str
    raw: dict[str, Any]

    @property
    def place(self) -> tuple[int, int, int, int]:
        """Where it is on the grid: x, y, width, height."""
        place = self.raw["gridPos"]
        return place["x"], place["y"], place["w"], place["h"]

    @property
    def defaults(self) -> dict[str, Any]:
        """What is said about all its series: unit, thresholds, how they are drawn."""
        return dict(self.raw.get("fieldConfig", {}).get("defaults", {}))


class Dashboard:
    """One of the generated files."""

    def __init__(self, name: str) -> None:
        self.raw: dict[str, Any] = json.loads((FOLDER / name).read_text())
        self.panels = [Panel(one["title"], one["type"], one) for one in self.raw["panels"]]
        self._variables = {one["name"]: one for one in self.raw["templating"]["list"]}

    def expanded(self, expr: str, window: Window) -> str:
        """Replace variables as Grafana does when all values are chosen; an unknown one raises LookupError."""
        chosen = {f"${name}": str(one.get("allValue", "")) for name, one in self._variables.items()}
        for name, value in (window.builtins() | chosen).items():
            expr = expr.replace(name, value)
        if "$" in expr:
            raise LookupError(f"there is an unknown variable in {expr}")
        return expr

    def targets(self, panel: Panel) -> Iterator[Target]:
        """Return the queries of a panel."""
        for one in panel.raw.get("targets", []):
            yield Target(one["expr"], one.get("legendFormat", ""), bool(one.get("instant")))

    @property
    def marks(self) -> list[Target]:
        """The queries of marks on all panels."""
        return [Target(one["expr"], "{{alertname}}", instant=False) for one in self.raw["annotations"]["list"]]

    async def ask(self, prometheus: Prometheus, target: Target, window: Window) -> list[Series]:
        """Send a query as Grafana would."""
        expr = self.expanded(target.expr, window)
        if target.instant:
            return await prometheus.at(expr, window.end)
        return await prometheus.over(expr, window.start, window.end, window.step_seconds)

    async def values(self, prometheus: Prometheus, window: Window) -> dict[str, list[str]]:
        """Return what each variable that asks Prometheus has to choose from."""
        found = {}
        for name, one in self._variables.items():
            if one["type"] == "query":
                asked = _LABEL_VALUES.fullmatch(self.expanded(one["query"], window))
                if asked is None:
                    raise LookupError(f"the query of ${name} is not understood: {one['query']}")
                selector, label = asked.groups()
                found[name] = await prometheus.label_values(selector, label)
        return found


def _duration(seconds: float) -> str:
    return f"{round(seconds * 1000)}ms"
