"""Runs in the virtual machine: fills a spool and tells over the serial line what it holds and what it acknowledged.

FOUND lane epoch oldest next fault   at the start, of each lane: what survived the last power cut
ACK lane batch_no                    everything of the lane up to this batch is on the disk
PLAIN n                              so many lines were appended to a plain file, without any fsync
"""

from __future__ import annotations

import asyncio
import itertools
import sys
import time
from pathlib import Path

from contract.delivery import BatchId, Gap
from edge.batch import Batch, gap_batch
from edge.lane import Lane
from edge.spool import Spool, SpoolLimits

_DISK = Path("/disk")
_KEPT = 300
_AT_ONCE = 4


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _tell(*words: object) -> None:
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


def payload(lane: Lane, batch_no: int) -> bytes:
    """What a batch holds, known from its number."""
    return f"{lane.name} {batch_no} ".encode() * 40


async def _tell_found(spool: Spool) -> None:
    for lane, extent in (await spool.extents()).items():
        fault, expected = "ok", itertools.count(extent.oldest)
        while stored := await spool.read_from(lane, number := next(expected), 1):
            if stored[0].batch_no != number or stored[0].payload != payload(lane, number):
                fault = f"wrong:{number}"
        if number != extent.next_no:
            fault = f"hole:{number}"
        _tell("FOUND", lane.name, extent.epoch, extent.oldest, extent.next_no, fault)


async def _fill(spool: Spool) -> None:
    with (_DISK / "plain").open("a", encoding="ascii") as plain:
        for count in itertools.count(1):
            extents = await spool.extents()
            for lane in (Lane.ALARM, Lane.LIVE, Lane.IMAGE):
                first = extents[lane].next_no
                for number in range(first, first + _AT_ONCE):
                    at_ms = _now_ms()
                    spool.put(Batch("device", payload(lane, number), at_ms, at_ms, lane))
                if first > _KEPT:
                    spool.forget(BatchId(extents[lane].epoch, first - _KEPT))
            await spool.flush()
            for lane, extent in (await spool.extents()).items():
                _tell("ACK", lane.name, extent.next_no - 1)
            plain.write(f"{count}\n")
            plain.flush()
            _tell("PLAIN", count)


async def main() -> None:
    """Tells what is there, and goes on until the power is cut."""
    plain = _DISK / "plain"
    # A file that was never flushed may have the length of what was written and nothing in it.
    lines = plain.read_bytes().replace(b"\0", b"").split() if plain.exists() else []
    _tell("PLAINFOUND", len(lines))
    plain.unlink(missing_ok=True)
    limits = SpoolLimits(max_bytes=64 << 20, buffer_bytes=4 << 20, commit_interval_s=0.01)
    spool = Spool(_DISK / "spool", limits, _now_ms, lambda device, gap: gap_batch(device, Gap(0, 0, gap.reason), 0))
    await spool.start()
    await _tell_found(spool)
    await _fill(spool)


asyncio.run(main())
