"""Which sign-ins of ours are polled and which are pushed, and what a gateway is told for that."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from qc_adapter.model.errors import InvalidRequest
from qc_adapter.model.inspector import gateway_of
from qc_adapter.model.session import NO_SECRET, EventSource, Secret

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qc_adapter.gateway.requests import SignInForm


@dataclass(frozen=True, slots=True)
class EventSources:
    """
    What the settings say of each gateway's events.

    `callbacks` are the addresses that gateways push to, empty when push is not set up; `token` is what they show there.
    """

    of_gateways: Mapping[str, EventSource] = field(default_factory=dict)
    callbacks: Mapping[str, str] = field(default_factory=dict)
    token: Secret = NO_SECRET

    def of(self, agent_id: str) -> EventSource:
        """Return how the events of the inspector's sign-ins come."""
        return self.of_gateways.get(gateway_of(agent_id), EventSource.POLL)

    def complete(self, agent_id: str, form: SignInForm) -> SignInForm:
        """Return the form with where to push to, if the events are to be pushed."""
        if self.of(agent_id) is not EventSource.PUSH:
            return form
        return replace(form, callback_uri=self.callbacks[gateway_of(agent_id)], service_token=self.token)

    def chosen(self, agent_id: str, asked: EventSource | None) -> EventSource:
        """Return the source that was asked for, or the gateway's own; raises `InvalidRequest`."""
        if asked is EventSource.PUSH and gateway_of(agent_id) not in self.callbacks:
            needed = "QC_PUSH_LISTEN, QC_PUSH_URL and QC_PUSH_TOKEN"
            raise InvalidRequest([("event_source", f"PUSH needs a place to push to: set {needed}")])
        return asked or self.of(agent_id)
