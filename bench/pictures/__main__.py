"""
`python -m bench.pictures`: what an operator sees, drawn from the dashboard's own queries; 6 minutes.

Real replicas, a real Redis and simulated gateways under load are scraped by a real Prometheus. Each panel's queries are
sent to it as Grafana would, and drawn at the panel's place. `--kill` kills one of three replicas in the midst of it
and draws what is said of that: 5 minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.children import ROOT
from bench.dashboards import Dashboard, Window
from bench.pictures import mischief
from bench.pictures.draw import Mark, Picture, Shown
from bench.pictures.site import Form, at_work, watched

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bench.pictures.site import Site

PICTURES: Final = ROOT / "docs" / "pictures"
RULES: Final = ROOT / "deploy" / "prometheus"
#: So many points has a line.
POINTS: Final = 180
#: What is drawn around the death of a replica, three side by side.
OF_A_DEATH: Final = (
    "Leases by replica",
    "Oldest poll by replica",
    "Sessions without a reader",
    "Events read",
    "Gaps by reason",
    "Commands by outcome",
)
_WIDTH, _HEIGHT = 8, 9
#: The first rates need some scrapes.
_WARM_UP_SECONDS: Final = 15.0


async def operators(form: Form, minutes: float, path: Path) -> None:
    """Draw the operators' dashboard after so many minutes, with some things going wrong on the way."""
    async with watched(form, _rules()) as site:
        await mischief.prepare(site)
        async with at_work(site):
            await asyncio.sleep(_WARM_UP_SECONDS)
            began = time.time()
            for store in (True, False):
                await asyncio.sleep(minutes * 60 * 0.3)
                await mischief.happens(site, store=store)
            await asyncio.sleep(max(0.0, began + minutes * 60 - time.time()))
            window = _window(site, began)
            dashboard = Dashboard("operators.json")
            shown = [await _shown(site, dashboard, title, None, window) for title in _titles(dashboard)]
        _report(site)
    Picture(shown, window).save(path, dashboard.raw["title"], _variables(dashboard))


async def replica_killed(form: Form, minutes: float, path: Path) -> None:
    """Draw the minutes around the death of one replica."""
    async with watched(form, _rules()) as site, at_work(site):
        await asyncio.sleep(_WARM_UP_SECONDS)
        began = time.time()
        await asyncio.sleep(minutes * 60 * 0.4)
        victim = site.fleet.serving[1]
        killed = time.time()
        await site.fleet.kill(victim)
        await asyncio.sleep(max(0.0, began + minutes * 60 - time.time()))
        window = _window(site, began)
        dashboard = Dashboard("operators.json")
        shown = []
        for number, title in enumerate(OF_A_DEATH):
            place = (number % 3 * _WIDTH, number // 3 * _HEIGHT, _WIDTH, _HEIGHT)
            shown.append(await _shown(site, dashboard, title, place, window))
        _report(site)
    title = f"{dashboard.raw['title']}  >  {victim.name} is killed (SIGKILL) at the dashed line"
    Picture(shown, window, [Mark(killed, "killed")]).save(path, title, _variables(dashboard))


async def _shown(
    site: Site, dashboard: Dashboard, title: str, place: tuple[int, int, int, int] | None, window: Window
) -> Shown:
    panel = next(one for one in dashboard.panels if one.title == title)
    answers = [(one, await dashboard.ask(site.prometheus, one, window)) for one in dashboard.targets(panel)]
    return Shown(panel, place or panel.place, answers)


def _titles(dashboard: Dashboard) -> list[str]:
    return [panel.title for panel in dashboard.panels]


def _window(site: Site, began: float) -> Window:
    now = time.time()
    step = max((now - began) / POINTS, site.form.scrape_seconds)
    return Window(began, now, step_seconds=step, scrape_seconds=site.form.scrape_seconds)


def _variables(dashboard: Dashboard) -> list[str]:
    shown = [one["name"] for one in dashboard.raw["templating"]["list"] if not one["hide"]]
    return [f"{name}={'Prometheus' if name == 'datasource' else 'All'}" for name in shown]


def _rules() -> Iterable[Path]:
    return [path for path in (RULES / "recording.yaml", RULES / "alerts.yaml") if path.exists()]


def _report(site: Site) -> None:
    for (rpc, ending), number in sorted(site.books.endings.items()):
        print(f"{rpc:16} {number:5} {ending}")
    print(f"gaps {dict(site.books.gaps)}")
    print("\n".join(site.books.unexplained[:20]))


def main() -> None:
    """Read the options and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kill", action="store_true", help="kill one of three replicas and draw that")
    parser.add_argument("--minutes", type=float, help="how long the time is that is shown")
    parser.add_argument("--into", type=Path, default=PICTURES, help="the folder of the picture")
    options = parser.parse_args()
    if options.minutes is not None and not 0.5 <= options.minutes <= 60:
        parser.error("from half a minute to an hour")
    options.into.mkdir(parents=True, exist_ok=True)
    form = Form()
    if options.kill:
        asyncio.run(replica_killed(form, options.minutes or 4.5, options.into / "replica-killed.png"))
    else:
        asyncio.run(operators(form, options.minutes or 6.0, options.into / "operators.png"))


if __name__ == "__main__":
    sys.exit(main())
