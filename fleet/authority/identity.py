"""A key and its certificate."""

from __future__ import annotations

from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec


@dataclass(frozen=True, slots=True)
class Identity:
    """A key, its certificate and those up to the root (without it) in one PEM, in this order.

    OpenSSL takes it as key and as chain, and Kafka's clients as both. The key is in PKCS #8, which Java reads.
    """

    pem: bytes

    @classmethod
    def of(cls, key: ec.EllipticCurvePrivateKey, chain_pem: bytes) -> Identity:
        """The identity of a key and its chain."""
        form = serialization.PrivateFormat.PKCS8
        return cls(key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()) + chain_pem)

    @property
    def certificate(self) -> x509.Certificate:
        """The certificate; raises ValueError where there is none."""
        return x509.load_pem_x509_certificate(self.pem)

    @property
    def certificate_pem(self) -> bytes:
        """The certificate alone, for those who trust it."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def chain_pem(self) -> bytes:
        """The certificate, then those up to the root."""
        found = x509.load_pem_x509_certificates(self.pem)
        return b"".join(each.public_bytes(serialization.Encoding.PEM) for each in found)

    @property
    def key(self) -> ec.EllipticCurvePrivateKey:
        """The key; raises ValueError where there is none."""
        key = serialization.load_pem_private_key(self.pem, password=None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ValueError("not a key of an elliptic curve, as all of ours are")  # noqa: TRY004 - as for no key at all
        return key

    @property
    def is_whole(self) -> bool:
        """Whether there are a key and its certificate."""
        try:
            return self.key.public_key() == self.certificate.public_key()
        except (ValueError, TypeError):
            return False

    @property
    def key_pem(self) -> bytes:
        """The key alone."""
        return Identity.of(self.key, b"").pem
