"""What no figure of the streams says by itself."""

from __future__ import annotations

from typing import Final

BEFORE: Final = """
Readers: prepared frames on plain sockets in a process of their own, 1,000 streams a connection, as many as a connection
may have. The adapter runs as `serve` does, with its store in memory; events come from a stub of a gateway that answers
held polls, and each says when it was made. The **empty server** is a grpc.aio handler that writes bytes which were made
before: what is left of a figure there is the library's.

* Idle streams follow 1,000 inspectors, up to ten each, all opened at once: their bookmarks come in a bunch too.
* Memory is what the process has grown by, divided by the streams, after a few hundred of them have come and gone.
* One event to 1,000 streams: the adapter polls, reads, translates and logs it; then a thousand messages are written.
* Slow readers let the first messages of a stream through and then take no more.
* At a steady rate each inspector has a stream of its own and, at 1,000 a second, an event every second: each of them is
  a poll that is answered and another that is begun.
"""

AFTER: Final = """
An idle stream is mostly the library's, as the memory of the empty server's shows. A slow reader keeps one message in
the library and its place in the log, whatever happens; when the log has dropped what it has not read, it is told so
with the cursor where it stopped.

An event is translated once, when it is read, and its message is built once for all streams that follow the inspector.
Streams are woken 50 at a time, so that other calls have their turn before the last of a thousand is served. One timer
wakes all idle streams; a bookmark comes up to a quarter of a second early.

The time from reading to writing is as the adapter counts it (`qc_event_delivery_seconds`); its p99 lies between two
bounds of that histogram, and one of them is at 5 ms. What the table has beyond it is the way from the stub to the
adapter and on to the reader: three processes, and whatever else the machine does at that time. How long the adapter was
ready to run and had no core in the same windows stands beside it, as the scheduler counts it.
"""
