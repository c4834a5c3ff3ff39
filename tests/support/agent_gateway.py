"""A scripted gateway for whole adapters: each agent's polls and each operation have a script of their own."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import Counter, defaultdict, deque
from dataclasses import dataclass, field

import orjson

from tests.support.scripted import OK, ScriptedGateway, refusal, reply

__all__ = ["AgentGateway", "event", "new_guid", "news", "page", "refusal", "reply", "set_guid"]

POLL = "agentevent"


def event(event_type, content=None, work_no="291", **more):
    """An event as the gateway writes it."""
    return {"eventType": event_type, "workNo": work_no, "content": content} | more


def news(*events, headers=()):
    """The reply to a poll: one event, or an array of them."""
    told = events[0] if len(events) == 1 else list(events)
    return reply(orjson.dumps({"message": "", "retcode": "0", "event": told}), headers=headers)


def set_guid(guid, name="Set-GUID"):
    """The header that hands a GUID out."""
    return (name, f"JSESSIONID={guid}")


def new_guid(node="AgentGateway0"):
    """A GUID of the shape that real gateways send."""
    return f"{secrets.token_hex(24)}.{node}"


def page(status, words="Bad Gateway"):
    """What a proxy in front of the gateway answers."""
    body = f"<html><head><title>{words}</title></head><body><h1>{words}</h1><hr>nginx</body></html>"
    return reply(body.encode(), status=f"{status} {words}", kind="text/html")


@dataclass(frozen=True)
class Request:
    """A request as the gateway understands it; `operation` is the word of its path."""

    operation: str
    agent_id: str
    guid: str
    cookies: str
    verb: str
    target: str
    body: bytes
    at: float


@dataclass
class AgentGateway(ScriptedGateway):
    """
    Holds polls until there is something to tell, and says "0" to everything that no script answers.

    A sign-in that no script answers gets a GUID of its own.
    """

    hold_seconds: float = 0.05
    #: The reply to a poll when there is nothing to tell.
    silence: bytes = field(default_factory=lambda: reply(OK))
    guids: dict = field(default_factory=dict)
    received: list[Request] = field(default_factory=list)
    #: How many polls of an agent it holds; like a real one it does not notice when their connection is gone.
    held: Counter = field(default_factory=Counter)
    _scripts: defaultdict = field(default_factory=lambda: defaultdict(deque))
    _woken: defaultdict = field(default_factory=lambda: defaultdict(asyncio.Event))
    _answered_at: dict = field(default_factory=dict)
    #: Seconds between the reply to a poll and the next poll of the same agent, by agent.
    pauses: defaultdict = field(default_factory=lambda: defaultdict(list))

    def tell(self, *answers, agent_id="291"):
        """Answer the next polls of an agent so."""
        self._scripts[POLL, agent_id].extend(answers)
        self._woken[agent_id].set()

    def told(self, agent_id="291"):
        """Whether polls have taken all that was to be told to an agent."""
        return not self._scripts[POLL, agent_id]

    def answer(self, operation, *answers):
        """Answer the next requests of an operation so, whoever sends them."""
        self._scripts[operation, ""].extend(answers)

    def sign_in_reply(self, agent_id):
        """The reply to a sign-in, with a new GUID."""
        guid = self.guids[agent_id] = new_guid()
        return reply(b'{"message":"success","retcode":"0","result":{}}', headers=[set_guid(guid)])

    def requests(self, operation, agent_id=None):
        """The requests of an operation so far."""
        return [one for one in self.received if one.operation == operation and agent_id in (None, one.agent_id)]

    def polls(self, agent_id="291"):
        """The polls of an agent so far."""
        return self.requests(POLL, agent_id)

    @property
    def commands(self):
        """The operations of all requests but polls, in their order."""
        return [one.operation for one in self.received if one.operation != POLL]

    async def _next(self, heard):
        request = _read(heard)
        self.received.append(request)
        if request.operation == POLL:
            return await self._poll_reply(request.agent_id)
        script = self._scripts[request.operation, ""]
        if script:
            return script.popleft()
        if request.operation in {"login", "forcelogin"}:
            return self.sign_in_reply(request.agent_id)
        return reply()

    async def _poll_reply(self, agent_id):
        now = time.monotonic()
        if agent_id in self._answered_at:
            self.pauses[agent_id].append(now - self._answered_at[agent_id])
        script, woken = self._scripts[POLL, agent_id], self._woken[agent_id]
        self.held[agent_id] += 1
        try:
            async with asyncio.timeout(self.hold_seconds):
                while not script:
                    woken.clear()
                    await woken.wait()
        except TimeoutError:
            pass
        finally:
            self.held[agent_id] -= 1
        self._answered_at[agent_id] = time.monotonic()
        return script.popleft() if script else self.silence


def _read(heard):
    group, agent_id, *rest = heard.target.split("?")[0].removeprefix("/agentgateway/resource/").split("/")
    if group == POLL:
        operation = POLL
    elif group == "onlineagent":
        operation = rest[0] if rest else "login"
    else:
        operation = "stop" if heard.verb == "DELETE" else rest[0]
    named = {name.lower(): value for name, value in heard.headers}
    guid, cookies = named.get("guid", ""), named.get("cookie", "")
    return Request(operation, agent_id, guid, cookies, heard.verb, heard.target, heard.body, time.monotonic())
