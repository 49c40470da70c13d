"""A node's clock: wrong, drifting, set to another time; and as an agent uses it, so that its time never goes back.

Pure: true time is the caller's, UTC ms.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from simulators.fleet.roster import drawn

if TYPE_CHECKING:
    from collections.abc import Iterator
    from random import Random

    from simulators.fleet.config import FleetConfig, WrongClocks
    from simulators.fleet.roster import Member

_MILLION: Final = 1_000_000


class NodeClock:
    """What a node takes for UTC. Set forward it follows at once; set back it goes at half speed until it is right.

    No two of its times are the same: a reading would be stored in the place of another.
    """

    def __init__(self, true_ms: int, settings: Iterator[tuple[int, int]] | None = None, drift_ppm: float = 0.0) -> None:
        """`settings`: when it is set (ms since `true_ms`), and by how much it is wrong then (ms); the first at 0."""
        self._began_ms = self._seen_ms = true_ms
        self._drift_ppm = drift_ppm
        self._settings = settings or iter(())
        self._set_at_ms, self._offset_ms = next(self._settings, (0, 0))
        self._next_setting = next(self._settings, None)
        self._told_ms = self._wall_ms(true_ms) - 1

    def now_ms(self, true_ms: int) -> int:
        """The time that a reading gets."""
        passed_ms, self._seen_ms = max(0, true_ms - self._seen_ms), true_ms
        ahead_ms = self._told_ms + passed_ms - self._wall_ms(true_ms)
        slowed_ms = min(passed_ms // 2, ahead_ms) if ahead_ms > 0 else ahead_ms
        self._told_ms = max(self._told_ms + 1, self._told_ms + passed_ms - slowed_ms)
        return self._told_ms

    def _wall_ms(self, true_ms: int) -> int:
        since_ms = true_ms - self._began_ms
        while self._next_setting is not None and self._next_setting[0] <= since_ms:
            self._set_at_ms, self._offset_ms = self._next_setting
            self._next_setting = next(self._settings, None)
        drifted_ms = (since_ms - self._set_at_ms) * self._drift_ppm / _MILLION
        return true_ms + self._offset_ms + round(drifted_ms)


def clock_of(config: FleetConfig, member: Member, true_ms: int) -> NodeClock:
    """A member's clock, for a fleet that starts now."""
    if config.clocks is None or not member.has_wrong_clock:
        return NodeClock(true_ms)
    chance = drawn(config.seed, "clock", member.number)
    drift_ppm = chance.uniform(-config.clocks.drift_ppm, config.clocks.drift_ppm)
    return NodeClock(true_ms, _settings(config.clocks, chance), drift_ppm)


def _settings(clocks: WrongClocks, chance: Random) -> Iterator[tuple[int, int]]:
    at_s = 0.0
    while True:
        yield round(at_s * 1000), round(chance.uniform(-clocks.offset_s, clocks.offset_s) * 1000)
        at_s += chance.expovariate(1 / clocks.mean_pause_s)
