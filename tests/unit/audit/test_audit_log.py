"""The audit log on real files: what is written, what is held when nothing can be, and how a file is taken up again."""

from __future__ import annotations

import contextlib
import os
import resource
from collections import Counter

import orjson
import pytest

from qc_adapter.audit.log import AuditLog
from qc_adapter.audit.output import File, Stream, output_to
from qc_adapter.model.errors import AuditUnavailable
from qc_adapter.model.session import NO_SECRET, Secret
from tests.support.chains import KEY, judged, kinds
from tests.support.watching import until


class Counted:
    """Counts what is told of records."""

    def __init__(self):
        self.outcomes = Counter()

    def audited(self, *, failed):
        self.outcomes["failed" if failed else "written"] += 1


@contextlib.contextmanager
def room_for(size):
    """Let no file of this process grow beyond that: what is written fails as on a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@contextlib.asynccontextmanager
async def logging(path, *, key=NO_SECRET, counts=None, **more):
    """An audit log, begun."""
    log = AuditLog(File(str(path)), key, counts or Counted(), replica="one", version="1.2.3", **more)
    log.start()
    try:
        yield log
    finally:
        await log.stop()


def events(path):
    """What the records of a file are."""
    return [orjson.loads(line)["event"] for line in path.read_bytes().splitlines()]


def command(number=1):
    """A record as the calls bring them."""
    return {"event": "command", "agent_id": "101", "work_no": str(number)}


@pytest.fixture
def path(tmp_path):
    """Where the records go."""
    return tmp_path / "audit.jsonl"


@pytest.mark.parametrize("key", [NO_SECRET, Secret(KEY.decode())], ids=["without a key", "with a key"])
async def test_a_chain_begins_and_ends_with_its_process(path, tape, key):
    """The first record says whose it is and what it follows, the last one that nothing is cut off."""
    async with logging(path, key=key) as log:
        log.add(command())
    first, _, last = map(orjson.loads, path.read_bytes().splitlines())
    assert (first["event"], first["version"], first["replica"], first["follows"]) == ("audit_began", "1.2.3", "one", "")
    assert last["event"] == "audit_ended"
    assert judged(path.read_bytes(), key=key.reveal().encode()).whole
    assert path.stat().st_mode & 0o777 == 0o600
    heads = [(line["seq"], line["hash"]) for line in tape.lines if line["event"] == "audit_head"]
    assert heads == [(0, first["hash"]), (2, last["hash"])]


async def test_the_next_process_follows_on_what_the_one_before_has_left(path, tape):
    """Its chain names the last record there, so that a removed chain shows."""
    for _ in range(3):
        async with logging(path) as log:
            log.add(command())
    lines = path.read_bytes().splitlines()
    assert judged(lines).whole
    assert kinds(judged(lines[:3] + lines[6:])) == ["follows_lost"]


@pytest.mark.parametrize("torn_at", [1, 40, -1])
async def test_a_line_that_a_crash_has_torn_spoils_no_other_one(path, tape, torn_at):
    """The next start begins on a line of its own and follows the last whole record; the chain before has no end."""
    async with logging(path) as log:
        log.add(command())
    whole = path.read_bytes().splitlines()
    path.write_bytes(b"\n".join(whole[:2]) + b"\n" + whole[2][:torn_at])
    async with logging(path):
        pass
    found = judged(path.read_bytes())
    assert kinds(found) == ["not_ended"]
    assert [chain.records for chain in found.chains.values()] == [2, 2]


async def test_a_file_that_was_rotated_away_is_made_anew_and_the_chain_goes_on(path, tmp_path, tape):
    """Renamed or removed; each record stands in one of the files, and in their order they are whole."""
    older = tmp_path / "audit.jsonl.1"
    async with logging(path) as log:
        log.add(command())
        path.rename(older)
        log.add(command())
    assert events(older) == ["audit_began", "command"]
    assert events(path) == ["command", "audit_ended"]
    assert path.stat().st_mode & 0o777 == 0o600
    assert judged(older.read_bytes(), path.read_bytes()).whole
    async with logging(path) as log:
        path.unlink()
        log.add(command())
    assert events(path) == ["command", "audit_ended"]


async def test_without_room_nothing_may_be_begun_and_nothing_is_lost(path, tape):
    """Refused until all is written; what was in flight is written then, in its order. Said once, and counted."""
    counts = Counted()
    async with logging(path, counts=counts) as log:
        log.require()
        with room_for(path.stat().st_size + 20):
            log.add(command(1))
            log.add(command(2))
            for _ in range(3):
                with pytest.raises(AuditUnavailable):
                    log.require()
        assert counts.outcomes == {"written": 1, "failed": 2}
        log.require()
        log.add(command(3))
    found = judged(path.read_bytes())
    assert found.whole
    assert (found.records, found.torn_lines) == (5, 1)
    told = [
        line["event"] for line in tape.lines if line["event"].startswith("audit_") and line["event"] != "audit_head"
    ]
    assert told == ["audit_not_written", "audit_written_again"]


async def test_what_cannot_be_held_any_more_is_counted_in_a_record(path, tape):
    """The chain has no hole that somebody else could have made: it says itself what is lost."""
    async with logging(path, most_held=2) as log:
        with room_for(path.stat().st_size):
            for number in range(5):
                log.add(command(number))
        log.require()
    records = [orjson.loads(line) for line in path.read_bytes().splitlines()]
    assert [one["event"] for one in records[1:]] == ["command", "command", "audit_records_lost", "audit_ended"]
    assert records[3]["count"] == 3
    assert judged(path.read_bytes()).whole


async def test_a_process_that_ends_without_room_says_what_is_lost(path, tape):
    """In the ordinary log: there is no other place left."""
    log = AuditLog(File(str(path)), NO_SECRET, Counted(), replica="one", version="1")
    log.start()
    with room_for(path.stat().st_size):
        log.add(command())
        await log.stop()
    lost = [line for line in tape.lines if line["event"] == "audit_records_lost"]
    assert [line["count"] for line in lost] == [2]
    assert kinds(judged(path.read_bytes())) == ["not_ended"]


async def test_a_device_that_is_always_full_lets_nothing_begin(tape):
    """Already its first record cannot be written: the process starts, and refuses."""
    async with logging("/dev/full") as log:
        with pytest.raises(AuditUnavailable):
            log.require()


async def test_a_file_that_cannot_be_made_ends_the_start(tmp_path, tape):
    """A folder that is not there is a mistake in the settings, and no passing trouble."""
    log = AuditLog(File(str(tmp_path / "no" / "audit")), NO_SECRET, Counted(), replica="one", version="1")
    with pytest.raises(FileNotFoundError):
        log.start()
    await log.stop()


@pytest.mark.parametrize("room", range(13))
def test_a_write_that_finds_room_for_a_part_only_is_made_whole_later(path, room):
    """The part stays, as a line of its own; where only the line's end found no room the record is not there twice."""
    file = File(str(path))
    file.open()
    file.write(b"first line")
    with room_for(11 + room), contextlib.suppress(OSError):
        file.write(b"second line")
    written = path.read_bytes()[11:]
    assert written == b"second line\n"[:room]
    if room < 11:
        file.write(b"second line")
    file.write(b"third line")
    file.close()
    left = [] if room in {0, 11, 12} else [written]
    assert path.read_bytes().splitlines() == [b"first line", *left, b"second line", b"third line"]


def test_a_pipe_that_nobody_reads_any_more_is_a_failure_and_no_end():
    """The reader of standard error may go away; whoever writes to it is told so by an error."""
    reading, writing = os.pipe()
    stream = Stream(writing)
    assert stream.open() == ""
    stream.write(b"a line")
    assert os.read(reading, 100) == b"a line\n"
    os.close(reading)
    with pytest.raises(BrokenPipeError):
        stream.write(b"a line")
    os.close(writing)


async def test_refused_calls_without_end_leave_a_few_records_and_a_number(path, tape):
    """The first of each caller, of strangers by their host and of all strangers together; the rest is counted."""
    async with logging(path) as log:
        for number in range(2000):
            log.refused("", f"ipv4:10.0.{number % 200}.1", {"event": "call_refused", "reason": "CALLER_UNKNOWN"})
        for _ in range(50):
            log.refused("dns:desk", "ipv4:10.1.1.1", {"event": "call_refused", "reason": "CALLER_NOT_ALLOWED"})
    records = [orjson.loads(line) for line in path.read_bytes().splitlines()]
    kept = Counter(one["reason"] for one in records if one["event"] == "call_refused")
    assert kept == {"CALLER_UNKNOWN": 100, "CALLER_NOT_ALLOWED": 10}
    [left_out] = [one["counts"] for one in records if one["event"] == "refusals_left_out"]
    assert left_out == {"CALLER_UNKNOWN": 1900, "CALLER_NOT_ALLOWED": 40}


async def test_from_time_to_time_the_ordinary_log_has_the_place_of_the_chain(path, tape):
    """Only when it has moved on; the anchor then proves that the tail was not cut."""
    async with logging(path, head_seconds=0.01) as log:
        log.add(command())
        await until(lambda: [line["seq"] for line in tape.lines if line["event"] == "audit_head"] == [0, 1])
        log.refused("", "ipv4:10.0.0.1", {"event": "call_refused", "reason": "CALLER_UNKNOWN"})
        await until(lambda: [line["seq"] for line in tape.lines if line["event"] == "audit_head"] == [0, 1, 2])


def test_each_place_that_the_setting_names_is_one_to_write_to(tmp_path):
    """Standard output, standard error, or a file."""
    assert isinstance(output_to("stderr"), Stream)
    assert isinstance(output_to("stdout"), Stream)
    assert isinstance(output_to(str(tmp_path / "x")), File)
