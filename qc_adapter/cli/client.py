"""The options that every command has which calls an adapter, and the connection made of them."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import typer

from qc_adapter.cli.exits import CommandFailed, Exit
from qc_adapter.cli.output import Output
from qc_adapter.client import CertificateFiles, QualityControlClient, TokenExposed

_HOST_PORT: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s:/@,]+):([0-9]{1,5})")
_SCHEME: Final = re.compile(r"(dns|ipv4|ipv6|unix|xds):\S+")
UNARY_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True)
class ClientOptions:
    """Where the adapter is, how it is trusted, and how to print."""

    target: Annotated[
        str, typer.Option(envvar="QC_TARGET", help="Adapter to call, as host:port; several as a list with commas.")
    ] = "127.0.0.1:50051"
    timeout_seconds: Annotated[
        float | None, typer.Option("--timeout", metavar="SECONDS", help="Longest time for the whole call.")
    ] = None
    json: Annotated[bool, typer.Option("--json", help="One JSON object a line, for machines.")] = False
    tls: Annotated[bool, typer.Option("--tls", help="Use TLS with the system's CAs.")] = False
    ca_file: Annotated[
        Path | None, typer.Option(envvar="QC_CA_FILE", help="Use TLS; CAs that sign the adapter's certificate.")
    ] = None
    cert_file: Annotated[
        Path | None, typer.Option(envvar="QC_CERT_FILE", help="Certificate of this caller, for mutual TLS.")
    ] = None
    key_file: Annotated[Path | None, typer.Option(envvar="QC_KEY_FILE", help="Key of that certificate.")] = None
    token_file: Annotated[
        Path | None, typer.Option(envvar="QC_TOKEN_FILE", help="Token (JWT) of this caller; read anew at each call.")
    ] = None
    token_unencrypted: Annotated[
        bool, typer.Option("--token-unencrypted", help="Send the token without TLS, where something else encrypts.")
    ] = False

    def output(self) -> Output:
        """Return where to print."""
        return Output(json=self.json)

    def __post_init__(self) -> None:
        if problems := self.problems():
            raise CommandFailed(Exit.USAGE, "; ".join(problems))

    def problems(self) -> list[str]:
        """Return everything that is wrong with the options."""
        found = []
        if _SCHEME.fullmatch(self.target) is None and not all(map(_is_host_port, self.target.split(","))):
            found.append(f"--target {self.target!r} must be host:port, for example 127.0.0.1:50051")
        if self.timeout_seconds is not None and not 0 < self.timeout_seconds < 10**9:
            found.append("--timeout must be a number of seconds above 0")
        if (self.cert_file is None) != (self.key_file is None):
            found.append("--cert-file and --key-file belong together")
        return found


def _is_host_port(text: str) -> bool:
    match = _HOST_PORT.fullmatch(text)
    return match is not None and 0 < int(match[2]) <= 65535


@asynccontextmanager
async def connect(options: ClientOptions) -> AsyncIterator[QualityControlClient]:
    """Open a client; the first call connects it."""
    credentials = None
    if options.tls or options.ca_file or options.cert_file:
        credentials = CertificateFiles(options.ca_file, options.cert_file, options.key_file)
        _check(credentials)
    client = QualityControlClient(
        options.target, credentials, token_file=options.token_file, token_unencrypted=options.token_unencrypted
    )
    try:
        await client.open()
    except TokenExposed as error:
        raise CommandFailed(
            Exit.USAGE, str(error), advice="give --tls or --ca-file; --token-unencrypted if the network encrypts"
        ) from error
    except (OSError, ValueError) as error:
        raise CommandFailed(
            Exit.UNAVAILABLE, f"cannot reach {options.target}: {error}", advice="check --target"
        ) from error
    try:
        yield client
    finally:
        await client.close()


def _check(files: CertificateFiles) -> None:
    try:
        files.read()
    except OSError as error:
        raise CommandFailed(Exit.USAGE, f"{error.filename} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise CommandFailed(Exit.USAGE, str(error)) from error
