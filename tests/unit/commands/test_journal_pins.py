"""A command that can be repeated keeps the feed that it began in."""

from qc_adapter.commands.journal import Journal
from qc_adapter.commands.model import Command
from qc_adapter.commands.run import CommandRun
from qc_adapter.events.hub import Hub
from qc_adapter.gateway import requests


def a_run(feed, request_id="once"):
    command = Command("101", "292", requests.intercept("101", "292"), request_id)
    return CommandRun(command, feed, lambda _run, _label: None)


async def test_who_repeats_a_command_follows_a_feed_that_lives():
    """A feed that nobody follows stays as long as a command in the journal may be asked for again."""
    hub, journal = Hub(), Journal()
    feed = hub.feed("101")
    run = a_run(feed)
    journal.keep(run)
    assert hub.prune(-1.0) == []
    journal.drop(run)
    assert hub.prune(-1.0) == ["101"]


async def test_a_command_that_is_forgotten_lets_its_feed_go():
    """The oldest ones leave a full journal, and keep nothing any more."""
    hub, journal = Hub(), Journal(capacity=1)
    feed = hub.feed("101")
    journal.keep(a_run(feed, "first"))
    journal.keep(a_run(feed, "second"))
    assert feed.pins == 1
