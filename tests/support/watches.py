"""What a watch says, in short."""

from __future__ import annotations


def hold(number, work_no="101"):
    """An event that nothing else brings, with a number to tell it from others."""
    return {"eventType": "AgentEvent_Hold", "workNo": work_no, "content": f"9-{number}"}


async def read(stream, count):
    """The next messages of a stream, without bookmarks."""
    found = []
    while len(found) < count:
        message = await stream.read()
        if not message.HasField("bookmark"):
            found.append(message)
    return found


def told(messages):
    """What messages of a watch say, in short."""
    return [
        one.event.content.string_value or one.event.event_type if one.HasField("event") else one.WhichOneof("update")
        for one in messages
    ]


async def until_told(stream, what):
    """Read a watch up to and with a message that says that; returns what was read."""
    found = []
    while not found or told(found[-1:]) != [what]:
        found += await read(stream, 1)
    return found
