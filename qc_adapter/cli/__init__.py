"""The command line: the way in for people and scripts. Each command's module is imported only when it runs."""

from qc_adapter.cli.entry import main

__all__ = ["main"]
