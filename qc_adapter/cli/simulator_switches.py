"""From `--set NAME=VALUE` to the switches of the simulator; every problem is told at once."""

from __future__ import annotations

import builtins
import difflib
import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields
from types import NoneType
from typing import Any, Final, Literal, get_args, get_origin, get_type_hints

import orjson

from qc_adapter.cli.exits import CommandFailed, Exit
from qc_adapter.simulator import MistakeCodes, SimulatorSettings
from qc_adapter.simulator.switches import MEANINGS

#: These have options of their own, or are no plain values.
_ELSEWHERE: Final = frozenset({"host", "port", "tls_port", "tls_cert_file", "tls_key_file", "mistake_codes"})
_SWITCHES: Final[Mapping[str, Field[Any]]] = {
    one.name: one for one in fields(SimulatorSettings) if one.name not in _ELSEWHERE
}
_HINTS: Final[Mapping[str, Any]] = get_type_hints(SimulatorSettings)


def read_switches(texts: list[str]) -> dict[str, Any]:
    """Return the values by name; raises `CommandFailed`."""
    values: dict[str, Any] = {}
    problems = []
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or name not in _SWITCHES:
            near = difflib.get_close_matches(name, _SWITCHES, n=1)
            meant = f": did you mean {near[0]}?" if near else "; --switches lists what there is"
            problems.append(f"--set {text}: {'no such switch' if equals else 'must be NAME=VALUE'}{meant}")
            continue
        hint = _HINTS[name]
        read = _value(value, hint)
        if _fits(read, hint):
            values[name] = read
        else:
            choices = ", ".join(get_args(hint)) if get_origin(hint) is Literal else ""
            like = f"one of {choices}" if choices else f"like {_shown(_default(_SWITCHES[name]))}"
            problems.append(f"--set {text}: must be {like}")
    if problems:
        raise CommandFailed(Exit.USAGE, "\n  ".join(problems))
    return values


def switches_text() -> str:
    """Return every switch with its default."""
    return "\n".join(f"{name}={_shown(_default(one))}" for name, one in _SWITCHES.items())


def switches_markdown() -> str:
    """Return every switch as a Markdown table, for the documentation."""
    rows = [
        f"| `{one.name}` | {_cell(_default(one))} | {MEANINGS[one.name]}{_choices(_HINTS[one.name])} |"
        for one in fields(SimulatorSettings)
    ]
    return "\n".join(["| switch | default | meaning |", "| --- | --- | --- |", *rows]) + "\n"


def _cell(default: Any) -> str:
    shown = "" if isinstance(default, MistakeCodes) else _shown(default)
    return f"`{shown}`" if shown else ""


def _choices(hint: Any) -> str:
    return f" ({', '.join(f'`{one}`' for one in get_args(hint))})" if get_origin(hint) is Literal else ""


def _default(one: Field[Any]) -> Any:
    return one.default if one.default_factory is MISSING else one.default_factory()


def _value(text: str, hint: Any) -> Any:
    kinds, origin = get_args(hint), get_origin(hint)
    if origin is tuple:
        parts = [part.strip() for part in text.split(",") if part.strip()]
        return tuple(parts if kinds[0] is str else map(_json, parts))
    if hint is str or origin is Literal or (origin is types.UnionType and str in kinds):
        return None if text == "null" and NoneType in kinds else text
    return _json(text)


def _json(text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text


def _fits(value: Any, hint: Any) -> bool:
    kinds = get_args(hint)
    match get_origin(hint):
        case None if hint in (int, float):
            number = (int, float) if hint is float else int
            return isinstance(value, number) and not isinstance(value, bool)
        case None:
            return isinstance(value, hint)
        case typing.Literal:
            return value in kinds
        case builtins.tuple:
            endless = kinds[-1] is Ellipsis
            return (endless or len(value) == len(kinds)) and all(_fits(one, kinds[0]) for one in value)
        case types.UnionType:
            return any(_fits(value, one) for one in kinds)
        case _:
            return isinstance(value, Mapping)


def _shown(default: Any) -> str:
    if isinstance(default, tuple):
        return ",".join(map(str, default))
    return default if isinstance(default, str) else orjson.dumps(default).decode()
