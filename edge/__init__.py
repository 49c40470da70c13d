"""The agent on the device: sources, spool, uplink, health."""

from __future__ import annotations


def version() -> str:
    """The installed version; from a plain checkout, "unknown"."""
    from importlib import metadata  # noqa: PLC0415 - pulls in the e-mail parser, a memory that only this needs

    try:
        return metadata.version("headwater")
    except metadata.PackageNotFoundError:
        return "unknown"
