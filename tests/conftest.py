"""Real servers for every suite: started when a test first asks for one, stopped at the end of the run."""

from __future__ import annotations

import itertools
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings
from paho.mqtt import client as mqtt

from stack import Command, Kafka, ManagedProcess, Mosquitto, Timescale, connector_jars, free_port
from stack.install import MOSQUITTO

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pyspark.sql import SparkSession

    from fleet.home import Home

_database_numbers = itertools.count(1)

# How long an example takes depends on what else the machine does.
settings.register_profile("headwater", deadline=None)
settings.load_profile("headwater")


@pytest.fixture(scope="session", autouse=True)
def _stopped_clients_have_no_sockets() -> Iterator[None]:
    """Has paho's clients close their sockets: left to the garbage collection, they fail whatever test runs then."""
    loop_stop = mqtt.Client.loop_stop

    def stop_and_close(client: mqtt.Client) -> mqtt.MQTTErrorCode:
        stopped = loop_stop(client)
        client._reset_sockets()
        return stopped

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mqtt.Client, "loop_stop", stop_and_close)
        yield


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


@dataclass(frozen=True)
class FleetAtWork:
    """A fleet of groups `plant` and `annex` on loopback: its operator's directory, and its broker, which runs."""

    home: Home
    broker: ManagedProcess


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[FleetAtWork]:
    """A fleet of the test's own."""
    from fleet.founding import found  # noqa: PLC0415 - cryptography, for which tests without a fleet need not wait
    from fleet.settings import BrokerSettings, FleetSettings  # noqa: PLC0415 - as above

    broker = BrokerSettings(host="localhost", port=free_port(), user="root" if os.geteuid() == 0 else None)
    url = f"https://localhost:{free_port()}"
    home = found(tmp_path / "home", FleetSettings(name="Test", groups=("plant", "annex"), broker=broker, url=url))
    words = [str(MOSQUITTO), "-c", str(home.path / "broker/mosquitto.conf")]
    process = ManagedProcess("mosquitto", Command(words), log_path=tmp_path / "mosquitto.log")
    process.start()
    try:
        process.wait_ready(lambda: "running" in process.log_tail(), timeout_s=10)
        yield FleetAtWork(home, process)
    finally:
        process.stop()
