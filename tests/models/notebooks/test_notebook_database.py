"""The notebook of the live database, run against a real one: full, only just migrated, and not there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import pytest
from nbclient.exceptions import CellExecutionError

if TYPE_CHECKING:
    from collections.abc import Callable

    Execute: TypeAlias = Callable[[str], list[Any]]
    """By a notebook's name, or for `read` by a DSN: the outputs of its cells."""


def pictures(outputs: list[Any]) -> int:
    return sum("image/png" in each.get("data", {}) for each in outputs)


def words(outputs: list[Any]) -> str:
    """All that it says: what cells print, and the tables and sentences that they end with."""
    shown = (each.get("data", {}) for each in outputs)
    return "\n".join(
        [each["text"] for each in outputs if each.get("name") == "stdout"]
        + [str(data[kind]) for data in shown for kind in ("text/plain", "text/markdown") if kind in data]
    )


@pytest.fixture
def read(execute: Execute, monkeypatch: pytest.MonkeyPatch) -> Execute:
    """Runs the notebook against the database of a DSN; it must warn of nothing."""

    def run(dsn: str) -> list[Any]:
        monkeypatch.setenv("HEADWATER_QUICK", "1")
        monkeypatch.setenv("HEADWATER_READER_DSN", dsn)
        monkeypatch.setenv("HEADWATER_DSN", "host=127.0.0.1 port=1 password=not-this-one")
        outputs = execute("database")
        assert [each["text"] for each in outputs if each.get("name") == "stderr"] == []
        return outputs

    return run


def test_it_shows_what_there_is_and_judges_it(read: Execute, filled: str) -> None:
    outputs = read(filled)
    said = words(outputs)
    assert pictures(outputs) == 8
    for horizon in (5, 60):
        assert f"tank-level level, {horizon} s, cloud: **better**" in said
        assert f"tank-level level, {horizon} s, edge: **better**" in said
    # It was made to know nothing: the notebook must not praise it.
    assert "stock-minute AAPL price, 1200 s, cloud: no skill shown" in said
    assert "spool full" in said
    assert "--dataset kept:timescale-demo-edge-1-line-a-" in said
    assert "may only read" not in said


def test_what_is_not_there_yet_is_said(read: Execute, reader: str) -> None:
    outputs = read(reader)
    said = words(outputs)
    assert pictures(outputs) == 0
    for missing in ("is rolled up", "No bars", "No forecasts", "Nothing is scored", "No incident", "Nothing to train"):
        assert missing in said


def test_without_a_database_one_line_says_what_to_do(read: Execute) -> None:
    with pytest.raises(CellExecutionError) as told:
        read("host=127.0.0.1 port=1 user=x password=hunter2")
    assert told.value.ename == "NoDatabaseError"
    (line,) = told.value.traceback.split("------------------\n")[-1].strip().splitlines()
    assert line.startswith("No database: ")
    assert line.endswith("Run `make demo`, or set HEADWATER_READER_DSN; then run again.")
    assert "hunter2" not in line
