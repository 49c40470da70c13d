"""Commands (NCMD, DCMD) carried out and answered: a reload, and writes to points that the configuration calls writable.

What comes from the broker is not trusted. A metric that is not there or not writable, a value that its type cannot
hold, and a command whose own time is not about now are refused: a broker that replays a session must move no valve.
A source's commands run one after another, beside its polls; nothing here waits for another source.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import OrderedDict, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from contract.commands import COMMAND_ID, NODE_COMMANDS, RELOAD, CommandAnswer, command_id
from contract.datatypes import INTEGERS, TEXTS, DataType
from contract.sparkplug import REBIRTH
from edge.batch import NODE
from edge.errors import EdgeError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from contract.datatypes import Value
    from contract.sparkplug import Metric, Payload
    from edge.reading import MetricInfo, Reading

logger = logging.getLogger(__name__)

MAX_WAITING: Final = 16
_MAX_IN_PAYLOAD: Final = 16
# Far more than sources can carry out while a command is young enough to be repeated.
_REMEMBERED: Final = 4096
_MS_PER_S: Final = 1000
# Refusals at the door, which cost a sender nothing: so many a second are answered, in bursts of as many seconds.
_REFUSALS_PER_S: Final = 5.0
_BURST_S: Final = 4.0
_SHOWN_CHARACTERS: Final = 80
_NAMED_CHARACTERS: Final = 256
_REASON_CHARACTERS: Final = 500
_STOPPING: Final = "the agent is stopping"


class Writable(Protocol):
    """What writes are carried out on: the sources."""

    def metrics_of(self, device: str) -> Sequence[MetricInfo] | None:
        """The metrics of a source, None where there is no such source."""

    async def write(self, device: str, metric: str, value: Value) -> Reading:
        """Sets a metric and reads it back; raises EdgeError or TimeoutError."""


@dataclass(frozen=True, slots=True)
class _Order:
    device: str
    metric: Metric
    command_id: str | None

    @property
    def key(self) -> int:
        """What two deliveries of one command have in common; a number, for a stranger's texts can be long."""
        # The value as it is spelt: the hashes of -1 and -2 are one, and so are those of 1 and True.
        value = repr(self.metric.value)
        return hash((self.device, self.metric.name, self.metric.timestamp_ms, self.command_id, value))

    @property
    def shown(self) -> str:
        name = f"{self.device}/{self.metric.name}" if self.device else self.metric.name
        with_id = f" (id {_short(self.command_id)})" if self.command_id else ""
        return f"command {_short(name)}{with_id}"


class Commands:
    """Takes commands by `submit`; `answer` gets the device, what became of one, and the reading that a write brought.

    `reload` gives what it has left undone, or raises EdgeError. `max_age_s` is how far a command's own time may be from
    now, and `wall_ms` None while that is not known: an old command could then not be told from a new one.
    """

    def __init__(
        self,
        sources: Writable,
        reload: Callable[[], Awaitable[str | None]],
        answer: Callable[[str, CommandAnswer, Reading | None], None],
        wall_ms: Callable[[], int | None],
        max_age_s: float,
    ) -> None:
        self.done = 0
        self.refused = 0
        self.unanswered = 0
        self._sources = sources
        self._reload = reload
        self._answer = answer
        self._wall_ms = wall_ms
        self._max_age_s = max_age_s
        self._waiting: dict[str, deque[_Order]] = {}
        self._workers: dict[str, asyncio.Task[None]] = {}
        self._answers: OrderedDict[int, CommandAnswer | None] = OrderedDict()
        self._closing = False
        self._allowance = _REFUSALS_PER_S * _BURST_S
        self._allowed_at_s = time.monotonic()

    def submit(self, device: str, payload: Payload) -> None:
        """Takes a command to a device, or to `NODE`; returns at once, and what comes of it is answered."""
        sent_id = command_id(payload.metrics)
        # Of a device that is not there nothing is kept: anybody could name a million of them.
        if device != NODE and self._sources.metrics_of(device) is None:
            name = next((metric.name for metric in payload.metrics if metric.name != COMMAND_ID), "")
            self._refuse_at_door(NODE, name, sent_id, f"there is no device {_short(device)}")
            return
        orders = [
            _Order(device, metric, sent_id) for metric in payload.metrics if metric.name not in {COMMAND_ID, REBIRTH}
        ]
        if payload.rejected:
            rejected = payload.rejected[0]
            self._refuse_at_door(device, rejected.name, sent_id, f"is not understood: {rejected.reason}")
        elif len(orders) > _MAX_IN_PAYLOAD:
            reason = f"{len(orders)} commands in one message: {_MAX_IN_PAYLOAD} are allowed"
            self._refuse_at_door(device, orders[0].metric.name, sent_id, reason)
        else:
            for order in orders:
                self._take(order)

    async def close(self, within_s: float) -> None:
        """Refuses what waits, and lets what is being carried out end, or cuts it off after so many seconds."""
        self._closing = True
        for waiting in self._waiting.values():
            while waiting:
                self._settle(waiting.popleft(), reason=_STOPPING)
        if workers := list(self._workers.values()):
            _, late = await asyncio.wait(workers, timeout=within_s)
            for worker in late:
                worker.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    def _take(self, order: _Order) -> None:
        if order.key in self._answers:
            self._answer_again(order)
            return
        waiting = self._waiting.setdefault(order.device, deque())
        if reason := self._no_room(waiting):
            self._refuse_at_door(order.device, order.metric.name, order.command_id, reason)
            return
        self._answers[order.key] = None
        while len(self._answers) > _REMEMBERED:
            self._answers.popitem(last=False)
        waiting.append(order)
        if order.device not in self._workers:
            worker = asyncio.create_task(self._work(order.device), name=f"commands {order.device}")
            self._workers[order.device] = worker

    def _no_room(self, waiting: deque[_Order]) -> str | None:
        if self._closing:
            return _STOPPING
        return f"{MAX_WAITING} commands wait already" if len(waiting) >= MAX_WAITING else None

    async def _work(self, device: str) -> None:
        """Carries out a device's commands in turn, and ends when none waits."""
        waiting = self._waiting[device]
        try:
            while waiting:
                await self._carry_out(waiting.popleft())
        finally:
            del self._workers[device], self._waiting[device]

    async def _carry_out(self, order: _Order) -> None:
        try:
            self._check(order)
            if order.device == NODE:
                self._settle(order, await self._reload())
            else:
                read_back = await self._sources.write(order.device, order.metric.name, order.metric.value)
                self._settle(order, read_back.value, read_back)
        except TimeoutError:
            self._settle(order, reason="no answer in time: it is not known whether it was carried out")
        except asyncio.CancelledError:
            self._settle(order, reason="the agent stopped: it is not known whether it was carried out")
            raise
        except EdgeError as exc:
            self._settle(order, reason=str(exc))
        except Exception as exc:
            logger.exception("unexpected, please report; going on")
            self._settle(order, reason=f"unexpected {type(exc).__name__}: {exc}")

    def _settle(
        self, order: _Order, value: Value = None, read_back: Reading | None = None, *, reason: str | None = None
    ) -> None:
        """Tells, remembers and answers what became of a command; `reason`: why it was not done."""
        name, done = order.metric.name[:_NAMED_CHARACTERS], reason is None
        cut = None if reason is None else reason[:_REASON_CHARACTERS]
        answer = CommandAnswer(name, done, order.command_id, _plain(value), cut)
        self._tell(order, answer)
        self._answers[order.key] = answer
        self._answer(order.device, answer, read_back)

    def _check(self, order: _Order) -> None:
        """Raises EdgeError for a command that must not be carried out."""
        if (wall_ms := self._wall_ms()) is None:
            raise EdgeError("the device does not yet know the time, and whether this is an old command")
        age_s = (wall_ms - order.metric.timestamp_ms) / _MS_PER_S
        if abs(age_s) > self._max_age_s:
            raise EdgeError(
                f"its own time is {abs(age_s):.0f} s {'ago' if age_s > 0 else 'ahead'}, allowed are "
                f"{self._max_age_s:g} s: an old command is not carried out; do the clocks agree?"
            )
        if order.device == NODE:
            _check_node_command(order.metric)
        else:
            check_write(self._sources.metrics_of(order.device), order.metric)

    def _tell(self, order: _Order, answer: CommandAnswer) -> None:
        told_of = {"source": order.device, "command_id": order.command_id}
        if answer.done:
            self.done += 1
            logger.info("%s: %s is done", order.shown, _short(repr(order.metric.value)), extra=told_of)
        else:
            self.refused += 1
            logger.warning("%s: %s", order.shown, answer.reason, extra=told_of)

    def _answer_again(self, order: _Order) -> None:
        """Delivered twice, carried out once: the broker repeats what it has no PUBACK for."""
        if (answer := self._answers[order.key]) is not None and self._may_answer():
            self._answer(order.device, answer, None)

    def _refuse_at_door(self, device: str, name: str, sent_id: str | None, reason: str) -> None:
        self.refused += 1
        logger.warning("command %s: %s", _short(name), reason, extra={"source": device, "command_id": sent_id})
        if self._may_answer():
            self._answer(device, CommandAnswer(name[:_NAMED_CHARACTERS], False, sent_id, None, reason), None)  # noqa: FBT003 - not done

    def _may_answer(self) -> bool:
        now_s = time.monotonic()
        earned = (now_s - self._allowed_at_s) * _REFUSALS_PER_S
        self._allowance, self._allowed_at_s = min(self._allowance + earned, _REFUSALS_PER_S * _BURST_S), now_s
        if self._allowance < 1:
            self.unanswered += 1
            return False
        self._allowance -= 1
        return True


def check_write(metrics: Sequence[MetricInfo] | None, wanted: Metric) -> None:
    """Raises EdgeError unless one of the metrics is writable and its type holds the value."""
    info = next((metric for metric in metrics or () if metric.name == wanted.name), None)
    if info is None:
        raise EdgeError("there is no such metric")
    if not info.writable:
        raise EdgeError("the configuration does not allow to write it")
    if not _holds(info.datatype, wanted.value):
        raise EdgeError(f"{_short(repr(wanted.value))} is no {info.datatype.name}")


def _holds(datatype: DataType, value: Value) -> bool:
    match value:
        case bool():
            return datatype is DataType.BOOLEAN
        case int() if datatype in INTEGERS:
            return INTEGERS[datatype].low <= value <= INTEGERS[datatype].high
        case int() | float():
            return datatype in {DataType.FLOAT, DataType.DOUBLE} and math.isfinite(value)
        case str():
            return datatype in TEXTS
        case _:
            return False


def _check_node_command(wanted: Metric) -> None:
    if wanted.name != RELOAD:
        raise EdgeError(f"is no command; there are {', '.join(NODE_COMMANDS)}")
    if wanted.value is not True:
        raise EdgeError(f"{_short(repr(wanted.value))} asks for nothing: send true")


def _plain(value: Value) -> float | str | None:
    """A value as JSON can carry it."""
    match value:
        case float() if not math.isfinite(value):
            return None
        case bool() | int() | float() | str() | None:
            return value
        case _:
            return _short(repr(value))


def _short(text: str | None) -> str:
    """A stranger's text on one line of a log."""
    shown = repr(text or "")[1:-1]
    return shown if len(shown) <= _SHOWN_CHARACTERS else f"{shown[: _SHOWN_CHARACTERS - 3]}..."
