"""Commands to a node: sent with an id, and what the node says became of them."""

from __future__ import annotations

import math
import time
import uuid
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from contract.commands import ANSWER, COMMAND_ID, RELOAD, CommandAnswer
from contract.config import ConfigError
from contract.datatypes import INTEGERS, TEXTS, DataType
from contract.errors import CodecError, TopicError
from contract.sparkplug import REBIRTH, Metric, Payload, decode, encode
from contract.topics import MessageType, Topic, parse_topic

if TYPE_CHECKING:
    from contract.datatypes import Value
    from fleet.session import Message, Session

_MS_PER_S: Final = 1000
_INTEGER_BASE: Final = 10
TYPES: Final = {
    kind.name.lower(): kind for kind in (DataType.BOOLEAN, *INTEGERS, DataType.FLOAT, DataType.DOUBLE, DataType.STRING)
}
_WORDS: Final = {"true": True, "false": False}


@dataclass(frozen=True, slots=True)
class Order:
    """What a node, or one of its devices, shall do."""

    group: str
    node: str
    name: str
    datatype: DataType
    value: Value
    device: str | None = None

    @property
    def topic(self) -> str:
        """Where it goes; raises TopicError where nobody can be called so."""
        kind = MessageType.NCMD if self.device is None else MessageType.DCMD
        return str(Topic(self.group, kind, self.node, self.device))

    @property
    def answer_topics(self) -> list[str]:
        """Where the answer comes: births after a rebirth, else the node's data, or its device's."""
        if self.name == REBIRTH:
            return [str(Topic(self.group, MessageType.NBIRTH, self.node))]
        of_node = str(Topic(self.group, MessageType.NDATA, self.node))
        if self.device is None:
            return [of_node]
        return [of_node, str(Topic(self.group, MessageType.DDATA, self.node, self.device))]

    @property
    def shown(self) -> str:
        """What it is, for people."""
        where = f"{self.group}/{self.node}"
        if self.device is None:
            return f"{self.name.rpartition('/')[2].lower()} {where}"
        return f"write {self.value!r} ({self.datatype.name}) to {self.name} of {self.device} at {where}"


class State(StrEnum):
    """What became of a command."""

    DONE = "done"
    REFUSED = "refused"
    UNANSWERED = "unanswered"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a command, in the node's words; the node's log and the tables have it by its id."""

    state: State
    command_id: str
    value: object = None
    reason: str | None = None
    took_s: float | None = None


def rebirth(group: str, node: str) -> Order:
    """The node tells all its births again."""
    return Order(group, node, REBIRTH, DataType.BOOLEAN, value=True)


def reload(group: str, node: str) -> Order:
    """The node reads its configuration again."""
    return Order(group, node, RELOAD, DataType.BOOLEAN, value=True)


def value_of(text: str, kind: str | None) -> tuple[DataType, Value]:
    """A value as it was typed, of a type of `TYPES`, or of the one that it looks like; raises ConfigError."""
    datatype = TYPES[kind] if kind is not None else _look(text)
    try:
        match datatype:
            case DataType.BOOLEAN:
                return datatype, _WORDS[text.lower()]
            case DataType.FLOAT | DataType.DOUBLE:
                number = float(text)
                if not math.isfinite(number):
                    raise ValueError  # noqa: TRY301 - said below, as all that is wrong
                return datatype, number
            case _ if datatype in TEXTS:
                return datatype, text
        whole = int(text, _INTEGER_BASE)
    except (ValueError, KeyError):
        raise ConfigError(f"VALUE: found {text!r}, allowed: a value of type {datatype.name.lower()}") from None
    width = INTEGERS[datatype]
    if not width.low <= whole <= width.high:
        raise ConfigError(f"VALUE: found {text}, allowed: {datatype.name.lower()}, {width.low} to {width.high}")
    return datatype, whole


def carry_out(session: Session, order: Order, wait_s: float) -> Outcome:
    """Sends a command and waits for its answer; raises FleetError where it cannot be sent."""
    sent_id = uuid.uuid4().hex[:12]
    session.subscribe(order.answer_topics)
    began_s, now_ms = time.monotonic(), int(time.time() * _MS_PER_S)
    metrics = (
        Metric(order.name, order.datatype, order.value, now_ms),
        Metric(COMMAND_ID, DataType.STRING, sent_id, now_ms),
    )
    session.command(order.topic, encode(Payload(now_ms, metrics)), wait_s)
    read_since: Value = None
    while (message := session.next(began_s + wait_s)) is not None:
        told = metrics_in(message)
        if order.name == REBIRTH and told:
            return Outcome(State.DONE, sent_id, took_s=time.monotonic() - began_s)
        if (answer := answer_in(message, sent_id)) is not None:
            state = State.DONE if answer.done is True else State.REFUSED
            return Outcome(state, sent_id, answer.value, answer.reason, time.monotonic() - began_s)
        read_since = next((metric.value for metric in told if metric.name == order.name), read_since)
    return Outcome(State.UNANSWERED, sent_id, read_since, _why_unanswered(order, wait_s, read_since))


def _why_unanswered(order: Order, wait_s: float, read_since: Value) -> str:
    reason = f"no answer within {wait_s:g} s; it is not known whether it was carried out"
    if order.name == REBIRTH:
        return f"no birth within {wait_s:g} s"
    if read_since is not None:
        return f"{reason}. Nodes of others have no answers: since then {order.name} has told {read_since!r}"
    return f"{reason}. Answers come when a bridge has taken the node's births; nodes of others have none"


def _look(text: str) -> DataType:
    """What a value looks like."""
    if text.lower() in _WORDS:
        return DataType.BOOLEAN
    for datatype, read in ((DataType.INT64, int), (DataType.DOUBLE, float)):
        try:
            read(text)
        except ValueError:
            continue
        return datatype
    return DataType.STRING


def metrics_in(message: Message) -> tuple[Metric, ...]:
    """What a message tells; what cannot be read is somebody else's."""
    try:
        parse_topic(message.topic)
        return decode(message.payload).metrics
    except (CodecError, TopicError):
        return ()


def answer_in(message: Message, sent_id: str) -> CommandAnswer | None:
    """The answer to the command of this id, if the message has it."""
    for metric in metrics_in(message):
        if metric.name == ANSWER:
            try:
                answer = CommandAnswer.from_metric(metric)
            except CodecError:
                continue
            if answer.command_id == sent_id:
                return answer
    return None
