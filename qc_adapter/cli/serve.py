"""The serve command: settings from the environment, then the service until SIGTERM or Ctrl-C."""

from __future__ import annotations

import os
import resource
from typing import TYPE_CHECKING

import structlog

from qc_adapter import app
from qc_adapter import variables as at
from qc_adapter.cli.collector import rarely_collected
from qc_adapter.cli.environment_settings import settings_of
from qc_adapter.cli.exits import CommandFailed, Exit
from qc_adapter.cli.running import run
from qc_adapter.descriptors import most_descriptors, shortage, take_all_descriptors
from qc_adapter.telemetry import logs

if TYPE_CHECKING:
    from qc_adapter.settings import Settings


def serve() -> None:
    """Run the service. Settings are environment variables: qc-adapter check lists them. Logs go to standard output."""
    settings = settings_of(os.environ)
    begin_logs(settings)
    leave_no_core_dump()
    leave_no_key_log()
    take_all_descriptors()
    try:
        run(_serve(settings))
    except OSError as error:
        raise start_failed(error) from error


async def _serve(settings: Settings) -> None:
    async with rarely_collected():
        await app.serve(settings)


def leave_no_core_dump() -> None:
    """Let a crash write no image of the memory, with keys and GUIDs in it; whoever wants one raises the soft limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard))


def leave_no_key_log() -> None:
    """Have no library write the keys of TLS sessions to a file, as those of Redis and of traces would."""
    os.environ.pop("SSLKEYLOGFILE", None)


def begin_logs(settings: Settings) -> None:
    """Log JSON to standard output, first of all what is doubtful about the settings."""
    logs.configure(settings.log_level)
    log = structlog.get_logger()
    for warning in settings.warnings:
        log.warning("setting_doubtful", detail=warning)
    if few := shortage(settings, most_descriptors()):
        log.warning("descriptors_few", detail=few)


def start_failed(error: OSError) -> CommandFailed:
    """Return the error for a port that cannot be had, or a file."""
    if error.filename:
        what = f"the service cannot start: {error.filename}: {error.strerror}"
        return CommandFailed(Exit.UNEXPECTED, what, advice=f"{at.AUDIT_LOG.name} or another setting names it")
    what = f"the service cannot start: {error.strerror or error}"
    others = f"{at.LISTEN.name}, {at.OPS_LISTEN.name} and {at.PUSH_LISTEN.name} choose others"
    return CommandFailed(Exit.UNEXPECTED, what, advice=f"is the port taken? {others}")
