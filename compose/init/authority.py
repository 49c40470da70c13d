"""A certificate authority of our own, and what it issues: P-256 keys, X.509 certificates, all as PEM."""

from __future__ import annotations

import datetime as dt
import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

if TYPE_CHECKING:
    from collections.abc import Sequence

_AUTHORITY_DAYS: Final = 3650
_LEAF_DAYS: Final = 397
# Renewed by the first `docker compose up` within so many days of the end.
RENEW_DAYS: Final = 60
# Clocks of devices differ a little.
_BACKDATED: Final = dt.timedelta(minutes=5)
_SIGNS_CERTIFICATES: Final = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)


@dataclass(frozen=True, slots=True)
class Identity:
    """A key and its certificate in one PEM, in this order: OpenSSL takes it as either, and Kafka's clients as both.

    The key is in PKCS #8, the one form that Java reads.
    """

    pem: bytes

    @property
    def certificate(self) -> x509.Certificate:
        """The certificate; raises ValueError where there is none."""
        return x509.load_pem_x509_certificate(self.pem)

    @property
    def certificate_pem(self) -> bytes:
        """The certificate alone, for those who trust it."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def key(self) -> ec.EllipticCurvePrivateKey:
        """The key; raises ValueError where there is none."""
        key = serialization.load_pem_private_key(self.pem, password=None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)  # all of ours are
        return key


def new_authority(name: str) -> Identity:
    """What issues certificates, for leaves only."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _name(name)
    builder = (
        _builder(subject, subject, key.public_key(), _AUTHORITY_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_SIGNS_CERTIFICATES, critical=True)
    )
    return _identity(builder.sign(key, hashes.SHA256()), key)


def issue(authority: Identity, name: str, hosts: Sequence[str] = ()) -> Identity:
    """One whose common name is `name`: a client, and a server too where hosts are given."""
    key = ec.generate_private_key(ec.SECP256R1())
    usages = [ExtendedKeyUsageOID.CLIENT_AUTH, *([ExtendedKeyUsageOID.SERVER_AUTH] if hosts else [])]
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key())
    builder = (
        _builder(_name(name), authority.certificate.subject, key.public_key(), _LEAF_DAYS)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .add_extension(issuer, critical=False)
    )
    if hosts:
        builder = builder.add_extension(x509.SubjectAlternativeName(list(map(_host, hosts))), critical=False)
    return _identity(builder.sign(authority.key, hashes.SHA256()), key)


def still_good(identity: Identity, authority: Identity, hosts: Sequence[str], now: dt.datetime) -> bool:
    """Whether it is this authority's, names all these hosts, and does not end soon."""
    try:
        found = identity.certificate
        found.verify_directly_issued_by(authority.certificate)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return now + dt.timedelta(days=RENEW_DAYS) < found.not_valid_after_utc and set(map(_host, hosts)) <= _hosts(found)


def _hosts(certificate: x509.Certificate) -> set[x509.GeneralName]:
    try:
        return set(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound:
        return set()


def _builder(
    subject: x509.Name, issuer: x509.Name, public_key: ec.EllipticCurvePublicKey, days: int
) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + dt.timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _identity(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Identity:
    form = serialization.PrivateFormat.PKCS8
    return Identity(
        key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
