"""Reads environment variables, all of them before it complains; `settings` says which there are."""

from __future__ import annotations

import difflib
import ipaddress
import math
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

T = TypeVar("T")

PREFIX = "QC_"
HIDDEN = "<hidden>"

# Greedy on purpose: a password may hold an unescaped '@' or '/'.
_USER_INFO = re.compile(r"://.*@")
# What Kubernetes sets for a Service whose name begins with qc-.
_SERVICE_LINK = re.compile(r"QC_\w+_(SERVICE_HOST|SERVICE_PORT\w*|PORT_\d+_(TCP|UDP)\w*)")


@dataclass(frozen=True, slots=True)
class Variable(Generic[T]):
    """
    One setting. `default` is text like a set value; an empty one stands for "not set".

    `parse` raises `ValueError` with a phrase that goes on after the variable's name. A secret one may also be read
    from the file that NAME_FILE names, and only its harmless part is shown.
    """

    name: str
    default: str
    meaning: str
    parse: Callable[[str], T]
    secret: bool = False


@dataclass(frozen=True, slots=True)
class SettingsProblem:
    """What is wrong with a variable, and what to do. `shown` is its value without secrets."""

    variable: str
    shown: str
    what: str

    def __str__(self) -> str:
        return f"{self.variable}={self.shown}: {self.what}" if self.shown else f"{self.variable}: {self.what}"


@dataclass(frozen=True, slots=True)
class SettingRow:
    """A setting as `qc-adapter check` and the documentation show it."""

    variable: str
    value: str
    default: str
    meaning: str


class InvalidSettings(Exception):
    """The settings cannot be used; names every problem at once."""

    def __init__(self, problems: Iterable[SettingsProblem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


class Reading:
    """One pass over the environment that collects the problems."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self.problems: list[SettingsProblem] = []

    def value(self, variable: Variable[T]) -> T:
        """Return the parsed value; after a problem the default, so that the other variables are read as well."""
        text = self.text(variable)
        try:
            return variable.parse(text)
        except ValueError as error:
            shown = HIDDEN if variable.secret else shown_value(text)
            self._note(SettingsProblem(variable.name, shown, str(error)))
            return variable.parse(variable.default)

    def text(self, variable: Variable[Any]) -> str:
        """Return the value as it was set, from the file if it is in one, or the default."""
        text = self._environment.get(variable.name, "").strip()
        path = self._environment.get(f"{variable.name}_FILE", "").strip() if variable.secret else ""
        if path and text:
            self.complain(f"{variable.name}_FILE", path, f"{variable.name} is set too: set one of them")
        elif path:
            try:
                text = Path(path).read_text(encoding="utf-8").strip()
            except (OSError, UnicodeDecodeError) as error:
                self.complain(f"{variable.name}_FILE", path, f"cannot be read ({type(error).__name__})")
        return text or variable.default

    def complain(self, variable: str, shown: str, what: str) -> None:
        """Note a problem."""
        self._note(SettingsProblem(variable, shown_value(shown), what))

    def _note(self, problem: SettingsProblem) -> None:
        # A variable may be read more than once; its problem is told once.
        if problem not in self.problems:
            self.problems.append(problem)

    def sound(self, *variables: Variable[Any]) -> bool:
        """Say whether none of these has a problem, so that they can be compared with each other."""
        bad = {problem.variable.removesuffix("_FILE") for problem in self.problems} | {
            problem.variable for problem in self.problems
        }
        return not any(variable.name in bad for variable in variables)

    def row(self, variable: Variable[Any]) -> SettingRow:
        """Return the setting as it may be shown."""
        text = self.text(variable)
        shown = shown_value(text)
        if variable.secret and text:
            # Of an address all but the credentials may be seen; a key or token is a secret as a whole.
            try:
                variable.parse(text)
            except ValueError:
                shown = HIDDEN
            else:
                shown = shown if "://" in text else HIDDEN
        return SettingRow(variable.name, shown, variable.default, variable.meaning)


def shown_value(text: str) -> str:
    """Return the value as it may be shown: an address without user and password, one line, not endless."""
    visible = _USER_INFO.sub(f"://{HIDDEN}@", text)
    return "".join(char if char.isprintable() else "?" for char in visible[:200])


def unknown_variables(
    environment: Mapping[str, str], known: Iterable[str], advice: Callable[[str], str] = lambda _: ""
) -> list[str]:
    """Return a sentence for each QC_ variable that means nothing, with advice or the one that was probably meant."""
    names = sorted(known)
    found = []
    for name in sorted(environment):
        if not name.startswith(PREFIX) or name in names or _SERVICE_LINK.fullmatch(name):
            continue
        if name.endswith("_PORT") and environment[name].startswith(("tcp://", "udp://")):
            continue  # a service link as well
        near = difflib.get_close_matches(name, names, n=1)
        meant = advice(name) or (f"did you mean {near[0]}?" if near else "")
        found.append(f"{name} is not a setting" + (f": {meant}" if meant else " and is ignored"))
    return found


@dataclass(frozen=True, slots=True)
class Listen:
    """Where to listen; port 0 takes a free one."""

    host: str
    port: int

    @property
    def loopback(self) -> bool:
        """Whether only this machine can connect."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def listen(text: str) -> Listen:
    """Parse `host:port`, `[::1]:port` or `:port` for all interfaces."""
    host, colon, port = text.rpartition(":")
    if not colon or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise ValueError("must be host:port with a port from 0 to 65535, for example 127.0.0.1:50051")
    bracketed = host.startswith("[") and host.endswith("]")
    if (":" in host and not bracketed) or (bracketed and not _is_ipv6(host[1:-1])):
        raise ValueError("must have an IPv6 address in brackets, for example [::1]:50051")
    return Listen(host[1:-1] if bracketed else host or "0.0.0.0", int(port))


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


def listen_or_none(text: str) -> Listen | None:
    """Parse the same, or nothing."""
    return listen(text) if text else None


def seconds(text: str) -> float:
    """Parse a time above 0."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise ValueError("must be a number of seconds above 0")
    return value


def seconds_or_none(text: str) -> float:
    """Parse a time of 0 or more."""
    return 0.0 if text.strip() in {"0", "0.0"} else seconds(text)


def whole_number(low: int, high: int) -> Callable[[str], int]:
    """Return the parser for a whole number between the two."""

    def parse(text: str) -> int:
        if not (text.isascii() and text.isdigit()) or not low <= int(text) <= high:
            raise ValueError(f"must be a whole number from {low} to {high}")
        return int(text)

    return parse


def readable_file(text: str) -> str | None:
    """Parse the path of a file that can be read now, or nothing."""
    if not text:
        return None
    try:
        there = Path(text).is_file()
    except OSError:  # a name that is too long for one
        there = False
    if not there:
        raise ValueError("must name a file, and there is none")
    if not os.access(text, os.R_OK):
        raise ValueError("must name a file that this process may read")
    return text


def flag(text: str) -> bool:
    """Parse 1 or 0."""
    if text.lower() in {"1", "true", "yes"}:
        return True
    if text.lower() in {"", "0", "false", "no"}:
        return False
    raise ValueError("must be 1 or 0")
