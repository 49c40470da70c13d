"""What is on its way to Kafka, kept until Kafka has it.

A failed send never loses its place: the producer is given up, a new one is opened, and all that is unanswered is
sent again in the order of receipt. One thread only calls this; answers come to it by `report`.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

from bridge.errors import BridgeError, KafkaNotReady
from bridge.producer import Meaning, RecordTooLarge, meaning
from bridge.triage import refused

if TYPE_CHECKING:
    from collections.abc import Callable

    from bridge.acks import Slot
    from bridge.triage import Letter

logger = logging.getLogger(__name__)

SILENCE_S: Final = 5.0  # of Kafka, after which the log says so
_STALL_MARGIN_S: Final = 15.0  # beyond kafka-python's own delivery time-out
_BACKOFF_MIN_S: Final = 0.5
_BACKOFF_MAX_S: Final = 5.0


class Sender(Protocol):
    """What the outbox needs of a producer."""

    def send(self, letter: Letter, done: Callable[[BaseException | None], None]) -> Exception | None:
        """Send; `done` hears of success (None) or the error, unless an error is the result."""

    def close(self, timeout_s: float) -> None:
        """Finish or drop what waits."""


@dataclass(slots=True, eq=False)
class Shipment:
    """A letter on its way; `slot` is None at QoS 0, where nobody waits for an acknowledgement."""

    letter: Letter
    size_bytes: int
    slot: Slot | None
    number: int = 0
    sent_at: float = 0.0  # monotonic seconds, of the last attempt


@dataclass(frozen=True, slots=True)
class Answer:
    """What the producer of some attempt said of a shipment; `error` None: Kafka has it."""

    number: int
    attempt: int
    error: BaseException | None


class Outbox:
    """Shipments in order of receipt, and the producer that carries them."""

    def __init__(
        self, open_sender: Callable[[], Sender], report: Callable[[Answer], None], delivery_timeout_s: float
    ) -> None:
        self._open_sender = open_sender
        self._report = report
        self._stall_s = delivery_timeout_s + _STALL_MARGIN_S
        self._sender: Sender | None = None
        self._attempt = 0
        self._numbers = 0
        self._waiting: dict[int, Shipment] = {}
        self.bytes = 0  # of their payloads
        self._backoff_s = _BACKOFF_MIN_S
        self._open_at = 0.0
        self._heard_at = 0.0
        self._silent_since: float | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def connected(self) -> bool:
        """Whether Kafka answers."""
        return self._sender is not None and self._silent_since is None

    def oldest_age_s(self) -> float:
        """For how long the oldest shipment has waited since it was last sent."""
        oldest = next(iter(self._waiting.values()), None)
        return time.monotonic() - oldest.sent_at if oldest else 0.0

    def ship(self, shipment: Shipment) -> None:
        """Take a shipment, and send it when there is a producer."""
        self._numbers += 1
        shipment.number = self._numbers
        self._waiting[shipment.number] = shipment
        self.bytes += len(shipment.letter.value)
        self._send(shipment)

    def settle(self, answer: Answer) -> Shipment | None:
        """The shipment that is safe in Kafka by this answer, None where none is.

        Raises BridgeError when the answer leaves nothing to try.
        """
        shipment = self._waiting.get(answer.number)
        if shipment is None:
            return None
        if answer.error is None:
            self._drop(shipment)
            self._heard()
            return shipment
        if answer.attempt == self._attempt:
            self._failed(shipment, answer.error)
        return None

    def tick(self) -> None:
        """Notice silence, and open a producer when there is none and it is time."""
        now = time.monotonic()
        if self._sender is None:
            if now >= self._open_at:
                self._open()
        elif self.oldest_age_s() > self._stall_s:
            self._give_up("no answer")
        elif min(self.oldest_age_s(), now - self._heard_at) > SILENCE_S:
            self._fell_silent("no answer")

    def close(self, timeout_s: float) -> None:
        """Close the producer; what is unanswered by then stays unacknowledged."""
        if self._sender is not None:
            self._sender.close(timeout_s)
            self._sender = None

    def _drop(self, shipment: Shipment) -> None:
        del self._waiting[shipment.number]
        self.bytes -= len(shipment.letter.value)

    def _send(self, shipment: Shipment) -> None:
        shipment.sent_at = time.monotonic()
        if self._sender is None:
            return
        error = self._sender.send(shipment.letter, partial(self._answered, shipment.number, self._attempt))
        if error is not None:
            self._failed(shipment, error)

    def _answered(self, number: int, attempt: int, error: BaseException | None) -> None:
        self._report(Answer(number, attempt, error))

    def _failed(self, shipment: Shipment, error: BaseException) -> None:
        what = str(error) if isinstance(error, RecordTooLarge) else f"{type(error).__name__}: {error}"
        match meaning(error):
            case Meaning.FATAL:
                raise BridgeError(f"Kafka: {what}")
            case Meaning.REFUSED if shipment.letter.is_dead and not shipment.letter.value:
                raise BridgeError(f"Kafka: the dead-letter topic refuses a record without payload: {what}")
            case Meaning.REFUSED:
                self._drop(shipment)
                shipment.letter = refused(shipment.letter, what)
                self.ship(shipment)
            case Meaning.AGAIN:
                self._give_up(what)

    def _give_up(self, why: str) -> None:
        self._fell_silent(why)
        self._attempt += 1  # what the old producer says of failures is void from here
        self.close(0)
        self._put_off()

    def _open(self) -> None:
        try:
            self._sender = self._open_sender()
        except KafkaNotReady as exc:
            self._fell_silent(str(exc))
            self._put_off()
            return
        self._attempt += 1
        logger.info("Kafka: connected")
        if self._waiting:
            logger.info("Kafka: sending %d messages again", len(self._waiting))
        else:
            self._heard()
        for shipment in list(self._waiting.values()):
            self._send(shipment)

    def _put_off(self) -> None:
        self._open_at = time.monotonic() + self._backoff_s
        self._backoff_s = min(self._backoff_s * 2, _BACKOFF_MAX_S)

    def _fell_silent(self, why: str) -> None:
        if self._silent_since is None:
            self._silent_since = time.monotonic()
            logger.warning("Kafka: %s; %d messages wait, nothing is acknowledged meanwhile", why, len(self._waiting))

    def _heard(self) -> None:
        self._heard_at = time.monotonic()
        if self._silent_since is not None:
            logger.info("Kafka: answers again after %.0f s", time.monotonic() - self._silent_since)
            self._silent_since = None
        self._backoff_s = _BACKOFF_MIN_S
