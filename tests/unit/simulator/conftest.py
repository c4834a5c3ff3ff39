"""A gateway without a network, and a clock that moves when it is told to."""

import pytest

from qc_adapter.simulator import Clocks, SimulatorSettings
from qc_adapter.simulator.gateway import Gateway
from qc_adapter.simulator.requests import GatewayRequest


class Floor:
    """Drives a gateway as a client would, on a clock of its own."""

    def __init__(self, **choices):
        self.seconds = 1000.0
        self.gateway = Gateway(SimulatorSettings(**choices), Clocks(lambda: self.seconds, lambda: 1_456_401_416.5))

    def move(self, seconds):
        self.seconds += seconds
        self.gateway.timetable.run_due()

    def agent(self, agent_id):
        return self.gateway.roster.agent(agent_id)

    def sign_in(self, agent_id):
        return self.gateway.sign_in(self.agent(agent_id))

    def call(self, agent_id):
        return self.gateway.switchboard.begin(agent_id, "13800000000")

    def do(self, operation, agent_id="101", work_no=None, query=None, body=b"", **values):
        """Perform an operation of a caller who has been checked already; return the retcode."""
        paths = {"agentid": agent_id, **values} | ({"workNo": work_no} if work_no else {})
        return self.gateway.perform(GatewayRequest(operation, "PUT", paths, query or {}, body=body)).retcode

    def events(self, agent_id):
        """Take all events that wait for an agent."""
        mailbox = self.agent(agent_id).sign_in.mailbox
        return [letter.event for letter in iter(mailbox.take, None)]

    def event_types(self, agent_id):
        return [event["eventType"] for event in self.events(agent_id)]

    def listening(self):
        """Bring inspector 101 to listen to agent 292, who talks; return the call."""
        self.sign_in("101")
        self.sign_in("292")
        call = self.call("292")
        assert self.do("addSupervise", work_no="292") == "0"
        self.move(1)
        self.events("101")
        self.events("292")
        return call


@pytest.fixture
def new_floor():
    return Floor


@pytest.fixture
def floor():
    return Floor()
