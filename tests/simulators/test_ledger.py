from __future__ import annotations

import json
import resource
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulators.errors import LedgerError
from simulators.ledger import Closed, Header, Incident, Ledger, Match, Refused, Served, now_ms, read_ledger

if TYPE_CHECKING:
    from pathlib import Path

HEADER: dict[str, Any] = {"simulator": "plant", "seed": 7, "match": Match.SERVED}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledgers" / "plant.jsonl"


def test_what_is_noted_is_read_again(path: Path) -> None:
    before = now_ms()
    with Ledger(path, {**HEADER, "units": [1, 2]}) as ledger:
        ledger.served({"a": 1.5, "b": True, "c": "text", "d": 2**63}, at=1000)
        ledger.served({"a": 2}, source_at=900, connection=3, at=1001, asked_at=950)
        ledger.incident("leak", 1000)
        ledger.incident("leak", 1000, 2000)
        ledger.closed(3, at=1002)
        ledger.refused(["a", "b"], at=1003)
    header, *entries = read_ledger(path)
    assert isinstance(header, Header)
    assert (header.simulator, header.seed, header.match, header.extra) == ("plant", 7, Match.SERVED, {"units": [1, 2]})
    assert before <= header.started_at <= now_ms()
    assert entries == [
        Served(1000, {"a": 1.5, "b": True, "c": "text", "d": 2**63}),
        Served(1001, {"a": 2}, source_at=900, connection=3, asked_at=950),
        Incident("leak", 1000, None),
        Incident("leak", 1000, 2000),
        Closed(3, 1002),
        Refused(1003, ("a", "b")),
    ]


def test_times_are_now_where_none_is_given(path: Path) -> None:
    before = now_ms()
    with Ledger(path, HEADER) as ledger:
        ledger.served({"a": 1})
        ledger.closed(1)
    _, served, closed = read_ledger(path)
    assert isinstance(served, Served)
    assert isinstance(closed, Closed)
    assert before <= served.at <= closed.at <= now_ms()


def test_a_line_is_there_at_once(path: Path) -> None:
    with Ledger(path, HEADER) as ledger:
        ledger.served({"a": 1}, at=1)
        assert len(list(read_ledger(path))) == 2
        ledger.served({"a": 2}, at=2)
        assert len(list(read_ledger(path))) == 3


def test_a_ledger_opened_again_goes_on(path: Path) -> None:
    for at in (1, 2):
        with Ledger(path, HEADER) as ledger:
            ledger.served({"a": at}, at=at)
    kinds = [type(entry) for entry in read_ledger(path)]
    assert kinds == [Header, Served, Header, Served]


def test_a_torn_last_line_is_passed_over_and_cut_when_opened_again(path: Path) -> None:
    with Ledger(path, HEADER) as ledger:
        ledger.served({"a": 1}, at=1)
    with path.open("ab") as file:
        file.write(b'{"at": 2, "val')
    assert len(list(read_ledger(path))) == 2
    with Ledger(path, HEADER) as ledger:
        ledger.served({"a": 3}, at=3)
    assert [entry.at for entry in read_ledger(path) if isinstance(entry, Served)] == [1, 3]


@pytest.mark.parametrize("whole", [b"", b"{}\n", b"{}\n" * 30_000])
@pytest.mark.parametrize("torn", [b"", b'{"at', b"x" * 65_535, b"x" * 65_536, b"x" * 200_000])
def test_of_any_ledger_only_what_is_torn_is_cut(path: Path, whole: bytes, torn: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(whole + torn)
    with Ledger(path, HEADER):
        assert path.read_bytes().startswith(whole + b'{"ledger":')


def test_a_ledger_has_one_writer(path: Path) -> None:
    with Ledger(path, HEADER), pytest.raises(LedgerError, match="another run writes this ledger"), Ledger(path, HEADER):
        pass
    with Ledger(path, HEADER):
        assert len(list(read_ledger(path))) == 2


@pytest.mark.parametrize(
    "line",
    [
        b'{"at": 2, "val\n',
        b"\n",
        b"[]\n",
        b"{}\n",
        b'{"at": "noon", "values": {}}\n',
        b'{"incident": {"label": "leak"}}\n',
        b'{"ledger": 2, "simulator": "p", "seed": 1, "match": "served", "started_at": 1}\n',
        b'{"ledger": 1, "simulator": "p", "seed": 1, "match": "luck", "started_at": 1}\n',
    ],
)
def test_any_other_broken_line_is_an_error_that_names_it(path: Path, line: bytes) -> None:
    with Ledger(path, HEADER) as ledger:
        ledger.closed(1)
    with path.open("ab") as file:
        file.write(line + b'{"closed":1,"at":1}\n')
    with pytest.raises(LedgerError, match=r"plant\.jsonl:3: is no ledger entry"):
        list(read_ledger(path))


def test_a_missing_ledger_is_an_error(path: Path) -> None:
    with pytest.raises(LedgerError, match="cannot be read: No such file"):
        list(read_ledger(path))


def test_a_ledger_takes_no_nan_and_nothing_once_closed(path: Path) -> None:
    with Ledger(path, HEADER) as ledger, pytest.raises(ValueError, match="not JSON compliant"):
        ledger.served({"a": float("nan")})
    with pytest.raises(LedgerError, match="is not open"):
        ledger.closed(1)


@given(
    st.dictionaries(
        st.text(), st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
    )
)
def test_json_keeps_every_value_as_it_is(values: dict[str, Any]) -> None:
    again = json.loads(json.dumps(values))
    assert again == values
    assert [type(value) for value in again.values()] == [type(value) for value in values.values()]


def test_a_full_disk_leaves_no_half_entry(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    with Ledger(path, {"simulator": "plant", "seed": 1, "match": "served"}) as ledger:
        ledger.served({"a": 1.0})
        whole = path.read_bytes()
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) + 10, limits[1]))
        try:
            with pytest.raises(LedgerError, match="could not be written"):
                ledger.served({"a": 2.0})
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert path.read_bytes() == whole
        ledger.served({"a": 3.0})
    assert [entry.values for entry in read_ledger(path) if isinstance(entry, Served)] == [{"a": 1.0}, {"a": 3.0}]
