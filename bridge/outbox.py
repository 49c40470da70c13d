"""What is on its way to Kafka, kept until Kafka has it.

A failed send never loses its place: the producer is given up, a new one is opened, and all that is unanswered is
sent again in the order of receipt. One thread only calls this; answers come to it by `report`.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from bridge.errors import BridgeError, KafkaNotReady, TopicMissing
from bridge.producer import RecordTooLarge, is_fatal
from bridge.triage import refused

if TYPE_CHECKING:
    from bridge.acks import Slot
    from bridge.triage import Letter

logger = logging.getLogger(__name__)

SILENCE_S: Final = 5.0  # of Kafka, after which the log says so
_PATIENCE: Final = 4  # times as long as otherwise something waits for company while Kafka has not answered
_STALL_MARGIN_S: Final = 15.0  # beyond kafka-python's own delivery time-out
_BACKOFF_MIN_S: Final = 0.5
_BACKOFF_MAX_S: Final = 5.0


class Sender(Protocol):
    """What the outbox needs of a producer."""

    def send(self, number: int, letter: Letter) -> Exception | None:
        """Take a letter; what becomes of it is reported by this number, unless an error is the result."""

    def flush(self) -> Exception | None:
        """Let nothing wait for company any longer."""

    def close(self) -> None:
        """Drop what waits."""


class Shipment:
    """A letter on its way; `slot` is None at QoS 0, where nobody waits for an acknowledgement.

    `size_bytes` is that of the message; `sent_at` monotonic seconds, of the last attempt.
    """

    __slots__ = ("letter", "number", "sent_at", "size_bytes", "slot")

    def __init__(self, letter: Letter, size_bytes: int, slot: Slot | None) -> None:
        self.letter = letter
        self.size_bytes = size_bytes
        self.slot = slot
        self.number = 0
        self.sent_at = 0.0


class Answer(NamedTuple):
    """What the producer of some attempt said of shipments; `error` None: Kafka has them."""

    attempt: int
    numbers: list[int]
    error: BaseException | None


Report = Callable[[list[int], "BaseException | None"], None]


class Outbox:
    """Shipments in order of receipt, and the producer that carries them."""

    def __init__(
        self,
        open_sender: Callable[[Report], Sender],
        report: Callable[[Answer], None],
        delivery_timeout_s: float,
        linger_s: float,
    ) -> None:
        self._open_sender = open_sender
        self._linger_s = linger_s
        self._on_the_way = 0  # of what was unanswered at the last flush, how many still are, about
        self.flush_at = math.inf  # monotonic seconds
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
        self._is_topic_told = False

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

    def flush(self) -> None:
        """Let nothing wait for company any longer; to be called at `flush_at`.

        What comes while Kafka has something to answer waits for that, but not for long: a few large requests cost
        half of many small ones.
        """
        self.flush_at, self._on_the_way = math.inf, len(self._waiting)
        if self._sender is not None and (error := self._sender.flush()) is not None:
            self._failed(error)

    def settle(self, answer: Answer) -> list[Shipment]:
        """The shipments that are safe in Kafka by this answer.

        Raises BridgeError when the answer leaves nothing to try.
        """
        shipments = [self._waiting[number] for number in answer.numbers if number in self._waiting]
        if answer.error is not None:
            if shipments and answer.attempt == self._attempt:
                self._failed(answer.error)
            return []
        for shipment in shipments:
            self._drop(shipment)
        if shipments:
            self._heard()
            self._on_the_way -= len(shipments)
            if self._on_the_way <= 0 and self.flush_at < math.inf:
                self.flush_at = min(self.flush_at, time.monotonic() + self._linger_s)
        return shipments

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

    def close(self) -> None:
        """Close the producer; what is unanswered by then stays unacknowledged."""
        if self._sender is not None:
            self._sender.close()
            self._sender = None

    def _drop(self, shipment: Shipment) -> None:
        del self._waiting[shipment.number]
        self.bytes -= len(shipment.letter.value)

    def _send(self, shipment: Shipment) -> None:
        shipment.sent_at = now = time.monotonic()
        if self._sender is None:
            return
        error = self._sender.send(shipment.number, shipment.letter)
        if error is None:
            wait_s = self._linger_s * (_PATIENCE if self._on_the_way > 0 else 1)
            self.flush_at = min(self.flush_at, now + wait_s)
        elif isinstance(error, RecordTooLarge):
            self._refused(shipment, str(error))
        else:
            self._failed(error)

    def _answered(self, attempt: int, numbers: list[int], error: BaseException | None) -> None:
        self._report(Answer(attempt, numbers, error))

    def _refused(self, shipment: Shipment, why: str) -> None:
        if shipment.letter.is_dead and not shipment.letter.value:
            raise BridgeError(f"Kafka: the dead-letter topic refuses a record without payload: {why}")
        self._drop(shipment)
        shipment.letter = refused(shipment.letter, why)
        self.ship(shipment)

    def _failed(self, error: BaseException) -> None:
        what, name = str(error), type(error).__name__
        if name not in what:  # kafka-python's errors mostly say it themselves
            what = f"{name}: {what}"
        if is_fatal(error):
            raise BridgeError(f"Kafka: {what}")
        self._give_up(what)

    def _give_up(self, why: str) -> None:
        self._fell_silent(why)
        self._attempt += 1  # what the old producer says of failures is void from here
        self.close()
        self._put_off()

    def _open(self) -> None:
        attempt = self._attempt + 1
        try:
            self._sender = self._open_sender(partial(self._answered, attempt))
        except KafkaNotReady as exc:
            if isinstance(exc, TopicMissing) and self._silent_since is not None and not self._is_topic_told:
                # It was lost in mid-run, and all that was told is that Kafka did not answer.
                logger.warning("Kafka: %s", exc)
            self._is_topic_told = isinstance(exc, TopicMissing)
            self._fell_silent(str(exc))
            self._put_off()
            return
        self._attempt = attempt
        logger.info("Kafka: connected")
        if self._waiting:
            logger.info("Kafka: sending %d messages again", len(self._waiting))
        else:
            self._heard()
        for shipment in list(self._waiting.values()):
            self._send(shipment)
        self.flush()

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
