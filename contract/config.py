"""How every role reads its YAML: one frozen pydantic model, and errors that a person can act on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from contract.errors import ContractError

if TYPE_CHECKING:
    from pathlib import Path

    from pydantic_core import ErrorDetails

ConfigT = TypeVar("ConfigT", bound=BaseModel)


class Config(BaseModel):
    """A part of a configuration: frozen, and a key that it does not know is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ConfigError(ContractError):
    """A configuration that cannot be used; one line per fault: file, path in it, what was found, what is allowed."""


def read_config(path: Path, model: type[ConfigT]) -> ConfigT:
    """The configuration in a YAML file; raises ConfigError for a file that cannot be read, parsed or used."""
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as exc:
        raise ConfigError(f"{path}: cannot be read: {exc.strerror}") from exc
    except (yaml.YAMLError, UnicodeDecodeError) as exc:
        raise ConfigError(f"{path}: is not YAML: {exc}") from exc
    return parse_config(document, model, str(path))


def parse_config(document: object, model: type[ConfigT], origin: str) -> ConfigT:
    """The configuration in a parsed document; `origin` is what errors call it."""
    try:
        return model.model_validate(document)
    except ValidationError as exc:
        raise ConfigError("\n".join(f"{origin}: {_describe(error)}" for error in exc.errors())) from exc


def _describe(error: ErrorDetails) -> str:
    where = ".".join(str(part) for part in error["loc"]) or "(top level)"
    match error["type"]:
        case "missing":
            return f"{where}: is missing; it is required"
        case "extra_forbidden":
            return f"{where}: is not a known key; remove it or correct its spelling"
        case "value_error":
            return f"{where}: found {_shown(error['input'])}: {error['ctx']['error']}"
        case _:
            message = error["msg"][:1].lower() + error["msg"][1:]
            return f"{where}: found {_shown(error['input'])}, allowed: {message.removeprefix('input should be ')}"


def _shown(value: Any) -> str:  # noqa: ANN401 - whatever YAML held
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."  # noqa: PLR2004 - a terminal line
