"""How much a line was asked: by unit and by connection, counted where the requests arrive."""

from __future__ import annotations

import time
from collections import Counter, OrderedDict
from typing import Any, Final

# Connections that are counted each for itself; the oldest beyond these only together.
_MOST_CONNECTIONS: Final = 500


class Counts:
    """Requests since the start, or since `reset`."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Count from here."""
        self._since_s = time.monotonic()
        self._by_unit = Counter[int]()
        self._by_client = OrderedDict[str, int]()
        self._registers = 0
        self._refused = 0
        self._connections = 0

    def connected(self, client: str) -> None:
        """Note a new connection."""
        self._connections += 1
        self._by_client[client] = 0
        while len(self._by_client) > _MOST_CONNECTIONS:
            self._by_client.popitem(last=False)

    def asked(self, client: str, unit_id: int) -> None:
        """Note a request."""
        self._by_unit[unit_id] += 1
        self._by_client[client] = self._by_client.get(client, 0) + 1

    def answered(self, registers: int) -> None:
        """Note a read that was given its registers (or bits)."""
        self._registers += registers

    def refused(self) -> None:
        """Note a request that was not given what it asked for."""
        self._refused += 1

    def as_json(self) -> dict[str, Any]:
        """What was counted; `by_connection` has the newest connections only, `by_unit` every request."""
        return {
            "seconds": round(time.monotonic() - self._since_s, 3),
            "requests": self._by_unit.total(),
            "refused": self._refused,
            "registers": self._registers,
            "connections": self._connections,
            "by_unit": {str(unit_id): self._by_unit[unit_id] for unit_id in sorted(self._by_unit)},
            "by_connection": dict(self._by_client),
        }
