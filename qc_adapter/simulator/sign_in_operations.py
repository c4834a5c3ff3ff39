"""What begins, keeps and ends a sign-in: sign-in and sign-out, heartbeat, the GUID on request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from qc_adapter.simulator import sign_in_form
from qc_adapter.simulator.posture_operations import within
from qc_adapter.simulator.replies import DONE, Reply, refused

if TYPE_CHECKING:
    from collections.abc import Callable

    from qc_adapter.simulator.accounts import Accounts
    from qc_adapter.simulator.agents import Agent, SignIn, SignOutReason
    from qc_adapter.simulator.announcer import Announcer
    from qc_adapter.simulator.calls import Switchboard
    from qc_adapter.simulator.monitors import Monitors
    from qc_adapter.simulator.push import Pushing
    from qc_adapter.simulator.requests import GatewayRequest
    from qc_adapter.simulator.roster import Roster
    from qc_adapter.simulator.settings import SimulatorSettings
    from qc_adapter.simulator.sign_in_form import SignInForm

_OK_WITH_RESULT: Final = Reply(message="success", result={})


class SignInOperations:
    """The operations under `onlineagent` around the sign-in, and the question for the inspection right."""

    def __init__(
        self,
        *,
        settings: SimulatorSettings,
        roster: Roster,
        accounts: Accounts,
        switchboard: Switchboard,
        announcer: Announcer,
        monitors: Monitors,
        pushing: Pushing,
        now: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._roster = roster
        self._accounts = accounts
        self._switchboard = switchboard
        self._tell = announcer
        self._monitors = monitors
        self._pushing = pushing
        self._now = now

    def table(self) -> dict[str, Callable[[GatewayRequest], Reply]]:
        """Return the operations by their names."""
        return {
            "login": self._login,
            "loginEx": self._login,
            "forceLogin": self._force_login,
            "logout": lambda request: self._logout(request, "own", _OK_WITH_RESULT),
            "forceLogout": lambda request: self._logout(request, "forced_own", DONE),
            "forceLogoutWithReason": self._force_logout_with_reason,
            "handShake": self._heartbeat,
            "heartbeat": self._heartbeat,
            "updateGuid": self._update_guid,
            "isCensor": self._is_censor,
        }

    def _agent(self, request: GatewayRequest) -> Agent:
        return self._roster.agent(request.agent_id)

    def _login(self, request: GatewayRequest) -> Reply:
        agent = self._agent(request)
        if agent.sign_in is not None:
            return refused("100-002")
        return self._sign_in(agent, request)

    def _force_login(self, request: GatewayRequest) -> Reply:
        agent = self._agent(request)
        if agent.sign_in is not None and self._settings.forbid_takeover:
            return refused("100-015")
        return self._sign_in(agent, request)

    def _sign_in(self, agent: Agent, request: GatewayRequest) -> Reply:
        form = sign_in_form.read(request.fields())
        if isinstance(form, str):
            return refused(form)
        refusal = self._accounts.refusal(agent, form)
        if refusal is not None:
            return refusal
        sign_in = self.open(agent, form)
        return Reply(message="success", result=self._result(agent, sign_in), guid=sign_in.ring.current, cookies=True)

    def open(self, agent: Agent, form: SignInForm | None = None) -> SignIn:
        """Sign an agent in; without a form he polls and is idle. The first events come before any reply."""
        sign_in = self._roster.open(agent)
        if form is not None:
            sign_in.auto_enter_idle = form.auto_enter_idle
            if form.pushes:
                self._pushing.open(agent, form.callback, form.token)
        agent.posture, agent.posture_reason = form.posture if form else "idle", "0"
        self._monitors.signed_in(agent, listens=form is not None and form.listen_status)
        self._announce(agent)
        return sign_in

    def _announce(self, agent: Agent) -> None:
        told, posture = agent.agent_id, agent.posture
        self._tell.now(told, "AgentOther_InService")
        self._tell.now(told, "AgentState_Ready")
        if posture == "busy":
            self._switchboard.tell_busy(agent, later=False)
        elif posture == "work":
            self._tell.now(told, "AgentState_Work")

    def _result(self, agent: Agent, sign_in: SignIn) -> dict[str, Any]:
        days = agent.password_days
        return {
            "vdnid": 1,
            "workno": agent.agent_id,
            "mediatype": "TTF",
            "loginTime": str(sign_in.login_ms),
            "isForceChange": "true" if agent.force_password_change else "false",
            "serverName": f"AgentGateway{sign_in.node}",
            "timeRemaining": "" if days is None else str(days),
        }

    def _logout(self, request: GatewayRequest, reason: SignOutReason, reply: Reply) -> Reply:
        agent = self._agent(request)
        if reason == "own" and agent.call_id is not None:
            # The plain sign-out does nothing during a call.
            return refused("100-009")
        self._roster.close(agent, reason)
        return reply

    def _force_logout_with_reason(self, request: GatewayRequest) -> Reply:
        if not within(request.values["reason"], 1, 255):
            return refused("100-005")
        return self._logout(request, "forced_own", DONE)

    def _heartbeat(self, request: GatewayRequest) -> Reply:
        """Keep the sign-in alive; a push agent may bring a new service token with it."""
        sign_in, token = self._agent(request).sign_in, request.service_token
        if sign_in is not None and sign_in.push is not None and token:
            if not sign_in_form.is_token(token):
                return refused("100-001")
            sign_in.push.token = token
        return DONE

    def _update_guid(self, request: GatewayRequest) -> Reply:
        sign_in = self._agent(request).sign_in
        if sign_in is None:
            return refused("100-006")
        return Reply(message="success", result={"guid": sign_in.ring.rotate(self._now())})

    def _is_censor(self, request: GatewayRequest) -> Reply:
        return Reply(message="success", result=self._agent(request).inspector)
