"""The program as the first process of a container, whose signals the kernel drops where it has no handler."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

PROGRAM = shutil.which("qc-adapter", path=str(Path(sys.executable).parent))
#: A PID namespace, as root or as a user who may have one of their own.
ALONE = ["unshare", "--fork", "--kill-child", "--pid", *([] if os.geteuid() == 0 else ["--user", "--map-root-user"])]


def can_be_alone():
    """Whether this machine lets us make a PID namespace."""
    return shutil.which("unshare") is not None and subprocess.run([*ALONE, "true"], check=False).returncode == 0  # noqa: S603


def wait_for_reader(pipe):
    """Wait until somebody reads from the pipe, and return its other end: the reader waits until it is closed."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        try:
            return os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
        except OSError as failed:
            if failed.errno != errno.ENXIO:
                raise
            time.sleep(0.01)
    raise AssertionError("nobody reads the settings")


@pytest.mark.skipif(not can_be_alone(), reason="no PID namespace can be made here")
def test_sigterm_while_it_starts_ends_it(tmp_path):
    """Told to leave before it serves, the first process of a container ends, and is not killed with leases in hand."""
    pipe = tmp_path / "store-url"
    os.mkfifo(pipe)
    settings = {"QC_GATEWAY_URL": "http://127.0.0.1:9", "QC_STORE_URL_FILE": str(pipe)}
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("QC_")}
    with subprocess.Popen([*ALONE, PROGRAM, "serve"], env=inherited | settings) as outside:  # noqa: S603
        try:
            end = wait_for_reader(pipe)
            first = int(Path(f"/proc/{outside.pid}/task/{outside.pid}/children").read_text())
            os.kill(first, signal.SIGTERM)
            assert outside.wait(20) == 128 + signal.SIGTERM
            os.close(end)
        finally:
            outside.kill()
