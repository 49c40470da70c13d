"""A manifest of whatever kind, as the registry wants it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from contract.config import ConfigError
from contract.scene import parse_any
from models.errors import RegistryError

if TYPE_CHECKING:
    from contract.card import ModelCard


def parse_card(content: bytes, origin: str) -> ModelCard:
    """The manifest in a file's bytes; raises RegistryError."""
    try:
        return parse_any(content, origin)
    except ConfigError as exc:
        raise RegistryError("; ".join(str(exc).splitlines())) from exc
