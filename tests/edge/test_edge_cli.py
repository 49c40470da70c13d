"""The command line and the configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from contract.config import ConfigError, parse_config
from edge.__main__ import main
from edge.config import AgentConfig, MqttConfig

EXAMPLES = sorted(Path("edge/examples").glob("*.yaml"))
DOCS = Path("docs/edge.md").read_text(encoding="utf-8")


def document(**more: Any) -> dict[str, Any]:
    place = {"preset": "open-meteo", "latitude": 1, "longitude": 2}
    weather = {"type": "rest", "name": "weather", "interval_s": 10, **place}
    base = {"group": "g", "node": "n", "state_dir": "/s", "mqtt": {"host": "h"}, "sources": [weather]}
    return base | more


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_examples_are_right(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(path)]) == 0
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
        ({"mqtt": {"host": "h", "username": "u", "password_env": "NOT_SET"}}, "variable NOT_SET is not set"),
        ({"mqtt": {"host": "h", "username": "u", "password_file": "/none"}}, "/none cannot be read"),
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
    for command in ("run", "check", "poll-once"):
        assert f"python -m edge {command}" in DOCS
    assert [key for key in AgentConfig.model_fields if f"`{key}`" not in DOCS] == []


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
