"""Secrets of sources: named in the configuration, kept in the environment or in a file."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from edge.errors import SourceError

if TYPE_CHECKING:
    from pathlib import Path


def read_secret(what: str, env: str | None, file: Path | None) -> str | None:
    """The secret, or None where the configuration names none; raises SourceError when it names one that is not there.

    It is read when a source opens, so that a configuration can be checked where its secrets are not.
    """
    if env is not None:
        secret = os.environ.get(env, "")
        where = f"environment variable {env}"
    elif file is not None:
        where = str(file)
        try:
            secret = file.read_text(encoding="utf-8").partition("\n")[0].strip()
        except OSError as exc:
            raise SourceError(f"{what}: {file} cannot be read: {exc.strerror}") from exc
    else:
        return None
    if not secret:
        raise SourceError(f"{what}: {where} is not set or empty")
    return secret
