"""Who carries the messages: how each is started, and how many it has done."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from abc import ABC, abstractmethod
from contextlib import closing
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, ClassVar, Final

import yaml
from kafka import KafkaConsumer, TopicPartition

from bench.bridge.session import FILTER, RECEIVE_MAXIMUM
from bench.fleet import GROUP

if TYPE_CHECKING:
    from stack import Kafka

CHECKOUT: Final = Path(__file__).parents[2]
INSTALLED: Final = CHECKOUT / ".stack" / "bench" / "bridge"
_HERE: Final = Path(__file__).parent
_TELEGRAF: Final = "github.com/influxdata/telegraf/cmd/telegraf@v1.37.2"
_TAGS: Final = (
    "custom,inputs.mqtt_consumer,outputs.kafka,parsers.influx,parsers.value,serializers.influx,serializers.template"
)
_PARTITIONS: Final = 3


class Contestant(ABC):
    """One who takes messages out of a session that was left under `client_id`."""

    name: ClassVar[str]
    client_id: ClassVar[str]
    mqtt5: ClassVar[bool] = True
    # Whether it gets the readings as InfluxDB's lines.
    influx: ClassVar[bool] = False
    topic_filter: ClassVar[str] = FILTER

    def __init__(self, directory: Path, broker_port: int, kafka: Kafka, topic: str) -> None:
        self._directory = directory
        self._broker_port = broker_port
        self._kafka = kafka
        self._topic = topic

    @classmethod
    def missing(cls) -> str | None:
        """Why it cannot be run."""
        return None

    @classmethod
    def install(cls) -> None:
        """Installs it below `.stack/bench/bridge`, unless it is there."""
        return

    @abstractmethod
    def start(self) -> subprocess.Popen[bytes]:
        """Starts it, with its files and its output, `log`, in the directory."""

    @abstractmethod
    def done(self) -> int:
        """How many messages it has carried, the births included."""

    def close(self) -> None:
        """Lets go of what `done` needs."""
        return

    def _run(self, *command: str | Path) -> subprocess.Popen[bytes]:
        with (self._directory / "log").open("wb") as log:
            return subprocess.Popen(
                command, cwd=self._directory, stdout=log, stderr=log, env=os.environ | {"PYTHONPATH": str(CHECKOUT)}
            )


class Acknowledger(Contestant):
    """A paho client that only subscribes and acknowledges; what it acknowledges is lost."""

    name = "paho, acknowledges only"
    client_id = "bench-acknowledger"

    def start(self) -> subprocess.Popen[bytes]:
        """Starts it."""
        module = "bench.bridge.acknowledger"
        return self._run(sys.executable, "-m", module, str(self._broker_port), self.client_id)

    def done(self) -> int:
        """As it says itself."""
        lines = (self._directory / "log").read_bytes()[-64:].split(b"\n")
        return int(lines[-2]) if len(lines) > 1 else 0


class _ToKafka(Contestant):
    """What it has done is what Kafka has."""

    def __init__(self, directory: Path, broker_port: int, kafka: Kafka, topic: str) -> None:
        super().__init__(directory, broker_port, kafka, topic)
        kafka.create_topic(topic, _PARTITIONS)
        self._consumer = KafkaConsumer(bootstrap_servers=kafka.bootstrap_servers)
        self._partitions = [TopicPartition(topic, n) for n in range(_PARTITIONS)]

    def done(self) -> int:
        """Kafka's word, every replica having the records."""
        return int(sum(self._consumer.end_offsets(self._partitions).values()))

    def close(self) -> None:
        """Closes the connection to Kafka."""
        with closing(self._consumer):
            pass


class Bridge(_ToKafka):
    """Ours."""

    name = "headwater bridge"
    client_id = "headwater-bridge"

    def start(self) -> subprocess.Popen[bytes]:
        """Starts `python -m bridge run` with its defaults."""
        topics = {"payloads": self._topic, "dead_letters": f"{self._topic}.dead", "create": True, "partitions": 1}
        document = {
            "mqtt": {"host": "127.0.0.1", "port": self._broker_port, "client_id": self.client_id},
            "groups": [GROUP],
            "kafka": {"bootstrap_servers": [self._kafka.bootstrap_servers], "topics": topics},
            "limits": {"max_in_flight": RECEIVE_MAXIMUM},
        }
        path = self._directory / "bridge.yaml"
        path.write_text(yaml.safe_dump(document), encoding="utf-8")
        return self._run(sys.executable, "-m", "bridge", "run", path)


class TelegrafPassing(_ToKafka):
    """Telegraf, which takes the payload as one value and gives it on: what the bridge does, without the stamps."""

    name = "telegraf, payload as it is"
    client_id = "bench-telegraf"
    mqtt5 = False
    parser: ClassVar[str] = 'data_format = "value"\ndata_type = "string"'
    serializer: ClassVar[str] = """data_format = "template"\ntemplate = '{{ .Field "value" }}'"""

    @classmethod
    def missing(cls) -> str | None:
        """Go, to build it."""
        return None if _binary().exists() or shutil.which("go") else "Go 1.25 or newer is needed to build it"

    @classmethod
    def install(cls) -> None:
        """Builds it from source, with the plug-ins that are used (some minutes)."""
        if not _binary().exists():
            environment = os.environ | {"GOBIN": str(INSTALLED), "GOFLAGS": "-mod=mod"}
            command = ["go", "install", "-trimpath", "-ldflags", "-w -s", "-tags", _TAGS, _TELEGRAF]
            subprocess.run(command, env=environment, check=True)

    def start(self) -> subprocess.Popen[bytes]:
        """Starts it."""
        filled = Template((_HERE / "telegraf.conf").read_text(encoding="utf-8")).substitute(
            broker_port=self._broker_port,
            filter=self.topic_filter,
            client_id=self.client_id,
            kafka=self._kafka.bootstrap_servers,
            topic=self._topic,
            parser=self.parser,
            serializer=self.serializer,
        )
        path = self._directory / "telegraf.conf"
        path.write_text(filled, encoding="utf-8")
        return self._run(_binary(), "--config", path)


class TelegrafParsing(TelegrafPassing):
    """Telegraf as it is mostly used: it reads the same readings from InfluxDB's lines and writes such lines."""

    name = "telegraf, influx lines"
    client_id = "bench-telegraf-influx"
    influx = True
    parser = 'data_format = "influx"'
    serializer = 'data_format = "influx"'


def _binary() -> Path:
    return INSTALLED / "telegraf"


CONTESTANTS: Final[tuple[type[Contestant], ...]] = (Acknowledger, Bridge, TelegrafPassing, TelegrafParsing)
