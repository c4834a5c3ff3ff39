"""The numbers of the process are those of the library's collector, without a list of all open files."""

import socket

import pytest
from prometheus_client import ProcessCollector

from qc_adapter.telemetry.process import ProcessNumbers, open_files


def told(collector):
    return {(one.name, one.documentation, one.type): one.samples[0].value for one in collector.collect()}


def test_they_are_those_of_the_library():
    """Names, words and kinds are the same, and so are the values but for what the process did in between."""
    ours, theirs = told(ProcessNumbers()), told(ProcessCollector(registry=None))
    assert ours.keys() == theirs.keys()
    for about, value in ours.items():
        assert value == pytest.approx(theirs[about], rel=0.1, abs=0.5), about


def test_an_open_socket_is_one_more():
    """Descriptors are counted as they are now."""
    before = open_files()
    with socket.socket():
        assert open_files() == before + 1
    assert open_files() == before
