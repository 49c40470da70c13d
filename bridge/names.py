"""What a node's births have told: its metrics' names and data types, by device."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from contract.aliases import Names, names_of

if TYPE_CHECKING:
    from contract import sparkplug_b_pb2 as pb

NODE: Final = ""  # the node's own metrics, beside those of its devices
# What a device takes in memory beside its metrics; it counts as one of them, too.
_DEVICE_BYTES: Final = 1024


class NodeNames:
    """Names by device, of so many metrics at most; `size_bytes` is about what they take in memory."""

    def __init__(self, max_metrics: int) -> None:
        self._max_metrics = max_metrics
        self._metrics = 0
        self._births: dict[str, Names] = {}
        self.size_bytes = 0

    def get(self, device: str) -> Names | None:
        """What the last birth of a device told, None where none is known."""
        return self._births.get(device)

    def learn(self, device: str, birth: pb.Payload) -> None:
        """A device is born; metrics past the bound stay unknown."""
        self.unlearn(device)
        room = self._max_metrics - self._metrics
        if room > 0:
            self._births[device] = names = names_of(birth, room - 1)
            self._metrics += len(names) + 1
            self.size_bytes += names.size_bytes + _DEVICE_BYTES

    def unlearn(self, device: str) -> None:
        """A device is gone."""
        names = self._births.pop(device, None)
        if names is not None:
            self._metrics -= len(names) + 1
            self.size_bytes -= names.size_bytes + _DEVICE_BYTES

    def clear(self) -> None:
        """Nothing is known any more."""
        self._births.clear()
        self._metrics = self.size_bytes = 0
