"""Which nodes have to be asked for their births."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from bridge.marks import NodeId

ASK_AGAIN_AFTER_S: Final = 10.0
MAX_NODES: Final = 20_000
_BORN: Final = float("inf")


class Births:
    """Knows the nodes whose NBIRTH came by in this bridge's life; those heard of last are kept."""

    def __init__(self, max_nodes: int = MAX_NODES) -> None:
        self._max_nodes = max_nodes
        # When each node was last asked (monotonic seconds), or _BORN.
        self._asked: OrderedDict[NodeId, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._asked)

    def born(self, node: NodeId) -> None:
        """Take note of a node's NBIRTH."""
        self._note(node, _BORN)

    def should_ask(self, node: NodeId, now_s: float) -> bool:
        """Whether a node that has just sent data must be asked for its births; asking is noted."""
        asked = self._asked.get(node)
        if asked is not None and now_s < asked + ASK_AGAIN_AFTER_S:
            self._asked.move_to_end(node)
            return False
        self._note(node, now_s)
        return True

    def _note(self, node: NodeId, at: float) -> None:
        self._asked[node] = at
        self._asked.move_to_end(node)
        if len(self._asked) > self._max_nodes:
            self._asked.popitem(last=False)
