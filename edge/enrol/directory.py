"""Where an identity lies: each in a directory of its own, and a link to the present one, which is switched in one step.

    DIRECTORY/
      current -> 20261123T050000Z-7f3a91c2     the link that is switched
      20261123T050000Z-7f3a91c2/               key.pem, cert.pem, ca.pem, enrolment.json, token.sha256
      key.pem -> current/key.pem               and so on: what configurations name
      asking-PURPOSE/key.pem                   a key whose certificate is asked for, until there is one

A kill or a power cut at any moment leaves the old identity or the new one, never the key of one with the other's
certificate.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from contract.config import ConfigError
from contract.enrolment import CA_FILE, CERTIFICATE_FILE, KEY_FILE, Enrolment, read_message, written
from edge.enrol.certificate import check_identity, is_key, new_key, read_certificate
from edge.enrol.faults import NotYetError, of_disk
from edge.enrol.files import PUBLIC, SECRET, read_bounded, sync_directory, write_file
from edge.errors import IdentityError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from edge.enrol.certificate import Certificate

# The enrolment without its token: whom to ask for the next certificate.
_ENROLMENT_FILE: Final = "enrolment.json"
# SHA-256 of the token that the identity was given for: it is known again, though it is wiped.
_TOKEN_FILE: Final = "token.sha256"  # noqa: S105 - a name
_CURRENT: Final = "current"
_ASKING: Final = "asking"
_SCRATCH: Final = ".new"
_DIRECTORY_MODE: Final = 0o700
_LINKS: Final = (KEY_FILE, CERTIFICATE_FILE, CA_FILE, _ENROLMENT_FILE)
_SERIAL_CHARACTERS: Final = 8


@dataclass(frozen=True, slots=True)
class Identity:
    """A key, the chain of its certificate, what both were given for, and the digest of the token that gave them."""

    enrolment: Enrolment
    key_pem: str
    chain_pem: str
    token_sha256: str | None = None

    def check(self) -> Certificate:
        """Its certificate; raises IdentityError where key, certificate, node and root do not belong together."""
        enrolment = self.enrolment
        return check_identity(enrolment.node, self.key_pem, self.chain_pem, enrolment.ca_pem)


class IdentityDirectory:
    """A directory with one identity, or none yet. Processes write one after the other; any may read meanwhile."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __str__(self) -> str:
        return str(self.path)

    def read(self) -> Identity | None:
        """The present identity, None where there is none yet; raises IdentityError for one that cannot be used."""
        present = self._present()
        parts = _files_in(present)
        while (now := self._present()) != present:
            # Another took its place, and it was deleted meanwhile.
            present, parts = now, _files_in(now)
        if present is None:
            return None
        if missing := [name for name in _LINKS if parts[name] is None]:
            raise IdentityError(f"{self.path}: {', '.join(missing)} is missing")
        text = {name: (content or b"").decode(errors="replace") for name, content in parts.items()}
        try:
            enrolment = read_message(parts[_ENROLMENT_FILE] or b"", Enrolment, str(self.path / _ENROLMENT_FILE))
        except ConfigError as exc:
            raise IdentityError(str(exc)) from exc
        return Identity(enrolment, text[KEY_FILE], text[CERTIFICATE_FILE], text[_TOKEN_FILE].strip() or None)

    def _present(self) -> Path | None:
        """Where the present identity lies."""
        try:
            return (self.path / _CURRENT).resolve(strict=True)
        except FileNotFoundError:
            return None
        except OSError as exc:
            raise of_disk(f"{self.path} cannot be read", exc) from exc

    def key_to_ask_with(self, purpose: str) -> str:
        """A key, the same until its identity is `put`: an answer that was lost on its way can be asked for again.

        It is of one `purpose` alone, a token's digest or a certificate's number: another gets another key. Raises
        IdentityError.
        """
        place = self.path / f"{_ASKING}-{purpose}"
        with self._alone():
            kept = (read_bounded(place / KEY_FILE) or b"").decode(errors="replace")
            if is_key(kept):
                return kept
            key_pem = new_key()
            self._fill(place, {KEY_FILE: key_pem})
            return key_pem

    def put(self, identity: Identity, instead_of: str | None = None) -> Certificate:
        """Makes it the present one, and deletes all others; raises IdentityError, and changes nothing.

        With `instead_of`, the number of a certificate, no other's place is taken: NotYetError where there is another.
        """
        certificate = identity.check()
        content = {
            KEY_FILE: identity.key_pem,
            CERTIFICATE_FILE: identity.chain_pem,
            CA_FILE: identity.enrolment.ca_pem,
            _ENROLMENT_FILE: written(without_token(identity.enrolment)).decode(),
            _TOKEN_FILE: identity.token_sha256 or "",
        }
        name = f"{certificate.not_before:%Y%m%dT%H%M%SZ}-{certificate.serial[:_SERIAL_CHARACTERS]}"
        with self._alone():
            if instead_of is not None and self._serial() != instead_of:
                raise NotYetError(f"another identity was put into {self.path} meanwhile")
            if (self.path / _CURRENT).resolve().name == name:
                name += "-again"  # the present one is not to be touched until there is another
            self._fill(self.path / name, content)
            self._switch(name)
        return certificate

    def _serial(self) -> str | None:
        found = self.read()
        return None if found is None else read_certificate(found.chain_pem).serial

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keeps other processes from writing meanwhile; raises IdentityError for what the disk does not take."""
        try:
            self.path.mkdir(mode=_DIRECTORY_MODE, parents=True, exist_ok=True)
            descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                yield
            finally:
                os.close(descriptor)
        except OSError as exc:
            raise of_disk(f"{self.path} cannot be written", exc) from exc

    def _fill(self, place: Path, content: dict[str, str]) -> None:
        """A directory with these files, there in one step."""
        scratch = self.path / _SCRATCH
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(mode=_DIRECTORY_MODE)
        for name, text in content.items():
            write_file(scratch / name, text.encode(), PUBLIC if name in {CERTIFICATE_FILE, CA_FILE} else SECRET)
        sync_directory(scratch)
        # What is left of an attempt that was cut off: the present identity has another name.
        shutil.rmtree(place, ignore_errors=True)
        scratch.rename(place)
        sync_directory(self.path)

    def _switch(self, name: str) -> None:
        for link in _LINKS:
            if not (self.path / link).is_symlink():
                self._link(link, f"{_CURRENT}/{link}")
        self._link(_CURRENT, name)
        sync_directory(self.path)
        kept = {name, _CURRENT, *_LINKS}
        for other in self.path.iterdir():
            if other.name not in kept and other.is_dir() and not other.is_symlink():
                shutil.rmtree(other, ignore_errors=True)

    def _link(self, link: str, target: str) -> None:
        half = self.path / f"{_SCRATCH}-link"
        half.unlink(missing_ok=True)
        half.symlink_to(target)
        half.replace(self.path / link)


def _files_in(place: Path | None) -> dict[str, bytes | None]:
    return {} if place is None else {name: read_bounded(place / name) for name in (*_LINKS, _TOKEN_FILE)}


def without_token(enrolment: Enrolment) -> Enrolment:
    """The same, and nobody can enrol with it."""
    return enrolment.model_copy(update={"token": None})
