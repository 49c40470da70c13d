"""The order of a node's messages by `seq`: 0 to 255 and round again, 0 at each of its births."""

from __future__ import annotations

from typing import Generic, TypeVar

from contract.sparkplug import SEQ_MODULUS

Item = TypeVar("Item")


class SeqOrder(Generic[Item]):
    """Lets messages pass in order of `seq`, and keeps those that came before their predecessors.

    Until a first number is known any is taken for the right one.
    """

    def __init__(self) -> None:
        self._expected: int | None = None
        self._early: dict[int, Item] = {}

    def __len__(self) -> int:
        return len(self._early)

    def restart(self, seq: int | None) -> None:
        """A birth of the node had this number; None: the next message's number is as good as any."""
        self._expected = None if seq is None else (seq + 1) % SEQ_MODULUS

    def take(self, seq: int | None, item: Item) -> list[Item]:
        """The messages that are in order now; none where this one came early.

        One without a number is in order, and so is one that repeats the last: QoS 1 may bring a message twice.
        """
        if seq is None or seq in self._early or (seq + 1) % SEQ_MODULUS == self._expected:
            return [item]
        if self._expected is not None and seq != self._expected:
            self._early[seq] = item
            return []
        passed = [item]
        self._expected = (seq + 1) % SEQ_MODULUS
        while self._expected in self._early:
            passed.append(self._early.pop(self._expected))
            self._expected = (self._expected + 1) % SEQ_MODULUS
        return passed

    def give_up(self) -> list[Item]:
        """What came early, in order: what is missing is waited for no longer."""
        first = self._expected or 0
        seqs = sorted(self._early, key=lambda seq: (seq - first) % SEQ_MODULUS)
        passed = [self._early.pop(seq) for seq in seqs]
        if seqs:
            self._expected = (seqs[-1] + 1) % SEQ_MODULUS
        return passed
