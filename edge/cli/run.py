"""`python -m edge run CONFIG`: the agent, until a signal ends it."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from typing import TYPE_CHECKING, Final

from edge.cli.command import OK, Command, load, takes_config

if TYPE_CHECKING:
    from argparse import Namespace

    from edge.config import AgentConfig


def _run(args: Namespace) -> int:
    asyncio.run(_run_until_stopped(load(args.config)))
    return OK


async def _run_until_stopped(config: AgentConfig) -> None:
    from edge.agent import Agent  # noqa: PLC0415 - paho and SQLite are no business of the other commands

    agent = Agent(config)
    work = asyncio.create_task(agent.run(), name="agent")
    signals: list[int] = []

    def on_signal(number: int) -> None:
        signals.append(number)
        if len(signals) == 1:
            agent.stop()
        else:
            work.cancel()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, on_signal, number)
    with contextlib.suppress(asyncio.CancelledError):
        await work


RUN: Final = Command(
    "run", "poll and deliver until SIGTERM or SIGINT; a second signal stops at once", takes_config, _run
)
