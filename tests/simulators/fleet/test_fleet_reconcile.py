"""A fleet's ledger against the tables of a real database: every node of it, and whatever is not as it should be."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import psycopg2
import pytest

from simulators.errors import LedgerError
from simulators.ledger import Ledger
from simulators.reconcile_report import as_json
from simulators.reconcile_targets import Result, Target, reconcile_all

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from psycopg2.extensions import connection

START_MS = 1_900_000_000_000
SAMPLES = 20
PROMISED = {"sim-0000": True, "sim-0001": True, "odd-0000": False}


@pytest.fixture
def tables(migrated: str) -> Iterator[connection]:
    """The tables, empty."""
    opened = psycopg2.connect(migrated)
    opened.autocommit = True
    with opened.cursor() as cursor:
        cursor.execute("truncate reading, reading_text, series, gap cascade")
    yield opened
    opened.close()


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    """Three nodes with clocks of their own; one of them promises nothing."""
    path = tmp_path / "fleet.jsonl"
    with Ledger(path, {"simulator": "fleet", "seed": 1, "match": "source_time"}) as ledger:
        for number in range(SAMPLES):
            for node, promised in PROMISED.items():
                ledger.sampled(node, sample(number), at_ms(node, number), promised=promised)
    return path


def sample(number: int) -> dict[str, Any]:
    return {"unit000/level": number / 7, "unit001/pieces": number, "unit002/running": number % 2 == 0}


def at_ms(node: str, number: int) -> int:
    return START_MS + 1000 * number + (60_000 if node == "sim-0001" else 0)


def store(opened: connection, *, without: tuple[str, int] | None = None) -> None:
    """All that the ledger has, without one sample of a node."""
    with opened.cursor() as cursor:
        for node in PROMISED:
            for metric in sample(0):
                cursor.execute(
                    "insert into series (group_id, node_id, device_id, metric, kind, datatype)"
                    " values ('fleet', %s, 'line', %s, 'numeric', 10) returning series_id",
                    (node, metric),
                )
                (series,) = cursor.fetchone() or (0,)
                cursor.executemany(
                    "insert into reading values (%s, to_timestamp(%s / 1000.0), %s, 192)",
                    [
                        (series, at_ms(node, number), float(sample(number)[metric]))
                        for number in range(SAMPLES)
                        if (node, number) != without
                    ],
                )


def result_of(dsn: str, ledger: Path, **keys: Any) -> Result:
    document = {"source": "fleet", "ledger": ledger, "group": "fleet", "node": "*", "device": "line"}
    (result,) = reconcile_all(dsn, [Target.model_validate(document | keys)])
    return result


def test_all_nodes_of_a_fleet(migrated: str, tables: connection, ledger: Path) -> None:
    store(tables)
    result = result_of(migrated, ledger)
    assert result.is_clean
    assert (result.tally.produced, result.tally.stored) == (180, 180)
    assert json.loads(json.dumps(as_json([result])))["clean"]


def test_a_loss_says_whose_it_is(migrated: str, tables: connection, ledger: Path) -> None:
    store(tables, without=("sim-0001", 7))
    result = result_of(migrated, ledger)
    assert not result.is_clean
    assert (result.tally.stored, result.tally.lost) == (177, 3)
    assert {(one.metric, one.at) for one in result.tally.offenders} == {
        (f"sim-0001/{metric}", at_ms("sim-0001", 7)) for metric in sample(0)
    }


def test_a_gap_excuses_its_own_node_alone(migrated: str, tables: connection, ledger: Path) -> None:
    store(tables, without=("sim-0001", 7))
    with tables.cursor() as cursor:
        statement = (
            "insert into gap (group_id, node_id, device_id, from_at, to_at, reason, declared_at)"
            " values ('fleet', %s, 'line', to_timestamp(%s), to_timestamp(%s), 'backlog full', now())"
        )
        at_s = at_ms("sim-0001", 7) / 1000
        cursor.execute(statement, ("sim-0000", at_s, at_s))
        assert result_of(migrated, ledger).tally.lost == 3
        cursor.execute(statement, ("sim-0001", at_s, at_s))
    result = result_of(migrated, ledger)
    assert result.is_clean
    assert result.tally.declared_by == {"gap": 3}


def test_what_nobody_promised_may_be_missing_but_not_wrong(migrated: str, tables: connection, ledger: Path) -> None:
    store(tables, without=("odd-0000", 3))
    result = result_of(migrated, ledger)
    assert result.is_clean
    assert result.tally.declared_by == {"unpromised": 3}
    with tables.cursor() as cursor:
        cursor.execute(
            "update reading set value = -1 where series_id = (select series_id from series where"
            " node_id = 'odd-0000' and metric = 'unit000/level') and sampled_at = to_timestamp(%s)",
            (at_ms("odd-0000", 5) / 1000,),
        )
    assert result_of(migrated, ledger).tally.wrong == 1


def test_a_reading_that_no_node_took(migrated: str, tables: connection, ledger: Path) -> None:
    store(tables)
    with tables.cursor() as cursor:
        cursor.execute(
            "insert into reading select series_id, to_timestamp(%s), 1, 192 from series where node_id = 'sim-0000'",
            (START_MS / 1000 + 0.5,),
        )
    result = result_of(migrated, ledger)
    assert result.tally.duplicated == 3
    assert {one.metric for one in result.tally.offenders} == {f"sim-0000/{metric}" for metric in sample(0)}


def test_globs_that_match_nothing_are_told_once(migrated: str, tables: connection, ledger: Path) -> None:
    store(tables)
    result = result_of(migrated, ledger, metrics=("*/level", "*/colour"))
    assert (result.unmatched, result.is_clean, result.tally.produced) == (("*/colour",), False, 60)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "no header"),
        (
            ['{"ledger":1,"simulator":"plant","seed":1,"match":"served","started_at":1}', '{"at":1,"values":{}}'],
            "none of",
        ),
    ],
)
def test_what_is_no_ledger_of_a_fleet_is_told(migrated: str, tmp_path: Path, lines: list[str], message: str) -> None:
    path = tmp_path / "other.jsonl"
    path.write_text("".join(f"{line}\n" for line in lines))
    with pytest.raises(LedgerError, match=message):
        result_of(migrated, path)
