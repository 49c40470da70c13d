"""A migrated database with the writer's and the reader's eyes on it; Spark; records as the bridge has them; models."""

from __future__ import annotations

import hashlib
import json
from contextlib import closing
from typing import TYPE_CHECKING, Any

import psycopg2
import pytest
from psycopg2.extensions import make_dsn, parse_dsn

from contract.datatypes import DataType
from contract.records import PAYLOAD_TOPIC, RecordHeaders
from contract.sparkplug import Metric, Payload, encode
from db import migrate, roles
from stream.ingest.decode import KafkaRecord, Limits
from stream.ingest.rows import SCHEMA
from stream.ingest.transform import batches_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import pyarrow as pa

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
        return pa.Table.from_batches(batches_of(records, LIMITS), SCHEMA)

    return collect


@pytest.fixture(scope="session")
def model_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two tiny models of windows of 6 steps of 2 features: a forecast of [2, 2, 3] and a reconstruction."""
    from stream.serving.tensorflow import keras  # noqa: PLC0415 - seconds that other tests need not wait

    keras.utils.set_random_seed(1)
    layers, place = keras.layers, tmp_path_factory.mktemp("models")
    window = keras.Input((6, 2))
    told = layers.Dense(12)(layers.LSTM(3)(layers.Normalization(mean=[5.0, 0.0], variance=[4.0, 1.0])(window)))
    models = {
        "forecast": keras.Model(window, layers.Reshape((2, 2, 3))(told)),
        "anomaly": keras.Model(window, layers.Dense(2)(layers.Conv1D(2, 3, padding="same")(window))),
    }
    for name, model in models.items():
        model.save(place / f"{name}.keras")
    return {name: place / f"{name}.keras" for name in models}


@pytest.fixture(scope="session")
def write_package(model_files: dict[str, Path]) -> Callable[..., Path]:
    """Writes a package with one of them into a directory; keywords replace parts of the manifest."""

    def write(directory: Path, kind: str, content: bytes | None = None, **parts: Any) -> Path:
        content = model_files[kind].read_bytes() if content is None else content
        file = {"form": "float32", "file": "model.keras", "runtime": "tensorflow", "size_bytes": len(content)}
        document = _MANIFEST | {
            "output": _OUTPUTS[kind],
            "files": [file | {"sha256": hashlib.sha256(content).hexdigest()}],
        }
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "model.keras").write_bytes(content)
        (directory / "manifest.json").write_text(json.dumps(document | parts))
        return directory

    return write


_MANIFEST: dict[str, Any] = {
    "format": 1,
    "name": "tank",
    "version": "3",
    "inputs": [{"name": "level", "hold_s": 2}, {"name": "flow", "resample": "mean"}],
    "window": {"length": 6, "step_s": 1, "max_bad_share": 0.25},
    "features": [
        {"name": "level", "of": ["level"], "mean": 5, "scale": 2},
        {"name": "flow", "transform": "change", "of": ["flow"], "scale": 0.5},
    ],
}
_OUTPUTS: dict[str, Any] = {
    "forecast": {
        "kind": "forecast",
        "targets": [{"name": "level", "of": ["level"], "relative": "difference"}, {"name": "flow", "of": ["flow"]}],
        "horizons": [1, 30],
        "quantiles": [0.025, 0.5, 0.9],
    },
    "anomaly": {"kind": "anomaly", "score": "reconstruction", "threshold": 2.5},
}
