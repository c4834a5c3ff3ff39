"""Audit records made by hand, and what a look through them finds."""

from __future__ import annotations

import io

from qc_adapter.audit.chain import Chain
from qc_adapter.audit.record import BEGAN, ENDED, key_name
from qc_adapter.audit.verify import Verifier

KEY = b"k" * 32


def chained(count, key=b"", *, follows="", replica="one", chain=None):
    """The lines of a whole chain with so many records between its first and its last."""
    chain = chain or Chain(key, replica)
    time = {"time": "2026-01-01T00:00:00.000Z"}
    lines = [chain.add({"event": BEGAN, "version": "1", "key": key_name(key), "follows": follows, **time})]
    lines += [chain.add({"event": "command", "agent_id": "101", "duration_ms": n / 8, **time}) for n in range(count)]
    return [*lines, chain.add({"event": ENDED, **time})]


def judged(*files, key=b"", head="", after=""):
    """What is found in files, each given as its lines or its bytes."""
    verifier = Verifier(key, head=head, after=after)
    for number, lines in enumerate(files, start=1):
        content = lines if isinstance(lines, bytes) else b"".join(line + b"\n" for line in lines)
        verifier.read(f"file {number}", io.BytesIO(content))
    return verifier.finish()


def kinds(found):
    """The kinds of breaks that were found."""
    return sorted(found.counts)
