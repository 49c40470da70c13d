"""`python -m db maintain`, as systemd runs it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg2
import pytest
from psycopg2.extensions import make_dsn, parse_dsn

from db import maintain, migrate, roles
from db.__main__ import main
from db.errors import MigrationError
from stack import free_port

if TYPE_CHECKING:
    from collections.abc import Callable

    from psycopg2.extensions import connection

    Query = Callable[..., list[tuple[Any, ...]]]

ROOT = Path(__file__).parents[2]


@pytest.fixture
def maintainer(rolling: str) -> str:
    """The DSN of the role that maintains."""
    roles.allow_login(rolling, "headwater_maintainer", "long enough", 5)
    return make_dsn(**(parse_dsn(rolling) | {"user": "headwater_maintainer", "password": "long enough"}))


@pytest.fixture
def to_do(opened: connection, query: Query, age: Callable[[connection], None]) -> Callable[[], None]:
    return lambda: make_work(opened, query, age)


def make_work(opened: connection, query: Query, age: Callable[[connection], None]) -> None:
    query(opened, "insert into reading values (1, now() - interval '200 days', 1, 192), (1, now(), 2, 192)")
    age(opened)
    query(opened, "insert into rollup_pending select sampled_at, 1, 1 from reading")
    query(opened, "truncate dead_letter")
    letter = "insert into dead_letter (kafka_topic, kafka_partition, kafka_offset, item, reason, set_aside_at) "
    query(opened, letter + "values ('t', 0, 1, -1, 'r', now() - interval '200 days')")


def command(dsn: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "db", "maintain", *arguments],
        env=os.environ | {"HEADWATER_DSN": dsn},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_once_says_what_it_did_and_a_dry_run_what_it_would(to_do: Callable[[], None], maintainer: str) -> None:
    to_do()
    assert maintain.plan(maintainer, 5) == [
        "would roll up 2 notes, the oldest of 0 s ago",
        "would remove 1 chunks of reading",
        "would remove 1 rows of dead_letter, or fewer: the newest of some kinds stay",
    ]
    done = command(maintainer, "--once")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "rolled up 2 minutes, 2 hours, 2 days of series",
        "removed 1 rows or chunks of dead_letter",
        "removed 1 rows or chunks of reading",
    ]
    assert command(maintainer, "--once").stdout == "rolled up 0 minutes, 0 hours, 0 days of series\n"


def test_the_statements_alone_do_for_cron(to_do: Callable[[], None], query: Query, maintainer: str) -> None:
    to_do()
    with closing(psycopg2.connect(maintainer)) as cron:
        assert query(cron, "select * from roll_up()") == [(2, 2, 2, 2, False)]
        cron.commit()
        assert query(cron, "select * from retain()") == [("dead_letter", 1), ("reading", 1)]
        assert query(cron, "select * from retain()") == []


@pytest.mark.parametrize("piece", ["7", "10000, 7"], ids=["of so many notes", "of so many minutes"])
def test_a_backlog_is_worked_off_in_pieces(opened: connection, query: Query, piece: str) -> None:
    query(opened, "insert into reading select s, now(), 1, 192 from generate_series(1, 40) s")
    query(opened, "insert into rollup_pending select now(), s, s from generate_series(1, 40) s")
    found = [query(opened, f"select * from roll_up({piece})")[0] for _ in range(6)]
    assert [(notes, minutes, more) for notes, minutes, _, _, more in found] == [(7, 7, True)] * 5 + [(5, 5, False)]


def test_a_note_of_very_many_series_is_a_piece(opened: connection, query: Query, maintainer: str) -> None:
    query(opened, "insert into reading select 1, now() - n * interval '1 min', 1, 192 from generate_series(0, 4) n")
    query(opened, "insert into rollup_pending select sampled_at, 1, 100000 from reading")
    assert query(opened, "select notes, minutes, more from roll_up()") == [(1, 1, True)]
    assert maintain.once(maintainer, 5)[0].startswith("rolled up 4 minutes")


def test_others_may_not_maintain_and_are_told(rolling: str) -> None:
    roles.allow_login(rolling, "headwater_reader", "long enough", 5)
    reader = make_dsn(**(parse_dsn(rolling) | {"user": "headwater_reader", "password": "long enough"}))
    with pytest.raises(MigrationError, match="headwater_reader cannot maintain this database"):
        maintain.once(reader, 5)


@pytest.mark.parametrize(
    "wrong", ["--every 0", "--every nan", "--every 5 --once", "--wait -1", "--wait nan", "--health-port 65536"]
)
def test_a_wrong_use_is_told_as_such(wrong: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["maintain", *wrong.split()])
    assert ended.value.code == 2
    assert "usage:" in capsys.readouterr().err


def test_a_health_port_that_is_taken_is_told(rolling: str) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        done = command(rolling, "--health-port", str(taken.getsockname()[1]))
    assert done.returncode == 1
    assert done.stderr.endswith("cannot be had: Address already in use\n")
    assert "Traceback" not in done.stderr


def test_ctrl_c_while_the_server_is_waited_for_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("time.sleep", interrupt)
    monkeypatch.setenv("HEADWATER_DSN", f"host=127.0.0.1 port={free_port()} dbname=x user=x")
    assert main(["status"]) == 130


def test_sigterm_ends_it_cleanly(opened: connection, query: Query, to_do: Callable[[], None], maintainer: str) -> None:
    to_do()
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "db", "maintain", "--every", "1", "--health-port", str(port)],
        env=os.environ | {"HEADWATER_DSN": maintainer},
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_for(lambda: query(opened, "select count(*) from dead_letter") == [(0,)])
        query(opened, "insert into rollup_pending select sampled_at, 1, 1 from reading")
        wait_for(lambda: query(opened, "select count(*) from rollup_pending") == [(0,)])
        wait_for(lambda: health(port)["passes"] >= 2)
        assert health(port)["trouble"] is None
        assert abs(health(port)["last_pass_at"] / 1000 - time.time()) < 20
        process.send_signal(signal.SIGTERM)
        _, told = process.communicate(timeout=20)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0
    assert "rolled up 2 minutes, 2 hours, 2 days of series; removed 1 rows or chunks of dead_letter" in told


def test_a_database_that_is_away_is_waited_for_and_told_once(
    opened: connection, query: Query, to_do: Callable[[], None], maintainer: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    stop = threading.Event()
    maintaining = maintain.Maintainer(maintainer, 0.05)
    thread = threading.Thread(target=maintaining.run, args=(stop,))
    thread.start()
    try:
        wait_for(lambda: "removed nothing" in caplog.text)
        query(opened, "alter role headwater_maintainer nologin")
        query(opened, "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'headwater_maintainer'")
        wait_for(lambda: "nothing is maintained" in caplog.text)
        assert maintaining.health()["trouble"]
        to_do()
        query(opened, "alter role headwater_maintainer login")
        wait_for(lambda: "maintained again" in caplog.text)
        assert caplog.text.count("nothing is maintained") == 1
        assert query(opened, "select count(*) from rollup_pending") == [(0,)]
    finally:
        query(opened, "alter role headwater_maintainer login")
        stop.set()
        thread.join(10)
    assert not thread.is_alive()


def test_status_tells_of_roll_ups_sizes_and_retention(opened: connection, query: Query, rolling: str) -> None:
    query(opened, "insert into reading values (1, now(), 1, 192)")
    query(opened, "insert into rollup_pending values (now(), 1, 1, now() - interval '90 s')")
    told = migrate.status(rolling, 5).report
    assert told[0] == "roll-ups: 1 notes wait for `db maintain`, the oldest for 90 s"
    rules = {line.split()[0]: line.split()[1:] for line in told[2:]}
    assert rules["reading"][1:] == ["1", "0", "90", "days"]
    assert rules["dead_letter"][1:] == ["-", "-", "30", "days"]
    assert rules["rollup_1h"][3:] == ["forever"]


def health(port: int) -> dict[str, Any]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=5) as answer:
        document: dict[str, Any] = json.load(answer)
        return document


def wait_for(condition: Callable[[], bool], timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)
