# ruff: noqa: INP001 - a program and its modules
"""What a row of a dashboard's table is, and the panel of Grafana that it becomes."""

from __future__ import annotations

import zlib
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from grafana_foundation_sdk.builders import common as common_builders
from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.builders import heatmap, prometheus, stat, table, timeseries
from grafana_foundation_sdk.models import common, dashboard
from grafana_foundation_sdk.models import prometheus as queries

if TYPE_CHECKING:
    from collections.abc import Mapping

DATASOURCE: Final = dashboard.DataSourceRef(type_val="prometheus", uid="${datasource}")
#: From which value on a panel has which colour.
Steps = tuple[tuple[float, str], ...]


@dataclass(frozen=True, slots=True)
class Query:
    """One expression, and how its series are called."""

    expr: str
    legend: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A heading and its panels, side by side."""

    title: str
    panels: tuple[Panel, ...]
    height: int = 8


@dataclass(frozen=True, slots=True)
class Panel(ABC):
    """What every panel has. `runbook` is the alert whose page says what to do, `width` a share of 24."""

    title: str
    description: str
    unit: str
    queries: tuple[Query, ...]
    width: int = 6
    runbook: str = ""
    steps: Steps = ()
    #: Below all steps.
    colour: str = "green"
    #: Series that have a colour of their own, by their names.
    colours: Mapping[str, str] = field(default_factory=dict)

    @property
    def id(self) -> int:
        """A number that stays when other panels come and go: links to a panel hold it."""
        return zlib.crc32(self.title.encode()) % 100_000 + 1

    def build(self) -> Any:
        """Return the builder of the panel, without its place."""
        panel = self._kind().id(self.id).title(self.title).description(self.description).unit(self.unit)
        panel.datasource(DATASOURCE)
        for name, query in zip("ABCDEFGH", self.queries, strict=False):
            panel.with_target(self._target(query).ref_id(name))
        if self.steps:
            panel.thresholds(_thresholds(self.colour, self.steps))
        for series, colour in self.colours.items():
            panel.override_by_name(series, [_colour(colour)])
        if self.runbook:
            page = builders.DashboardLink(f"Runbook: {self.runbook}").type(dashboard.DashboardLinkType.LINK)
            panel.links([page.url(f"${{runbooks:raw}}/{self.runbook}").target_blank(True)])
        return panel

    @abstractmethod
    def _kind(self) -> Any:
        """Return the builder of this kind of panel, with what only it has."""

    def _target(self, query: Query) -> prometheus.Dataquery:
        made = prometheus.Dataquery().expr(query.expr).datasource(DATASOURCE).legend_format(query.legend)
        return self._way(made.editor_mode(queries.QueryEditorMode.CODE))

    def _way(self, query: prometheus.Dataquery) -> prometheus.Dataquery:
        """Say whether the query is about a moment or a time, and in which form the panel wants it."""
        return query.range()


@dataclass(frozen=True, slots=True)
class Stat(Panel):
    """A number at a glance; `words` are shown in place of numbers, `names` the series' names in place of values."""

    words: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    names: bool = False
    decimals: int = 0

    def _kind(self) -> stat.Panel:
        mode = common.BigValueTextMode.NAME if self.names else common.BigValueTextMode.AUTO
        panel = stat.Panel().graph_mode(common.BigValueGraphMode.NONE).text_mode(mode).decimals(self.decimals)
        panel.color_mode(common.BigValueColorMode.BACKGROUND).justify_mode(common.BigValueJustifyMode.CENTER)
        panel.reduce_options(common_builders.ReduceDataOptions().calcs(["lastNotNull"])).no_value("none")
        if not self.steps:
            panel.thresholds(_thresholds(self.colour, ()))
        if self.words:
            found = {value: dashboard.ValueMappingResult(text, colour) for value, (text, colour) in self.words.items()}
            panel.mappings([dashboard.ValueMap(found)])
        return panel

    def _way(self, query: prometheus.Dataquery) -> prometheus.Dataquery:
        return query.instant()


@dataclass(frozen=True, slots=True)
class Graph(Panel):
    """Lines over time from 0 up; `stacked` upon each other, or `bars` for what happens now and then."""

    stacked: bool = False
    bars: bool = False
    #: Up to there the axis reaches at least.
    reaches: float | None = None

    def _kind(self) -> timeseries.Panel:
        style = common.GraphDrawStyle.BARS if self.bars else common.GraphDrawStyle.LINE
        panel = timeseries.Panel().draw_style(style).min(0).show_points(common.VisibilityMode.NEVER)
        piled = self.stacked or self.bars
        # Without lines: that of a series at 0 would lie on what is below it.
        panel.line_width(0 if piled else 1).fill_opacity(70 if piled else 8)
        if piled:
            panel.stacking(common_builders.StackingConfig().mode(common.StackingMode.NORMAL).group("A"))
        if self.reaches is not None:
            panel.axis_soft_max(self.reaches)
        if self.steps:
            lines = common_builders.GraphThresholdsStyleConfig().mode(common.GraphTresholdsStyleMode.DASHED)
            panel.thresholds_style(lines)
        legend = common_builders.VizLegendOptions().show_legend(True).display_mode(common.LegendDisplayMode.LIST)
        panel.legend(legend.placement(common.LegendPlacement.BOTTOM).calcs([]))
        tooltip = common_builders.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI)
        return panel.tooltip(tooltip.sort(common.SortOrder.DESCENDING))


@dataclass(frozen=True, slots=True)
class Heat(Panel):
    """The buckets of a histogram over time."""

    def _kind(self) -> heatmap.Panel:
        colours = heatmap.HeatmapColorOptions().scheme("Oranges").steps(64).fill("dark-orange").exponent(0.5)
        axis = heatmap.YAxisConfig().unit(self.unit).axis_placement(common.AxisPlacement.LEFT)
        return heatmap.Panel().calculate(False).color(colours).y_axis(axis).cell_gap(1).hide_legend()

    def _way(self, query: prometheus.Dataquery) -> prometheus.Dataquery:
        return query.range().format(queries.PromQueryFormat.HEATMAP)


@dataclass(frozen=True, slots=True)
class Table(Panel):
    """Label values and a number, the biggest first; `meanings` says what the values of the first label mean."""

    labels: tuple[str, ...] = ()
    meanings: Mapping[str, str] = field(default_factory=dict)
    #: With two labels: the values of the second one become columns.
    matrix: bool = False

    def _kind(self) -> table.Panel:
        panel = table.Panel().show_header(True).decimals(0).no_value("0" if self.matrix else "none")
        if self.matrix:
            row, column = self.labels
            options = {"rowField": row, "columnField": column, "valueField": "Value"}
            panel.with_transformation(dashboard.DataTransformerConfig(id_val="groupingToMatrix", options=options))
        else:
            order = {name: number for number, name in enumerate((*self.labels, "Value"))}
            options = {"excludeByName": {"Time": True}, "indexByName": order, "renameByName": {"Value": "count"}}
            panel.with_transformation(dashboard.DataTransformerConfig(id_val="organize", options=options))
            panel.sort_by([common_builders.TableSortByFieldState().display_name("count").desc(True)])
        if self.meanings:
            found = {code: dashboard.ValueMappingResult(f"{code} {text}") for code, text in self.meanings.items()}
            panel.override_by_name(
                self.labels[0],
                [dashboard.DynamicConfigValue("mappings", [dashboard.ValueMap(found)]),
                 dashboard.DynamicConfigValue("custom.width", 520)],
            )  # fmt: skip
        return panel

    def _way(self, query: prometheus.Dataquery) -> prometheus.Dataquery:
        return query.instant().format(queries.PromQueryFormat.TABLE)


def _thresholds(lowest: str, steps: Steps) -> builders.ThresholdsConfig:
    found = [dashboard.Threshold(None, lowest), *(dashboard.Threshold(value, colour) for value, colour in steps)]
    return builders.ThresholdsConfig().mode(dashboard.ThresholdsMode.ABSOLUTE).steps(found)


def _colour(name: str) -> dashboard.DynamicConfigValue:
    return dashboard.DynamicConfigValue("color", {"mode": "fixed", "fixedColor": name})
