"""How every role reads its YAML: one frozen pydantic model, and errors that a person can act on."""

from __future__ import annotations

import os
import re
import reprlib
import ssl
from pathlib import Path  # noqa: TC003 - pydantic reads the annotations at run time
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from contract.errors import ContractError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydantic_core import ErrorDetails

ConfigT = TypeVar("ConfigT", bound=BaseModel)

# Name and password in a URL: where they may not stand, they stand by mistake.
_PASSWORD: Final = re.compile(r"//[^/@\s']+@")


class Config(BaseModel):
    """A part of a configuration: frozen; a key that it does not know, and a number that is not finite, are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ConfigError(ContractError):
    """A configuration that cannot be used; one line per fault: file, path in it, what was found, what is allowed."""


class Credentials(Config):
    """Who we are to a server: the password comes from the environment or a file, never from the YAML."""

    username: str | None = Field(default=None, description="user name; none: anonymous")
    password_env: str | None = Field(default=None, description="environment variable that holds the password")
    password_file: Path | None = Field(default=None, description="file whose first line is the password")

    @model_validator(mode="after")
    def _one_password(self) -> Self:
        if self.password_env is not None and self.password_file is not None:
            raise ValueError("password_env and password_file exclude each other")
        if self.username is None and (self.password_env is not None or self.password_file is not None):
            raise ValueError("a password needs a username")
        return self

    def password(self) -> str | None:
        """The password, None where none is named; raises ConfigError where it cannot be had."""
        return read_secret("password", self.password_env, self.password_file)


class Tls(Config):
    """TLS to a server."""

    ca_file: Path | None = Field(default=None, description="PEM of the authorities to trust; none: the system's")
    cert_file: Path | None = Field(default=None, description="PEM of our certificate; none: we show none")
    key_file: Path | None = Field(default=None, description="PEM of our certificate's key")

    @model_validator(mode="after")
    def _certificate_has_key(self) -> Self:
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("cert_file and key_file are given together or not at all")
        return self

    def context(self) -> ssl.SSLContext:
        """What Python's ssl makes of it; raises ConfigError for a file that cannot be used."""
        try:
            context = ssl.create_default_context(cafile=self.ca_file)
            if self.cert_file is not None:
                context.load_cert_chain(self.cert_file, self.key_file)
        except OSError as exc:  # ssl.SSLError is one
            files = ", ".join(str(file) for file in (self.ca_file, self.cert_file, self.key_file) if file)
            raise ConfigError(f"tls: {files}: cannot be used: {exc}") from exc
        return context


def read_secret(key: str, env: str | None, file: Path | None) -> str | None:
    """The secret in the environment or in the first line of a file, None where neither is named.

    `key` is what the configuration calls it, without `_env` or `_file`. Raises ConfigError for one that is not there.
    """
    if env is not None:
        where, secret = f"{key}_env: environment variable {env}", os.environ.get(env, "")
    elif file is not None:
        where = f"{key}_file: {file}"
        try:
            secret = file.read_text(encoding="utf-8").partition("\n")[0].rstrip("\r")
        except (OSError, UnicodeDecodeError) as exc:
            raise ConfigError(f"{where} cannot be read: {getattr(exc, 'strerror', None) or exc}") from exc
    else:
        return None
    if not secret:
        raise ConfigError(f"{where} is not set or empty")
    return secret


class _UniqueKeys(yaml.SafeLoader):
    """YAML of plain values in which no key stands twice: PyYAML would keep the last and drop the others silently."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002 - PyYAML's
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} stands twice", node.start_mark)
        return super().construct_mapping(node, deep)


def read_config(path: Path, model: type[ConfigT]) -> ConfigT:
    """The configuration in a YAML file; raises ConfigError for a file that cannot be read, parsed or used."""
    try:
        document = yaml.load(path.read_text(encoding="utf-8"), _UniqueKeys)  # noqa: S506 - it is a SafeLoader
    except OSError as exc:
        raise ConfigError(f"{path}: cannot be read: {exc.strerror}") from exc
    except (yaml.YAMLError, ValueError, RecursionError) as exc:  # ValueError: dates and numbers that cannot be
        raise ConfigError(f"{path}: is not YAML: {' '.join(str(exc).split())}") from exc
    return parse_config(document, model, str(path))


def parse_config(document: object, model: type[ConfigT], origin: str) -> ConfigT:
    """The configuration in a parsed document; `origin` is what errors call it."""
    try:
        return model.model_validate(document)
    except ValidationError as exc:
        faults = exc.errors()
        raise ConfigError(
            "\n".join(f"{origin}: {_describe(fault)}" for fault in faults if not _follows(fault, faults))
        ) from exc


def _follows(fault: ErrorDetails, faults: Sequence[ErrorDetails]) -> bool:
    """Whether a list is called too short only because an item of it is wrong, which is told already."""
    where = fault["loc"]
    return fault["type"] == "too_short" and any(
        other["loc"][: len(where)] == where and len(other["loc"]) > len(where) for other in faults
    )


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
            allowed = message.removeprefix("input should be ").replace("a valid tuple", "a list")
            return f"{where}: found {_shown(error['input'])}, allowed: {allowed}"


def _shown(value: Any) -> str:  # noqa: ANN401 - whatever YAML held
    # reprlib looks at a few items only: YAML's aliases can make a short file into an endless value.
    text = _PASSWORD.sub("//***@", reprlib.repr(value))
    return text if len(text) <= 60 else f"{text[:57]}..."  # noqa: PLR2004 - a terminal line
