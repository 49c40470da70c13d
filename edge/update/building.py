"""The updates of an agent, put together from its configuration and from how it was started."""

from __future__ import annotations

from typing import TYPE_CHECKING

from contract.config import ConfigError
from contract.update import desired_filters, public_key
from edge.clock import ClockState
from edge.errors import IdentityError, UpdateError
from edge.update.agent_kind import AgentKind
from edge.update.config_kind import ConfigKind
from edge.update.configuration import ConfigurationFile
from edge.update.fetching import Fetcher
from edge.update.ledger import Ledger
from edge.update.model_kind import ModelKind
from edge.update.staging import Staging
from edge.update.updates import Updates
from edge.update.versions import Versions
from edge.uplink.retained import Retained

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    from edge.clock import AnchoredClock
    from edge.config import AgentConfig
    from edge.update.kinds import Updated


def updates_of(
    config: AgentConfig,
    config_file: Path,
    host: Updated,
    clock: AnchoredClock,
    tell: Callable[[Sequence[tuple[str, str]]], None],
) -> tuple[Updates, Retained] | None:
    """The updates, and what they hear of at the broker; None where the configuration has none."""
    settings, state = config.update, config.state_dir / "updates"
    if settings is None:
        return None

    def take(topic: str, payload: bytes) -> None:
        updates.take(topic, payload)

    retained = Retained(desired_filters(config.group, config.node), take)
    staging = Staging(state / "staging")
    updates = Updates(
        settings,
        host,
        kinds={
            "model": ModelKind(host, settings, state / "models"),
            "config": ConfigKind(host, settings, ConfigurationFile(config_file)),
            "agent": AgentKind(host, settings, Versions.from_environment(), config_file),
        },
        ledger=Ledger(state / "ledger.json"),
        staging=staging,
        fetcher=Fetcher(retained, staging, settings.bytes_per_s, settings.ca_file),
        keys=lambda: trusted_keys(config),
        utc_ms=lambda: known_utc_ms(clock, config.clock.wait_s),
        tell=tell,
    )
    return updates, retained


def trusted_keys(config: AgentConfig) -> list[Ed25519PublicKey]:
    """Who may sign for this node; raises UpdateError where that is not known."""
    from edge.enrol.directory import IdentityDirectory  # noqa: PLC0415 - memory, until there is an update

    assert config.update is not None
    try:
        if config.update.key_files:
            return [public_key(path.read_bytes(), str(path)) for path in config.update.key_files]
        identity = None if config.identity is None else IdentityDirectory(config.identity.directory).read()
        if identity is None:
            raise UpdateError("there is no update key: name update.key_files, or enrol the node")
        return [public_key(identity.enrolment.update_key.encode(), "the enrolment's update_key")]
    except OSError as exc:
        raise UpdateError(f"update.key_files: {exc.filename}: cannot be read: {exc.strerror}") from exc
    except (ConfigError, IdentityError) as exc:
        raise UpdateError(str(exc)) from exc


def known_utc_ms(clock: AnchoredClock, wait_s: float) -> int | None:
    """The time, where something keeps it right, or where the configuration says that it is (`clock.wait_s: 0`)."""
    state = clock.state
    if state is ClockState.SYNCHRONISED or (state is ClockState.UNSYNCHRONISED and wait_s == 0):
        return clock.now_ms()
    return None
