"""The Community edition: its statements by what an Apache server says of them, and run where a server is given.

HEADWATER_TEST_COMMUNITY_DSN names an empty database of such a server, and somebody who may make roles in it.
"""

from __future__ import annotations

import os
from contextlib import closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import psycopg2
import pytest

from db import community, edition, migrate, server
from db.community import LEVELS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from psycopg2.extensions import connection

    Query = Callable[..., list[tuple[Any, ...]]]

DSN = os.environ.get("HEADWATER_TEST_COMMUNITY_DSN", "")
SINCE = datetime(2026, 10, 2, tzinfo=UTC)
KEPT = {"reading": "90 days", "rollup_1m": "1 year", "rollup_1h": None, "rollup_1d": None, "trend": "90 days"}
FILL = """
insert into reading
select s, t, case when mod(n, 35) = 0 then null else mod(n, 1000 + s) end, case when mod(n, 35) = 0 then 24 else 192 end
from generate_series(1, 3) s, generate_series(%s::timestamptz, %s::timestamptz, interval '97 s') t,
     lateral (select extract(epoch from t)::int) as seconds (n)
"""
PLAIN = """
select series_id, time_bucket(%s::interval, sampled_at), count(*) filter (where quality = 192),
       count(*) filter (where quality <> 192), sum(value), min(value), max(value),
       first(value, sampled_at) filter (where quality = 192), min(sampled_at) filter (where quality = 192),
       last(value, sampled_at) filter (where quality = 192), max(sampled_at) filter (where quality = 192)
from reading where sampled_at >= %s group by 1, 2 order by 1, 2
"""
ROLLED = """
select series_id, bucket_at, n_good, n_bad, sum, min, max, first, first_at, last, last_at from {}
where bucket_at >= %s order by 1, 2
"""


def assert_exact(opened: connection, query: Query, since: datetime) -> None:
    for level in LEVELS:
        found = query(opened, ROLLED.format(level.view), since)
        assert found
        assert found == query(opened, PLAIN, level.width, since)


def by_plain_views() -> Iterator[str]:
    """The continuous aggregates as views, which any server can make, and what dashboards query over them."""
    yield "set local role headwater_owner"
    for level in LEVELS:
        _, _, select = community.continuous_aggregate(level).partition(" as\n")
        yield f"create or replace view {level.continuous} as {select.removesuffix(' with no data')}"
    for level in LEVELS:
        yield community.view(level, SINCE)


def licensed() -> Iterator[str]:
    for level in LEVELS:
        yield community.continuous_aggregate(level).replace(level.continuous, f"{level.continuous}_", 1)
    yield from community.policies({"reading", "trend"}, KEPT)
    for table in ("reading", "reading_text", "trend"):
        yield from community.columnstore(table)


@pytest.mark.parametrize("statement", list(licensed()), ids=lambda statement: str(statement)[:60])
def test_an_apache_server_knows_each_statement_and_wants_another_licence_for_it(
    rolling: str, query: Query, statement: str
) -> None:
    with closing(psycopg2.connect(rolling)) as opened:
        for view in by_plain_views():
            query(opened, view)
        with pytest.raises(psycopg2.errors.FeatureNotSupported, match="apache"):
            query(opened, statement)


def test_what_the_aggregates_say_is_exact_and_what_was_before_stays(rolling: str, query: Query) -> None:
    with closing(psycopg2.connect(rolling)) as opened:
        query(opened, FILL, datetime(2026, 10, 1, tzinfo=UTC), datetime(2026, 10, 4, tzinfo=UTC))
        before = "insert into rollup_1d (series_id, n_good, bucket_at, sum, n_bad) values (1, 7, %s, 14, 0)"
        for at in (datetime(2026, 9, 1, tzinfo=UTC), datetime(2026, 10, 3, tzinfo=UTC)):
            query(opened, before, at)
        for view in by_plain_views():
            query(opened, view)
        assert_exact(opened, query, SINCE)
        kept = query(opened, "select bucket_at, n_good, mean from reading_1d where bucket_at < %s", SINCE)
        assert kept == [(datetime(2026, 9, 1, tzinfo=UTC), 7, 2.0)]


def test_a_refresh_ends_where_readings_may_have_gone() -> None:
    statements = [s for s in community.policies(set(), KEPT) if "add_continuous" in s]
    assert ["start_offset => interval '90 days' - interval '1 day'" in s for s in statements] == [True, False, False]
    assert "start_offset => null" in statements[2]


@pytest.mark.parametrize(("version", "compressed"), [("2.18.0", 0), ("2.18.1", 3), ("2.23.0-dev", 3), ("2.9.3", 0)])
def test_nothing_is_compressed_by_versions_that_lose_late_readings(version: str, compressed: int) -> None:
    class Cursor:
        def __init__(self) -> None:
            self.done: list[str] = []

        def execute(self, statement: str) -> None:
            self.done.append(statement)

        def fetchone(self) -> tuple[str]:
            return (version,)

        def fetchall(self) -> list[tuple[str]]:
            return []

    cursor = Cursor()
    community._columnstore(cursor)  # type: ignore[arg-type]  # what it uses of one
    assert sum("add_compression_policy" in statement for statement in cursor.done) == compressed


def test_an_apache_licence_over_continuous_aggregates_is_told(
    rolling: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(edition, "_CONTINUOUS", "select true")
    with closing(server.connect(rolling, 5)) as opened:
        edition.settle(opened)
    assert "its licence is now apache" in caplog.text


@pytest.mark.skipif(not DSN, reason="HEADWATER_TEST_COMMUNITY_DSN names no database of a Community server")
def test_a_database_comes_from_the_apache_edition_and_goes_on(query: Query, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as apache:
        apache.setattr(edition, "settle", lambda _: None)
        migrate.migrate(DSN, 10)
    with closing(server.connect(DSN, 10)) as opened:
        today = query(opened, "select date_bin('1 day', now(), 'epoch')")[0][0]
        days = [query(opened, "select %s - %s * interval '1 day'", today, n)[0][0] for n in range(8)]
        _apache_history(opened, query, days)
    migrate.migrate(DSN, 10)
    with closing(server.connect(DSN, 10)) as opened:
        _community_future(opened, query, days)


def _apache_history(opened: connection, query: Query, days: list[datetime]) -> None:
    """Three days, of which the oldest are rolled up and gone."""
    query(opened, FILL, days[5], days[2])
    query(
        opened,
        "insert into rollup_pending select distinct time_bucket('1 minute', sampled_at), 1, 3 from reading",
    )
    while query(opened, "select notes from roll_up()") != [(0,)]:
        pass
    query(opened, "select drop_chunks('reading', older_than => %s)", days[4])


def _community_future(opened: connection, query: Query, days: list[datetime]) -> None:
    before = query(opened, "select bucket_at, n_good + n_bad from reading_1d where bucket_at < %s", days[4])
    assert [at for at, _ in before] == [days[5]] * 3
    assert all(n > 800 for _, n in before)
    assert_exact(opened, query, days[4])
    # New ones, and late ones; what was materialised is brought up to date by the policies' own call.
    query(opened, FILL, days[1], days[0])
    query(opened, "insert into reading values (2, %s + interval '1 s', 5, 192)", days[3])
    assert query(opened, "select sum(n_good + n_bad) from reading_1m where bucket_at >= %s", days[1])[0][0] > 2000
    for level in LEVELS:
        query(opened, f"call refresh_continuous_aggregate('{level.continuous}', %s::timestamptz, null)", days[4])
    assert_exact(opened, query, days[4])
    query(opened, "insert into rollup_pending values (now(), 1, 2)")
    assert query(opened, "select count(*) from rollup_pending") == [(0,)]
    jobs = "select proc_name, count(*) from timescaledb_information.jobs where job_id >= 1000 group by 1 order by 1"
    found = dict(query(opened, jobs))
    assert (found["policy_compression"], found["policy_refresh_continuous_aggregate"]) == (3, 3)
    query(opened, "update retention set keep = '45 days' where table_name = 'reading'")
    edition.settle(opened)
    assert dict(query(opened, jobs)) == found
    told = query(
        opened,
        "select config->>'drop_after' from timescaledb_information.jobs "
        "where hypertable_name = 'reading' and proc_name = 'policy_retention'",
    )
    assert told == [("45 days",)]
    # A reading that comes late into a chunk in columns, and one that is there.
    query(opened, "select compress_chunk(c) from show_chunks('reading') c")
    query(opened, "insert into reading select series_id, sampled_at, -1, 192 from reading on conflict do nothing")
    query(opened, "insert into reading values (3, %s + interval '1.5 s', 5, 192) on conflict do nothing", days[3])
    assert query(opened, "select min(value), count(*) filter (where value = 5) from reading where value <> 0")[0][0] > 0
    query(opened, "select retain_table('reading')")
