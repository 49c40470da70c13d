"""What kafka-python's inner parts do with batches of ours when one fails, and when the producer is given up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import kafka.errors as kafka_errors
import pytest

from bridge.config import KafkaConfig
from bridge.producer import Producer
from bridge.triage import Letter, Route

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from stack import Kafka

    Told = list[tuple[list[int], BaseException | None]]

TOPICS = {"payloads": "producer.payloads", "dead_letters": "producer.dead", "partitions": 1, "create": True}


@pytest.fixture
def told() -> Told:
    return []


@pytest.fixture
def producer(kafka: Kafka, told: Told) -> Iterator[Producer]:
    config = KafkaConfig.model_validate({"bootstrap_servers": (kafka.bootstrap_servers,), "topics": TOPICS})
    producer = Producer(config, 1 << 20, lambda numbers, error: told.append((numbers, error)))
    yield producer
    producer.close()


def letter(value: bytes) -> Letter:
    return Letter(Route("t", b"t", b"g/n"), value, 1)


def test_nothing_overtakes_a_batch_that_failed(producer: Any, told: Told, until: Callable[..., bool]) -> None:
    client = producer._producer
    leader_of, ready = client._metadata.leader_for_partition, client._accumulator.ready
    looks: list[None] = []

    def look(*arguments: Any, **options: Any) -> Any:
        looks.append(None)
        return ready(*arguments, **options)

    client._accumulator.ready = look
    client._metadata.leader_for_partition = lambda _place: None
    for number in (1, 2):
        assert producer.send(number, letter(b"%d" % number)) is None
        assert producer.flush() is None
    ((first, _second),) = client._accumulator._batches.values()
    first.created -= 1000.0
    client._sender.wakeup()
    assert until(lambda: bool(told))
    client._metadata.leader_for_partition = leader_of
    client._sender.wakeup()
    seen = len(looks)
    assert until(lambda: len(looks) > seen + 20 or len(told) > 1), "its sender goes on"
    assert [(numbers, type(error)) for numbers, error in told] == [([1], kafka_errors.KafkaTimeoutError)]
    producer.close()
    assert [(numbers, type(error)) for numbers, error in told[1:]] == [([2], kafka_errors.IllegalStateError)]


def test_a_sender_that_is_stuck_does_not_keep_its_producer_from_being_given_up(
    producer: Any, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    accumulator, sender = producer._producer._accumulator, producer._producer._sender
    with monkeypatch.context() as stuck:
        stuck.setattr(accumulator, "drain", lambda *_arguments, **_options: {})
        stuck.setattr(accumulator, "abort_incomplete_batches", lambda: None)
        assert producer.send(1, letter(b"waits")) is None
        assert producer.flush() is None
        producer.close()
        producer.close()
    assert (told, sender.is_alive()) == ([], False)
    assert producer.send(2, letter(b"later")) is None
    assert isinstance(producer.flush(), kafka_errors.IllegalStateError)
