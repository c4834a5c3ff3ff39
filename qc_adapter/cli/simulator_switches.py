"""From `--set NAME=VALUE` to the switches of the simulator; every problem is told at once."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields
from typing import Any, Final

import orjson

from qc_adapter.cli.exits import CommandFailed, Exit
from qc_adapter.simulator import SimulatorSettings

#: These have options of their own, or are no plain values.
_ELSEWHERE: Final = frozenset({"host", "port", "tls_port", "tls_cert_file", "tls_key_file", "mistake_codes"})
_SWITCHES: Final[Mapping[str, Field[Any]]] = {
    one.name: one for one in fields(SimulatorSettings) if one.name not in _ELSEWHERE
}


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
        default = _default(_SWITCHES[name])
        read = _value(value, default)
        if _fits(read, default):
            values[name] = read
        else:
            problems.append(f"--set {text}: must be like {_shown(default)}")
    if problems:
        raise CommandFailed(Exit.USAGE, "\n  ".join(problems))
    return values


def switches_text() -> str:
    """Return every switch with its default."""
    return "\n".join(f"{name}={_shown(_default(one))}" for name, one in _SWITCHES.items())


def _default(one: Field[Any]) -> Any:
    return one.default if one.default_factory is MISSING else one.default_factory()


def _value(text: str, default: Any) -> Any:
    if isinstance(default, tuple) and default and isinstance(default[0], float):
        return tuple(_json(part) for part in text.split(","))
    if isinstance(default, tuple):
        return tuple(part.strip() for part in text.split(",") if part.strip())
    return text if isinstance(default, str) else _json(text)


def _json(text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text


def _fits(value: Any, default: Any) -> bool:
    if default is None:
        return value is None or (isinstance(value, (int, float)) and not isinstance(value, bool))
    if isinstance(default, bool):
        return isinstance(value, bool)
    if isinstance(default, (int, float)):
        return isinstance(value, (int, float) if isinstance(default, float) else int) and not isinstance(value, bool)
    if isinstance(default, tuple):
        return all(_fits(one, default[0] if default else "") for one in value)
    return isinstance(value, Mapping if isinstance(default, Mapping) else type(default))


def _shown(default: Any) -> str:
    if isinstance(default, tuple):
        return ",".join(map(str, default))
    return default if isinstance(default, str) else orjson.dumps(default).decode()
