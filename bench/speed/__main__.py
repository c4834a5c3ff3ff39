"""Measures all parts one after the other, and makes docs/performance.md of what they find."""

from __future__ import annotations

import argparse
import asyncio
import importlib
import sys
import time
import traceback
from typing import TYPE_CHECKING, Final

from bench.children import ROOT
from bench.speed import page

if TYPE_CHECKING:
    from bench.speed.figures import Section

#: Parts that `make bench` runs: modules of this folder with `async def measure(*, quick: bool) -> Section`.
PARTS: Final = ("calls", "http_leg", "hot_path", "polls", "store", "streams", "cores")
PAGE: Final = ROOT / "docs" / "performance.md"


async def run(options: argparse.Namespace) -> int:
    """Run the parts; one that fails says so, and the others go on. Returns the exit code."""
    failed = [key for key in options.only or PARTS if not await _part(key, quick=options.quick)]
    if failed:
        print(f"not measured: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


async def _part(key: str, *, quick: bool) -> bool:
    print(f"== {key}", flush=True)
    began = time.monotonic()
    try:
        section: Section = await importlib.import_module(f"bench.speed.{key}").measure(quick=quick)
    except Exception:  # noqa: BLE001 - it is printed here, and the other parts are worth having without this one
        traceback.print_exc()
        print(f"({key} FAILED after {time.monotonic() - began:.0f} s)\n", flush=True)
        return False
    print(page.rendered([section], head=""))
    print(f"({key}: {time.monotonic() - began:.0f} s)\n", flush=True)
    if not quick:
        section.keep()
        page.write(PAGE)
    return True


def main() -> int:
    """Read the options and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer calls; prints, and keeps nothing")
    parser.add_argument("--only", nargs="+", choices=PARTS, help="these parts")
    parser.add_argument("--page", action="store_true", help="measure nothing, make the page of what is kept")
    options = parser.parse_args()
    if options.page:
        page.write(PAGE)
        return 0
    return asyncio.run(run(options))


if __name__ == "__main__":
    sys.exit(main())
