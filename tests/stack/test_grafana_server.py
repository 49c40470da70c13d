"""Grafana's life, with a stand-in that looks at what it is given: set-up installs none."""

from __future__ import annotations

import io
import json
import shutil
import socket
import stat
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg2
import pytest
import yaml
from rich.console import Console

from db import migrate
from stack import Grafana, PortTakenError, ServerError, StackError, wait_until
from stack.demo import positions, view
from stack.demo.dashboards import Dashboards
from stack.demo.layout import GROUP, NODES
from stack.demo.observe import Ingested, Snapshot
from stack.demo.roles import processes_below
from stack.grafana import IMAGE, InDocker, Installed, find_grafana
from stack.install import CHECKOUT
from stack.server import LOOPBACK

if TYPE_CHECKING:
    from collections.abc import Callable

DSN = "host=127.0.0.1 port=25432 user=headwater_reader password=xyzzy dbname=headwater connect_timeout=5"

STAND_IN = Path(__file__).with_name("grafana_stand_in.py")


@pytest.fixture(autouse=True)
def none_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A PATH with what starts processes alone: neither Grafana nor Docker."""
    monkeypatch.delenv("GRAFANA_HOME", raising=False)
    monkeypatch.setenv("STAND_IN_NOTES", str(tmp_path / "notes"))
    (tmp_path / "path").mkdir()
    (tmp_path / "path/setpriv").symlink_to(str(shutil.which("setpriv")))
    monkeypatch.setenv("PATH", str(tmp_path / "path"))


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """An unpacked Grafana."""
    home = tmp_path / "opt/grafana"
    (home / "conf").mkdir(parents=True)
    (home / "conf/defaults.ini").touch()
    stand_in(home / "bin/grafana")
    return home


@pytest.fixture
def found(installed: Path) -> Installed:
    return Installed((str(installed / "bin/grafana"), "server"), installed)


def stand_in(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!{sys.executable}\n{STAND_IN.read_text()}")
    path.chmod(0o755)
    return path


def notes(tmp_path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (tmp_path / "notes").read_text().splitlines()]


def noted(tmp_path: Path, key: str) -> Any:
    return next(note[key] for note in notes(tmp_path) if key in note)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_it_serves_what_the_checkout_provisions(tmp_path: Path, found: Installed) -> None:
    with Grafana(DSN, directory=tmp_path / "run", found=found) as grafana:
        assert grafana.serves()
        assert grafana.url == f"http://127.0.0.1:{grafana.port}"
        assert grafana.password_path.read_text().strip() == noted(tmp_path, "password")
        assert (mode(grafana.password_path), mode(grafana.directory)) == (0o600, 0o700)
        # By which a demo waits for what is left of one that was killed.
        assert processes_below(grafana.directory) == 1
    assert notes(tmp_path)[-1] == {"left": True}
    (source,) = yaml.safe_load(noted(tmp_path, "datasource"))["datasources"]
    assert (source["url"], source["user"]) == ("127.0.0.1:25432", "headwater_reader")
    assert source["jsonData"]["database"] == "headwater"
    assert source["jsonData"]["sslmode"] == "disable"
    assert source["secureJsonData"]["password"] == "xyzzy"


def test_anybody_on_this_machine_may_look_and_nobody_is_called(
    tmp_path: Path, found: Installed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADWATER_ALERT_TO", "webhook")
    with Grafana(DSN, directory=tmp_path / "run", found=found):
        environment = noted(tmp_path, "environment")
    assert environment["GF_SERVER_HTTP_ADDR"] == LOOPBACK
    assert environment["GF_AUTH_ANONYMOUS_ENABLED"] == "true"
    assert environment["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer"
    assert environment["HEADWATER_ALERT_TO"] == ""


def test_its_password_stays_when_it_is_started_again(tmp_path: Path, found: Installed) -> None:
    with Grafana(DSN, directory=tmp_path / "run", found=found) as grafana:
        grafana.restart()
    passwords = [note["password"] for note in notes(tmp_path) if "password" in note]
    assert len(passwords) == 2
    assert len(set(passwords)) == 1


def test_it_is_found_in_grafana_home(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAFANA_HOME", str(installed))
    assert find_grafana() == Installed((str(installed / "bin/grafana"), "server"), installed)


def test_it_is_found_on_the_path_through_a_link(tmp_path: Path, installed: Path) -> None:
    (tmp_path / "path/grafana").symlink_to(installed / "bin/grafana")
    assert find_grafana() == Installed((str(installed / "bin/grafana"), "server"), installed)


def test_a_package_has_its_home_in_share(tmp_path: Path) -> None:
    program = stand_in(tmp_path / "path/grafana")
    home = tmp_path / "share/grafana"
    (home / "conf").mkdir(parents=True)
    (home / "conf/defaults.ini").touch()
    assert find_grafana() == Installed((str(program), "server"), home)


def test_the_older_program_is_a_server_by_itself(tmp_path: Path, installed: Path) -> None:
    (installed / "bin/grafana").rename(installed / "bin/grafana-server")
    (tmp_path / "path/grafana-server").symlink_to(installed / "bin/grafana-server")
    found = find_grafana()
    assert found == Installed((str(installed / "bin/grafana-server"),), installed)
    with Grafana(DSN, directory=tmp_path / "run", found=found) as grafana:
        assert grafana.serves()


@pytest.mark.parametrize(
    ("home", "says"),
    [
        (None, r"there is no Grafana here: .*GRAFANA_HOME.*or start Docker"),
        ("/nowhere", r"GRAFANA_HOME is /nowhere, where there is no bin/grafana: unpack"),
        ("", "none is started"),
    ],
)
def test_without_one_it_is_told_how_to_get_it(
    home: str | None, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(tmp_path / "path/grafana")  # a program without a home
    stand_in(tmp_path / "path/docker")  # a command without an engine
    if home is not None:
        monkeypatch.setenv("GRAFANA_HOME", home)
    with pytest.raises(StackError, match=says):
        Grafana(DSN, directory=tmp_path / "run")


def test_docker_runs_the_image_and_nothing_of_it_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(tmp_path / "path/docker")
    monkeypatch.setenv("STAND_IN_ENGINE", "28.1.0")
    with Grafana(DSN, directory=tmp_path / "run") as grafana:
        assert isinstance(grafana._found, InDocker)
        assert noted(tmp_path, "password") == grafana.password_path.read_text().strip()
    before, run, after = (note["words"] for note in notes(tmp_path) if "words" in note)
    assert run[-1] == IMAGE
    assert before == after
    assert before == ["rm", "--force", "--volumes", run[run.index("--name") + 1]]


def test_the_image_is_that_of_the_compose_file() -> None:
    compose = yaml.safe_load((CHECKOUT / "docker-compose.yml").read_text())
    assert compose["services"]["grafana"]["image"] == IMAGE


def test_one_that_is_not_ready_in_time_is_ended(
    tmp_path: Path, found: Installed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAND_IN_DOES", "sulk")
    grafana = Grafana(DSN, directory=tmp_path / "run", found=replace(found, start_timeout_s=0.2))
    with pytest.raises(ServerError, match=r"Grafana was not ready in 0.2 s"):
        grafana.start()
    assert not grafana.running


def test_a_taken_port_is_told_as_such(tmp_path: Path, found: Installed) -> None:
    with socket.create_server((LOOPBACK, 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(PortTakenError, match=f"Grafana cannot listen on 127.0.0.1:{port}"):
            Grafana(DSN, port=port, directory=tmp_path / "run", found=found).start()


def drawn(renderable: object) -> str:
    console = Console(file=io.StringIO(), width=80)
    console.print(renderable)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


class Demo:
    """What a demo does with its dashboards."""

    def __init__(self, make: Callable[[], Grafana]) -> None:
        self.told: list[str] = []
        self.dashboards = Dashboards(make, self.told.append)

    def looks_until(self, said: str) -> None:
        def heard() -> bool:
            self.dashboards.look()
            return any(said in each for each in self.told)

        assert wait_until(heard, timeout_s=20), self.told


def test_a_demo_tells_where_its_dashboards_are(tmp_path: Path, found: Installed) -> None:
    grafana = Grafana(DSN, directory=tmp_path / "run", found=found)
    demo = Demo(lambda: grafana)
    with demo.dashboards as dashboards:
        assert dashboards.url is None
        demo.looks_until(grafana.url)
        assert dashboards.url == grafana.url
        assert str(grafana.password_path) in demo.told[-1]
    assert not grafana.running
    assert len(demo.told) == 2


def test_a_demo_starts_one_again_that_has_served(tmp_path: Path, found: Installed) -> None:
    grafana = Grafana(DSN, directory=tmp_path / "run", found=found)
    demo = Demo(lambda: grafana)
    with demo.dashboards as dashboards:
        demo.looks_until(grafana.url)
        grafana.kill()
        demo.looks_until("started again")
        assert wait_until(lambda: dashboards.look() or dashboards.url is not None, timeout_s=20)


@pytest.mark.parametrize(
    ("does", "says"), [("die", "ended with status 1; its log is"), ("sulk", "did not serve in 1 s; its log is")]
)
def test_a_demo_goes_on_without_one_that_fails(
    does: str, says: str, tmp_path: Path, found: Installed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAND_IN_DOES", does)
    grafana = Grafana(DSN, directory=tmp_path / "run", found=replace(found, start_timeout_s=1.0))
    demo = Demo(lambda: grafana)
    with demo.dashboards as dashboards:
        demo.looks_until(f"no dashboards: Grafana {says} {grafana.log_path}")
        dashboards.look()
        assert dashboards.url is None
        assert not grafana.running
    assert len(demo.told) == 2
    assert does == "sulk" or "the database is locked" in grafana.log_path.read_text()


def test_a_demo_goes_on_where_the_port_is_taken(tmp_path: Path, found: Installed) -> None:
    with socket.create_server((LOOPBACK, 0)) as listener:
        port = listener.getsockname()[1]
        demo = Demo(lambda: Grafana(DSN, port=port, directory=tmp_path / "run", found=found))
        with demo.dashboards as dashboards:
            dashboards.look()
            assert dashboards.url is None
    assert f"no dashboards: Grafana cannot listen on 127.0.0.1:{port}" in demo.told[1]
    assert len(demo.told) == 2


def test_a_demo_without_grafana_says_in_one_line_how_to_get_it(tmp_path: Path) -> None:
    demo = Demo(lambda: Grafana(DSN, directory=tmp_path / "run"))
    with demo.dashboards as dashboards:
        dashboards.look()
        assert dashboards.url is None
    (told,) = demo.told
    assert told.startswith("no dashboards: there is no Grafana here: unpack Grafana 12")
    assert "\n" not in told


def test_the_screen_says_where_dashboards_are_when_they_are() -> None:
    snapshot = Snapshot(nodes={}, bridge=None, stream=None, ingested=Ingested(), kafka_lag=None)
    assert "dashboards: http://127.0.0.1:23000" in drawn(
        view.screen(snapshot, {}, [], "demo", "http://127.0.0.1:23000")
    )
    assert "dashboards" not in drawn(view.screen(snapshot, {}, [], "demo"))


def test_each_node_of_the_demo_stands_somewhere(database: str) -> None:
    migrate.migrate(database, 10)
    positions.enter(database)
    with closing(psycopg2.connect(database)) as opened, opened.cursor() as cursor:
        cursor.execute("select group_id, node_id from node_position where site <> '' order by 2")
        assert cursor.fetchall() == [(GROUP, node) for node in NODES]
