"""Measures all parts one after the other, and makes docs/performance.md of what they find."""

from __future__ import annotations

import argparse
import asyncio
import importlib
import sys
import time
from typing import TYPE_CHECKING, Final

from bench.children import ROOT
from bench.speed import page

if TYPE_CHECKING:
    from bench.speed.figures import Section

#: Parts that `make bench` runs: modules of this folder with `async def measure(*, quick: bool) -> Section`.
PARTS: Final = ("calls", "http_leg", "hot_path", "polls", "store", "streams", "cores")
PAGE: Final = ROOT / "docs" / "performance.md"


async def run(options: argparse.Namespace) -> int:
    """Run the parts."""
    for key in options.only or PARTS:
        began = time.monotonic()
        section: Section = await importlib.import_module(f"bench.speed.{key}").measure(quick=options.quick)
        print(page.rendered([section]).partition("\n## ")[2])
        print(f"({key}: {time.monotonic() - began:.0f} s)\n", flush=True)
        if not options.quick:
            section.keep()
            page.write(PAGE)
    return 0


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
