"""Builds what reads callers' tokens, with the keys from where the settings say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qc_adapter.access.keys_file import KeysInFile
from qc_adapter.access.keys_url import ServedKeys
from qc_adapter.access.tokens import Tokens

if TYPE_CHECKING:
    from qc_adapter.access.keys_url import Counts
    from qc_adapter.settings import TokenSettings
    from qc_adapter.watched import WatchedFiles


def open_tokens(settings: TokenSettings, watched: WatchedFiles, counts: Counts) -> tuple[Tokens, ServedKeys | None]:
    """
    Return the reader of tokens, and the keys that are to be started and stopped, if they are served.

    Raises `Unusable` or OSError when the key file cannot be used.
    """
    if settings.jwks_file:
        kept = KeysInFile(settings.jwks_file)
        watched.add("jwks", [settings.jwks_file], kept.load)
        kept.load()  # it may have been replaced before it was watched
        return Tokens(settings.issuer, settings.audience, kept), None
    served = ServedKeys(settings, counts)
    return Tokens(settings.issuer, settings.audience, served), served
