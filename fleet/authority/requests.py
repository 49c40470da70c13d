"""Requests for a certificate (PKCS #10), from strangers: what is taken of one is its key alone."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from fleet.errors import FleetError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes


class RequestError(FleetError):
    """A request that no certificate is given for."""


def requested_key(pem: bytes, name: str) -> ec.EllipticCurvePublicKey:
    """The key that a certificate is requested for; raises RequestError unless its owner asks, and asks as `name`.

    Names, usages and hosts that a request asks for are not looked at: the certificate has none of them.
    """
    try:
        request = x509.load_pem_x509_csr(pem)
        key, is_signed = request.public_key(), request.is_signature_valid
        names = [each.value for each in request.subject]
        common_names = [each.value for each in request.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion) as exc:
        raise RequestError("the CSR cannot be read: it must be PKCS #10 in PEM, of a key on the curve P-256") from exc
    if not is_signed:
        raise RequestError("the CSR is not signed by the key that is in it")
    if not names == common_names == [name]:
        raise RequestError(f"the CSR is for {str(names)[:80]}: allowed is the common name {name!r} alone")
    return _of_our_curve(key)


def new_request(name: str, key: ec.EllipticCurvePrivateKey) -> bytes:
    """A request as a device makes it."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return request.public_bytes(serialization.Encoding.PEM)


def key_digest(key: ec.EllipticCurvePublicKey) -> str:
    """By what a key is known: SHA-256 of its DER, in hexadecimal."""
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return hashlib.sha256(key.public_bytes(serialization.Encoding.DER, form)).hexdigest()


def _of_our_curve(key: CertificatePublicKeyTypes) -> ec.EllipticCurvePublicKey:
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise RequestError("the CSR's key is of another kind: allowed are keys on the curve P-256")
    return key
