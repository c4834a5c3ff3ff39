"""What a command line does not load before it needs it."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("module", "unneeded"),
    [
        ("qc_adapter.cli.check", {"aiohttp", "httpx", "cryptography.x509"}),
        ("qc_adapter.cli.serve", {"cryptography.x509", "opentelemetry.exporter", "yaml", "jwt"}),
    ],
)
def test_what_only_some_settings_or_options_need_is_not_imported_without_them(module, unneeded):
    """Connections are for `--connect`; certificates, tokens and policies are read where settings name some."""
    script = f"import sys, {module}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)  # noqa: S603
    assert unneeded.isdisjoint(done.stdout.split())
