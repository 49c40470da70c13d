"""The spool's file alone: numbers without holes, eviction declared, nothing lost to a kill, spoilt files set aside."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import textwrap
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contract.delivery import GAP, Gap
from contract.sparkplug import decode
from edge.batch import Batch, gap_batch
from edge.errors import CorruptSpoolError, SpoolError
from edge.lane import Lane
from edge.spool.directory import count_set_aside, open_spool
from edge.spool.file import FileLimits, SpoolFile

if TYPE_CHECKING:
    from collections.abc import Sequence

    from contract.sparkplug import Metric
    from edge.spool import Extent

ROOM = 64 << 20
FORMAT_1 = """
pragma auto_vacuum = incremental;
pragma journal_mode = wal;
create table batch (
  batch_no integer primary key,
  device   text not null,
  payload  blob not null,
  from_ms  integer not null,
  to_ms    integer not null,
  kept_ms  integer not null
);
create table device (name text primary key, last_ms integer not null);
create table state (key text primary key, value integer not null);
insert into state values ('next_batch_no', 60), ('bd_seq', 7), ('clean_stop', 1);
pragma user_version = 1;
"""


def a_batch(n: int, size_bytes: int = 100, device: str = "plant") -> Batch:
    return Batch(device, n.to_bytes(8, "big") * (size_bytes // 8 + 1), n, n)


def declare(device: str, gap: Gap) -> Batch:
    return gap_batch(device, gap, 1)


def live(file: SpoolFile) -> Extent:
    return file.extents()[Lane.LIVE]


def fill(file: SpoolFile, batches: Sequence[Batch]) -> int:
    return file.append(batches, 1, declare)


steps = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.integers(1, 5)),
        st.tuples(st.just("delete"), st.integers(0, 30)),
        st.tuples(st.just("reopen"), st.just(0)),
    ),
    max_size=25,
)


@settings(max_examples=25, deadline=None)
@given(steps)
def test_numbers_have_no_holes_whatever_is_deleted_and_however_often_it_is_opened(steps: list[tuple[str, int]]) -> None:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        file = open_spool(directory, FileLimits(ROOM), 1000)
        expected: dict[int, bytes] = {}
        next_no = 1
        for step, amount in steps:
            match step:
                case "append":
                    batches = [a_batch(next_no + i) for i in range(amount)]
                    assert fill(file, batches) == 0
                    expected.update({next_no + i: batch.payload for i, batch in enumerate(batches)})
                    next_no += amount
                case "delete":
                    file.delete_through({Lane.LIVE: amount})
                    expected = {no: payload for no, payload in expected.items() if no > amount}
                case "reopen":
                    file.close(clean=True)
                    file = open_spool(directory, FileLimits(ROOM), 5000)
            extent = live(file)
            assert (extent.epoch, extent.oldest, extent.next_no) == (1000, min(expected, default=next_no), next_no)
            assert {b.batch_no: b.payload for b in file.read_from(Lane.LIVE, 1, 1000)} == expected
        file.close(clean=True)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(10, 20_000), min_size=20, max_size=120))
def test_a_full_spool_evicts_the_oldest_and_declares_them(sizes: list[int]) -> None:
    max_bytes = 256 << 10
    with tempfile.TemporaryDirectory() as name:
        file = open_spool(Path(name), FileLimits(max_bytes), 1000)
        evicted = 0
        for i, size_bytes in enumerate(sizes, 1):
            evicted += fill(file, [a_batch(i * 10, size_bytes, "plant" if i % 2 else "gate")])
        kept = file.read_from(Lane.LIVE, 1, 10_000)
        extent = live(file)
        assert [b.batch_no for b in kept] == list(range(extent.oldest, extent.next_no)), "a hole"
        assert extent.size_bytes <= max_bytes + 8192, "more than the newest batch and its gaps too much"
        assert extent.oldest == evicted + 1
        present = {b.payload for b in kept}
        gaps = [(b.device, Gap.from_metric(m)) for b in kept for m in _metrics_of_gap(b.payload)]
        for i, size_bytes in enumerate(sizes, 1):
            device = "plant" if i % 2 else "gate"
            if a_batch(i * 10, size_bytes).payload not in present:
                assert any(d == device and g.from_ms <= i * 10 <= g.to_ms for d, g in gaps), f"{i} lost in silence"
        file.close(clean=True)


def _metrics_of_gap(payload: bytes) -> list[Metric]:
    try:
        return [m for m in decode(payload).metrics if m.name == GAP]
    except ValueError:
        return []


def test_what_a_killed_process_had_committed_is_all_there(tmp_path: Path) -> None:
    script = textwrap.dedent(
        """
        import sys
        from pathlib import Path
        from edge.batch import Batch
        from edge.lane import Lane
        from edge.spool.directory import open_spool
        from edge.spool.file import FileLimits
        file = open_spool(Path(sys.argv[1]), FileLimits(64 << 20), 1000)
        n = file.extents()[Lane.LIVE].next_no
        while True:
            batches = [Batch("plant", b"%d" % (n + i), n + i, n + i) for i in range(7)]
            file.append(batches, 1, None)
            n += 7
            if n % 21 == 1:
                file.delete_through({Lane.LIVE: n - 100})
            print(n - 1, flush=True)
        """
    )
    confirmed = 0
    for kill_after in (3, 40, 111):
        with subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True
        ) as writer:
            assert writer.stdout is not None
            for _ in range(kill_after):
                confirmed = int(writer.stdout.readline())
            writer.send_signal(signal.SIGKILL)
            confirmed = max([confirmed, *map(int, writer.stdout.read().splitlines())])
        file = open_spool(tmp_path, FileLimits(ROOM), 9999)
        kept = file.read_from(Lane.LIVE, 1, 100_000)
        extent = live(file)
        assert extent.epoch == 1000
        assert not file.stopped_cleanly
        assert [b.batch_no for b in kept] == list(range(extent.oldest, extent.next_no))
        assert extent.next_no > confirmed
        # The kill may have come after a deletion and before it was told.
        assert extent.oldest <= max(1, extent.next_no - 99)
        assert all(b.payload == b"%d" % b.batch_no for b in kept)
        file.close(clean=False)


@pytest.mark.parametrize("spoil", ["garbage", "truncated", "page", "no table", "newer"])
def test_a_spoilt_file_is_set_aside_and_a_higher_epoch_begun(tmp_path: Path, spoil: str) -> None:
    file = open_spool(tmp_path, FileLimits(ROOM), 1000)
    fill(file, [a_batch(n, 3000) for n in range(1, 50)])
    file.close(clean=True)
    path = tmp_path / "spool-1000.db"
    content = path.read_bytes()
    match spoil:
        case "garbage":
            path.write_bytes(b"\x00garbage" * 1000)
        case "truncated":
            path.write_bytes(content[: len(content) // 2])
        case "page":
            path.write_bytes(content[:4096] + b"\xff" * 8192 + content[12_288:])
        case "no table":
            db = sqlite3.connect(path)
            db.execute("drop table note")
            db.close()
        case "newer":
            db = sqlite3.connect(path)
            db.execute("pragma user_version = 3")
            db.close()
    # The clock was set back, too: the new epoch is higher all the same.
    anew = open_spool(tmp_path, FileLimits(ROOM), 500)
    assert anew.base_epoch == 1004
    assert live(anew).depth == 0
    assert count_set_aside(tmp_path) == 1
    fill(anew, [a_batch(1)])
    anew.close(clean=True)
    again = open_spool(tmp_path, FileLimits(ROOM), 2000)
    assert (again.base_epoch, live(again).depth) == (1004, 1)
    again.close(clean=True)


def test_a_disk_that_is_full_is_told_and_harms_nothing(tmp_path: Path) -> None:
    file = open_spool(tmp_path, FileLimits(ROOM), 1000)
    fill(file, [a_batch(1)])
    file._database.sql.execute(f"pragma max_page_count = {file._database._pragma('page_count') + 2}")
    with pytest.raises(SpoolError, match="full: free space there") as caught:
        fill(file, [a_batch(n, 5000) for n in range(2, 20)])
    assert not isinstance(caught.value, CorruptSpoolError)
    assert (live(file).next_no, live(file).depth) == (2, 1)
    file._database.sql.execute("pragma max_page_count = 100000")
    fill(file, [a_batch(2)])
    assert [b.batch_no for b in file.read_from(Lane.LIVE, 1, 10)] == [1, 2]
    file.close(clean=True)


def test_a_directory_that_cannot_be_written_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SpoolError, match="file"):
        open_spool(tmp_path / "file", FileLimits(ROOM), 1)


def test_bd_seq_goes_round_and_survives(tmp_path: Path) -> None:
    file = open_spool(tmp_path, FileLimits(ROOM), 1000)
    assert [file.next_bd_seq() for _ in range(255)] == list(range(255))
    file.close(clean=False)
    file = open_spool(tmp_path, FileLimits(ROOM), 1000)
    assert [file.next_bd_seq(), file.next_bd_seq()] == [255, 0]
    file.close(clean=False)


def test_it_remembers_how_it_was_left_and_when_each_device_was_last_spooled(tmp_path: Path) -> None:
    file = open_spool(tmp_path, FileLimits(ROOM), 1000)
    fill(file, [Batch("plant", b"1", 100, 150), Batch("gate", b"2", 90, 95), Batch("plant", b"3", 200, 250)])
    file.close(clean=True)
    file = open_spool(tmp_path, FileLimits(ROOM), 1000)
    assert file.stopped_cleanly
    assert file.last_sampled() == {"plant": 200, "gate": 90}
    fill(file, [a_batch(1)])
    file._database.sql.close()
    file = open_spool(tmp_path, FileLimits(ROOM), 1000)
    assert not file.stopped_cleanly
    file.close(clean=True)


def test_a_new_epoch_keeps_the_batches(tmp_path: Path) -> None:
    file = open_spool(tmp_path, FileLimits(ROOM), 1000)
    fill(file, [a_batch(n) for n in range(1, 6)])
    file.delete_through({Lane.LIVE: 2})
    file.renew(900)
    assert (file.base_epoch, [b.batch_no for b in file.read_from(Lane.LIVE, 1, 10)]) == (1004, [3, 4, 5])
    file.close(clean=True)
    again = open_spool(tmp_path, FileLimits(ROOM), 1)
    assert (again.base_epoch, live(again).oldest, live(again).next_no) == (1004, 3, 6)
    again.close(clean=True)


def test_disk_is_given_back_after_an_outage(tmp_path: Path) -> None:
    file = open_spool(tmp_path, FileLimits(ROOM), 1000)
    fill(file, [a_batch(n, 10_000) for n in range(1, 1500)])
    path = tmp_path / "spool-1000.db"
    for through in range(100, 1600, 50):
        file.delete_through({Lane.LIVE: through})
    file.close(clean=True)
    assert path.stat().st_size < 10 << 20


def test_a_new_epoch_that_cannot_be_named_costs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = open_spool(tmp_path, FileLimits(ROOM), 1000)
    fill(file, [a_batch(n) for n in range(1, 6)])

    def refuse(path: Path, _target: Path) -> Path:
        raise PermissionError(13, "Permission denied", path)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", refuse)
        with pytest.raises(SpoolError, match="Permission denied"):
            file.renew(2000)
    fill(file, [a_batch(6)])
    assert (file.base_epoch, live(file).depth) == (1000, 6)
    file.renew(2000)
    assert (file.base_epoch, live(file).depth) == (2000, 6)
    file.close(clean=True)


def test_the_spool_of_an_agent_before_there_were_lanes_goes_on_where_it_was(tmp_path: Path) -> None:
    payloads = {number: b"%d" % number * 1000 for number in range(3, 60)}
    db = sqlite3.connect(tmp_path / "spool-1000.db", isolation_level=None)
    db.executescript(FORMAT_1)
    rows = [(number, "plant", payload, number, number + 1, 1005) for number, payload in payloads.items()]
    db.executemany("insert into batch values (?, ?, ?, ?, ?, ?)", rows)
    db.execute("insert into device values ('plant', 59)")
    db.close()
    file = open_spool(tmp_path, FileLimits(ROOM), 2000)
    assert (file.stopped_cleanly, file.next_bd_seq(), file.last_sampled()) == (True, 8, {"plant": 59})
    extent = live(file)
    assert (extent.epoch, extent.oldest, extent.next_no) == (1000, 3, 60), "what the bridge knows must go on to hold"
    assert {b.batch_no: b.payload for b in file.read_from(Lane.LIVE, 1, 100)} == payloads
    fill(file, [a_batch(60), replace(a_batch(1), lane=Lane.ALARM)])
    file.delete_through({Lane.LIVE: 50})
    file.close(clean=True)
    again = open_spool(tmp_path, FileLimits(ROOM), 3000)
    assert [b.batch_no for b in again.read_from(Lane.LIVE, 1, 100)] == list(range(51, 61))
    assert {lane: (e.epoch, e.depth) for lane, e in again.extents().items()} == {
        Lane.ALARM: (1003, 1),
        Lane.LIVE: (1000, 10),
        Lane.BACKFILL: (1001, 0),
        Lane.IMAGE: (1002, 0),
    }
    again.close(clean=True)


def test_the_least_urgent_lane_is_evicted_first_even_before_it_is_told(tmp_path: Path) -> None:
    file = open_spool(tmp_path, FileLimits(390_000), 1000)

    def put(lane: Lane, count: int) -> int:
        return fill(file, [replace(a_batch(n, 10_000, lane.name), lane=lane) for n in range(count)])

    def held() -> dict[Lane, int]:
        """Batches of each lane, without the gaps that are declared."""
        return {lane: sum(len(b.payload) > 9000 for b in file.read_from(lane, 1, 999)) for lane in Lane}

    assert [put(lane, 5) for lane in Lane] == [0, 0, 0, 0]
    assert put(Lane.LIVE, 15) > 0
    assert (held()[Lane.LIVE], held()[Lane.BACKFILL]) == (20, 5), "images go first"
    assert put(Lane.ALARM, 7) > 0
    assert (held()[Lane.LIVE], held()[Lane.IMAGE]) == (20, 0), "then what is to be replayed"
    assert put(Lane.ALARM, 15) > 0
    assert held()[Lane.ALARM] == 27, "then live readings"
    assert put(Lane.IMAGE, 3) >= 3, "an image never drives out a reading"
    assert put(Lane.ALARM, 30) > 0
    assert held()[Lane.ALARM] < 57, "alarms last, the oldest first"
    gaps = {b.device for b in file.read_from(Lane.LIVE, 1, 999) if _metrics_of_gap(b.payload)}
    assert gaps <= {lane.name for lane in Lane}
    assert "ALARM" in gaps
    file.close(clean=True)


def test_a_garbled_payload_is_never_read_as_a_batch(tmp_path: Path) -> None:
    file = open_spool(tmp_path, FileLimits(ROOM), 1000)
    fill(file, [a_batch(n) for n in range(1, 9)])
    file._database.sql.execute("update live set payload = zeroblob(50) where batch_no = 5")
    assert [b.batch_no for b in file.read_from(Lane.LIVE, 1, 4)] == [1, 2, 3, 4]
    with pytest.raises(CorruptSpoolError, match="batch 5 of live is garbled"):
        file.read_from(Lane.LIVE, 1, 9)
    file.close(clean=True)


def test_it_grows_no_further_where_the_disk_has_little_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = open_spool(tmp_path, FileLimits(ROOM, 10 << 20), 1000)
    disk = os.statvfs(tmp_path)
    free_bytes = 30 << 20
    values = list(disk)
    monkeypatch.setattr(
        os, "statvfs", lambda _path: os.statvfs_result([*values[:4], free_bytes // values[1], *values[5:]])
    )
    assert fill(file, [a_batch(n, 10_000) for n in range(100)]) == 0
    free_bytes = 9 << 20
    before = live(file).size_bytes
    assert fill(file, [a_batch(n, 10_000) for n in range(20)]) >= 20
    assert before * 0.9 < live(file).size_bytes <= before, "what is held is not given up for others"
    free_bytes = 30 << 20
    assert fill(file, [a_batch(n, 10_000) for n in range(50)]) == 0
    file.close(clean=True)


def test_only_a_power_cut_makes_it_doubt_its_numbers(tmp_path: Path) -> None:
    def opened(boot_id: str, *, clean: bool) -> bool:
        file = open_spool(tmp_path, FileLimits(ROOM), 1000, boot_id)
        was_cut_off = file.was_cut_off
        fill(file, [a_batch(1)])
        if clean:
            file.close(clean=True)
        else:
            file._database.sql.close()
        return was_cut_off

    assert not opened("first", clean=False)
    assert not opened("first", clean=False), "killed within the same boot: the kernel has written all"
    assert opened("second", clean=True)
    assert not opened("third", clean=True), "shut down in order"
