"""A clean run on a real database, spoiled by hand in one place: the reconciliation has to see each of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg2
import pytest

from simulators.ledger import Ledger, now_ms
from simulators.reconcile_targets import Result, Target, _reconcile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from psycopg2.extensions import connection

POLLS = 20
# The polls whose answer is a refusal, stored as bad readings.
REFUSED = (8, 14)
SOURCES = ("plant", "weather", "gate")
_SERIES = (
    "insert into series (group_id, node_id, device_id, metric, kind, datatype)"
    " values ('demo', 'edge-1', %s, %s, %s, 10)"
)
_ROW = (
    "insert into {} select series_id, to_timestamp(%s / 1000.0), %s, %s from series"
    " where device_id = %s and metric = %s and kind = %s"
)


class Run:
    """What was served and stored, and what may be done to it; times and polls are counted from 0."""

    def __init__(self, opened: connection, folder: Path) -> None:
        self._opened = opened
        self._folder = folder
        self.start_ms = 0

    def at_ms(self, source: str, poll: int) -> int:
        """When a row is: the plant's 30 ms after its answer, the others' at the source's own time."""
        return self.start_ms + 1000 * poll + (30 if source == "plant" else 0)

    def make(self) -> None:
        ledgers = {
            "plant": Ledger(self._folder / "plant.jsonl", {"simulator": "plant", "seed": 7, "match": "served"}),
            "weather": Ledger(self._folder / "weather.jsonl", {"simulator": "w", "seed": 7, "match": "source_time"}),
            "gate": Ledger(self._folder / "gate.jsonl", {"simulator": "gate", "seed": 7, "match": "frame"}),
        }
        with ledgers["plant"] as plant, ledgers["weather"] as weather, ledgers["gate"] as gate:
            self.start_ms = now_ms() // 1000 * 1000 + 5000
            for poll in range(POLLS):
                at = self.start_ms + 1000 * poll
                if poll in REFUSED:
                    plant.refused(["level", "serial"], at=at)
                else:
                    plant.served({"level": poll / 7, "serial": f"S{poll}"}, at=at)
                weather.served({"level": poll / 7, "serial": f"S{poll}"}, source_at=at, at=at + 2)
                weather.served({"level": poll / 7, "serial": f"S{poll}"}, source_at=at, at=at + 502)
                gate.served({"level": poll / 7, "serial": f"S{poll}"}, source_at=at, connection=1, at=at + 2)
                gate.served({"level": -1.0, "serial": "-"}, source_at=at + 500, connection=1, at=at + 502)
            gate.closed(1, at=self.start_ms + 1000 * POLLS + 9000)
        for source in SOURCES:
            self._store_all(source)

    def _store_all(self, source: str) -> None:
        self.execute(_SERIES, source, "level", "numeric")
        self.execute(_SERIES, source, "serial", "text")
        for poll in range(POLLS):
            bad = source == "plant" and poll in REFUSED
            self.store(source, "level", self.at_ms(source, poll), None if bad else poll / 7)
            self.store(source, "serial", self.at_ms(source, poll), None if bad else f"S{poll}")

    def store(self, source: str, metric: str, at_ms: float, value: float | str | None) -> None:
        kind, table = ("text", "reading_text") if metric == "serial" else ("numeric", "reading")
        quality = 0 if value is None else 192
        self.execute(_ROW.format(table), at_ms, value, quality, source, metric, kind)

    def change(self, what: str, source: str, *polls: int) -> None:
        """`what` with {rows} for the chosen rows of the metric level."""
        rows = (
            "reading.series_id = series.series_id and series.device_id = %s and series.metric = 'level'"
            " and reading.sampled_at = any(select to_timestamp(t / 1000.0) from unnest(%s::bigint[]) t)"
        )
        changed = self.execute(what.format(rows=rows), source, [self.at_ms(source, poll) for poll in polls])
        assert changed == len(polls), "the mutation has to do something"

    def delete(self, source: str, *polls: int) -> None:
        self.change("delete from reading using series where {rows}", source, *polls)

    def declare(self, source: str, first: float, last: float) -> None:
        """A gap between two polls."""
        self.execute(
            "insert into gap values ('demo', 'edge-1', %s, to_timestamp(%s / 1000.0), to_timestamp(%s / 1000.0),"
            " 'agent killed', now())",
            source,
            self.at_ms(source, 0) + 1000 * first,
            self.at_ms(source, 0) + 1000 * last,
        )

    def execute(self, statement: str, *values: Any) -> int:
        with self._opened.cursor() as cursor:
            cursor.execute(statement, values)
            return cursor.rowcount

    def result(self, source: str) -> Result:
        keys = {"source": source, "group": "demo", "node": "edge-1", "device": source, "interval_s": 1.0}
        return _reconcile(self._opened, Target.model_validate({**keys, "ledger": self._folder / f"{source}.jsonl"}))

    def counts(self, source: str) -> dict[str, int]:
        tally = self.result(source).tally
        found = {name: getattr(tally, name) for name in ("declared", "lost", "duplicated", "wrong")}
        assert tally.produced == tally.stored + tally.declared + tally.lost + tally.wrong
        return {name: count for name, count in found.items() if count}


@pytest.fixture(scope="module")
def spoilable(migrated: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    opened = psycopg2.connect(migrated)
    made = Run(opened, tmp_path_factory.mktemp("run"))
    made.make()
    opened.commit()
    yield made
    opened.close()


@pytest.fixture
def run(spoilable: Run) -> Iterator[Run]:
    """The clean run; what a test does to it is undone."""
    yield spoilable
    spoilable._opened.rollback()


@pytest.mark.parametrize("source", SOURCES)
def test_the_run_is_clean_as_it_is(run: Run, source: str) -> None:
    result = run.result(source)
    assert result.is_clean
    assert (run.counts(source), result.older, result.unserved) == ({}, 0, ())
    assert result.tally.stored == 2 * (POLLS - (len(REFUSED) if source == "plant" else 0))


def shift_by_one_poll(run: Run, source: str) -> None:
    run.change(
        "update reading set value = value - 1.0 / 7 from series where {rows}", source, *range(1, 6)
    )  # what the poll before showed


def swap_two(run: Run, source: str) -> None:
    run.change("update reading set value = 9.0 / 7 - value from series where {rows}", source, 4, 5)


def a_millionth(run: Run, source: str) -> None:
    run.change("update reading set value = value + 1e-6 from series where {rows}", source, 3)


MUTATIONS: list[tuple[str, Callable[[Run, str], None], dict[str, int]]] = [
    ("delete one in the middle", lambda run, s: run.delete(s, 5), {"lost": 1}),
    ("delete the first", lambda run, s: run.delete(s, 0), {"lost": 1}),
    ("delete the last", lambda run, s: run.delete(s, POLLS - 1), {"lost": 1}),
    ("delete one before a bad reading", lambda run, s: run.delete(s, 7), {"lost": 1}),
    ("delete one after a bad reading", lambda run, s: run.delete(s, 9), {"lost": 1}),
    ("delete three in a row", lambda run, s: run.delete(s, 2, 3, 4), {"lost": 3}),
    ("delete those before both bad readings", lambda run, s: run.delete(s, 7, 13), {"lost": 2}),
    ("a phantom between", lambda run, s: run.store(s, "level", run.at_ms(s, 5) + 400, 0.25), {"duplicated": 1}),
    ("the same reading twice", lambda run, s: run.store(s, "level", run.at_ms(s, 5) + 1, 5 / 7), {"duplicated": 1}),
    ("twice in one ms", lambda run, s: run.store(s, "level", run.at_ms(s, 5) + 0.2, 5 / 7), {"duplicated": 1}),
    ("an old value again", lambda run, s: run.store(s, "level", run.at_ms(s, 9) + 300, 5 / 7), {"duplicated": 1}),
    ("a phantom at the end", lambda run, s: run.store(s, "level", run.at_ms(s, 90), 0.25), {"duplicated": 1}),
    ("shift by one poll", shift_by_one_poll, {"wrong": 5}),
    ("swap two", swap_two, {"wrong": 2}),
    ("a millionth", a_millionth, {"wrong": 1}),
]


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize(("mutate", "counts"), [pytest.param(m, c, id=name) for name, m, c in MUTATIONS])
def test_a_mutation_is_seen(run: Run, source: str, mutate: Callable[[Run, str], None], counts: dict[str, int]) -> None:
    mutate(run, source)
    assert run.counts(source) == counts
    assert not run.result(source).is_clean


@pytest.mark.parametrize("source", SOURCES)
def test_a_gap_excuses_what_lies_in_it_and_nothing_beside(run: Run, source: str) -> None:
    run.delete(source, 4, 5, 10)
    run.declare(source, 3, 6)
    assert run.counts(source) == {"declared": 2, "lost": 1}
    # The other metric has all of it: the gap is not as wide for one of the two.
    assert run.result(source).tally.declared_by == {"gap": 2}


@pytest.mark.parametrize("source", SOURCES)
def test_a_gap_over_everything_hides_losses_and_shows_itself(run: Run, source: str) -> None:
    stored = run.result(source).tally.stored
    run.delete(source, 4, 5, 10)
    run.declare(source, -10, 1000)
    result = run.result(source)
    assert run.counts(source) == {"declared": 3}
    assert result.tally.stored_in_gaps == stored - 3
    assert (len(result.gaps), result.gaps[0].to_ms - result.gaps[0].from_ms) == (1, 1_010_000)


BAD = "update reading set value = null, quality = 0 from series where {rows}"


def test_a_flood_of_bad_readings_shows_and_is_never_clean_when_it_takes_a_metric(run: Run) -> None:
    good = [poll for poll in range(POLLS) if poll not in REFUSED]
    run.change(BAD, "plant", *good[:5])
    assert run.result("plant").tally.declared_by == {"bad": 5}
    run.change(BAD, "plant", *good[5:])
    result = run.result("plant")
    assert (result.tally.never_stored, result.is_clean) == (("level",), False)


@pytest.mark.parametrize("source", ["weather", "gate"])
def test_a_bad_reading_at_the_time_of_one_that_was_served_is_wrong(run: Run, source: str) -> None:
    run.change(BAD, source, 5, 6)
    assert run.counts(source) == {"wrong": 2}


@pytest.mark.parametrize("source", SOURCES)
def test_a_bad_reading_more_does_not_excuse_a_loss(run: Run, source: str) -> None:
    run.delete(source, 5)
    run.store(source, "level", run.at_ms(source, 4) + 100, None)
    assert run.counts(source) == {"lost": 1}


@pytest.mark.parametrize("source", SOURCES)
def test_rows_from_before_the_ledger_are_counted(run: Run, source: str) -> None:
    run.store(source, "level", run.start_ms - 3_600_000, 1.0)
    assert (run.counts(source), run.result(source).older) == ({}, 1)


def test_a_second_series_of_the_same_metric_is_a_duplicate(run: Run) -> None:
    for source in SOURCES:
        run.execute(_SERIES, source, "level", "text")
        run.execute(_ROW.format("reading_text"), run.at_ms(source, 5), "x", 192, source, "level", "text")
        assert run.counts(source)["duplicated"] == 1


def test_a_row_stamped_too_late_shows(run: Run) -> None:
    run.change("update reading set sampled_at = sampled_at + interval '900 ms' from series where {rows}", "plant", 5)
    assert run.result("plant").tally.latest_ms == 930
