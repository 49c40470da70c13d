from __future__ import annotations

import threading
from contextlib import closing
from typing import TYPE_CHECKING

import psycopg2
import pytest
from psycopg2.extensions import make_dsn, parse_dsn

from db import maintain, migrate, roles, server
from db.errors import MigrationError, ServerError
from stack import free_port

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

    Db = Callable[..., subprocess.CompletedProcess[str]]

MIGRATIONS = len(list(migrate.MIGRATIONS.glob("*.sql")))
TABLES = {
    "series",
    "reading",
    "reading_text",
    "node",
    "node_status",
    "gap",
    "camera_event",
    "dead_letter",
    "ingest_batch",
    "node_epoch",
    "model_progress",
    "node_event",
    "rollup_pending",
    "rollup_1m",
    "rollup_1h",
    "rollup_1d",
    "retention",
    "rollout",
    "rollout_node",
}


BEFORE_THE_ANALYSIS = """
insert into series (group_id, node_id, device_id, metric, kind, datatype)
values ('g', 'n', 'd', 'm', 'numeric', 10), ('g', 'n', 'd', 'm', 'text', 12);
insert into reading select s, timestamptz '2026-01-01' + n * interval '10 s', n, 192
from generate_series(1, 300) n, (values (1), (5000)) as v (s);
insert into gap values ('g', 'n', 'd', now(), now(), 'spool full', now());
insert into dead_letter (kafka_topic, kafka_partition, kafka_offset, item, reason)
values ('t', 0, 0, -1, 'r'), ('t', 0, 1, -1, 'r');
insert into ingest_batch (query_id, batch_id, offsets) values (gen_random_uuid(), 0, '{}');
"""


def run(dsn: str, statements: str) -> None:
    with closing(psycopg2.connect(dsn)) as opened, opened.cursor() as cursor:
        cursor.execute(statements)
        opened.commit()


def rows(dsn: str, statement: str) -> list[tuple[object, ...]]:
    with closing(psycopg2.connect(dsn)) as opened, opened.cursor() as cursor:
        cursor.execute(statement)
        found: list[tuple[object, ...]] = cursor.fetchall()
        opened.commit()
        return found


def test_migrate_makes_the_tables_once_and_says_so(db: Db, database: str) -> None:
    first, second = db("migrate"), db("migrate")
    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    assert first.stdout == f"applied {MIGRATIONS} migration(s)\n"
    assert second.stdout == "nothing to apply\n"
    owners = dict(rows(database, "select tablename, tableowner from pg_tables where schemaname = 'public'"))
    assert set(owners) >= TABLES
    assert {owners[table] for table in TABLES} == {"headwater_owner"}


def test_readings_are_hypertables_with_one_index(db: Db, database: str) -> None:
    db("migrate")
    found = {name for (name,) in rows(database, "select hypertable_name from timescaledb_information.hypertables")}
    assert found >= {"reading", "reading_text", "bar", "trend", "forecast", "forecast_score"}
    assert rows(database, "select indexname from pg_indexes where tablename = 'reading'") == [("reading_key",)]


def test_status_and_dry_run_tell_and_change_nothing(db: Db, database: str) -> None:
    status, dry = db("status"), db("migrate", "--dry-run")
    assert status.returncode == 1
    assert "pending  0002_series_and_readings" in status.stdout
    assert dry.stdout.splitlines()[0] == "0001_roles_and_extension"
    assert rows(database, "select to_regclass('series')") == [(None,)]
    db("migrate")
    status = db("status")
    assert status.returncode == 0
    assert "pending" not in status.stdout
    assert "apache edition" in status.stdout
    assert db("migrate", "--dry-run").stdout == "nothing to apply\n"


def test_two_migrations_at_once_apply_everything_once(db: Db, database: str) -> None:
    results: list[str] = []
    threads = [threading.Thread(target=lambda: results.append(db("migrate").stdout)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [
        f"applied {MIGRATIONS} migration(s)\n",
        "nothing to apply\n",
        "nothing to apply\n",
    ]
    assert rows(database, "select count(*) from _yoyo_migration") == [(MIGRATIONS,)]


def test_a_lock_that_stays_taken_is_told(database: str) -> None:
    with (
        closing(server.connect(database, 5)) as other,
        migrate.locked(other, 1),
        pytest.raises(MigrationError, match="another migration"),
    ):
        migrate.migrate(database, 0.3)
    assert migrate.migrate(database, 5)


def test_a_migration_that_fails_leaves_nothing_of_itself(database: str, tmp_path: Path) -> None:
    (tmp_path / "0001_first.sql").write_text("create table first (i int);")
    (tmp_path / "0002_second.sql").write_text("create table second (i int);\nselect 1 / 0;")
    with pytest.raises(MigrationError, match=r"0002_second failed and was rolled back: division by zero"):
        migrate.migrate(database, 5, tmp_path)
    assert rows(database, "select to_regclass('first')::text, to_regclass('second')::text") == [("first", None)]
    assert migrate.status(database, 5, tmp_path).pending == ("0002_second",)
    (tmp_path / "0002_second.sql").write_text("create table second (i int);")
    assert migrate.migrate(database, 5, tmp_path) == ("0002_second",)


def test_a_database_of_before_the_analysis_keeps_all_it_has(database: str, tmp_path: Path) -> None:
    for migration in sorted(migrate.MIGRATIONS.glob("*.sql"))[:6]:
        (tmp_path / migration.name).write_text(migration.read_text())
    assert migrate.migrate(database, 5, tmp_path)[-1] == "0006_camera_events"
    run(database, BEFORE_THE_ANALYSIS)
    assert migrate.migrate(database, 5)[0] == "0007_analysis"
    assert rows(database, "select series_id, version, valid_from from series order by 1") == [
        (1, 1, None),
        (2, 1, None),
    ]
    assert rows(database, "select kind, reason from gap") == [("declared", "spool full")]
    assert rows(database, "select letter_id, reason, retries from dead_letter order by 1") == [(1, "r", 0), (2, "r", 0)]
    maintain.once(database, 5)
    rolled = "select series_id, sum(n_good)::int, max(max) from reading_1d group by 1 order by 1"
    assert rows(database, rolled) == [(1, 300, 300.0), (5000, 300, 300.0)]


def test_the_apache_edition_stops_the_job_that_always_fails_there(db: Db, database: str) -> None:
    db("migrate")
    statement = (
        "select scheduled from timescaledb_information.jobs where proc_name = 'policy_job_stat_history_retention'"
    )
    assert rows(database, statement) == [(False,)]


def test_a_server_that_is_not_there_is_waited_for_and_then_told(db: Db) -> None:
    done = db("status", "--wait", "0.5", HEADWATER_DSN=f"host=127.0.0.1 port={free_port()} dbname=x user=x")
    assert done.returncode == 1
    assert "waiting up to 0.5 s for the database" in done.stderr
    assert "no connection to the database after 0.5 s" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("facts", "says"),
    [
        ((140010, "14.10", "2.19.3", True, None), "15 or newer"),
        ((150000, "15.0", None, False, None), "not installed"),
        ((150000, "15.0", "2.9.1", True, None), "2.13 or newer"),
        ((150000, "15.0", "2.19.3", False, None), "shared_preload_libraries"),
    ],
)
def test_a_server_that_cannot_hold_headwater_is_refused(
    facts: tuple[object, ...], says: str, monkeypatch: pytest.MonkeyPatch, database: str
) -> None:
    values = ", ".join("null" if fact is None else f"'{fact}'" for fact in facts)
    answer = f"select a::int, b, c, d::bool, e from (values ({values})) as facts (a, b, c, d, e)"
    monkeypatch.setattr(server, "_FACTS", answer)
    with pytest.raises(ServerError, match=says):
        migrate.migrate(database, 5)


def test_a_missing_dsn_is_a_wrong_use(db: Db) -> None:
    done = db("status", HEADWATER_DSN="")
    assert done.returncode == 2
    assert done.stderr.startswith("the environment variable HEADWATER_DSN is not set")


def test_a_dsn_that_cannot_be_read_is_told(db: Db) -> None:
    done = db("status", HEADWATER_DSN="no dsn at all")
    assert done.returncode == 1
    assert "HEADWATER_DSN cannot be read" in done.stderr


def as_role(database: str, role: str, password: str) -> str:
    return make_dsn(**(parse_dsn(database) | {"user": role, "password": password}))


def test_login_lets_a_role_in_with_any_password_and_keeps_it_from_the_server(db: Db, database: str) -> None:
    db("migrate")
    password = "it's \\ \" a $password$ %s"
    done = db("login", "headwater_reader", HEADWATER_DB_PASSWORD=password)
    assert done.returncode == 0, done.stderr
    assert rows(as_role(database, "headwater_reader", password), "select count(*) from reading") == [(0,)]
    ((stored,),) = rows(database, "select rolpassword from pg_authid where rolname = 'headwater_reader'")
    assert str(stored).startswith("SCRAM-SHA-256$")


def test_login_needs_a_password_and_a_role(db: Db) -> None:
    assert db("login", "headwater_reader").returncode == 2
    short = db("login", "headwater_reader", HEADWATER_DB_PASSWORD="short")
    assert short.returncode == 2
    assert "at least 8" in short.stderr
    assert db("login", "postgres", HEADWATER_DB_PASSWORD="long enough").returncode == 2


@pytest.mark.parametrize(
    ("role", "statement"),
    [
        ("headwater_reader", "insert into series (group_id) values ('x') returning 1"),
        ("headwater_reader", "select * from _yoyo_migration"),
        ("headwater_writer", "delete from reading returning 1"),
        ("headwater_writer", "update reading set value = 0 returning 1"),
        ("headwater_writer", "delete from ingest_batch returning 1"),
        ("headwater_writer", "update series set datatype = 1 returning 1"),
        ("headwater_writer", "update gap set kind = 'declared' returning 1"),
        ("headwater_writer", "create table mine (i int)"),
        ("headwater_writer", "select * from roll_up()"),
        ("headwater_writer", "delete from rollup_pending returning 1"),
        ("headwater_reader", "select retain_table('reading')"),
        ("headwater_maintainer", "delete from dead_letter returning 1"),
        ("headwater_maintainer", "update retention set keep = '2 days' returning 1"),
        ("headwater_maintainer", "select roll_up_level('reading', 'series', '1 day', '{}', '{}')"),
        ("headwater_operator", "delete from rollout returning 1"),
        ("headwater_operator", "delete from rollout_node returning 1"),
        ("headwater_operator", "update rollout set counter = 1 returning 1"),
        ("headwater_operator", "update rollout set sha256 = '' returning 1"),
        ("headwater_operator", "update rollout_node set stage = 1 returning 1"),
        ("headwater_operator", "insert into reading_text values (1, now(), '', 192) returning 1"),
        ("headwater_operator", "update node set online = true returning 1"),
        ("headwater_reader", "update rollout set state = 'running' returning 1"),
        ("headwater_writer", "select * from rollout"),
    ],
)
def test_roles_may_do_no_more_than_they_need(rolling: str, role: str, statement: str) -> None:
    roles.allow_login(rolling, role, "long enough", 5)
    with pytest.raises(psycopg2.errors.InsufficientPrivilege):
        rows(as_role(rolling, role, "long enough"), statement)


def test_a_good_reading_has_a_value(db: Db, database: str) -> None:
    db("migrate")
    with pytest.raises(psycopg2.errors.CheckViolation):
        rows(database, "insert into reading values (1, now(), null, 192) returning 1")
    assert rows(database, "insert into reading values (1, now(), null, 0) returning quality") == [(0,)]
