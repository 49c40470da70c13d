"""A replay beside a job that writes the same rows, and that knows of incidents."""

from __future__ import annotations

import threading
import time
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import psycopg2
import pytest
from psycopg2.extras import execute_values

from stream import turn
from stream.analysis.bars import BarsConfig
from stream.analysis.config import AnalysisConfig
from stream.analysis.lasting import Lasting
from stream.analysis.replay import replay
from stream.analysis.span import Span
from stream.connection import connect
from stream.replay import _settle, stored_series

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.stream.conftest import Database

NOW = 1_700_000_000_000
SECONDS = 400
SETTINGS = AnalysisConfig(step_s=2, bars=BarsConfig(widths_s=(10, 60), late_after_s=30))
SPAN = Span(NOW, NOW + SECONDS * 1000, NOW + SECONDS * 1000)
# When the step ends in which the level jumps.
STARTS = 322
INCIDENTS = f"""
select extract(epoch from started_at - begin)::int, extract(epoch from ended_at - begin)::int, end_reason
  from anomaly cross join (select to_timestamp({NOW // 1000}) as begin) as span
 where detector = 'robust' order by started_at
"""
TABLES = ("select * from bar order by 1, 2, 3", "select * from trend order by 1, 2")


@pytest.fixture
def plant(migrated: Database) -> Database:
    """Readings up to now of a price, and of a level that jumps and stays where it is."""
    rng = np.random.default_rng(4)
    jump = np.where(np.arange(SECONDS) < STARTS - 2, 0.0, 60.0)
    values = {"AB/price": 100 + rng.normal(size=SECONDS).cumsum(), "level": rng.normal(size=SECONDS) + jump}
    with closing(psycopg2.connect(migrated.superuser)) as opened, opened.cursor() as cursor:
        for metric, column in values.items():
            cursor.execute(
                "insert into series (group_id, node_id, device_id, metric, kind, datatype) "
                "values ('g', 'n', 'd', %s, 'numeric', 10) returning series_id",
                (metric,),
            )
            ((number,),) = cursor.fetchall()
            rows = [(number, NOW / 1000 + n, value, 192) for n, value in enumerate(column.tolist())]
            execute_values(
                cursor,
                "insert into reading (series_id, sampled_at, value, quality) values %s",
                rows,
                template="(%s, to_timestamp(%s), %s, %s)",
            )
        opened.commit()
    return migrated


def work_out(plant: Database) -> None:
    replay(SETTINGS, plant.writer, stored_series(plant.writer, "*", SETTINGS), SPAN)


def at(second: float) -> str:
    return datetime.fromtimestamp(NOW / 1000 + second, UTC).isoformat()


def know(plant: Database, started: float, ended: float | None = None) -> None:
    """As the job knows it."""
    plant.run(
        "insert into anomaly (group_id, node_id, device_id, metric, detector, place, started_at, ended_at, peak_at, "
        "peak_score, threshold) values ('g', 'n', 'd', 'level', 'robust', 'cloud', "
        f"'{at(started)}', {'null' if ended is None else repr(at(ended))}, '{at(started)}', 9, 5)"
    )


@pytest.mark.parametrize(
    ("known", "found"),
    [
        pytest.param([], [(STARTS, SECONDS - 1, "replay")], id="the job knows nothing of it"),
        pytest.param([(STARTS, None)], [(STARTS, None, None)], id="it goes on as it was"),
        pytest.param([(326, None)], [(326, None, None)], id="by the job's own start, or the job would not end it"),
        pytest.param([(326, 405)], [(326, 405, None)], id="the job has ended it while the replay ran"),
        pytest.param([(200, 210)], [(STARTS, SECONDS - 1, "replay")], id="what was over before is another"),
        pytest.param(
            [(-50, None)], [(-50, None, None), (STARTS, SECONDS - 1, "replay")], id="before the span it stays"
        ),
    ],
)
def test_an_incident_that_lasts_up_to_now_is_ended_by_somebody(plant: Database, known: Any, found: Any) -> None:
    for each in known:
        know(plant, *each)
    work_out(plant)
    assert plant.rows(INCIDENTS) == found


def test_what_the_job_tells_again_while_a_replay_runs_is_no_second_incident(
    plant: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    know(plant, 326)
    drop, pieces = Span.drop, []

    def dropped(*arguments: Any) -> Any:
        pieces.append(drop(*arguments))
        return pieces[-1]

    def in_turn(opened: Any, whose: Any, write: Any) -> Any:
        if pieces and not plant.rows("select from anomaly where started_at = " + repr(at(326))):
            know(plant, 326, 390)
        return turn_before(opened, whose, write)

    turn_before = turn.in_turn
    monkeypatch.setattr(Span, "drop", dropped)
    monkeypatch.setattr(turn, "in_turn", in_turn)
    work_out(plant)
    assert plant.rows(INCIDENTS) == [(326, 390, None)]


@pytest.mark.parametrize(("known", "found"), [(326, (326, None, None)), (None, (STARTS, SECONDS, "replay"))])
def test_a_replay_of_the_log_ends_what_the_job_does_not_know(
    plant: Database, known: int | None, found: tuple[Any, ...]
) -> None:
    if known is not None:
        know(plant, known)
    lasting = Lasting(SPAN.now_ms)
    with closing(connect(plant.writer)) as opened:
        turn.in_turn(opened, "analysis", lambda cursor: lasting.gone(SPAN.drop(cursor)))
        know(plant, STARTS)
        know(plant, 100, 110)
        turn.in_turn(opened, "analysis", lambda cursor: _settle(cursor, lasting, SPAN))
    assert plant.rows(INCIDENTS) == [(100, 110, None), found]


def waiting(plant: Database) -> Callable[[], bool]:
    """Whether the stream's session waits for a lock."""
    statement = (
        "select count(*) from pg_stat_activity where application_name = 'headwater stream' "
        "and wait_event_type = 'Lock' and datname = current_database()"
    )
    return lambda: bool(plant.one(statement))


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@contextmanager
def beside(plant: Database) -> Iterator[None]:
    """A replay in a thread; it has ended well in the end."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            work_out(plant)
        except BaseException as exc:  # noqa: BLE001 - the test asserts that there is none
            failures.append(exc)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        thread.join(timeout=60)
    assert not thread.is_alive()
    assert failures == []


def test_a_replay_locks_no_row_before_it_is_its_turn(plant: Database) -> None:
    work_out(plant)
    with closing(connect(plant.writer)) as job, job.cursor() as cursor:
        turn.take(cursor, "analysis")
        with beside(plant):
            wait_for(waiting(plant))
            for table in ("bar", "trend", "anomaly"):
                assert plant.rows(f"select count(*) from (select * from {table} for update nowait) as all_of_it")
            job.commit()


def test_a_replay_that_the_database_breaks_off_for_a_deadlock_does_that_piece_again(plant: Database) -> None:
    work_out(plant)
    before = [plant.rows(each) for each in TABLES]
    assert all(before)
    with closing(psycopg2.connect(plant.superuser)) as other, other.cursor() as cursor:
        cursor.execute("set deadlock_timeout = '1h'")  # the replay is the one that finds out
        other.commit()
        cursor.execute("update trend set level = level")
        with beside(plant):
            wait_for(waiting(plant))
            cursor.execute("update bar set close = close")  # waits until the replay has given way
            other.commit()
    wait_for(lambda: bool(plant.one("select deadlocks from pg_stat_database where datname = current_database()")))
    assert [plant.rows(each) for each in TABLES] == before
