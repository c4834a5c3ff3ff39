"""A server that was frozen wakes up and runs what lay in its connections: by then another one may be the master."""

from __future__ import annotations

import asyncio

from qc_adapter.events.notices import Notices
from qc_adapter.store.opening import open_link
from qc_adapter.store.script import Script

ECHO = Script.of("return ARGV[1]")


async def test_who_began_to_listen_to_a_silent_server_listens_anew_when_it_answers(own_redis_server, take):
    """The connection may lead to one that was replaced meanwhile: kept by it, what it tells would be heard."""
    link = open_link(own_redis_server.url, timeout_seconds=30.0)
    resumed = []
    notices = Notices(link, heard=lambda *_: None, resumed=lambda: resumed.append(True), always={"qc:wake"})
    await asyncio.gather(*(link.command("get", "PING") for _ in range(5)))  # connections that are left in the pool
    own_redis_server.freeze()
    asked = asyncio.create_task(link.script("echo", ECHO, "1"))
    await take.until(lambda: link.doubts)
    listening = asyncio.create_task(notices.run())
    try:
        await take.until(lambda: resumed)
        own_redis_server.thaw()
        assert await asked == b"1"
        await take.until(lambda: len(resumed) > 1)
    finally:
        own_redis_server.thaw()
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
        await link.close()


async def test_what_a_silent_server_tells_when_it_wakes_up_is_not_heard(own_redis_server, take):
    """Its notices are of things that are stored once more elsewhere: who was told of its silence listens anew first."""
    link = open_link(own_redis_server.url, timeout_seconds=30.0)
    heard, resumed = [], []
    notices = Notices(
        link, heard=lambda _, data: heard.append(data), resumed=lambda: resumed.append(True), always={"qc:wake"}
    )
    listening = asyncio.create_task(notices.run())
    try:
        await take.until(lambda: resumed)
        assert await link.script("echo", ECHO, "1") == b"1"
        own_redis_server.freeze()
        _, writer = await asyncio.open_connection("127.0.0.1", own_redis_server.port)
        writer.write(b"PUBLISH qc:wake ghost\r\n")
        await writer.drain()
        asked = asyncio.create_task(link.script("echo", ECHO, "2"))
        await take.until(lambda: link.doubts)
        own_redis_server.thaw()
        assert await asked == b"2"
        await take.until(lambda: len(resumed) > 1)
        with own_redis_server.client() as client:
            client.publish("qc:wake", "news")
        await take.until(lambda: heard and heard[-1] == b"news")
        assert heard == [b"news"]
        writer.close()
    finally:
        own_redis_server.thaw()
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
        await link.close()
