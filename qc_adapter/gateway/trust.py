"""What makes a gateway trusted: the TLS context of every connection to it."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qc_adapter.gateway.settings import GatewaySettings


def trust_of(settings: GatewaySettings) -> ssl.SSLContext | None:
    """Return the one TLS context of all connections; `None` for a plain address."""
    if not settings.base_url.startswith("https:"):
        return None
    context = ssl.create_default_context(cafile=settings.ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if settings.cert_file:
        context.load_cert_chain(settings.cert_file, settings.key_file)
    return context
