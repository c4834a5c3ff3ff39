"""A real Prometheus as a process of a test or a load run: it scrapes what it is told to, and answers queries."""

from __future__ import annotations

import asyncio
import json
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

import aiohttp

from bench.ports import free_port
from scripts import tools

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

JOB: Final = "qc-adapter"
START_SECONDS: Final = 30.0
STARTS: Final = 5
_LOOK_SECONDS: Final = 0.05
_STOP_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class Series:
    """What one series of an answer is called, and its points: (unix time, value)."""

    labels: Mapping[str, str]
    points: Sequence[tuple[float, float]]


class Prometheus:
    """`async with Prometheus(folder) as server`; all that it has is below that folder."""

    def __init__(self, folder: Path, *, scrape_seconds: float = 1.0, rules: Iterable[Path] = ()) -> None:
        self.scrape_seconds = scrape_seconds
        self._folder = folder
        self._targets = folder / "targets.json"
        self._rules = [str(path.resolve()) for path in rules]
        self._process: asyncio.subprocess.Process | None = None
        self._http: aiohttp.ClientSession | None = None
        self.url = ""

    async def __aenter__(self) -> Self:
        self._folder.mkdir(exist_ok=True)
        self._targets.write_text("[]")
        (self._folder / "prometheus.yml").write_text(json.dumps(self._configuration()))  # JSON is YAML
        self._http = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30), trust_env=False)
        try:
            await self._start()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_failure: object) -> None:
        await self._end()
        if self._http is not None:
            await self._http.close()

    def scrape(self, targets: Mapping[str, str]) -> None:
        """Scrape these from now on: name of the instance -> host:port."""
        groups = [{"targets": [place], "labels": {"instance": name}} for name, place in targets.items()]
        partial = self._targets.with_suffix(".partial")
        partial.write_text(json.dumps(groups))
        partial.replace(self._targets)

    async def targets(self) -> dict[str, str]:
        """Return what the targets page says: name of the instance -> its health."""
        found = await self._ask("targets", state="active")
        return {one["labels"]["instance"]: one["health"] for one in found["activeTargets"]}

    async def at(self, expr: str, moment: float) -> list[Series]:
        """Evaluate an expression at a moment."""
        found = await self._ask("query", query=expr, time=f"{moment:.3f}")
        if found["resultType"] == "scalar":
            return [Series({}, [_point(found["result"])])]
        return [Series(one["metric"], [_point(one["value"])]) for one in found["result"]]

    async def over(self, expr: str, start: float, end: float, step_seconds: float) -> list[Series]:
        """Evaluate an expression over a time."""
        found = await self._ask(
            "query_range", query=expr, start=f"{start:.3f}", end=f"{end:.3f}", step=f"{step_seconds:.3f}"
        )
        return [Series(one["metric"], [_point(pair) for pair in one["values"]]) for one in found["result"]]

    async def label_values(self, selector: str, label: str) -> list[str]:
        """Return the values of a label that series of a selector have."""
        return list(await self._ask(f"label/{label}/values", **{"match[]": selector}))

    async def _ask(self, page: str, **parameters: str) -> Any:
        assert self._http is not None
        async with self._http.get(f"{self.url}/api/v1/{page}", params=parameters) as reply:
            answer = await reply.json()
        if answer["status"] != "success":
            raise ValueError(f"{answer['error']}: {parameters.get('query', page)}")
        return answer["data"]

    async def _start(self) -> None:
        """Start on a free port; another process may take it in between."""
        program = await asyncio.to_thread(tools.prometheus)
        for _attempt in range(STARTS):
            port = free_port()
            self.url = f"http://127.0.0.1:{port}"
            arguments = [
                "--config.file=prometheus.yml",
                "--storage.tsdb.path=series",
                f"--web.listen-address=127.0.0.1:{port}",
                "--log.level=warn",
            ]
            with (self._folder / "prometheus.log").open("wb") as log:
                self._process = await asyncio.create_subprocess_exec(
                    program, *arguments, cwd=self._folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log
                )
            if await self._is_ready():
                return
            await self._end()
        raise RuntimeError(f"prometheus does not start:\n{self.last_words()}")

    async def _is_ready(self) -> bool:
        assert self._process is not None
        assert self._http is not None
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until and self._process.returncode is None:
            try:
                async with self._http.get(f"{self.url}/-/ready") as reply:
                    if reply.status == 200:
                        return True
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(_LOOK_SECONDS)
        return False

    async def _end(self) -> None:
        process, self._process = self._process, None
        if process is None or process.returncode is not None:
            return
        process.terminate()
        try:
            async with asyncio.timeout(_STOP_SECONDS):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()

    def last_words(self) -> str:
        """Return the end of its log."""
        return (self._folder / "prometheus.log").read_text(errors="replace")[-2000:]

    def _configuration(self) -> dict[str, Any]:
        interval = f"{round(self.scrape_seconds * 1000)}ms"
        return {
            "global": {"scrape_interval": interval, "scrape_timeout": interval, "evaluation_interval": interval},
            "rule_files": self._rules,
            "scrape_configs": [{"job_name": JOB, "file_sd_configs": [{"files": [self._targets.name]}]}],
        }


def _point(pair: Sequence[Any]) -> tuple[float, float]:
    return float(pair[0]), float(pair[1])
