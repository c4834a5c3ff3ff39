"""What a profiler saw is told by the parts of the adapter."""

from __future__ import annotations

import pytest

from bench.speed.stacks import SYSTEM, Cost, folded

RAW = """\
run (/x/asyncio/runners.py:118);stream (/x/qc_adapter/rpc/calls.py:2);update_message (/x/qc_adapter/rpc/convert.py:9) 30
stream (/x/qc_adapter/rpc/calls.py:2);update_message (/x/qc_adapter/rpc/convert.py:9);upb_Encode (_message.abi3.so) 10
stream (/x/qc_adapter/rpc/calls.py:2);0x7f (/x/grpc/_cython/cygrpc.so);sendmsg (/usr/lib/libc.so.6) 50
main (/x/somebody/else.py:1) 10
"""


def test_a_sample_belongs_to_the_innermost_part_that_is_known():
    """Protobuf called by rpc is protobuf, a system call is one whoever makes it, and what fits nothing is the rest."""
    found = folded(RAW.splitlines())

    assert found.samples == {"rpc: services and messages": 30, "protobuf": 10, SYSTEM: 50, "Python itself": 10}
    assert found.hottest("rpc: services and messages") == "`update_message`"
    assert found.hottest(SYSTEM) == "`sendmsg`"


def test_the_kernel_says_what_system_calls_cost():
    """A profiler finds threads in system calls too often: these get what the kernel counted, others the rest."""
    found = folded(RAW.splitlines()).us(Cost(all_us=1000, system_us=200))

    assert found[SYSTEM] == pytest.approx(200)
    assert found["rpc: services and messages"] == pytest.approx(480)
    assert sum(found.values()) == pytest.approx(1000)
