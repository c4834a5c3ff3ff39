"""
Remembers commands by their request id for all replicas, so that a repetition elsewhere joins and does not send.

A command is entered before it is sent. From then on it may have been sent, whatever becomes of the replica: a
repetition never sends it again unless the first replica says that nothing went out.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, Protocol

import structlog

from qc_adapter.events.stored import call_ids, to_call_ids
from qc_adapter.model.deadline import Deadline
from qc_adapter.model.errors import NOTHING_SEEN, GatewayRefused, Seen, StoreUnavailable
from qc_adapter.store import keys
from qc_adapter.store.script import Script

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from qc_adapter.commands.model import Command
    from qc_adapter.commands.run import CommandRun
    from qc_adapter.store.generation import Generation
    from qc_adapter.store.link import RedisLink

KEEP_SECONDS: Final = 600.0
#: Beyond the time for the gateway's reply: until the result is written down.
_SPARE_SECONDS: Final = 5.0
_RETRY_SECONDS: Final = 0.5
_RETRIED_SECONDS: Final = 60.0
#: Longer than a script that was given up can lie in a connection.
_VOID_MS: Final = 60_000

_PRELUDE: Final = f"""
local key, void = '{keys.COMMAND}' .. ARGV[1], {_VOID_MS}
local STORE, RELEARNING = '{keys.STORE}', '{keys.RELEARNING}'
local call = redis.call
local t = call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local function whole(number) return string.format('%.0f', number) end
local function told()
  local found = call('HMGET', key, 'fingerprint', 'state', 'epoch', 'position', 'talking', 'retcode', 'text',
    'received_at', 'owner', 'until', 'settled_at', 'witness', 'seen')
  if not found[1] then return {{}} end
  local seen = tonumber(call('ZSCORE', '{keys.REPLICAS}', found[9]) or
    call('ZSCORE', '{keys.DEPARTING}', found[9]) or '0')
  local waiting = seen > now and tonumber(found[10]) > now
  return {{found[1], found[2], found[3], found[4], found[5], found[6], found[7], found[8], waiting and 1 or 0,
    whole(now - tonumber(found[11] or whole(now))), found[12], found[13]}}
end
"""

# ARGV: agent and request id, nonce, fingerprint, owner, epoch, position, talking, ms for sending, ms to keep, name of
# the store as known or nothing, cursor in the log of the inspected agent or nothing. Returns nothing when the entry is
# ours, else what stands there, or "relearning".
_TAKE: Final = Script.of(
    _PRELUDE
    + """
if ARGV[10] ~= '' and (call('GET', STORE) ~= ARGV[10] or call('EXISTS', RELEARNING) == 1) then
  return 'relearning'
end
local nonce, state = unpack(call('HMGET', key, 'nonce', 'state'))
if nonce == ARGV[2] then return false end
if nonce and state ~= 'void' then return told() end
call('HSET', key, 'nonce', ARGV[2], 'fingerprint', ARGV[3], 'owner', ARGV[4], 'epoch', ARGV[5], 'position', ARGV[6],
  'talking', ARGV[7], 'until', whole(now + ARGV[8]), 'state', 'sent', 'witness', ARGV[11])
call('PEXPIRE', key, ARGV[9])
return false
"""
)
_LOOK: Final = Script.of(_PRELUDE + "return told()")

# ARGV: agent and request id, nonce, then state, retcode, text, time of the receipt, what was seen of the inspector;
# without them the entry goes.
_SETTLE: Final = Script.of(
    _PRELUDE
    + """
local nonce = call('HGET', key, 'nonce')
if nonce and nonce ~= ARGV[2] then return 0 end
if #ARGV == 2 then
  -- The entry itself may still be on its way, on another connection: it must not stand there when it arrives.
  call('DEL', key)
  call('HSET', key, 'nonce', ARGV[2], 'state', 'void')
  return call('PEXPIRE', key, void)
end
if not nonce then return 0 end
return call('HSET', key, 'state', ARGV[3], 'retcode', ARGV[4], 'text', ARGV[5], 'received_at', ARGV[6],
  'settled_at', whole(now), 'seen', ARGV[7])
"""
)


class State(StrEnum):
    """What is known of a command that was entered."""

    SENT = "sent"
    ACCEPTED = "accepted"
    REFUSED = "refused"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Record:
    """
    A command that another call entered.

    `epoch` and `position` are where it began in the inspector's log, `talking` the calls before it. `waiting` says
    that the replica that sent it lives and still has time. `age_seconds` runs from the gateway's reply. `witness` is a
    cursor of the inspected agent's log, from which on events there count, and empty when they do not. `seen` is what
    the replica that sent it saw of the inspector when it was refused.
    """

    fingerprint: str
    state: State
    epoch: str
    position: int
    talking: frozenset[str]
    retcode: str
    text: str
    received_at: float
    waiting: bool
    age_seconds: float
    witness: str = ""
    seen: Seen = NOTHING_SEEN


class Ledger(Protocol):
    """The commands of all replicas that may be repeated; every method but `settle` raises `StoreUnavailable`."""

    async def take(self, run: CommandRun, deadline: Deadline) -> Record | None:
        """Enter a command that is about to be sent; return the record if it is there already."""
        ...

    async def look(self, run: CommandRun) -> Record | None:
        """Return the record as it is now, None if the command was not sent after all."""
        ...

    async def settle(self, run: CommandRun, state: State, retcode: str = "", text: str = "", at: float = 0.0) -> None:
        """Write down what became of it."""
        ...

    async def drop(self, run: CommandRun) -> None:
        """Write down that nothing was sent: a repetition is to run."""
        ...

    async def restore(self, run: CommandRun) -> None:
        """Enter a command again that may have been sent, because all entries were lost."""
        ...


class MemoryLedger:
    """For a single replica: its journal knows everything already."""

    async def take(self, run: CommandRun, deadline: Deadline) -> Record | None:  # noqa: ARG002
        """Return nothing: there is nobody else."""
        return None

    async def look(self, run: CommandRun) -> Record | None:  # noqa: ARG002
        """Return nothing."""
        return None

    async def settle(self, run: CommandRun, state: State, retcode: str = "", text: str = "", at: float = 0.0) -> None:
        """Do nothing."""

    async def drop(self, run: CommandRun) -> None:
        """Do nothing."""

    async def restore(self, run: CommandRun) -> None:
        """Do nothing."""


class RedisLedger:
    """The commands with a request id, each for ten minutes."""

    def __init__(self, link: RedisLink, replica: str, generation: Generation) -> None:
        self._link = link
        self._replica = replica
        self._generation = generation
        self._log = structlog.get_logger()

    async def take(self, run: CommandRun, deadline: Deadline) -> Record | None:
        """
        Enter the command, or find it; not while a Redis that lost everything may not know of it yet.

        Where Redis has replicas each of them has the entry too: a failover must not forget what is about to be sent.
        """
        seconds = min(deadline.remaining_seconds, _RETRIED_SECONDS) + _SPARE_SECONDS
        reply, copied = await self._enter(run, seconds, self._generation.name)
        if reply == b"relearning":
            raise StoreUnavailable("command", "it lost its data, and learns anew which commands were sent")
        if reply is not None:
            return _record(reply)
        if not copied:
            raise StoreUnavailable("command", "not all of its replicas noted the command in time")
        return None

    async def look(self, run: CommandRun) -> Record | None:
        """Read the record."""
        reply = await self._link.script("command", _LOOK, _name(run.command))
        return _record(reply) if reply else None

    async def settle(self, run: CommandRun, state: State, retcode: str = "", text: str = "", at: float = 0.0) -> None:
        """Write, and try again for a minute if the store is away."""
        seen = json.dumps(run.failure.seen) if isinstance(run.failure, GatewayRefused) else ""
        said = (state, retcode, text, at, seen)
        await self._persist(run, lambda: self._link.script("command", _SETTLE, _name(run.command), run.nonce, *said))

    async def drop(self, run: CommandRun) -> None:
        """Remove the entry, and try again for a minute if the store is away."""
        await self._persist(run, lambda: self._link.script("command", _SETTLE, _name(run.command), run.nonce))

    async def restore(self, run: CommandRun) -> None:
        """Enter the command as it is known here, unless it stands there already."""
        await self._enter(run, _SPARE_SECONDS, "")
        if run.accepted is not None:
            await self.settle(run, State.ACCEPTED, "0", run.accepted.message, run.accepted.received_at)
        elif isinstance(run.failure, GatewayRefused):
            await self.settle(run, State.REFUSED, run.failure.retcode, run.failure.text)
        elif run.answered:
            await self.settle(run, State.UNKNOWN)

    async def _enter(self, run: CommandRun, seconds: float, store: str) -> tuple[Any, bool]:
        epoch, position = run.feed.place(run.start if run.sent else run.feed.tail)
        talking = run.talking if run.sent else run.feed.talking
        return await self._link.script_copied(
            "command", _TAKE, _name(run.command), run.nonce, fingerprint(run.command), self._replica, epoch, position,
            to_call_ids(talking), int(seconds * 1000), int(KEEP_SECONDS * 1000), store, run.witness_cursor,
        )  # fmt: skip

    async def _persist(self, run: CommandRun, write: Callable[[], Awaitable[Any]]) -> None:
        life = Deadline.after(_RETRIED_SECONDS)
        while True:
            try:
                await write()
            except StoreUnavailable as failure:
                if life.over:
                    self._log.warning("command_not_recorded", method=run.command.method, detail=failure.message)
                    return
                await asyncio.sleep(_RETRY_SECONDS)
            else:
                return


def fingerprint(command: Command) -> str:
    """Return what tells commands apart, without telling what they are."""
    request = command.request
    parts = [command.method.encode(), request.path.encode(), request.query.encode(), request.body or b""]
    if command.part_of:
        parts.append(command.part_of.encode())
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def _name(command: Command) -> str:
    return f"{command.agent_id}:{command.request_id}"


def _record(reply: Any) -> Record:
    mark, state, epoch, position, talking, retcode, text, received_at, waiting, age_ms, witness, seen = reply
    return Record(
        mark.decode(),
        State(state.decode()),
        epoch.decode(),
        int(position),
        call_ids(talking.decode()),
        (retcode or b"").decode(),
        (text or b"").decode(),
        float(received_at or 0),
        bool(waiting),
        int(age_ms) / 1000,
        (witness or b"").decode(),
        Seen(*json.loads(seen)) if seen else NOTHING_SEEN,
    )
