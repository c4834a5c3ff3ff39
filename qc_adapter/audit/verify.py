"""
Looks through audit records for what is missing, changed or out of its place.

Line by line, and of what was read only the ends of the chains are kept. Several chains may stand in one file: one after
the other, or between each other where several processes wrote to one stream.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, BinaryIO, Final

from qc_adapter.audit.findings import Break, ChainSeen, Findings, Kind
from qc_adapter.audit.record import BEGAN, ENDED, NOTHING, VERSION, canonical, hash_of, key_name, parted, read

if TYPE_CHECKING:
    from collections.abc import Iterator

_LONGEST_LINE: Final = 4 * 1024 * 1024
#: How every record begins, in canonical form: with the inspector's id or, without one, with the time of the answer.
_BEGINNINGS: Final = (b'{"agent_id":"', b'{"answered_ms":', b'{"audit":')
#: More gaps than that in one chain are told at once, and what comes late is not held against them any more.
_MOST_GAPS: Final = 1_000


class Verifier:
    """Reads files in the order in which they were written; `findings` is complete after `finish`."""

    def __init__(self, key: bytes = b"", *, head: str = NOTHING, after: str = NOTHING) -> None:
        """
        Take what is known from elsewhere: the hash of a record that must be there, and of the last one before these.

        The chain that `head` belongs to may still go on.
        """
        self._key = key
        self._key_name = key_name(key)
        self._head = head
        self._head_seen = False
        self._after = after
        self._file = ""
        self._line = 0
        self.findings = Findings()

    def read(self, name: str, file: BinaryIO) -> None:
        """Look through one file."""
        self._file, self._line = name, 0
        for line in _lines(file):
            self._line += 1
            self._look(line)

    def finish(self) -> Findings:
        """Say what only the end shows."""
        self._line, self._file = 0, ""
        for chain in self.findings.chains.values():
            for first, behind in chain.missing:
                self._tell_missing(chain, first, behind)
            if not chain.ended and not chain.vouched:
                self._note("not_ended", "has no audit_ended: the process was killed, still runs, or the end is cut off",
                           chain.name)  # fmt: skip
        if self._head and not self._head_seen:
            self._note("head", f"the record with the hash {self._head} is not there")
        if not self.findings.records:
            self._note("empty", "there is no audit record")
        return self.findings

    def _look(self, line: bytes) -> None:
        record = read(line)
        if record is None:
            if line.startswith(_BEGINNINGS):
                self.findings.torn_lines += 1
            elif line:
                self.findings.foreign_lines += 1
            return
        self.findings.records += 1
        if record["audit"] != VERSION:
            self._note("format", f"has the format {record['audit']}, and only {VERSION} is known here", record["chain"])
            return
        chain = self.findings.chains.get(record["chain"])
        if not self._sound(line, record, chain):
            self._note("changed", "does not fit its hash: changed, or written with another key", record["chain"])
            if chain is not None and record["seq"] == chain.expected:
                self._advance(chain, record)
            return
        self._head_seen = self._head_seen or record["hash"] == self._head
        if chain is None:
            self._begin(record)
        else:
            self._go_on(chain, record)

    def _sound(self, line: bytes, record: dict[str, Any], chain: ChainSeen | None) -> bool:
        """Whether the line is what was written: its hash fits, and it has the one form that a record has."""
        content = parted(line)
        if canonical({name: value for name, value in record.items() if name != "hash"}) != content:
            return False
        begins = record.get("event") == BEGAN and record["seq"] == 0
        if (begins and record.get("key", "") != self._key_name) or (chain is not None and not chain.judged):
            return True  # told once, of the chain
        return hash_of(content, self._key) == str(record["hash"])

    def _begin(self, record: dict[str, Any]) -> None:
        name, seq = record["chain"], record["seq"]
        chain = ChainSeen(name, str(record.get("replica", "")), _time(record))
        follows, keyed_with = str(record.get("follows", NOTHING)), str(record.get("key", ""))
        if seq or record.get("event") != BEGAN:
            chain.keyed = bool(self._key)
            if seq and (not self._after or record["prev"] != self._after):
                chain.missing.append((0, seq))
        else:
            chain.keyed, chain.judged = bool(keyed_with), keyed_with == self._key_name
            if not chain.judged:
                self._tell_key(chain)
            known = follows == self._after or any(one.head == follows for one in self.findings.chains.values())
            if follows and not known:
                self._note("follows_lost", "the records that stood before its beginning are missing or changed", name)
        self.findings.chains[name] = chain
        self._advance(chain, record)

    def _tell_key(self, chain: ChainSeen) -> None:
        if not self._key:
            what = "is keyed: QC_AUDIT_KEY is needed to judge it"
        elif chain.keyed:
            what = "was written with another key than the one in QC_AUDIT_KEY"
        else:
            what = "has no key: anybody who can write the file could have made it"
        self._note("key", what, chain.name)

    def _go_on(self, chain: ChainSeen, record: dict[str, Any]) -> None:
        seq = record["seq"]
        if seq < chain.expected:
            self._late(chain, seq)
            return
        if chain.ended:
            self._note("after_end", "stands behind the end of its chain", chain.name)
        if seq > chain.expected:
            if len(chain.missing) < _MOST_GAPS:
                chain.missing.append((chain.expected, seq))
            else:
                self._tell_missing(chain, chain.expected, seq)
        elif record["prev"] != chain.head:
            self._note("unlinked", "does not follow the record before it: that one was made anew", chain.name)
        self._advance(chain, record)

    def _late(self, chain: ChainSeen, seq: int) -> None:
        for place, (first, behind) in enumerate(chain.missing):
            if first <= seq < behind:
                rest = [(first, seq), (seq + 1, behind)]
                chain.missing[place : place + 1] = [one for one in rest if one[0] < one[1]]
                self._note("reordered", f"record number {seq} stands behind later ones", chain.name)
                chain.records += 1
                return
        self._note("duplicate", f"record number {seq} is there twice", chain.name)

    def _advance(self, chain: ChainSeen, record: dict[str, Any]) -> None:
        chain.records += 1
        chain.expected, chain.head, chain.last_time = record["seq"] + 1, record["hash"], _time(record)
        chain.ended = record.get("event") == ENDED
        chain.vouched = chain.vouched or record["hash"] == self._head

    def _tell_missing(self, chain: ChainSeen, first: int, behind: int) -> None:
        count = behind - first
        which = f"record number {first} is" if count == 1 else f"{count} records, numbers {first} to {behind - 1}, are"
        self._note("missing", f"{which} missing", chain.name)

    def _note(self, kind: Kind, what: str, chain: str = "") -> None:
        self.findings.note(Break(kind, what, chain, self._file, self._line))


def _lines(file: BinaryIO) -> Iterator[bytes]:
    """Yield lines without their ends; of one that no record can be as long as, in pieces."""
    while line := file.readline(_LONGEST_LINE):
        yield line.removesuffix(b"\n")


def _time(record: dict[str, Any]) -> str:
    return str(record.get("time", ""))
