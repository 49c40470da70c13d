"""Models that have to be signed: what is taken, what is refused and why, and that copies are no way around it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1
from cryptography.hazmat.primitives.asymmetric.ec import generate_private_key as generate_ec_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from contract.card import MANIFEST_FILE, SIGNATURE_FILE
from edge.__main__ import main
from edge.errors import ModelError
from edge.models.package import read_package
from edge.models.store import Store
from models.signing import signature_of

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[3]
KEY, OTHER = (Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32) for number in (1, 2))


def sign(directory: Path, key: Ed25519PrivateKey = KEY) -> Path:
    (directory / SIGNATURE_FILE).write_bytes(signature_of((directory / MANIFEST_FILE).read_bytes(), key))
    return directory


def public(path: Path, key: Any = KEY) -> Path:
    path.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return path


def test_a_model_is_taken_where_one_of_the_keys_has_signed_it(put_model: Callable[..., Path], tmp_path: Path) -> None:
    keys = public(tmp_path / "other.pem", OTHER), public(tmp_path / "key.pem")
    assert read_package(sign(put_model(tmp_path / "m")), keys).signed_by == keys[1]
    assert read_package(tmp_path / "m", ()).signed_by is None


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda m: (m / SIGNATURE_FILE).unlink(), "manifest.sig: is missing: the manifest is not signed"),
        (lambda m: sign(m, OTHER), r"manifest.sig: is no signature of the manifest by a trusted key \(.*key.pem\)"),
        (lambda m: (m / MANIFEST_FILE).write_text("{ }"), "manifest.sig: is no signature of the manifest by a trusted"),
        (lambda m: (m / SIGNATURE_FILE).write_bytes(b"\xff, no base64"), "manifest.sig: is no signature: "),
        (lambda m: (m / SIGNATURE_FILE).write_bytes(b""), "manifest.sig: is no signature of the manifest by a trusted"),
        (lambda m: (m / SIGNATURE_FILE).write_bytes(b"AAAA" * 500), "manifest.sig: is no signature"),
        (lambda m: [(m / SIGNATURE_FILE).unlink(), (m / SIGNATURE_FILE).mkdir()], "manifest.sig: is not a file"),
        (
            lambda m: [(m / SIGNATURE_FILE).unlink(), (m / SIGNATURE_FILE).symlink_to("x" * 300)],
            "manifest.sig: cannot be read: File name too long",
        ),
        (
            lambda m: [(m / SIGNATURE_FILE).unlink(), subprocess.run(["mkfifo", m / SIGNATURE_FILE], check=True)],
            "manifest.sig: is not a file",
        ),
    ],
)
def test_a_model_without_a_good_signature_is_refused(
    spoil: Callable[[Path], Any], said: str, put_model: Callable[..., Path], tmp_path: Path
) -> None:
    directory = sign(put_model(tmp_path / "m"))
    spoil(directory)
    with pytest.raises(ModelError, match=said):
        read_package(directory, [public(tmp_path / "key.pem")])


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (None, "trusted key .*key.pem cannot be read: No such file"),
        (lambda path: path.write_text("-----BEGIN"), "trusted key .*key.pem is no public key in PEM"),
        (
            lambda path: path.write_bytes(KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())),
            "trusted key .*key.pem is no public key in PEM",
        ),
        (lambda path: public(path, generate_ec_key(SECP256R1())), "trusted key .*key.pem is not of Ed25519"),
    ],
)
def test_a_key_that_is_none_is_said_to_be(
    write: Callable[[Path], Any] | None, said: str, put_model: Callable[..., Path], tmp_path: Path
) -> None:
    directory = sign(put_model(tmp_path / "m"))
    if write is not None:
        write(tmp_path / "key.pem")
    with pytest.raises(ModelError, match=f"manifest.sig: cannot be checked: {said}"):
        read_package(directory, [tmp_path / "key.pem"])


def test_a_copy_is_as_good_as_its_signature(put_model: Callable[..., Path], tmp_path: Path) -> None:
    keys = [public(tmp_path / "key.pem")]
    store = Store(tmp_path / "state", keys)
    kept = store.keep(read_package(sign(put_model(tmp_path / "m")), keys))
    store.prove(kept)
    assert store.proven() == [kept]
    assert kept.signed_by == keys[0]
    public(keys[0], OTHER)  # it is trusted no more
    assert store.proven() == []
    public(keys[0])
    (kept.directory / SIGNATURE_FILE).unlink()
    assert store.proven() == []
    assert Store(tmp_path / "state", ()).proven() != []


def test_an_unsigned_version_is_refused_and_the_signed_one_goes_on_until_it_is_signed(
    desk: Any, served: Any, put_model: Callable[..., Path], tmp_path: Path, eventually: Any
) -> None:
    async def run() -> None:
        agent = desk(trusted_keys=(public(tmp_path / "key.pem"),))
        sign(put_model(tmp_path / "v1"))
        put_model(tmp_path / "v2", version="2.0.0")
        current = tmp_path / "current"
        current.symlink_to("v1")
        agent.models.change([served("m", current)])
        async with agent.running():
            await eventually(lambda: agent.results("m"), "results")
            assert agent.of("m")["signed_by"] == str(tmp_path / "key.pem")
            (tmp_path / "next").symlink_to("v2")
            (tmp_path / "next").rename(current)
            await eventually(lambda: agent.of("m")["refused"], "the refusal")
            assert "manifest.sig: is missing" in agent.of("m")["refused"]
            count = len(agent.results("m"))
            await eventually(lambda: len(agent.results("m")) >= count + 3, "results all the same")
            assert {reading.value for reading in agent.results("m")} == {"1.0.0"}
            sign(tmp_path / "v2")
            await eventually(lambda: agent.of("m")["version"] == "2.0.0", "the signed one")
            await eventually(lambda: agent.of("m")["refused"] is None, "nothing is refused")

    asyncio.run(run())


def test_a_copy_that_nobody_trusts_does_not_come_back(
    desk: Any, served: Any, put_model: Callable[..., Path], tmp_path: Path, eventually: Any
) -> None:
    async def run() -> None:
        model = served("m", put_model(tmp_path / "m"))
        first = desk()
        first.models.change([model])
        async with first.running():
            await eventually(lambda: first.results("m"), "results")
        agent = desk(trusted_keys=(public(tmp_path / "key.pem"),))
        agent.models.change([model])
        async with agent.running():
            await eventually(lambda: agent.of("m")["state"] == "refused", "the refusal")
        one = agent.models.served["m"]
        await agent.models._admission.fall_back(one)
        assert one.successor is None
        assert Store(tmp_path / "state" / "models" / "m", ()).proven() != []

    asyncio.run(run())


def check(tmp_path: Path, directory: Path, *keys: Path) -> int:
    line = {"type": "modbus", "name": "s", "interval_s": 1, "host": "127.0.0.1"}
    points = [
        {"name": name, "table": "input", "address": 2 * at, "datatype": "float32"} for at, name in enumerate("ab")
    ]
    document = {
        "group": "g",
        "node": "n",
        "state_dir": str(tmp_path / "state"),
        "mqtt": {"host": "127.0.0.1"},
        "sources": [line | {"units": [{"unit_id": 1, "points": points}]}],
        "models": [{"name": "m", "directory": str(directory), "inputs": {"a": "s/a", "b": "s/b"}}],
        "inference": {"trusted_keys": [str(key) for key in keys]},
    }
    path = tmp_path / "edge.yaml"
    path.write_text(yaml.safe_dump(document))
    return main(["check", str(path)])


def test_check_says_whether_signatures_are_asked_for_and_given(
    put_model: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory, key = put_model(tmp_path / "m"), public(tmp_path / "key.pem")
    assert check(tmp_path, directory) == 0
    assert "  not signed: inference.trusted_keys names no key" in capsys.readouterr().out
    assert check(tmp_path, directory, key) == 1
    assert "edge: model m: " in (said := capsys.readouterr().err)
    assert "manifest.sig: is missing: the manifest is not signed, and inference.trusted_keys asks for that" in said
    sign(directory)
    assert check(tmp_path, directory) == 0
    assert "  its signature is not checked: inference.trusted_keys names no key" in capsys.readouterr().out
    assert check(tmp_path, directory, key) == 0
    assert f"  signed by {key}, as inference.trusted_keys asks" in capsys.readouterr().out
    assert check(tmp_path, directory, tmp_path / "none.pem") == 2
    assert "inference.trusted_keys: " in capsys.readouterr().err


def test_without_keys_nothing_that_checks_them_is_loaded(put_model: Callable[..., Path], tmp_path: Path) -> None:
    directory = sign(put_model(tmp_path / "m"))
    heavy = ("cryptography", "numpy", "tflite_runtime", "ai_edge_litert")
    program = f"""
import pathlib, sys, edge.agent
from edge.models.package import read_package
read_package(pathlib.Path({str(directory)!r}), ())
print([name for name in {heavy} if name in sys.modules])
"""
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert told.stdout.strip() == "[]"
