"""What strace counts is read by the names of the calls."""

from __future__ import annotations

from bench.speed.system_calls import read_counts

SUMMARY = """\
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 61.52    0.012345          12      1000           write
 30.00    0.006000           6       900       450 recvmsg
  8.48    0.001655           3       500           getpid
------ ----------- ----------- --------- --------- ----------------
100.00    0.020000           8      2400       450 total
"""


def test_calls_are_counted_by_name_with_or_without_errors():
    """A line with errors has a column more; heads, rules and the total are no calls."""
    assert read_counts(SUMMARY.splitlines()) == {"write": 1000, "recvmsg": 900, "getpid": 500}
