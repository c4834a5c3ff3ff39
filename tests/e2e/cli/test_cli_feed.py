"""The feed command: what a desktop read goes into the inspector's log, one body a line."""

from __future__ import annotations

import json

import pytest

from tests.support.watches import hold


def body(event):
    """What the gateway answers to the poll of a desktop."""
    return json.dumps({"message": "", "retcode": "0", "event": event})


READY = {"eventType": "AgentState_Ready", "workNo": "101", "content": None}


@pytest.fixture
async def read_elsewhere(simulator, called):
    """`called`, with inspector 101 signed in by a desktop that polls."""
    adopted = await called("adopt", "101", "--event-source", "none", QC_GUID=simulator.sign_in("101"))
    assert adopted.code == 0, adopted.err
    return called


async def test_each_line_is_a_body_and_what_was_logged_is_told(read_elsewhere, tmp_path):
    """A body that equals the one before is its repetition, unless the input has a name; the session shows its news."""
    lines = "\n".join((body(READY), "", body(hold(1)), body(hold(1)), body(None)))
    fed = await read_elsewhere("feed", "101", given=lines)
    assert (fed.code, fed.err) == (0, "")
    told = [line.rpartition("  ")[0] for line in fed.out.splitlines()]
    assert told == ["line 1  logged 1", "line 3  logged 1", "line 4  logged 0, 1 known before", "line 5  logged 0"]
    file = tmp_path / "bodies"
    file.write_text(f"{body(hold(2))}\n{body(hold(2))}\n")
    for logged in ([1, 1], [1, 1]):  # the first line comes after another one now: it is new
        named = await read_elsewhere("feed", "101", str(file), "--name", "desk", "--json")
        assert [one["logged"] for one in named.objects] == logged
    watched = await read_elsewhere("watch", "101", "--cursor", fed.out.split()[-1], "--once", "4", "--json")
    assert [one["event"]["eventType"] for one in watched.objects[1:]] == [hold(2)["eventType"]] * 4
    assert "idle since" in (await read_elsewhere("sessions", "101")).out


async def test_a_line_that_is_no_body_ends_it_and_is_named(read_elsewhere):
    """What stands before it is logged, and the advice says where to go on; so it is with one that no message takes."""
    ended = await read_elsewhere("feed", "101", given=f"{body(READY)}\n<html></html>\n{body(hold(1))}\n")
    assert (ended.code, len(ended.out.splitlines())) == (3, 1)
    assert "line 2: INVALID_ARGUMENT" in ended.err
    assert "go on at line 2" in ended.err
    ended = await read_elsewhere("feed", "101", given="x" * 200_001)
    assert (ended.code, ended.out) == (3, "")
    assert "line 1: a body has at most 200000 bytes" in ended.err


async def test_what_cannot_be_fed_is_said(signed_in, tmp_path):
    """A session that the adapter polls for, a file that is not there, and an input without a body."""
    ended = await signed_in("feed", "101", given=body(READY))
    assert ended.code == 3
    assert "EVENTS_READ_HERE" in ended.err
    assert "--event-source none" in ended.err
    ended = await signed_in("feed", "101", str(tmp_path / "none"))
    assert ended.code == 2
    assert "cannot be read" in ended.err
    ended = await signed_in("feed", "101", given="\n")
    assert (ended.code, ended.out) == (0, "")
    assert "no body" in ended.err
