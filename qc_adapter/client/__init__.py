"""
The client helper: what services import to call an adapter.

It knows the contract (`qc_adapter.v1`) and nothing of the adapter's inside: file by file from the connection
(`channel`) over one stream (`stream`) and how it ended (`failure`) to watches and commands that outlive it.
"""

from qc_adapter.client.client import QualityControlClient
from qc_adapter.client.command import CommandResult, CommandUpdates, Follow, Mode
from qc_adapter.client.failure import CallFailed, OutcomeUnknown, take_apart
from qc_adapter.client.operations import Following, options_message
from qc_adapter.client.rotation import CertificateFiles
from qc_adapter.client.timing import Timing
from qc_adapter.client.token import TokenExposed
from qc_adapter.client.watch import Broken, OnExpired, Watch

__all__ = [
    "Broken",
    "CallFailed",
    "CertificateFiles",
    "CommandResult",
    "CommandUpdates",
    "Follow",
    "Following",
    "Mode",
    "OnExpired",
    "OutcomeUnknown",
    "QualityControlClient",
    "Timing",
    "TokenExposed",
    "Watch",
    "options_message",
    "take_apart",
]
