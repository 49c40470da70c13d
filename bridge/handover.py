"""Whole record batches, given to kafka-python below its `send`.

What is below it is as ever: the accumulator's queue for each partition, and the sender, which knows the leaders,
numbers batches for idempotence, sends them again, and gives them up in time. This is the one place that knows its inner
parts, those of 3.0.12; the lock names that version.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import kafka.errors as kafka_errors
from kafka.producer.producer_batch import ProducerBatch

from bridge.cluster import MAX_REQUEST_TIMEOUT_S

if TYPE_CHECKING:
    from collections.abc import Callable

    from kafka import KafkaProducer, TopicPartition

    from bridge.records import RecordBatch

_NOBODY: Final = -1


class SealedRecords:
    """A full batch, as kafka-python's sender looks at one: under the names of its `MemoryRecordsBuilder`."""

    def __init__(self, batch: RecordBatch) -> None:
        self._batch = batch
        self._buffer: bytes | None = None
        self.producer_id = self.producer_epoch = self.base_sequence = _NOBODY

    def set_producer_state(
        self,
        producer_id: int,
        producer_epoch: int,
        base_sequence: int,
        _transactional: bool,  # noqa: FBT001 - kafka-python's call
    ) -> None:
        """Number it; a batch that is sent again keeps its number."""
        if self._buffer is not None:
            raise kafka_errors.IllegalStateError("the batch is sealed")
        self.producer_id, self.producer_epoch, self.base_sequence = producer_id, producer_epoch, base_sequence

    def close(self) -> None:
        """Make it into bytes; done by the sender's thread, and once."""
        if self._buffer is None:
            self._buffer = self._batch.sealed(self.producer_id, self.producer_epoch, self.base_sequence)

    def buffer(self) -> bytes:
        """The bytes."""
        if self._buffer is None:
            raise kafka_errors.IllegalStateError("the batch is not sealed")
        return self._buffer

    def size_in_bytes(self) -> int:
        """How large it is, at most."""
        return self._batch.size_bytes if self._buffer is None else len(self._buffer)

    def is_full(self) -> bool:
        """It waits for no company."""
        return True

    def next_offset(self) -> int:
        """How many records it has."""
        return self._batch.count


def never_split(producer: KafkaProducer) -> None:
    """A batch that its topic does not take fails: in pieces it would answer nobody."""
    producer._sender._can_split = lambda _batch, _error: False  # noqa: SLF001 - see the module


def hand_over(
    producer: KafkaProducer, place: TopicPartition, records: RecordBatch, done: Callable[[BaseException | None], None]
) -> None:
    """Queue a batch behind those of its partition; `done` hears in the sender's thread of success (None) or the error.

    Raises kafka-python's IllegalStateError when the producer is closed. `wake` the sender when all is handed over.
    """
    accumulator = producer._accumulator  # noqa: SLF001 - see the module
    batch = ProducerBatch(place, SealedRecords(records))
    batch.produce_future.add_callback(lambda result: _settle(accumulator, _error_of(result), done))
    with accumulator._tp_lock(place):  # noqa: SLF001 - see the module
        if accumulator._closed:  # noqa: SLF001 - see the module
            raise kafka_errors.IllegalStateError("the producer is closed")
        accumulator._incomplete.add(batch)  # noqa: SLF001 - see the module
        accumulator._batches[place].append(batch)  # noqa: SLF001 - see the module


def wake(producer: KafkaProducer) -> None:
    """Have the sender look at its queues."""
    producer._sender.wakeup()  # noqa: SLF001 - see the module


def drop(producer: KafkaProducer) -> None:
    """Have the sender drop what it still has, and end; where it is stuck it does so later, and is not waited for."""
    sender = producer._sender  # noqa: SLF001 - see the module
    sender.force_close()
    sender.join(MAX_REQUEST_TIMEOUT_S)
    # Or kafka-python's own clean-up would wait for the records of a sender that is stuck.
    producer._closed = True  # noqa: SLF001 - see the module


def _settle(
    accumulator: Any,  # noqa: ANN401 - kafka-python has no types
    error: BaseException | None,
    done: Callable[[BaseException | None], None],
) -> None:
    if error is not None:
        # All of it is sent again by another producer: of this one nothing more, or what waits behind would go first.
        accumulator.drain = _nothing
    done(error)


def _nothing(*_arguments: object, **_options: object) -> dict[int, list[ProducerBatch]]:
    return {}


def _error_of(result: tuple[int, int, Any]) -> BaseException | None:
    """What became of a batch: its offset, its time, and for each record why Kafka does not have it."""
    _offset, _time, error_of_record = result
    if error_of_record is None:
        return None
    error: BaseException = error_of_record(0)
    return error
