"""Authorities, and the certificates that they issue."""

from __future__ import annotations

import datetime as dt
import ipaddress
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fleet.authority.identity import Identity

if TYPE_CHECKING:
    from collections.abc import Sequence

# Clocks of devices differ a little.
_BACKDATED: Final = dt.timedelta(minutes=5)


def new_authority(name: str, life: dt.timedelta, *, path_length: int = 0) -> Identity:
    """A root, which trusts itself; with a path length of 0 it issues to all but authorities."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _name(name)
    builder = _builder(subject, subject, key.public_key(), life)
    return Identity.of(key, _pem(_authority(builder, path_length).sign(key, hashes.SHA256())))


def new_issuing(root: Identity, name: str, life: dt.timedelta) -> Identity:
    """An authority below a root, which issues to all but authorities: so that the root's key can lie in a safe."""
    key = ec.generate_private_key(ec.SECP256R1())
    builder = _builder(_name(name), root.certificate.subject, key.public_key(), _within(root, life))
    builder = _authority(builder, path_length=0).add_extension(_issuer(root), critical=False)
    return Identity.of(key, _pem(builder.sign(root.key, hashes.SHA256())))


def issue(authority: Identity, name: str, life: dt.timedelta, hosts: Sequence[str] = ()) -> Identity:
    """One whose common name is `name`: a client, and a server too where hosts are given."""
    key = ec.generate_private_key(ec.SECP256R1())
    return Identity.of(key, certify(authority, name, key.public_key(), life, hosts))


def certify(
    authority: Identity,
    name: str,
    public_key: ec.EllipticCurvePublicKey,
    life: dt.timedelta,
    hosts: Sequence[str] = (),
) -> bytes:
    """A certificate for somebody's key as PEM, followed by the authority's own unless that is a root."""
    usages = [ExtendedKeyUsageOID.CLIENT_AUTH, *([ExtendedKeyUsageOID.SERVER_AUTH] if hosts else [])]
    builder = (
        _builder(_name(name), authority.certificate.subject, public_key, _within(authority, life))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .add_extension(_issuer(authority), critical=False)
    )
    if hosts:
        builder = builder.add_extension(x509.SubjectAlternativeName(list(map(_host, hosts))), critical=False)
    is_root = authority.certificate.issuer == authority.certificate.subject
    return _pem(builder.sign(authority.key, hashes.SHA256())) + (b"" if is_root else authority.certificate_pem)


def still_good(identity: Identity, authority: Identity, hosts: Sequence[str], until: dt.datetime) -> bool:
    """Whether it is this authority's, names all these hosts, has begun, and lives until then."""
    try:
        found = identity.certificate
        found.verify_directly_issued_by(authority.certificate)
    except (ValueError, TypeError, InvalidSignature):
        return False
    # One of an hour in which this machine's clock was ahead begins when nobody is there to see it.
    is_alive = found.not_valid_before_utc <= dt.datetime.now(dt.UTC) and until < found.not_valid_after_utc
    return is_alive and set(map(_host, hosts)) <= _hosts(found)


def _hosts(certificate: x509.Certificate) -> set[x509.GeneralName]:
    try:
        return set(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound:
        return set()


def _within(authority: Identity, life: dt.timedelta) -> dt.timedelta:
    """No certificate outlives who issued it: it would be refused before its time."""
    return min(life, authority.certificate.not_valid_after_utc - dt.datetime.now(dt.UTC))


def _builder(
    subject: x509.Name, issuer: x509.Name, public_key: ec.EllipticCurvePublicKey, life: dt.timedelta
) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + life)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )


def _authority(builder: x509.CertificateBuilder, path_length: int) -> x509.CertificateBuilder:
    constraints = x509.BasicConstraints(ca=True, path_length=path_length)
    return builder.add_extension(constraints, critical=True).add_extension(_usage(signs=True), critical=True)


def _usage(*, signs: bool) -> x509.KeyUsage:
    """An authority signs certificates and CRLs, everybody else handshakes."""
    return x509.KeyUsage(
        digital_signature=not signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=signs,
        encipher_only=False,
        decipher_only=False,
    )


def _issuer(authority: Identity) -> x509.AuthorityKeyIdentifier:
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key())


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
