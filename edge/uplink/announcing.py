"""What the node announces: its births on each connection, again when that is due, and its death."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Final

from contract.sparkplug import with_seq
from edge.errors import SpoolError, UplinkError
from edge.uplink.births import BD_SEQ_MODULUS, Seq, births, death, device_death
from edge.uplink.link import delivered
from edge.uplink.turns import Bucket

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge.sources.base import Clock
    from edge.spool import Spool
    from edge.uplink.births import Birth, NodeIdentity
    from edge.uplink.config import MqttConfig
    from edge.uplink.link import Link

logger = logging.getLogger(__name__)

_DEATH_TIMEOUT_S: Final = 2.0
# Births are asked for by whoever missed them; asked for without end they would leave no room for data.
_REBIRTHS_PER_S: Final = 0.2
_REBIRTHS_AT_ONCE: Final = 2


class Announcer:
    """Announces `identity`, which may become another; `seq` numbers all that the node says. `spool` counts its births.

    A connection has the will of `next_will`, births at its beginning and whenever they are `due`, and at its end a
    death. `wake` is called when births may be due.
    """

    def __init__(
        self, config: MqttConfig, identity: NodeIdentity, spool: Spool, now_ms: Clock, wake: Callable[[], None]
    ) -> None:
        self.identity = identity
        self.seq = Seq()
        self._strict = config.profile == "strict"
        self._spool = spool
        self._now_ms = now_ms
        self._wake = wake
        self._bd_seq = BD_SEQ_MODULUS - 1
        self._born: list[str] | None = None
        self._has_changed = self._are_asked_for = False
        self._rebirths = Bucket(_REBIRTHS_PER_S, _REBIRTHS_AT_ONCE)

    @property
    def due(self) -> bool:
        """Whether births are to be sent once more: the node has changed, or somebody asks, which is heard seldom."""
        return self._has_changed or (self._are_asked_for and not self._rebirths.wait_s(time.monotonic()))

    def introduce(self, identity: NodeIdentity) -> None:
        """The node has other metrics from now on: births are due, and deaths of the devices that are gone."""
        self.identity = identity
        self._has_changed = True
        self._wake()

    def ask(self) -> None:
        """Somebody has missed the births."""
        self._are_asked_for = True
        self._wake()

    async def next_will(self) -> tuple[str, bytes]:
        """The topic and payload that the broker is to tell if the connection to come is lost."""
        try:
            self._bd_seq = await self._spool.next_bd_seq()
        except SpoolError:
            # A full disk must not keep us from delivering, which is what empties it.
            self._bd_seq = (self._bd_seq + 1) % BD_SEQ_MODULUS
        return self.identity.death_topic, death(self._bd_seq, self._now_ms())

    async def send_births(self, link: Link) -> int:
        """Sends NBIRTH, and every DBIRTH once that is taken; returns the worst reason, 0 when all are taken."""
        now_s = time.monotonic()
        if self._are_asked_for and self._born is not None and not self._rebirths.wait_s(now_s):
            self._rebirths.take(1, now_s)
            logger.info("births are asked for, and sent again")
        self._has_changed = self._are_asked_for = False
        identity, now_ms = self.identity, self._now_ms()
        for device in self._born or ():
            if device not in identity.metrics:
                self._publish(link, device_death(identity, device, now_ms))
        of_node, *of_devices = births(identity, self._bd_seq, now_ms, complete=self._strict)
        self.seq.restart()
        reason = await self._publish(link, of_node)
        if not delivered(reason):
            return reason
        self._born = identity.devices
        return await self._publish_all(link, of_devices)

    async def send_death(self, link: Link) -> bool:
        """Tells the death of a node that was born; whether the broker has said in time that it has it."""
        born, self._born = self._born is not None, None
        if not born:
            return True
        answer = link.publish(self.identity.death_topic, death(self._bd_seq, self._now_ms()))
        await asyncio.wait([answer], timeout=_DEATH_TIMEOUT_S)
        return answer.done()

    async def _publish_all(self, link: Link, of_devices: list[Birth]) -> int:
        """Sends them, no more at once than the broker takes; returns the worst reason."""
        answers: list[asyncio.Future[int]] = []
        for birth in of_devices:
            while link.in_flight >= link.receive_maximum:
                await asyncio.wait(answers, return_when=asyncio.FIRST_COMPLETED)
            answers.append(self._publish(link, birth))
        return max(await asyncio.gather(*answers), default=0)

    def _publish(self, link: Link, birth: Birth) -> asyncio.Future[int]:
        if len(birth.payload) > link.max_payload_bytes:
            raise UplinkError(
                f"the birth on {birth.topic} takes {len(birth.payload)} bytes, the broker takes "
                f"{link.max_payload_bytes}: let it take larger packets, or split the source"
            )
        payload = with_seq(birth.payload, self.seq.next())
        return link.publish(birth.topic, payload, qos=0 if self._strict else 1)
