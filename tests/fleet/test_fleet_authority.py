"""Certificates and requests: what is signed, for how long, and what of strangers is not."""

from __future__ import annotations

import datetime as dt

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError
from hypothesis import example, given, settings
from hypothesis import strategies as st

from contract.enrolment import CsrPem
from fleet.authority import (
    Identity,
    RequestError,
    Revoked,
    certify,
    is_list_of,
    issue,
    key_digest,
    new_authority,
    new_issuing,
    new_request,
    requested_key,
    revocation_list,
    still_good,
)
from fleet.authority.issuing import _BACKDATED

DAY = dt.timedelta(days=1)
ROOT = new_authority("root", 100 * DAY, path_length=1)
ISSUING = new_issuing(ROOT, "issuing", 50 * DAY)
KEY = ec.generate_private_key(ec.SECP256R1())
REQUEST = new_request("pump-1", KEY)

SERIALS = st.integers(1, 2**159 - 1)
NAMES = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=64)


def test_a_devices_chain_ends_at_the_root_and_makes_it_a_client_alone() -> None:
    identity = Identity.of(KEY, certify(ISSUING, "pump-1", KEY.public_key(), 10 * DAY))
    assert len(x509.load_pem_x509_certificates(identity.chain_pem)) == 2
    usages = identity.certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usages) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert not identity.certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    identity.certificate.verify_directly_issued_by(ISSUING.certificate)
    ISSUING.certificate.verify_directly_issued_by(ROOT.certificate)


def test_what_is_good_is_its_authoritys_and_lives_long_enough() -> None:
    server = issue(ISSUING, "broker", 10 * DAY, ("broker.example",))
    now = dt.datetime.now(dt.UTC)
    assert still_good(server, ISSUING, ["broker.example"], now + 9 * DAY)
    assert not still_good(server, ISSUING, ["broker.example"], now + 11 * DAY)
    assert not still_good(server, ISSUING, ["other.example"], now)
    assert not still_good(server, new_authority("issuing", DAY), [], now)

    assert not still_good(Identity(b"nonsense"), ISSUING, [], now)


def test_what_was_made_while_the_clock_was_ahead_is_not_good_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fleet.authority.issuing._BACKDATED", -DAY)
    ahead = issue(ISSUING, "broker", 10 * DAY)
    assert not still_good(ahead, ISSUING, [], dt.datetime.now(dt.UTC) + DAY)


def test_a_server_has_its_names_and_verifies_by_the_root() -> None:
    server = issue(ISSUING, "broker", 10 * DAY, ("broker.example", "192.0.2.7"))
    chain = x509.load_pem_x509_certificates(server.chain_pem)
    policy = PolicyBuilder().store(Store([ROOT.certificate]))
    policy.build_server_verifier(x509.DNSName("broker.example")).verify(chain[0], chain[1:])
    with pytest.raises(VerificationError):
        policy.build_server_verifier(x509.DNSName("other.example")).verify(chain[0], chain[1:])


@settings(deadline=None)
@given(days=st.floats(min_value=0.1, max_value=1000))
def test_nothing_outlives_who_issued_it(days: float) -> None:
    made = x509.load_pem_x509_certificate(certify(ISSUING, "pump-1", KEY.public_key(), days * DAY))
    assert made.not_valid_after_utc <= ISSUING.certificate.not_valid_after_utc
    assert ISSUING.certificate.not_valid_after_utc <= ROOT.certificate.not_valid_after_utc
    assert made.not_valid_before_utc <= dt.datetime.now(dt.UTC) - _BACKDATED


# ---------------------------------------------------------------------------------------------- requests of strangers


@settings(deadline=None)
@given(name=NAMES)
def test_a_request_gives_its_key_to_its_name_alone(name: str) -> None:
    request = new_request(name, KEY)
    assert key_digest(requested_key(request, name)) == key_digest(KEY.public_key())
    with pytest.raises(RequestError, match="allowed is the common name"):
        requested_key(request, f"{name}x")


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_what_is_no_request_is_refused(content: bytes) -> None:
    with pytest.raises(RequestError):
        requested_key(content, "pump-1")


@settings(deadline=None)
@given(place=st.integers(0, len(REQUEST) - 1), byte=st.integers(0, 255))
@example(place=46, byte=ord("E"))  # another version than 0
def test_a_request_with_a_byte_changed_gives_the_same_key_or_none(place: int, byte: int) -> None:
    changed = REQUEST[:place] + bytes([byte]) + REQUEST[place + 1 :]
    try:
        key = requested_key(changed, "pump-1")
    except RequestError:
        return
    assert key_digest(key) == key_digest(KEY.public_key())


def of_curve(curve: ec.EllipticCurve) -> bytes:
    return signed(ec.generate_private_key(curve), [("pump-1", NameOID.COMMON_NAME)])


def signed(
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, names: list[tuple[str, x509.ObjectIdentifier]]
) -> bytes:
    subject = x509.Name([x509.NameAttribute(kind, name) for name, kind in names])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return request.public_bytes(serialization.Encoding.PEM)


@pytest.mark.parametrize(
    ("request_pem", "reason"),
    [
        (of_curve(ec.SECP384R1()), "of another kind"),
        (signed(rsa.generate_private_key(65537, 2048), [("pump-1", NameOID.COMMON_NAME)]), "of another kind"),
        (signed(KEY, []), "allowed is the common name 'pump-1' alone"),
        (signed(KEY, [("pump-1", NameOID.COMMON_NAME), ("pump-2", NameOID.COMMON_NAME)]), "alone"),
        (signed(KEY, [("pump-1", NameOID.COMMON_NAME), ("Acme", NameOID.ORGANIZATION_NAME)]), "alone"),
        (signed(KEY, [("pump-1", NameOID.ORGANIZATION_NAME)]), "alone"),
    ],
)
def test_a_request_that_asks_for_more_or_for_less_is_refused(request_pem: bytes, reason: str) -> None:
    with pytest.raises(RequestError, match=reason):
        requested_key(request_pem, "pump-1")


def test_nothing_that_a_request_asks_for_is_granted() -> None:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "pump-1")])
    asked = x509.CertificateSigningRequestBuilder().subject_name(subject)
    asked = asked.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    asked = asked.add_extension(x509.SubjectAlternativeName([x509.DNSName("broker.example")]), critical=False)
    pem = asked.sign(KEY, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    made = x509.load_pem_x509_certificate(certify(ISSUING, "pump-1", requested_key(pem, "pump-1"), DAY))
    assert not made.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    with pytest.raises(x509.ExtensionNotFound):
        made.extensions.get_extension_for_class(x509.SubjectAlternativeName)


def test_a_request_of_ours_is_short_enough_to_send() -> None:
    longest = next(each.max_length for each in CsrPem.__metadata__[0].metadata if hasattr(each, "max_length"))
    assert len(new_request("x" * 64, KEY)) < longest


# ------------------------------------------------------------------------------------------------ what was called back


@settings(deadline=None)
@given(serials=st.sets(SERIALS, max_size=20), other=SERIALS)
def test_a_list_names_what_was_called_back(serials: set[int], other: int) -> None:
    now = dt.datetime.now(dt.UTC)
    revoked = [Revoked(serial, now) for serial in serials]
    pem = revocation_list(ISSUING, revoked)
    found = x509.load_pem_x509_crl(pem)
    assert {each.serial_number for each in found} == serials
    assert found.next_update_utc == ISSUING.certificate.not_valid_after_utc
    assert is_list_of(pem, ISSUING, revoked)
    assert not is_list_of(pem, ROOT, revoked)
    assert is_list_of(pem, ISSUING, [*revoked, Revoked(other, now)]) == (other in serials)
    assert not is_list_of(b"nonsense", ISSUING, revoked)
