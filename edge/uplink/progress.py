"""How far one lane has come in this run: what was sent, what is durable, and when it is sent again. No I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from edge.lane import Lane
from edge.uplink.window import Patience, SendWindow

if TYPE_CHECKING:
    from edge.spool import Extent
    from edge.uplink.config import MqttConfig

_IMAGE_WINDOW: Final = 4


@dataclass(slots=True)
class LaneProgress:
    """A lane's window over the spool, and the marks that move it.

    A mark is believed only as far as this run has sent: whoever forges one deletes nothing that was never sent. One
    beyond all that this spool's runs can have sent says that the disk has forgotten, or that somebody lies.
    """

    window: SendWindow
    patience: Patience
    epoch: int = 0
    next_no: int = 1
    durable_through: int = 0
    _sent_through: int = 0
    _earlier_through: int = 0
    _trying: bool = False

    @property
    def room(self) -> int:
        """How many more batches may be sent: after a disappointment one, until that is durable."""
        room = min(self.window.room, self.next_no - self.window.next_no)
        return min(room, 1 - self.window.unacknowledged) if self._trying else room

    @property
    def depth(self) -> int:
        """How many batches are not known to be durable."""
        return self.next_no - self.window.base

    def begin(self, now_s: float) -> None:
        """A new connection: everything that is not durable is sent again."""
        self.window.rewind()
        self.patience.reset(now_s)
        self._trying = False

    def follow(self, extent: Extent, now_s: float) -> bool:
        """Takes in what the spool holds now; returns whether something became durable, or was evicted."""
        self.next_no = extent.next_no
        if extent.epoch != self.epoch:
            self._restart(extent)
            return False
        moved = self.window.advance(max(extent.oldest, self.durable_through + 1))
        if moved:
            self.patience.reset(now_s)
            self._trying = False
        return moved

    def believe(self, through: int) -> bool:
        """Takes in a mark of this epoch; False for one that no run can have earned, which changes nothing."""
        if through > max(self._sent_through, self._earlier_through):
            return False
        self.durable_through = max(self.durable_through, min(through, self._sent_through))
        return True

    def sent(self, batch_no: int, now_s: float) -> None:
        """A batch has gone out."""
        if self.window.unacknowledged == 0:
            (self.patience.begin if self._trying else self.patience.reset)(now_s)
        self.window.sent(batch_no)
        self._sent_through = max(self._sent_through, batch_no)

    def retreat(self) -> None:
        """What was sent has reached nobody: it is sent again, one batch first."""
        self.window.rewind()
        self._trying = True

    def loses_patience(self, now_s: float) -> bool:
        """Whether what is out has waited too long for its mark; if so it is sent again, one batch first."""
        if self.window.unacknowledged == 0 or not self.patience.exhausted(now_s):
            return False
        self.retreat()
        return True

    def _restart(self, extent: Extent) -> None:
        self.epoch = extent.epoch
        self.window.restart(extent.oldest)
        self.durable_through = self._sent_through = extent.oldest - 1
        # A run before this one may have sent a window full, and died before it heard of the marks.
        self._earlier_through = min(extent.next_no - 1, extent.oldest - 1 + self.window.limit)
        self._trying = False


def lanes(config: MqttConfig) -> dict[Lane, LaneProgress]:
    """A beginning for every lane, the most urgent first."""
    windows = {
        Lane.ALARM: config.window,
        Lane.LIVE: config.window,
        Lane.BACKFILL: config.backfill_window,
        Lane.IMAGE: min(config.backfill_window, _IMAGE_WINDOW),
    }
    return {
        lane: LaneProgress(SendWindow(window), Patience(config.resend_after_s, config.resend_max_s))
        for lane, window in windows.items()
    }
