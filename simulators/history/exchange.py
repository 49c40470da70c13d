"""The exchange's minutes: the last price of each, the highest and the lowest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from contract.config import ConfigError
from simulators.exchange.market import Clock, Listed, Market
from simulators.history.recorded import BEGIN_MS, Recorded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from simulators.history.recorded import Floats

SYMBOLS: Final = ("AAPL", "MSFT", "IBM")
_CLOCK: Final = Clock(session_s=23_400, tick_s=1)


def exchange_history(seed: int, steps: int, step_s: int = 60, symbols: Sequence[str] = SYMBOLS) -> Recorded:
    """`SYMBOL/price`, `/high` and `/low` of each step; sessions follow one another round the clock."""
    if step_s < 1 or _CLOCK.session_s % step_s:
        raise ConfigError(f"--step: found {step_s}: allowed are seconds that divide a session of {_CLOCK.session_s} s")
    market = Market(seed, [Listed(symbol=symbol) for symbol in symbols], _CLOCK)
    first = BEGIN_MS // 1000 // step_s
    per_session = _CLOCK.session_s // step_s
    sessions = range(first // per_session, (first + steps - 1) // per_session + 1)
    bars = np.concatenate([_bars(market.session(session).prices, step_s) for session in sessions])
    skipped = first - sessions[0] * per_session
    return Recorded(
        at_ms=(first + np.arange(steps, dtype=np.int64)) * step_s * 1000,
        values=bars[skipped : skipped + steps],
        units={f"{symbol}/{name}": "" for symbol in symbols for name in ("price", "high", "low")},
    )


def _bars(prices: Floats, step_s: int) -> Floats:
    """Prices [symbols, ticks] -> [steps, symbols x (last, high, low)]."""
    ticks = prices.reshape(len(prices), -1, step_s)  # symbols x steps x ticks of a step
    bars = np.stack([ticks[:, :, -1], ticks.max(axis=2), ticks.min(axis=2)], axis=-1)  # symbols x steps x 3
    ordered: Floats = bars.transpose(1, 0, 2).reshape(bars.shape[1], -1)
    return ordered
