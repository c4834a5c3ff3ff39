"""Where gateways push to: whether the name resolves, and whether our certificate is for it."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from qc_adapter import variables as at
from qc_adapter.cli.connect.certificates import fits, names_in, own_certificate, told
from qc_adapter.cli.connect.findings import resolved

if TYPE_CHECKING:
    from qc_adapter.cli.connect.findings import Findings
    from qc_adapter.settings import PushSettings


async def look_at_push(push: PushSettings, findings: Findings) -> None:
    """Look as far as can be seen from here: the way from the gateway to the address only the gateway can try."""
    host = urlsplit(push.url).hostname or ""
    name = at.PUSH_URL.name
    findings.begin(f"the name {host} in {name}", "check it where the gateway is: it has to resolve there")
    try:
        await resolved(host, 0)
    except OSError:
        findings.warning(f"the name {host} in {name} does not resolve here", findings.change)
    else:
        findings.good(f"the name {host} in {name} resolves")
    if push.tls is None:
        if push.url.startswith("https:"):
            change = f"have something before {at.PUSH_LISTEN.name} speak TLS, or set {at.PUSH_TLS_CERT_FILE.name}"
            findings.warning(f"{name} is https, and the port itself speaks plain HTTP", change)
        return
    try:
        names = names_in(own_certificate(push.tls.cert_file))
    except (OSError, ValueError):
        return  # among the certificates it is told
    if fits(host, names):
        findings.good(f"{at.PUSH_TLS_CERT_FILE.name} is for {host}")
    else:
        text = f"{at.PUSH_TLS_CERT_FILE.name} is for {told(names)}, not for {host}: the gateway refuses it"
        findings.warning(text, f"have one made for {host}, unless something before the port has one")
