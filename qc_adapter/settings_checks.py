"""What settings have to do with each other; everything that does not fit is complained of at once."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from qc_adapter import variables as at
from qc_adapter.environment import Listen
from qc_adapter.model.session import EventSource
from qc_adapter.store.opening import parse_store_url

if TYPE_CHECKING:
    from qc_adapter.environment import Reading, Variable
    from qc_adapter.settings import Settings

# The gateway signs an inspector out after that long without a poll or heartbeat.
SIGN_OUT_SECONDS: Final = 120.0
# A lease is renewed between two polls, and both the poll and the renewal take their way.
LEASE_SPARE_SECONDS: Final = 2.0
#: What the start says of callers where nobody is asked and more than this machine can call.
ANYONE: Final = "anyone"


def check_pair(reading: Reading, cert: Variable[str | None], key: Variable[str | None]) -> None:
    """A certificate and its key come together."""
    for one, other in ((cert, key), (key, cert)):
        if reading.text(one) and not reading.text(other):
            reading.complain(one.name, reading.text(one), f"needs {other.name}: set both or neither")


def check_pins(reading: Reading, of: at.GatewayVariables) -> tuple[str, ...]:
    """Pins stand in the place of an authority, and need TLS; returns those that can be used."""
    pins, shown = reading.value(of.pin), reading.text(of.pin)
    if pins and reading.text(of.url).startswith("http:"):
        reading.complain(of.pin.name, shown, f"is of no use: {of.url.name} is not https")
    elif pins and reading.text(of.ca_file):
        what = f"leaves {of.ca_file.name} without a use: set one of them, the authority or the certificate itself"
        reading.complain(of.pin.name, shown, what)
    else:
        return pins
    return ()


def check_trust(reading: Reading, settings: Settings) -> None:
    """Refuse what would let strangers call, or anybody do everything, rather than to look safe."""
    insecure = reading.value(at.ALLOW_INSECURE)
    if not settings.listen.loopback and not insecure:
        _check_callers(reading, settings)
    listens: list[tuple[Variable[Any], Listen]] = [(at.LISTEN, settings.listen), (at.OPS_LISTEN, settings.ops_listen)]
    if settings.push is not None:
        listens.append((at.PUSH_LISTEN, settings.push.listen))
    for place, (variable, where) in enumerate(listens):
        for earlier, taken in listens[:place]:
            if where.port and where.port == taken.port and reading.sound(variable, earlier):
                reading.complain(variable.name, str(where), f"has the port of {earlier.name}: choose another")


def _check_callers(reading: Reading, settings: Settings) -> None:
    """Whoever can reach the port has to be known, and to be allowed something."""
    certificates = (at.TLS_CERT_FILE, at.TLS_KEY_FILE, at.TLS_CLIENT_CA_FILE)
    tokens = (at.JWT_ISSUER, at.JWT_AUDIENCE, at.JWT_JWKS_FILE, at.JWT_JWKS_URL)
    if not reading.sound(at.LISTEN, at.POLICY_FILE, *certificates, *tokens):
        return
    listen, insecure = str(settings.listen), f"{at.ALLOW_INSECURE.name}=1"
    mutual = settings.tls is not None and settings.tls.client_ca_file is not None
    if not mutual and settings.tokens is None:
        reading.complain(
            at.LISTEN.name,
            listen,
            f"lets anyone who reaches it control calls: set {at.TLS_CLIENT_CA_FILE.name} for mutual TLS or "
            f"{at.JWT_ISSUER.name} for tokens, listen on 127.0.0.1, or set {insecure} if the network keeps "
            "strangers out",
        )
    elif settings.tls is None:
        reading.complain(
            at.LISTEN.name,
            listen,
            f"takes callers' tokens unencrypted: set {at.TLS_CERT_FILE.name}, or {insecure} if the network encrypts",
        )
    elif settings.policy_file is None:
        reading.complain(
            at.LISTEN.name,
            listen,
            f"lets every caller that is known do everything: set {at.POLICY_FILE.name} to say who may do what, or "
            f"{insecure} if that is wanted",
        )


def check_tokens(reading: Reading) -> None:
    """A token is judged by its issuer, its audience and a key; the keys come from one place."""
    keys = (at.JWT_JWKS_FILE, at.JWT_JWKS_URL)
    given = [one for one in (at.JWT_ISSUER, at.JWT_AUDIENCE, *keys) if reading.text(one)]
    if given:
        missing = [one.name for one in (at.JWT_ISSUER, at.JWT_AUDIENCE) if not reading.text(one)]
        if not any(reading.text(one) for one in keys):
            missing.append(f"{keys[0].name} or {keys[1].name}")
        if missing:
            reading.complain(given[0].name, "", f"needs {' and '.join(missing)} too: tokens take all three")
    if all(reading.text(one) for one in keys):
        reading.complain(keys[0].name, reading.text(keys[0]), f"{keys[1].name} is set too: set one of them")
    for one in (at.JWT_JWKS_CA_FILE, at.JWT_JWKS_TOKEN_FILE):
        if reading.text(one) and not reading.text(at.JWT_JWKS_URL):
            reading.complain(one.name, reading.text(one), f"is of no use without {at.JWT_JWKS_URL.name}")


def check_store(reading: Reading, settings: Settings) -> None:
    """What gives an inspector's sign-in away does not leave this machine readable unless somebody says so."""
    if not reading.sound(at.STORE_URL, at.SEAL_KEYS) or settings.seal_keys or settings.store_plain:
        return
    away = [host for host, _ in parse_store_url(settings.store_url.reveal()).nodes if not Listen(host, 0).loopback]
    if away:
        reading.complain(
            at.SEAL_KEYS.name,
            "",
            f"is required: GUIDs and cookies would lie readable in Redis on {away[0]}. qc-adapter seal-key makes a "
            f"key; {at.STORE_PLAIN.name}=1 leaves them readable for other systems",
        )


def check_audit(reading: Reading, settings: Settings) -> None:
    """Where no record can be written nothing is done, so it has to be known before the start."""
    log = settings.audit.log
    if log in at.AUDIT_STREAMS or not reading.sound(at.AUDIT_LOG):
        return
    try:
        what = _why_no_log(Path(log))
    except OSError as error:
        what = f"cannot be looked at: {error.strerror}"
    if what:
        reading.complain(at.AUDIT_LOG.name, log, what)


def _why_no_log(file: Path) -> str:
    if file.is_dir():
        return "is a folder: name a file in it"
    if file.exists():
        needed = os.R_OK | os.W_OK if file.is_file() else os.W_OK  # of a file the last record is read
        return "" if os.access(file, needed) else "cannot be read and written: give it to whom the adapter runs as"
    if not file.parent.is_dir():
        return f"cannot be made: there is no folder {file.parent}"
    if not os.access(file.parent, os.W_OK | os.X_OK):
        return f"cannot be made: whom the adapter runs as may not write to {file.parent}"
    return ""


def open_on_purpose(settings: Settings) -> list[str]:
    """Return what QC_ALLOW_INSECURE lets through, so that the start says it."""
    if settings.listen.loopback:
        return []
    why = f"({at.ALLOW_INSECURE.name}=1)"
    if settings.callers == ANYONE:
        return [f"{at.LISTEN.name}={settings.listen}: anyone who reaches it can control calls {why}"]
    found = []
    if settings.tls is None:
        found.append(f"{at.TLS_CERT_FILE.name} is not set: callers' tokens cross the network unencrypted {why}")
    if settings.policy_file is None:
        found.append(f"{at.POLICY_FILE.name} is not set: every caller that is known can do everything {why}")
    return found


def check_gateways(reading: Reading, settings: Settings) -> None:
    """One gateway under two names would have two readers for each inspector."""
    names: dict[str, str] = {}
    for gateway in settings.gateways:
        variable = at.GatewayVariables(gateway.name).url.name
        other = names.setdefault(gateway.base_url.lower(), variable)
        if other != variable:
            reading.complain(variable, gateway.url, f"is the gateway of {other} already: two readers of one inspector")


def check_push(reading: Reading, settings: Settings) -> None:
    """A gateway that pushes needs to know where to, and how to be known."""
    if settings.push is not None and settings.push.tls is not None and settings.push.url.startswith("http:"):
        what = f"is of no use: {at.PUSH_URL.name} is not https, and no push would get through"
        reading.complain(at.PUSH_TLS_CERT_FILE.name, settings.push.tls.cert_file, what)
    if reading.text(at.PUSH_TLS_CERT_FILE) and not reading.text(at.PUSH_LISTEN):
        reading.complain(
            at.PUSH_TLS_CERT_FILE.name,
            reading.text(at.PUSH_TLS_CERT_FILE),
            f"is of no use without {at.PUSH_LISTEN.name}: where gateways push events to",
        )
    needed = (at.PUSH_LISTEN, at.PUSH_URL, at.PUSH_TOKEN)
    given = [variable for variable in needed if reading.text(variable)]
    missing = [variable.name for variable in needed if variable not in given]
    if not missing:
        return
    if given:
        reading.complain(given[0].name, "", f"needs {' and '.join(missing)} too: push takes all three")
    elif settings.pushes:
        pushed = next(one for one in settings.gateways if one.event_source is EventSource.PUSH)
        name = at.GatewayVariables(pushed.name).event_source.name
        reading.complain(name, EventSource.PUSH, f"needs {', '.join(missing)}: where the gateway pushes events to")


def check_times(reading: Reading, settings: Settings) -> None:
    """No pause may come near the time after which the gateway signs an inspector out."""
    if settings.gateways and reading.sound(at.POLL_HOLD, at.POLL_PAUSE):
        # A poll that is lost must not cost the sign-in: a second one has to fit in.
        margin = settings.gateways[0].poll_margin_seconds
        longest = settings.poll_hold_seconds + margin + settings.poll_pause_seconds
        if 2 * longest > SIGN_OUT_SECONDS:
            reading.complain(
                at.POLL_HOLD.name,
                f"{settings.poll_hold_seconds:g}",
                f"is too long: two polls with {margin:g} s margin and {at.POLL_PAUSE.name} "
                f"({settings.poll_pause_seconds:g}) must fit into the {SIGN_OUT_SECONDS:g} s after which the gateway "
                f"signs an inspector out",
            )
    if settings.gateways and reading.sound(at.LEASE, at.POLL_HOLD):
        _check_lease(reading, settings.lease_seconds, settings.poll_hold_seconds)
    if reading.sound(at.HEARTBEAT) and 2 * settings.heartbeat_seconds > SIGN_OUT_SECONDS / 2:
        reading.complain(
            at.HEARTBEAT.name,
            f"{settings.heartbeat_seconds:g}",
            f"must be at most {SIGN_OUT_SECONDS / 4:g}: a lost heartbeat and a takeover must not come near the "
            f"{SIGN_OUT_SECONDS:g} s after which the gateway signs an inspector out",
        )
    if reading.sound(at.CONFIRM_WITHIN, at.POLL_PAUSE) and (
        settings.confirm_within_seconds <= settings.poll_pause_seconds
    ):
        reading.complain(
            at.CONFIRM_WITHIN.name,
            f"{settings.confirm_within_seconds:g}",
            f"must be longer than {at.POLL_PAUSE.name} ({settings.poll_pause_seconds:g}), or no event can confirm",
        )


def _check_lease(reading: Reading, lease_seconds: float, hold_seconds: float) -> None:
    shortest, longest = hold_seconds + LEASE_SPARE_SECONDS, SIGN_OUT_SECONDS / 2
    if not shortest <= lease_seconds <= longest:
        reading.complain(
            at.LEASE.name,
            f"{lease_seconds:g}",
            f"must be {shortest:g} to {longest:g}: longer than {at.POLL_HOLD.name} ({hold_seconds:g}) and "
            f"{LEASE_SPARE_SECONDS:g} s, so that no two replicas poll at once, and far from the {SIGN_OUT_SECONDS:g} s "
            f"after which the gateway signs an inspector out",
        )
