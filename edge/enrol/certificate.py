"""Keys, requests and certificates of a node: made, read, and checked against the fleet's root. No I/O."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from contract.enrolment import RENEWED_AFTER
from edge.errors import IdentityError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime


@dataclass(frozen=True, slots=True)
class Certificate:
    """What its bearer needs to know of a certificate; times are aware UTC."""

    node: str
    serial: str
    not_before: datetime
    not_after: datetime

    @property
    def renewed_from(self) -> datetime:
        """When another one is to be asked for."""
        return self.not_before + RENEWED_AFTER * (self.not_after - self.not_before)


def new_key() -> str:
    """A key of P-256 (PEM, PKCS #8)."""
    return (
        ec.generate_private_key(ec.SECP256R1())
        .private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        .decode()
    )


def is_key(pem: str) -> bool:
    """Whether it is what `new_key` gives."""
    try:
        _key(pem)
    except IdentityError:
        return False
    return True


def certificate_request(key_pem: str, node: str) -> str:
    """What is sent to get a certificate (PEM, PKCS #10); raises IdentityError for a key that is none."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, node)])
    request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(_key(key_pem), hashes.SHA256())
    return request.public_bytes(serialization.Encoding.PEM).decode()


@contextmanager
def _translated() -> Iterator[None]:
    """A stranger's certificate may have anything in it, which is found when it is asked for."""
    try:
        yield
    except (ValueError, TypeError, UnsupportedAlgorithm) as exc:
        raise IdentityError(f"the certificate cannot be read: {exc}") from exc


@_translated()
def read_certificate(chain_pem: str) -> Certificate:
    """The first certificate of a chain; raises IdentityError where there is none."""
    leaf = _certificates(chain_pem)[0]
    names = leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    node = str(names[0].value) if names else ""
    return Certificate(node, f"{leaf.serial_number:x}", leaf.not_valid_before_utc, leaf.not_valid_after_utc)


@_translated()
def check_identity(node: str, key_pem: str, chain_pem: str, ca_pem: str) -> Certificate:
    """The node's certificate; raises IdentityError where it is another's, another key's, or not of the fleet's root.

    Whether it is valid now is not asked: the clock may not be set, and who is shown it looks by a better one.
    """
    leaf, *issuers = _certificates(chain_pem)
    found = read_certificate(chain_pem)
    if found.node != node:
        raise IdentityError(f"the certificate is that of {found.node or 'nobody'}, not of {node}")
    if leaf.public_key() != _key(key_pem).public_key():
        raise IdentityError("the certificate is for another key than the one beside it")
    if not any(_leads_to([leaf, *issuers, root]) for root in _certificates(ca_pem)):
        raise IdentityError("the certificate is not of the fleet's root, or one between them is missing")
    return found


def _leads_to(chain: Sequence[x509.Certificate]) -> bool:
    return all(_is_issued_by(child, parent) for child, parent in pairwise(chain))


def _is_issued_by(child: x509.Certificate, parent: x509.Certificate) -> bool:
    try:
        child.verify_directly_issued_by(parent)
        return parent.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm, x509.ExtensionNotFound):
        return False


def _certificates(pem: str) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem.encode())
    except ValueError as exc:
        raise IdentityError(f"what should be certificates is none: {exc}") from exc


def _key(pem: str) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(pem.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as exc:
        raise IdentityError(f"what should be a key is none: {exc}") from exc
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise IdentityError("the key is not of P-256")
    return key
