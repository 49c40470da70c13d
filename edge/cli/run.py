"""`python -m edge run CONFIG`: the agent, until a signal ends it."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
from functools import partial
from typing import TYPE_CHECKING, Final

from edge.cli.command import OK, Command, load, takes_config
from edge.errors import UpdateError
from edge.update.configuration import hold_trial

if TYPE_CHECKING:
    from argparse import Namespace
    from pathlib import Path

    from edge.log_ring import LogRing

logger = logging.getLogger(__name__)

# It ended to be started again, by whoever starts it: what it runs, or what it runs by, is another now.
RESTART: Final = 75

# Every poll makes a tuple a reading, and these are never garbage in a cycle: looking for cycles among them all the
# time costs as much as encoding them.
_NEW_OBJECTS: Final = 20_000


def _run(args: Namespace) -> int:
    _hold_trial(args.config)
    return asyncio.run(_run_until_stopped(args.config, args.log))


def _hold_trial(path: Path) -> None:
    """A configuration that came as an update, and is not confirmed, may be put back here: see `edge.update`."""
    try:
        if done := hold_trial(path):
            logger.warning("%s: %s", path, done)
    except UpdateError as exc:
        logger.error("%s", exc)  # noqa: TRY400 - an operator has no use for the traceback


async def _run_until_stopped(config_file: Path, log: LogRing) -> int:
    from edge.agent import Agent  # noqa: PLC0415 - paho and SQLite are no business of the other commands
    from edge.health.notify import Notifier  # noqa: PLC0415 - as the agent

    read = partial(load, config_file)
    agent = Agent(read(), read, Notifier.from_environment(), log, config_file)
    _look_for_garbage_less()
    work = asyncio.create_task(agent.run(), name="agent")
    signals: list[int] = []

    def on_signal(number: int) -> None:
        signals.append(number)
        if len(signals) == 1:
            agent.stop()
        else:
            work.cancel()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
    loop.add_signal_handler(signal.SIGHUP, agent.reload_soon)
    with contextlib.suppress(asyncio.CancelledError):
        await work
    for number in (signal.SIGTERM, signal.SIGINT):
        # All is kept: what a source left behind may hold up the end, and whoever is tired of it may kill us.
        loop.remove_signal_handler(number)
        signal.signal(number, signal.SIG_DFL)
    return RESTART if agent.wants_restart else OK


def _look_for_garbage_less() -> None:
    """Takes what is there now for what stays, and looks for garbage only when so many new objects are there."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_NEW_OBJECTS)


RUN: Final = Command(
    "run",
    "poll and deliver until SIGTERM or SIGINT (a second signal stops at once); SIGHUP reads the configuration again",
    takes_config,
    _run,
)
