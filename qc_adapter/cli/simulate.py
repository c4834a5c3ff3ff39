"""The simulate command: options become the switches of the simulated gateway, which runs until Ctrl-C."""

import asyncio
import sys
import tempfile
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from qc_adapter.cli.exits import CommandFailed, Exit
from qc_adapter.cli.options import with_options
from qc_adapter.cli.output import Output
from qc_adapter.cli.simulator_switches import read_switches, switches_text
from qc_adapter.environment import Listen, listen
from qc_adapter.simulator import Scenario, ScenarioInvalid, SimulatorSettings, run
from qc_adapter.simulator.certificates import self_signed
from qc_adapter.simulator.scenario import read as read_scenario

DEFAULT_LISTEN: Final = "127.0.0.1:8043"
DEFAULT_WATCH_SECONDS: Final = 5.0


class Auth(StrEnum):
    """Whether the GUID changes."""

    STATIC = "static"
    DYNAMIC = "dynamic"
    OFF = "off"


@dataclass(frozen=True, slots=True)
class Sockets:
    """Where the simulator listens."""

    address: Annotated[
        str, typer.Option("--listen", metavar="HOST:PORT", help="Plain HTTP; port 0 takes a free one.")
    ] = DEFAULT_LISTEN
    tls_port: Annotated[int | None, typer.Option(min=0, max=65535, help="Listen with TLS there too.")] = None
    cert_file: Annotated[Path | None, typer.Option(help="Its certificate; else it makes one for itself.")] = None
    key_file: Annotated[Path | None, typer.Option(help="Key of the certificate.")] = None
    save_certificate: Annotated[
        Path | None, typer.Option(help="Write its own certificate there, for QC_GATEWAY_CA_FILE.")
    ] = None
    no_control: Annotated[bool, typer.Option("--no-control", help="No control API under /simulator.")] = False


@dataclass(frozen=True, slots=True)
class Behaviour:
    """How the simulated gateway behaves."""

    auth: Annotated[Auth, typer.Option(help="Whether a GUID changes while it is used.")] = Auth.DYNAMIC
    guid_interval: Annotated[float, typer.Option(metavar="SECONDS", help="Between two GUIDs.")] = 60.0
    guid_timeout: Annotated[float, typer.Option(metavar="SECONDS", help="Life of a GUID.")] = 120.0
    silence: Annotated[float, typer.Option(metavar="SECONDS", help="Without a poll until the sign-out.")] = 120.0
    poll_hold: Annotated[float, typer.Option(metavar="SECONDS", help="How long a poll without event is held.")] = 10.0
    no_recording: Annotated[bool, typer.Option("--no-recording", help="Calls are not recorded.")] = False
    phone_connected: Annotated[bool, typer.Option("--phone-connected", help="Phones are never hung up.")] = False
    nodes: Annotated[int, typer.Option(min=1, help="Nodes of the gateway, over which agents are spread.")] = 1
    agent_id_max: Annotated[int, typer.Option(help="59999, or 999999 as newer gateways have it.")] = 59999
    seed: Annotated[int | None, typer.Option(help="Makes chance repeatable.")] = None


@dataclass(frozen=True, slots=True)
class Staff:
    """A call centre that runs by itself."""

    agents: Annotated[int, typer.Option(min=0, help="Agents who work by themselves, without a client.")] = 0
    first_agent: Annotated[int, typer.Option(help="The first of them; the ids follow each other.")] = 20001
    calls_per_minute: Annotated[float, typer.Option(help="Calls that begin by themselves.")] = 0.0
    call_agents: Annotated[
        str, typer.Option(metavar="IDS", help="Who gets them, as 292,293; else those of --agents.")
    ] = ""
    watch_seconds: Annotated[
        float | None,
        typer.Option(min=0, metavar="SECONDS", help="Say what is going on that often; on a terminal 5, else 0: never."),
    ] = None

    def report_seconds(self, *, terminal: bool) -> float:
        """Return how often to say what is going on; 0 is never."""
        if self.watch_seconds is not None:
            return self.watch_seconds
        return DEFAULT_WATCH_SECONDS if terminal else 0.0


@with_options
def simulate(
    scenario: Annotated[Path | None, typer.Option(help="JSON: agents, calls, faults, timed steps.")] = None,
    switches: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Any other switch; --switches lists them.")
    ] = None,
    list_switches: Annotated[bool, typer.Option("--switches", help="List the switches for --set, and end.")] = False,
    *,
    sockets: Sockets,
    behaviour: Behaviour,
    staff: Staff,
) -> None:
    """Run a CC-Gateway to try and test against, until Ctrl-C. It says what it offers, with curl lines."""
    output = Output()
    if list_switches:
        output.line(switches_text())
        return
    with tempfile.TemporaryDirectory(prefix="qc-simulator-") as folder:
        settings = _settings(sockets, behaviour, staff, switches or [], Path(folder))
        begins_with = _scenario(scenario)

        def announce(text: str) -> None:
            output.line(text)
            output.note("Ctrl-C ends it.")

        try:
            asyncio.run(
                run(
                    settings,
                    scenario=begins_with,
                    announce=announce,
                    watch_seconds=staff.report_seconds(terminal=sys.stdout.isatty()),
                    report=output.line,
                )
            )
        except OSError as error:
            what = f"the simulator cannot listen: {error.strerror or error}"
            raise CommandFailed(Exit.UNEXPECTED, what, advice="choose another address with --listen") from error
        except ValueError as error:
            raise CommandFailed(Exit.USAGE, f"the scenario cannot begin: {error}") from error


def _settings(
    sockets: Sockets, behaviour: Behaviour, staff: Staff, switches: list[str], folder: Path
) -> SimulatorSettings:
    where = _listen(sockets.address)
    values: dict[str, Any] = {
        "host": where.host,
        "port": where.port,
        "control_enabled": not sockets.no_control,
        "auth_mode": behaviour.auth.value,
        "guid_interval_seconds": behaviour.guid_interval,
        "guid_timeout_seconds": behaviour.guid_timeout,
        "max_silence_seconds": behaviour.silence,
        "poll_hold_seconds": behaviour.poll_hold,
        "recording": not behaviour.no_recording,
        "phone_connected": behaviour.phone_connected,
        "nodes": behaviour.nodes,
        "agents": staff.agents,
        "first_agent": staff.first_agent,
        "calls_per_minute": staff.calls_per_minute,
        "call_agents": tuple(one.strip() for one in staff.call_agents.split(",") if one.strip()),
        "agent_id_max": behaviour.agent_id_max,
        "random_seed": behaviour.seed,
    }
    values |= _tls(sockets, where.host, folder)
    try:
        return SimulatorSettings(**(values | read_switches(switches)))
    except ValueError as error:
        raise CommandFailed(Exit.USAGE, str(error)) from error


def _listen(text: str) -> Listen:
    try:
        return listen(text)
    except ValueError as error:
        raise CommandFailed(Exit.USAGE, f"--listen {text!r} {error}") from error


def _tls(sockets: Sockets, host: str, folder: Path) -> dict[str, Any]:
    if (sockets.cert_file is None) != (sockets.key_file is None):
        raise CommandFailed(Exit.USAGE, "--cert-file and --key-file belong together")
    given = (sockets.cert_file, sockets.key_file, sockets.save_certificate)
    if sockets.tls_port is None:
        if any(given):
            raise CommandFailed(Exit.USAGE, "a certificate is of no use without --tls-port")
        return {}
    if sockets.cert_file and sockets.key_file:
        if sockets.save_certificate:
            raise CommandFailed(Exit.USAGE, "--save-certificate is for the simulator's own certificate only")
        cert_file, key_file = sockets.cert_file, sockets.key_file
    else:
        cert_file, key_file = folder / "certificate.pem", folder / "key.pem"
        certificate, key = self_signed(host)
        cert_file.write_bytes(certificate)
        key_file.write_bytes(key)
        if sockets.save_certificate:
            _save(sockets.save_certificate, certificate)
    return {"tls_port": sockets.tls_port, "tls_cert_file": str(cert_file), "tls_key_file": str(key_file)}


def _save(path: Path, certificate: bytes) -> None:
    try:
        path.write_bytes(certificate)
    except OSError as error:
        raise CommandFailed(Exit.USAGE, f"{path} cannot be written: {error.strerror}") from error


def _scenario(path: Path | None) -> Scenario | None:
    if path is None:
        return None
    try:
        return read_scenario(path)
    except ScenarioInvalid as invalid:
        what = f"{path} cannot be used:\n" + "\n".join(f"  {problem}" for problem in invalid.problems)
        raise CommandFailed(Exit.USAGE, what) from invalid
