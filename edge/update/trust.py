"""Whose updates a node takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from contract.config import ConfigError
from contract.update import public_key
from edge.errors import IdentityError, NotNowError, UpdateError

if TYPE_CHECKING:
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    from edge.config import AgentConfig


def trusted_keys(config: AgentConfig) -> list[Ed25519PublicKey]:
    """Who may sign for this node; raises UpdateError where that is not known, NotNowError where it may be later."""
    from edge.enrol.directory import IdentityDirectory  # noqa: PLC0415 - memory, until there is an update
    from edge.enrol.faults import NotYetError  # noqa: PLC0415 - as above

    assert config.update is not None
    try:
        if config.update.key_files:
            return [_key_in(path) for path in config.update.key_files]
        identity = None if config.identity is None else IdentityDirectory(config.identity.directory).read()
        if identity is None:
            raise UpdateError("there is no update key: name update.key_files, or enrol the node")
        return [public_key(identity.enrolment.update_key.encode(), "the enrolment's update_key")]
    except NotYetError as exc:
        raise NotNowError(str(exc)) from exc
    except (ConfigError, IdentityError) as exc:
        raise UpdateError(str(exc)) from exc


def check_trust(new: AgentConfig, signer: Ed25519PublicKey) -> None:
    """Raises UpdateError where a node that runs by `new` would take nothing more of who has signed it."""
    try:
        keys = trusted_keys(new)
    except NotNowError:
        raise
    except UpdateError as exc:
        raise UpdateError(f"with it no update would be taken any more: {exc}") from exc
    if signer not in keys:
        raise UpdateError(
            "with it no update would be taken any more of who has signed it: that key is none of those it trusts (to "
            "change keys, name both, and then the new one alone in one that the new one signs)"
        )


def _key_in(path: Path) -> Ed25519PublicKey:
    from edge.enrol.files import read_bounded  # noqa: PLC0415 - as above

    if (content := read_bounded(path)) is None:
        raise UpdateError(f"update.key_files: {path}: there is no such file")
    return public_key(content, str(path))
