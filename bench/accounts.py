"""The books of a storm: every call and every command is in them once, and whatever does not add up is a violation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from bench.driver import METHODS

if TYPE_CHECKING:
    from bench.driver import Order, Result

#: What the simulator says to a wrong move of an inspector.
WRONG_MOVES: Final = frozenset({"900-003", "900-005"})
#: Outcomes that the adapter counts for commands of which nothing left it.
UNSENT: Final = frozenset({"not_sent", "unavailable"})
Samples = Mapping[str, Mapping[tuple[str, ...], float]]


class Accounts:
    """Collects results and compares three books: the callers', the adapter's metrics, the simulator's record."""

    def __init__(self) -> None:
        self.endings: Counter[tuple[str, str]] = Counter()
        self.violations: list[str] = []
        self.calls = 0
        self.messages = 0
        self.cancels_asked = 0
        self._certain: set[tuple[str, str, str]] = set()
        self._given: set[tuple[str, str, str]] = set()

    def note(self, order: Order, result: Result, *, cancel_asked: bool, may_be_refused: bool) -> None:
        """Enter one call; whatever was not asked for is a violation."""
        self.calls += 1
        self.messages += result.messages
        self.cancels_asked += cancel_asked
        self.endings[order.rpc, f"{result.ending} {result.detail}".strip()] += 1
        self._given.add(order.key)
        if result.accepted or result.ending in {"confirmed", "unconfirmed", "refused"}:
            self._certain.add(order.key)
        expected = (
            result.ending == "confirmed"
            or (result.ending == "cancelled" and cancel_asked)
            or (result.ending == "refused" and result.detail in WRONG_MOVES and may_be_refused)
        )
        if not expected:
            self.violate(f"{order.rpc} {order.inspector}->{order.agent}: {result.ending} {result.detail}")

    def violate(self, what: str) -> None:
        """Note what must not be."""
        self.violations.append(what)

    def compare_with_gateway(self, received: Iterable[list[Any]]) -> int:
        """Check the simulator's record: each command once, those that were answered exactly once. Return their sum."""
        counts = {(operation, agent, target): times for operation, agent, target, times, _ in received}
        for key, times in counts.items():
            if times != 1:
                self.violate(f"the gateway received {times} times {' '.join(key)}")
            if key not in self._given:
                self.violate(f"the gateway received what nobody ordered: {' '.join(key)}")
        for key in self._certain - counts.keys():
            self.violate(f"answered, and never received by the gateway: {' '.join(key)}")
        return sum(counts.values())

    def compare_with_metrics(self, metrics: Samples, received: int) -> None:
        """Check the adapter's counters: as many commands sent as the gateway received, as many calls as made."""
        sent = settled_commands(metrics)
        requested = sum(
            number
            for (_, method, _), number in metrics.get("qc_gateway_requests_total", {}).items()
            if method in METHODS.values()
        )
        finished = sum(
            number
            for (_, _, method), number in metrics.get("qc_requests_total", {}).items()
            if method in METHODS.values()
        )
        if sent != received:
            self.violate(f"{sent:g} commands have an outcome and {received} reached the gateway")
        if requested != received:
            self.violate(f"{requested:g} gateway requests are counted and {received} commands reached the gateway")
        # A call that was cancelled at once may never have reached the adapter.
        cancelled = sum(number for (_, ending), number in self.endings.items() if ending == "cancelled")
        if not self.calls - cancelled <= finished <= self.calls:
            self.violate(f"{finished:g} calls are counted, {self.calls} were made and {cancelled} of them cancelled")


def settled_commands(metrics: Samples) -> float:
    """Return how many commands were sent and have an outcome."""
    outcomes = metrics.get("qc_command_outcomes_total", {})
    return sum(
        number for (_, method, outcome), number in outcomes.items()
        if method in METHODS.values() and outcome not in UNSENT
    )  # fmt: skip
