"""A model's package: read, checked against its manifest, and carried as a whole to whoever runs it."""

from __future__ import annotations

import base64
import hashlib
import os
import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from contract.card import MANIFEST_FILE, MAX_MANIFEST_BYTES, SIGNATURE_FILE
from contract.config import ConfigError
from contract.manifest import Manifest, parse_manifest
from stream.errors import ModelError
from stream.serving.inside import check_inside

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from typing import Any

    from contract.card import ModelFile

_MAX_SIGNATURE_BYTES: Final = 1024
# A manifest of nothing but faults would fill the log with them.
_MAX_FAULTS_CHARACTERS: Final = 1000


@dataclass(frozen=True, slots=True)
class Package:
    """A manifest and the content of its TensorFlow file, which is what the manifest says.

    Two of the same digest, which is the manifest's and so the files' too, are the same. It needs no directory any more
    and can be pickled: executors have none of ours. `signed_by` is the trusted key that has signed it, None where none
    was asked for.
    """

    digest: str
    manifest: Manifest = field(compare=False, repr=False)
    content: bytes = field(compare=False, repr=False)
    signed_by: Path | None = field(default=None, compare=False)

    @property
    def title(self) -> str:
        """Name and version."""
        return f"{self.manifest.name} {self.manifest.version}"


def read_package(directory: Path, trusted_keys: Sequence[Path] = ()) -> Package:
    """The model in a directory; raises ModelError.

    With `trusted_keys`, PEM files of Ed25519 public keys, one of them must have signed the manifest.
    """
    try:
        # Resolved once: what a link points to may change at any time.
        place = directory.resolve(strict=True)
    except (OSError, RuntimeError) as exc:
        raise ModelError(f"{directory}: cannot be read: {getattr(exc, 'strerror', None) or exc}") from exc
    path = place / MANIFEST_FILE
    text = _content(path, MAX_MANIFEST_BYTES)
    signed_by = _signer(text, place / SIGNATURE_FILE, trusted_keys) if trusted_keys else None
    try:
        manifest = parse_manifest(text, str(path))
    except ConfigError as exc:
        raise ModelError("; ".join(str(exc).splitlines())[:_MAX_FAULTS_CHARACTERS]) from exc
    file = _float_file(manifest, path)
    content = _checked(place, file)
    check_inside(content, str(place / file.file))
    return Package(hashlib.sha256(text).hexdigest(), manifest, content, signed_by)


def _float_file(manifest: Manifest, path: Path) -> ModelFile:
    for each in manifest.files:
        if each.runtime == "tensorflow":
            return each
    found = ", ".join(each.file for each in manifest.files)
    raise ModelError(f"{path}: has no file of runtime tensorflow, which alone is served here: {found}")


def _checked(place: Path, file: ModelFile) -> bytes:
    content = _content(place / file.file, file.size_bytes)
    if len(content) != file.size_bytes:
        size = "more" if len(content) > file.size_bytes else f"{len(content)}"
        raise ModelError(f"{place / file.file}: has {size} bytes: the manifest says {file.size_bytes}")
    if (found := hashlib.sha256(content).hexdigest()) != file.sha256:
        raise ModelError(f"{place / file.file}: its SHA-256 is {found}: the manifest says {file.sha256}")
    return content


def _content(path: Path, limit: int) -> bytes:
    """What is in a file, at most a byte beyond the limit; raises ModelError."""
    try:
        with open(path, "rb", opener=_open_at_once) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise ModelError(f"{path}: is not a file")
            return file.read(limit + 1)
    except IsADirectoryError as exc:
        raise ModelError(f"{path}: is not a file") from exc
    except OSError as exc:
        raise ModelError(f"{path}: cannot be read: {exc.strerror}") from exc


def _open_at_once(path: str, flags: int) -> int:
    """A pipe would be waited for, for ever."""
    return os.open(path, flags | os.O_NONBLOCK)


def _signer(text: bytes, path: Path, trusted_keys: Sequence[Path]) -> Path:
    """The trusted key that has signed the manifest; raises ModelError."""
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 - only who trusts keys needs it

    if not os.path.lexists(path):
        raise ModelError(f"{path}: is missing: the manifest is not signed, and a trusted key is asked for")
    try:
        signature = base64.b64decode(_content(path, _MAX_SIGNATURE_BYTES).strip(), validate=True)
    except ValueError as exc:
        raise ModelError(f"{path}: is no signature: {exc}") from exc
    for key in trusted_keys:
        try:
            _public_key(key).verify(signature, text)
        except InvalidSignature:
            continue
        return key
    raise ModelError(f"{path}: is no signature of the manifest by a trusted key ({', '.join(map(str, trusted_keys))})")


def _public_key(path: Path) -> Any:  # noqa: ANN401 - the package need not be there to check types
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415 - as above
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # noqa: PLC0415 - as above
    from cryptography.hazmat.primitives.serialization import load_pem_public_key  # noqa: PLC0415 - as above

    try:
        key = load_pem_public_key(path.read_bytes())
    except OSError as exc:
        raise ModelError(f"trusted key {path}: cannot be read: {exc.strerror}") from exc
    except (ValueError, UnsupportedAlgorithm) as exc:
        raise ModelError(f"trusted key {path}: is no public key in PEM") from exc
    if not isinstance(key, Ed25519PublicKey):
        raise ModelError(f"trusted key {path}: is not of Ed25519")
    return key
