"""The nodes that do not stamp their batches, within bounds: of nodes, of their names, and of what is held for them."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import asdict
from typing import TYPE_CHECKING

from bridge.births import MAX_NODES
from bridge.foreign_node import ForeignCounts, ForeignNode, Outcome
from contract.topics import MessageType

if TYPE_CHECKING:
    from collections.abc import Callable

    from bridge.config import HostConfig, LimitsConfig
    from bridge.marks import NodeId
    from bridge.outbox import Shipment


class ForeignNodes:
    """Those that were heard of last. Pure: the clock (monotonic seconds) is the caller's.

    What one call brings about is its result, by node; messages that it names nowhere are held. Of one at QoS 1
    that is held a copy is shipped at once, and acknowledged: no node may keep the PUBACKs of all others back.
    """

    def __init__(self, host: HostConfig, limits: LimitsConfig, max_nodes: int = MAX_NODES) -> None:
        self._host = host
        self._limits = limits
        self._max_nodes = max_nodes
        self._nodes: OrderedDict[NodeId, ForeignNode] = OrderedDict()
        self._waiting: dict[NodeId, None] = {}
        self._held = self._held_bytes = self._names_bytes = 0
        self._counts = ForeignCounts()

    def __contains__(self, node: NodeId) -> bool:
        return node in self._nodes

    def take(self, node: NodeId, shipment: Shipment, generation: int, now_s: float) -> dict[NodeId, Outcome]:
        """Take in a node's birth or death, or DATA without a stamp, of a connection of this generation."""
        if node not in self._nodes:
            if shipment.letter.message_type is MessageType.NDEATH:
                return {node: Outcome([shipment])}
            self._nodes[node] = ForeignNode(self._host, self._limits, self._counts, generation)
        self._nodes.move_to_end(node)
        outcomes = {
            node: self._change(node, lambda known, outcome: known.take(shipment, generation, now_s, outcome)),
        }
        self._fit_bounds(outcomes, now_s)
        return outcomes

    def tick(self, now_s: float) -> dict[NodeId, Outcome]:
        """What has waited long enough."""
        return {
            node: self._change(node, lambda known, outcome: known.tick(now_s, outcome)) for node in list(self._waiting)
        }

    def forget(self, node: NodeId, now_s: float) -> Outcome:
        """Ship what is held of a node, and forget it: one that stamps its batches writes its names out itself."""
        outcome = self._change(node, lambda known, outcome: known.end(now_s, outcome))
        del self._nodes[node]
        return outcome

    def drain(self, now_s: float) -> dict[NodeId, Outcome]:
        """Ship all that is held: the bridge stops."""
        return {node: self.forget(node, now_s) for node in list(self._waiting)}

    def health(self) -> dict[str, object]:
        """The state, for GET /healthz."""
        return {
            "foreign_nodes": len(self._nodes),
            "names_bytes": self._names_bytes,
            "held": self._held,
            "held_bytes": self._held_bytes,
            **asdict(self._counts),
        }

    def _fit_bounds(self, outcomes: dict[NodeId, Outcome], now_s: float) -> None:
        """Forget the nodes not heard of for longest, and let go what is held for longest, until all is in bounds."""
        while len(self._nodes) > self._max_nodes or self._names_bytes > self._limits.max_names_bytes:
            oldest = next(iter(self._nodes))
            self._counts.nodes_forgotten += 1
            outcomes[oldest] = _joined(outcomes.get(oldest), self.forget(oldest, now_s))
        while self._held_bytes > self._limits.max_held_bytes:
            longest = next(iter(self._waiting))
            let_go = self._change(longest, lambda known, outcome: known.let_go(now_s, outcome))
            outcomes[longest] = _joined(outcomes.get(longest), let_go)

    def _change(self, node: NodeId, change: Callable[[ForeignNode, Outcome], None]) -> Outcome:
        """Let a node change, and count what it holds then."""
        known, outcome = self._nodes[node], Outcome()
        before = known.held, known.held_bytes, known.names_bytes
        change(known, outcome)
        self._held += known.held - before[0]
        self._held_bytes += known.held_bytes - before[1]
        self._names_bytes += known.names_bytes - before[2]
        if known.held:
            self._waiting[node] = None
        else:
            self._waiting.pop(node, None)
        return outcome


def _joined(first: Outcome | None, then: Outcome) -> Outcome:
    return then if first is None else Outcome(first.ship + then.ship, first.ask or then.ask)
