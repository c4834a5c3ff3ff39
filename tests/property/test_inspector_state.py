"""What an inspector does, from events and receipts in any order, against a model that moves the inspector itself."""

from hypothesis import given
from hypothesis import strategies as st

from qc_adapter.events import model
from qc_adapter.events.activity import InspectorState, activity
from qc_adapter.events.inspection import Acceptance, Act, Inspection, Mode, accepted
from qc_adapter.events.model import AgentEvent, GapReason
from qc_adapter.events.standing import NOTHING_HEARD, Phase, Standing
from qc_adapter.events.stored import from_inspection, from_standing, to_call_ids, to_inspection, to_standing

MODES = {Mode.LISTENING: Mode.INSERTED, Mode.INSERTED: Mode.LISTENING}
NOISE = ("AgentMediaEvent_Record", "QC_AgentState_Notify", "AgentEvent_Hold", "AgentOther_BeQcStart", "Brand_New")


class Inspector:
    """The truth: moves from state to state, and notes which events and receipts that brings, and when."""

    def __init__(self):
        self.state, self.work_no, self.since = InspectorState.IDLE, "", 0.0
        self.events = []
        #: Each with the number of events that there were when it was sent.
        self.receipts = []
        self.rings = True
        self.now = 0.0
        self.tell("AgentOther_InService", model.READY)
        self.become(InspectorState.IDLE)

    def become(self, state, work_no=""):
        self.state, self.work_no, self.since = state, work_no, self.now

    def tell(self, *event_types, call_id=""):
        for event_type in event_types:
            self.now += 1.0
            self.events.append(AgentEvent(event_type, "101", None, None, self.now, call_id))

    def take(self, act, work_no, mode=None):
        self.now += 1.0
        self.receipts.append((len(self.events), act, work_no, self.now, mode))

    def begin(self, mode, work_no):
        if self.state is InspectorState.IDLE:
            self.take(Act.BEGIN, work_no, mode)
            self.mode = mode
            self.tell(model.BUSY)
            self.become(InspectorState.SEIZED, work_no)
            if self.rings:
                self.tell(model.PHONE_ALERTING)

    def pick_up(self):
        if self.state is InspectorState.SEIZED:
            self.tell(model.PHONE_OFFHOOK)
            self.become(InspectorState(self.mode.value), self.work_no)

    def change(self, act, mode):
        if self.state.value in set(Mode):
            self.mode = mode if act is Act.SWITCH else MODES.get(self.mode)
            if self.mode is None:  # who whispers cannot toggle
                self.mode = Mode(self.state.value)
                return
            self.take(act, self.work_no, mode if act is Act.SWITCH else None)
            self.become(InspectorState(self.mode.value), self.work_no)

    def intercept(self, call_id):
        if self.state.value in set(Mode):
            self.take(Act.INTERCEPT, self.work_no)
            self.tell(model.TALKING, call_id=call_id)
            self.become(InspectorState.INTERCEPTED, self.work_no)
            self.tell("AgentMediaEvent_Record")

    def end(self):
        """The inspection is stopped, is not answered, or its call ends."""
        if self.state not in {InspectorState.IDLE, InspectorState.AWAY}:
            if self.state is InspectorState.INTERCEPTED:
                self.tell(model.CALL_RELEASE, model.CUSTOMER_RELEASE, call_id="7-1")
            self.tell(model.PHONE_RELEASE, model.READY)
            self.become(InspectorState.IDLE)

    def rest(self, event_type):
        if self.state in {InspectorState.IDLE, InspectorState.AWAY}:
            first = self.state is InspectorState.IDLE
            self.tell(event_type)
            if first:
                self.become(InspectorState.AWAY)

    def back(self, event_type):
        if self.state is InspectorState.AWAY:
            self.tell(event_type)
            self.become(InspectorState.IDLE)

    def inspect(self, mode, work_no):
        self.begin(mode, work_no)
        self.pick_up()

    def noise(self, event_type):
        self.tell(event_type)


STEPS = st.one_of(
    st.tuples(st.just("begin"), st.sampled_from(Mode), st.sampled_from(("292", "293"))),
    st.tuples(st.just("inspect"), st.sampled_from(Mode), st.sampled_from(("292", "293"))),
    st.tuples(st.just("pick_up")),
    st.tuples(st.just("change"), st.sampled_from((Act.SWITCH, Act.TOGGLE)), st.sampled_from(Mode)),
    st.tuples(st.just("intercept"), st.sampled_from(("7-1", ""))),
    st.tuples(st.just("end")),
    st.tuples(
        st.just("rest"), st.sampled_from(("AgentState_SetNotReady_Success", model.WORK, "AgentState_Rest_Timeout"))
    ),
    st.tuples(
        st.just("back"), st.sampled_from((model.READY, "AgentState_CancelRest_Success", "AgentState_Force_Ready"))
    ),
    st.tuples(st.just("noise"), st.sampled_from(NOISE)),
)


def lived(steps, *, rings=True):
    """An inspector that took these steps, as far as they were possible."""
    inspector = Inspector()
    inspector.rings = rings
    for name, *arguments in steps:
        getattr(inspector, name)(*arguments)
    return inspector


def stands_after(events):
    standing = NOTHING_HEARD
    for event in events:
        standing = standing.after(event)
    return standing


@given(steps=st.lists(STEPS, max_size=25), rings=st.booleans(), data=st.data())
def test_events_and_receipts_tell_the_same_in_any_order(steps, rings, data):
    """Whatever a sender had heard, and whichever of event and receipt came first: in the end the truth is told."""
    inspector = lived(steps, rings=rings)
    inspection = None
    for sent_after, act, work_no, at, mode in inspector.receipts:
        heard = data.draw(st.sampled_from((0, sent_after // 2, sent_after)), "events that the sender had heard")
        before = stands_after(inspector.events[:heard])
        inspection = accepted(inspection, Acceptance(act, work_no, before, at, at, mode))
        inspection = from_inspection(to_inspection(inspection))
    found = activity(stands_after(inspector.events), inspection)
    assert (found.state, found.work_no) == (inspector.state, inspector.work_no)
    assert found.since == inspector.since


@given(steps=st.lists(STEPS, max_size=25))
def test_events_alone_tell_no_inspection(steps):
    """Without receipts nothing is taken for an inspection of ours, and who is free or away is known all the same."""
    inspector = lived(steps)
    found = activity(stands_after(inspector.events), None)
    told = {InspectorState.IDLE, InspectorState.AWAY, InspectorState.SEIZED}
    connected = InspectorState.AWAY if inspector.state is InspectorState.INTERCEPTED else InspectorState.UNKNOWN
    assert found.state is (inspector.state if inspector.state in told else connected)
    assert found.work_no == ""


@given(steps=st.lists(STEPS, max_size=15))
def test_a_call_of_its_own_is_no_inspection(steps):
    """A receipt belongs to one turn: who is taken for a call of its own later is away, not listening."""
    inspector = lived(steps)
    inspector.end()
    inspector.back(model.READY)
    inspection = None
    for sent_after, act, work_no, at, mode in inspector.receipts:
        before = stands_after(inspector.events[:sent_after])
        inspection = accepted(inspection, Acceptance(act, work_no, before, at, at, mode))
    for event_type in (model.BUSY, model.PHONE_ALERTING, model.PHONE_OFFHOOK, "AgentEvent_Ringing", model.TALKING):
        inspector.tell(event_type, call_id="9-9")
        found = activity(stands_after(inspector.events), inspection)
        assert found.work_no == ""
        assert found.state in {InspectorState.SEIZED, InspectorState.UNKNOWN, InspectorState.AWAY}
    assert found.state is InspectorState.AWAY


@given(steps=st.lists(STEPS, max_size=25), place=st.integers(0, 60), reason=st.sampled_from(GapReason))
def test_a_gap_doubts_and_changes_nothing(steps, place, reason):
    """A gap leaves the state as it was told last, in doubt until the next event that counts."""
    events = lived(steps).events
    with_gap = [*events[:place], reason, *events[place:]]
    sure, doubted = stands_after(events), stands_after(with_gap)
    assert (sure.phase, sure.since, sure.turn, sure.talking) == (
        doubted.phase, doubted.since, doubted.turn, doubted.talking
    )  # fmt: skip
    assert stands_after([*events, reason]).doubtful
    assert not stands_after([*with_gap, AgentEvent(model.READY, "101", None, None, 99.0)]).doubtful


@given(
    st.builds(
        Standing,
        st.sampled_from(Phase),
        st.floats(0, 4e9),
        st.integers(0, 2**40),
        st.frozensets(st.sampled_from(("7-1", "7-2"))),
        *[st.booleans()] * 3,
    )
)
def test_a_standing_comes_back(standing):
    """What is stored of events is read as it was."""
    assert from_standing(to_standing(standing), to_call_ids(standing.talking)) == standing


@given(
    st.builds(
        Inspection, st.sampled_from(("292", "")), st.integers(0), st.integers(0), st.floats(0, 4e9),
        st.none() | st.sampled_from(Mode), st.floats(0, 4e9),
    ).filter(lambda one: max(one.first, one.last) < 2**63)
)  # fmt: skip
def test_an_inspection_comes_back(inspection):
    """What is stored of receipts is read as it was; what another release stored there is not known."""
    assert from_inspection(to_inspection(inspection)) == inspection
    assert from_inspection(to_inspection(None)) is None
    assert from_inspection('["292",1]') is None
    assert from_inspection('{"mode":"new"}') is None
    assert from_standing('["dancing",1.0,1,false,false,false]', '["7-1"]') == Standing(talking=frozenset({"7-1"}))


def test_an_inspection_that_another_system_began_is_known_by_what_we_do_with_it():
    """Its mode is told once a switch was accepted, an intercept is one; an older one of ours is none of it."""
    inspector = lived([("inspect", Mode.LISTENING, "292"), ("end",)])
    (_, act, work_no, at, mode), inspector.receipts = inspector.receipts[0], []
    ours = accepted(None, Acceptance(act, work_no, NOTHING_HEARD, at, at, mode))
    inspector.inspect(Mode.LISTENING, "292")
    standing = stands_after(inspector.events)
    assert activity(standing, ours).state is InspectorState.UNKNOWN
    known = accepted(ours, Acceptance(Act.TOGGLE, "292", standing, 50.0, 50.5))
    assert activity(standing, known).state is InspectorState.UNKNOWN
    switched = accepted(known, Acceptance(Act.SWITCH, "292", standing, 51.0, 51.5, Mode.WHISPERING))
    told = activity(standing, switched)
    assert (told.state, told.work_no, told.since) == (InspectorState.WHISPERING, "292", 51.5)
    inspector.tell(model.TALKING)
    taken = accepted(ours, Acceptance(Act.INTERCEPT, "292", standing, 52.0, 52.5))
    assert activity(stands_after(inspector.events), taken).state is InspectorState.INTERCEPTED


def test_a_receipt_that_comes_late_changes_nothing():
    """What was sent before the newest command that is known says nothing about the present."""
    known = accepted(None, Acceptance(Act.BEGIN, "292", NOTHING_HEARD, 5.0, 5.5, Mode.INSERTED))
    for act in Act:
        assert accepted(known, Acceptance(act, "293", NOTHING_HEARD, 4.0, 6.0, Mode.LISTENING)) is known


def test_orders_of_events_that_gateways_differ_in():
    """Busy may follow the events of the phone, and a phone may be connected all the time."""
    ways = {
        (model.PHONE_ALERTING, model.PHONE_OFFHOOK, model.BUSY): Phase.CONNECTED,
        (model.PHONE_OFFHOOK, model.BUSY): Phase.CONNECTED,
        (model.PHONE_OFFHOOK, model.PHONE_RELEASE, model.BUSY): Phase.SEIZED,
        (model.PHONE_OFFHOOK, model.PHONE_ALERTING, model.BUSY): Phase.SEIZED,
        (model.PHONE_OFFHOOK,): Phase.IDLE,
        (model.BUSY, model.PHONE_OFFHOOK, "AgentState_SetNotReady_Success"): Phase.CONNECTED,
        (model.BUSY, model.PHONE_OFFHOOK, model.PHONE_RELEASE): Phase.AWAY,
        (model.BUSY, model.PHONE_OFFHOOK, model.BUSY): Phase.CONNECTED,
        (model.BUSY, model.BUSY): Phase.SEIZED,
        (model.PHONE_ALERTING, model.PHONE_OFFHOOK, model.BUSY, "AgentEvent_Customer_Alerting"): Phase.CALLED,
        (model.READY, model.PHONE_RELEASE): Phase.IDLE,
        (model.SHUTDOWN,): Phase.OUT,
        (model.IN_SERVICE,): Phase.UNKNOWN,
    }
    for way, phase in ways.items():
        events = [AgentEvent(event_type, "101", None, None, 2.0) for event_type in way]
        standing = stands_after([AgentEvent(model.READY, "101", None, None, 1.0), *events])
        assert (standing.phase, standing.turn) == (phase, int(model.BUSY in way) + (way.count(model.BUSY) > 1)), way
