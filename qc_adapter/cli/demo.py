"""The demo command: the whole service in one process, as a story, to try by hand, or as a service that runs."""

import os
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from qc_adapter import app
from qc_adapter.cli.environment_settings import service_environment
from qc_adapter.cli.exits import CommandFailed, Exit
from qc_adapter.cli.output import DIM, HEAD, Output
from qc_adapter.cli.running import asked_to_stop, run
from qc_adapter.cli.serve import begin_logs, start_failed
from qc_adapter.cli.stage import HOST, Ports, Stage, settings_for, stage
from qc_adapter.cli.story import Story, StoryFailed
from qc_adapter.cli.to_try import Places, commands, looks, sign_ins
from qc_adapter.settings import InvalidSettings
from qc_adapter.simulator import Simulator, SimulatorSettings
from qc_adapter.telemetry import logs


def demo(
    keep: Annotated[bool, typer.Option("--keep", help="Leave it running after the story, to try by hand.")] = False,
    service: Annotated[
        bool, typer.Option("--serve", help="No story: the adapter against a simulator, with its logs, until Ctrl-C.")
    ] = False,
) -> None:
    """Run a simulated gateway and the adapter, and show an intercept from sign-in to metrics."""
    if keep and service:
        raise CommandFailed(Exit.USAGE, "--keep and --serve exclude each other")
    try:
        if service:
            run(_serve())
        else:
            _tell(keep=keep)
    except OSError as error:
        raise start_failed(error) from error


def _tell(*, keep: bool) -> None:
    with tempfile.TemporaryDirectory(prefix="qc-adapter-demo-") as folder:
        log_file = Path(folder, "adapter.log")
        # The story stays readable: the log lines go to a file, and the one that matters is shown.
        with log_file.open("wb") as stream:
            logs.configure("info", stream)
            try:
                run(_play(log_file, keep=keep))
            except StoryFailed as error:
                raise CommandFailed(Exit.UNEXPECTED, f"the demo went wrong: {error}") from error
            finally:
                logs.reset()


async def _play(log_file: Path, *, keep: bool) -> None:
    output = Output()
    async with stage(Ports.usual() if keep else Ports()) as played:
        await Story(played, output, log_file).play()
        if keep:
            with asked_to_stop() as asked:
                _show_what_to_try(output, played, log_file)
                await asked.wait()
        else:
            output.line()
            output.line(("That was all. To try it yourself: qc-adapter demo --keep", HEAD))
    if keep:
        output.note("ended")


def _show_what_to_try(output: Output, played: Stage, log_file: Path) -> None:
    output.line()
    output.line(("It keeps running. Ctrl-C ends it. In another terminal:", HEAD))
    places = Places(played.target, played.simulator.url, played.ops_url)
    for name, line in {
        **looks(places),
        "The customer hangs up": f"curl -s -X DELETE {places.simulator_url}/simulator/calls/CALL_ID  # from the state",
        **commands(places),
        "The adapter's log": f"tail -f {log_file}",
    }.items():
        output.line((f"  # {name}", DIM))
        output.line(f"  {line}")


async def _serve() -> None:
    """Serve with the logs on standard output; what to try goes to standard error."""
    # The addresses are told before the service listens, so that free ports are chosen here.
    ports = Ports.usual().chosen()
    async with Simulator(SimulatorSettings(host=HOST, port=ports.simulator)) as simulator:
        try:
            settings = settings_for(simulator, ports, service_environment(os.environ))
        except InvalidSettings as invalid:
            raise CommandFailed(Exit.USAGE, str(invalid), advice="qc-adapter check shows all settings") from None
        begin_logs(settings)
        output = Output()
        output.note(("The adapter against a simulator. Ctrl-C ends it. In another terminal:", HEAD))
        places = Places(str(settings.listen), simulator.url, f"http://{settings.ops_listen}")
        for name, line in {**sign_ins(places), **commands(places), **looks(places)}.items():
            output.note((f"  # {name}", DIM))
            output.note(f"  {line}")
        await app.serve(settings)
