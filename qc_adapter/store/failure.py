"""Why the store failed, in words that hold nothing of a command or an address with its password."""

from __future__ import annotations

import os
import re
import ssl

from redis import exceptions
from redis.asyncio.sentinel import MasterNotFoundError

_ERROR_CODE = re.compile(r"[A-Z]{3,20}\b")
_ERROR_NUMBER = re.compile(r"Error (\d{1,4}) (?:connecting|while)\b")
# Redis 6.2 wraps the refusal of a write inside a script into a plain ERR.
# A master that lost its replicas (min-replicas-to-write) may have been replaced by one of them.
_FULL = re.compile(r"\bOOM\b")
_READ_ONLY = re.compile(r"\b(READONLY|NOREPLICAS)\b")


def is_read_only(error: Exception) -> bool:
    """Say whether the server refused a write because it is a replica now, or may have been replaced by one."""
    return isinstance(error, exceptions.ReadOnlyError) or (
        isinstance(error, exceptions.ResponseError) and _READ_ONLY.search(str(error)) is not None
    )


def is_wrong_type(error: Exception) -> bool:
    """Whether the key holds something that no session record is: a fault of its writer, not of the store."""
    return "WRONGTYPE" in str(error)


def why_of(error: Exception, timeout_seconds: float) -> str:
    """
    Return the reason in our own words.

    The library's texts are not passed on: Redis repeats the arguments of a command that it does not understand.
    """
    if is_read_only(error):
        return "the server takes no writes: it is a replica, or has too few of them"
    if isinstance(error, (exceptions.AuthenticationError, exceptions.AuthorizationError)):
        return "the credentials were refused"
    if isinstance(error, (TimeoutError, exceptions.TimeoutError)):
        return f"no answer within {timeout_seconds:g} s"
    if isinstance(error, MasterNotFoundError):
        return "no sentinel knows a master"
    if isinstance(error, exceptions.MaxConnectionsError):
        return "too many connections"
    if isinstance(error, exceptions.OutOfMemoryError) or _FULL.search(str(error)):
        return "the server answered OOM: it is full"
    if isinstance(error, exceptions.ResponseError):
        code = _ERROR_CODE.match(str(error))
        return f"the server answered {code.group() if code else 'with an error'}"
    if isinstance(error, (exceptions.ConnectionError, OSError)):
        return _connection_failure(error)
    return f"it failed with {type(error).__name__}"


def _connection_failure(error: BaseException) -> str:
    """Return the operating system's reason, from its error or from its number in the library's text; or that of TLS."""
    cause: BaseException | None = error
    while cause is not None:
        behind = cause.__cause__ or cause.__context__
        if isinstance(behind, ssl.SSLCertVerificationError):
            return f"its certificate is not trusted: {behind.verify_message.strip('. ')}"
        if isinstance(behind, ssl.SSLError):  # its number says nothing: 1, "Operation not permitted"
            return f"the TLS handshake failed: {(behind.reason or 'no reason').lower().replace('_', ' ')}"
        number = cause.errno if isinstance(cause, OSError) else None
        if number is None and (found := _ERROR_NUMBER.match(str(cause))):
            number = int(found[1])
        if isinstance(number, int) and number > 0:
            return f"the connection failed: {os.strerror(number)}"
        cause = behind
    return "the connection failed"
