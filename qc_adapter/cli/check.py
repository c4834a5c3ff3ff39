"""The check command: every setting redacted, everything that is wrong, on demand whether store and gateway answer."""

import asyncio
import os
import ssl
from collections.abc import Awaitable
from typing import Annotated, Final
from urllib.parse import urlsplit

import typer

from qc_adapter.cli.environment_settings import service_environment
from qc_adapter.cli.exits import CommandFailed, Exit
from qc_adapter.cli.output import BAD, DOUBT, GOOD, HEAD, Output, Part
from qc_adapter.gateway.settings import GatewaySettings
from qc_adapter.gateway.trust import trust_of
from qc_adapter.model.errors import AdapterError
from qc_adapter.sessions.opening import open_store
from qc_adapter.settings import InvalidSettings, Settings, SettingsProblem, describe, read_settings
from qc_adapter.store.opening import open_link

_CONNECT_SECONDS: Final = 5.0


def check(
    connect: Annotated[bool, typer.Option("--connect", help="Also try the session store and the gateway.")] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON object a line, for machines.")] = False,
) -> None:
    """Show the settings of serve, without secrets, and everything that is wrong with them."""
    output = Output(json=json)
    environment = service_environment(os.environ)
    settings, problems = _read(environment)
    _show_settings(output, environment)
    for problem in problems:
        _show_verdict(output, "problem", BAD, str(problem))
    for warning in settings.warnings if settings else ():
        _show_verdict(output, "warning", DOUBT, warning)
    if settings is None:
        count = len(problems)
        raise CommandFailed(Exit.USAGE, f"{count} problem{'s' if count > 1 else ''}: qc-adapter serve would not start")
    _show_verdict(output, "settings", GOOD, "can be used")
    if connect and not asyncio.run(_try(settings, output)):
        raise CommandFailed(Exit.UNAVAILABLE, "not everything could be reached")


def _read(environment: dict[str, str]) -> tuple[Settings | None, tuple[SettingsProblem, ...]]:
    try:
        return read_settings(environment), ()
    except InvalidSettings as invalid:
        return None, invalid.problems


def _show_settings(output: Output, environment: dict[str, str]) -> None:
    rows: list[list[Part]] = []
    for row in describe(environment):
        if output.json:
            output.value({"variable": row.variable, "value": row.value, "default": row.default, "meaning": row.meaning})
        changed = row.value != row.default
        rows.append([row.variable, (row.value, HEAD) if changed else row.value, row.default, row.meaning])
    if not output.json:
        output.table(("variable", "value", "default", "meaning"), rows)
        output.line()


def _show_verdict(output: Output, kind: str, style: str, text: str) -> None:
    if output.json:
        output.value({kind: text})
    else:
        output.line((kind, style), f"  {text}")


async def _try(settings: Settings, output: Output) -> bool:
    """Say whether the store answers and the gateways can be connected to; no inspector is touched."""
    reached = await _attempt(output, "store", _try_store(settings))
    for gateway in settings.gateways:
        name = "gateway" if len(settings.gateways) == 1 else f"gateway {gateway.name}"
        reached = await _attempt(output, name, _try_gateway(gateway)) and reached
    return reached


async def _attempt(output: Output, name: str, attempt: Awaitable[str]) -> bool:
    try:
        async with asyncio.timeout(_CONNECT_SECONDS):
            said = await attempt
    except AdapterError as error:
        said, good = error.message, False
    except TimeoutError:
        said, good = f"no answer within {_CONNECT_SECONDS:g} s", False
    except ssl.SSLError as error:
        said, good = f"TLS failed: {getattr(error, 'verify_message', '') or error.reason}", False
    except OSError as error:
        said, good = f"cannot be connected to: {error.strerror or error}", False
    else:
        good = True
    _show_verdict(output, name, GOOD if good else BAD, said)
    return good


async def _try_store(settings: Settings) -> str:
    store = open_store(open_link(settings.store_url.reveal()))
    try:
        await store.ping()
    finally:
        await store.close()
    return "answers"


async def _try_gateway(gateway: GatewaySettings) -> str:
    parts = urlsplit(gateway.base_url)
    trust = trust_of(gateway)
    port = parts.port or (443 if trust else 80)
    _, writer = await asyncio.open_connection(parts.hostname, port, ssl=trust)
    writer.transport.abort()
    return f"{parts.hostname}:{port} takes connections" + (", and its certificate is trusted" if trust else "")
