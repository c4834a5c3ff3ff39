"""Beside the wire: the acts of the controls as JSON under /simulator."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import orjson
from aiohttp import web

from qc_adapter.simulator.calls import CallRefused
from qc_adapter.simulator.controls import ATTRIBUTES, Controls
from qc_adapter.simulator.faults import parse_fault
from qc_adapter.simulator.scenario_steps import fits

BODY_TIMEOUT_SECONDS: Final = 30.0
DOORS: Final = {
    "GET /simulator": "this list",
    "GET /simulator/state": "agents, calls, inspections, nodes, armed faults",
    "GET /simulator/floor": "figures: agents by state, calls, inspections, requests a second, events, pushes",
    "GET /simulator/record": "requests with their traceparent, events sent, overlapping polls, pushes, sign-outs",
    "POST /simulator/calls": '{"agent_id": "292", "customer": "13800000000"} begins a call',
    "DELETE /simulator/calls/{call_id}": "the customer hangs up",
    "POST /simulator/calls/{call_id}/hold": "puts the call on hold; /resume takes it back",
    "POST /simulator/agents/{agent_id}": f"sets {', '.join(ATTRIBUTES)}",
    "DELETE /simulator/agents/{agent_id}": "signs the agent out",
    "POST /simulator/agents/{agent_id}/rotate": "changes the GUID now",
    "POST /simulator/events": '{"agent_id": "101", "event": {...}} or {"agent_id": "101", "raw_body": "..."}',
    "POST /simulator/faults": '{"match": {"operation": "intercept"}, "action": "reset_after", "times": 1}',
    "GET /simulator/faults": "lists what is armed",
    "DELETE /simulator/faults": "disarms all faults",
    "POST /simulator/nodes/{number}/fail": '{"keep_sign_ins": true, "switch_seconds": 20}; /recover ends it',
    "POST /simulator/restart": '{"down_seconds": 6} loses all sign-ins and refuses connections for a while',
    "POST /simulator/reset": "forgets everything",
}


class _Wrong(ValueError):
    """The request cannot be done; says all that is wrong with it."""

    def __init__(self, found: list[str]) -> None:
        super().__init__("; ".join(found))
        self.found = found


class ControlApi:
    """Answers the requests under /simulator."""

    def __init__(self, controls: Controls) -> None:
        self._controls = controls

    async def handle(self, http: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        parts = tuple(part for part in http.rel_url.path.split("/") if part)[1:]
        try:
            body = await _body(http)
            answer = self._act(http.method, parts, body)
        except _Wrong as wrong:
            return _json({"problems": wrong.found}, 400)
        except CallRefused as refused:
            return _json({"problems": [str(refused)]}, 409)
        except ValueError as error:
            return _json({"problems": [str(error)]}, 400)
        if answer is None:
            return _json({"problems": [f"{http.method} {http.rel_url.path} is not offered"]}, 404)
        return _json(answer, 200)

    def _act(self, verb: str, parts: tuple[str, ...], body: Any) -> Any:
        controls = self._controls
        match (verb, *parts):
            case ("GET",):
                return DOORS
            case ("GET", "state"):
                return controls.state()
            case ("GET", "floor"):
                return controls.floor()
            case ("GET", "record"):
                return controls.record.as_json()
            case ("POST", "calls"):
                _want(body, {"agent_id"}, {"customer", "recorded"})
                customer = body.get("customer")
                recorded = body.get("recorded")
                call_id = controls.start_call(
                    str(body["agent_id"]), None if customer is None else str(customer), recorded=recorded
                )
                return {"call_id": call_id}
            case ("DELETE", "calls", call_id):
                controls.end_call(call_id)
            case ("POST", "calls", call_id, "hold" | "resume" as act):
                controls.hold_call(call_id, held=act == "hold")
            case (_, "agents", *_):
                return self._act_on_agent(verb, parts, body)
            case (_, "nodes" | "restart" | "reset", *_):
                return self._act_on_site(verb, parts, body)
            case _:
                return self._act_on_events(verb, parts, body)
        return {"done": True}

    def _act_on_agent(self, verb: str, parts: tuple[str, ...], body: Any) -> Any:
        controls = self._controls
        if len(parts) > 1 and not parts[1].isdecimal():
            raise _Wrong([f"agent_id must be digits, not {parts[1]!r}"])
        match (verb, *parts):
            case ("POST", "agents", agent_id):
                controls.set_agent(agent_id, **attributes(body))
            case ("DELETE", "agents", agent_id):
                return {"signed_out": controls.sign_out(agent_id)}
            case ("POST", "agents", agent_id, "rotate"):
                self._signed_in(agent_id)
                controls.rotate(agent_id)
            case _:
                return None
        return {"done": True}

    def _act_on_site(self, verb: str, parts: tuple[str, ...], body: Any) -> Any:
        controls = self._controls
        match (verb, *parts):
            case ("POST", "nodes", number, "fail") if number.isdecimal():
                body = {} if body is None else body
                _want(body, set(), {"keep_sign_ins", "switch_seconds"})
                return {"sign_ins": controls.fail_node(int(number), **_typed(body))}
            case ("POST", "nodes", number, "recover") if number.isdecimal():
                controls.recover_node(int(number))
            case ("POST", "restart"):
                body = {} if body is None else body
                _want(body, set(), {"down_seconds"})
                return {"sign_ins_lost": controls.restart(**_typed(body))}
            case ("POST", "reset"):
                controls.reset()
            case _:
                return None
        return {"done": True}

    def _act_on_events(self, verb: str, parts: tuple[str, ...], body: Any) -> Any:
        controls = self._controls
        match (verb, *parts):
            case ("POST", "events"):
                self._queue(body)
            case ("POST", "faults"):
                fault, found = parse_fault(body)
                if fault is None:
                    raise _Wrong(found)
                controls.add_fault(fault)
            case ("GET", "faults"):
                return controls.gateway.faults.armed()
            case ("DELETE", "faults"):
                controls.clear_faults()
            case _:
                return None
        return {"done": True}

    def _queue(self, body: Any) -> None:
        _want(body, {"agent_id"}, {"event", "raw_body"})
        if ("event" in body) == ("raw_body" in body):
            raise _Wrong(["either event or raw_body is needed"])
        agent_id = str(body["agent_id"])
        self._signed_in(agent_id)
        if "raw_body" in body:
            self._controls.inject_raw(agent_id, str(body["raw_body"]).encode())
        elif isinstance(body["event"], dict | list | str | None):
            self._controls.inject(agent_id, body["event"])
        else:
            raise _Wrong(["event must be an object, a list, a text or null"])

    def _signed_in(self, agent_id: str) -> None:
        if self._controls.gateway.roster.agent(agent_id).sign_in is None:
            raise CallRefused(f"agent {agent_id} is not signed in")


def attributes(value: Any) -> dict[str, Any]:
    """Return checked attributes of an agent; raises ValueError with all that is wrong."""
    if not isinstance(value, dict):
        raise _Wrong(["the attributes must be an object"])
    found = [f"{name} is no attribute of an agent" for name in value if name not in ATTRIBUTES]
    found += [
        f"{name} must be of type {kind.__name__}"
        for name, kind in ATTRIBUTES.items()
        if name in value and not fits(value[name], (kind,))
    ]
    if found:
        raise _Wrong(found)
    return value


def _want(body: Any, needed: set[str], optional: set[str]) -> None:
    if not isinstance(body, dict):
        raise _Wrong(["the body must be an object"])
    found = [f"{name} is missing" for name in sorted(needed - set(body))]
    found += [f"{name} is not known" for name in body if name not in needed | optional]
    if found:
        raise _Wrong(found)


def _typed(body: dict[str, Any]) -> dict[str, Any]:
    """Return the members if each has its type; seconds are from 0 on."""
    found = []
    for name, value in body.items():
        if name.endswith("_seconds"):
            if not fits(value, (int, float)) or value < 0:
                found.append(f"{name} must be a number from 0 on")
        elif not isinstance(value, bool):
            found.append(f"{name} must be of type bool")
    if found:
        raise _Wrong(found)
    return body


async def _body(http: web.BaseRequest) -> Any:
    if not http.can_read_body:
        return None
    async with asyncio.timeout(BODY_TIMEOUT_SECONDS):
        text = await http.read()
    try:
        return orjson.loads(text) if text.strip() else None
    except orjson.JSONDecodeError as error:
        raise _Wrong([f"the body is not JSON: {error}"]) from error


def _json(value: Any, status: int) -> web.Response:
    return web.Response(
        status=status,
        body=orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE),
        content_type="application/json",
    )
