"""Between the gateway and the replicas' ports for pushes: one address, and one replica behind it at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bench.chaos.proxy import Proxy

if TYPE_CHECKING:
    from bench.chaos.fleet import Replica

TOKEN: Final = "chaostoken4711chaos"  # noqa: S105 - known to nobody but this run


class Balancer:
    """Forwards pushes to one replica; connections that are there already stay where they are."""

    def __init__(self) -> None:
        self.proxy = Proxy(0)
        self.replica: Replica | None = None

    def point(self, replica: Replica | None) -> None:
        """Forward new connections to that replica; to none, they are reset."""
        self.replica = replica
        self.proxy.target_port = 0 if replica is None else replica.push_port

    def environment(self) -> dict[str, str]:
        """Return the settings of replicas behind it, but for where each listens."""
        return {"QC_PUSH_URL": f"http://127.0.0.1:{self.proxy.port}/events", "QC_PUSH_TOKEN": TOKEN}
