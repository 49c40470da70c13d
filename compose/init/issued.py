"""Devices' certificates that were given away, and those of them that were called back."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.x509.oid import NameOID

from fleet.authority import Revoked, is_list_of, revocation_list

if TYPE_CHECKING:
    from collections.abc import Iterator

    from compose.init.files import Folder
    from fleet.authority import Identity

_GIVEN: Final = "given"
_REVOKED: Final = "revoked"
LIST_FILE: Final = "crl.pem"


@dataclass(frozen=True, slots=True)
class Issued:
    """A folder of certificates, without keys: `given-SERIAL.pem`, or `revoked-SERIAL.pem` written when it was."""

    folder: Folder

    def note(self, identity: Identity) -> None:
        """One was given away."""
        self.folder.path.mkdir(mode=0o700, exist_ok=True)
        self.folder.write(f"{_GIVEN}-{identity.certificate.serial_number:x}.pem", identity.certificate_pem)

    def revoke(self, name: str) -> int:
        """Calls back those with that common name; how many there were."""
        found = [each for each in self._all(_GIVEN) if _name(each) == name]
        for each in found:
            given = self.folder.path / f"{_GIVEN}-{each.serial_number:x}.pem"
            self.folder.write(f"{_REVOKED}-{each.serial_number:x}.pem", given.read_bytes())
            given.unlink()
        return len(found)

    def put_list(self, authority: Identity, folder: Folder) -> None:
        """Brings the CRL of whom the authority called back up to date."""
        revoked = [Revoked(each.serial_number, self._revoked_at(each)) for each in self._all(_REVOKED)]
        present = folder.read(LIST_FILE)
        if present is None or not is_list_of(present, authority, revoked):
            folder.write(LIST_FILE, revocation_list(authority, revoked))

    def _revoked_at(self, certificate: x509.Certificate) -> dt.datetime:
        written = (self.folder.path / f"{_REVOKED}-{certificate.serial_number:x}.pem").stat().st_mtime
        return dt.datetime.fromtimestamp(written, dt.UTC)

    def _all(self, state: str) -> Iterator[x509.Certificate]:
        """Those that have not expired."""
        for path in sorted(self.folder.path.glob(f"{state}-*.pem")):
            certificate = x509.load_pem_x509_certificate(path.read_bytes())
            if certificate.not_valid_after_utc > dt.datetime.now(dt.UTC):
                yield certificate


def _name(certificate: x509.Certificate) -> str:
    return str(certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)
