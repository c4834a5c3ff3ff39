"""What tests of whole sites look at: conditions, log lines, and what is left over in the process."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import socket
import stat
import time
from collections import Counter
from pathlib import Path

import grpc
import orjson
import structlog

from qc_adapter.telemetry import logs

PATIENCE_SECONDS = 15.0
#: Tasks that come and go by themselves in an idle site: connections, polls, looks at the store.
RESTLESS = (
    "RequestHandler.start",
    "RequestHandler._handle_request",
    "ScriptedGateway._serve",
    "Wire._serve",
    "Wire._pump",
    "RedisLink._bounded",
    "Turns._finish_later",
    "Reader.run",
)
_FILES = Path("/dev/fd")


async def until(condition, what="the condition"):
    """Wait until something is true."""
    ends = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < ends, f"{what} never came true"
        await asyncio.sleep(0.005)


class Tape(io.BytesIO):
    """All log lines of a test."""

    #: What is logged only when something of our own is wrong.
    _DEFECTS = frozenset({"call_failed", "command_failed", "health_check_failed", "log_not_read", "look_failed",
                          "reader_failed"})  # fmt: skip

    @property
    def lines(self):
        """The log lines as they are read by machines."""
        return [orjson.loads(line) for line in self.getvalue().splitlines()]

    @property
    def defects(self):
        """The lines that speak of a defect of our own, or of a task that nobody awaited."""
        return [line for line in self.lines if line["event"] in self._DEFECTS or line.get("logger") == "asyncio"]

    def leaks(self, secrets, told):
        """Which of the secrets stand in the log or in what else was told."""
        told += self.getvalue().decode()
        return [secret for secret in secrets if secret in told]


@contextlib.contextmanager
def recorded():
    """Log to a tape, at the finest level."""
    made = Tape()
    logs.configure("debug", stream=made)
    # Loggers that remember their output would write to the tape of the first test for ever.
    structlog.configure(cache_logger_on_first_use=False)
    yield made
    logs.reset()


def kinds():
    """What tasks run, by the names of their coroutines."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    tasks = (getattr(task.get_coro(), "__qualname__", "") for task in others)
    return Counter(name for name in tasks if name not in RESTLESS)


def sockets():
    """How many sockets the process holds."""
    found = 0
    for number in [int(path.name) for path in _FILES.iterdir()]:
        with contextlib.suppress(OSError):
            found += stat.S_ISSOCK(os.fstat(number).st_mode)
    return found


def ends():
    """Between which addresses each socket of the process is."""
    found = []
    for number in [int(path.name) for path in _FILES.iterdir()]:
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(number)) as one:
            there = ""
            with contextlib.suppress(OSError):
                there = one.getpeername()
            found.append(f"{one.getsockname()} to {there}")
    return found


@contextlib.asynccontextmanager
async def leaving_nothing():
    """Afterwards tasks and sockets are what they were."""
    keeps_grpc_alive = grpc.aio.insecure_channel("127.0.0.1:1")
    tasks, sockets_before = asyncio.all_tasks(), sockets()
    yield
    me = asyncio.current_task()
    await until(lambda: not asyncio.all_tasks() - tasks - {me}, "no task is left")
    try:
        await until(lambda: sockets() <= sockets_before, "no socket is left")
    except AssertionError as failure:
        failure.add_note(f"there are {', '.join(ends())}; before there were {sockets_before}")
        raise
    await keeps_grpc_alive.close()
