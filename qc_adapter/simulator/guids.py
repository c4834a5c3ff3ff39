"""After the settings: the GUIDs of one sign-in, the present one and the old ones that still count."""

from __future__ import annotations

import random
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable

GuidAge = Literal["current", "previous", "expired", "taken_over", "wrong", "missing"]


class Mint:
    """Makes GUIDs of the shape that real gateways send: 48 hex digits and the name of the node."""

    def __init__(self, node_number: int, seed: int | None) -> None:
        self._suffix = f".AgentGateway{node_number}"
        # A seed is asked for by those who want equal runs; it is no secret then.
        self._random = None if seed is None else random.Random(seed)  # noqa: S311

    def guid(self) -> str:
        """Return a new GUID."""
        digits = secrets.token_hex(24) if self._random is None else f"{self._random.getrandbits(192):048x}"
        return digits + self._suffix


@dataclass(frozen=True, slots=True)
class Rotation:
    """When a GUID changes and how long the old one lives."""

    dynamic: bool
    interval_seconds: float
    timeout_seconds: float
    grace_seconds: float


class GuidRing:
    """The present GUID of a sign-in, and the previous ones with their end."""

    __slots__ = ("_born", "_mint", "_previous", "_rotation", "_taken_over", "current")

    def __init__(self, mint: Callable[[], str], rotation: Rotation, now: float, taken_over: GuidRing | None) -> None:
        self._mint = mint
        self._rotation = rotation
        self._born = now
        self._previous: list[tuple[str, float]] = []
        self._taken_over = frozenset(taken_over.known()) if taken_over else frozenset()
        self.current = mint()

    def __repr__(self) -> str:
        return "GuidRing(<hidden>)"

    def known(self) -> tuple[str, ...]:
        """Return the GUIDs that this ring has given out and still remembers."""
        return (self.current, *(guid for guid, _ in self._previous))

    def age_of(self, guid: str | None, now: float) -> GuidAge:
        """Say what a presented GUID is worth at this moment."""
        if guid == self.current:
            outlived = self._rotation.dynamic and now - self._born >= self._rotation.timeout_seconds
            return "expired" if outlived else "current"
        if not guid:
            return "missing"
        for old, ends in self._previous:
            if old == guid:
                return "previous" if now < ends else "expired"
        return "taken_over" if guid in self._taken_over else "wrong"

    def due(self, now: float) -> bool:
        """Tell whether the next poll or heartbeat brings a new GUID."""
        return self._rotation.dynamic and now - self._born >= self._rotation.interval_seconds

    def rotate(self, now: float) -> str:
        """Make a new GUID; the old one lives on for the grace, but not beyond its own life."""
        ends = now + self._rotation.grace_seconds
        if self._rotation.dynamic:
            ends = min(ends, self._born + self._rotation.timeout_seconds)
        # Three are enough to tell an expired GUID from a foreign one.
        self._previous = [*self._previous[-2:], (self.current, ends)]
        self._born = now
        self.current = self._mint()
        return self.current

    def move_to(self, mint: Callable[[], str], now: float) -> None:
        """Go on with the GUIDs of another node; the old one lives for the grace, however old it is."""
        self._mint = mint
        self._born = now
        self.rotate(now)
