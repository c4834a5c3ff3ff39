"""Outermost, beside the wire: carries pushes to the callbacks; the only place that opens connections."""

from __future__ import annotations

import asyncio
import logging
import ssl
from typing import TYPE_CHECKING, Any

import aiohttp
import orjson

from qc_adapter.simulator.certificates import client_context

if TYPE_CHECKING:
    from qc_adapter.simulator.push import Parcel, Pushing
    from qc_adapter.simulator.settings import SimulatorSettings

_log = logging.getLogger(__name__)


class Courier:
    """Posts parcels; each of them is a task of its own until its answer is there."""

    def __init__(self, settings: SimulatorSettings, pushing: Pushing) -> None:
        self._settings = settings
        self._pushing = pushing
        self._session: aiohttp.ClientSession | None = None
        self._under_way: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Be ready to carry."""
        trust = await asyncio.to_thread(client_context, self._settings.push_ca_file)
        if self._settings.push_trust_all:
            trust.check_hostname, trust.verify_mode = False, ssl.CERT_NONE
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=5, ssl=trust),
            timeout=aiohttp.ClientTimeout(total=self._settings.push_timeout_seconds),
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        self._pushing.carry = self._carry

    async def stop(self) -> None:
        """Drop what is under way and close the connections."""
        self._pushing.carry = None
        for task in self._under_way:
            task.cancel()
        if self._under_way:
            await asyncio.wait(tuple(self._under_way))
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _carry(self, parcel: Parcel) -> None:
        task = asyncio.create_task(self._deliver(parcel), name=f"push to {parcel.line.agent_id}")
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def _deliver(self, parcel: Parcel) -> None:
        accepted = False
        try:
            await _wait(parcel, after=False)
            if not any(fault.action == "reset_before" for fault in parcel.faults):
                accepted = await self._post(parcel)
            await _wait(parcel, after=True)
            if any(fault.action == "reset_after" for fault in parcel.faults):
                accepted = False
        except (aiohttp.ClientError, OSError, ValueError, TimeoutError) as error:
            _log.debug("push to %s failed: %s", parcel.line.agent_id, type(error).__name__)
        self._pushing.came_back(parcel, accepted=accepted)

    async def _post(self, parcel: Parcel) -> bool:
        if self._session is None:
            return False
        headers = {
            "Content-Type": "application/json; charset=UTF-8",
            "Guid": parcel.guid,
            "service_token": parcel.line.token,
        }
        async with self._session.post(
            parcel.line.callback, data=parcel.body, headers=headers, allow_redirects=False
        ) as reply:
            return reply.status == 200 and _is_success(await reply.read())


def _is_success(body: bytes) -> bool:
    """Judge an answer: its retcode is 0, as text or as a number."""
    value: Any = orjson.loads(body)
    code = value.get("retcode") if isinstance(value, dict) else None
    return code == "0" or (isinstance(code, int) and not isinstance(code, bool) and code == 0)


async def _wait(parcel: Parcel, *, after: bool) -> None:
    for fault in parcel.faults:
        if fault.action == "delay" and fault.after is after:
            await asyncio.sleep(fault.seconds)
