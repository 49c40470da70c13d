"""The updates of an agent, put together from its configuration and from how it was started."""

from __future__ import annotations

from typing import TYPE_CHECKING

from contract.update import desired_filters
from edge.clock import ClockState
from edge.update.agent_kind import AgentKind
from edge.update.config_kind import ConfigKind
from edge.update.configuration import ConfigurationFile
from edge.update.fetching import Fetcher
from edge.update.ledger import Ledger
from edge.update.model_kind import ModelKind
from edge.update.record import Record
from edge.update.staging import Staging
from edge.update.trust import trusted_keys
from edge.update.updates import Updates
from edge.update.versions import Versions
from edge.update.wanted import Wanted
from edge.uplink.retained import Retained

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from edge.clock import AnchoredClock
    from edge.config import AgentConfig
    from edge.update.kinds import Updated, UpdateKind


def updates_of(
    config: AgentConfig,
    config_file: Path | None,
    host: Updated,
    clock: AnchoredClock,
    tell: Callable[[Sequence[tuple[str, str]]], None],
) -> tuple[Updates | None, Retained | None]:
    """The updates, and what they hear of at the broker; None where the configuration wants none, or has no file."""
    settings, state = config.update, config.state_dir / "updates"
    if settings is None or config_file is None:
        return None, None

    def take(topic: str, payload: bytes) -> None:
        updates.take(topic, payload)

    retained = Retained(desired_filters(config.group, config.node), take)
    ledger, staging = Ledger(state / "ledger.json"), Staging(state / "staging")
    kinds: dict[str, UpdateKind] = {
        "model": ModelKind(host, settings, state / "models"),
        "config": ConfigKind(host, settings, ConfigurationFile(config_file)),
        "agent": AgentKind(host, settings, Versions.from_environment(), config_file),
    }
    record = Record(ledger, kinds, tell)
    node = config.group, config.node
    updates = Updates(
        settings,
        host,
        kinds=kinds,
        wanted=Wanted(node, lambda: trusted_keys(config), ledger, record.refuse, settings.retry_s),
        record=record,
        staging=staging,
        fetcher=Fetcher(retained, staging, settings.bytes_per_s, settings.ca_file),
        known_wall_ms=lambda: known_wall_ms(clock, config.clock.wait_s),
    )
    return updates, retained


def known_wall_ms(clock: AnchoredClock, wait_s: float) -> int | None:
    """The time, where something keeps it right, or where the configuration says that it is (`clock.wait_s: 0`)."""
    state = clock.state
    if state is ClockState.SYNCHRONISED or (state is ClockState.UNSYNCHRONISED and wait_s == 0):
        return clock.wall_ms()
    return None
