"""Making an operator's directory."""

from __future__ import annotations

import datetime as dt
import shutil
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fleet.authority import new_authority, new_issuing
from fleet.broker import keep_files, renew_certificate
from fleet.errors import FleetError
from fleet.files import PRIVATE, PUBLIC, write_file
from fleet.home import SETTINGS_FILE, Home

if TYPE_CHECKING:
    from pathlib import Path

    from fleet.authority import Identity
    from fleet.settings import FleetSettings

_ROOT_LIFE: Final = dt.timedelta(days=20 * 365)
_ISSUING_LIFE: Final = dt.timedelta(days=10 * 365)


def found(path: Path, settings: FleetSettings) -> Home:
    """A new operator's directory; raises FleetError where there is something already.

    Its keys, settings and registry are there together or not at all; its broker's files `fleet broker` makes, too.
    """
    check_free(path)
    half = path.with_name(f".{path.name}.new")
    shutil.rmtree(half, ignore_errors=True)
    try:
        for folder in (half, half / "root", half / "issuing", half / "update"):
            folder.mkdir(mode=0o700, parents=folder is half)
        home = Home(half, settings)
        _make_keys(home)
        write_file(half / SETTINGS_FILE, settings.to_yaml().encode())
        home.registry.make()
        half.replace(path)
    except OSError as exc:
        raise FleetError(f"{path}: cannot be made: {exc.strerror}") from exc
    finally:
        shutil.rmtree(half, ignore_errors=True)
    made = Home(path, settings)
    renew_certificate(made)
    keep_files(made)
    return made


def check_free(path: Path) -> None:
    """Raises FleetError where there is something already, and where there can be nothing new."""
    if not path.name:
        raise FleetError(f"{path}: cannot be made anew: name a directory below it, such as fleet-home")
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise FleetError(f"{path}: is there already; another directory takes another fleet")


def _make_keys(home: Home) -> None:
    name = home.settings.name
    root = new_authority(f"{name} root", _ROOT_LIFE, path_length=1)
    _write_authority(home.path / "root", root)
    _write_authority(home.path / "issuing", new_issuing(root, f"{name} issuing", _ISSUING_LIFE))
    key = Ed25519PrivateKey.generate()
    form, pem = serialization.PrivateFormat.PKCS8, serialization.Encoding.PEM
    write_file(home.path / "update/key", key.private_bytes(pem, form, serialization.NoEncryption()))
    public = key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo)
    write_file(home.path / "update/pub", public, PUBLIC)


def _write_authority(folder: Path, authority: Identity) -> None:
    write_file(folder / "ca.key", authority.key_pem, PRIVATE)
    write_file(folder / "ca.pem", authority.certificate_pem, PUBLIC)
