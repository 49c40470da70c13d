"""What the fleet wants: by whose keys it is taken, known again, and tried when."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from contract.config import parse_config
from contract.update import desired_topic
from edge.config import AgentConfig
from edge.errors import NotNowError, UpdateError
from edge.update.ledger import Ledger
from edge.update.trust import check_trust, trusted_keys
from edge.update.wanted import Wanted

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

TOPIC = desired_topic("updates", "edge-1", "config", "config")


class Node:
    """Whose keys may change."""

    def __init__(self, directory: Path) -> None:
        self.keys: list[Ed25519PublicKey] = []
        self.disk_answers = threading.Event()
        self.disk_answers.set()
        self.refused: list[str] = []
        self.wanted = Wanted(
            ("updates", "edge-1"), self._keys, Ledger(directory / "ledger.json"), self.refused.append, retry_s=60
        )

    def _keys(self) -> list[Ed25519PublicKey]:
        assert self.disk_answers.wait(20)
        if not self.keys:
            raise UpdateError("there is no update key")
        return self.keys

    def reads(self) -> None:
        asyncio.run(self.wanted.read())

    def hears(self, payload: bytes) -> Any:
        """What is to be worked on after that."""
        self.wanted.take(TOPIC, payload)
        self.reads()
        return self.wanted.due()


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def test_what_was_refused_is_refused_once_and_taken_when_the_keys_are_others(node: Node, operator_key: Any) -> None:
    payload = operator_key.sign(operator_key.desire(b"x"))
    node.keys = [Ed25519PrivateKey.generate().public_key()]
    for _ in range(3):  # retained, it comes at each connection
        assert node.hears(payload) is None
    assert len(node.refused) == 1
    assert "is not signed by the fleet's update key" in node.refused[-1]

    # Enrolled anew, or with another key in the same file.
    node.keys = [operator_key.key.public_key()]
    assert node.hears(payload).signer == operator_key.key.public_key()


def test_what_comes_before_the_keys_are_known_is_looked_at_when_they_are(node: Node, operator_key: Any) -> None:
    assert node.wanted.until_due_s() is None
    assert node.hears(operator_key.sign(operator_key.desire(b"x"))) is None
    node.reads()
    assert node.refused == ["there is no update key"]
    assert node.wanted.until_due_s() == 60
    node.keys = [operator_key.key.public_key()]
    node.reads()
    assert node.wanted.due() is not None
    assert node.wanted.until_due_s() == 0


def test_while_the_keys_are_read_all_else_goes_on(node: Node, operator_key: Any) -> None:
    node.keys = [operator_key.key.public_key()]
    node.wanted.take(TOPIC, operator_key.sign(operator_key.desire(b"x")))
    node.disk_answers.clear()

    async def scenario() -> None:
        asyncio.get_running_loop().call_soon(node.disk_answers.set)
        await node.wanted.read()

    asyncio.run(scenario())
    assert node.wanted.due() is not None


def test_what_gets_on_is_tried_again_sooner(node: Node, operator_key: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = [1000.0]
    monkeypatch.setattr("edge.update.wanted.time.monotonic", lambda: now_s[0])
    node.keys = [operator_key.key.public_key()]
    accepted = node.hears(operator_key.sign(operator_key.desire(b"x")))
    for got_on, pause_s in [(False, 60), (False, 120), (False, 240), (True, 60), (True, 60), (False, 120)]:
        node.wanted.put_off(accepted, got_on=got_on)
        assert node.wanted.until_due_s() == pause_s
        assert node.wanted.due() is None
        now_s[0] += pause_s
        assert node.wanted.due() is accepted


class Keys:
    """Files of public keys, and configurations that name them."""

    def __init__(self, directory: Path, document: dict[str, Any]) -> None:
        self._directory = directory
        self._document = document

    def file(self, name: str, key: Ed25519PrivateKey) -> Path:
        path = self._directory / name
        path.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
        return path

    def named(self, *paths: Path) -> AgentConfig:
        update = {"key_files": [str(path) for path in paths]}
        return parse_config(self._document | {"update": update}, AgentConfig, "edge.yaml")


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    place = {"latitude": 48, "longitude": 11, "only": ["temperature_2m"]}
    source = {"type": "rest", "name": "weather", "preset": "open-meteo", "interval_s": 60} | place
    document = {"group": "g", "node": "n", "state_dir": str(tmp_path), "mqtt": {"host": "h"}, "sources": [source]}
    return Keys(tmp_path, document)


def test_keys_are_changed_by_naming_both_first(keys: Keys) -> None:
    old, new = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    files = keys.file("old.pem", old), keys.file("new.pem", new)
    both, alone = keys.named(*files), keys.named(files[1])
    assert trusted_keys(both) == [old.public_key(), new.public_key()]
    check_trust(both, old.public_key())
    check_trust(alone, new.public_key())
    with pytest.raises(UpdateError, match="that key is none of those it trusts") as refused:
        check_trust(alone, old.public_key())
    assert not isinstance(refused.value, NotNowError)


def test_a_key_that_cannot_be_read_is_refused_and_one_that_cannot_be_read_now_is_not(
    keys: Keys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = Ed25519PrivateKey.generate()
    signer, file = key.public_key(), keys.file("key.pem", key)
    (tmp_path / "garbled.pem").write_text("garbled")
    for name, why in [("none.pem", "none.pem: there is no such file"), ("garbled.pem", "is no public key in PEM")]:
        with pytest.raises(UpdateError, match=f"with it no update would be taken any more: .*{why}") as refused:
            check_trust(keys.named(file, tmp_path / name), signer)
        assert not isinstance(refused.value, NotNowError)

    def fail(*_: object, **__: object) -> None:
        raise OSError(5, "Input/output error")

    good = keys.named(file)
    monkeypatch.setattr(Path, "open", fail)
    with pytest.raises(NotNowError, match="Input/output error"):
        check_trust(good, signer)
