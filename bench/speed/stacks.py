"""Folds the stacks that a sampling profiler saw into a few parts of the adapter."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

#: The innermost frame that fits one of these names the part. Which comes first counts only for one and the same frame.
PARTS: Final = tuple(
    (name, re.compile(pattern))
    for name, pattern in (
        ("records of commands", r"qc_adapter/audit/|rpc/audit\.py"),
        (
            "logs, metrics, traces",
            r"qc_adapter/telemetry/|rpc/(observers|call_traces)\.py|structlog/|prometheus_client/",
        ),
        ("rpc: chain around a call", r"rpc/(calls|gate|room|rights|callers|requests|revocation)\.py|/admission\.py"),
        ("rpc: services and messages", r"qc_adapter/rpc/"),
        ("commands", r"qc_adapter/(commands|model)/"),
        ("events: polls, log, hub", r"qc_adapter/events/"),
        ("sessions and store", r"qc_adapter/(sessions|store)/|/redis/|hiredis"),
        ("gateway: requests and replies", r"qc_adapter/gateway/"),
        ("HTTP library", r"aiohttp|httpx|httptools|llhttp|http_parser|http_writer|yarl|multidict|frozenlist"),
        ("JSON", r"orjson|/json/"),
        ("protobuf", r"google/protobuf|google/_upb|_message\.(abi3|cpython)|[uU]pb_"),
        ("garbage collection", r"gc_collect|gcmodule"),
        ("gRPC", r"/grpc/|cygrpc|grpc_core|grpc\._cython"),
        ("event loop", r"uvloop|uv_|UVStream|UVHandle|UVTimer|\(loop\.c|_asyncio|asyncio/"),
    )
)
OTHER: Final = "Python itself"
SYSTEM: Final = "system calls of all of them"
_SYSTEM_CALL: Final = re.compile(
    r"^(send\w*|recv\w*|readv?|writev?|epoll_\w+|syscall|eventfd_\w+|poll|futex\w*) \((\S*/)?lib"
)
_FUNCTION: Final = re.compile(r"^(\S+) \((\S+\.pyx?):\d+\)$")


def part_of(stack: Sequence[str]) -> str:
    """Return the part that a stack belongs to; it begins with the outermost frame."""
    if stack and _SYSTEM_CALL.match(stack[-1]):
        return SYSTEM
    for frame in reversed(stack):
        for name, pattern in PARTS:
            if pattern.search(frame):
                return name
    return OTHER


@dataclass(frozen=True, slots=True)
class Cost:
    """CPU of a call, and the part of it that the kernel took."""

    all_us: float
    system_us: float


@dataclass(slots=True)
class Folded:
    """Samples of each part, and of the functions in which they were taken."""

    samples: Counter[str] = field(default_factory=Counter)
    functions: dict[str, Counter[str]] = field(default_factory=dict)

    def add(self, stack: Sequence[str], samples: float) -> None:
        """Count a stack."""
        part = part_of(stack)
        self.samples[part] += samples
        functions = self.functions.setdefault(part, Counter())
        functions[_function(stack)] += samples

    def us(self, cost: Cost) -> dict[str, float]:
        """
        Return what each part has of the cost of a call.

        A thread that is stopped to be looked at is found in a system call more often than it is in one: how much of
        the whole they are is left to the kernel to say.
        """
        system = self.samples[SYSTEM]
        rest = (sum(self.samples.values()) - system) or 1
        system_us = cost.system_us if system else 0.0
        return {
            part: system_us if part == SYSTEM else count / rest * (cost.all_us - system_us)
            for part, count in self.samples.items()
        }

    def hottest(self, part: str, most: int = 3) -> str:
        """Return the functions of a part that most samples were taken in."""
        found = self.functions.get(part, Counter())
        found.pop("", None)
        return ", ".join(f"`{name}`" for name, _ in found.most_common(most))


def folded(lines: Iterable[str]) -> Folded:
    """Read the profiler's output: `frame;frame;frame number` on each line."""
    found = Folded()
    for line in lines:
        stack, _, samples = line.strip().rpartition(" ")
        if stack:
            found.add(stack.split(";"), int(samples))
    return found


def _function(stack: Sequence[str]) -> str:
    """Return the system call, else the innermost function of Python code."""
    if stack and (call := _SYSTEM_CALL.match(stack[-1])):
        return call[1]
    for frame in reversed(stack):
        if match := _FUNCTION.match(frame):
            return match[1].replace(".<locals>", "")
    return ""
