"""An operator's machine: a fleet's broker, endpoint, bridge, Kafka, Spark job, database, and a plant to be polled."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import psycopg2
import yaml
from psycopg2.extensions import make_dsn, parse_dsn

from contract.archive import unpack
from contract.records import DEAD_LETTER_TOPIC, PAYLOAD_TOPIC
from db import migrate, roles
from fleet.__main__ import main
from fleet.founding import found
from fleet.settings import BrokerSettings, FleetSettings
from simulators.reconcile_targets import Result, Target, reconcile_all
from stack import Command, Kafka, ManagedProcess, connector_jars, free_port, wait_until
from stack.install import MOSQUITTO

if TYPE_CHECKING:
    import contextlib

    from fleet.home import Home

ROOT: Final = Path(__file__).parents[2]
# From in the machine this machine's loopback has this address.
HOST: Final = "10.0.2.2"
GROUP, NODE, PLANT, MODEL = "home", "pi-007", "plant", "tank-forecast"
_MODELS: Final = ROOT / "bench" / "edge" / "models"
_PASSWORD: Final = "a throw-away password"
_TARGET: Final = ("--arch", "arm64", "--python", "3.11")
_SCENARIO: Final = {"seed": 3, "simulators": [{"type": "plant", "name": PLANT}]}
_UNITS: Final = (1, 2)


class Desk:
    """All of it runs once this is made, but for the Spark job."""

    def __init__(self, folder: Path, kafka: Kafka, database: str, ends: contextlib.ExitStack) -> None:
        self.folder, self._kafka, self._database, self._ends = folder, kafka, database, ends
        broker = BrokerSettings(
            host=HOST,
            port=free_port(),
            names=("127.0.0.1",),
            reached_at="127.0.0.1",
            user="root" if os.geteuid() == 0 else None,
        )
        settings = FleetSettings(name="Test", groups=(GROUP,), broker=broker, url=f"https://{HOST}:{free_port()}")
        self.home: Home = found(folder / "home", settings)
        self.broker = self._start("mosquitto", str(MOSQUITTO), "-c", str(self.home.path / "broker/mosquitto.conf"))
        # What is made known to a broker that runs is read by it at once.
        self.broker.wait_ready(lambda: "running" in self.broker.log_tail(), timeout_s=60)
        self._python("serve", "fleet", "serve", "--home", str(self.home.path))
        migrate.migrate(database, 30)
        for topic in (PAYLOAD_TOPIC, DEAD_LETTER_TOPIC):
            kafka.create_topic(topic, 3)
        self._start_bridge()
        self.plant = self._start_plant()

    # What runs

    def _start(self, name: str, *words: str, **environment: str) -> ManagedProcess:
        log = self.folder / f"{name}.log"
        return self._ends.enter_context(ManagedProcess(name, Command(words, environment, ROOT), log_path=log))

    def _python(self, name: str, *words: str, **environment: str) -> ManagedProcess:
        return self._start(name, sys.executable, "-m", *words, **environment)

    def _role(self, name: str, document: dict[str, Any], **environment: str) -> None:
        path = self.folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump(document))
        self._python(name, name, "run", str(path), **environment)

    def _start_bridge(self) -> None:
        assert main(["host", "bridge-1", "--home", str(self.home.path)]) == 0
        files = self.home.path / "hosts" / "bridge-1"
        tls = {"ca_file": "ca.pem", "cert_file": "cert.pem", "key_file": "key.pem"}
        mqtt = {
            "host": "127.0.0.1",
            "port": self.home.settings.broker.port,
            "client_id": "bridge-1",
            "tls": {key: str(files / name) for key, name in tls.items()},
        }
        kafka = {"bootstrap_servers": [self._kafka.bootstrap_servers]}
        self._role("bridge", {"mqtt": mqtt, "groups": [GROUP], "kafka": kafka})

    def _start_plant(self) -> ManagedProcess:
        scenario = self.folder / "scenario.yaml"
        scenario.write_text(yaml.safe_dump(_SCENARIO | {"ledger_dir": str(self.folder)}))
        plant = self._python("plant", "simulators", "serve", str(scenario), "--addresses", str(self._addresses))
        assert wait_until(self._addresses.exists, timeout_s=60), plant.log_tail()
        return plant

    @property
    def _addresses(self) -> Path:
        return self.folder / "addresses.json"

    def start_stream(self) -> None:
        """The Spark job; it begins with what Kafka has kept."""
        spark = {"master": "local[2]", "jars_dir": str(connector_jars()[0].parent), "driver_memory": "512m"}
        document = {
            "kafka": {"bootstrap_servers": [self._kafka.bootstrap_servers]},
            "checkpoint_dir": str(self.folder / "checkpoint"),
            # Each turn takes half a second of the processors that the machine needs, too.
            "trigger_interval_s": 5.0,
            "spark": spark,
        }
        self._role("stream", document, HEADWATER_DSN=self._dsn("headwater_writer"))

    def _dsn(self, role: str) -> str:
        roles.allow_login(self._database, role, _PASSWORD, 30)
        return make_dsn(**(parse_dsn(self._database) | {"user": role, "password": _PASSWORD}))

    # What the device is given

    def flash(self, image: Path, target: Path) -> Path:
        """A card for the node: the agent, its configuration, a model, and a token."""
        home = ["--home", str(self.home.path)]
        config = self.folder / "edge.yaml"
        config.write_text(yaml.safe_dump(self._edge()))
        models = self.folder / "models"
        self.model("1.0.0", models / MODEL)
        assert main(["bundle", "--tar", *_TARGET, *home]) == 0
        words = ["--node", NODE, "--config", str(config), "--models", str(models)]
        assert main(["flash", str(image), str(target), *words, *home]) == 0
        return target

    def _edge(self) -> dict[str, Any]:
        address = json.loads(self._addresses.read_text())[PLANT]
        plant = {"type": "modbus", "name": PLANT, "host": HOST, "port": address["port"]}
        inputs = [each["name"] for each in json.loads((_MODELS / MODEL / "manifest.json").read_text())["inputs"]]
        return {
            "group": GROUP,
            "node": NODE,
            "state_dir": "/var/lib/headwater/spool",
            "identity": {"directory": "/var/lib/headwater/identity"},
            # Nobody sets its clock there.
            "clock": {"wait_s": 0},
            "mqtt": {"host": HOST, "port": self.home.settings.broker.port},
            "update": {"confirm_s": 900},
            "sources": [plant | {"interval_s": 1.0, "timeout_s": 10.0, "units": self._units()}],
            "inference": {"timeout_s": 60},
            "models": [
                {
                    "name": MODEL,
                    "directory": f"/var/lib/headwater/models/{MODEL}",
                    "inputs": {name: f"{PLANT}/{name}" for name in inputs},
                }
            ],
        }

    def _units(self) -> list[dict[str, Any]]:
        words = ["points", str(self.folder / "scenario.yaml"), PLANT]
        command = [sys.executable, "-m", "simulators", *words, *(f"--unit={unit}" for unit in _UNITS)]
        told = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
        units: list[dict[str, Any]] = yaml.safe_load(told)["units"]
        return units

    def model(self, version: str, folder: Path) -> Path:
        """The model as a version of this name."""
        folder.mkdir(parents=True)
        for path in (_MODELS / MODEL).iterdir():
            (folder / path.name).write_bytes(path.read_bytes())
        manifest = json.loads((folder / "manifest.json").read_text())
        (folder / "manifest.json").write_text(json.dumps(manifest | {"version": version}))
        return folder

    def agent(self, version: str, added: str = "") -> Path:
        """The agent as a version of this name; `added` is what stands at the end of its command `run`."""
        archive, folder = self.folder / f"{version}.tar.gz", self.folder / version
        assert main(["bundle", "--update", *_TARGET, "--out", str(archive), "--home", str(self.home.path)]) == 0
        folder.mkdir()
        with archive.open("rb") as file:
            unpack(file, folder, 64 << 20)
        manifest = json.loads((folder / "manifest.json").read_text())
        (folder / "manifest.json").write_text(json.dumps(manifest | {"version": version}))
        with (folder / "lib/edge/cli/run.py").open("a") as run:
            run.write(added)
        return folder

    def roll_out(self, kind: str, name: str, folder: Path, version: str) -> tuple[int, str]:
        """Signs it, and sees how it goes: the exit code, and what was said."""
        words = ["rollout", "start", kind, name, str(folder), "--version", version, "--soak", "0s", "--within", "20m"]
        command = [sys.executable, "-m", "fleet", *words, "--home", str(self.home.path)]
        environment = {**os.environ, "HEADWATER_DSN": self._dsn("headwater_operator")}
        done = subprocess.run(
            command, cwd=ROOT, env=environment, check=False, capture_output=True, text=True, timeout=1500
        )
        return done.returncode, done.stdout + done.stderr

    # What has become of it

    def rows(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """What the database has."""
        with closing(psycopg2.connect(self._database)) as opened, opened.cursor() as cursor:
            cursor.execute(statement, values)
            return cursor.fetchall()

    def polls(self, since_ms: int = 0) -> int:
        """How many polls of the plant are stored; times are the device's."""
        statement = (
            "select count(distinct r.sampled_at) from reading r join series using (series_id) where node_id = %s "
            "and device_id = %s and metric = 'tank1/level' and r.sampled_at >= to_timestamp(%s / 1000.0)"
        )
        ((count,),) = self.rows(statement, NODE, PLANT, since_ms)
        return int(count)

    def texts(self, device: str, metric: str) -> list[str]:
        """What the node has told of a metric, the oldest first."""
        statement = (
            "select r.value from reading_text r join series using (series_id) where node_id = %s and device_id = %s "
            "and metric = %s and r.value is not null order by r.sampled_at"
        )
        return [value for (value,) in self.rows(statement, NODE, device, metric)]

    def told(self, kind: str, name: str) -> dict[str, Any]:
        """The last word of the node's on an update."""
        words = self.texts("", f"Update/{kind}/{name}")
        last: dict[str, Any] = json.loads(words[-1]) if words else {}
        return last

    def values(self) -> list[tuple[str, int, float]]:
        """All good numbers of the plant's: metric, time in ms, value."""
        statement = (
            "select metric, (extract(epoch from r.sampled_at) * 1000)::bigint, r.value from reading r join series "
            "using (series_id) where node_id = %s and device_id = %s and r.quality = 192 and r.value is not null"
        )
        return self.rows(statement, NODE, PLANT)

    def answers(self, since_ms: int) -> int:
        """How often the plant has told the tank's level since then."""
        entries = map(json.loads, self.ledger.read_text().splitlines())
        return sum("tank1/level" in each.get("values", {}) and each["at"] >= since_ms for each in entries)

    @property
    def ledger(self) -> Path:
        """What the plant has answered."""
        return self.folder / f"{PLANT}.jsonl"

    def reconciled(self, ledger: Path) -> Result:
        """All that the plant has answered, held against the tables."""
        target = Target(source=PLANT, ledger=ledger, group=GROUP, node=NODE, device=PLANT)
        (result,) = reconcile_all(self._database, [target])
        return result
