"""What comes in is told apart: the bridge's marks, the host's state, a wish for births, and commands for the agent."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from contract.errors import CodecError, ContractError
from edge.uplink.commands import read_command
from edge.uplink.inbox import Inbox
from edge.uplink.seldom import Seldom

if TYPE_CHECKING:
    from collections.abc import Callable

    from contract.delivery import DurableMark
    from contract.sparkplug import Payload
    from edge.uplink.host import PrimaryHost
    from edge.uplink.inbox import Incoming

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Takers:
    """Who gets what; all are called from the event loop itself, never from within paho."""

    mark: Callable[[DurableMark], None]
    rebirth: Callable[[], None]
    host_state: Callable[[], None]
    command: Callable[[str, Payload], None]


class Receiver:
    """Takes messages by its `inbox`, and gives them to their takers. `host`: whose state is listened for.

    What cannot be read is told seldom: it may be a flood.
    """

    def __init__(self, host: PrimaryHost | None, takers: Takers) -> None:
        self.inbox = Inbox(lambda: self._loop.call_soon(self._empty_inbox))
        self._host = host
        self._takers = takers
        self._loop = asyncio.get_running_loop()
        self._nonsense, self._excess = Seldom(), Seldom()

    def _empty_inbox(self) -> None:
        now_s = time.monotonic()
        for message in self.inbox.take():
            try:
                self._take(message)
            except ContractError as exc:
                if self._nonsense.speaks(now_s):
                    also = f" (and {self._nonsense.held_back} before it)" if self._nonsense.held_back else ""
                    logger.warning("a command on %s is not understood%s: %s", message.topic, also, exc)
        if self.inbox.dropped and self._excess.speaks(now_s):
            logger.warning("commands come too fast: %d were dropped unread so far", self.inbox.dropped)

    def _take(self, message: Incoming) -> None:
        if self._host is not None and message.topic == self._host.topic:
            self._host.take(message.payload)
            self._takers.host_state()
            return
        if message.retained:
            raise CodecError("it was retained, and a command is for those who are there")
        command = read_command(message.topic, message.payload)
        if command.mark is not None:
            self._takers.mark(command.mark)
        if command.rebirth:
            self._takers.rebirth()
        if command.rest is not None:
            self._takers.command(command.device, command.rest)
