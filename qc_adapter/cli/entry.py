"""The console script: finds the command, runs it, and turns every end into an exit code and a sentence."""

from __future__ import annotations

import importlib
import os
import signal
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from qc_adapter.cli.exits import CommandFailed, Exit, epilog
from qc_adapter.model.version import version

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

PROGRAM: Final = "qc-adapter"
_ABOUT: Final = "Real-time quality control on a Huawei CC-Gateway, over gRPC."


@dataclass(frozen=True, slots=True)
class CommandRow:
    """A command: its name, where its function is, and what it is for."""

    name: str
    place: str
    summary: str


COMMANDS: Final = (
    CommandRow("demo", "demo:demo", "Simulator, adapter and a story in one process."),
    CommandRow("serve", "serve:serve", "Run the service."),
    CommandRow("check", "check:check", "Show the settings of serve and what is wrong with them."),
    CommandRow("simulate", "simulate:simulate", "Run a CC-Gateway to try and test against."),
    CommandRow("sign-in", "sessions:sign_in", "Sign an inspector in."),
    CommandRow("sign-out", "sessions:sign_out", "Sign an inspector out."),
    CommandRow("adopt", "sessions:adopt", "Take over a session that another system opened."),
    CommandRow("update-guid", "sessions:update_guid", "Have the gateway make a fresh GUID for an inspector."),
    CommandRow("sessions", "sessions:sessions", "List the inspectors' sessions."),
    CommandRow("listen", "inspection:listen", "Listen to an agent's call."),
    CommandRow("insert", "inspection:insert", "Join an agent's call."),
    CommandRow("whisper", "inspection:whisper", "Speak to an agent, unheard by the customer."),
    CommandRow("intercept", "inspection:intercept", "Take a call over from an agent."),
    CommandRow("switch", "inspection:switch", "Go over to listening, inserting or whispering."),
    CommandRow("toggle", "inspection:toggle", "Go from listening to inserting or back."),
    CommandRow("stop", "inspection:stop", "End listening or inserting; --whisper ends whispering."),
    CommandRow("drop-call", "inspection:drop_call", "Release a call by its id."),
    CommandRow("force-busy", "agents:force_busy", "Make an agent busy."),
    CommandRow("force-idle", "agents:force_idle", "Make an agent idle."),
    CommandRow("force-rest", "agents:force_rest", "Send an agent to rest."),
    CommandRow("force-sign-out", "agents:force_sign_out", "Sign another agent out."),
    CommandRow("adjust-skills", "agents:adjust_skills", "Set the skill queues of an agent."),
    CommandRow("monitor", "agents:monitor", "Be told what agents do; watch shows it."),
    CommandRow("stop-monitoring", "agents:stop_monitoring", "Be told of agents no more."),
    CommandRow("watch", "watch:watch", "Show an inspector's events as they come."),
    CommandRow("feed", "feed:feed", "Log events that another system read."),
    CommandRow("seal-key", "seal_key:seal_key", "Make a key for QC_SEAL_KEYS."),
    CommandRow("policy", "policy:policy", "Check a policy, or explain whom it allows what: check, explain."),
    CommandRow("audit", "audit:audit", "Verify audit records: none missing, changed or out of its place."),
    CommandRow("explain", "explain:explain", "Explain a return code of the gateway."),
)


def main() -> None:
    """Run the command of this process and exit."""
    if os.getpid() == 1:
        # The kernel drops a signal that the first process of a container has no handler for: told to leave while it
        # still starts, it would serve on until it is killed. A service puts its own handler in place of this one.
        signal.signal(signal.SIGTERM, lambda number, _frame: os._exit(128 + number))
    # The core of gRPC writes lines of its own to standard error: one for each handshake that fails or deadline that is
    # none, so that anyone who reaches the port could fill it. What matters to a caller stands in the status.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    sys.exit(int(run(sys.argv[1:])))


def run(arguments: Sequence[str]) -> int:
    """Run a command and return its exit code."""
    if list(arguments) == ["--version"]:
        print(version())  # noqa: T201 - all there is to it
        return Exit.OK
    json = "--json" in arguments
    try:
        _app(arguments)(args=list(arguments), prog_name=PROGRAM)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else Exit.UNEXPECTED
    except CommandFailed as failed:
        _tell(failed, json=json)
        return failed.exit_code
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has gone. Python would complain at its own end too.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.UNEXPECTED
    except Exception as error:  # noqa: BLE001 - the last stop before a person: a sentence in place of a traceback
        _tell(_defect(error), json=json)
        return Exit.UNEXPECTED
    return Exit.OK


def _app(arguments: Sequence[str]) -> typer.Typer:
    """Return the commands; only the one that will run is imported."""
    app = typer.Typer(
        name=PROGRAM,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )
    app.callback(help=_ABOUT, epilog=epilog(), no_args_is_help=True)(_first)
    wanted = next((word for word in arguments if not word.startswith("-")), "")
    for row in COMMANDS:
        if row.name == wanted:
            _add(app, row.name, _load(row.place))
        else:
            app.command(row.name, help=row.summary)(_not_loaded)
    return app


def _load(place: str) -> Callable[..., Any] | typer.Typer:
    module, _, name = place.partition(":")
    loaded: Callable[..., Any] | typer.Typer = getattr(importlib.import_module(f"qc_adapter.cli.{module}"), name)
    return loaded


def _add(app: typer.Typer, name: str, loaded: Callable[..., Any] | typer.Typer) -> None:
    """Add a command, or one that has commands of its own."""
    if isinstance(loaded, typer.Typer):
        app.add_typer(loaded, name=name)
    else:
        app.command(name, epilog=epilog())(loaded)


def _first(
    version: Annotated[bool, typer.Option("--version", help="Show the version and end.")] = False,
) -> None:
    """Stand for the options before a command; `run` has seen to the version."""
    if version:
        raise CommandFailed(Exit.USAGE, "--version stands alone")


def _not_loaded() -> None:
    """Stand in the list of commands for one that does not run."""


def _tell(failed: CommandFailed, *, json: bool) -> None:
    if json:
        import orjson  # noqa: PLC0415 - only for machines, and after everything else

        error = {"error": failed.what, "advice": failed.advice, "exit_code": int(failed.exit_code), **failed.details}
        print(orjson.dumps(error).decode(), file=sys.stderr)  # noqa: T201 - the last words of a command
        return
    advice = f"\n  {failed.advice}" if failed.advice else ""
    print(f"{PROGRAM}: {failed.what}{advice}", file=sys.stderr)  # noqa: T201 - same


def _defect(error: Exception) -> CommandFailed:
    """Return what to say about an error that nobody foresaw: no text of it, which may hold anything."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "unknown place"
    return CommandFailed(
        Exit.UNEXPECTED, f"unexpected {type(error).__name__} at {where}", advice="this is a defect: please report it"
    )


def commands_markdown() -> str:
    """Return the commands as a table for the documentation."""
    rows = [f"| `{PROGRAM} {row.name}` | {row.summary} |" for row in COMMANDS]
    return "\n".join(["| command | what it does |", "| --- | --- |", *rows]) + "\n"
