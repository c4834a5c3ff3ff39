"""
One target of `make fuzz` in a process of its own: atheris makes inputs by what they cover of our code.

`python -m bench.fuzz_child NAME FOLDER SECONDS`: new inputs and a crash are written below the folder.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Final

import atheris

RSS_LIMIT_MIB: Final = 1024
SLOWEST_SECONDS: Final = 10
LONGEST_INPUT: Final = 4096


def main() -> None:
    """Fuzz until the time is over, which ends the process, or until the rule of the target is broken."""
    name, folder, seconds = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    warnings.simplefilter("error")
    with atheris.instrument_imports(include=["qc_adapter"]):
        from tests.fuzz.catalogue import TARGETS  # noqa: PLC0415 - what is imported here is instrumented
        from tests.fuzz.target import SEEDS  # noqa: PLC0415
    target = TARGETS[name]
    corpus = folder / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    options = [
        f"-max_total_time={seconds}",
        f"-rss_limit_mb={RSS_LIMIT_MIB}",
        f"-timeout={SLOWEST_SECONDS}",
        f"-max_len={LONGEST_INPUT}",
        f"-artifact_prefix={folder}/",
        "-print_final_stats=1",
    ]
    atheris.Setup([sys.argv[0], *options, str(corpus), str(SEEDS / name)], target.check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
