"""`python -m fleet flash`, from an operator's directory to a card."""

from __future__ import annotations

import io
import json
import sqlite3
import sys
import tarfile
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from contract.enrolment import Enrolment, read_message
from fleet.__main__ import main

if TYPE_CHECKING:
    from collections.abc import Callable

CONFIG = """
group: {group}
node: {node}
state_dir: /var/lib/headwater
mqtt: {{host: broker.example}}
sources:
- {{type: rest, name: weather, interval_s: 300, preset: open-meteo, latitude: 48.14, longitude: 11.58}}
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An operator's directory with a bundle, and an update, which is none for a card."""
    path = tmp_path_factory.mktemp("operator") / "home"
    made = ["--name", "Test", "--group", "north", "--group", "south", "--broker", "broker.example"]
    assert main(["init", "--home", str(path), *made]) == 0
    bundles = path / "bundles"
    bundles.mkdir(exist_ok=True)
    put_bundle(bundles / "headwater-1-arm64-py311.tar.gz", "")
    put_bundle(bundles / "headwater-2-arm64-py311-pi-008.tar.gz", "NODE=pi-008\n")
    (bundles / "headwater-2-arm64-py311.update.tar.gz").write_bytes(b"newer")
    return path


def put_bundle(path: Path, more: str) -> None:
    """One that says for which devices it is, and holds no agent."""
    about = f"VERSION=1\nARCH=arm64\nPYTHON=3.11\nKIB=1\n{more}".encode()
    with tarfile.open(path, "w:gz") as tar:
        member = tarfile.TarInfo("about")
        member.size = len(about)
        tar.addfile(member, io.BytesIO(about))


@pytest.fixture
def flash(home: Path, tmp_path: Path) -> Callable[..., int]:
    """Flashes to the file `target`, or to a device; returns the exit code."""

    def run(image: Path, *more: object, target: Path | None = None) -> int:
        words = ["flash", image, target or tmp_path / "target", "--home", home, "--node", "pi-007", *more]
        return main([str(word) for word in words])

    return run


def test_a_card_holds_an_enrolment_that_the_registry_knows(
    make_card: Callable[..., Any],
    look_into: Callable[[bytes], Any],
    flash: Callable[..., int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = tmp_path / "edge.yaml"
    config.write_text(CONFIG.format(group="south", node="pi-007"))
    password = tmp_path / "password"
    password.write_text("correct horse\n")
    card = make_card()
    wifi = ("--wifi", "Hall 3", "--wifi-country", "DE", "--wifi-password-file", password)
    assert flash(card.path, "--group", "south", "--config", config, *wifi, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["node"], told["first_boot"], told["dry_run"]) == ("pi-007", "firstrun.sh", False)
    target = tmp_path / "target"
    assert told["bytes"] == target.stat().st_size == card.path.stat().st_size
    volume = look_into(target.read_bytes()[card.boot_start : card.boot_end])
    enrolment = read_message(volume.read("headwater/enrol.json"), Enrolment, "card")
    assert (enrolment.group, enrolment.node, enrolment.broker.host) == ("south", "pi-007", "broker.example")
    assert enrolment.token is not None
    assert volume.read("headwater/edge.yaml") == config.read_bytes()
    assert "headwater/headwater-1-arm64-py311.tar.gz" in volume.names()
    assert volume.read("headwater/first-boot.sh").startswith(b"#!/bin/sh")
    assert b"correct horse" not in target.read_bytes()


def test_a_baked_card_has_a_key_and_no_token(
    make_card: Callable[..., Any],
    look_into: Callable[[bytes], Any],
    flash: Callable[..., int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    card = make_card()
    assert flash(card.path, "--baked") == 0
    assert "pi-007: its baked certificate is good until 2" in capsys.readouterr().err
    volume = look_into((tmp_path / "target").read_bytes()[card.boot_start : card.boot_end])
    assert read_message(volume.read("headwater/enrol.json"), Enrolment, "card").token is None
    assert b"PRIVATE KEY" in volume.read("headwater/key.pem")
    assert b"CERTIFICATE" in volume.read("headwater/cert.pem")


def test_a_dry_run_says_what_would_be_there_and_writes_nothing(
    make_card: Callable[..., Any],
    flash: Callable[..., int],
    home: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    registry = (home / "registry.sqlite").read_bytes()
    assert flash(make_card().path, "--dry-run", "--wifi", "Hall 3", "--wifi-country", "DE") == 0
    told = capsys.readouterr().out
    assert "first boot by firstrun.sh" in told
    assert f"{tmp_path / 'target'}: would be made; nothing was written" in told
    assert list(tmp_path.iterdir()) == []
    assert (home / "registry.sqlite").read_bytes() == registry


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--wifi", "Hall 3"), (2, "--wifi-country is needed")),
        (("--wifi-country", "DE"), (2, "go with --wifi")),
        (("--wifi", "x" * 33, "--wifi-country", "DE", "--wifi-password-file", "{password}"), (2, "1 to 32 bytes")),
        (("--wifi", "Hall 3", "--wifi-country", "de", "--wifi-password-file", "{password}"), (2, "two letters")),
        (("--wifi", "Hall 3", "--wifi-country", "DE", "--wifi-password-file", "{short}"), (2, "8 to 63 ASCII")),
        (("--wifi", "Hall 3", "--wifi-country", "DE"), (2, "nobody is there to be asked")),
        (("--config", "{config}"), (2, "node is 'pi-008'")),
        (("--bundle", "/nowhere.tar.gz"), (1, "/nowhere.tar.gz: cannot be read: No such file")),
        (("--bundle", "{bundle}"), (1, "holds the enrolment of pi-008, and the card is for pi-007")),
        (("--group", "west"), (1, "no group west")),
        (("--bundle", "{short}"), (1, "is no bundle: ")),
        (("--sha256", "0" * 64), (1, "nothing was left at")),
        (("--sha256", "abc"), (2, "--sha256: found 'abc', allowed: 64 hexadecimal digits")),
    ],
)
def test_wrong_use_is_told_in_one_line_and_leaves_nothing(
    make_card: Callable[..., Any],
    flash: Callable[..., int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    told: tuple[int, str],
) -> None:
    put_bundle(tmp_path / "bundle", "NODE=pi-008\n")
    files = {"password": "correct horse\n", "short": "short\n", "config": CONFIG.format(group="north", node="pi-008")}
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    places = {name: tmp_path / name for name in [*files, "bundle"]}
    given = [word.format(**places) for word in words]
    code, complaint = told
    assert flash(make_card().path, *given) == code
    error = capsys.readouterr().err
    assert complaint in error
    assert error.count("\n") == 1
    assert {path.name for path in tmp_path.iterdir()} == places.keys()


def test_a_file_that_is_there_is_replaced_by_force_alone(
    make_card: Callable[..., Any], flash: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "target"
    target.write_text("precious")
    card = make_card()
    assert flash(card.path) == 1
    assert "is there already" in capsys.readouterr().err
    assert target.read_text() == "precious"
    assert flash(card.path, "--force") == 0
    assert target.stat().st_size == card.path.stat().st_size


@pytest.fixture
def _nobody_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody is there, and would be disturbed for nothing."""
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    monkeypatch.setattr("getpass.getpass", lambda _: pytest.fail("the Wi-Fi's password was asked for"))


@pytest.mark.usefixtures("_nobody_is_asked")
@pytest.mark.parametrize(
    "case",
    [
        ("card", (), ".", "is a directory; allowed are a disk, such as /dev/sdb, and a file to make"),
        ("absent.img", (), "target", "absent.img: cannot be read"),
        ("none.img", (), "target", "has no partition table"),
        ("card", (), "nowhere/target", "there is no directory {folder}/nowhere"),
        ("card", ("--sha256", "abc"), "target", "64 hexadecimal digits"),
        ("card", ("--bundle", "nowhere"), "target", "cannot be read"),
        ("card", ("--config", "nowhere"), "target", "cannot be read"),
    ],
)
def test_what_can_be_seen_beforehand_is_told_before_anything_is_changed_or_asked(
    make_card: Callable[..., Any],
    flash: Callable[..., int],
    home: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    case: tuple[str, tuple[str, ...], str, str],
) -> None:
    named, words, target, complaint = case
    (tmp_path / "none.img").write_bytes(bytes(1 << 20))
    image = make_card().path if named == "card" else tmp_path / named
    before = (home / "registry.sqlite").read_bytes()
    wifi = ("--wifi", "Hall 3", "--wifi-country", "DE", "--node", "pi-new")
    for more in ((), ("--dry-run",)):
        assert flash(image, *wifi, *words, *more, target=tmp_path / target) in {1, 2}
        assert complaint.format(folder=tmp_path) in capsys.readouterr().err
    assert (home / "registry.sqlite").read_bytes() == before


def test_a_token_is_good_until_the_next_card_is_written(
    make_card: Callable[..., Any],
    flash: Callable[..., int],
    home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def token() -> object:
        with closing(sqlite3.connect(home / "registry.sqlite")) as registry:
            return registry.execute("SELECT sha256 FROM token WHERE node = 'pi-007'").fetchone()

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    card = make_card()
    assert flash(card.path) == 0
    first, before = token(), (tmp_path / "target").read_bytes()
    assert flash(card.path, "--force", "--sha256", "0" * 64) == 1
    assert capsys.readouterr().err.endswith(f"; {tmp_path / 'target'} is as it was\n")
    with monkeypatch.context() as patch:
        patch.setattr("fleet.flash.writing._complete", stopped)
        assert flash(card.path, "--force", "--baked") == 130
    assert (token(), (tmp_path / "target").read_bytes()) == (first, before)
    assert flash(card.path, "--force") == 0
    assert token() not in (first, None)
    assert flash(card.path, "--force", "--baked") == 0
    assert token() is None


def test_a_device_is_asked_for_by_its_name(
    make_card: Callable[..., Any],
    flash: Callable[..., int],
    loop: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    card = make_card()
    assert flash(card.path, target=loop) == 1
    assert "not removable; --force" in capsys.readouterr().err
    assert flash(card.path, "--force", target=loop) == 2
    assert "--yes says that it is" in capsys.readouterr().err
    answers = iter(["yes", loop.name])
    monkeypatch.setattr("builtins.input", lambda _: next(answers))
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    assert flash(card.path, "--force", target=loop) == 1
    assert "left alone" in capsys.readouterr().err
    assert not any(loop.read_bytes())
    assert flash(card.path, "--force", target=loop) == 0
    assert "MiB written and read back" in capsys.readouterr().out
    assert loop.read_bytes()[: card.boot_start] == card.path.read_bytes()[: card.boot_start]


@pytest.mark.parametrize("how", ["--dry-run", "--force"])
def test_a_device_that_is_not_there_becomes_no_file(
    make_card: Callable[..., Any], flash: Callable[..., int], capsys: pytest.CaptureFixture[str], how: str
) -> None:
    target = Path("/dev/headwater-no-such-card")
    try:
        assert flash(make_card().path, how, target=target) == 1
        assert f"{target}: there is no disk of that name" in capsys.readouterr().err
        assert not target.exists()
    finally:
        target.unlink(missing_ok=True)


def test_ctrl_c_says_what_is_left(
    make_card: Callable[..., Any],
    flash: Callable[..., int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("fleet.flash.writing._complete", stopped)
    assert flash(make_card().path) == 130
    assert capsys.readouterr().err == f"stopped: nothing was left at {tmp_path / 'target'}\n"
    assert list(tmp_path.iterdir()) == []
