"""Passwords and GUIDs from where they do not show: a file, standard input, the environment, a hidden prompt."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Final

import typer

from qc_adapter.cli.exits import CommandFailed, Exit

STDIN: Final = "-"


def read_secret(name: str, *, file: str, variable: str) -> str:
    """Return the secret without the line end; raises `CommandFailed` when there is no way to ask for it."""
    if file == STDIN:
        return sys.stdin.readline().rstrip("\r\n")
    if file:
        try:
            return Path(file).read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            raise CommandFailed(Exit.USAGE, f"{file} cannot be read ({type(error).__name__})") from None
    if variable in os.environ:
        return os.environ[variable]
    if not sys.stdin.isatty():
        raise CommandFailed(
            Exit.USAGE,
            f"the {name} is needed and there is no terminal to ask at",
            advice=f"give --{name}-file FILE, --{name}-file - to read standard input, or set {variable}",
        )
    return str(
        typer.prompt(f"{name.capitalize()} (not shown)", hide_input=True, default="", show_default=False, err=True)
    )
