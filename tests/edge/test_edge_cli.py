"""The command line and the configuration."""

from __future__ import annotations

import argparse
import asyncio
import math
import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from contract.config import ConfigError, parse_config
from contract.datatypes import DataType
from edge.__main__ import COMMANDS, main
from edge.batch import batches_of_poll
from edge.cli.command import print_table
from edge.cli.preflight import is_host
from edge.config import AgentConfig
from edge.estimate import cost_of
from edge.reading import MetricInfo, Reading
from edge.reporting import ReportRule
from edge.spool import Spool, SpoolLimits
from edge.uplink import MqttConfig

EXAMPLES = sorted(Path("edge/examples").glob("*.yaml"))
DOCS = Path("docs/edge.md").read_text(encoding="utf-8")
ALL_DOCS = DOCS + "".join(path.read_text(encoding="utf-8") for path in Path("docs/sources").glob("*.md"))


def document(**more: Any) -> dict[str, Any]:
    place = {"preset": "open-meteo", "latitude": 1, "longitude": 2}
    weather = {"type": "rest", "name": "weather", "interval_s": 10, **place}
    base = {"group": "g", "node": "n", "state_dir": "/s", "mqtt": {"host": "h"}, "sources": [weather]}
    return base | more


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_examples_are_right(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--elsewhere", str(path)]) == 0
    shown = capsys.readouterr().out
    for source in yaml.safe_load(path.read_text())["sources"]:
        assert source["name"] in shown


def test_there_is_an_example_of_every_kind_of_source() -> None:
    kinds = {source["type"] for path in EXAMPLES for source in yaml.safe_load(path.read_text())["sources"]}
    assert kinds == {"modbus", "rest", "camera"}


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"node": "a/b"}, "edge.yaml: node: found 'a/b'"),
        ({"sources": []}, "edge.yaml: sources: found []"),
        ({"sources": document()["sources"] * 2}, "source names must be unique, given more than once: weather"),
        ({"colour": 1}, "edge.yaml: colour: is not a known key"),
        ({"mqtt": {"host": "h", "tls": {"cert_file": "/c"}}}, "cert_file and key_file are given together"),
        ({"mqtt": {"host": "h", "password_env": "P"}}, "a password needs a username"),
        ({"sources": [document()["sources"][0] | {"colour": 1}]}, "colour: is not a known key"),
        (
            {"mqtt": {"host": "h", "username": "u", "password_env": "NOT_SET"}},
            "mqtt.password_env: environment variable",
        ),
        (
            {"mqtt": {"host": "h", "username": "u", "password_file": "/none"}},
            "mqtt.password_file: /none cannot be read",
        ),
        ({"mqtt": {"host": "h", "username": "u", "password_file": "/etc"}}, "mqtt.password_file: /etc is a directory"),
        ({"state_dir": "README.md"}, "state_dir: README.md is no directory"),
        ({"health_interval_s": math.inf}, "health_interval_s: found inf"),
        ({"stuck_after_s": 1e-9}, "stuck_after_s: found 1e-09"),
        ({"mqtt": {"host": "h", "tls": {"ca_file": "/none.pem"}}}, "mqtt.tls.ca_file: /none.pem cannot be read"),
        ({"mqtt": {"host": "h", "tls": {"ca_file": "README.md"}}}, "mqtt.tls: README.md: cannot be used"),
        ({"mqtt": {"host": "192.168.1.300"}}, "mqtt.host: found '192.168.1.300', allowed: a name or an address"),
    ],
)
def test_a_wrong_config_is_one_line_and_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: dict[str, Any], line: str
) -> None:
    path = tmp_path / "edge.yaml"
    path.write_text(yaml.safe_dump(document(**change)))
    assert main(["check", str(path)]) == 2
    told = capsys.readouterr().err
    assert line in told
    assert len(told.splitlines()) == 1


def test_the_password_is_read_from_where_it_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "password").write_text("from file\nand more")
    monkeypatch.setenv("EDGE_PASSWORD", "from environment")
    file = MqttConfig(host="h", username="u", password_file=tmp_path / "password")
    environment = MqttConfig(host="h", username="u", password_env="EDGE_PASSWORD")
    assert (file.password(), environment.password()) == ("from file", "from environment")


def test_what_another_machine_has_is_not_looked_for_here(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "edge.yaml"
    path.write_text(yaml.safe_dump(document(mqtt={"host": "h", "tls": {"ca_file": "/none.pem"}})))
    assert main(["check", "--elsewhere", str(path)]) == 0
    assert main(["check", str(path)]) == 2
    capsys.readouterr()


@pytest.mark.parametrize(
    ("host", "good"),
    [
        ("broker", True),
        ("plc_3.site.example.", True),
        ("192.0.2.1", True),
        ("2001:db8::1", True),
        ("a" * 64, False),
        ("-a", False),
        ("a b", False),
        ("a..b", False),
        ("", False),
        ("10.0.0", False),
        (".".join(["a" * 60] * 5), False),
    ],
)
def test_what_can_be_a_host(host: str, good: bool) -> None:  # noqa: FBT001 - a parameter of the test
    assert is_host(host) is good


def test_check_says_what_is_polled_what_it_costs_and_how_long_the_spool_lasts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    points = [
        {"name": "level", "table": "holding", "address": 0, "datatype": "float32", "unit": "m"},
        {"name": "setpoint", "table": "holding", "address": 2, "datatype": "int16", "write": {"min": 0, "max": 5}},
    ]
    report = [{"metrics": "lev*", "deadband": 0.5}, {"metrics": "none*"}]
    plant = {
        "type": "modbus",
        "name": "plant",
        "interval_s": 1,
        "host": "192.0.2.1",
        "units": [{"unit_id": 1, "points": points}],
        "report": report,
    }
    path = tmp_path / "edge.yaml"
    path.write_text(yaml.safe_dump(document(sources=[plant], spool={"max_bytes": 1 << 20})))
    assert main(["check", str(path), "--outage", "1"]) == 0
    shown = capsys.readouterr().out
    assert "commands may write: setpoint" in shown
    assert "report lev*: changes over 0.5, at least each 300 s, of 1 metrics" in shown
    assert "report none*: every change, at least each 300 s, of NO metric" in shown
    assert re.search(r"plant +modbus +1 s +2 +2 +\d+ B +1\d\.?\d* MiB", shown), shown
    assert "spool: 1 MiB hold an outage of about" in shown
    assert main(["check", str(path), "--outage", "1000"]) == 1
    assert "spool.max_bytes is 1048576" in capsys.readouterr().err
    for hours in ("nan", "-1", "inf"):
        assert main(["check", str(path), f"--outage={hours}"]) == 2
        assert capsys.readouterr().err.startswith("--outage: found")


def test_a_sample_poll_is_about_as_large_as_a_real_one(tmp_path: Path) -> None:
    metrics = [MetricInfo(f"tank{n}/level", DataType.DOUBLE) for n in range(50)]
    cost = cost_of("plant", 1.0, metrics)
    readings = [Reading(metric.name, metric.datatype, 0.1 + n, 1_800_000_000_000) for n, metric in enumerate(metrics)]
    [batch] = batches_of_poll("plant", readings, 1_800_000_000_000, 1_800_000_000_000)
    assert cost.poll_bytes == pytest.approx(len(batch.payload), rel=0.02)

    async def put_thousand() -> None:
        spool = Spool(tmp_path, SpoolLimits(1 << 28, 1 << 27, 0.01), lambda: 1_800_000_000_000, lambda *_: batch)
        await spool.start()
        for _ in range(1000):
            spool.put(batch)
        await spool.close(clean=True)

    asyncio.run(put_thousand())
    a_poll_bytes = sum(file.stat().st_size for file in tmp_path.glob("spool-*.db")) / 1000
    assert cost.disk_bytes_per_day / 86_400 == pytest.approx(a_poll_bytes, rel=0.3)


def test_a_disk_that_is_smaller_than_the_spool_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "edge.yaml"
    state = {"state_dir": str(tmp_path / "to" / "be" / "made"), "spool": {"max_bytes": 1 << 60}}
    path.write_text(yaml.safe_dump(document(**state)))
    assert main(["check", str(path)]) == 0
    assert re.search(r"spool: but its disk has no more than \d.* left for it", capsys.readouterr().out)
    assert main(["check", "--elsewhere", str(path)]) == 0
    assert "its disk" not in capsys.readouterr().out


def test_check_online_says_what_answers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], weather_api: tuple[Any, str]
) -> None:
    weather = document()["sources"][0] | {"base_url": weather_api[1]}
    path = tmp_path / "edge.yaml"
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        mqtt = {"host": "127.0.0.1", "port": nobody.getsockname()[1]}
        path.write_text(yaml.safe_dump(document(sources=[weather], mqtt=mqtt)))
        assert main(["check", str(path), "--online"]) == 1
    told = capsys.readouterr()
    assert re.search(r"sources.0.base_url: 127.0.0.1:\d+ answers", told.out)
    assert re.search(r"edge: mqtt: 127.0.0.1:\d+ cannot be reached", told.err)


def test_poll_once_prints_what_a_source_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], weather_api: tuple[Any, str]
) -> None:
    api, url = weather_api
    weather = document()["sources"][0] | {"base_url": url, "only": ["temperature_2m"]}
    path = tmp_path / "edge.yaml"
    path.write_text(yaml.safe_dump(document(sources=[weather])))
    assert main(["poll-once", str(path), "--source", "weather"]) == 0
    assert "weather/temperature_2m  0.0    GOOD" in capsys.readouterr().out
    assert main(["poll-once", str(path), "--source", "other"]) == 2
    assert "allowed: weather" in capsys.readouterr().err
    api.fails = True
    assert main(["poll-once", str(path)]) == 1
    assert "weather" in capsys.readouterr().err


def test_every_field_is_described() -> None:
    schema = AgentConfig.model_json_schema()
    own = ("AgentConfig", "MqttConfig", "Tls", "HealthConfig", "SpoolConfig")
    for name in own:
        properties = schema["properties"] if name == "AgentConfig" else schema["$defs"][name]["properties"]
        assert [key for key, field in properties.items() if "description" not in field] == []


@pytest.mark.parametrize("model", ["MqttConfig", "Tls", "SpoolConfig", "HealthConfig"])
def test_the_docs_name_every_option(model: str) -> None:
    properties = AgentConfig.model_json_schema()["$defs"][model]["properties"]
    assert [key for key in properties if f"`{key}`" not in DOCS] == []


def test_the_docs_name_every_command_and_agent_option() -> None:
    for command in COMMANDS:
        assert f"python -m edge {command.name}" in ALL_DOCS
        parser = argparse.ArgumentParser()
        command.add_arguments(parser)
        for action in parser._actions:
            options = [option for option in action.option_strings if option.startswith("--") and option != "--help"]
            assert all(option in ALL_DOCS for option in options), (command.name, options)
    assert [key for key in ReportRule.model_fields if f"`{key}`" not in DOCS] == []
    assert [key for key in AgentConfig.model_fields if f"`{key}`" not in DOCS] == []


def test_a_configuration_is_checked_without_what_only_a_running_agent_needs() -> None:
    code = "import sys, edge.__main__; print({'paho', 'numpy', 'cv2', 'httpx', 'sqlite3'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_who_reads_only_the_beginning_or_knows_no_degrees_sees_no_traceback() -> None:
    command = f"{sys.executable} -m edge check --elsewhere edge/examples/edge.yaml"
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    for line in (f"{command} | head -1", command):
        done = subprocess.run(line, shell=True, capture_output=True, env=environment, check=True)
        assert done.stdout
        assert not done.stderr


def test_what_a_device_says_commands_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    print_table([("metric", "value"), ("label", "\x1b[2Jon\n")])
    assert capsys.readouterr().out == "metric  value\nlabel   ?[2Jon?\n"


def test_help_is_offered(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    assert "poll-once" in capsys.readouterr().out


def test_a_config_keeps_its_defaults() -> None:
    config = parse_config(document(), AgentConfig, "edge.yaml")
    assert (config.mqtt.port, config.mqtt.window, config.drain_timeout_s) == (1883, 256, 30)
    with pytest.raises(ConfigError):
        parse_config([], AgentConfig, "edge.yaml")
