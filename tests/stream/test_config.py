from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from contract.config import ConfigError, parse_config, read_config
from stream.config import DatabaseConfig, StreamConfig

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "stream/examples/stream.yaml"


def test_the_example_is_right_and_shows_the_defaults() -> None:
    config = read_config(EXAMPLE, StreamConfig)
    bare = {
        "kafka": {"bootstrap_servers": list(config.kafka.bootstrap_servers)},
        "checkpoint_dir": config.checkpoint_dir,
        "spark": {"jars_dir": config.spark.jars_dir},
    }
    assert parse_config(bare, StreamConfig, "bare") == config


def test_the_command_checks_a_config_and_tells_each_fault_on_a_line(tmp_path: Path) -> None:
    path = tmp_path / "stream.yaml"
    path.write_text("kafka: {bootstrap_server: x}\ncheckpoint_dir: ''\nspark: {jars_dir: x, driver_memory: lots}\n")
    command = [sys.executable, "-W", "error", "-m", "stream", "check"]
    done = subprocess.run([*command, str(path)], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    lines = done.stderr.splitlines()
    assert all(line.startswith(f"{path}: ") for line in lines)
    assert [line.split(": ")[1] for line in lines] == [
        "kafka.bootstrap_servers",
        "kafka.bootstrap_server",
        "checkpoint_dir",
        "spark.driver_memory",
    ]
    assert subprocess.run([*command, str(EXAMPLE)], cwd=ROOT, capture_output=True, check=False).returncode == 0


def test_the_dsn_comes_from_the_environment_or_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADWATER_DSN", "host=from-the-environment")
    assert DatabaseConfig().dsn() == "host=from-the-environment"
    (tmp_path / "dsn").write_text("postgresql://from-a-file/headwater\n")
    assert DatabaseConfig(dsn_file=tmp_path / "dsn").dsn() == "postgresql://from-a-file/headwater"
    monkeypatch.delenv("HEADWATER_DSN")
    with pytest.raises(ConfigError, match="HEADWATER_DSN is empty"):
        DatabaseConfig().dsn()
    with pytest.raises(ConfigError, match=r"missing: cannot be read: No such file"):
        DatabaseConfig(dsn_file=tmp_path / "missing").dsn()
    (tmp_path / "dsn").write_text("root:secret:0:0")
    with pytest.raises(ConfigError, match="holds no connection string") as caught:
        DatabaseConfig(dsn_file=tmp_path / "dsn").dsn()
    assert "secret" not in str(caught.value)
    (tmp_path / "dsn").write_bytes(b"\xff")
    with pytest.raises(ConfigError, match="cannot be read: 'utf-8' codec"):
        DatabaseConfig(dsn_file=tmp_path / "dsn").dsn()


@pytest.mark.parametrize("servers", ["k:9092", ["k:9092,l:9092"], ["k"], []])
def test_brokers_are_a_list_of_host_and_port(servers: object) -> None:
    bare = {"kafka": {"bootstrap_servers": servers}, "checkpoint_dir": "x", "spark": {"jars_dir": "x"}}
    with pytest.raises(ConfigError, match=r"bare: kafka\.bootstrap_servers"):
        parse_config(bare, StreamConfig, "bare")
