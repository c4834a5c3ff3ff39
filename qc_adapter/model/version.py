"""Which version this is; it stands in pyproject.toml and nowhere else."""

from __future__ import annotations


def version() -> str:
    """Return the version of the installed package."""
    from importlib import metadata  # noqa: PLC0415 - 10 ms, and most commands never ask

    try:
        return metadata.version("qc-adapter")
    except metadata.PackageNotFoundError:
        # Run from a source tree that nobody installed. No reason not to run.
        return "unknown"
