"""What is noted as late is not worked out before it is stored."""

from __future__ import annotations

import json
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from stream.errors import FatalError
from stream.replay_order import wait_for_ingest

if TYPE_CHECKING:
    from tests.stream.conftest import Database

TOPIC = "payloads"


def enter(database: Database, ledger: str, batch: int, topic: str = TOPIC, **ends: int) -> None:
    offsets = json.dumps({topic: {name.removeprefix("p"): end for name, end in ends.items()}})
    database.run(
        f"insert into {ledger} (query_id, batch_id, offsets, committed_at) values "
        f"('{'1' if ledger == 'ingest_batch' else '2'}1111111-1111-1111-1111-111111111111', {batch}, '{offsets}', "
        f"now() - interval '1 hour' + interval '{batch} s')"
    )


def wait(database: Database, wait_s: float = 0.0) -> list[str]:
    said: list[str] = []
    wait_for_ingest(database.writer, TOPIC, said.append, wait_s)
    return said


def test_an_ingest_that_is_behind_the_analysis_is_told_of(migrated: Database) -> None:
    assert wait(migrated) == [], "nothing was analysed"
    enter(migrated, "analysis_batch", 0, p0=10, p1=4)
    with pytest.raises(FatalError, match="the ingest is 14 records behind"):
        wait(migrated)
    enter(migrated, "ingest_batch", 0, p0=7, p1=9)
    enter(migrated, "ingest_batch", 1, topic="deadletters", p0=99)
    with pytest.raises(FatalError, match="the ingest is 3 records behind the analysis"):
        wait(migrated)
    enter(migrated, "ingest_batch", 2, p0=10)
    assert wait(migrated) == [], "of each partition the newest entry that names it counts"
    enter(migrated, "analysis_batch", 1, p0=11)
    with pytest.raises(FatalError, match="1 records behind"):
        wait(migrated)


def test_it_is_waited_for(migrated: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    enter(migrated, "analysis_batch", 0, p0=10)
    enter(migrated, "ingest_batch", 0, p0=8)
    steps = iter((9, 10))
    # Its name for the module, not the module's function, which other threads call too.
    clock = SimpleNamespace(
        monotonic=time.monotonic, sleep=lambda _s: enter(migrated, "ingest_batch", end := next(steps), p0=end)
    )
    monkeypatch.setattr("stream.replay_order.time", clock)
    assert wait(migrated, 60.0) == ["waiting for the ingest, which is 2 records behind the analysis"]
