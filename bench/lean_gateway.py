"""
A gateway that costs next to nothing, for measuring the adapter: it accepts every command and holds every poll.

It reads only the first line of a request and checks nothing; the simulator is the faithful one. One timer ends all
holds that are over, so that a held poll has none of its own.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import deque
from typing import TYPE_CHECKING, Final, cast

if TYPE_CHECKING:
    from collections.abc import Callable

HOLD_SECONDS: Final = 10.0
#: Inspectors from this one on get no events of their intercepts: for commands that are measured without them.
QUIET_FROM: Final = 40_000
#: What the call id of an event begins with that tells when it was written: nanoseconds of the monotonic clock, which is
#: the same for all processes of a machine.
STAMP: Final = b"stamp-"
STAMP_DIGITS: Final = 20
#: Holds that end within it are ended together; a real gateway ends each by itself.
_HOLD_GRAIN_SECONDS: Final = 0.002
_TELL_GRAIN_SECONDS: Final = 0.001
_TALKING: Final = b"AgentEvent_Talking"
_RECORD: Final = b"AgentMediaEvent_Record"
_HEAD: Final = b"HTTP/1.1 200 OK\r\nContent-Type: application/json;charset=UTF-8\r\nContent-Length: "
_EVENT: Final = b'{"message":"","retcode":"0","event":{"eventType":"%b","workNo":"%b","content":{"callid":"%b",%b}}}'
_CALL: Final = b'"caller":"13800000000","called":"70092","callFeature":0'


def _reply(body: bytes) -> bytes:
    return b"%s%d\r\n\r\n%s" % (_HEAD, len(body), body)


_EMPTY: Final = _reply(b'{"message":"","retcode":"0"}')


def _event(agent_id: bytes, kind: bytes, call_id: bytes) -> bytes:
    """Return the reply that brings an event; without a call id it is stamped, as one that is written now."""
    named = call_id or b"%b%0*d" % (STAMP, STAMP_DIGITS, time.monotonic_ns())
    more = b'"recordID":"record-%b","agentid":"%b","currentTime":0' % (named, agent_id) if kind == _RECORD else _CALL
    return _reply(_EVENT % (kind, agent_id, named, more))


class LeanGateway:
    """The inspectors' events, the polls that wait for them, and what was counted."""

    def __init__(self, hold_seconds: float = HOLD_SECONDS, quiet_from: int = QUIET_FROM) -> None:
        self._hold_seconds = hold_seconds
        self._quiet_from = quiet_from
        #: Kinds and call ids of what the next polls of an inspector bring.
        self._waiting: dict[bytes, deque[tuple[bytes, bytes]]] = {}
        #: Whose last poll is held, and whose hold ends next; entries of polls that had an event stay until then.
        self._held: dict[bytes, Connection] = {}
        self._ends: deque[tuple[Connection, float]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._connections: set[Connection] = set()
        self._opened: list[float] = []
        self._numbers = itertools.count(1)
        self._telling: asyncio.Task[None] | None = None
        self._told = self._commands = self._polls = 0

    def counts(self) -> dict[str, int]:
        """What was counted so far, how many events nobody has taken yet, and how many polls are held."""
        return {
            "commands": self._commands,
            "polls": self._polls,
            "waiting": sum(map(len, self._waiting.values())),
            "held": len(self._held),
        }

    def opened(self) -> list[float]:
        """When connections were opened since this was asked last, on the monotonic clock."""
        opened, self._opened = self._opened, []
        return opened

    def came(self, connection: Connection) -> None:
        """Note a connection."""
        self._connections.add(connection)
        self._opened.append(time.monotonic())

    def went(self, connection: Connection) -> None:
        """Forget a connection, and a poll that it held."""
        self._connections.discard(connection)
        self._let_go(connection)

    def cut(self) -> None:
        """Break all connections off."""
        for connection in tuple(self._connections):
            connection.cut()

    def command(self, line: bytes) -> None:
        """Take a command that was accepted: an intercept brings the inspector its two events."""
        self._commands += 1
        if b"/intercept/" not in line:
            return
        agent_id = line.partition(b"/qualitycontrol/")[2].partition(b"/")[0]
        if int(agent_id) < self._quiet_from:
            call_id = b"1456401416-%d" % next(self._numbers)
            self._tell(agent_id, _TALKING, call_id)
            self._tell(agent_id, _RECORD, call_id)

    def poll(self, agent_id: bytes, connection: Connection) -> None:
        """Answer with the oldest event, or hold."""
        self._polls += 1
        if waiting := self._waiting.get(agent_id):
            connection.send(_event(agent_id, *waiting.popleft()))
            return
        until = time.monotonic() + self._hold_seconds
        connection.polls_for, connection.held_until = agent_id, until
        self._held[agent_id] = connection
        self._ends.append((connection, until))
        if self._timer is None:
            self._end_later(self._hold_seconds)

    def _let_go(self, connection: Connection) -> None:
        connection.held_until = 0.0
        if self._held.get(connection.polls_for) is connection:  # several clients may poll for one inspector
            del self._held[connection.polls_for]

    def _end_later(self, seconds: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(max(seconds, _HOLD_GRAIN_SECONDS), self._end_holds)

    def _end_holds(self) -> None:
        ends, now = self._ends, time.monotonic()
        while ends and ends[0][1] <= now:
            connection, until = ends.popleft()
            if connection.held_until == until:
                self._let_go(connection)
                connection.send(_EMPTY)
        self._timer = None
        if ends:
            self._end_later(ends[0][1] - now)

    def _tell(self, agent_id: bytes, kind: bytes, call_id: bytes = b"") -> None:
        """Give an event to the poll that waits, or to the next one."""
        connection = self._held.get(agent_id)
        if connection is None:
            self._waiting.setdefault(agent_id, deque()).append((kind, call_id))
        else:
            self._let_go(connection)
            connection.send(_event(agent_id, kind, call_id))

    def tell_one(self, agent_id: str) -> bool:
        """Tell one event to an inspector whose poll is held; False if it is not."""
        if (told := agent_id.encode()) not in self._held:
            return False
        self._tell(told, _TALKING)
        return True

    def tell(self, kind: str, per_second: str, first: str, count: str) -> bool:
        """Tell so many events of that kind a second until `quiet`, to `count` inspectors in turn from `first` on."""
        agents = itertools.cycle([b"%d" % number for number in range(int(first), int(first) + int(count))])

        def some(due: int) -> int:
            for _ in range(due):
                self._tell(next(agents), kind.encode())
            return due

        return self._begin(float(per_second), some)

    def tell_held(self, per_second: str, but: str) -> bool:
        """Do so to those only whose poll has been held longest, and not to the inspector `but`."""
        spared = but.encode()

        def some(due: int) -> int:
            longest = itertools.islice(self._held, due + 1)
            ready = [agent_id for agent_id in longest if agent_id != spared][:due]
            for agent_id in ready:
                self._tell(agent_id, _TALKING)
            return len(ready)

        return self._begin(float(per_second), some)

    def quiet(self) -> int:
        """Tell no more; return how many were told since it began."""
        if self._telling is not None:
            self._telling.cancel()
            self._telling = None
        return self._told

    def _begin(self, per_second: float, some: Callable[[int], int]) -> bool:
        self.quiet()
        self._told = 0
        self._telling = asyncio.create_task(self._tell_steadily(per_second, some))
        return True

    async def _tell_steadily(self, per_second: float, some: Callable[[int], int]) -> None:
        began = time.monotonic()
        while True:
            self._told += some(int((time.monotonic() - began) * per_second) - self._told)
            await asyncio.sleep(_TELL_GRAIN_SECONDS)


class Connection(asyncio.Protocol):
    """One connection; requests come one after the other, and each fits into one read."""

    __slots__ = ("_gateway", "_transport", "held_until", "polls_for")

    def __init__(self, gateway: LeanGateway) -> None:
        self._gateway = gateway
        self._transport: asyncio.Transport | None = None
        #: Whom the last poll was for, and until when it is held; 0 if it is answered.
        self.polls_for = b""
        self.held_until = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by type
        self._gateway.came(self)

    def connection_lost(self, _cause: Exception | None) -> None:
        """Forget the transport, and what was held."""
        self._transport = None
        self._gateway.went(self)

    def data_received(self, data: bytes) -> None:
        """Take a whole request."""
        line = data[: data.index(b" HTTP/")]
        if line.startswith(b"GET "):
            self._gateway.poll(line[line.rindex(b"/") + 1 :], self)
        else:
            self.send(_EMPTY)
            self._gateway.command(line)

    def send(self, reply: bytes) -> None:
        """Send a reply."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(reply)

    def cut(self) -> None:
        """Break off at once."""
        if self._transport is not None:
            self._transport.abort()
