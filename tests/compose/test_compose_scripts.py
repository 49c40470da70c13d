"""The two small programs that containers run beside the roles: the health check, and secrets out of files."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from compose.healthy.__main__ import main
from contract.health import HealthServer

if TYPE_CHECKING:
    from collections.abc import Iterator

FROM_FILES = Path(__file__).parents[2] / "compose/from-files"
STATE = {"uplink": {"connected": True}, "state": "running", "trouble": None, "in_flight": 0}


@pytest.fixture
def page() -> Iterator[str]:
    with HealthServer(0, lambda: dict(STATE)) as server:
        yield f"http://127.0.0.1:{server.port}/healthz"


@pytest.mark.parametrize(
    ("wanted", "status"),
    [
        ([], 0),
        (["uplink.connected=true", "state=running", "trouble=null", "in_flight=0"], 0),
        (["uplink.connected=false"], 1),
        (["state=running", "trouble=out of disk"], 1),
        (["nothing.of.the.kind=null"], 1),
        (["state.deeper=running"], 1),
        (["uplink.connected"], 2),
    ],
)
def test_a_page_is_held_against_what_is_wanted(
    page: str, wanted: list[str], status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([page, *wanted]) == status
    # What `docker inspect` shows of a check that failed is the whole page; without words it is asked for.
    assert ('"state": "running"' in capsys.readouterr().out) == (status == 1 or not wanted)


def test_nobody_who_answers_is_unhealthy() -> None:
    assert main(["http://127.0.0.1:1/healthz", "state=running"]) == 1


def from_files(environment: dict[str, str], *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", str(FROM_FILES), *command],
        env={"PATH": "/usr/bin:/bin", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_secrets_are_for_the_command_alone(tmp_path: Path) -> None:
    (tmp_path / "dsn").write_text("host=db password=p'w $HOME `x`\nanother line\n")
    environment = {"HEADWATER_DSN_FILE": str(tmp_path / "dsn"), "OTHER_FILE": str(tmp_path / "dsn")}
    done = from_files(environment, "sh", "-c", 'printf %s "$HEADWATER_DSN"; printf %s "${OTHER-}"')
    assert (done.returncode, done.stdout) == (0, "host=db password=p'w $HOME `x`")


def test_a_secret_that_is_not_there_starts_nothing(tmp_path: Path) -> None:
    done = from_files({"HEADWATER_DSN_FILE": str(tmp_path / "none")}, "echo", "started")
    assert done.returncode != 0
    assert "started" not in done.stdout


def test_the_commands_status_is_kept() -> None:
    assert from_files({}, "sh", "-c", "exit 7").returncode == 7
