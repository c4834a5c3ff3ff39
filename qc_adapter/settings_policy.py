"""Whether the policy that the settings name can be used: a service that starts without it would turn everybody away."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qc_adapter import variables as at

if TYPE_CHECKING:
    from qc_adapter.environment import Reading
    from qc_adapter.settings import Settings


def check_policy(reading: Reading, settings: Settings) -> None:
    """Complain of each problem with its line; where no gateway is set, the policy may name any."""
    path = settings.policy_file
    if path is None:
        return
    from qc_adapter.access.policy_file import InvalidPolicy, read_policy  # noqa: PLC0415 - over 1 MiB with YAML

    gateways = [gateway.name for gateway in settings.gateways]
    try:
        read_policy(path, gateways or None)
    except InvalidPolicy as invalid:
        for problem in invalid.problems:
            reading.complain(at.POLICY_FILE.name, path, str(problem))
    except OSError as error:
        reading.complain(at.POLICY_FILE.name, path, f"cannot be read ({type(error).__name__})")
