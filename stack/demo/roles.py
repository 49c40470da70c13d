"""The small print of running our roles: their files, their commands, and which of their processes are left."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import psutil
import yaml

from stack.errors import StackError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stack.demo.configs import Document

ROOT: Final = Path(__file__).parents[2]


def processes_below(directory: Path) -> int:
    """How many servers and roles run whose files are in a directory."""
    programs = ("python", "java", "mosquitto", "postgres", "grafana")

    def is_one(words: list[str]) -> bool:
        return Path(words[0]).name.startswith(programs) and any(f"{directory}/" in word for word in words[1:])

    found = (process.info["cmdline"] for process in psutil.process_iter(["cmdline"]))
    return sum(is_one(words) for words in found if words)


def write_document(path: Path, document: Document | list[Document]) -> None:
    """Writes a configuration, and the directories above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(document, sort_keys=False))


def run_role(role: str, arguments: list[str], environment: Mapping[str, str]) -> str:
    """What a role's command prints; raises StackError with what it said when it fails."""
    done = subprocess.run(  # noqa: S603  # our own role
        [sys.executable, "-m", role, *arguments],
        env={**os.environ, **environment},
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    if done.returncode:
        raise StackError(f"python -m {role} {arguments[0]} ended with status {done.returncode}:\n{done.stderr}")
    return done.stdout
