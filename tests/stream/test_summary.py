from __future__ import annotations

from stream.query import summary

EXECUTOR = """An exception was raised by the Python Proxy. Return Message: Traceback (most recent call last):
  File "clientserver.py", line 644, in _call_proxy
py4j.protocol.Py4JJavaError: An error occurred while calling o155.getResult.
: org.apache.spark.SparkException: Exception thrown in awaitResult:
	at org.apache.spark.util.SparkThreadUtils$.awaitResult(SparkThreadUtils.scala:53)
Caused by: org.apache.spark.sql.kafka010.KafkaIllegalStateException: Some data may have been lost
	at x
Caused by: org.apache.kafka.clients.consumer.OffsetOutOfRangeException: Fetch position 3 is out of range
	at y
"""


def test_the_cause_of_a_failure_is_told_first() -> None:
    assert summary(EXECUTOR) == (
        "OffsetOutOfRangeException: Fetch position 3 is out of range"
        " <- KafkaIllegalStateException: Some data may have been lost"
    )


def test_a_failure_without_exceptions_is_its_first_line() -> None:
    assert summary("it broke\nfor some reason") == "it broke"


def test_a_timeout_of_kafka_is_told_in_its_words() -> None:
    text = (
        "org.apache.kafka.common.errors.TimeoutException: Timed out waiting for a node assignment\n\nJVM stacktrace: x"
    )
    assert summary(text) == "TimeoutException: Timed out waiting for a node assignment"
