"""
Polls that brought nothing, of many inspectors in one script.

Nine of ten polls bring nothing, and all that is to be done then is to renew the lease and to see that everything is as
it was. Nobody waits for that: the next poll goes out after a pause anyway.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from qc_adapter.events.log_scripts import QUIET
from qc_adapter.model.errors import StoreUnavailable

if TYPE_CHECKING:
    from qc_adapter.store.link import RedisLink

#: So long others are waited for: a tenth of the pause between two polls.
_GATHERING_SECONDS: Final = 0.02
#: A script must not keep Redis from the others for long.
_MOST_AT_ONCE: Final = 200

_Asked = tuple[str, str, str, asyncio.Future[bool]]


class QuietPolls:
    """Gathers what readers say of polls that brought nothing."""

    def __init__(self, link: RedisLink, lease_ms: int) -> None:
        self._link = link
        self._lease_ms = lease_ms
        #: By the store that the leases are of.
        self._gathered: dict[str, list[_Asked]] = {}

    async def renew(self, store: str, agent_id: str, holder: str, likeness: str) -> bool:
        """
        Renew a lease if it is held by that holder, and record and log are what they were named after.

        False where something is different; raises `StoreUnavailable`.
        """
        loop = asyncio.get_running_loop()
        renewed: asyncio.Future[bool] = loop.create_future()
        gathered = self._gathered.setdefault(store, [])
        gathered.append((agent_id, holder, likeness, renewed))
        if len(gathered) == 1:
            loop.call_later(_GATHERING_SECONDS, self._send, store)
        elif len(gathered) == _MOST_AT_ONCE:
            self._send(store)
        return await renewed

    def _send(self, store: str) -> None:
        gathered = self._gathered.pop(store, None)
        if not gathered:
            return
        arguments = [part for one in gathered for part in one[:3]]
        try:
            asked = self._link.begin("step", QUIET, store, self._lease_ms, *arguments)
        except StoreUnavailable as failure:
            _fail(gathered, failure)
        else:
            asked.add_done_callback(lambda done: _tell(gathered, done))


def _tell(gathered: list[_Asked], asked: asyncio.Task[list[int]]) -> None:
    """Tell each reader what became of its lease; one that went away has cancelled its question."""
    if asked.cancelled():
        for _, _, _, renewed in gathered:
            renewed.cancel()  # each with an error of its own: what is raised holds on to the frames that it passes
        return
    failure = asked.exception()
    if isinstance(failure, StoreUnavailable) and failure.wrong_type:
        answers = [0] * len(gathered)  # of one of them: each finds out with a step of its own
    elif failure is not None:
        _fail(gathered, failure)
        return
    else:
        answers = asked.result()
    for (_, _, _, renewed), told in zip(gathered, answers, strict=True):
        if not renewed.done():
            renewed.set_result(bool(told))


def _fail(gathered: list[_Asked], failure: BaseException) -> None:
    for _, _, _, renewed in gathered:
        if not renewed.done():
            renewed.set_exception(failure.afresh() if isinstance(failure, StoreUnavailable) else failure)
