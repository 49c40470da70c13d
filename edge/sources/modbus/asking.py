"""One poll of one unit: every block asked once, and what goes wrong kept to the points it concerns."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from contract.sparkplug import Quality
from edge.reading import Reading
from edge.sources.modbus.blocks import Block, Forbidden
from edge.sources.modbus.faults import ModbusFault, NoConnection, NoTime, Refusal
from edge.sources.modbus.framing import read_request
from edge.sources.modbus.learning import Piece

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edge.sources.base import Clock
    from edge.sources.modbus.framing import Request
    from edge.sources.modbus.learning import Split
    from edge.sources.modbus.line import ModbusLine
    from edge.sources.modbus.points import PointConfig
    from edge.sources.modbus.unit import Unit

# Polls in a row in which a block alone is not answered, after which its addresses are suspected; then a point's.
_SUSPICIOUS: Final = 2
_GUILTY: Final = 3


@dataclass(slots=True)
class Poll:
    """One poll of the line: its time (of the event loop), and whether there is a line."""

    line: ModbusLine
    now_ms: Clock
    until: float
    request_timeout_s: float
    line_fault: str | None = None

    def why_not(self) -> str | None:
        """Why nothing more is asked in this poll, if so."""
        if self.line_fault is None and asyncio.get_running_loop().time() >= self.until:
            return str(NoTime())
        return self.line_fault


@dataclass(slots=True)
class Outcome:
    """What one poll of one unit brought."""

    answered: bool = False  # an exception code is an answer, unless it is a gateway's
    readings: list[Reading] = field(default_factory=list)
    faults: dict[str, str] = field(default_factory=dict)  # place -> reason, the same words as long as it lasts

    def spoil(self, points: Sequence[PointConfig], at_ms: int) -> None:
        """Readings without value."""
        self.readings += [Reading(point.name, point.metric_type, None, at_ms, Quality.BAD) for point in points]


class Asking:
    """One poll of one unit while it goes on."""

    def __init__(self, unit: Unit, poll: Poll) -> None:
        self.outcome = Outcome()
        self._now = asyncio.get_running_loop().time()  # the same for all that is learned: it belongs together
        self.unit, self._poll, self._known = unit, poll, unit.experience
        self._name = f"unit {unit.unit_id}"
        # What has been silent comes last: it may use up the patience.
        self._pending = deque(sorted(self._known.pieces, key=lambda piece: piece.silences))
        self._bad = [(point, self._known.bad_points[point.name].reason) for point in self._known.spoiled]
        self._busy: list[tuple[Piece, float]] = []
        self._silent: list[tuple[Piece, str]] = []
        self._blameless: list[Split] = []
        self._misses: list[tuple[str, str]] = []  # where, why

    async def go_on(self) -> bool:
        """Ask for what is pending until something is not answered; whether that, and the way there, was worth while."""
        asked, misses = 0, len(self._misses)
        while self._pending and len(self._misses) == misses and self._poll.why_not() is None:
            await self._ask(self._pending.popleft(), self._poll.request_timeout_s)
            asked += 1
        return bool(self._pending) and asked > 1

    async def probe(self, wait_s: float) -> None:
        """Ask a silent unit for one point, and if it answers for all the others too."""
        point = self.unit.probe_point()
        if point is None or self._poll.why_not() is not None:
            return
        block = Block(self.unit.unit_id, point.table, (point,))
        answer = await self._answer(Piece(block).request, block.where, wait_s)
        if isinstance(answer, bytes):
            self.outcome = Outcome(answered=True)
            self._take(block, answer)
            read = self._known.split_off(point)
            self._pending = deque(piece for piece in self._known.pieces if piece is not read)
            await self.go_on()

    async def try_less(self, wait_s: float) -> None:
        """Where nothing was answered, ask for one point: the device may bear that, and not what it was asked for."""
        if any(len(piece.block.points) > 1 for piece, _ in self._silent):
            await self.probe(wait_s)

    async def look_again(self, wait_s: float) -> None:
        """What can wait until every unit was read: the busy, what halves do not explain, and one thing that was bad."""
        for piece, at in self._busy:
            await asyncio.sleep(at + (self.unit.timing.busy_retry_s or 0.0) - asyncio.get_running_loop().time())
            await self._ask(piece, self._poll.request_timeout_s, again=True)
        for split in self._blameless:
            await self._explain(split, wait_s)
        if self._poll.why_not() is None and (self.outcome.answered or not self._known.pieces):
            await self._recheck(wait_s)

    def end(self) -> Outcome:
        """All that came of it, once nothing more is asked."""
        unit, outcome, at_ms = self.unit, self.outcome, self._poll.now_ms()
        for piece in self._pending:
            outcome.spoil(piece.block.points, at_ms)
        for point, reason in self._bad:
            self._spoil_point(point, reason)
        if outcome.answered:
            unit.heard()
            self._suspect()
        elif self._misses:
            unit.fell_silent(": ".join(self._misses[0]), asyncio.get_running_loop().time())
        self._known.settle()
        outcome.faults = self._summary()
        return outcome

    # One request

    async def _ask(self, piece: Piece, wait_s: float, *, again: bool = False) -> None:
        answer = await self._answer(piece.request, piece.block.where, wait_s)
        if isinstance(answer, bytes):
            self._take(piece.block, answer)
            split = self._known.answered(piece)
            if split is not None:
                self._blameless.append(split)
        elif isinstance(answer, Refusal) and not answer.is_silence:
            self._refused(piece, answer, again=again)
        else:
            self._spoil(piece.block, str(answer))
            if answer.is_silence:
                piece.silences += 1
                self._silent.append((piece, str(answer)))

    async def _answer(self, request: Request, where: str, wait_s: float) -> bytes | ModbusFault:
        """What was answered, or why there is nothing."""
        loop = asyncio.get_running_loop()
        started, poll, unit = loop.time(), self._poll, self.unit
        try:
            data = await poll.line.read(request, wait_s, pause_s=unit.timing.pause_s, until=poll.until)
        except ModbusFault as exc:
            if isinstance(exc, NoConnection):
                poll.line_fault = str(exc)
            if exc.is_silence:
                self._misses.append((where, str(exc)))
            self.outcome.answered |= isinstance(exc, Refusal) and not exc.is_silence
            return exc
        self.outcome.answered = True
        unit.answered_after(loop.time() - started)
        return data

    def _take(self, block: Block, data: bytes) -> None:
        readings, faults = block.readings(data, self._poll.now_ms())
        self.outcome.readings += readings
        for point, reason in faults:
            self.outcome.faults[self._place(point)] = reason

    def _refused(self, piece: Piece, refusal: Refusal, *, again: bool) -> None:
        points = piece.block.points
        if refusal.is_about_addresses and len(points) > 1:
            self._pending.extendleft(reversed(self._known.split(piece)))
        elif refusal.is_about_addresses:
            self._known.blame_point(points[0], str(refusal), self._now)
            self._spoil_point(points[0], str(refusal))
        elif refusal.is_for_now and self.unit.timing.busy_retry_s is not None and not again:
            self._busy.append((piece, asyncio.get_running_loop().time()))
        else:
            self._spoil(piece.block, str(refusal))

    # Learning

    async def _explain(self, split: Split, wait_s: float) -> None:
        """Both halves were answered: the addresses between them are to blame, or that it was too much at once."""
        gap = split.gap
        if gap is None:
            self._known.blame_whole(split, self._now)
        elif self._poll.why_not() is None:
            answer = await self._try_gap(gap, wait_s)
            if isinstance(answer, bytes):
                self._known.blame_whole(split, self._now)
            elif _is_about_addresses(answer):
                self._known.blame_gap(gap, str(answer), self._now)

    async def _try_gap(self, gap: Forbidden, wait_s: float) -> bytes | ModbusFault:
        request = read_request(self.unit.unit_id, gap.table, gap.first, gap.last - gap.first + 1)
        return await self._answer(request, f"{gap.table} {gap.first}-{gap.last}", wait_s)

    async def _recheck(self, wait_s: float) -> None:
        """Try one thing again that was bad."""
        known, now = self._known, self._now
        known.doubt_sizes(now)
        if (point := known.due_point(now)) is not None:
            block = Block(self.unit.unit_id, point.table, (point,))
            answer = await self._answer(Piece(block).request, block.where, wait_s)
            if isinstance(answer, bytes):
                self._take(block, answer)
                known.absolve(point)
                self._bad = [bad for bad in self._bad if bad[0] is not point]
            else:
                known.blame_point(point, str(answer), now)
        elif (gap := known.due_gap(now)) is not None:
            answer = await self._try_gap(gap, wait_s)
            if isinstance(answer, bytes):
                known.absolve_gap(gap)
            else:
                known.blame_gap(gap, str(answer), now)

    def _suspect(self) -> None:
        """A unit that answers something and is silent about something else: look for what it cannot bear."""
        for piece, reason in self._silent:
            points = piece.block.points
            if piece.silences < _SUSPICIOUS or piece not in self._known.pieces:
                continue
            if len(points) > 1:
                self._known.split(piece)
            elif piece.silences >= _GUILTY:
                self._known.blame_point(points[0], f"{reason}, alone of all the unit's", self._now)

    # Telling

    def _place(self, point: PointConfig) -> str:
        return f"{self._name} {point.table} {point.address} ({point.name})"

    def _spoil(self, block: Block, reason: str) -> None:
        self.outcome.spoil(block.points, self._poll.now_ms())
        self.outcome.faults[f"{self._name} {block.where}"] = reason

    def _spoil_point(self, point: PointConfig, reason: str) -> None:
        self.outcome.spoil((point,), self._poll.now_ms())
        self.outcome.faults[self._place(point)] = reason

    def _summary(self) -> dict[str, str]:
        """What is told: where all of the unit has the same fault, one line instead of one for each block."""
        faults, outcome = self.outcome.faults, self.outcome
        if not outcome.answered and (why := self._poll.line_fault or self.unit.silence):
            return {self._name: why}
        if self._pending:
            return faults | {self._name: self._poll.why_not() or ": ".join(self._misses[-1])}
        reasons = set(faults.values())
        if len(faults) > 1 and len(reasons) == 1 and all(r.quality == Quality.BAD for r in outcome.readings):
            return {self._name: reasons.pop()}
        return faults


def _is_about_addresses(fault: ModbusFault) -> bool:
    """Whether a request may have failed because of what it asked for."""
    return fault.is_about_addresses if isinstance(fault, Refusal) else fault.is_silence
