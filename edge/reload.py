"""What of a new configuration can be taken in while the agent runs."""

from __future__ import annotations

from typing import Final

from edge.config import AgentConfig

# The rest is built in once: the identity, the spool, the connection, the page.
_TAKEN_IN: Final = frozenset({"sources", "models", "health_interval_s", "drain_timeout_s"})


def take_in(old: AgentConfig, new: AgentConfig) -> tuple[AgentConfig, list[str]]:
    """The new configuration as far as it can be taken in, and the keys that keep their old value until a restart."""
    fixed = [
        name for name in AgentConfig.model_fields if name not in _TAKEN_IN and getattr(old, name) != getattr(new, name)
    ]
    return new.model_copy(update={name: getattr(old, name) for name in fixed}), fixed
