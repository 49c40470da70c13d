from __future__ import annotations

import json
import threading
from contextlib import closing
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pyarrow as pa
import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from contract.datatypes import DataType
from contract.delivery import BatchId
from contract.records import RecordHeaders, record_key
from contract.sparkplug import Metric, Payload, encode
from stream.__main__ import main
from stream.config import KafkaConfig
from stream.deadletters import MAX_RETRIES
from stream.errors import FatalError
from stream.ingest.batch import Batch
from stream.ingest.decode import KafkaRecord, Limits
from stream.ingest.rows import SCHEMA
from stream.ingest.sink import BatchKey
from stream.ingest.transform import batches_of
from stream.ingest.writer import Writer
from stream.resend import client_options

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from stack import Kafka
    from tests.stream.conftest import Database

NOW = 1_700_000_000_000
DAY_MS = 86_400_000
STRICT = Limits(DAY_MS, 3_600_000)
GENEROUS = Limits(366 * DAY_MS, 3_600_000)


class Pipe:
    """Kafka topics of this test, and the sink behind them, without Spark."""

    def __init__(self, kafka: Kafka, database: Database, directory: Path) -> None:
        self.payloads, self.dead = f"payloads-{uuid4()}", f"dead-{uuid4()}"
        self.kafka = kafka
        for topic in (self.payloads, self.dead):
            kafka.create_topic(topic, 1)
        self.database = database
        self._writer = Writer(database.writer, threading.Event())
        self._producer = KafkaProducer(bootstrap_servers=kafka.bootstrap_servers)
        self._taken = dict.fromkeys((self.payloads, self.dead), 0)
        self._batches = 0
        self.config = directory / "stream.yaml"
        document = {
            "kafka": {"bootstrap_servers": [kafka.bootstrap_servers]},
            "topics": {"payloads": self.payloads, "dead_letters": self.dead},
            "checkpoint_dir": "unused",
            "spark": {"jars_dir": "unused"},
        }
        self.config.write_text(json.dumps(document))

    def send(self, value: bytes, topic: str | None = None, reason: str | None = None, node: str = "n") -> None:
        headers = RecordHeaders(f"spBv1.0/g/DDATA/{node}/d", NOW, BatchId(7, 5), reason, 5).to_kafka()
        self._producer.send(topic or self.payloads, value, record_key("g", node), headers).get(timeout=30)

    def new_records(self) -> list[Any]:
        found = []
        with closing(KafkaConsumer(bootstrap_servers=self.kafka.bootstrap_servers, group_id=None)) as consumer:
            for topic in self._taken:
                at = TopicPartition(topic, 0)
                end = consumer.end_offsets([at])[at]
                consumer.assign([at])
                consumer.seek(at, self._taken[topic])
                while self._taken[topic] < end:
                    records = consumer.poll(timeout_ms=1000).get(at, [])
                    found += records
                    self._taken[topic] += len(records)
        return found

    def ingest(self, limits: Limits) -> list[Any]:
        """Store what came since; the records."""
        found = self.new_records()
        records = [KafkaRecord(r.topic, r.partition, r.offset, tuple(r.headers), r.value) for r in found]
        table = pa.Table.from_batches(batches_of(records, limits, self.dead), SCHEMA)
        self._writer.write(BatchKey(UUID(int=1), self._batches), Batch(table))
        self._batches += 1
        return found

    def __call__(self, *arguments: str) -> int:
        action, *rest = arguments
        return main(["deadletter", action, str(self.config), *rest])

    def close(self) -> None:
        self._producer.close()
        self._writer.close()


@pytest.fixture
def pipe(kafka: Kafka, migrated: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pipe]:
    monkeypatch.setenv("HEADWATER_DSN", migrated.writer)
    with closing(Pipe(kafka, migrated, tmp_path)) as opened:
        yield opened


def payload(*ages_days: float) -> bytes:
    metrics = (Metric(f"m{n}", DataType.DOUBLE, 1.0, NOW - round(age * DAY_MS)) for n, age in enumerate(ages_days))
    return encode(Payload(NOW, tuple(metrics)))


def test_what_was_set_aside_is_listed_shown_and_after_mending_stored(
    pipe: Pipe, capsys: pytest.CaptureFixture[str]
) -> None:
    pipe.send(payload(0, 10, 20))
    pipe.send(b"\xff", node="other")
    pipe.ingest(STRICT)
    assert pipe("list") == 0
    told = capsys.readouterr().out.splitlines()
    assert len(told) == 3
    assert "spBv1.0/g/DDATA/other/d  (payload)  not a Sparkplug B payload" in "\n".join(told)
    assert pipe("list", "--json", "--node", "g/n", "--reason", "SAMPLED AT", "--since", "1h", "--limit", "1") == 0
    (document,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert (document["metric"], document["kafka_topic"], document["retries"]) == ("m2", pipe.payloads, 0)
    assert pipe("show", str(document["letter_id"])) == 0
    told_of = capsys.readouterr().out
    assert "m0 DOUBLE 1.0" in told_of
    assert "more than 1 days before" in told_of

    assert pipe("retry", "--node", "g/n", "--dry-run") == 0
    assert capsys.readouterr().out == "1 payload would be sent again, 0 not\n"
    assert pipe.new_records() == []
    assert pipe("retry", "--node", "g/n") == 0
    assert capsys.readouterr().out == "1 payload sent again, 0 not\n"
    (again,) = pipe.ingest(GENEROUS)
    headers = dict(again.headers)
    assert (again.key, again.value, headers["retries"]) == (b"g/n", payload(0, 10, 20), b"1")
    assert (headers["batch_no"], headers["received_at"]) == (b"5", str(NOW).encode())
    assert pipe.database.one("select count(*) from reading") == 3
    assert pipe.database.rows(
        "select retry_offset, retries, count(*) from dead_letter where retried_at is not null group by 1, 2"
    ) == [(2, 1, 2)], "both letters of the payload"
    assert pipe("retry", "--node", "g/n") == 0
    assert capsys.readouterr().out == "0 payloads sent again, 0 not\n"
    pipe("list", "--node", "g/n")
    assert "[sent again 20" in capsys.readouterr().out


def test_what_fails_again_is_not_sent_for_ever(pipe: Pipe, capsys: pytest.CaptureFixture[str]) -> None:
    pipe.send(payload(10))
    for n in range(MAX_RETRIES):
        pipe.ingest(STRICT)
        assert pipe("retry") == 0
        assert capsys.readouterr().out == "1 payload sent again, 0 not\n", n
    pipe.ingest(STRICT)
    assert pipe("retry") == 1
    told = capsys.readouterr().out
    assert f"failed again {MAX_RETRIES} times: left\n0 payloads sent again, 1 not" in told
    assert pipe.new_records() == []


def test_what_kafka_no_longer_has_is_sent_from_the_letter(pipe: Pipe, capsys: pytest.CaptureFixture[str]) -> None:
    pipe.send(payload(10))
    pipe.send(payload(10) + b"\x62" + b"\x80\x80\x05" + b"x" * 0x14000, node="large")
    pipe.ingest(STRICT)
    # As if the topic had been deleted and made again: other records stand there.
    pipe.database.run("update dead_letter set received_at = received_at + interval '1 s'")
    assert pipe("retry") == 1
    told = capsys.readouterr().out
    assert "Kafka no longer has it, and the letter does not hold all of it\n1 payload sent again, 1 not" in told
    (again,) = pipe.ingest(GENEROUS)
    assert (again.key, again.value) == (b"g/n", payload(10))
    assert pipe.database.one("select count(*) from reading") == 1


def test_what_the_bridge_set_aside_goes_to_the_payload_topic(pipe: Pipe, capsys: pytest.CaptureFixture[str]) -> None:
    pipe.send(payload(0), topic=pipe.dead, reason="payload of 99 bytes: allowed are at most 9")
    pipe.send(b"x" * 65536, topic=pipe.dead, reason="payload of 9999999 bytes: allowed are at most 9")
    pipe.ingest(STRICT)
    assert pipe("retry", "--reason", "allowed are at most") == 1
    assert "the bridge kept only the first 64 KiB of it\n1 payload sent again, 1 not" in capsys.readouterr().out
    (again,) = pipe.ingest(STRICT)
    assert (again.topic, "reason" in dict(again.headers)) == (pipe.payloads, False)
    assert pipe.database.one("select count(*) from reading") == 1


def test_a_topic_made_again_hides_no_letter(pipe: Pipe) -> None:
    for received_ms in (NOW, NOW + 1):
        headers = RecordHeaders("spBv1.0/g/DDATA/n/d", received_ms).to_kafka()
        record = KafkaRecord("t", 0, 0, tuple(headers), b"\xff")
        for n in range(2):
            batch = Batch(pa.Table.from_batches(batches_of([record], STRICT), SCHEMA))
            pipe._writer.write(BatchKey(UUID(int=received_ms), n), batch)
    assert pipe.database.one("select count(*) from dead_letter") == 2


def test_wrong_usage_is_told_in_a_line(pipe: Pipe, capsys: pytest.CaptureFixture[str]) -> None:
    assert pipe("list", "--since", "yesterday") == 2
    assert capsys.readouterr().err == (
        "--since 'yesterday': allowed are 90s, 30m, 2h, 7d, or a time such as 2026-01-31T12:00Z\n"
    )
    assert pipe("show", "77") == 1
    assert capsys.readouterr().out == "there is no letter 77\n"
    with pytest.raises(SystemExit) as stopped:
        pipe("list", "--limit", "0")
    assert stopped.value.code == 2


def test_sparks_options_for_kafka_are_understood_or_refused() -> None:
    told = {
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.jaas.config": 'org.apache.Login required username="u" password="p\\"w";',
        "ssl.truststore.location": "/ca.pem",
        "ssl.truststore.type": "PEM",
        "ssl.keystore.location": "/us.pem",
        "ssl.keystore.type": "PEM",
        "fetch.max.bytes": "1000",
    }
    options = client_options(KafkaConfig(bootstrap_servers=("k:9092",), options=told))
    assert {name: options[name] for name in options if name != "bootstrap_timeout_ms"} == {
        "bootstrap_servers": ["k:9092"],
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": "u",
        "sasl_plain_password": 'p"w',
        "ssl_cafile": "/ca.pem",
        "ssl_certfile": "/us.pem",
        "ssl_keyfile": "/us.pem",
    }
    with pytest.raises(FatalError, match=r"kafka\.options ssl\.key\.password: not understood here"):
        client_options(KafkaConfig(bootstrap_servers=("k:9092",), options={"ssl.key.password": "x"}))
