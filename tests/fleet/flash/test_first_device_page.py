"""The newcomer's page: its configurations are valid, and its commands and options exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import yaml

from bridge.config import BridgeConfig
from contract.config import parse_config
from edge.config import AgentConfig
from fleet.__main__ import main

DOCS = Path(__file__).parents[3] / "docs"
PAGE = (DOCS / "first-device.md").read_text()
SECTION = (DOCS / "fleet.md").read_text().partition("## Flash")[2].partition("\n## ")[0]
BRIDGE, AGENT = (yaml.safe_load(text) for text in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL))
# A comment behind two spaces, and lines that go on.
COMMANDS = [
    shlex.split(line.replace("\\\n", " "), comments=True)[3:]
    for line in re.findall(r"^\$ python -m fleet (?:.*\\\n)*.*$", PAGE + SECTION, re.MULTILINE)
]


def test_the_configurations_are_valid_and_fit_each_other() -> None:
    agent, bridge = parse_config(AGENT, AgentConfig, "agent"), parse_config(BRIDGE, BridgeConfig, "bridge")
    assert agent.group in bridge.groups
    assert agent.mqtt.port == bridge.mqtt.port


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_commands_and_their_options_exist(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    command = words[words.index("fleet") + 1]
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    told = capsys.readouterr().out
    assert [option for option in words if option.startswith("--") and option not in told] == []


def test_every_option_of_flash_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["flash", "--help"])
    options = set(re.findall(r"--[a-z0-9-]+", capsys.readouterr().out)) - {"--help", "--home", "--json"}
    assert {option for option in options if f"`{option}`" not in SECTION and option not in SECTION} == set()
