"""The agent on the device: sources, spool, uplink, health."""

from __future__ import annotations

from importlib import metadata


def version() -> str:
    """The installed version; from a plain checkout, "unknown"."""
    try:
        return metadata.version("headwater")
    except metadata.PackageNotFoundError:
        return "unknown"
