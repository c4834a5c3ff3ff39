"""A request of a client as a value, from the wire to the operation."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import orjson


@dataclass(slots=True)
class GatewayRequest:
    """What one request asks for and who asks."""

    operation: str
    verb: str
    values: dict[str, str]
    query: dict[str, str]
    guid: str | None = field(default=None, repr=False)
    body: bytes = field(default=b"", repr=False)
    guid_age: str = "unchecked"
    service_token: str | None = field(default=None, repr=False)

    @property
    def agent_id(self) -> str:
        """The agent who acts."""
        return self.values.get("agentid", "")

    @property
    def target(self) -> str:
        """The agent acted upon, or ""."""
        return self.values.get("workNo") or self.query.get("whisperagentid", "")

    def fields(self) -> dict[str, Any] | None:
        """Return the members of the body; an empty or null body has none, a broken one is None."""
        text = self.body.strip()
        if not text:
            return {}
        try:
            value = orjson.loads(text)
        except orjson.JSONDecodeError:
            return None
        if value is None:
            return {}
        return value if isinstance(value, dict) else None
