"""What was called back (CRL)."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fleet.authority.identity import Identity


@dataclass(frozen=True, slots=True)
class Revoked:
    """A certificate that was called back."""

    serial: int
    revoked_at: dt.datetime


def revocation_list(authority: Identity, revoked: Iterable[Revoked]) -> bytes:
    """The authority's CRL as PEM.

    It lapses with the authority and not before: who makes it puts it beside the broker, so a date would keep nobody
    from showing an old one, and one that lapses has a broker refuse everybody.
    """
    now = dt.datetime.now(dt.UTC)
    key = authority.key
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(authority.certificate.subject)
        # Some peer's clock is behind ours, and to it a list of the future is none.
        .last_update(now - dt.timedelta(minutes=5))
        .next_update(authority.certificate.not_valid_after_utc)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
        .add_extension(x509.CRLNumber(int(now.timestamp() * 1000)), critical=False)
    )
    for each in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(each.serial).revocation_date(each.revoked_at).build()
        builder = builder.add_revoked_certificate(entry)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def is_list_of(pem: bytes, authority: Identity, revoked: Iterable[Revoked]) -> bool:
    """Whether that is the authority's CRL already, naming these and no others."""
    try:
        found = x509.load_pem_x509_crl(pem)
        is_ours = found.is_signature_valid(authority.key.public_key())
    except (ValueError, TypeError):
        return False
    return is_ours and {each.serial_number for each in found} == {each.serial for each in revoked}
