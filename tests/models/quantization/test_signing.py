from __future__ import annotations

import base64
import hashlib
import json
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from contract.manifest import Feature, Manifest, ModelInput, Window
from edge.models.package import read_package
from models.errors import SignatureError
from models.package import files_of, write_package
from models.signing import sign, verify

if TYPE_CHECKING:
    from pathlib import Path

    from contract.card import Form

FORMS: dict[Form, bytes] = {"float32": b"a float model", "int8": b"a smaller one"}


def manifest_of(forms: dict[Form, bytes]) -> Manifest:
    return Manifest.model_validate(
        {
            "format": 1,
            "name": "pump",
            "version": "1",
            "files": tuple(file for file, _ in files_of(forms, None).values()),
            "inputs": (ModelInput(name="speed"),),
            "features": (Feature(name="speed", of=("speed",)),),
            "window": Window(length=4, step_s=1),
            "output": {"kind": "anomaly", "score": "reconstruction", "threshold": 1.5},
        }
    )


def write(place: Path, key: Path | None, forms: dict[Form, bytes] = FORMS) -> Path:
    files = files_of(forms, None)
    write_package(place, manifest_of(forms), {name: content for name, (_, content) in files.items()}, key)
    return place


def write_key(path: Path, key: object | None = None) -> Path:
    """A private key, and beside it its public half, NAME.pub."""
    made = key or Ed25519PrivateKey.generate()
    path.touch(mode=0o600)
    path.write_bytes(made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))  # type: ignore[attr-defined]  # any of them
    public = made.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)  # type: ignore[attr-defined]  # as above
    path.with_name(f"{path.name}.pub").write_bytes(public)
    return path


@pytest.fixture
def key(tmp_path: Path) -> Path:
    return write_key(tmp_path / "fleet.pem")


@pytest.fixture
def public(key: Path) -> Path:
    return key.with_name("fleet.pem.pub")


@pytest.fixture
def package(tmp_path: Path, key: Path) -> Path:
    return write(tmp_path / "package", key)


def test_what_was_signed_is_taken_by_the_device(package: Path, public: Path) -> None:
    verify(package, public)
    assert read_package(package, [public]).signed_by == public


def test_a_signature_is_the_same_each_time(package: Path, key: Path) -> None:
    before = (package / "manifest.sig").read_bytes()
    assert len(base64.b64decode(before)) == 64
    sign(package, key)
    assert (package / "manifest.sig").read_bytes() == before


def test_a_package_may_be_signed_later(tmp_path: Path, key: Path, public: Path) -> None:
    package = write(tmp_path / "package", None)
    with pytest.raises(SignatureError, match="the package is not signed"):
        verify(package, public)
    sign(package, key)
    verify(package, public)


def test_another_manifest_is_refused(package: Path, public: Path) -> None:
    document = json.loads((package / "manifest.json").read_bytes())
    document["output"]["threshold"] = 1e9
    (package / "manifest.json").write_text(json.dumps(document))
    with pytest.raises(SignatureError, match=r"has not signed manifest\.json: one of them was changed"):
        verify(package, public)


def test_another_file_is_refused(package: Path, public: Path, key: Path) -> None:
    (package / "int8.tflite").write_bytes(b"a smaller two")
    with pytest.raises(SignatureError, match=r"int8\.tflite: is not the manifest's: its SHA-256 is"):
        verify(package, public)
    with pytest.raises(SignatureError, match=r"int8\.tflite: is not the manifest's"):
        sign(package, key)


def test_a_larger_file_is_not_read(package: Path, public: Path) -> None:
    with (package / "int8.tflite").open("ab") as file:
        file.truncate(1 << 30)
    with pytest.raises(SignatureError, match="has more than 13 bytes"):
        verify(package, public)


def test_another_files_digest_needs_another_signature(package: Path, public: Path) -> None:
    (package / "int8.tflite").write_bytes(b"a smaller two")
    document = json.loads((package / "manifest.json").read_bytes())
    document["files"][1]["sha256"] = hashlib.sha256(b"a smaller two").hexdigest()
    (package / "manifest.json").write_text(json.dumps(document))
    with pytest.raises(SignatureError, match="has not signed"):
        verify(package, public)


def test_another_key_is_refused(package: Path, tmp_path: Path) -> None:
    write_key(tmp_path / "other.pem")
    with pytest.raises(SignatureError, match=r"other\.pem\.pub has not signed"):
        verify(package, tmp_path / "other.pem.pub")


@pytest.mark.parametrize("content", [b"", b"no base64 !", base64.b64encode(b"short"), b"A" * 5000])
def test_what_is_no_signature_is_refused(package: Path, public: Path, content: bytes) -> None:
    (package / "manifest.sig").write_bytes(content)
    with pytest.raises(SignatureError, match=r"is no signature|has not signed|has more than 1024 bytes"):
        verify(package, public)


def test_a_key_that_everybody_can_read_signs_nothing(tmp_path: Path, key: Path) -> None:
    key.chmod(0o604)
    with pytest.raises(SignatureError, match=r"is readable by everybody \(mode 604\)"):
        write(tmp_path / "package", key)
    assert not (tmp_path / "package").exists()
    key.chmod(0o640)
    write(tmp_path / "package", key)


def test_only_keys_of_ed25519_are_keys(tmp_path: Path, package: Path, public: Path) -> None:
    other = write_key(tmp_path / "ec.pem", generate_private_key(SECP256R1()))
    with pytest.raises(SignatureError, match="is not a key of Ed25519"):
        sign(package, other)
    with pytest.raises(SignatureError, match="is not a key of Ed25519"):
        verify(package, tmp_path / "ec.pem.pub")
    with pytest.raises(SignatureError, match="is no private key in PEM"):
        sign(package, public)
    with pytest.raises(SignatureError, match="is no public key in PEM"):
        verify(package, other)


def test_a_key_that_is_not_there(package: Path, tmp_path: Path) -> None:
    with pytest.raises(SignatureError, match=r"none\.pem: cannot be read: No such file"):
        sign(package, tmp_path / "none.pem")
    with pytest.raises(SignatureError, match="is not a file"):
        sign(package, tmp_path)
