"""The registry, and docs/sources held against it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from pydantic import BaseModel, TypeAdapter

from contract.config import Config, ConfigError, parse_config
from edge.sources import AnySource, SourceConfig
from edge.sources.modbus import UnitConfig
from edge.sources.modbus.points import PointConfig

DOCUMENTS = Path(__file__).parents[2] / "docs" / "sources"
KINDS: tuple[type[SourceConfig], ...] = get_args(get_args(AnySource)[0])
SECTIONS = {path.stem: path.read_text(encoding="utf-8") for path in DOCUMENTS.glob("*.md")}
BASICS = DOCUMENTS.with_suffix(".md").read_text(encoding="utf-8")


class Sources(Config):
    """As the agent's configuration has them."""

    sources: tuple[AnySource, ...]


def sample(kind: str) -> Any:
    [block] = re.findall(r"^```yaml\n(.*?)^```", SECTIONS[kind], re.DOTALL | re.MULTILINE)
    return yaml.safe_load(block)


def kind_of(model: type[SourceConfig]) -> str:
    kind: str = get_args(model.model_fields["type"].annotation)[0]
    return kind


def test_every_kind_has_a_page_and_every_page_a_kind() -> None:
    assert set(SECTIONS) == {kind_of(model) for model in KINDS}


@pytest.mark.parametrize("model", KINDS)
def test_the_sample_is_a_source_of_its_kind(model: type[SourceConfig]) -> None:
    parsed = parse_config({"sources": [sample(kind_of(model))]}, Sources, f"docs/sources/{kind_of(model)}.md")
    assert type(parsed.sources[0]) is model


@pytest.mark.parametrize("model", KINDS)
def test_the_metrics_of_the_sample_are_those_listed(model: type[SourceConfig]) -> None:
    config = TypeAdapter(AnySource).validate_python(sample(kind_of(model)))
    _, table = SECTIONS[kind_of(model)].split("| metric | type | unit |\n|---|---|---|\n")
    rows = [[cell.strip() for cell in row.strip("|").split("|")] for row in table.split("\n\n")[0].splitlines()]
    assert rows == [[metric.name, metric.datatype.name, metric.unit or ""] for metric in config.metrics()]


@pytest.mark.parametrize("model", [*KINDS, UnitConfig, PointConfig])
def test_every_key_is_described_and_stands_in_the_document(model: type[BaseModel]) -> None:
    text = BASICS + "".join(SECTIONS.values())
    for name, field in model.model_fields.items():
        assert re.search(rf"\b{name}\b", text), name
        assert field.description, name


def test_defaults_called_so_in_a_sample_are_the_defaults() -> None:
    for model in KINDS:
        for name, found in sample(kind_of(model)).items():
            if re.search(rf"^{name}: .*# default(?!: the greater)", SECTIONS[kind_of(model)], re.MULTILINE):
                default = model.model_fields[name].default
                assert default == (tuple(found) if isinstance(found, list) else found), name
    assert sum(text.count("# default") for text in SECTIONS.values()) > 5


def test_a_kind_that_is_none_is_refused_with_those_there_are() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config({"sources": [{"type": "opcua", "name": "x", "interval_s": 1}]}, Sources, "edge.yaml")
    for model in KINDS:
        assert kind_of(model) in str(caught.value)


@pytest.mark.parametrize("name", ["a/b", "", "a+b"])
def test_a_name_that_is_no_device_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="name"):
        parse_config({"sources": [sample("rest") | {"name": name}]}, Sources, "edge.yaml")


def test_a_configuration_is_checked_without_any_driver() -> None:
    code = "import sys, edge.sources; print(sorted({'cv2', 'numpy', 'httpx', 'pymodbus'} & set(sys.modules)))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"
