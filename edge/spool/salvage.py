"""What can still be read of a spool that was set aside, a little at a time, and what is lost with the rest. No commits.

Whoever calls keeps what a step brought and how far it has come in one commit of the new spool: then a kill costs
nothing and repeats nothing.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Final

from contract.delivery import Gap
from edge.batch import Batch
from edge.lane import Lane
from edge.spool.schema import TABLES, dated_table
from edge.spool.sequence import KeptBatch

if TYPE_CHECKING:
    from edge.spool.sequence import StoredBatch
    from edge.spool.wreck import Wreck

_STEP_BATCHES: Final = 64
_STEP_BYTES: Final = 1 << 19
_STEP_S: Final = 0.02
_CORRUPT: Final = "spool corrupt"


@dataclass(slots=True)
class Haul:
    """What one step brought."""

    kept: list[KeptBatch] = field(default_factory=list)
    undated: list[Batch] = field(default_factory=list)
    gaps: list[tuple[str, Gap]] = field(default_factory=list)
    size_bytes: int = 0

    @property
    def is_full(self) -> bool:
        """Whether it is enough for one commit."""
        return len(self.kept) + len(self.undated) >= _STEP_BATCHES or self.size_bytes >= _STEP_BYTES


@dataclass(slots=True)
class Salvage:
    """How far the salvage of one file has come.

    Of each device, in ms as its batches say: from when on readings may be missing (`since`), until when they are there
    in any table (`latest`) and in the one that is being read (`until`), since when they are missing in the present
    hole (`hole`), and since when for good (`missing`). `to_ms` is when the file was set aside.
    """

    name: str
    since: dict[str, int]
    to_ms: int
    table_no: int = 0
    next_no: int = 0
    end_no: int = 0
    is_certain: bool = True
    salvaged: int = 0
    lost: int = 0
    latest: dict[str, int] = field(default_factory=dict)
    until: dict[str, int] = field(default_factory=dict)
    hole: dict[str, int] = field(default_factory=dict)
    missing: dict[str, int] = field(default_factory=dict)

    def to_json(self) -> str:
        """For the new spool to keep."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Salvage:
        """What `to_json` wrote."""
        return cls(**json.loads(text))

    @property
    def is_done(self) -> bool:
        """Whether all was read, and all that is lost declared."""
        return self.table_no > len(TABLES)

    def given_up(self) -> Salvage:
        """Nothing more is read: all that may have been there is lost."""
        return replace(self, table_no=len(TABLES), lost=self.lost + 1)

    def step(self, wreck: Wreck) -> Haul:
        """Reads on for a moment."""
        haul = Haul()
        until_s = time.monotonic() + _STEP_S
        while self.table_no < len(TABLES) and not haul.is_full and time.monotonic() < until_s:
            if not self.next_no:
                self._enter(wreck)
            elif self.next_no >= self.end_no:
                self._leave()
            else:
                self._read(wreck, haul)
        if self.table_no == len(TABLES):
            haul.gaps += [(device, self._rest(device)) for device in sorted(self._devices())]
            self.table_no += 1
        return haul

    def _enter(self, wreck: Wreck) -> None:
        table = TABLES[self.table_no]
        numbers = wreck.numbers(table)
        self.is_certain = numbers is not None
        if numbers is None:
            numbers = wreck.found(table)
            self._open_hole()
        self.next_no, self.end_no = max(1, numbers.start), numbers.stop

    def _leave(self) -> None:
        if not self.is_certain:
            self.lost += 1
            self._open_hole()
        for device, since_ms in self.hole.items():
            self.missing[device] = min(since_ms, self.missing.get(device, since_ms))
        self.until, self.hole = {}, {}
        self.table_no, self.next_no = self.table_no + 1, 0

    def _read(self, wreck: Wreck, haul: Haul) -> None:
        table = TABLES[self.table_no]
        stored = wreck.read(table, self.next_no)
        self.next_no += 1
        if stored is None:
            self.lost += 1
            self._open_hole()
            return
        self.salvaged += 1
        haul.size_bytes += len(stored.payload)
        lane = next((lane for lane in Lane if dated_table(lane) == table), None)
        if lane is None:
            # In which boot it was kept is not known for certain: the times will be estimates.
            haul.undated.append(_batch(stored, Lane.BACKFILL))
            return
        if (since_ms := self.hole.pop(stored.device, None)) is not None:
            haul.gaps.append((stored.device, Gap(since_ms, max(since_ms, stored.from_ms), _CORRUPT)))
        for known in (self.latest, self.until):
            known[stored.device] = max(stored.to_ms, known.get(stored.device, stored.to_ms))
        haul.kept.append(KeptBatch(_batch(stored, lane if lane is Lane.IMAGE else Lane.BACKFILL), stored.kept_ms))

    def _open_hole(self) -> None:
        for device in self._devices():
            since_ms = self.until.get(device, self.since.get(device, min(self.since.values(), default=0)))
            self.hole.setdefault(device, since_ms)

    def _rest(self, device: str) -> Gap:
        """What was read after the last batch that is there; how long that went on nobody knows."""
        since_ms = self.missing.get(device, self.latest.get(device, self.since.get(device, self.to_ms)))
        return Gap(since_ms, self.to_ms, _CORRUPT)

    def _devices(self) -> set[str]:
        return set(self.since) | set(self.latest)


def _batch(stored: StoredBatch, lane: Lane) -> Batch:
    return Batch(stored.device, stored.payload, stored.from_ms, stored.to_ms, lane)
