"""What a command prints: lines for people, coloured on a terminal only, or one JSON object a line for machines."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

import orjson
from google.protobuf.json_format import MessageToDict
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import TextIO

    from google.protobuf.message import Message

#: A text, or a text and its style.
Part = str | tuple[str, str]

# Lines that go to a file or a pipe are never broken.
_ENDLESS: Final = 100_000
DIM: Final = "dim"
GOOD: Final = "bold green"
BAD: Final = "bold red"
DOUBT: Final = "bold yellow"
HEAD: Final = "bold"


class Output:
    """Prints to standard output, and notes to standard error. NO_COLOR is respected."""

    def __init__(self, *, json: bool = False, out: TextIO | None = None, notes: TextIO | None = None) -> None:
        self.json = json
        self._out = _console(out or sys.stdout)
        self._notes = _console(notes or sys.stderr)

    def line(self, *parts: Part) -> None:
        """Print one line for people."""
        self._out.print(_text(parts), soft_wrap=True)

    def note(self, *parts: Part) -> None:
        """Print one line beside the output, for people too."""
        self._notes.print(_text(parts), soft_wrap=True)

    def value(self, value: Mapping[str, object]) -> None:
        """Print one JSON object."""
        self._out.file.write(orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode() + "\n")
        self._out.file.flush()

    def message(self, message: Message) -> None:
        """Print one message of the contract as JSON, in the form that protobuf defines."""
        self._out.file.write(orjson.dumps(MessageToDict(message)).decode() + "\n")
        self._out.file.flush()

    def table(self, heads: Sequence[str], rows: Iterable[Sequence[Part]]) -> None:
        """Print a table without lines, the columns only as wide as they have to be."""
        table = Table(*heads, box=None, pad_edge=False, header_style=HEAD)
        for row in rows:
            table.add_row(*(_text([cell]) for cell in row))
        self._out.print(table)


def printable(text: str) -> str:
    """Return a text that others wrote without what a terminal would act on."""
    return "".join(char if char.isprintable() else "?" for char in text)


def _console(stream: TextIO) -> Console:
    return Console(file=stream, highlight=False, markup=False, width=None if stream.isatty() else _ENDLESS)


def _text(parts: Iterable[Part]) -> Text:
    text = Text()
    for part in parts:
        if isinstance(part, str):
            text.append(part)
        else:
            text.append(part[0], style=part[1])
    return text
