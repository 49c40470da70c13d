"""The pollers: how each is installed, told to poll the layout, and started."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import venv
from abc import ABC, abstractmethod
from pathlib import Path
from string import Template
from typing import Any, Final

import yaml

from bench.edge.layout import MAX_GAP, POINTS, UNITS

CHECKOUT: Final = Path(__file__).parents[2]
INSTALLED: Final = CHECKOUT / ".stack" / "bench"
_TELEGRAF: Final = "github.com/influxdata/telegraf/cmd/telegraf@v1.37.2"
_TELEGRAF_TAGS: Final = "custom,inputs.modbus,outputs.mqtt,serializers.influx"
_HERE: Final = Path(__file__).parent
_GATEWAY_LOCK: Final = _HERE / "thingsboard-gateway.lock"
_GATEWAY_PROGRAM: Final = """
import sys
from thingsboard_gateway.gateway.tb_gateway_service import TBGatewayService
TBGatewayService(sys.argv[1])
"""
_TELEGRAF_TYPES: Final = {"uint16": "UINT16", "int32": "INT32", "float32": "FLOAT32"}
_GATEWAY_TYPES: Final = {"uint16": "16uint", "int32": "32int", "float32": "32float"}


class Contestant(ABC):
    """A poller. `missing` says what stands in the way of running it here, if anything."""

    name: str
    shortest_interval_s = 0.0

    def missing(self) -> str | None:
        """Why it cannot be run."""
        return None

    def install(self) -> None:
        """Installs it below `.stack/bench`, unless it is there."""
        return

    @abstractmethod
    def start(self, directory: Path, plant_port: int, broker_port: int, interval_s: float) -> subprocess.Popen[bytes]:
        """Starts it, with its files and log in a directory."""

    @staticmethod
    def _run(directory: Path, *command: str | Path) -> subprocess.Popen[bytes]:
        with (directory / "log").open("wb") as log:
            return subprocess.Popen(
                command, cwd=directory, stdout=log, stderr=log, env=os.environ | {"PYTHONPATH": str(CHECKOUT)}
            )


class Headwater(Contestant):
    """Our agent: it commits every poll to its disk, and delivers at QoS 1 until the bridge has answered."""

    name = "headwater"

    def start(self, directory: Path, plant_port: int, broker_port: int, interval_s: float) -> subprocess.Popen[bytes]:
        """Starts the agent with one source of ten units."""
        config = {
            "group": "bench",
            "node": f"every-{interval_s:g}",
            "state_dir": str(directory / "state"),
            "clock": {"wait_s": 0},
            "mqtt": {"host": "127.0.0.1", "port": broker_port},
            "sources": self.sources(plant_port, interval_s),
        }
        path = directory / "edge.yaml"
        path.write_text(yaml.safe_dump(config), encoding="utf-8")
        return self._run(directory, sys.executable, "-m", "edge", "run", path)

    def sources(self, plant_port: int, interval_s: float) -> list[dict[str, Any]]:
        """The line."""
        units = [
            {
                "unit_id": unit,
                "points": [
                    {
                        "name": f"unit{unit}/{point.name}",
                        "table": "holding",
                        "address": point.address,
                        "datatype": point.datatype,
                    }
                    for point in POINTS
                ],
            }
            for unit in UNITS
        ]
        line = {"type": "modbus", "name": "plant", "interval_s": interval_s, "max_gap": MAX_GAP}
        return [line | {"host": "127.0.0.1", "port": plant_port, "units": units}]


class Telegraf(Contestant):
    """Telegraf with its Modbus plug-in, requests optimized as far as it can; its buffer is in memory."""

    name = "telegraf"
    optimization = "max_insert"

    @property
    def _binary(self) -> Path:
        return INSTALLED / "bin" / "telegraf"

    def missing(self) -> str | None:
        """Go, to build it."""
        return None if self._binary.exists() or shutil.which("go") else "Go 1.25 or newer is needed to build it"

    def install(self) -> None:
        """Builds it from source, with the plug-ins that are used (some minutes)."""
        if not self._binary.exists():
            environment = os.environ | {"GOBIN": str(self._binary.parent), "GOFLAGS": "-mod=mod"}
            command = ["go", "install", "-trimpath", "-ldflags", "-w -s", "-tags", _TELEGRAF_TAGS, _TELEGRAF]
            subprocess.run(command, env=environment, check=True)

    def start(self, directory: Path, plant_port: int, broker_port: int, interval_s: float) -> subprocess.Popen[bytes]:
        """Starts it with one plug-in a unit."""
        ports = {"plant_port": plant_port, "broker_port": broker_port, "interval_ms": round(interval_s * 1000)}
        template = Template((_HERE / "telegraf.conf").read_text(encoding="utf-8"))
        parts = [template.substitute(ports), *(self._request(unit) for unit in UNITS)]
        path = directory / "telegraf.conf"
        path.write_text("\n".join(parts), encoding="utf-8")
        return self._run(directory, self._binary, "--config", path)

    def _request(self, unit: int) -> str:
        fields = ",\n".join(
            f'  {{ address={point.address}, name="{point.name}", type="{_TELEGRAF_TYPES[point.datatype]}" }}'
            for point in POINTS
        )
        head = f'[[inputs.modbus.request]]\nslave_id = {unit}\nbyte_order = "ABCD"\nregister = "holding"\n'
        insert = f"optimization_max_register_fill = {MAX_GAP}\n" if self.optimization == "max_insert" else ""
        return f'{head}optimization = "{self.optimization}"\n{insert}fields = [\n{fields}\n]\n'


class TelegrafDefault(Telegraf):
    """Telegraf as it comes: neighbouring fields share a request, no hole is read along."""

    name = "telegraf (default)"
    optimization = "none"


class ThingsBoardGateway(Contestant):
    """thingsboard-gateway with its Modbus connector; Mosquitto stands for ThingsBoard."""

    name = "thingsboard-gateway"
    # Its cycle of a thousand requests takes most of a second; asked to be quicker, it delivers next to nothing.
    shortest_interval_s = 1.0

    @property
    def _python(self) -> Path:
        return INSTALLED / "thingsboard-gateway" / "bin" / "python"

    def install(self) -> None:
        """Installs it from its lock into an environment of its own: it pins an older pymodbus."""
        if not self._python.exists():
            venv.create(self._python.parents[1], with_pip=True)
            subprocess.run(
                [self._python, "-m", "pip", "install", "-q", "--require-hashes", "-r", _GATEWAY_LOCK], check=True
            )

    def start(self, directory: Path, plant_port: int, broker_port: int, interval_s: float) -> subprocess.Popen[bytes]:
        """Starts it with one slave a unit."""
        config = directory / "config"
        (config / "logs").mkdir(parents=True)
        gateway = _read_yaml("tb_gateway.yaml")
        gateway["thingsboard"]["port"] = broker_port
        slaves = [self._slave(unit, plant_port, interval_s) for unit in UNITS]
        files = {
            "tb_gateway.json": gateway,
            "modbus.json": {"name": "plant", "logLevel": "ERROR", "master": {"slaves": slaves}},
            "statistics.json": [],
            "logs.json": {"version": 1, "disable_existing_loggers": False, "root": {"level": "ERROR", "handlers": []}},
        }
        for name, content in files.items():
            (config / name).write_text(json.dumps(content), encoding="utf-8")
        return self._run(directory, self._python, "-c", _GATEWAY_PROGRAM, config / "tb_gateway.json")

    def _slave(self, unit: int, plant_port: int, interval_s: float) -> dict[str, Any]:
        own = {"port": plant_port, "unitId": unit, "deviceName": f"unit{unit}", "pollPeriod": round(interval_s * 1000)}
        return (
            _read_yaml("tb_slave.yaml")
            | own
            | {
                "timeseries": [
                    {
                        "tag": point.name,
                        "type": _GATEWAY_TYPES[point.datatype],
                        "functionCode": 3,
                        "objectsCount": point.size,
                        "address": point.address,
                    }
                    for point in POINTS
                ],
            }
        )


def _read_yaml(name: str) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((_HERE / name).read_text(encoding="utf-8"))
    return document
