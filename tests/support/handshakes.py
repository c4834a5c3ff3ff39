"""TLS handshakes on a plain socket: asyncio's server does not send the alert with which it refuses one."""

from __future__ import annotations

import contextlib


def serve_one_handshake(listener, context):
    """Accept one connection and try the handshake."""
    raw, _ = listener.accept()
    with raw, raw.dup() as beneath:
        with contextlib.suppress(OSError), context.wrap_socket(raw, server_side=True) as spoken:
            spoken.recv(4096)
        with contextlib.suppress(OSError):
            while beneath.recv(4096):  # closing with bytes unread would reset the connection and overtake the alert
                pass
