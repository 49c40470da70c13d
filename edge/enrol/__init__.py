"""Who the node can show to be: a key that never leaves it, and a certificate that is asked for and kept alive."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge.clock import AnchoredClock
    from edge.config import AgentConfig
    from edge.enrol.renewal import Renewal


def renewal_of(config: AgentConfig, clock: AnchoredClock, changed: Callable[[], None]) -> Renewal | None:
    """What keeps the node's identity good, None where the configuration has none; `changed`: there is another."""
    if config.identity is None:
        return None
    from edge.enrol.renewal import Renewal  # noqa: PLC0415 - memory that an agent without an identity saves

    return Renewal(config.identity, config.node, clock, changed)
