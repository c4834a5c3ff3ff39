"""The dashboards against a real Prometheus that scraped real replicas at work."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import re
import subprocess
import sys
import time
from dataclasses import replace

import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models import dashboard

from bench.children import ROOT
from bench.dashboards import DASHBOARDS, Dashboard, Window
from bench.pictures import mischief
from bench.pictures.site import Form, at_work, watched

FORM = Form(replicas=2, inspectors=(4, 3), agents_each=6, calls_per_minute=90.0, scrape_seconds=1.0)
#: An alert that always fires; and as often as things happen, each counter counts up where Prometheus can see it.
RULES = "groups: [{name: provoked, rules: [{alert: QcProvoked, expr: vector(1), labels: {severity: ticket}}]}]"
TIMES = 2
CONFIRMED = 30
OR_ZERO = " or vector(0)"
ALERTS = ROOT / "deploy" / "prometheus" / "alerts.yaml"

pytestmark = pytest.mark.timeout(240)


def questions():
    """Every query of every dashboard: its dashboard, what asks, and the query."""
    for name in DASHBOARDS:
        made = Dashboard(name)
        for panel in made.panels:
            for number, target in enumerate(made.targets(panel), 1):
                yield pytest.param(name, target, id=f"{name}-{panel.title}-{number}")
        for target in made.marks:
            yield pytest.param(name, target, id=f"{name}-mark")


QUESTIONS = list(questions())


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """What Prometheus knows of a site at work: targets, values of variables, the answer to each query."""
    rules = tmp_path_factory.mktemp("rules") / "provoked.yaml"
    rules.write_text(RULES)
    return asyncio.run(_look([rules]))


async def _look(rules):
    async with contextlib.AsyncExitStack() as stack:
        site = await stack.enter_async_context(watched(FORM, rules))
        began = time.time()
        await mischief.prepare(site)
        await stack.enter_async_context(at_work(site))
        for last in (*[False] * (TIMES - 1), True):
            await site.scraped()
            await mischief.happens(site, store=last)
        await site.busy(CONFIRMED)
        await site.scraped()
        window = Window(began, time.time(), step_seconds=1.0, scrape_seconds=FORM.scrape_seconds)
        return {
            "targets": await site.prometheus.targets(),
            "variables": {name: await Dashboard(name).values(site.prometheus, window) for name in DASHBOARDS},
            "answers": {one.id: await _ask(site.prometheus, window, *one.values) for one in QUESTIONS},
        }


async def _ask(prometheus, window, name, target):
    """Ask without the zero that stands for nothing: it would also stand for a metric that there is not."""
    return await Dashboard(name).ask(prometheus, replace(target, expr=target.expr.removesuffix(OR_ZERO)), window)


def test_dashboards_are_what_the_code_makes():
    """The committed JSON is what `make dashboards` writes."""
    command = [sys.executable, "deploy/grafana/build.py", "--check"]
    done = subprocess.run(  # noqa: S603 - a fixed command
        command, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", DASHBOARDS)
def test_a_dashboard_can_be_imported_anywhere(name):
    """A dashboard has a uid of its own and panels with ids of their own, and names no installation's data source."""
    raw = Dashboard(name).raw
    ids = [panel["id"] for panel in raw["panels"]]
    assert raw["uid"].startswith("qc-adapter-")
    assert raw.get("id") is None
    assert len(set(ids)) == len(ids)
    sources = {json.dumps(found) for found in _found(raw, "datasource")}
    assert sources == {json.dumps({"type": "prometheus", "uid": "${datasource}"})}


@pytest.mark.parametrize("name", DASHBOARDS)
def test_a_dashboard_reads_as_grafanas_schema_says(name):
    """What the models of Grafana's schema read of a dashboard is all that is in it."""
    register_default_plugins()
    raw = Dashboard(name).raw
    read = json.loads(json.dumps(dashboard.Dashboard.from_json(raw), cls=JSONEncoder))
    assert _full(read) == _full(raw)


def _full(value):
    """A value without objects that are empty: these say nothing, and are added while reading."""
    if isinstance(value, dict):
        return {name: _full(one) for name, one in value.items() if one != {}}
    return [_full(one) for one in value] if isinstance(value, list) else value


def _found(value, name):
    """Everything of that name, at any depth."""
    if isinstance(value, list):
        for one in value:
            yield from _found(one, name)
    elif isinstance(value, dict):
        for key, one in value.items():
            if key == name:
                yield one
            else:
                yield from _found(one, name)


@pytest.mark.parametrize("name", DASHBOARDS)
def test_panels_fill_the_grid_and_do_not_overlap(name):
    """No place of the grid belongs to two panels."""
    taken = [
        (column, line)
        for panel in Dashboard(name).panels
        for x, y, width, height in [panel.place]
        for column in range(x, x + width)
        for line in range(y, y + height)
    ]
    assert len(set(taken)) == len(taken)
    assert {column for column, _ in taken} == set(range(24))


@pytest.mark.parametrize("name", DASHBOARDS)
def test_every_panel_says_what_it_shows(name):
    """A panel has a description and a unit."""
    for panel in Dashboard(name).panels:
        if panel.kind != "row":
            assert panel.raw["description"].endswith((".", "?")), panel.title
            assert panel.defaults["unit"], panel.title


@pytest.mark.parametrize("name", DASHBOARDS)
def test_panels_link_to_the_pages_of_alerts(name):
    """Each runbook that a panel links to is the one of an alert, at the address that alerts have."""
    pages = set(re.findall(r"runbook_url: (\S+)$", ALERTS.read_text(), re.MULTILINE))
    raw = Dashboard(name).raw
    (place,) = (one["query"] for one in raw["templating"]["list"] if one["name"] == "runbooks")
    links = {
        link["url"].replace("${runbooks:raw}", place) for panel in raw["panels"] for link in panel.get("links", [])
    }
    assert links
    assert links <= pages


def test_all_replicas_are_up_on_the_targets_page(seen):
    """Prometheus reads the metrics of every replica without an error."""
    assert seen["targets"] == {"replica-1": "up", "replica-2": "up"}


@pytest.mark.parametrize("name", DASHBOARDS)
def test_variables_offer_what_there_is(seen, name):
    """One can choose among the job, the gateways, and for operators the replicas."""
    offered = {"job": ["qc-adapter"], "gateway": ["default", "north"], "instance": ["replica-1", "replica-2"]}
    found = seen["variables"][name]
    assert found == {variable: offered[variable] for variable in found}
    assert set(found) >= {"job", "gateway"}


@pytest.mark.parametrize(("name", "target"), QUESTIONS)
def test_every_query_returns_data(seen, request, name, target):
    """A query of a dashboard returns at least one series with a number, from replicas that had all of it happen."""
    answer = seen["answers"][request.node.callspec.id]
    numbers = [value for series in answer for _, value in series.points if not math.isnan(value)]
    assert numbers, target.expr
