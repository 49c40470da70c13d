"""`fleet list`, `show` and `watch`, asked as an operator asks them, of a real database."""

from __future__ import annotations

import datetime as dt
import json
import os
import pty
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from fleet.__main__ import main
from fleet.founding import found
from fleet.registry import Certificate, Registry
from fleet.settings import BrokerSettings, FleetSettings

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[3]
# What pi-1 did with its update.
WRONG = "agent/agent 0.2.0 put back: no mark in 300 s"


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str, str]]:
    """Runs a command in a wide terminal; its exit code, what it printed and what it complained of."""
    monkeypatch.setenv("COLUMNS", "160")

    def run(*arguments: str) -> tuple[int, str, str]:
        code = main(arguments)
        out, err = capsys.readouterr()
        return code, out, err

    return run


def test_all_nodes_the_worst_first(said: Any, dsn: str) -> None:
    code, out, err = said("list", "--dsn", dsn)
    assert (code, err) == (0, "")
    assert out.startswith("5 nodes: 3 online, 1 silent, 1 offline; 4 with trouble\n")
    rows = [line.split()[0] for line in out.splitlines() if "/pi-" in line.split(":")[0] and not line.startswith("!")]
    assert rows == ["plant/pi-3", "plant/pi-4", "plant/pi-2", "plant/pi-1", "lab/pi-9"]
    healthy = next(line for line in out.splitlines() if line.startswith("plant/pi-1"))
    assert healthy.split()[1] == "online"
    assert " ".join(healthy.split()[4:]) == f"0.1.0 12 0% sync 51 56% 0 - put back {WRONG}"


def test_a_strangers_words_command_no_terminal(said: Any, dsn: str) -> None:
    for command in (["list"], ["show", "pi-2"]):
        _, out, _ = said(*command, "--dsn", dsn)
        assert "?]0;mine??0.2" in out
        assert all(character.isprintable() or character == "\n" for character in out)


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ((), {"pi-1", "pi-2", "pi-3", "pi-4", "pi-9"}),
        (("--group", "lab"), {"pi-9"}),
        (("--silent",), {"pi-3", "pi-4"}),
        (("--trouble",), {"pi-1", "pi-2", "pi-3", "pi-4"}),
        (("--trouble", "--group", "lab"), set()),
    ],
    ids=["all", "group", "silent", "trouble", "none"],
)
def test_the_list_for_programs(said: Any, dsn: str, arguments: tuple[str, ...], names: set[str]) -> None:
    code, out, _ = said("list", "--json", "--dsn", dsn, *arguments)
    assert code == 0
    assert {node["name"] for node in json.loads(out)} == names


def test_what_is_wrong_for_programs(said: Any, dsn: str) -> None:
    (node,) = [node for node in json.loads(said("list", "--json", "--dsn", dsn)[1]) if node["name"] == "pi-2"]
    kinds = [trouble["kind"] for trouble in node["troubles"]]
    assert kinds == ["spool", "spoilt spools", "lost", "given up", "undelivered", "clock", "hot"]
    assert (node["state"], node["celsius"], node["lost"], node["given_up"]) == ("online", 81, 6, 4)


def test_none_of_a_kind_is_said_so(said: Any, dsn: str) -> None:
    assert "all is well" in said("list", "--trouble", "--group", "lab", "--dsn", dsn)[1]


def test_a_group_that_is_not_there_is_a_mistake(said: Any, dsn: str, tmp_path: Path) -> None:
    for command in ("list", "watch"):
        code, out, err = said(command, "--group", "plnt", "--dsn", dsn)
        assert (code, out, err) == (2, "", "--group: found 'plnt', allowed: lab, plant\n")
    home = a_home(tmp_path / "home", "plant", "annex")
    assert "no node of group annex has come yet" in said("list", "--group", "annex", "--dsn", dsn, "--home", home)[1]


def test_a_group_is_not_watched_for_one_node(said: Any, dsn: str) -> None:
    code, out, err = said("watch", "pi-1", "--group", "lab", "--dsn", dsn)
    assert (code, out, err) == (2, "", "--group: is for all nodes of it, without NODE; GROUP/NODE is one of them\n")


@pytest.mark.parametrize("every", ["x", "0.1", "nan", "1e9"])
def test_a_pause_that_is_none_is_told_with_what_is_allowed(
    every: str, dsn: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["watch", "--dsn", dsn, "--every", every])
    assert f"--every: found '{every}', allowed: 0.5 to 3600 s\n" in capsys.readouterr().err


def test_certificates_come_from_the_home(said: Any, dsn: str, tmp_path: Path) -> None:
    home = a_home(tmp_path / "home")
    code, out, _ = said("list", "--json", "--dsn", dsn, "--home", home)
    assert code == 0
    nodes = {node["name"]: node for node in json.loads(out)}
    assert nodes["pi-1"]["certificate_ends_at"].startswith("2")
    assert [trouble["kind"] for trouble in nodes["pi-1"]["troubles"]] == ["copied key", "certificate", "update"]
    assert nodes["pi-2"]["certificate_ends_at"] is None
    assert (nodes["pi-new"]["state"], nodes["pi-new"]["seen_at"]) == ("new", None)
    shown = said("show", "pi-new", "--dsn", dsn, "--home", home)[1]
    assert "enrolled, but has not fetched its certificate yet" in shown


def a_home(path: Path, *groups: str) -> str:
    broker = BrokerSettings(host="127.0.0.1", port=8883)
    made = found(
        path, FleetSettings(name="x", groups=groups or ("plant",), broker=broker, url="https://127.0.0.1:8443")
    )
    made.registry.add_node("pi-1", "plant")
    made.registry.add_node("pi-new", "plant")
    soon = dt.datetime.now(dt.UTC) + dt.timedelta(days=3)
    for serial in (1, 2):
        made.registry.put_certificate(Certificate(serial, "pi-1", "00", "PEM", soon))
    made.registry.revoke_before(2)
    made.registry.note_shown_again(1)
    return str(path)


def test_all_of_one_node(said: Any, dsn: str) -> None:
    code, out, err = said("show", "pi-1", "--dsn", dsn)
    assert (code, err) == (0, "")
    told = [" ".join(line.split()) for line in out.splitlines()]
    assert told[0].startswith("plant/pi-1 online, seen ")
    assert told[0].endswith("hall 3")
    assert any("12 batches, 29.3 KiB" in line for line in told)
    for start in (
        "line online",
        "pump-model v3 edge pump-model ok",
        "agent/agent 0.1.0 0.2.0 rolled_back",
        "5.0 min ago lasts line level robust",
        "1.0 h ago series_changed line level",
        "20 min ago 5.0 min line declared - spool full",
    ):
        assert any(line.startswith(start) for line in told), start
    source = next(line for line in told if line.startswith("line online"))
    assert source.endswith("2 1.2% 3 34% -")
    assert any(line.startswith("weather online") and line.endswith("987 today") for line in told)
    assert "the configuration does not allow to write it" in out
    assert any("the node Node Control/Reload yes -" in line for line in told)


def test_all_of_one_node_for_programs(said: Any, dsn: str) -> None:
    told = json.loads(said("show", "plant/pi-1", "--json", "--dsn", dsn)[1])
    assert {source["device"]: source["state"] for source in told["sources"]} == {
        "line": "online",
        "weather": "online",
        "pump-model": "online",
    }
    assert [update["state"] for update in told["updates"]] == ["rolled_back", None]
    assert len(told["commands"]) == 2
    assert told["troubles"] == [{"kind": "update", "text": WRONG}]
    (failed,) = told["failed_updates"]
    assert (failed["what"], failed["wanted"], failed["state"]) == ("agent/agent", "0.2.0", "rolled_back")


def test_a_failed_update_is_no_trouble_any_more_once_another_is_confirmed(said: Any, dsn: str, change: Any) -> None:
    told = "(select series_id from series where metric = 'Update/agent/agent')"
    change(
        "insert into reading_text (series_id, sampled_at, value, quality) "
        f'values ({told}, now(), \'{{"state": "confirmed"}}\', 192)'
    )
    try:
        (node,) = [node for node in json.loads(said("list", "--json", "--dsn", dsn)[1]) if node["name"] == "pi-1"]
        assert (node["failed_updates"], node["troubles"]) == ([], [])
    finally:
        change(f"delete from reading_text where series_id = {told} and value like '%confirmed%'")


def test_a_node_that_is_not_there(said: Any, dsn: str) -> None:
    code, _, err = said("show", "pi-8", "--dsn", dsn)
    assert (code, err) == (1, "fleet: there is no node pi-8: `fleet list` shows those there are\n")


def test_a_name_that_is_not_of_one_node_alone(said: Any, dsn: str, change: Any) -> None:
    change("insert into node (group_id, node_id, first_seen_at, last_seen_at) values ('lab', 'pi-1', now(), now())")
    try:
        code, _, err = said("show", "pi-1", "--dsn", dsn)
        assert (code, err) == (1, "fleet: pi-1 is the name of several nodes, say which: lab/pi-1, plant/pi-1\n")
        assert said("show", "lab/pi-1", "--dsn", dsn)[0] == 0
    finally:
        change("delete from node where (group_id, node_id) = ('lab', 'pi-1')")


@pytest.mark.parametrize("command", [("list",), ("show", "x"), ("watch",)], ids=lambda command: command[0])
def test_a_database_that_is_not_there_or_not_named(
    said: Any, command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HEADWATER_READER_DSN", raising=False)
    code, out, err = said(*command)
    assert (code, out) == (2, "")
    assert err.startswith("which database? Set HEADWATER_READER_DSN, or say --dsn postgresql://")
    code, _, err = said(*command, "--dsn", "host=127.0.0.1 port=1 dbname=x user=y")
    assert code == 1
    assert err.startswith("fleet: no connection to the database: ")
    assert err.count("\n") == 1
    code, _, err = said(*command, "--dsn", "postgresql://me:secret@127.0.0.1/x")
    assert code == 2
    assert "secret" not in err
    assert said(*command, "--dsn", "no dsn")[0] == 2


def test_an_empty_or_foreign_database(said: Any, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADWATER_READER_DSN", database)
    code, _, err = said("list")
    assert code == 1
    assert "`python -m db migrate` brings it up to date" in err


def test_a_fleet_of_nobody(said: Any, dsn: str, change: Any) -> None:
    change("alter table node rename to node_away; create table node (like node_away); grant select on node to public")
    try:
        code, out, _ = said("list", "--dsn", dsn)
        assert code == 0
        assert "No node has come yet." in " ".join(out.split())
        assert said("list", "--json", "--dsn", dsn)[1] == "[]\n"
    finally:
        change("drop table node; alter table node_away rename to node")


@pytest.fixture
def watching(dsn: str) -> Any:
    """Starts `fleet watch`; it is ended at the end."""
    started = []

    def start(*arguments: str, **streams: Any) -> subprocess.Popen[str]:
        command = [sys.executable, "-W", "error", "-m", "fleet", "watch", "--dsn", dsn, "--every", "0.5", *arguments]
        environment = os.environ | {"PYTHONPATH": str(ROOT), "TERM": "xterm", "COLUMNS": "80", "LINES": "24"}
        process = subprocess.Popen(command, text=True, env=environment, **streams)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def test_what_changes_in_the_home_is_watched(
    dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: Any
) -> None:
    home, seen = a_home(tmp_path / "home"), []

    def look_twice(watch: Any, *_: object) -> None:
        for name in ("pi-newer", "pi-newest"):
            seen.append({node.name for node in watch.look().nodes} & {"pi-newer", "pi-newest"})
            Registry(tmp_path / "home/registry.sqlite").add_node(name, "plant")

    monkeypatch.setattr("fleet.cli.watch.watch_lines", look_twice)
    assert said("watch", "--dsn", dsn, "--home", home)[0] == 0
    assert seen == [set(), {"pi-newer"}]


def test_changes_are_told_as_lines_where_there_is_no_terminal(watching: Any, change: Any) -> None:
    process = watching("--group", "plant", stdout=subprocess.PIPE)
    first = {process.stdout.readline().split(" ", 2)[2] for _ in range(4)}
    assert f"plant/pi-1 online: {WRONG}\n" in first
    change("update node set online = false where node_id = 'pi-1'")
    try:
        assert "plant/pi-1 offline: offline, last seen " in process.stdout.readline()
    finally:
        change("update node set online = true where node_id = 'pi-1'")
    assert process.stdout.readline().endswith(f"plant/pi-1 online: {WRONG}\n")


def test_a_screen_ends_with_a_key_and_leaves_the_terminal_as_it_was(watching: Any) -> None:
    ours, theirs = pty.openpty()
    process = watching(stdin=theirs, stdout=theirs, stderr=theirs)
    shown = read_until(ours, "q ends")
    assert "5 nodes:" in shown
    os.write(ours, b"q")
    assert process.wait(20) == 0
    shown = read_until(ours, "\x1b[?1049l")
    assert shown.endswith(("\x1b[?25h", "\x1b[?1049l")) or "\x1b[?25h" in shown
    os.close(ours)
    os.close(theirs)


def read_until(descriptor: int, text: str) -> str:
    deadline, shown = time.monotonic() + 30, ""
    while text not in shown:
        ready, _, _ = select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))
        assert ready, shown
        shown += os.read(descriptor, 65536).decode()
    return shown
