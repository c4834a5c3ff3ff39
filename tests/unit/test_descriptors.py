"""A limit of descriptors that is too low for what may come is said, and how much is enough."""

import resource

from qc_adapter.descriptors import most_descriptors, shortage, take_all_descriptors
from qc_adapter.settings import read_settings


def test_a_limit_that_is_too_low_is_told_with_what_it_is_enough_for():
    """Polls of all gateways and the connections of the ports count; a limit that covers them is no word worth."""
    one = read_settings({"QC_GATEWAY_URL": "https://gateway"})
    two = read_settings(
        {"QC_GATEWAY_URL": "https://gateway", "QC_GATEWAYS": "north", "QC_GATEWAY_NORTH_URL": "https://north"}
    )
    assert shortage(one, 30_756) == ""
    assert shortage(one, resource.RLIM_INFINITY) == ""
    assert "enough to poll for 19999 inspectors" in shortage(one, 30_755)
    assert "enough to poll for 0 inspectors" in shortage(one, 4096)
    assert "is to be 50756" in shortage(two, 30_756)


def test_all_descriptors_are_taken():
    """The soft limit becomes the hard one."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(1000, before[1]), before[1]))
    try:
        take_all_descriptors()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (before[1], before[1])
        assert most_descriptors() == before[1]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
