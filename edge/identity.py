"""Who the node is by its configuration: what its births say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge.batch import NODE
from edge.node_metrics import node_metrics
from edge.uplink import NodeIdentity

if TYPE_CHECKING:
    from edge.config import AgentConfig


def identity_of(config: AgentConfig) -> NodeIdentity:
    """The node, and every metric of its own and of its sources."""
    devices = {source.name: source.metrics() for source in config.sources}
    return NodeIdentity(config.group, config.node, {NODE: node_metrics(list(devices)), **devices})
