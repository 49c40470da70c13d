"""A device that becomes a member of its fleet, by the command that a person or systemd runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from contract.enrolment import Enrolment, read_message
from edge.__main__ import main

if TYPE_CHECKING:
    from pathlib import Path

    from edge.enrol.directory import IdentityDirectory


@dataclass
class Joining:
    """A fleet, and where the device has its identity."""

    fleet: Any
    directory: IdentityDirectory

    def enrol(self, card: Path, *more: str) -> int:
        """Runs the command; gives its exit code. It tries once, unless it is told to wait."""
        return main(["enrol", str(card), "--out", str(self.directory), "--wait-s", "0", *more])

    def token_in(self, card: Path) -> str | None:
        token = read_message(card.read_bytes(), Enrolment, str(card)).token
        return None if token is None else token.get_secret_value()

    @property
    def serial(self) -> str:
        """The number of its certificate."""
        found = self.directory.read()
        assert found is not None
        return found.check().serial


@pytest.fixture
def joining(scripted_fleet: Any, identity_directory: IdentityDirectory) -> Joining:
    return Joining(scripted_fleet, identity_directory)
