"""`python -m fleet init`: the operator's directory that it makes, and the words that it takes."""

from __future__ import annotations

import json
import stat
from typing import TYPE_CHECKING

import pytest

from fleet.__main__ import main
from fleet.home import Home

if TYPE_CHECKING:
    from pathlib import Path


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_init_makes_a_directory_for_its_owner_alone(made: Path) -> None:
    assert stat.S_IMODE(made.stat().st_mode) == 0o700
    for path in made.rglob("*"):
        secret = path.suffix == ".key" or path.name in {"key", "broker.pem", "acl", "fleet.yaml"}
        assert path.is_dir() or not secret or stat.S_IMODE(path.stat().st_mode) == 0o600, path
    settings = Home.open(made).settings
    assert (settings.broker.host, settings.broker.port, settings.url) == (
        "broker.example",
        8884,
        "https://broker.example:8443",
    )


def test_init_leaves_what_is_there_alone(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = content(made)
    assert main(["init", "--name", "Other", "--group", "x", "--broker", "b"]) == 1
    assert "is there already" in capsys.readouterr().err
    assert content(made) == before


def test_init_says_how_to_come_by_a_broker(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def lines(name: str) -> list[str]:
        assert main(["init", "--home", str(tmp_path / name), "--name", "T", "--group", "g", "--broker", "b"]) == 0
        return capsys.readouterr().out.splitlines()

    monkeypatch.setattr("fleet.cli.init._OF_ROOT", str(tmp_path))
    monkeypatch.setattr("fleet.cli.init._OF_SETUP", tmp_path / "stack/mosquitto")
    monkeypatch.setenv("PATH", str(tmp_path))
    config = "broker/mosquitto.conf"
    assert lines("a")[2:4] == [
        "next: `make setup` in the checkout, or apt-get install mosquitto: 2.0.21 or newer, as Debian 13 has it",
        f"next: mosquitto -c {tmp_path}/a/{config}",
    ]
    (tmp_path / "mosquitto").touch(mode=0o755)
    assert lines("b")[2] == f"next: {tmp_path}/mosquitto -c {tmp_path}/b/{config}"
    (tmp_path / "stack").mkdir()
    (tmp_path / "stack/mosquitto").touch(mode=0o755)
    assert lines("c")[2] == f"next: {tmp_path}/stack/mosquitto -c {tmp_path}/c/{config}"
    monkeypatch.chdir(tmp_path)
    assert lines("d")[2] == f"next: stack/mosquitto -c {tmp_path}/d/{config}"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--group", "a b", "--broker", "b"], "--group: found 'a b', allowed: letters, digits, '.', '_' and '-'"),
        (["--group", "a", "--broker", "a b"], "--broker: found 'a b', allowed: HOST[:PORT], such as mqtt.example"),
        (["--group", "a", "--group", "a", "--broker", "b"], "groups must be unique"),
        (["--group", "a", "--broker", "b:port"], "broker.port"),
        (["--group", "a", "--broker", "mqtts://b:8883"], "--broker: found 'mqtts://b:8883', allowed: HOST[:PORT]"),
        (["--group", "a", "--broker", "b", "--url", "http://b"], "--url: found 'http://b', allowed: https://HOST:PORT"),
        (["--group", "a", "--broker", "b", "--url", "https://b:x"], "url"),
        (["--group", "a", "--broker", "b", "--also", "a b"], "--also: found 'a b', allowed: a host's name"),
        (["--group", "a", "--broker", "b", "--reached-at", "a b"], "--reached-at: found 'a b', allowed: a host's name"),
    ],
)
def test_wrong_words_are_named(
    place: Path, arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["init", "--name", "Test", *arguments]) == 2
    told = capsys.readouterr().err
    assert says in told
    assert len(told.splitlines()) == 1
    assert not place.exists()


@pytest.mark.parametrize(
    ("broker", "host", "port", "url"),
    [
        ("192.0.2.7", "192.0.2.7", 8883, "https://192.0.2.7:8443"),
        ("2001:db8::1", "2001:db8::1", 8883, "https://[2001:db8::1]:8443"),
        ("[2001:db8::1]:8884", "2001:db8::1", 8884, "https://[2001:db8::1]:8443"),
    ],
)
def test_a_broker_is_named_as_people_do(
    place: Path, capsys: pytest.CaptureFixture[str], broker: str, host: str, port: int, url: str
) -> None:
    assert main(["init", "--name", "T", "--group", "g", "--broker", broker, "--json", "--dry-run"]) == 0
    settings = json.loads(capsys.readouterr().out)["settings"]
    assert (settings["broker"]["host"], settings["broker"]["port"], settings["url"]) == (host, port, url)
    assert not place.exists()
