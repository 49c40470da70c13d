"""The fleet's signature of a package: Ed25519, of the manifest's bytes, which name its files' digests.

A key is a PEM file: `openssl genpkey -algorithm ed25519 -out fleet.pem` makes one, and `openssl pkey -in fleet.pem
-pubout` its public half, by which devices check.
"""

from __future__ import annotations

import base64
import hashlib
import stat
from typing import TYPE_CHECKING, Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

from contract.card import MANIFEST_FILE, MAX_MODEL_BYTES, SIGNATURE_FILE
from models.errors import SignatureError
from models.registry.card import parse_card

if TYPE_CHECKING:
    from pathlib import Path

_MAX_KEY_BYTES: Final = 64 * 1024
_MAX_SIGNATURE_BYTES: Final = 1024


def private_key(path: Path) -> Ed25519PrivateKey:
    """The key in a PEM file; raises SignatureError, also where everybody on the machine can read it."""
    content = _content(path, _MAX_KEY_BYTES)
    try:
        key = load_pem_private_key(content, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as exc:
        raise SignatureError(f"{path}: is no private key in PEM without a password") from exc
    if not isinstance(key, Ed25519PrivateKey):
        raise SignatureError(f"{path}: is not a key of Ed25519")
    if (mode := stat.S_IMODE(path.stat().st_mode)) & stat.S_IROTH:
        raise SignatureError(f"{path}: is readable by everybody (mode {mode:o}): make a new one that is not")
    return key


def public_key(path: Path) -> Ed25519PublicKey:
    """The key in a PEM file; raises SignatureError."""
    try:
        key = load_pem_public_key(_content(path, _MAX_KEY_BYTES))
    except (ValueError, UnsupportedAlgorithm) as exc:
        raise SignatureError(f"{path}: is no public key in PEM") from exc
    if not isinstance(key, Ed25519PublicKey):
        raise SignatureError(f"{path}: is not a key of Ed25519")
    return key


def signature_of(manifest: bytes, key: Ed25519PrivateKey) -> bytes:
    """What goes into `manifest.sig`; the same for the same manifest and key."""
    return base64.b64encode(key.sign(manifest)) + b"\n"


def sign(package: Path, key: Path) -> None:
    """Writes `manifest.sig` beside a package's manifest; raises SignatureError where the package is not whole."""
    loaded = private_key(key)
    manifest = _content(package / MANIFEST_FILE, MAX_MODEL_BYTES)
    _check_files(package, manifest)
    (package / SIGNATURE_FILE).write_bytes(signature_of(manifest, loaded))


def verify(package: Path, key: Path) -> None:
    """Raises SignatureError unless the owner of this public key has signed the manifest, and the files are its."""
    loaded = public_key(key)
    manifest = _content(package / MANIFEST_FILE, MAX_MODEL_BYTES)
    place = package / SIGNATURE_FILE
    if not place.exists():
        raise SignatureError(f"{place}: is missing: the package is not signed")
    try:
        raw = base64.b64decode(_content(place, _MAX_SIGNATURE_BYTES).strip(), validate=True)
    except ValueError as exc:
        raise SignatureError(f"{place}: is no signature: {exc}") from exc
    try:
        loaded.verify(raw, manifest)
    except InvalidSignature as exc:
        raise SignatureError(f"{place}: {key} has not signed {MANIFEST_FILE}: one of them was changed") from exc
    _check_files(package, manifest)


def _check_files(package: Path, manifest: bytes) -> None:
    card = parse_card(manifest, str(package / MANIFEST_FILE))
    for each in card.files:
        path = package / each.file
        content = _content(path, each.size_bytes)
        if (found := hashlib.sha256(content).hexdigest()) != each.sha256:
            raise SignatureError(
                f"{path}: is not the manifest's: its SHA-256 is {found[:12]}..., not {each.sha256[:12]}..."
            )


def _content(path: Path, most_bytes: int) -> bytes:
    try:
        # A pipe would be waited for, for ever.
        if not stat.S_ISREG(path.stat().st_mode):
            raise SignatureError(f"{path}: is not a file")
        with path.open("rb") as file:
            content = file.read(most_bytes + 1)
    except OSError as exc:
        raise SignatureError(f"{path}: cannot be read: {exc.strerror}") from exc
    if len(content) > most_bytes:
        raise SignatureError(f"{path}: has more than {most_bytes} bytes")
    return content
