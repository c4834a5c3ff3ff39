"""First for a request: which operation a verb and a path ask for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl, unquote

PREFIX: Final = "/agentgateway/resource/"

# Operation is the gateway's own name in its logs; pages without one have a name of the same style.
ROUTES: Final = (
    ("login", "PUT", "onlineagent/{agentid}"),
    ("forceLogin", "PUT", "onlineagent/{agentid}/forcelogin"),
    ("loginEx", "PUT", "onlineagent/{agentid}/loginex"),
    ("logout", "DELETE", "onlineagent/{agentid}/logout"),
    ("forceLogout", "DELETE", "onlineagent/{agentid}/forcelogout"),
    ("forceLogoutWithReason", "DELETE", "onlineagent/{agentid}/forcelogoutwithreason/{reason}"),
    ("handShake", "POST", "onlineagent/{agentid}/handshake"),
    ("heartbeat", "PUT", "onlineagent/{agentid}/heartbeat"),
    ("updateGuid", "PUT", "onlineagent/{agentid}/updateGuid"),
    ("resetSkill", "POST", "onlineagent/{agentid}/resetskill/{autoflag}"),
    ("getAgentStatus", "GET", "onlineagent/{agentid}/agentstatus"),
    ("sayBusy", "POST", "onlineagent/{agentid}/saybusy"),
    ("sayFree", "POST", "onlineagent/{agentid}/sayfree"),
    ("rest", "POST", "onlineagent/{agentid}/rest/{time}/{reason}"),
    ("getAllAgentEvent", "GET", "agentevent/allagentevent"),
    ("getAgentEvent", "GET", "agentevent/{agentid}"),
    ("isCensor", "GET", "agentgroup/{agentid}/iscensor"),
    ("beginMonitor", "POST", "qualitycontrol/{agentid}/beginmonitor"),
    ("endMonitor", "POST", "qualitycontrol/{agentid}/endmonitor"),
    ("allAgent", "GET", "qualitycontrol/{agentid}/allagent"),
    ("recordFile", "GET", "qualitycontrol/{agentid}/recordfile"),
    ("addInsert", "PUT", "qualitycontrol/{agentid}/addinsert/{workNo}"),
    ("addSupervise", "PUT", "qualitycontrol/{agentid}/addsupervise/{workNo}"),
    ("intercept", "PUT", "qualitycontrol/{agentid}/intercept/{workNo}"),
    ("intercept", "PUT", "qualitycontrol/{agentid}/intercept/{workNo}/{callId}"),
    ("stopSuperviseOrInsert", "DELETE", "qualitycontrol/{agentid}/{workNo}"),
    ("forceBusy", "POST", "qualitycontrol/{agentid}/forcebusy/{workNo}"),
    ("forceIdle", "POST", "qualitycontrol/{agentid}/forceidle/{workNo}"),
    ("forceLogOutAgent", "POST", "qualitycontrol/{agentid}/forcelogout/{workNo}"),
    ("forceDropCall", "POST", "qualitycontrol/{agentid}/forcedropcall/{callId}"),
    ("adjustSkill", "POST", "qualitycontrol/{agentid}/adjustskill"),
    ("switchSuperviseOrInsert", "POST", "qualitycontrol/{agentid}/switch/{workNo}"),
    ("forceRest", "POST", "qualitycontrol/{agentid}/forcerest/{workNo}/{time}/{reason}"),
    ("requestWhisperAgent", "POST", "qualitycontrol/{agentid}/requestwhisperagent"),
    ("requestStopWhisperAgent", "POST", "qualitycontrol/{agentid}/requeststopwhisperagent"),
    ("requestSwitchInsertWhisperAgent", "POST", "qualitycontrol/{agentid}/requestswitchinsertwhisperagent"),
)
_AGENT_NAMES: Final = frozenset({"agentid", "workNo"})


@dataclass(frozen=True, slots=True)
class Route:
    """One operation's way in."""

    operation: str
    verb: str
    segments: tuple[str, ...]

    def match(self, segments: tuple[str, ...]) -> dict[str, str] | None:
        """Return the values of the path's variables, or None."""
        values = {}
        for pattern, segment in zip(self.segments, segments, strict=True):
            if pattern[0] == "{":
                values[pattern[1:-1]] = segment
            elif pattern != segment:
                return None
        return values


@dataclass(frozen=True, slots=True)
class Match:
    """What a request asks for. An operation of "" is none; `allowed` then names the verbs of the path."""

    operation: str
    values: dict[str, str]
    allowed: tuple[str, ...] = ()


NOTHING: Final = Match("", {})


class Router:
    """Finds operations; knows the patterns of agent ids that the gateway routes."""

    def __init__(self, agent_id_max: int) -> None:
        self._agent_id_max = agent_id_max
        self._routes: dict[tuple[str, int], list[Route]] = {}
        for operation, verb, pattern in ROUTES:
            segments = tuple(pattern.split("/"))
            self._routes.setdefault((segments[0], len(segments)), []).append(Route(operation, verb, segments))

    def find(self, verb: str, raw_path: str) -> Match:
        """Return the operation; a trailing slash makes no difference."""
        if not raw_path.startswith(PREFIX):
            return NOTHING
        segments = tuple(map(unquote, raw_path[len(PREFIX) :].rstrip("/").split("/")))
        allowed = []
        for route in self._routes.get((segments[0], len(segments)), ()):
            values = route.match(segments)
            if values is None or not self._routable(values):
                continue
            if route.verb == verb:
                return Match(route.operation, values)
            allowed.append(route.verb)
        return Match("", {}, tuple(allowed)) if allowed else NOTHING

    def _routable(self, values: dict[str, str]) -> bool:
        return all(self._is_agent_id(value) for name, value in values.items() if name in _AGENT_NAMES)

    def _is_agent_id(self, text: str) -> bool:
        """Follow the deployed pattern: no leading zero, five digits up to 59999, or six on newer gateways."""
        return (
            text.isascii()
            and text.isdecimal()
            and text[0] != "0"
            and len(text) <= 6
            and int(text) <= self._agent_id_max
        )


def query(raw: str) -> dict[str, str]:
    """Read a query in which ";" is data, as itself or as %3B."""
    return dict(parse_qsl(raw, keep_blank_values=True, separator="&"))
