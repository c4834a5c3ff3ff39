"""The command on real files: what it says of audit records, and the code that it ends with."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import orjson
import pytest

from tests.support.chains import KEY, chained

HASH = "0" * 64
ROOT = Path(__file__).parents[3]


def write(path, lines):
    """Write lines to a file and return its name."""
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return str(path)


def test_whole_records_end_with_0(qc, tmp_path):
    """Each chain is told, from when to when and whether it ended; foreign lines are counted."""
    lines = chained(3)
    name = write(tmp_path / "a", [*lines, b"E0000 something by a library"])
    ended = qc("audit", "verify", name)
    assert (ended.code, ended.err) == (0, "")
    assert "5 records from 2026-01-01T00:00:00.000Z" in ended.out
    assert "without a key, ended" in ended.out
    assert "1 lines that are no audit records" in ended.out
    [told] = qc("audit", "verify", name, "--json").objects
    assert told["whole"] is True
    assert told["chains"][0]["head"] == orjson.loads(lines[-1])["hash"]


def test_what_is_not_whole_ends_with_7_and_is_told_line_by_line(qc, tmp_path):
    """For people with file and line, for machines with the kind of each break."""
    lines = chained(5)
    lines[2] = lines[2].replace(b'"101"', b'"102"')
    first, second = write(tmp_path / "a", lines[:3]), write(tmp_path / "b", lines[4:])
    ended = qc("audit", "verify", first, second)
    assert ended.code == 7
    assert f"{first}:3: does not fit its hash" in ended.out
    assert "record number 3 is missing" in ended.out
    assert "not whole: 2 breaks" in ended.err
    ended = qc("audit", "verify", first, second, "--json")
    assert ended.code == 7
    [told] = ended.objects
    assert [(one["kind"], one["line"]) for one in told["breaks"]] == [("changed", 3), ("missing", 0)]


def test_records_are_taken_out_of_the_files_of_a_container_runtime(qc, tmp_path):
    """The filter in docs/audit.md leaves the log out, and puts lines together that the runtime has cut."""
    [script] = re.findall(r"awk '(.*?)'", (ROOT / "docs" / "audit.md").read_text(), re.DOTALL)
    stamp, lines = b"2026-05-04T08:15:03.120000000Z", []
    for record in chained(3):
        half = len(record) // 2
        lines += [stamp + b" stdout F {}", stamp + b" stderr P " + record[:half], stamp + b" stderr F " + record[half:]]
    name = write(tmp_path / "0.log", lines)
    taken = subprocess.run(["awk", script, name], capture_output=True, check=True).stdout  # noqa: S603, S607
    (tmp_path / "taken").write_bytes(taken)
    assert qc("audit", "verify", str(tmp_path / "taken")).code == 0


@pytest.mark.parametrize("by_file", [False, True])
def test_a_keyed_chain_is_judged_with_the_key_of_the_settings(qc, tmp_path, by_file):
    """From QC_AUDIT_KEY or the file that QC_AUDIT_KEY_FILE names; it is not shown."""
    name, key = write(tmp_path / "a", chained(2, KEY)), KEY.decode()
    (tmp_path / "key").write_text(key)
    given = {"QC_AUDIT_KEY_FILE": str(tmp_path / "key")} if by_file else {"QC_AUDIT_KEY": key}
    ended = qc("audit", "verify", name, **given)
    assert (ended.code, ended.err) == (0, "")
    assert key not in ended.out
    without = qc("audit", "verify", name)
    assert without.code == 7
    assert "QC_AUDIT_KEY is needed" in without.out


def test_anchors_are_given_as_options(qc, tmp_path):
    """A head that must be there, and the last record of files that are gone."""
    lines = chained(3)
    hashes = [orjson.loads(line)["hash"] for line in lines]
    name = write(tmp_path / "a", lines[2:4])
    assert qc("audit", "verify", name, "--after", hashes[1], "--head", hashes[3]).code == 0
    assert qc("audit", "verify", name, "--after", hashes[1], "--head", HASH).code == 7


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("verify no-such", "no-such cannot be read"),
        ("verify", "FILE"),
        ("show x", "verify"),
        ("verify x --head 12", "--head must be a hash"),
    ],
)
def test_wrong_arguments_end_with_2(qc, arguments, said):
    """A sentence that helps."""
    ended = qc("audit", *arguments.split())
    assert ended.code == 2
    assert said in ended.err


def test_a_short_key_is_refused(qc, tmp_path):
    """As by serve, and without showing it."""
    ended = qc("audit", "verify", write(tmp_path / "a", chained(1)), QC_AUDIT_KEY="short-canary")
    assert ended.code == 2
    assert "QC_AUDIT_KEY" in ended.err
    assert "canary" not in ended.err
