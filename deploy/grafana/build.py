# ruff: noqa: INP001 - a program and its modules
"""
Write the dashboards as JSON beside this file; `--check` only says whether they are what the code makes.

They are made with grafana-foundation-sdk: its builders come from Grafana's own schema, so that a misspelled option is
an error here and not a panel that looks odd there.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import contact_centre
import operators
from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard
from panels import DATASOURCE

if TYPE_CHECKING:
    from types import ModuleType

FOLDER: Final = Path(__file__).parent
DASHBOARDS: Final = {"operators.json": operators, "contact-centre.json": contact_centre}
TAG: Final = "qc-adapter"
GRID: Final = 24
#: Where docs/runbooks and docs can be read; hidden variables of the dashboards, so that a site can put its own there.
#: The first one is that of the alerts, too.
PLACES: Final = {"runbooks": "https://runbooks.example/qc-adapter", "docs": "https://docs.example/qc-adapter"}
#: The query of a variable: each is narrowed by those before it.
_VALUES: Final = {
    "job": "label_values(qc_build_info, job)",
    "gateway": 'label_values(qc_poll_age_seconds{job=~"$job"}, gateway)',
    "instance": 'label_values(qc_build_info{job=~"$job"}, instance)',
}


def build(module: ModuleType) -> str:
    """Return a dashboard as JSON."""
    made = builders.Dashboard(module.TITLE).uid(module.UID).description(module.DESCRIPTION).tags([TAG])
    made.time("now-1h", "now").refresh("30s").tooltip(dashboard.DashboardCursorSync.CROSSHAIR).timezone("browser")
    made.variables([_datasource(), *map(_variable, module.VARIABLES), *map(_place_of, PLACES)])
    made.annotation(_alerts()).links(_links())
    _place(made, module.ROWS)
    return json.dumps(made.build(), cls=JSONEncoder, indent=1, ensure_ascii=False) + "\n"


def _place(made: builders.Dashboard, rows: Any) -> None:
    """Put the panels on the grid: each row as wide as its panels' widths come to, which has to be the whole."""
    y, ids = 0, set[int]()
    for number, row in enumerate(rows):
        if sum(panel.width for panel in row.panels) != GRID:
            raise ValueError(f"the panels of {row.title!r} are not {GRID} wide")
        if number:  # what is seen first needs no heading
            heading = builders.Row(row.title).id(number).grid_pos(dashboard.GridPos(x=0, y=y, w=GRID, h=1))
            made.with_row(heading)
            ids.add(number)
            y += 1
        x = 0
        for panel in row.panels:
            if panel.id in ids:
                raise ValueError(f"two panels have the id of {panel.title!r}")
            ids.add(panel.id)
            place = dashboard.GridPos(x=x, y=y, w=panel.width, h=row.height)
            made.with_panel(panel.build().grid_pos(place))
            x += panel.width
        y += row.height


def _datasource() -> Any:
    return builders.DatasourceVariable("datasource").label("Prometheus").type("prometheus")


def _variable(name: str) -> Any:
    made = builders.QueryVariable(name).label(name).datasource(DATASOURCE).query(_VALUES[name])
    made.refresh(dashboard.VariableRefresh.ON_TIME_RANGE_CHANGED).sort(dashboard.VariableSort.ALPHABETICAL_ASC)
    # All is everything, also what is no value of the variable: calls that are about no gateway.
    made.multi(True).include_all(True).all_value(".*")
    return made.current(dashboard.VariableOption(text="All", value="$__all", selected=True))


def _place_of(name: str) -> Any:
    return builders.ConstantVariable(name).label(name).value(PLACES[name])


def _alerts() -> Any:
    made = builders.AnnotationQuery().name("Alerts").datasource(DATASOURCE).enable(True).icon_color("red")
    return made.expr('ALERTS{alertstate="firing", alertname=~"Qc.*"}')


def _links() -> list[Any]:
    others = builders.DashboardLink("QC adapter").type(dashboard.DashboardLinkType.DASHBOARDS).tags([TAG])
    pages = [
        ("Runbooks", "${runbooks:raw}"),
        ("Metrics", "${docs:raw}/metrics"),
        ("Operating", "${docs:raw}/operating"),
    ]
    return [others.as_dropdown(True).include_vars(True).keep_time(True)] + [
        builders.DashboardLink(title).type(dashboard.DashboardLinkType.LINK).icon("doc").url(page).target_blank(True)
        for title, page in pages
    ]


def main() -> None:
    """Write the dashboards, or compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    stale = []
    for name, module in DASHBOARDS.items():
        path, text = FOLDER / name, build(module)
        if not check:
            path.write_text(text)
        elif not path.exists() or path.read_text() != text:
            stale.append(name)
    if stale:
        sys.exit(f"not what the code makes: {', '.join(stale)}; run `make dashboards`")


if __name__ == "__main__":
    main()
