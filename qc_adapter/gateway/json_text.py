"""From the bytes of a reply to JSON: charsets, marks, padding, and numbers that are none."""

from __future__ import annotations

import json
import math
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

import orjson

if TYPE_CHECKING:
    from qc_adapter.gateway.wire import ReplyHeaders

JSON = dict[str, Any] | list[Any] | str | int | float | bool | None
Kind = Literal["html", "empty", "cut", "foreign"]

_MAX_DEPTH = 64
_MAX_DIGITS = 20

# Only these: some of Python's codecs are slow or do more than reading text.
_CODECS = {
    "gbk": "gb18030",
    "gb2312": "gb18030",
    "gb18030": "gb18030",
    "cp936": "gb18030",
    "iso-8859-1": "latin-1",
    "latin-1": "latin-1",
    "utf-16": "utf-16",
}
_CHARSET = re.compile(r"charset\s*=\s*[\"']?([\w.:-]+)", re.IGNORECASE | re.ASCII)
# An escaped backslash is kept, so that the text "\\u0000" is not mistaken for the character.
_NUL_ESCAPE = re.compile(r"\\(?:(\\)|u0000)")
_NUL_ESCAPE_BYTES = re.compile(rb"\\(?:(\\)|u0000)")


class UnreadableReply(Exception):
    """The body is not an envelope. `why` never quotes the body."""

    def __init__(self, why: str, kind: Kind) -> None:
        super().__init__(why)
        self.why = why
        self.kind: Kind = kind


def read_json(status: int, headers: ReplyHeaders, body: bytes) -> JSON:
    """Return the JSON in a body, in whatever charset and state it came. Raises `UnreadableReply`."""
    body = body.removeprefix(b"\xef\xbb\xbf")
    codec = _declared_codec(headers)
    parsed: JSON
    try:
        if codec is None:
            parsed = orjson.loads(_NUL_ESCAPE_BYTES.sub(_keep_backslash, body) if rb"\u0000" in body else body)
        else:
            parsed = _loads_leniently(body.decode(codec, "replace"))
    except ValueError:
        parsed = _parse_again(status, body)
    if body.count(b"[") + body.count(b"{") > _MAX_DEPTH and _too_deep(parsed):
        raise UnreadableReply(f"HTTP {status} with JSON nested deeper than {_MAX_DEPTH}", "foreign")
    return parsed


def _parse_again(status: int, body: bytes) -> Any:
    """Read what strict reading refused: bytes of another charset, bare control characters in texts."""
    try:
        return _loads_leniently(body.decode("utf-8", "replace"))
    except ValueError:
        start = body.lstrip()[:1]
    if start == b"<":
        raise UnreadableReply(f"HTTP {status} with a page instead of a reply", "html")
    if start in {b"{", b"["}:
        raise UnreadableReply(f"HTTP {status} with JSON that breaks off or is garbled", "cut")
    raise UnreadableReply(f"HTTP {status} with a body that is not JSON", "foreign")


def _loads_leniently(text: str) -> Any:
    """
    Read JSON as the gateway's older clients would; the slow way.

    The second pass takes out what no one after us can write: half characters, numbers that are none.
    """
    text = text.replace("\x00", "").removeprefix("\ufeff")
    if r"\u0000" in text:
        text = _NUL_ESCAPE.sub(_keep_backslash, text)
    try:
        parsed = json.loads(text, strict=False, parse_constant=_no_number, parse_float=_finite, parse_int=_whole)
        return orjson.loads(json.dumps(parsed, ensure_ascii=False).encode("utf-8", "replace"))
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _no_number(_name: str) -> None:
    """Stand for NaN and Infinity, which are no JSON: one odd number must not spoil the whole reply."""


def _finite(text: str) -> float | None:
    value = float(text)
    return value if math.isfinite(value) else None


def _whole(text: str) -> int | float | None:
    """Return a whole number; one of more digits than 64 bits hold is rounded, as the fast way does."""
    return int(text) if len(text) <= _MAX_DIGITS else _finite(text)


def _keep_backslash(match: re.Match[Any]) -> Any:
    """Return an escaped backslash as it was, and nothing for an escaped NUL."""
    return match[0] if match[1] else match[0][:0]


def _declared_codec(headers: ReplyHeaders) -> str | None:
    """Return the codec of the declared charset, or `None` for UTF-8, unknown ones and none at all."""
    return _codec_of(headers.first("content-type"))


@lru_cache(maxsize=64)
def _codec_of(content_type: str) -> str | None:
    match = _CHARSET.search(content_type)
    return _CODECS.get(match[1].lower()) if match else None


def _too_deep(parsed: Any) -> bool:
    """Whether JSON is nested too deeply for those who read it recursively after us."""
    level = [parsed]
    for _ in range(_MAX_DEPTH + 1):
        nests = [item for item in level if isinstance(item, dict | list)]
        if not nests:
            return False
        level = [child for item in nests for child in (item.values() if isinstance(item, dict) else item)]
    return True
