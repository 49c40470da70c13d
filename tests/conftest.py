"""Real servers for every suite: started when a test first asks for one, stopped at the end of the run."""

from __future__ import annotations

import itertools
import os
from typing import TYPE_CHECKING

import pytest

from stack import Kafka, Mosquitto, Timescale, connector_jars

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyspark.sql import SparkSession

_database_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def mosquitto() -> Iterator[Mosquitto]:
    """A broker that the whole run shares: use topics and client ids of your own."""
    with Mosquitto() as server:
        yield server


@pytest.fixture(scope="session")
def kafka() -> Iterator[Kafka]:
    """A Kafka that the whole run shares: make topics of your own."""
    with Kafka() as server:
        yield server


@pytest.fixture(scope="session")
def timescale() -> Iterator[Timescale]:
    """A PostgreSQL that the whole run shares; mostly you want `database`."""
    # fsync is off for speed alone: a kill of the server loses nothing by it, only a power cut does.
    with Timescale(shared_buffers="128MB", settings={"fsync": "off"}) as server:
        yield server


@pytest.fixture
def database(timescale: Timescale) -> Iterator[str]:
    """The superuser's connection string for a fresh database with the extension timescaledb."""
    name = f"test_{os.getpid()}_{next(_database_numbers)}"
    yield timescale.create_database(name)
    timescale.drop_database(name)


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    """The stream's own session, as lean as it runs; a process can have but one."""
    from stream.config import SparkConfig  # noqa: PLC0415 - a second that tests without Spark need not wait
    from stream.session import start  # noqa: PLC0415 - as above

    config = SparkConfig(jars_dir=connector_jars()[0].parent, master="local[2]")
    session = start(config, tmp_path_factory.mktemp("spark"))
    yield session
    session.stop()
