"""A wrong configuration names the file, the path in it, what was found and what is allowed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from pydantic import Field

from contract.config import Config, ConfigError, read_config

if TYPE_CHECKING:
    from pathlib import Path


class Line(Config):
    port: int = Field(gt=0)


class Site(Config):
    name: str
    lines: tuple[Line, ...] = ()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("lines: []", "site.yaml: name: is missing"),
        ("name: a\nlines: [{port: tcp}]", "site.yaml: lines.0.port: found 'tcp', allowed: "),
        ("name: a\nlines: [{port: 0}]", "lines.0.port: found 0, allowed: "),
        ("name: a\nlines: [{port: 1, prot: 2}]", "lines.0.prot: is not a known key"),
        ("name: [", "site.yaml: is not YAML"),
        ("", "site.yaml: (top level): found None"),
        ("- a", "(top level)"),
        ("name: !!python/object/apply:os.system ['true']", "is not YAML"),
    ],
)
def test_faults_are_named(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "site.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_config(path, Site)
    assert says in str(caught.value)


def test_every_fault_is_named_at_once(tmp_path: Path) -> None:
    path = tmp_path / "site.yaml"
    path.write_text("lines: [{port: 0}, {}]")
    with pytest.raises(ConfigError) as caught:
        read_config(path, Site)
    assert len(str(caught.value).splitlines()) == 3


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: cannot be read: No such file"):
        read_config(tmp_path / "nowhere.yaml", Site)


def test_a_right_configuration_is_frozen(tmp_path: Path) -> None:
    path = tmp_path / "site.yaml"
    path.write_text("name: a\nlines: [{port: 502}]")
    assert read_config(path, Site) == Site(name="a", lines=(Line(port=502),))
