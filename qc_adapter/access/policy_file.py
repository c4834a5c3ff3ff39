"""Reads the policy's file. Every problem is told at once, each with its line and what to change."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from qc_adapter.access.policy_complaints import Complaints, PolicyProblem
from qc_adapter.access.policy_nodes import Refused, read_nodes
from qc_adapter.access.policy_reader import PolicyReader

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from qc_adapter.access.policy import Policy

LARGEST_FILE: Final = 1024 * 1024
_FIRST: Final = 5


class InvalidPolicy(ValueError):
    """The policy cannot be used. Its text names the first problems, `problems` has all."""

    def __init__(self, problems: Sequence[PolicyProblem]) -> None:
        self.problems = tuple(problems)
        more = len(self.problems) - _FIRST
        said = [str(problem) for problem in self.problems[:_FIRST]] + ([f"and {more} more"] if more > 0 else [])
        super().__init__("; ".join(said))


def read_policy(path: str, gateways: Iterable[str] | None = None) -> Policy:
    """Return the policy of a file; raises `InvalidPolicy` and `OSError`. Without gateways any may be named."""
    with Path(path).open("rb") as file:
        content = file.read(LARGEST_FILE + 1)
    return parse_policy(content, gateways)


def parse_policy(content: bytes, gateways: Iterable[str] | None = None) -> Policy:
    """Return the policy; raises `InvalidPolicy`."""
    complaints = Complaints()
    policy = _parse(content, gateways, complaints)
    if policy is None or complaints.problems:
        raise InvalidPolicy(complaints.in_order())
    return policy


def _parse(content: bytes, gateways: Iterable[str] | None, complaints: Complaints) -> Policy | None:
    if len(content) > LARGEST_FILE:
        complaints.add(1, f"the file is larger than {LARGEST_FILE // 1024} KiB: no policy needs as much")
        return None
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        complaints.add(content.count(b"\n", 0, error.start) + 1, "is not UTF-8: save the file as UTF-8")
        return None
    root = read_nodes(text, complaints.add)
    if isinstance(root, Refused):
        return None
    return PolicyReader(complaints, None if gateways is None else frozenset(gateways)).policy(root)
