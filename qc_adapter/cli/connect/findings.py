"""What is found: how bad it is, and what to change; each look ends in time, and keeps what it had found until then."""

from __future__ import annotations

import asyncio
import socket
import threading
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

LOOK_SECONDS: Final = 5.0
#: So long an address that drops packets may keep the next one of the same name waiting; serve waits for none.
_ADDRESS_SECONDS: Final = 1.0
#: What a name resolves to, as sockets take it.
Addresses = list[tuple[socket.AddressFamily, Any]]


class Level(StrEnum):
    """Only a problem keeps the adapter from its work."""

    GOOD = "good"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found; `change` is empty when nothing has to be done."""

    part: str
    level: Level
    text: str
    change: str = ""


class Findings:
    """What one look has found so far."""

    def __init__(self, part: str) -> None:
        self.part = part
        self.all: list[Finding] = []
        self.doing = ""
        self.change = ""

    def begin(self, doing: str, change: str) -> None:
        """Note what is tried now, and what to change if nothing comes back."""
        self.doing, self.change = doing, change

    def good(self, text: str) -> None:
        """Add what is well."""
        self.all.append(Finding(self.part, Level.GOOD, text))

    def warning(self, text: str, change: str) -> None:
        """Add what works and should not stay so."""
        self.all.append(Finding(self.part, Level.WARNING, text, change))

    def problem(self, text: str, change: str) -> None:
        """Add what does not work."""
        self.all.append(Finding(self.part, Level.PROBLEM, text, change))


async def bounded(part: str, look: Callable[[Findings], Awaitable[None]]) -> list[Finding]:
    """Return what the look found; when its time is over, what it was at is a problem."""
    findings = Findings(part)
    try:
        async with asyncio.timeout(LOOK_SECONDS):
            await look(findings)
    except TimeoutError:
        findings.problem(f"{findings.doing}: no answer within {LOOK_SECONDS:g} s", findings.change)
    except Exception as defect:  # noqa: BLE001 - the other looks are worth their output; the text may hold anything
        findings.problem(f"{findings.doing}: the check failed with {type(defect).__name__}", "please report it")
    return findings.all


async def resolved(host: str, port: int) -> Addresses:
    """
    Return the addresses of a host; raises `OSError`.

    A thread of our own asks: the loop waits at its end for its own ones, and a name server may be silent for long.
    """
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[Addresses] = loop.create_future()

    def settle(found: Addresses | OSError) -> None:
        if answer.done():
            return
        if isinstance(found, OSError):
            answer.set_exception(found)
        else:
            answer.set_result(found)

    def ask() -> None:
        found: Addresses | OSError
        try:
            infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            found = [(family, address) for family, _, _, _, address in infos]
        except (OSError, UnicodeError) as error:  # a label of more than 63 characters is no Unicode for Python
            found = error if isinstance(error, OSError) else OSError("no host name")
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle, found)

    threading.Thread(target=ask, name=f"resolve {host}", daemon=True).start()
    return await answer


async def connected(addresses: Addresses) -> socket.socket:
    """Return a connection to the first address that takes one; raises the last `OSError`."""
    loop = asyncio.get_running_loop()
    failure = OSError("there is no address")
    for number, (family, address) in enumerate(addresses, start=1):
        connection = socket.socket(family, socket.SOCK_STREAM)
        connection.setblocking(False)
        try:
            async with asyncio.timeout(_ADDRESS_SECONDS if number < len(addresses) else None):
                await loop.sock_connect(connection, address)
        except OSError as error:
            connection.close()
            failure = error
        except BaseException:
            connection.close()
            raise
        else:
            return connection
    raise failure
