"""Child side of a load run: answers questions of the parent, one JSON line each, until the parent goes away."""

from __future__ import annotations

import asyncio
import inspect
import json
import sys
from collections.abc import Callable, Mapping
from typing import TypeAlias

Question: TypeAlias = Callable[..., object]


async def answer(questions: Mapping[str, Question]) -> None:
    """Read `name argument...` lines from standard input; the end of it is the order to stop."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    # The pipe's own end is kept open by sys.stdin; closing the transport is enough to leave the loop clean.
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    try:
        while line := await reader.readline():
            name, *arguments = line.decode().split()
            found = questions[name](*arguments)
            print(json.dumps(await found if inspect.isawaitable(found) else found), flush=True)
    finally:
        transport.close()
