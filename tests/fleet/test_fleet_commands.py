"""The command line of identity: what it writes, what it only says, and how it ends."""

from __future__ import annotations

import datetime as dt
import json
import stat
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509

from contract.enrolment import Enrolment, read_message
from fleet.__main__ import main
from fleet.authority import Identity
from fleet.cards import token_digest
from fleet.errors import FleetError
from fleet.home import Home
from fleet.settings import FleetSettings


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def said(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


def test_the_settings_are_as_they_were_written() -> None:
    settings = FleetSettings.model_validate(
        {"name": "Ä", "groups": ["g"], "broker": {"host": "b"}, "url": "https://b:1"}
    )
    assert FleetSettings.model_validate(yaml.safe_load(settings.to_yaml())) == settings


def test_enrol_tells_a_token_once(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["enrol", "pump-1", "--group", "annex"]) == 0
    captured = capsys.readouterr()
    enrolment = read_message(captured.out.encode(), Enrolment, "stdout")
    assert (enrolment.node, enrolment.group, enrolment.broker.port) == ("pump-1", "annex", 8884)
    assert enrolment.token is not None
    secret = enrolment.token.get_secret_value()
    assert secret not in captured.err
    assert not any(secret.encode() in text for text in content(made).values())


def test_enrol_into_a_directory(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["enrol", "pump-1", "--out", str(tmp_path / "card")]) == 0
    assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "card").iterdir()} == {
        "enrol.json": 0o600
    }
    assert main(["enrol", "pump-1", "--baked", "--out", str(tmp_path / "baked"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    files = content(tmp_path / "baked")
    assert read_message(files["enrol.json"], Enrolment, "enrol.json").token is None
    identity = Identity(files["key.pem"] + files["cert.pem"])
    assert identity.key.public_key() == identity.certificate.public_key()
    ends_at = identity.certificate.not_valid_after_utc
    assert told["certificate_ends_at"] == ends_at.isoformat()
    assert ends_at - dt.datetime.now(dt.UTC) > dt.timedelta(days=1800), "a site without network renews it never"
    assert files["ca.pem"] == (made / "root/ca.pem").read_bytes()
    assert b"pump-1" in files["enrol.json"]
    assert main(["enrol", "pump-1", "--baked", "--out", str(tmp_path / "baked")]) == 0
    assert f"good until {ends_at:%Y-%m-%d} or until the node renews a later one," in capsys.readouterr().err


def test_a_token_that_cannot_be_put_where_it_belongs_voids_none(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["enrol", "pump-1", "--out", str(tmp_path / "card")]) == 0
    assert f"in {tmp_path / 'card'}; it is kept nowhere else" in capsys.readouterr().err
    (tmp_path / "taken/enrol.json").mkdir(parents=True)
    for more in ([], ["--baked"]):
        assert main(["enrol", "pump-1", "--out", str(tmp_path / "taken"), *more]) == 1
        assert "taken/enrol.json: cannot be written: Is a directory" in capsys.readouterr().err
    token = read_message(content(tmp_path / "card")["enrol.json"], Enrolment, "enrol.json").token
    assert token is not None
    assert Home.open(made).registry.use_token("pump-1", token_digest(token.get_secret_value()), "key")


@pytest.mark.parametrize("more", [[], ["--json"]], ids=str)
def test_a_token_that_cannot_be_told_voids_none(
    made: Path, more: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert main(["enrol", "pump-1"]) == 0
    token = read_message(capsys.readouterr().out.encode(), Enrolment, "stdout").token
    assert token is not None
    with Path("/dev/full").open("w") as full, monkeypatch.context() as patch:
        patch.setattr("sys.stdout", full)
        assert main(["enrol", "pump-1", *more]) == 1
    assert "fleet: [Errno 28] No space left on device" in capsys.readouterr().err
    assert Home.open(made).registry.use_token("pump-1", token_digest(token.get_secret_value()), "key")


@pytest.mark.usefixtures("made")
@pytest.mark.parametrize(
    ("fault", "code"), [(FleetError("the registry is locked"), 1), (KeyboardInterrupt(), 130)], ids=repr
)
def test_a_card_whose_token_is_not_accepted_is_told_of(
    fault: BaseException,
    code: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def failing(*_: object) -> None:
        raise fault

    monkeypatch.setattr("fleet.registry.Registry.put_token", failing)
    assert main(["enrol", "pump-1", "--out", str(tmp_path / "card")]) == code
    assert "pump-1: do it again: what was made now is not good" in caplog.text


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["enrol", "pump-1", "--group", "other"], 1, "there is no group other"),
        (["enrol", "headwater-x"], 1, "the fleet's own"),
        (["enrol", "../x"], 1, "is no name"),
        (["enrol", "pump-1", "--baked"], 2, "needs --out"),
        (["enrol", "pump-1", "--out", __file__], 2, "is a file, allowed: a directory"),
        (["enrol", "pump-1", "--out", f"{__file__}/card"], 1, "cannot be made: Not a directory"),
        (["revoke", "pump-9"], 1, "there is no node"),
        (["host", "headwater-operator-1"], 1, "the fleet's own"),
        (["host", "a/b"], 1, "is no name"),
        (["serve", "--port", "99999"], 2, "--port: found 99999, allowed: 1 to 65535"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line(
    made: Path, arguments: list[str], code: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = content(made)
    assert main(arguments) == code
    error = capsys.readouterr().err
    assert says in error
    assert len(error.splitlines()) == 1
    assert content(made) == before


@pytest.mark.parametrize(
    "arguments",
    [
        ["enrol", "pump-2"],
        ["enrol", "pump-1", "--baked", "--out", "nowhere"],
        ["revoke", "pump-1"],
        ["revoke", "headwater-operator-3"],
        ["host", "headwater-bridge"],
        ["broker", "--renew"],
    ],
)
def test_a_dry_run_changes_nothing(made: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["enrol", "pump-1", "--json"]) == 0
    before = content(made)
    capsys.readouterr()
    assert main([*arguments, "--dry-run"]) == 0
    assert "would" in "".join(capsys.readouterr())
    assert main([*arguments, "--dry-run", "--json"]) == 0
    assert said(capsys)["done"] is False
    assert content(made) == before


def test_a_host_application_gets_files_and_rights(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["host", "headwater-bridge", "--json"]) == 0
    folder = made / "hosts/headwater-bridge"
    assert said(capsys)["directory"] == str(folder)
    assert set(content(folder)) == {"key.pem", "cert.pem", "ca.pem"}
    assert "user headwater-bridge\n" in (made / "broker/acl").read_text()
    assert main(["revoke", "headwater-bridge"]) == 1  # for it may go on as long as the broker knows nothing of it
    assert "the broker was NOT told" in capsys.readouterr().out
    assert "headwater-bridge" not in (made / "broker/acl").read_text()


def test_an_operators_certificate_is_called_back_and_made_anew(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Home.open(made).operator() as operator:
        before = operator.identity_file.read_bytes()
    capsys.readouterr()
    assert main(["revoke", operator.name]) == 1  # no broker runs here
    assert f"{operator.name}: 1 certificates called back, and a new one made\n" in capsys.readouterr().out
    with Home.open(made).operator() as again:
        assert (again.name, again.identity_file.read_bytes() == before) == (operator.name, False)
    revoked = x509.load_pem_x509_crl((made / "broker/crl.pem").read_bytes())
    assert [each.serial_number for each in revoked] == [Identity(before).certificate.serial_number]
    assert f"user {operator.name}\n" in (made / "broker/acl").read_text()


def test_broker_takes_over_what_was_changed_in_the_settings(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (made / "fleet.yaml").read_text()
    (made / "fleet.yaml").write_text(
        text.replace("port: 8884", "port: 8885").replace("names: []", "names: [b.example]")
    )
    before = (made / "broker/broker.pem").read_bytes()
    capsys.readouterr()
    assert main(["broker", "--json"]) == 0
    told = said(capsys)
    assert (told["renews"], told["broker_told"]) == (True, False)
    assert "listener 8885\n" in (made / "broker/mosquitto.conf").read_text()
    assert (made / "broker/broker.pem").read_bytes() != before
    assert main(["broker", "--json"]) == 0
    assert said(capsys) == {"renews": False, "done": True, "files": [], "broker_told": False}


def test_a_broker_elsewhere_that_nobody_tells_is_a_failure(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (made / "fleet.yaml").read_text()
    (made / "fleet.yaml").write_text(text.replace("directory: null", "directory: /etc/mosquitto/fleet"))
    for _ in range(2):  # nor does it know of anything when nothing is written any more
        capsys.readouterr()
        assert main(["broker"]) == 1
        assert "the broker was NOT told: bring it" in capsys.readouterr().out
    assert main(["broker", "--json"]) == 1
    assert said(capsys)["broker_told"] is False


def test_a_directory_that_others_may_look_into_is_refused(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made.chmod(0o750)
    assert main(["enrol", "pump-1"]) == 2
    assert "is open to others (mode 750)" in capsys.readouterr().err


@pytest.mark.parametrize(("words", "names"), [((), ("enrol", "rollout")), (("rollout",), ("start", "abort"))], ids=str)
def test_who_says_nothing_gets_the_help(
    words: tuple[str, ...], names: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    told = capsys.readouterr().out
    assert all(f"\n    {name} " in told for name in names)


def test_no_directory_is_told(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["enrol", "pump-1"]) == 2
    assert f"{place}: is no fleet's directory; `fleet init` makes one" in capsys.readouterr().err
