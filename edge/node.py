"""The node by its configuration, which may become another while it runs: its sources, its models, and its births."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from contract.delivery import Gap
from edge.batch import NODE
from edge.estimate import outage_hours
from edge.health.node_metrics import NodeHealth, node_metrics
from edge.intake import Intake
from edge.models import Models
from edge.reload import take_in
from edge.roster import Roster
from edge.update.telling import update_infos
from edge.uplink import NodeIdentity

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge.clock import AnchoredClock
    from edge.config import AgentConfig
    from edge.polling import Poll
    from edge.spool import Beginning, Spool

logger = logging.getLogger(__name__)


class Node:
    """Has its sources polled and its models served, and keeps what they tell in `spool`.

    `introduce` hears who it is whenever its births are others.
    """

    def __init__(
        self, config: AgentConfig, clock: AnchoredClock, spool: Spool, introduce: Callable[[NodeIdentity], None]
    ) -> None:
        self.config = config
        self.outage_s = outage_hours(config) * 3600  # that the spool holds, from empty
        self.intake = Intake(spool.put, clock.now_ms)
        self.roster = Roster(config.sources, self.keep, self.intake, clock.now_ms, jitter_s=config.jitter_s)
        self.health = NodeHealth(config, clock, spool, self.intake, lambda: self.roster.pollers)
        self.models = Models(
            config.inference,
            config.state_dir,
            clock.now_ms,
            intake=self.intake,
            keep=self.keep,
            metrics_of=self.roster.metrics_of,
            births_changed=self._introduce_if_another,
        )
        self.models.change(config.models)
        self._introduce = introduce
        self._introduced = self.identity

    @property
    def identity(self) -> NodeIdentity:
        """Who it is, and every metric of its own, of its sources and of its models: what its births say."""
        config = self.config
        sources = {source.name: source.metrics() for source in config.sources}
        of_updates = [] if config.update is None else update_infos([model.name for model in config.models])
        of_node = [*node_metrics(config.sources), *of_updates]
        return NodeIdentity(config.group, config.node, {NODE: of_node, **sources, **self.models.metrics})

    def keep(self, poll: Poll) -> None:
        """A poll of a source, or of what a model makes of them: into the spool, and to the models."""
        self.intake.keep(poll)
        self.models.take(poll)

    def foresee_gaps(self, beginning: Beginning) -> None:
        """Notes from when on readings may be missing; the first poll of each source will say until when."""
        reason = "agent stopped" if beginning.stopped_cleanly else "agent killed"
        devices = {*self.roster.pollers, *self.models.metrics}
        known = {name: at_ms for name, at_ms in beginning.last_sampled.items() if name in devices}
        self.intake.foresee({name: Gap(since_ms, since_ms, reason) for name, since_ms in known.items()})

    def forget(self) -> None:
        """Births were sent: who reads them knows no value of before."""
        self.intake.forget()
        self.health.forget()

    async def take_in(self, new: AgentConfig) -> str | None:
        """Goes by another configuration, as far as it can; says what of it has to wait for a restart.

        Sources and models that are unchanged go on undisturbed.
        """
        self.config, fixed = take_in(self.config, new)
        # Before the first reading of a new source.
        self._introduce_if_another()
        self.health.change(self.config)
        await self.roster.change(self.config.sources)
        self.models.change(self.config.models)
        self._introduce_if_another()
        self.outage_s = outage_hours(self.config) * 3600
        left = f"restart needed for: {', '.join(fixed)}" if fixed else None
        logger.info("the configuration is read again: %d sources; %s", len(self.config.sources), left or "all taken in")
        return left

    def _introduce_if_another(self) -> None:
        if (identity := self.identity) != self._introduced:
            self._introduced = identity
            self._introduce(identity)
