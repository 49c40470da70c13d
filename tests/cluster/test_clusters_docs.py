"""docs/clusters.md: its configurations are valid, its Python names what there is, its options exist."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

import stack
from bridge.config import BridgeConfig
from stream.__main__ import main
from stream.config import StreamConfig

PAGE = (Path(__file__).parents[2] / "docs" / "clusters.md").read_text(encoding="utf-8")
DOCUMENTS = [yaml.safe_load(text) for text in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)]
LEAST_STREAM = {"kafka": {"bootstrap_servers": ["a:9092"]}, "checkpoint_dir": "c", "spark": {"jars_dir": "j"}}
LEAST_BRIDGE = {"mqtt": {"host": "a"}, "kafka": {"bootstrap_servers": ["a:9092"]}}


def over(least: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    both = {key: over(least[key], value) for key, value in more.items() if isinstance(least.get(key), dict)}
    return least | more | both


@pytest.mark.parametrize("document", DOCUMENTS, ids="-".join)
def test_each_configuration_is_valid(document: dict[str, Any]) -> None:
    if "topics" in document.get("kafka", {}):
        BridgeConfig.model_validate(over(LEAST_BRIDGE, document))
    else:
        StreamConfig.model_validate(over(LEAST_STREAM, document))


def test_there_are_configurations_of_both() -> None:
    assert len(DOCUMENTS) >= 4


def test_options_of_the_stream_exist(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["run", "--help"])
    there = set(re.findall(r"--[a-z-]+", capsys.readouterr().out))
    told = {option for line in re.findall(r"python -m stream run.*", PAGE) for option in re.findall(r"--[a-z-]+", line)}
    assert told
    assert told <= there


def test_the_classes_exist() -> None:
    ((text, names),) = re.findall(r"(from stack import (.*))\n", PAGE)
    assert text
    assert set(names.split(", ")) <= set(stack.__all__)
