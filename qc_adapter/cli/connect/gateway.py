"""One gateway, step by step: its name, a connection, TLS, and whether it is a CC-Gateway that answers there."""

from __future__ import annotations

import asyncio
import os
import ssl
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from cryptography import x509

from qc_adapter.cli.connect.certificates import issuer_of, names_in, say_how_long, told
from qc_adapter.cli.connect.findings import LOOK_SECONDS, connected, resolved
from qc_adapter.gateway.envelope import UnreadableReply, read_envelope
from qc_adapter.gateway.operations import Operation
from qc_adapter.gateway.requests import GatewayRequest
from qc_adapter.gateway.transport import GatewayTransport
from qc_adapter.gateway.trip import COMMON_HEADERS
from qc_adapter.gateway.trust import fingerprint_of, trust_of
from qc_adapter.gateway.wire import NotSent, NotSentWhy, ReplyLost
from qc_adapter.variables import GatewayVariables

if TYPE_CHECKING:
    import socket

    from qc_adapter.cli.connect.findings import Addresses, Findings
    from qc_adapter.gateway.settings import GatewaySettings
    from qc_adapter.gateway.wire import RawReply

#: A question about an agent that cannot be: ids begin at 101, and gateways route those from 1 on (CONTRACT 7). It
#: carries no GUID, so it is refused, with a retcode; and it only asks.
_HARMLESS: Final = GatewayRequest(
    Operation("getAgentStatus", "GET", "/onlineagent/{agent_id}/agentstatus", "", ""), "/onlineagent/100/agentstatus"
)
_SKEW_SECONDS: Final = 30.0
#: OpenSSL's reasons for not trusting a certificate, as far as something else has to be changed.
_EXPIRED, _NOT_YET = 10, 9
_OTHER_HOST: Final = (62, 64)


@dataclass(frozen=True, slots=True)
class _Shown:
    """What the other side showed in the handshake; `certificate` is None if only TLS can read it."""

    certificate: x509.Certificate | None
    fingerprint: str
    version: str


async def look_at_gateway(gateway: GatewaySettings, findings: Findings) -> None:
    """Go as far as it goes; what fails says what to change."""
    parts = urlsplit(gateway.base_url)
    trust = trust_of(gateway)
    host, port = parts.hostname or "", parts.port or (443 if trust else 80)
    variables = GatewayVariables(gateway.name)
    url = variables.url.name
    findings.begin(f"the name {host}", f"check the host in {url}, and the name servers of this machine")
    try:
        addresses = await resolved(host, port)
    except OSError:
        findings.problem(f"the name {host} does not resolve", findings.change)
        return
    findings.begin(
        f"connecting to {host}:{port}",
        f"check the port in {url} (8043 as a rule), and firewalls and network policies on the way",
    )
    try:
        connection = await connected(addresses)
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else "no address"
        findings.problem(f"cannot be connected to: {host}:{port}: {why}", findings.change)
        return
    if trust is None:
        connection.close()
        findings.good(f"{host}:{port} takes connections")
    else:
        shown = await _shake_hands(findings, variables, trust, connection, host=host, port=port, addresses=addresses)
        if shown is None:
            return
        _say_what_is_shown(findings, shown, pinned=bool(gateway.pins))
    await _ask(findings, gateway, variables)


async def _shake_hands(
    findings: Findings,
    variables: GatewayVariables,
    trust: ssl.SSLContext,
    connection: socket.socket,
    *,
    host: str,
    port: int,
    addresses: Addresses,
) -> _Shown | None:
    findings.begin(f"the TLS handshake with {host}:{port}", f"check that the port in {variables.url.name} speaks TLS")
    try:
        shown = await _certificate(connection, trust, host)
    except ssl.SSLCertVerificationError as error:
        _say_why_not_trusted(findings, variables, error, await _shown(addresses, host))
        return None
    except ssl.SSLError as error:
        _say_why_no_tls(findings, variables, error.reason or "")
        return None
    except OSError:
        text = f"{host}:{port} ends the connection in the TLS handshake"
        findings.problem(text, f"{findings.change}; if it wants a certificate, {_ours(variables)}")
        return None
    findings.good(f"{host}:{port} takes connections, and its certificate is trusted")
    return shown


def _say_what_is_shown(findings: Findings, shown: _Shown, *, pinned: bool) -> None:
    findings.good(f"it speaks {shown.version}, and the SHA-256 of its certificate is {shown.fingerprint}")
    if shown.certificate is not None:
        end = shown.certificate.not_valid_after_utc.timestamp()
        change = "have the gateway's certificate renewed"
        say_how_long(findings, "the gateway's certificate", end, change, fatal=not pinned)  # a pin asks for no dates


async def _certificate(connection: socket.socket, context: ssl.SSLContext, host: str) -> _Shown:
    """Shake hands, hang up, and return what the other side showed."""
    try:
        _, writer = await asyncio.open_connection(
            sock=connection, ssl=context, server_hostname=host, ssl_handshake_timeout=2 * LOOK_SECONDS
        )
    except BaseException:
        connection.close()
        raise
    spoken = writer.get_extra_info("ssl_object")
    certificate, version = spoken.getpeercert(binary_form=True) or b"", spoken.version() or "TLS"
    writer.transport.abort()
    fingerprint = fingerprint_of(certificate)
    try:
        return _Shown(x509.load_der_x509_certificate(certificate), fingerprint, version)
    except (TypeError, ValueError):
        return _Shown(None, fingerprint, version)  # TLS took it: how long it lasts cannot be told


async def _shown(addresses: Addresses, host: str) -> _Shown | None:
    """Return a certificate that is not trusted, to say what stands in it; nothing is sent to who shows it."""
    blind = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    blind.check_hostname = False
    blind.verify_mode = ssl.CERT_NONE
    try:
        return await _certificate(await connected(addresses), blind, host)
    except OSError:  # SSLError is one
        return None


def _say_why_not_trusted(
    findings: Findings,
    variables: GatewayVariables,
    error: ssl.SSLCertVerificationError,
    shown: _Shown | None,
) -> None:
    said = error.verify_message.strip(". ")
    text = f"the gateway's certificate is not trusted: {said}"
    certificate = shown.certificate if shown else None
    pin = f"{variables.pin.name}={shown.fingerprint}" if shown else variables.pin.name
    if not error.verify_code:
        change = f"ask who runs the gateway whether that is its certificate; if so, set {pin}, the old pin beside it"
        findings.problem(text, f"{change} as long as both may be shown")
    elif error.verify_code == _EXPIRED:
        findings.problem(text, "have the gateway's certificate renewed; if it is good, set this machine's clock")
    elif error.verify_code == _NOT_YET:
        findings.problem(text, "set this machine's clock, or wait until the certificate is valid")
    elif error.verify_code in _OTHER_HOST:
        names = told(names_in(certificate)) if certificate else "others"
        findings.problem(text, f"set {variables.url.name} to a host that the certificate is for ({names})")
    else:
        who = f", {issuer_of(certificate)}" if certificate else ""
        change = f"set {variables.ca_file.name} to a file with the CA that signed it{who}"
        findings.problem(text, f"{change}; or, if who runs the gateway confirms that SHA-256, set {pin}")


def _say_why_no_tls(findings: Findings, variables: GatewayVariables, reason: str) -> None:
    url = variables.url.name
    if "ALERT" in reason and ("CERT" in reason or "UNKNOWN_CA" in reason):
        findings.problem("the gateway does not accept our certificate, or wants one", _ours(variables))
    elif "HANDSHAKE_FAILURE" in reason:
        text = "the gateway declines the TLS handshake: it may want a certificate of ours, or other ciphers"
        findings.problem(text, _ours(variables))
    elif "WRONG_VERSION" in reason or "RECORD" in reason or "HTTP_REQUEST" in reason:
        findings.problem("what listens there does not speak TLS", f"check the port in {url}; 8043 as a rule")
    else:
        text = f"the TLS handshake failed: {reason.lower().replace('_', ' ') or 'no reason was given'}"
        findings.problem(text, f"have the gateway speak TLS 1.2 or newer; check the port in {url}")


def _ours(variables: GatewayVariables) -> str:
    return f"set {variables.cert_file.name} and {variables.key_file.name} to one that the gateway trusts"


async def _ask(findings: Findings, gateway: GatewaySettings, variables: GatewayVariables) -> None:
    """Send a request in the way that serve does, and judge what answers."""
    findings.begin("an HTTP request", f"check that {variables.url.name} is the gateway itself")
    transport = GatewayTransport(gateway)
    try:
        reply = await transport.send(_HARMLESS, dict(COMMON_HEADERS), 2 * LOOK_SECONDS, lambda: None)
    except NotSent as failure:
        findings.problem(failure.text, _ours(variables) if failure.why is NotSentWhy.TRUST else findings.change)
    except ReplyLost as failure:
        plain = gateway.base_url.startswith("http:")
        hint = "if it speaks TLS, begin with https" if plain else f"if it wants a certificate, {_ours(variables)}"
        findings.problem(f"an HTTP request: {failure.text}", f"{findings.change}; {hint}")
    else:
        _judge(findings, variables, reply)
        _compare_clocks(findings, reply)
    finally:
        await transport.close()


def _judge(findings: Findings, variables: GatewayVariables, reply: RawReply) -> None:
    """Say whether that was a CC-Gateway: only that answers with a retcode, whatever it thinks of the request."""
    url, status = variables.url.name, reply.status
    try:
        retcode = read_envelope(status, reply.headers, reply.body).retcode
        why = f"HTTP {status} without a retcode"
    except UnreadableReply as unreadable:
        retcode, why = "", unreadable.why
    if retcode and not 300 <= status < 400:
        findings.good(f"a CC-Gateway answers (retcode {retcode}, which is as it should be without a sign-in)")
    elif 300 <= status < 400:
        text = f"HTTP {status} sends the request elsewhere{_where_to(reply)}"
        findings.problem(text, f"set {url} to the gateway's own address: this one is of a portal or proxy before it")
    elif status in {401, 403, 407}:
        findings.problem(
            f"HTTP {status} bars the request", "have this machine's address put on the allow list before the gateway"
        )
    elif status == 404:
        findings.problem(
            "HTTP 404: there is no CC-Gateway at that path",
            f"set {url} to host and port alone; a path only if the gateway is not at /agentgateway/resource",
        )
    elif status >= 500:
        findings.problem(f"HTTP {status}: a proxy answers, or a gateway that is ill", "have the gateway looked at")
    else:
        findings.problem(
            f"what answers is no CC-Gateway: {why}", f"check host and port in {url}: this is another web server"
        )


def _where_to(reply: RawReply) -> str:
    """Return the host that a redirection names; not the rest of it, which may hold what nobody should see."""
    try:
        host = urlsplit(reply.headers.first("Location")).hostname
    except ValueError:
        return ""
    return f", to {host}" if host and host.isascii() else ""


def _compare_clocks(findings: Findings, reply: RawReply) -> None:
    """Compare the clocks, if the reply tells the time: GUIDs and events are judged by it."""
    try:
        theirs = parsedate_to_datetime(reply.headers.first("Date")).timestamp()
    except (ValueError, OverflowError):  # the latter for a year that no computer has
        return
    ahead = theirs - time.time()
    if abs(ahead) > _SKEW_SECONDS:
        text = f"the gateway's clock is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} ours"
        findings.warning(text, "set both by NTP: what is old and what is new is told by the time")
