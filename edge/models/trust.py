"""Whether what lies in a model's directory was signed by somebody whom the configuration trusts."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

from edge.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey


def signer(content: bytes, signature: bytes, trusted_keys: Sequence[Path]) -> Path:
    """Which of the keys has made this signature (Ed25519, in base64) of `content`; raises ModelError where none has."""
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 - memory that an agent without keys saves

    try:
        raw = base64.b64decode(signature.strip(), validate=True)
    except ValueError as exc:
        raise ModelError(f"is no signature: {exc}") from exc
    for path in trusted_keys:
        try:
            _public_key(path).verify(raw, content)
        except InvalidSignature:
            continue
        return path
    raise ModelError(f"is no signature of the manifest by a trusted key ({', '.join(map(str, trusted_keys))})")


def _public_key(path: Path) -> Ed25519PublicKey:
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415 - as above
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # noqa: PLC0415 - as above
    from cryptography.hazmat.primitives.serialization import load_pem_public_key  # noqa: PLC0415 - as above

    try:
        key = load_pem_public_key(path.read_bytes())
    except OSError as exc:
        raise ModelError(f"cannot be checked: trusted key {path} cannot be read: {exc.strerror}") from exc
    except (ValueError, UnsupportedAlgorithm) as exc:
        raise ModelError(f"cannot be checked: trusted key {path} is no public key in PEM") from exc
    if not isinstance(key, Ed25519PublicKey):
        raise ModelError(f"cannot be checked: trusted key {path} is not of Ed25519")
    return key
