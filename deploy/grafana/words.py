# ruff: noqa: INP001 - a program and its modules
"""What both dashboards say in the same way: units, colours, and the meaning of return codes."""

from __future__ import annotations

from typing import Final

from qc_adapter.gateway.retcode_table import ROWS

# Grafana's names of units.
SECONDS: Final = "s"
BYTES: Final = "bytes"
COUNT: Final = "short"
SHARE: Final = "percentunit"
DAYS: Final = "suffix: d"
PER_SECOND: Final = "suffix: /s"

#: After so long without a poll somebody looks, somebody is woken, the gateway signs the inspector out.
POLL_AGE_STEPS: Final = ((60.0, "orange"), (100.0, "red"), (120.0, "dark-red"))
ANY_IS_BAD: Final = ((1.0, "red"),)

#: Requests that the adapter makes by itself, not for a command.
BY_ITSELF: Final = 'method!~"getAgentEvent|handShake"'
REFUSED: Final = 'retcode!="0"'
UNKNOWN: Final = 'outcome="unknown"'
CONFIRMED: Final = 'outcome="confirmed"'
DECLINED: Final = 'outcome="refused"'
#: Outcomes of commands that were sent and whose effect can be seen in events.
SEEN: Final = 'outcome=~"confirmed|unconfirmed|unknown"'

OUTCOMES: Final = {
    "confirmed": "green", "accepted": "blue", "unconfirmed": "yellow", "refused": "orange",
    "unavailable": "purple", "not_sent": "light-purple", "unknown": "red",
}  # fmt: skip
CODES: Final = {
    "OK": "green", "CANCELLED": "text", "FAILED_PRECONDITION": "orange", "INVALID_ARGUMENT": "yellow",
    "UNAVAILABLE": "purple", "UNKNOWN": "red", "INTERNAL": "dark-red", "NOT_FOUND": "light-blue",
    "ALREADY_EXISTS": "blue", "PERMISSION_DENIED": "light-yellow", "UNAUTHENTICATED": "dark-yellow",
    "RESOURCE_EXHAUSTED": "dark-purple", "ABORTED": "dark-blue", "DEADLINE_EXCEEDED": "dark-orange",
}  # fmt: skip
STATES: Final = {
    "idle": "green", "seized": "light-blue", "listening": "blue", "inserted": "dark-blue", "whispering": "purple",
    "intercepted": "orange", "away": "yellow", "signed_out": "text", "unknown": "light-yellow",
    "starting": "light-green", "degraded": "dark-orange", "recovering": "dark-yellow", "lost": "red",
}  # fmt: skip
PUSHES: Final = {
    "taken": "green", "repeated": "blue", "refused": "orange", "unreadable": "dark-orange", "unknown": "yellow",
    "store_unavailable": "red",
}  # fmt: skip
GAPS: Final = {"poll_reply_lost": "yellow", "takeover": "orange", "cursor_expired": "blue", "log_lost": "red"}

RETCODES: Final = {code: meaning for code, _, meaning, *_ in ROWS if code != "0"} | {
    "none": "no readable reply",
    "other": "a code that is in no table",
}
