"""What a configuration names and this machine lacks: files, secrets, names that are no hosts."""

from __future__ import annotations

import ipaddress
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from pydantic import BaseModel

from contract.config import ConfigError, Tls, read_secret
from edge.enrol.config import IdentityConfig
from edge.errors import IdentityError

if TYPE_CHECKING:
    from collections.abc import Iterator

# Files that the agent makes by itself.
_MADE_BY_US: Final = frozenset({"state_dir", "quota_file"})
_LABEL: Final = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)")
_MAX_HOST_CHARACTERS: Final = 253
_DEFAULT_PORTS: Final = {"http": 80, "https": 443, "rtsp": 554, "rtsps": 322}

Place = tuple[str, str, int]


def lacks(config: BaseModel) -> list[str]:
    """A line for each thing that is not there or cannot be, with its path in the configuration."""
    return [f"{where}: {fault}" for where, part in _parts("", config) for where, fault in _lacks_of(where, part)]


def places(config: BaseModel) -> list[Place]:
    """What is reached over TCP: its path in the configuration, its host and its port."""
    found = []
    for where, part in _parts("", config):
        host, port = getattr(part, "host", None), getattr(part, "port", None)
        if isinstance(host, str) and isinstance(port, int):
            found.append((where, host, port))
        for name, url in _urls(part):
            parsed = urlsplit(url)
            if parsed.hostname:
                port = parsed.port or _DEFAULT_PORTS.get(parsed.scheme, 0)
                found.append((_join(where, name), parsed.hostname, port))
    return found


def is_host(host: str) -> bool:
    """Whether it can be a host's name or address."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        labels = host.removesuffix(".").split(".")
        # A last label of digits is an address gone wrong, such as 192.168.1.300.
        spelt_well = all(_LABEL.fullmatch(label) for label in labels) and not labels[-1].isdigit()
        return spelt_well and len(host) <= _MAX_HOST_CHARACTERS
    return True


def _parts(where: str, part: BaseModel) -> Iterator[tuple[str, BaseModel]]:
    """The configuration and every part of it, each with its path."""
    yield where, part
    for name in type(part).model_fields:
        value = getattr(part, name)
        values = value if isinstance(value, tuple) else [value]
        for number, item in enumerate(values):
            if isinstance(item, BaseModel):
                yield from _parts(_join(where, f"{name}.{number}" if isinstance(value, tuple) else name), item)


def _lacks_of(where: str, part: BaseModel) -> Iterator[tuple[str, str]]:
    for name in type(part).model_fields:
        value = getattr(part, name)
        for path in value if isinstance(value, tuple) else (value,):
            if isinstance(path, Path) and (fault := _fault_of_path(name, path)):
                yield _join(where, name), fault
        if name.endswith("_env") and isinstance(value, str):
            yield from _lacks_secret(where, name, value)
        elif name == "host" and isinstance(value, str) and not is_host(value):
            yield _join(where, name), f"found {value!r}, allowed: a name or an address"
    for name, url in _urls(part):
        if not is_host(urlsplit(url).hostname or ""):
            yield _join(where, name), f"found {url!r}: it names no host"
    if not any(_lacks_paths(part)):
        yield from _lacks_in_files(where, part)


def _lacks_in_files(where: str, part: BaseModel) -> Iterator[tuple[str, str]]:
    """What is wrong with keys and certificates that are there."""
    try:
        if isinstance(part, Tls):
            part.context()
        elif isinstance(part, IdentityConfig):
            _look_at_identity(part)
    except (ConfigError, IdentityError) as exc:
        yield where, str(exc).removeprefix("tls: ")


def _look_at_identity(part: IdentityConfig) -> None:
    from edge.enrol.directory import IdentityDirectory  # noqa: PLC0415 - a second that other configurations save

    if (found := IdentityDirectory(part.directory).read()) is None:
        raise IdentityError(f"there is no identity in {part.directory} yet: `python -m edge enrol` puts one there")
    found.check()


def _lacks_secret(where: str, name: str, variable: str) -> Iterator[tuple[str, str]]:
    try:
        read_secret(name.removesuffix("_env"), variable, None)
    except ConfigError as exc:
        yield _join(where, name), str(exc).partition(": ")[2]


def _lacks_paths(part: BaseModel) -> Iterator[str]:
    values = ((name, getattr(part, name)) for name in type(part).model_fields)
    return (fault for name, value in values if isinstance(value, Path) and (fault := _fault_of_path(name, value)))


def _fault_of_path(name: str, path: Path) -> str | None:
    try:
        is_directory, size_bytes = path.is_dir(), path.stat().st_size
    except OSError as exc:
        return None if name in _MADE_BY_US else f"{path} cannot be read: {exc.strerror}"
    if name in _MADE_BY_US:
        return f"{path} is no directory" if name.endswith("_dir") and not is_directory else None
    if not os.access(path, os.R_OK):
        return f"{path} cannot be read: Permission denied"
    if is_directory:
        return f"{path} is a directory" if name.endswith("_file") else None
    return None if size_bytes or not path.is_file() else f"{path} is empty"


def _urls(part: BaseModel) -> Iterator[tuple[str, str]]:
    for name in ("url", "base_url"):
        if isinstance(url := getattr(part, name, None), str):
            yield name, url


def _join(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name
