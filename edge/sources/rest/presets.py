"""The APIs that come with the agent, one YAML each, and those that users write themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from contract.config import ConfigError, read_config
from edge.sources.rest.api import Api

_FOLDER: Final = Path(__file__).parent / "presets"


def preset_names() -> list[str]:
    """The presets there are."""
    return sorted(path.stem for path in _FOLDER.glob("*.yaml"))


def load_preset(name: str) -> Api:
    """A preset by its name; raises ValueError with those there are."""
    if name not in preset_names():
        raise ValueError(f"no preset {name!r}; there are {', '.join(preset_names())}")
    return load_api(_FOLDER / f"{name}.yaml")


def load_api(path: Path) -> Api:
    """An API in a YAML file; raises ValueError that says what is wrong with it."""
    try:
        return read_config(path, Api)
    except ConfigError as exc:
        raise ValueError("; ".join(str(exc).splitlines())) from exc
