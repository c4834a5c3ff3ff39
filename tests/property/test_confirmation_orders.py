"""Whatever the order of the events, a command is confirmed by its own proof and by nothing else."""

from hypothesis import given
from hypothesis import strategies as st

from qc_adapter.commands.confirm import RELEASING, Confirmation, nothing_to_release, releases
from qc_adapter.events.model import AgentEvent, Entry
from qc_adapter.gateway import operations

WITH_EFFECTS = [operation for operation in operations.ALL if operation.effects is not None]
EFFECTS = [one.effects for one in WITH_EFFECTS]
TYPES = sorted({name for one in EFFECTS for name in (*one.expected, *one.confirming)} | RELEASING | {"AgentEvent_Hold"})
CALLS = ("", "1456401416-3", "1456401416-4", "1456401416-5")

an_operation = st.sampled_from(WITH_EFFECTS)
some_events = st.lists(st.tuples(st.sampled_from(TYPES), st.sampled_from(CALLS)), max_size=12)
some_calls = st.frozensets(st.sampled_from(CALLS[1:]))


def all_of(operation):
    """What is missing of an operation when nothing came."""
    return operation.effects.expected or tuple(sorted(operation.effects.confirming))


def observed(operation, before, told):
    confirmation = Confirmation(operation.effects, before)
    for sequence, (event_type, call_id) in enumerate(told, start=1):
        confirmation.observe(Entry("", sequence, AgentEvent(event_type, "101", None, None, 0.0, call_id)))
    return confirmation


@given(an_operation, some_calls, some_events)
def test_the_first_confirming_event_of_a_new_call_is_the_proof(operation, before, told):
    """Confirmed means: a confirming event came whose call the inspector was not already talking on."""
    proofs = [
        (sequence, call_id)
        for sequence, (event_type, call_id) in enumerate(told, start=1)
        if event_type in operation.effects.confirming and call_id not in before
    ]
    confirmation = observed(operation, before, told)
    assert confirmation.confirmed == bool(proofs)
    proof = confirmation.proof
    assert ((proof.sequence, proof.item.call_id) if proof else None) == (proofs[0] if proofs else None)


@given(an_operation, some_calls, some_events)
def test_missing_is_what_was_expected_and_did_not_come(operation, before, told):
    """An expected type is missing until an event of it comes that is not about an old call."""
    came = {event_type for event_type, call_id in told if call_id not in before}
    if operation.effects.expected:
        expected = tuple(name for name in operation.effects.expected if name not in came)
    else:  # one of several would do
        expected = () if came & operation.effects.confirming else all_of(operation)
    assert observed(operation, before, told).missing == expected


@given(an_operation, some_calls, some_events, some_events)
def test_complete_is_final(operation, before, told, later):
    """No later event takes a proof or the end of waiting back."""
    early, late = observed(operation, before, told), observed(operation, before, [*told, *later])
    assert not early.confirmed or (late.confirmed and late.proof == early.proof)
    assert not early.complete or late.complete


@given(an_operation, some_calls, some_events)
def test_complete_needs_the_proof(operation, before, told):
    """A command is complete with all its events, or when the call they could come in is over; never unproven."""
    confirmation = observed(operation, before, told)
    if confirmation.complete:
        assert confirmation.confirmed
        after = told[confirmation.proof.sequence :]
        ended = any(releases(event_type, operation.effects) and call_id not in before for event_type, call_id in after)
        assert not confirmation.missing or ended


@given(an_operation, some_events)
def test_events_of_calls_talked_on_before_prove_nothing(operation, told):
    """Resuming a held call repeats AgentEvent_Talking; that is no effect of the command."""
    old_only = [(event_type, "1456401416-3") for event_type, _ in told]
    confirmation = observed(operation, frozenset({"1456401416-3"}), old_only)
    assert not confirmation.confirmed
    assert confirmation.missing == all_of(operation)


def test_only_operations_within_a_call_can_be_followed_to_its_end():
    """What ends the inspector's part in the call, or gives it none, has no release to wait for; the others have."""
    ending = {operation.method for operation in WITH_EFFECTS if nothing_to_release(operation.effects)}
    assert ending == {
        "stopSuperviseOrInsert",
        "requestStopWhisperAgent",
        "forceDropCall",
        "forceBusy",
        "forceIdle",
        "forceRest",
        "forceLogOutAgent",
    }


@given(an_operation, some_events)
def test_an_event_that_may_be_older_than_the_command_proves_nothing(operation, told):
    """It waited in the gateway's queue since before the command was sent."""
    confirmation = Confirmation(operation.effects, frozenset(), 1000.0)
    for sequence, (event_type, call_id) in enumerate(told, start=1):
        event = AgentEvent(event_type, "101", None, None, 1010.0, call_id, queued_since=999.0)
        confirmation.observe(Entry("", sequence, event))
    assert not confirmation.confirmed
    assert confirmation.missing == all_of(operation)
