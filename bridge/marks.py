"""Which batches of each node are in Kafka, and what the node is told of it.

A mark says "every batch up to and including this one is in Kafka", so it may rise only over a row without
holes. What is below a stamp's `oldest` was answered before; hence all of this can be forgotten at any time
(a restart, a full table): it costs the node a resend, never a reading.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from contract.delivery import DurableMark

if TYPE_CHECKING:
    from bridge.stamp import Stamp

NodeId = tuple[str, str]  # group, node

MAX_INTERVALS: Final = 256
MAX_NODES: Final = 20_000
# Epochs of one node: each lane of its present spool has one, and late messages come of those before. A node that makes
# up epochs forgets only its own.
MAX_EPOCHS: Final = 16


class Durable:
    """The batches of one epoch that Kafka has: all up to `through`, and intervals beyond the first hole.

    At most `max_intervals` intervals are kept, those nearest to `through`; what is forgotten the node sends again.
    """

    __slots__ = ("_beyond", "_max_intervals", "through")

    def __init__(self, through: int, max_intervals: int = MAX_INTERVALS) -> None:
        self.through = through
        self._max_intervals = max_intervals
        # Sorted, disjoint, with at least one missing batch between any two and below the first.
        self._beyond: list[tuple[int, int]] = []

    def skip_below(self, oldest: int) -> None:
        """Take note that the node keeps nothing below `oldest`."""
        if oldest - 1 > self.through:
            self.through = oldest - 1
            self._absorb()

    def add(self, batch_no: int) -> None:
        """Take note that Kafka has a batch."""
        if batch_no <= self.through:
            return
        if batch_no == self.through + 1 and not self._beyond:
            self.through = batch_no
            return
        at = bisect_left(self._beyond, (batch_no, batch_no))
        first = last = batch_no
        start = stop = at
        if at and self._beyond[at - 1][1] >= batch_no - 1:
            start, first, last = at - 1, self._beyond[at - 1][0], max(batch_no, self._beyond[at - 1][1])
        if at < len(self._beyond) and self._beyond[at][0] <= batch_no + 1:
            stop, last = at + 1, self._beyond[at][1]
        self._beyond[start:stop] = [(first, last)]
        self._absorb()
        del self._beyond[self._max_intervals :]

    def _absorb(self) -> None:
        joined = 0
        for first, last in self._beyond:
            if first > self.through + 1:
                break
            self.through = max(self.through, last)
            joined += 1
        del self._beyond[:joined]


class DurableMarks:
    """Durable marks of every node, and which of them a node should hear.

    Each epoch of a node has a state of its own: its lanes do not wait for each other, and late messages of an old
    spool are answered for that spool and disturb nothing, even where a node's clock was set back and its new spool has
    the lower epochs. The nodes, and of each node the epochs, that were heard of last are kept.
    """

    def __init__(
        self, max_nodes: int = MAX_NODES, max_epochs: int = MAX_EPOCHS, max_intervals: int = MAX_INTERVALS
    ) -> None:
        self._max_nodes = max_nodes
        self._max_epochs = max_epochs
        self._max_intervals = max_intervals
        self._nodes: OrderedDict[NodeId, OrderedDict[int, Durable]] = OrderedDict()
        self._news: dict[tuple[NodeId, int], int] = {}

    def acknowledged(self, node: NodeId, stamp: Stamp) -> None:
        """Take note that Kafka has a stamped message.

        It is news to the node when the mark covers the batch: also one that was covered before, for a node
        sends again only what it has not heard of.
        """
        epoch, batch_no, oldest = stamp
        durable = self._durable(node, epoch, oldest)
        durable.skip_below(oldest)
        durable.add(batch_no)
        if batch_no <= durable.through:
            self._news[node, epoch] = durable.through

    def _durable(self, node: NodeId, epoch: int, oldest: int) -> Durable:
        epochs = self._nodes.get(node)
        if epochs is None:
            epochs = self._nodes[node] = OrderedDict()
        self._nodes.move_to_end(node)
        if len(self._nodes) > self._max_nodes:
            self._nodes.popitem(last=False)
        durable = epochs.get(epoch)
        if durable is None:
            durable = epochs[epoch] = Durable(oldest - 1, self._max_intervals)
        epochs.move_to_end(epoch)
        if len(epochs) > self._max_epochs:
            epochs.popitem(last=False)
        return durable

    def take_news(self) -> list[tuple[NodeId, DurableMark]]:
        """The marks to publish now, one per epoch with news; they are then no news any more."""
        news = [(node, DurableMark(epoch, through)) for (node, epoch), through in self._news.items()]
        self._news.clear()
        return news
