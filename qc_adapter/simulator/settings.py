"""First in the flow: everything about the simulated gateway that a site, an edition or a test may choose."""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003 - the types of the switches are read at run time
from dataclasses import dataclass, field
from typing import Final, Literal

AuthMode = Literal["static", "dynamic", "off"]
LostCode = Literal["100-006", "000-003"]

_NOT_NEGATIVE: Final = (
    "event_delay_seconds",
    "poll_hold_seconds",
    "calls_per_minute",
    "answer_timeout_seconds",
    "agents",
)
_POSITIVE: Final = (
    "max_silence_seconds",
    "push_retry_seconds",
    "push_timeout_seconds",
    "push_batch_limit",
    "nodes",
    "floor_look_seconds",
)


@dataclass(frozen=True, slots=True)
class MistakeCodes:
    """Which retcode answers which wrong move; the reference leaves it open, so it is a choice."""

    no_right: str = "900-002"
    target_unknown: str = "900-004"
    target_without_call: str = "900-003"
    inspector_not_idle: str = "900-005"
    nothing_under_way: str = "900-005"
    # The reference page of intercept lists no 900-005.
    intercept_without_inspection: str = "900-003"
    call_not_found: str = "900-003"
    # Seen with public clients, which take it for a success.
    no_call_to_drop: str = "200-025"


@dataclass(frozen=True, slots=True)
class SimulatorSettings:
    """All switches of the simulated gateway; the defaults are what the reference and real clients tell."""

    # Where it listens. Port 0 takes a free one; a TLS port of None leaves TLS off.
    host: str = "127.0.0.1"
    port: int = 0
    tls_port: int | None = None
    tls_cert_file: str | None = None
    tls_key_file: str | None = None
    self_signed: bool = False
    idle_close_seconds: float = 60.0
    control_enabled: bool = True

    # Authentication.
    auth_mode: AuthMode = "dynamic"
    guid_interval_seconds: float = 60.0
    guid_timeout_seconds: float = 120.0
    guid_grace_override_seconds: float | None = None
    max_silence_seconds: float = 120.0
    only_polls_keep_alive: bool = False
    node_number: int = 0
    nodes: int = 1
    set_guid_on_every_put: bool = False
    session_cookie: bool = True
    balancer_cookie: Literal["none", "huaweielbsession", "loadbalance"] = "none"
    takeover_code: LostCode = "100-006"
    wrong_guid_code: LostCode = "000-003"
    forbid_takeover: bool = False
    phone_number_required: bool = False
    wrong_passwords_until_lock: int | None = 5
    sign_in_limit: int | None = None
    # The reference gives the message of a reached limit, not its code; a provider without resources comes closest.
    sign_in_limit_code: str = "100-003"

    # Bytes.
    empty_poll: Literal["missing", "null"] = "missing"
    error_result: Literal["empty", "missing"] = "empty"
    content_type: Literal["json", "utf8", "gbk", "text"] = "utf8"
    bad_path: Literal["404", "000-002"] = "404"
    agent_id_max: int = 59999

    # Events.
    event_method: Literal["agent", "all"] = "agent"
    poll_hold_seconds: float = 10.0
    event_delay_seconds: float = 0.05
    event_delays: Mapping[str, float | None] = field(default_factory=dict)
    queue_limit: int = 10_000
    concurrent_poll_winner: Literal["newest", "oldest"] = "newest"
    cut_poll_takes_event: bool = True
    shutdown_event_to_held_poll: bool = True
    forced_state_events: Literal["force", "success"] = "force"
    empty_content: Literal["null", "object"] = "null"
    event_time: bool = False
    feature_as_number: bool = False
    nul_padded_call_data: bool = False
    record_first: bool = False
    intercept_inspector_events: tuple[str, ...] = ("AgentEvent_Talking", "AgentMediaEvent_Record")
    intercept_agent_events: tuple[str, ...] = (
        "AgentOther_BeQcStop",
        "AgentEvent_Call_Release",
        "AgentEvent_Customer_Release",
        "AgentOther_PhoneRelease",
        "AgentState_Ready",
    )

    # Push: the events of those who sign in with callBackUri and serviceToken.
    push_shape: Literal["new", "old"] = "new"
    push_event_work_no: bool = True
    push_before_reply: bool = False
    push_retry_seconds: float = 10.0
    push_fail_seconds: float = 120.0
    push_timeout_seconds: float = 5.0
    push_batch_limit: int = 100
    push_trust_all: bool = False
    push_ca_file: str | None = None

    # Inspection and calls.
    monitored_agent_as_number: bool = False
    acting_inspector_is_told: bool = False
    mistake_codes: MistakeCodes = field(default_factory=MistakeCodes)
    recording: bool = True
    record_file_bytes: int = 1_000_000
    record_file_cut_after: int | None = None
    phone_connected: bool = False
    phone_answered: bool = True
    answer_timeout_seconds: float = 20.0
    calls_per_minute: float = 0.0
    call_agents: tuple[str, ...] = ()
    call_seconds: tuple[float, float] = (20.0, 60.0)
    calls_need_skills: bool = True

    # Staff that works by itself, and its habits; each of them looks up once in `floor_look_seconds` on average.
    agents: int = 0
    first_agent: int = 20001
    floor_look_seconds: float = 30.0
    floor_hold_chance: float = 0.15
    floor_wrap_up_chance: float = 0.3
    floor_wrap_up_seconds: tuple[float, float] = (5.0, 20.0)
    random_seed: int | None = None

    # The record.
    recorded_requests: int = 5_000

    def __post_init__(self) -> None:
        found = problems(self)
        if found:
            raise ValueError("; ".join(found))

    @property
    def guid_grace_seconds(self) -> float:
        """How long an old GUID lives beside the new one."""
        if self.guid_grace_override_seconds is not None:
            return self.guid_grace_override_seconds
        return self.guid_timeout_seconds - self.guid_interval_seconds


def problems(settings: SimulatorSettings) -> list[str]:
    """Everything that is wrong with the settings, all of it at once."""
    found = []
    if settings.guid_timeout_seconds <= settings.guid_interval_seconds:
        found.append(
            f"guid_timeout_seconds ({settings.guid_timeout_seconds:g}) must exceed "
            f"guid_interval_seconds ({settings.guid_interval_seconds:g})"
        )
    if settings.agent_id_max not in (59999, 999999):
        found.append(f"agent_id_max must be 59999 or 999999, not {settings.agent_id_max}")
    if bool(settings.tls_cert_file) != bool(settings.tls_key_file):
        found.append("tls_cert_file and tls_key_file belong together")
    if settings.tls_port is not None and not (settings.tls_cert_file or settings.self_signed):
        found.append("tls_port needs tls_cert_file and tls_key_file, or self_signed")
    found += [f"{name} must not be negative" for name in _NOT_NEGATIVE if getattr(settings, name) < 0]
    found += [f"{name} must be positive" for name in _POSITIVE if getattr(settings, name) <= 0]
    found += [
        f"{name} must be from 0 to 1"
        for name in ("floor_hold_chance", "floor_wrap_up_chance")
        if not 0 <= getattr(settings, name) <= 1
    ]
    for name in ("call_seconds", "floor_wrap_up_seconds"):
        spans = getattr(settings, name)
        if len(spans) != 2 or not 0 <= spans[0] <= spans[1]:
            found.append(f"{name} must be two rising numbers")
    last_agent = settings.first_agent + settings.agents - 1
    if settings.agents and not 101 <= settings.first_agent <= last_agent <= settings.agent_id_max:
        found.append(f"agents {settings.first_agent} to {last_agent} are not within 101 to {settings.agent_id_max}")
    return found
