"""One poll of one unit: every block asked once, and what goes wrong kept to the points it concerns."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from contract.sparkplug import Quality
from edge.reading import Reading
from edge.sources.modbus.faults import ModbusFault, NoConnection, NoTime, Refusal
from edge.sources.modbus.framing import read_request
from edge.sources.modbus.pieces import Piece

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edge.sources.base import Clock
    from edge.sources.modbus.blocks import Block, Forbidden
    from edge.sources.modbus.framing import Request
    from edge.sources.modbus.line import ModbusLine
    from edge.sources.modbus.pieces import Split
    from edge.sources.modbus.points import PointConfig
    from edge.sources.modbus.unit import Unit

# Polls in a row in which a block alone brings nothing, after which its addresses are suspected; then a point's.
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
        self._pending = deque(sorted(self._known.pieces, key=lambda piece: piece.turn))
        for piece in self._pending:
            piece.unread += 1
        self._bad = [(point, self._known.bad_points[point.name].reason) for point in self._known.spoiled]
        self._busy: list[tuple[Piece, Refusal, float]] = []
        self._failed: list[tuple[Piece, ModbusFault]] = []
        self._blameless: list[Split] = []
        self._misses: list[tuple[str, str]] = []  # where, why
        self._has_read = False

    @property
    def passed_over(self) -> int:
        """For how many polls there has been no time for something of it."""
        return max((piece.passed_over for piece in self._pending), default=0)

    async def go_on(self) -> bool:
        """Ask for what is pending until something is not answered; whether that, and the way there, was worth while."""
        asked, misses = 0, len(self._misses)
        while self._pending and len(self._misses) == misses and self._poll.why_not() is None:
            await self._ask(self._pending.popleft(), self._poll.request_timeout_s)
            asked += 1
        return bool(self._pending) and asked > 1

    async def probe(self, wait_s: float) -> None:
        """Ask a silent unit for as little as can be, and if it answers, anything, for all the rest too."""
        if self._poll.why_not() is not None:
            return
        block, read = self.unit.probe_block(), None
        answer = await self._answer(Piece(block).request, block.where, wait_s)
        if not self.outcome.answered:
            return
        self.outcome = Outcome(answered=True)
        if isinstance(answer, bytes):
            self._take(block, answer)
            read = self._known.split_off(block, [piece for piece, _ in self._failed])
            self._bad = [(point, reason) for point, reason in self._bad if point.name in self._known.bad_points]
        self._pending = deque(piece for piece in self._known.pieces if piece is not read)
        await self.go_on()
        await self._ask_busy_again()
        await self._explain(wait_s)

    async def try_less(self, wait_s: float) -> None:
        """Where nothing was answered, ask for one point: the device may bear that, and not what it was asked for."""
        if any(not piece.block.is_one_place for piece, _ in self._failed):
            await self.probe(wait_s)

    async def look_again(self, wait_s: float) -> None:
        """What can wait until every unit was read: the busy, what halves do not explain, and one thing that was bad."""
        await self._ask_busy_again()
        await self._explain(wait_s)
        if self._poll.why_not() is None and (self.outcome.answered or not self._known.pieces):
            await self._recheck(wait_s)

    def end(self) -> Outcome:
        """All that came of it, once nothing more is asked."""
        unit, outcome, at_ms = self.unit, self.outcome, self._poll.now_ms()
        for piece in self._pending:
            piece.passed_over += 1
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
        piece.passed_over = piece.passed_over + 1 if isinstance(answer, NoTime) else 0
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
                piece.failures += 1
                self._failed.append((piece, answer))

    async def _ask_busy_again(self) -> None:
        """Ask the busy once more, and at once what that leads to; those for which there is no time stay busy."""
        busy, self._busy = self._busy, []
        for piece, refusal, at in busy:
            due = at + (self.unit.timing.busy_retry_s or 0.0)
            if due >= self._poll.until:
                self._spoil(piece.block, str(refusal))
                continue
            await asyncio.sleep(due - asyncio.get_running_loop().time())
            await self._ask(piece, self._poll.request_timeout_s, again=True)
        if busy:
            await self.go_on()
        for piece, refusal, _ in self._busy:
            self._spoil(piece.block, str(refusal))

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
        self._has_read = True
        readings, faults = block.readings(data, self._poll.now_ms())
        self.outcome.readings += readings
        for point, reason in faults:
            self.outcome.faults[self._place(point)] = reason

    def _refused(self, piece: Piece, refusal: Refusal, *, again: bool) -> None:
        if refusal.is_about_addresses and not piece.block.is_one_place:
            self._pending.extendleft(reversed(self._known.split(piece)))
        elif refusal.is_about_addresses:
            self._known.blame(piece.block, str(refusal), self._now)
            for point in piece.block.points:
                self._spoil_point(point, str(refusal))
        elif refusal.is_for_now and self.unit.timing.busy_retry_s is not None and not again:
            self._busy.append((piece, refusal, asyncio.get_running_loop().time()))
        else:
            self._spoil(piece.block, str(refusal))
            if not refusal.is_for_now:
                self._failed.append((piece, refusal))

    # Learning

    async def _explain(self, wait_s: float) -> None:
        while self._blameless:
            await self._explain_one(self._blameless.pop(), wait_s)

    async def _explain_one(self, split: Split, wait_s: float) -> None:
        """All parts were answered: the addresses between them are to blame, or that it was too much at once."""
        for gap in split.gaps:
            if self._poll.why_not() is not None:
                return
            answer = await self._try_gap(gap, wait_s)
            if not isinstance(answer, bytes):
                if _is_about_addresses(answer):
                    self._known.blame_gap(gap, str(answer), self._now)
                return
        self._known.blame_whole(split, self._now)

    async def _try_gap(self, gap: Forbidden, wait_s: float) -> bytes | ModbusFault:
        request = read_request(self.unit.unit_id, gap.table, gap.first, gap.last - gap.first + 1)
        return await self._answer(request, f"{gap.table} {gap.first}-{gap.last}", wait_s)

    async def _recheck(self, wait_s: float) -> None:
        """Try one thing again that was bad."""
        known, now = self._known, self._now
        known.doubt_sizes(now)
        if (place := known.due_place(now)) is not None:
            answer = await self._answer(Piece(place).request, place.where, wait_s)
            if isinstance(answer, bytes):
                self._take(place, answer)
                known.absolve(place)
                self._bad = [(point, reason) for point, reason in self._bad if point not in place.points]
            else:
                reason = known.bad_points[place.points[0].name].reason
                known.blame(place, str(answer) if _is_about_addresses(answer) else reason, now)
        elif (gap := known.due_gap(now)) is not None:
            answer = await self._try_gap(gap, wait_s)
            if isinstance(answer, bytes):
                known.absolve_gap(gap)
            else:
                known.blame_gap(gap, str(answer), now)

    def _suspect(self) -> None:
        """A unit that answers something and brings nothing for something else: look for what it cannot bear."""
        for piece, fault in self._failed:
            if not fault.is_silence:
                piece.failures += self._has_read  # a unit that refuses everything has another trouble
            if piece.failures < _SUSPICIOUS or piece not in self._known.pieces:
                continue
            if not piece.block.is_one_place:
                self._known.split(piece)
            elif piece.failures >= _GUILTY:
                self._known.blame(piece.block, f"{fault}, alone of all the unit's", self._now)

    # Telling

    def _place(self, point: PointConfig) -> str:
        return f"{self._name} {point.table} {point.address} ({point.name})"

    def _spoil(self, block: Block, reason: str) -> None:
        self.outcome.spoil(block.points, self._poll.now_ms())
        self.outcome.faults[f"{self._name} {block.where}"] = reason

    def _spoil_point(self, point: PointConfig, reason: str) -> None:
        self.outcome.spoil((point,), self._poll.now_ms())
        self.outcome.faults[self._place(point)] = reason

    @property
    def _last_miss(self) -> str:
        return ": ".join(self._misses[-1])

    def _summary(self) -> dict[str, str]:
        """What is told: where all of the unit has the same fault, one line instead of one for each block."""
        faults, outcome = self.outcome.faults, self.outcome
        if not outcome.answered and (why := self._poll.line_fault or self.unit.silence):
            return {self._name: why}
        if self._pending:
            return faults | {self._name: self._poll.why_not() or self._last_miss}
        reasons = set(faults.values())
        if len(faults) > 1 and len(reasons) == 1 and all(r.quality == Quality.BAD for r in outcome.readings):
            return {self._name: reasons.pop()}
        return faults


def _is_about_addresses(fault: ModbusFault) -> bool:
    """Whether a request may have failed because of what it asked for."""
    return fault.is_about_addresses if isinstance(fault, Refusal) else fault.is_silence
