"""An open Modbus line: polls the units on it, the living ones first, and writes what may be written."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from edge.errors import SourceError
from edge.sources.base import Source
from edge.sources.modbus.asking import Asking, Poll
from edge.sources.modbus.blocks import Block
from edge.sources.modbus.budget import POLL_SHARE, SILENT_SHARE
from edge.sources.modbus.fault_log import FaultLog
from edge.sources.modbus.faults import ModbusFault, NoAnswer
from edge.sources.modbus.framing import read_request, write_coil_request, write_registers_request
from edge.sources.modbus.unit import Unit
from edge.sources.modbus.writing import encode_bit, encode_registers

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from contract.datatypes import Value
    from edge.reading import Reading
    from edge.sources.base import Clock
    from edge.sources.modbus.asking import Outcome
    from edge.sources.modbus.config import ModbusConfig
    from edge.sources.modbus.framing import Request
    from edge.sources.modbus.line import ModbusLine
    from edge.sources.modbus.points import PointConfig

logger = logging.getLogger(__name__)

# Of a poll's time, for one answer at most: the first unit that is dead must not use it up.
_ONE_REQUEST: Final = 0.3


class ModbusSource(Source):
    """An open Modbus line."""

    def __init__(self, config: ModbusConfig, line: ModbusLine, now_ms: Clock) -> None:
        self._config = config
        self._line = line
        self._now_ms = now_ms
        self._where = f"modbus {config.line_name}"
        self._fault_log = FaultLog(config.name, self._where)
        self._units = [Unit(config.unit_plan(unit), config.unit_timing(unit)) for unit in config.units]
        self._writable = {
            point.name: (unit, point)
            for unit in self._units
            for point in unit.experience.plan.points
            if point.write is not None
        }
        self._is_polling = False
        self._poll_s = 0.0

    async def poll(self) -> list[Reading]:
        """Every point of every unit, once; raises SourceError when the line is down or no unit answers at all."""
        started = asyncio.get_running_loop().time()
        budget_s = self._config.timeout_s * POLL_SHARE
        request_timeout_s = min(self._config.request_timeout_s, budget_s * _ONE_REQUEST)
        poll = Poll(self._line, self._now_ms, started + budget_s, request_timeout_s)
        self._is_polling = True
        try:
            outcomes = await self._ask_all(poll, started)
        finally:
            self._is_polling = False
            self._release()
        self._poll_s = asyncio.get_running_loop().time() - started
        self._check_that_anything_answered(poll, outcomes)
        faults = {place: reason for outcome in outcomes for place, reason in outcome.faults.items()}
        self._fault_log.tell(faults, asyncio.get_running_loop().time())
        return [reading for outcome in outcomes for reading in outcome.readings]

    async def _ask_all(self, poll: Poll, started: float) -> list[Outcome]:
        share_s = SILENT_SHARE * self._config.interval_s
        everybody = [Asking(unit, poll) for unit in self._units]
        living = [asking for asking in everybody if not asking.unit.is_silent]
        living.sort(key=lambda asking: -asking.passed_over)
        for asking in living:
            await asking.go_on()
        for asking in living:
            while await asking.go_on():
                pass
        for asking in living:
            await asking.look_again(min(poll.request_timeout_s, max(share_s, asking.unit.patience_s)))
        anybody = any(asking.outcome.answered for asking in living)
        if not anybody:
            for asking in living:
                await asking.try_less(poll.request_timeout_s)
        await self._probe([asking for asking in everybody if asking.unit.is_silent], poll, started, anybody=anybody)
        return [asking.end() for asking in everybody]

    async def _probe(self, silent: list[Asking], poll: Poll, started: float, *, anybody: bool) -> None:
        """Ask silent units, those first that wait longest; where others are alive, only for a share of the interval."""
        loop = asyncio.get_running_loop()
        share_s = SILENT_SHARE * self._config.interval_s
        begun = loop.time()
        for asking in sorted(silent, key=lambda asking: asking.unit.due):
            now = loop.time()
            if asking.unit.due > now or (anybody and now - begun >= share_s):
                break
            wait_s = poll.request_timeout_s
            if anybody:
                rest_s = POLL_SHARE * self._config.interval_s - (now - started)
                wait_s = min(wait_s, asking.unit.probe_wait_s(share_s - (now - begun), rest_s))
            await asking.probe(wait_s)

    def _check_that_anything_answered(self, poll: Poll, outcomes: Sequence[Outcome]) -> None:
        # A unit for which there was no time is not silent: it will be the first to be asked next time.
        if any(outcome.answered for outcome in outcomes):
            return
        if poll.line_fault is None and not all(unit.is_silent for unit in self._units):
            return
        for unit in self._units:
            unit.ask_at_once()  # the agent's back-off takes over
        place, reason = next((item for outcome in outcomes for item in outcome.faults.items()), ("", poll.line_fault))
        raise SourceError(f"{self._where}: nothing answered; {place}: {reason}")

    def _release(self) -> None:
        if self._config.release and not self._is_polling:
            self._line.release()

    # Writing

    async def write(self, metric: str, value: Value) -> Reading:
        """Sets a point, before all reads that are still to come, and reads it back; raises SourceError."""
        if metric not in self._writable:
            raise SourceError(f"{metric} cannot be written: the configuration does not allow it (`write`)")
        unit, point = self._writable[metric]
        request = _write_request(unit.unit_id, point, value)
        block = Block(unit.unit_id, point.table, (point,))
        check = read_request(block.unit_id, block.table, block.address, block.count)
        where = f"{self._where} unit {unit.unit_id} {block.where}"
        try:
            data = await self._line.write(request, check, self._config.request_timeout_s, pause_s=unit.timing.pause_s)
        except NoAnswer as exc:
            raise SourceError(f"{where}: {exc}: whether it was written is not known") from exc
        except ModbusFault as exc:
            raise SourceError(f"{where}: {exc}") from exc
        finally:
            self._release()
        readings, faults = block.readings(data, self._now_ms())
        for _, reason in faults:
            extra = {"source": self._config.name}
            logger.warning("%s: %s: was written, and %s", self._config.name, where, reason, extra=extra)
        return readings[0]

    # Telling

    def details(self) -> Mapping[str, float | str]:
        """Requests of a poll, how much of the interval they took, what was learned and what was passed over."""
        experiences = [(unit.unit_id, unit.experience) for unit in self._units]
        bad = [f"unit {unit_id} {address}" for unit_id, known in experiences for address in known.bad_addresses]
        return {
            "requests_per_poll": sum(len(known.pieces) for _, known in experiences),
            "line_occupancy_ratio": round(self._poll_s / self._config.interval_s, 4),
            "silent_units": sum(unit.is_silent for unit in self._units),
            "bad_addresses": len(bad),
            "bad_address_list": ", ".join(bad),
            "skipped_frames": self._line.skipped,
            "connections": self._line.connections,
        }


def _write_request(unit_id: int, point: PointConfig, value: Value) -> Request:
    assert point.write is not None
    if point.table == "coil":
        on = encode_bit(point, value)
        return write_coil_request(unit_id, point.address, value=on, multiple=point.write.multiple)
    registers = encode_registers(point, value)
    return write_registers_request(unit_id, point.address, registers, multiple=point.write.multiple)
