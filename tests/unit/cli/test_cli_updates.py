"""How the updates of a command are shown to people."""

from __future__ import annotations

from qc_adapter.cli.updates import update_parts
from qc_adapter.v1 import events_pb2 as events
from qc_adapter.v1 import quality_control_pb2 as qc


def shown(**update):
    return "".join(part if isinstance(part, str) else part[0] for part in update_parts(qc.CommandUpdate(**update)))


def test_a_gap_of_a_command_is_shown_as_one():
    """Events that may be missing are said as loudly as in a watch."""
    gap = events.Gap(reason="POLL_REPLY_LOST", to="m-2")
    setattr(gap, "from", "m-1")
    assert shown(gap=gap) == "GAP: EVENTS MAY BE MISSING HERE (POLL_REPLY_LOST) after m-1, certain again at m-2"


def test_an_outcome_names_the_event_of_the_agent_that_proves_it():
    """A proof is shown with its type and whose it is; without one an outcome says what is missing, or that none can."""
    proof = events.AgentEvent(event_type="AgentState_Force_SetNotReady", work_no="292")
    confirmed = qc.CommandOutcome(state=qc.CommandOutcome.CONFIRMED, proof=proof)
    assert shown(outcome=confirmed).endswith("by AgentState_Force_SetNotReady of agent 292")
    unconfirmed = qc.CommandOutcome(state=qc.CommandOutcome.UNCONFIRMED, missing_event_types=["A", "B"])
    assert shown(outcome=unconfirmed).endswith("missing: A, B")
    assert "no event can confirm it here" in shown(outcome=qc.CommandOutcome())
