"""What the kinds of updates have in common: what they are carried out on, and what each has to do."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from contract.update_news import UpdateState
from edge.errors import UpdateError
from edge.update.probe import Condition, lacking

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from pathlib import Path

    from contract.update import Desired
    from edge.config import AgentConfig
    from edge.models import Models
    from edge.update.acceptance import Accepted
    from edge.update.ledger import Standing

logger = logging.getLogger(__name__)

_LOOK_S: Final = 0.25
_AGAIN_S: Final = 30.0


class Updated(Protocol):
    """What updates are carried out on: the agent."""

    @property
    def config(self) -> AgentConfig:
        """What it runs by."""

    @property
    def models(self) -> Models:
        """The models that it serves."""

    @property
    def condition(self) -> Condition:
        """How it fares."""

    async def reload(self) -> str | None:
        """Reads the configuration again; says what of it has to wait for a restart. Raises EdgeError."""

    def restart(self) -> None:
        """Ends in good order, to be started again."""

    async def room_bytes(self) -> int:
        """What its disk has free beside what the spool may yet need."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of an update; TRYING: another run will see."""

    state: UpdateState
    reason: str | None = None


CONFIRMED: Final = Outcome(UpdateState.CONFIRMED)
TO_BE_SEEN: Final = Outcome(UpdateState.TRYING)


class UpdateKind(Protocol):
    """How one kind is carried out."""

    def names(self) -> Sequence[str]:
        """The names that there are of it on this node."""

    def running(self, name: str, standing: Standing | None) -> str | None:
        """What runs of it, where that is known."""

    def check(self, desired: Desired) -> None:
        """Raises UpdateError for one that need not even be fetched; in a thread, as a disk may hang."""

    async def apply(self, accepted: Accepted, content: Path, trying: Callable[[], None]) -> Outcome:
        """Takes it in: `trying` is called once all checks are done, just before what runs is touched.

        Raises UpdateError before that, RolledBackError after it; and NotNowError, with what was before in its place,
        wherever it is to be tried again.
        """

    async def settle(self, name: str, standing: Standing | None) -> Outcome | None:
        """What came of one that an earlier run has begun; None: nothing was begun. Raises UpdateError."""

    async def settled(self, name: str) -> None:
        """Its end is on the disk: what was kept for it may go. Raises UpdateError."""


async def proven(host: Updated, left_s: float, marks_before: int, failed_before: Collection[str]) -> str | None:
    """Waits until the agent works as well as before; gives what is wanting when the time is over."""
    deadline_s = time.monotonic() + left_s
    while wanting := lacking(host.condition, marks_before, failed_before):
        if time.monotonic() >= deadline_s:
            return "; ".join(wanting)
        await asyncio.sleep(_LOOK_S)
    return None


async def until_done(step: Callable[[], object]) -> None:
    """Returns once what a trial has come to is on the disk, by `step`, which raises UpdateError.

    A disk may be full a while, and the end of the trial deletes what was before: nothing may end it earlier.
    """
    while True:
        try:
            await asyncio.to_thread(step)
        except UpdateError as exc:
            logger.error("%s; it is tried again in %g s", exc, _AGAIN_S)  # noqa: TRY400 - an operator has no use for the traceback
            await asyncio.sleep(_AGAIN_S)
        else:
            return
