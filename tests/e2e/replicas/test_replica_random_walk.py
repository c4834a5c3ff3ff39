"""A walk by chance through what an inspector can do: after each step every replica says what the gateway knows."""

from __future__ import annotations

import asyncio
import random

import pytest
from grpc import StatusCode

from bench.ports import free_port
from qc_adapter.simulator import Fault
from qc_adapter.store.seal import new_key
from qc_adapter.v1 import quality_control_pb2 as qc
from qc_adapter.v1 import sessions_pb2
from tests.support.opening import pushing

STEPS = 30
AGENTS = ("292", "293")
#: Each as the rpc, who is inspected, by whom, and what else it needs.
COMMANDS = [
    *[(rpc, AGENTS, "101", {}) for rpc in ("Listen", "Insert", "Whisper", "Intercept", "ToggleListenInsert")],
    *[(rpc, AGENTS, "101", {}) for rpc in ("StopInspecting", "StopWhispering")],
    *[("SwitchMode", AGENTS, "101", {"mode": mode}) for mode in (qc.MODE_LISTEN, qc.MODE_INSERT, qc.MODE_WHISPER)],
    *[(rpc, ["101"], "102", {}) for rpc in ("ForceBusy", "ForceIdle")],
]
LOSABLE = ("addSupervise", "addInsert", "requestWhisperAgent", "intercept")


class Walk:
    """Steps of chance by inspector 101, through any replica, and by those around."""

    def __init__(self, cluster, seed):
        self.cluster = cluster
        self.simulator = cluster.simulator
        self.chance = random.Random(seed)  # noqa: S311 - the same walk each time
        self.steps = []

    def calls(self, *agents):
        return [one["call_id"] for one in self.simulator.state()["calls"] if one["agent_id"] in agents]

    async def step(self):
        """Do one of the things that can happen; most need a call of an agent."""
        if not self.calls(*AGENTS):
            self.simulator.start_call(self.chance.choice(AGENTS))
        other = (self.hang_up, self.answer, self.rotate, self.lose_a_reply, self.own_call, self.forget)
        await (self.command if self.chance.random() < 0.7 else self.chance.choice(other))()

    async def command(self):
        rpc, work_nos, agent_id, more = self.chance.choice(COMMANDS)
        if agent_id == "102" and self.known()[0] not in {"IDLE", "AWAY"}:
            return  # what is asked for until after an inspection the simulated gateway does not tell then
        replica, work_no = self.chance.choice(self.cluster.replicas), self.chance.choice(work_nos)
        request = getattr(qc, f"{rpc}Request")(agent_id=agent_id, work_no=work_no, **more)
        request.options.confirm_within.FromMilliseconds(300)
        ended = await replica.ending(getattr(replica.commands, rpc)(request, timeout=20))
        self.steps.append(f"{rpc} {work_no}: {ended.outcome or ended.reason}")

    async def hang_up(self):
        self.steps.append("a call ends")
        self.simulator.end_call(self.chance.choice(self.calls(*AGENTS)))

    async def answer(self):
        answered = self.chance.random() < 0.7
        self.steps.append(f"phone answered: {answered}")
        self.simulator.set_agent("101", phone_answered=answered)

    async def rotate(self):
        self.steps.append("another GUID")
        self.simulator.rotate("101")

    async def lose_a_reply(self):
        operation = self.chance.choice(LOSABLE)
        self.steps.append(f"the next reply of {operation} is lost")
        self.simulator.add_fault(Fault("reset_after", operation=operation))

    async def own_call(self):
        self.steps.append("a call of its own")
        if own := self.calls("101"):
            self.simulator.end_call(own[0])
        elif self.known() == ("IDLE", ""):
            self.simulator.start_call("101")

    async def forget(self):
        """Let the gateway restart; calls of its own that go on meanwhile it does not tell of."""
        if self.calls("101"):
            return
        self.steps.append("the gateway forgets all sign-ins")
        await self.cluster.write("HDEL", "qc:orders:101", "tried_at", "recovered_at")
        self.simulator.restart()
        await self.cluster.replicas[0].ending(self.cluster.replicas[0].sign_in("102", force=True))

    def known(self):
        """What the gateway knows of the inspector."""
        state, agent = self.simulator.state_of("101"), self.simulator.state()["agents"]["101"]
        if state == "IDLE" and (agent["posture"] != "idle" or agent["call_id"]):
            state = "AWAY"
        inspected = [one["agent"] for one in self.simulator.state()["inspections"] if one["inspector"] == "101"]
        return state, next(iter(inspected), "")

    async def agreed(self):
        """Wait until all replicas say what the gateway knows."""
        try:
            async with asyncio.timeout(10):
                while {await _told(one) for one in self.cluster.replicas} != {self.known()}:  # noqa: ASYNC110 - asked
                    await asyncio.sleep(0.005)
        except TimeoutError:
            told = [await _told(one) for one in self.cluster.replicas]
            raise AssertionError(f"told {told}, known {self.known()}, after {self.steps}") from None


async def _told(replica):
    [reply] = (await replica.ending(replica.get())).updates
    state = sessions_pb2.InspectorState.Name(reply.session.inspector_state)
    return state.removeprefix("INSPECTOR_STATE_"), reply.session.inspected_work_no


@pytest.mark.parametrize("source", ["poll", "push"])
async def test_all_replicas_say_what_the_gateway_knows(open_cluster, source):
    """Commands, hang-ups, unanswered phones, lost replies, new GUIDs and restarts in any order, polled and pushed."""
    quick = {"answer_timeout_seconds": 0.2, "push_retry_seconds": 0.1}
    pushed = pushing(free_port()) if source == "push" else {}
    cluster = await open_cluster(0, gateway=quick, QC_SEAL_KEYS=new_key().reveal(), **pushed)
    cluster.may_sign_out = True
    first = await cluster.add()
    await cluster.add(**({"QC_PUSH_LISTEN": "127.0.0.1:0"} if pushed else {}))
    again = sessions_pb2.RE_SIGN_IN_SAME_CREDENTIALS
    assert (await first.ending(first.sign_in(re_sign_in=again))).code is StatusCode.OK
    assert (await first.ending(first.sign_in("102"))).code is StatusCode.OK
    walk = Walk(cluster, seed=source)
    for _ in range(STEPS):
        await walk.step()
        await walk.agreed()
    cluster.simulator.clear_faults()
