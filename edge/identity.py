"""Who the node is by its configuration: what its births say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge.batch import NODE
from edge.health.node_metrics import node_metrics
from edge.update.telling import update_infos
from edge.uplink import NodeIdentity

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from edge.config import AgentConfig
    from edge.reading import MetricInfo


def identity_of(config: AgentConfig, models: Mapping[str, Sequence[MetricInfo]]) -> NodeIdentity:
    """The node, and every metric of its own, of its sources and of its models."""
    sources = {source.name: source.metrics() for source in config.sources}
    of_updates = [] if config.update is None else update_infos([model.name for model in config.models])
    of_node = [*node_metrics(config.sources), *of_updates]
    return NodeIdentity(config.group, config.node, {NODE: of_node, **sources, **models})
