"""What lies on a device before its first start: the enrolment, and beside it a key where that was baked in."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from contract.config import ConfigError
from contract.enrolment import CERTIFICATE_FILE, KEY_FILE, Enrolment, read_message, written
from edge.enrol.directory import Identity, without_token
from edge.enrol.faults import NotYetError
from edge.enrol.files import read_bounded, replace_file
from edge.errors import IdentityError

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Card:
    """An enrolment's file."""

    path: Path
    enrolment: Enrolment
    baked: Identity | None

    @classmethod
    def read(cls, path: Path) -> Self:
        """The card; raises ConfigError for an enrolment that is none, IdentityError for a key that is none."""
        try:
            content = read_bounded(path)
        except NotYetError:
            raise
        except IdentityError as exc:
            raise ConfigError(str(exc)) from exc
        if content is None:
            raise ConfigError(f"{path} cannot be read: there is no such file")
        enrolment = read_message(content, Enrolment, str(path))
        return cls(path, enrolment, _baked(path.parent, enrolment))

    @property
    def token_sha256(self) -> str | None:
        """What the token is known by when it is gone; None where there is none."""
        token = self.enrolment.token
        return None if token is None else hashlib.sha256(token.get_secret_value().encode()).hexdigest()

    def wipe(self) -> None:
        """Takes the token out of the file, and the key from beside it; raises OSError where the disk does not let us.

        A card's or a flash disk's old blocks may keep both: that is why a token serves one key once.
        """
        if self.enrolment.token is not None:
            replace_file(self.path, written(without_token(self.enrolment)), self.path.stat())
        if self.baked is not None:
            self.path.with_name(KEY_FILE).unlink(missing_ok=True)


def _baked(directory: Path, enrolment: Enrolment) -> Identity | None:
    if enrolment.token is not None:
        return None
    key, chain = read_bounded(directory / KEY_FILE), read_bounded(directory / CERTIFICATE_FILE)
    if key is None or chain is None:
        return None
    return Identity(enrolment, key.decode(errors="replace"), chain.decode(errors="replace"))
