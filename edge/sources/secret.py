"""Secrets of sources: named in the configuration, kept in the environment or in a file."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from contract.config import ConfigError
from edge.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def needed_by(source: str) -> Iterator[None]:
    """Around the reading of a secret: one that is not there is a SourceError.

    It is read when a source opens, so that a configuration can be checked where its secrets are not.
    """
    try:
        yield
    except ConfigError as exc:
        raise SourceError(f"{source}: {exc}") from exc
