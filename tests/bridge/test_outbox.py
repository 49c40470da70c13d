"""The outbox against a producer that does as it is told: what kafka-python can say, in an order of our choosing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import kafka.errors as kafka_errors
import pytest

from bridge.errors import BridgeError, KafkaNotReady
from bridge.outbox import Answer, Outbox, Shipment
from bridge.producer import RecordTooLarge
from bridge.triage import Letter, Route

if TYPE_CHECKING:
    from collections.abc import Callable

    from bridge.outbox import Report

    Done = Callable[[BaseException | None], None]


class ObedientSender:
    def __init__(self, report: Report) -> None:
        self._report = report
        self.sent: list[tuple[Letter, Done]] = []
        self.closed = False
        self.flushed = 0
        self.at_once: Exception | None = None

    def send(self, number: int, letter: Letter) -> Exception | None:
        self.sent.append((letter, lambda error: self._report([number], error)))
        return self.at_once

    def answer_all(self, numbers: list[int], error: BaseException | None) -> None:
        self._report(numbers, error)

    def flush(self) -> Exception | None:
        self.flushed += 1
        return self.at_once

    def close(self) -> None:
        self.closed = True

    @property
    def values(self) -> list[bytes]:
        return [letter.value for letter, _ in self.sent]


class Bench:
    """An outbox, the senders it has opened, and its answers, settled on demand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr("bridge.outbox.time.monotonic", lambda: self.now)
        self.senders: list[ObedientSender] = []
        self.kafka_there = True
        self.answers: list[Answer] = []
        self.outbox = Outbox(self._open, self.answers.append, delivery_timeout_s=30, linger_s=0.005)

    def _open(self, report: Report) -> ObedientSender:
        if not self.kafka_there:
            raise KafkaNotReady("nobody there")
        self.senders.append(ObedientSender(report))
        return self.senders[-1]

    def ship(self, *values: bytes) -> None:
        for value in values:
            self.outbox.ship(Shipment(Letter(Route("t", b"t", b"g/n"), value, 1), len(value), None))

    def settle(self) -> list[bytes]:
        settled = [self.outbox.settle(answer) for answer in self.answers]
        self.answers.clear()
        return [shipment.letter.value for shipments in settled for shipment in shipments]


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    bench = Bench(monkeypatch)
    bench.outbox.tick()
    return bench


def test_a_confirmed_shipment_leaves(bench: Bench) -> None:
    bench.ship(b"1", b"2")
    bench.senders[0].sent[1][1](None)
    assert bench.settle() == [b"2"]
    assert len(bench.outbox) == 1


@pytest.mark.parametrize(
    "error",
    [
        kafka_errors.KafkaTimeoutError("delivery"),
        kafka_errors.OutOfOrderSequenceNumberError(),
        kafka_errors.UnknownProducerIdError(),
        kafka_errors.InvalidProducerEpochError(),
        kafka_errors.NotLeaderForPartitionError(),
        kafka_errors.IllegalStateError("closed"),
        # kafka-python fails whatever is in flight with it, so it does not say which record was too large.
        kafka_errors.MessageSizeTooLargeError(),
    ],
)
def test_a_failure_sends_all_that_is_unconfirmed_again_in_order(bench: Bench, error: Exception) -> None:
    bench.ship(b"1", b"2", b"3")
    bench.senders[0].sent[1][1](None)
    bench.senders[0].sent[0][1](error)
    bench.senders[0].sent[2][1](error)
    assert bench.settle() == [b"2"]
    assert bench.senders[0].closed
    assert not bench.outbox.connected
    bench.ship(b"4")
    bench.now += 1
    bench.outbox.tick()
    assert bench.senders[1].values == [b"1", b"3", b"4"]
    for _, done in bench.senders[1].sent:
        done(None)
    assert bench.settle() == [b"1", b"3", b"4"]
    assert bench.outbox.connected


def test_one_answer_settles_a_whole_batch_and_what_left_before_is_not_settled_twice(bench: Bench) -> None:
    bench.ship(b"1", b"2", b"3")
    bench.senders[0].sent[1][1](None)
    bench.senders[0].answer_all([1, 2, 3], None)
    assert bench.settle() == [b"2", b"1", b"3"]
    assert len(bench.outbox) == bench.outbox.bytes == 0


def test_what_waits_for_company_is_sent_in_time_and_a_failure_of_that_is_a_failed_send(bench: Bench) -> None:
    assert bench.outbox.flush_at > 1e9
    bench.ship(b"1")
    bench.now += 0.001
    bench.ship(b"2")
    assert bench.outbox.flush_at == pytest.approx(1000.005), "as long as the oldest may wait"
    before = bench.senders[0].flushed
    bench.outbox.flush()
    assert (bench.senders[0].flushed, bench.outbox.flush_at > 1e9) == (before + 1, True)
    bench.ship(b"3")
    bench.senders[0].at_once = kafka_errors.IllegalStateError("closed")
    bench.outbox.flush()
    assert bench.senders[0].closed
    bench.now += 1
    bench.outbox.tick()
    assert bench.senders[1].values == [b"1", b"2", b"3"]
    assert bench.senders[1].flushed == 1, "what is sent again waits for nothing"


def test_while_kafka_has_something_to_answer_what_comes_waits_for_that_but_not_for_long(bench: Bench) -> None:
    bench.ship(b"1")
    bench.outbox.flush()
    bench.ship(b"2")
    assert bench.outbox.flush_at == pytest.approx(1000.020)
    bench.now += 0.001
    bench.senders[0].answer_all([1], None)
    bench.settle()
    assert bench.outbox.flush_at == pytest.approx(1000.006), "now nothing is on the way"
    bench.outbox.flush()
    bench.senders[0].answer_all([2], None)
    bench.settle()
    assert bench.outbox.flush_at > 1e9, "nothing waits"
    bench.ship(b"3")
    assert bench.outbox.flush_at == pytest.approx(1000.006)


def test_a_late_success_of_the_old_producer_counts_and_its_late_failure_does_not(bench: Bench) -> None:
    bench.ship(b"1", b"2")
    bench.senders[0].sent[0][1](kafka_errors.KafkaTimeoutError())
    bench.settle()
    bench.now += 1
    bench.outbox.tick()
    bench.senders[0].sent[0][1](None)
    bench.senders[0].sent[1][1](kafka_errors.KafkaTimeoutError())
    assert bench.settle() == [b"1"]
    assert len(bench.senders) == 2
    assert not bench.senders[1].closed
    bench.senders[1].sent[0][1](None)
    assert bench.settle() == [], "it has left already"


def test_a_backlog_that_moves_is_no_silence(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.ship(b"1", b"2", b"3")
    bench.now += 10
    for _, done in bench.senders[0].sent[:2]:
        done(None)
        bench.settle()
        bench.outbox.tick()
    assert bench.outbox.connected
    assert not caplog.records


def test_a_producer_that_says_nothing_is_given_up(bench: Bench) -> None:
    bench.ship(b"1")
    bench.now += 6
    bench.outbox.tick()
    assert not bench.outbox.connected
    assert not bench.senders[0].closed
    bench.now += 60
    bench.outbox.tick()
    assert bench.senders[0].closed
    bench.now += 1
    bench.outbox.tick()
    assert bench.senders[1].values == [b"1"]


def test_an_absent_kafka_is_tried_with_growing_pauses_and_told_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "bridge")
    bench = Bench(monkeypatch)
    bench.kafka_there = False
    bench.ship(b"1")
    for _ in range(100):
        bench.outbox.tick()
        bench.now += 1
    bench.kafka_there = True
    for _ in range(20):
        bench.outbox.tick()
        bench.now += 1
    assert bench.senders[0].values == [b"1"]
    bench.senders[0].sent[0][1](None)
    assert bench.settle() == [b"1"]
    lines = [record.getMessage() for record in caplog.records]
    assert sum("nobody there" in line for line in lines) == 1
    assert sum("answers again" in line for line in lines) == 1


def test_a_refused_record_becomes_a_dead_letter_then_one_without_payload_then_the_end(bench: Bench) -> None:
    sender = bench.senders[0]
    sender.at_once = RecordTooLarge("takes 10 bytes")
    with pytest.raises(BridgeError, match="refuses a record without payload"):
        bench.ship(b"1")
    assert [(letter.value, letter.is_dead) for letter, _ in sender.sent] == [(b"1", False), (b"1", True), (b"", True)]


def test_after_a_failure_found_at_once_nothing_more_is_tried_on_that_producer(bench: Bench) -> None:
    bench.senders[0].at_once = kafka_errors.KafkaTimeoutError("no metadata")
    bench.ship(b"1", b"2")
    assert bench.senders[0].values == [b"1"]
    assert bench.senders[0].closed
    bench.now += 1
    bench.outbox.tick()
    assert bench.senders[1].values == [b"1", b"2"]


def test_what_only_the_operator_can_mend_ends_the_bridge(bench: Bench) -> None:
    bench.ship(b"1")
    bench.senders[0].sent[0][1](kafka_errors.TopicAuthorizationFailedError("headwater.payloads"))
    with pytest.raises(BridgeError, match="TopicAuthorizationFailedError"):
        bench.settle()
