"""What is one node's alone: its enrolment, configuration and models."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import yaml

from contract.card import MANIFEST_FILE
from contract.config import ConfigError
from contract.enrolment import CERTIFICATE_FILE, ENROLMENT_FILE, KEY_FILE
from fleet.bundle.stage import CHECKOUT
from fleet.errors import FleetError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fleet.cards import Card

CONFIG_FILE: Final = "edge.yaml"
_MAX_CONFIG_BYTES: Final = 256 << 10
_MAX_MODELS_BYTES: Final = 256 << 20
_CHECKED_WITHIN_S: Final = 60
# What `edge check` exits with.
_WRONG_CONFIG: Final = 2


@dataclass(frozen=True, slots=True)
class NodeFiles:
    """Files by their place in the node's folder; secret."""

    files: dict[str, bytes] = field(repr=False)

    def with_card(self, card: Card) -> NodeFiles:
        """And what it identifies itself by."""
        identity = {
            name: pem for name, pem in ((KEY_FILE, card.key_pem), (CERTIFICATE_FILE, card.cert_pem)) if pem is not None
        }
        return NodeFiles({**self.files, ENROLMENT_FILE: card.to_json(), **identity})

    def write(self, folder: Path) -> None:
        """Puts them into a folder, for their owner alone."""
        for name, content in self.files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(content)


def node_files(node: str, group: str, config: Path | None, models: Path | None, checkout: Path = CHECKOUT) -> NodeFiles:
    """A node's configuration, which must be its own, and its models; raises ConfigError."""
    files = {}
    if config is not None:
        files[CONFIG_FILE] = _read_config(config, node, group)
        _check(config, checkout)
    if models is not None:
        files |= dict(_read_models(models))
    return NodeFiles(files)


def _read_config(path: Path, node: str, group: str) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_CONFIG_BYTES + 1)
        document = yaml.safe_load(content)
    except OSError as exc:
        raise ConfigError(f"{path}: cannot be read: {exc.strerror}") from exc
    except (yaml.YAMLError, RecursionError) as exc:
        raise ConfigError(f"{path}: is not YAML: {' '.join(str(exc).split())}") from exc
    if len(content) > _MAX_CONFIG_BYTES:
        raise ConfigError(f"{path}: is larger than {_MAX_CONFIG_BYTES} bytes")
    told = document if isinstance(document, dict) else {}
    for key, own in (("node", node), ("group", group)):
        if told.get(key) != own:
            raise ConfigError(f"{path}: {key} is {told.get(key)!r}, and it is for {own}")
    return content


def _check(config: Path, checkout: Path) -> None:
    """Has the agent of this checkout look at it: a device that refuses it is far away."""
    command = [sys.executable, "-P", "-m", "edge", "check", "--elsewhere", str(config.absolute())]
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    try:
        done = subprocess.run(  # noqa: S603 - no shell, and the path behind words of ours
            command, env=environment, capture_output=True, text=True, timeout=_CHECKED_WITHIN_S, check=False
        )
    except subprocess.TimeoutExpired as exc:
        raise FleetError(f"{config}: `edge check` does not end within {_CHECKED_WITHIN_S} s") from exc
    if done.returncode == _WRONG_CONFIG:
        raise ConfigError(done.stderr.strip())
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"it exits with {done.returncode}"]
        raise FleetError(f"{config}: `edge check` fails here: {said[-1]}")


def _read_models(folder: Path) -> Iterator[tuple[str, bytes]]:
    """The files of DIR/NAME/, as models/NAME/."""
    packages = sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    if not packages or not all((package / MANIFEST_FILE).is_file() for package in packages):
        raise ConfigError(f"{folder}: has not a model in each of its directories, with its {MANIFEST_FILE}")
    left = _MAX_MODELS_BYTES
    for path in sorted(path for package in packages for path in package.rglob("*")):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise ConfigError(f"{path}: is neither a file nor a directory")
        if path.is_dir():
            continue
        left -= path.stat().st_size
        if left < 0:
            raise ConfigError(f"{folder}: is larger than {_MAX_MODELS_BYTES} bytes")
        yield f"models/{path.relative_to(folder).as_posix()}", path.read_bytes()
