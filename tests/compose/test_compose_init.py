"""What the one-shot `init` makes: files that one service reads, and certificates that are renewed in time."""

from __future__ import annotations

import datetime as dt
import io
import os
import stat
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from psycopg2.extensions import parse_dsn

from compose.init.files import LIFE, RENEWED_BEFORE, Folder, kept_identity
from compose.init.issue import OPERATOR
from fleet.authority import Identity, issue, new_authority

if TYPE_CHECKING:
    from collections.abc import Callable

    Make = Callable[..., list[str]]

ROOT = Path(__file__).parents[2]


def content(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def test_each_file_is_for_reading_only(root: Path) -> None:
    modes = {stat.S_IMODE(path.stat().st_mode) for path in root.rglob("*") if path.is_file()}
    assert modes == {0o440}


def test_a_file_is_its_folders_groups(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root is of any group")
    os.chown(tmp_path, -1, 1883)
    Folder(tmp_path).write("secret", b"x")
    assert (tmp_path / "secret").stat().st_gid == 1883


def test_nothing_is_made_twice(tmp_path: Path, make: Make) -> None:
    assert make(tmp_path)
    before = content(tmp_path)
    assert make(tmp_path) == []
    assert content(tmp_path) == before


def test_what_is_missing_is_made_again_and_only_that(tmp_path: Path, make: Make) -> None:
    make(tmp_path)
    before = content(tmp_path)
    (tmp_path / "edge-2/identity.pem").unlink()
    (tmp_path / "mosquitto/health.pem").write_bytes(b"half a fi")
    assert make(tmp_path) == ["renewed mosquitto/health.pem for health", "issued edge-2/identity.pem for edge-2"]
    changed = {name for name, text in content(tmp_path).items() if before[name] != text}
    assert changed == {"edge-2/identity.pem", "mosquitto/health.pem"}


def test_a_new_name_of_the_broker_renews_its_certificate_alone(tmp_path: Path, make: Make) -> None:
    make(tmp_path)
    assert make(tmp_path, ["broker.example", "192.0.2.7"]) == ["renewed mosquitto/server.pem for mosquitto"]
    assert make(tmp_path, ["broker.example", "192.0.2.7"]) == []


@pytest.mark.parametrize("left", [dt.timedelta(days=1), -dt.timedelta(days=1)])
def test_a_certificate_is_renewed_in_time(tmp_path: Path, left: dt.timedelta) -> None:
    ours = new_authority("ours", 2 * LIFE)
    Folder(tmp_path).write("edge.pem", issue(ours, "edge-1", RENEWED_BEFORE + left).pem)
    done = kept_identity(Folder(tmp_path), ours, "edge.pem", "edge-1")
    assert done == (None if left > dt.timedelta() else f"renewed {tmp_path.name}/edge.pem for edge-1")


def test_a_certificate_of_another_authority_is_replaced(tmp_path: Path) -> None:
    ours, other = new_authority("ours", 2 * LIFE), new_authority("ours", 2 * LIFE)
    Folder(tmp_path).write("edge.pem", issue(other, "edge-1", LIFE).pem)
    assert kept_identity(Folder(tmp_path), ours, "edge.pem", "edge-1") is not None


def test_passwords_are_long_and_none_serves_twice(root: Path) -> None:
    passwords = [
        (root / name).read_text().strip()
        for name in (
            "timescaledb/superuser.password",
            "grafana/admin.password",
            "grafana/reader.password",
            "jupyter/token",
            "migrations/writer.password",
            "migrations/maintainer.password",
            "psql/operator.password",
            "simulators/exchange.key",
        )
    ]
    assert len(set(passwords)) == len(passwords)
    assert min(map(len, passwords)) >= 32


def test_connection_strings_name_the_role_that_a_service_needs(root: Path) -> None:
    users = {
        name: parse_dsn((root / name / "dsn").read_text().strip())["user"]
        for name in ("migrations", "stream", "maintenance", "jupyter", "reconcile")
    }
    assert users == {
        "migrations": "postgres",
        "stream": "headwater_writer",
        "maintenance": "headwater_maintainer",
        "jupyter": "headwater_reader",
        "reconcile": "headwater_reader",
    }


def test_keys_of_authorities_are_in_no_other_folder(root: Path) -> None:
    keys = {Identity(path.read_bytes()).key.private_numbers() for path in (root / "authority").glob("*.pem")}
    assert len(keys) == 2
    for path in root.glob("*/*.pem"):
        if path.parent.name != "authority" and b"PRIVATE KEY" in path.read_bytes():
            assert Identity(path.read_bytes()).key.private_numbers() not in keys


def run(root: Path, *command: str, said: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    words = [sys.executable, "-m", "compose.init", "--secrets", str(root), *command]
    return subprocess.run(words, cwd=ROOT, input=said, capture_output=True, check=False)


@pytest.mark.parametrize(("node", "status"), [("edge-9", 0), ("headwater-bridge", 2), (OPERATOR, 2), ("+", 2)])
def test_a_device_is_given_a_certificate_but_nobody_elses_name(root: Path, node: str, status: int) -> None:
    done = run(root, "device", node)
    assert done.returncode == status, done.stderr
    if status == 0:
        with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
            assert archive.getnames() == ["ca.pem", "identity.pem"]
    else:
        assert b"Traceback" not in done.stderr


def test_an_operators_certificate_can_be_called_back(tmp_path: Path, make: Make) -> None:
    make(tmp_path)
    with tarfile.open(fileobj=io.BytesIO(run(tmp_path, "operator").stdout)) as archive:
        assert archive.getnames() == ["ca.pem", "identity.pem"]
    before = (tmp_path / "mosquitto/crl.pem").read_bytes()
    assert [run(tmp_path, "revoke", OPERATOR).returncode for _ in range(2)] == [0, 1]
    assert (tmp_path / "mosquitto/crl.pem").read_bytes() != before


def test_the_mail_servers_password_comes_by_standard_input(tmp_path: Path, make: Make) -> None:
    make(tmp_path)
    file = tmp_path / "grafana/smtp.password"
    assert file.read_bytes() == b""
    assert run(tmp_path, "smtp-password", said=b"p'w $HOME\r\nanother line\n").returncode == 0
    assert (file.read_bytes(), stat.S_IMODE(file.stat().st_mode)) == (b"p'w $HOME\n", 0o440)
    for wrong in (b"", b"x" * 1025):
        done = run(tmp_path, "smtp-password", said=wrong)
        assert (done.returncode, done.stderr[:6]) == (1, b"error:")
    assert make(tmp_path) == []
    assert file.read_bytes() == b"p'w $HOME\n"
