"""A migrated database with the writer's and the reader's eyes on it; Spark; and records as the bridge makes them."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

import psycopg2
import pytest
from psycopg2.extensions import make_dsn, parse_dsn

from contract.datatypes import DataType
from contract.records import PAYLOAD_TOPIC, RecordHeaders
from contract.sparkplug import Metric, Payload, encode
from db import migrate, roles
from stack import connector_jars
from stream.config import SparkConfig
from stream.decode import KafkaRecord, Limits, decode_record
from stream.rows import SCHEMA, to_batches

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import pyarrow as pa
    from pyspark.sql import SparkSession

WRITER_PASSWORD = "a throw-away password"
LIMITS = Limits(366 * 86_400_000, 3_600_000)
NOW = 1_700_000_000_000


class Database:
    """A migrated database: `writer` is the stream's DSN, `rows` what stands in it."""

    def __init__(self, superuser: str) -> None:
        self.superuser = superuser
        migrate.migrate(superuser, 10)
        roles.allow_login(superuser, "headwater_writer", WRITER_PASSWORD, 10)
        self.writer = make_dsn(**(parse_dsn(superuser) | {"user": "headwater_writer", "password": WRITER_PASSWORD}))

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        with closing(psycopg2.connect(self.superuser)) as opened, opened.cursor() as cursor:
            cursor.execute(statement)
            found: list[tuple[Any, ...]] = cursor.fetchall()
            return found

    def run(self, statement: str) -> None:
        with closing(psycopg2.connect(self.superuser)) as opened, opened.cursor() as cursor:
            cursor.execute(statement)
            opened.commit()

    def one(self, statement: str) -> Any:
        ((value,),) = self.rows(statement)
        return value


@pytest.fixture
def migrated(database: str) -> Database:
    return Database(database)


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    """The stream's own session, as lean as it runs."""
    from stream.session import start  # noqa: PLC0415 - a second that tests without Spark need not wait

    config = SparkConfig(jars_dir=connector_jars()[0].parent, master="local[2]")
    session = start(config, tmp_path_factory.mktemp("spark"))
    yield session
    session.stop()


@pytest.fixture(scope="session")
def payload_record() -> Callable[..., KafkaRecord]:
    """A record of the payload topic; `values` are metrics' names and numbers or texts, sampled at `sampled_at_ms`."""

    def make(  # noqa: PLR0913 - keywords, each test names the few it cares about
        values: dict[str, float | str] | None = None,
        *,
        kind: str = "DDATA",
        offset: int = 0,
        sampled_at_ms: int = NOW,
        received_at_ms: int = NOW,
        node: str = "n",
        metrics: Sequence[Metric] = (),
        historical: bool = False,
        payload: bytes | None = None,
    ) -> KafkaRecord:
        device = "/d" if kind.startswith("D") else ""
        found = (*metrics, *(_metric(name, value, sampled_at_ms, historical) for name, value in (values or {}).items()))
        headers = RecordHeaders(f"spBv1.0/g/{kind}/{node}{device}", received_at_ms).to_kafka()
        body = encode(Payload(sampled_at_ms, found, seq=0)) if payload is None else payload
        return KafkaRecord(PAYLOAD_TOPIC, 0, offset, tuple(headers), body)

    return make


def _metric(name: str, value: float | str, sampled_at_ms: int, historical: bool) -> Metric:  # noqa: FBT001 - a field
    datatype = DataType.STRING if isinstance(value, str) else DataType.DOUBLE
    return Metric(name, datatype, value, sampled_at_ms, historical)


@pytest.fixture(scope="session")
def table_of() -> Callable[..., pa.Table]:
    """Decodes records into the table that a micro-batch is collected as."""
    import pyarrow as pa  # noqa: PLC0415 - beside its use

    def collect(*records: KafkaRecord) -> pa.Table:
        rows = [row for record in records for row in decode_record(record, LIMITS)]
        return pa.Table.from_batches(to_batches(rows), SCHEMA)

    return collect
