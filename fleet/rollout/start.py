"""Beginning a roll-out: everything is looked at before anything is written."""

from __future__ import annotations

import getpass
import socket
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from contract.config import ConfigError
from contract.update import signed
from fleet.files import make_folder
from fleet.rollout.artifact import Artifact, take_in
from fleet.rollout.desk import desired
from fleet.rollout.judge import Rollout
from fleet.rollout.plan import Amount, Stage, stages

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import timedelta

    from contract.update import Kind
    from fleet.registry import Registry
    from fleet.rollout.books import Books
    from fleet.rollout.desk import Desk

# Of what is only looked at: the registry gives its own to what begins.
_ANY_COUNTER: Final = 1


@dataclass(frozen=True, slots=True)
class Wish:
    """What an operator asks for; without `nodes` all of the group, those that are there first."""

    kind: Kind
    name: str
    file: Path
    version: str
    group: str
    nodes: tuple[str, ...] | None
    stages: str
    max_failed: Amount
    soak: timedelta
    within: timedelta
    lasting: timedelta
    url: str | None


@dataclass(frozen=True, slots=True)
class Plan:
    """What would be done."""

    draft: Rollout
    stages: tuple[Stage, ...]
    artifact: Artifact


@contextmanager
def planned(wish: Wish, registry: Registry, books: Books, desk: Desk, *, to_keep: bool) -> Iterator[Plan]:
    """The plan, with the file in a place of its own; raises ConfigError or FleetError for what devices would refuse."""
    nodes = _ordered(wish, registry, books)
    with tempfile.TemporaryDirectory(dir=make_folder(desk.artifacts) if to_keep else None) as place:
        artifact = take_in(wish.file, wish.kind, wish.version, Path(place), by_url=wish.url is not None)
        made = stages(wish.stages, nodes)
        draft = _draft(wish, artifact, books, made)
        # As for any node: what cannot be signed or taken is told now, and not at the last stage.
        signed(desired(draft, artifact, max(nodes, key=len)), desk.key)
        yield Plan(draft, made, artifact)


def begin(plan: Plan, registry: Registry, books: Books, desk: Desk) -> int:
    """Keeps the file and writes the roll-out down; its number. Raises FleetError when there is one of the same."""
    counter = registry.next_counter(books.greatest_counter())
    # Who ends one with the same content would clear away the file that is not yet known to be needed.
    with books.alone():
        plan.artifact.keep(desk.artifacts)
        try:
            return books.begin(replace(plan.draft, counter=counter), plan.stages)
        except BaseException:
            if not books.groups_with(plan.draft.sha256):
                desk.forget(plan.draft.sha256)
            raise


def whoever() -> str:
    """Who is at work here, for those who read of it."""
    return f"{getpass.getuser()}@{socket.gethostname()}"


def _ordered(wish: Wish, registry: Registry, books: Books) -> Sequence[str]:
    known = [node.name for node in registry.nodes() if node.group == wish.group and node.revoked_at is None]
    if wish.nodes is not None:
        if unknown := sorted(set(wish.nodes) - set(known)):
            raise ConfigError(f"--nodes: {', '.join(unknown)}: no nodes of group {wish.group}, or revoked")
        return list(dict.fromkeys(wish.nodes))
    if not known:
        raise ConfigError(f"--group: {wish.group} has no nodes")
    present = books.present(wish.group)
    # A canary that is away tells nothing.
    return sorted(known, key=lambda node: (node not in present, node))


def _draft(wish: Wish, artifact: Artifact, books: Books, made: Sequence[Stage]) -> Rollout:
    now = books.clock()
    return Rollout(
        rollout_id=0,
        group=wish.group,
        kind=wish.kind,
        name=wish.name,
        version=wish.version,
        counter=_ANY_COUNTER,
        sha256=artifact.sha256,
        size_bytes=artifact.size,
        unpacked_bytes=artifact.unpacked_bytes,
        url=wish.url,
        stages=tuple(stage.name for stage in made),
        stage=1,
        # Of twenty nodes 5 % are one that may fail, of ten none.
        max_failed=wish.max_failed.of(sum(len(stage.nodes) for stage in made), up=False),
        soak=wish.soak,
        within=wish.within,
        started_by=whoever(),
        started_at=now,
        expires_at=now + wish.lasting,
        state="running",
        reason=None,
        published_at=None,
        driven_at=None,
        cleared_at=None,
    )
