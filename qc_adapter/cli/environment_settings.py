"""From the environment to settings, for the commands that run or check the service."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from qc_adapter.cli.exits import CommandFailed, Exit
from qc_adapter.settings import InvalidSettings, Settings, read_settings

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Variables of the commands that call an adapter. They are no settings of the service, and no mistakes either.
CALLER_VARIABLES: Final = frozenset(
    {"QC_TARGET", "QC_CA_FILE", "QC_CERT_FILE", "QC_KEY_FILE", "QC_TOKEN_FILE", "QC_PASSWORD", "QC_GUID"}
)


def service_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment without what only callers use."""
    return {name: value for name, value in environment.items() if name not in CALLER_VARIABLES}


def settings_of(environment: Mapping[str, str]) -> Settings:
    """Return the settings, or raise `CommandFailed` that names every problem."""
    try:
        return read_settings(service_environment(environment))
    except InvalidSettings as invalid:
        count = len(invalid.problems)
        what = f"{count} problem{'s' if count > 1 else ''} with the settings:\n" + "\n".join(
            f"  {problem}" for problem in invalid.problems
        )
        raise CommandFailed(Exit.USAGE, what, advice="qc-adapter check shows all settings") from None
