"""A made-up market: sessions that follow one another round the clock, each the same for the same seed.

Nothing is carried from tick to tick, so any moment can be computed alone. A session's closing level is a
finitely remembered, mean-reverting sum of seeded shocks; the ticks between two closes are a bridge whose
volatility follows a Markov chain of regimes times a U over the session, as real volume and volatility do.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np
from pydantic import Field

from contract.config import Config
from simulators.exchange.quote import Quote

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float64]

# The share of a session's shock that the next session's level still holds, and after how many it is forgotten (0.1 %).
_MEMORY: Final = 0.995
_REMEMBERED_SESSIONS: Final = 1408
_BLOCK: Final = 64
_OVERNIGHT_SHARE: Final = 0.3
_SESSIONS_KEPT: Final = 3

# Which of the seed's streams: shocks of the sessions' levels, ticks within a session, first prices.
_LEVEL_STREAM: Final = 1
_TICK_STREAM: Final = 2
_PRICE_STREAM: Final = 3


class Regime(Config):
    """A state of the market, held for an exponentially distributed time."""

    name: str = Field(description="What it is called")
    volatility: float = Field(gt=0, description="Multiple of the symbols' usual volatility")
    mean_duration_s: float = Field(gt=0, description="How long it lasts on average, seconds")


REGIMES: Final = (
    Regime(name="calm", volatility=0.6, mean_duration_s=900),
    Regime(name="normal", volatility=1.0, mean_duration_s=1200),
    Regime(name="turbulent", volatility=2.6, mean_duration_s=240),
)


class Listed(Config):
    """A symbol and how it moves."""

    symbol: str = Field(pattern=r"^[A-Za-z0-9.:^/_-]{1,32}$", description="Ticker")
    price: float | None = Field(
        default=None, ge=1, le=1e6, description="Price it returns to; drawn from the seed where not given"
    )
    beta: float = Field(default=1.0, ge=-5, le=5, description="How strongly it moves with the market")
    volatility: float = Field(
        default=0.01, ge=0, le=0.2, description="Its own standard deviation per session, of the log price"
    )


@dataclass(frozen=True, slots=True)
class Clock:
    """How time is cut: every session has the same whole number of ticks."""

    session_s: int
    tick_s: int

    @property
    def ticks(self) -> int:
        """The ticks of a session."""
        return self.session_s // self.tick_s

    def locate(self, at_s: int) -> tuple[int, int]:
        """The session of a UTC time in seconds, and the tick in it."""
        session, second = divmod(at_s, self.session_s)
        return session, second // self.tick_s


@dataclass(frozen=True, slots=True)
class Session:
    """The prices of one session, arrays of (symbols, ticks); `previous_close` of (symbols,)."""

    prices: Floats
    high: Floats
    low: Floats
    previous_close: Floats


class Market:
    """Quotes of made-up symbols; `market_volatility` is the standard deviation per session that all share."""

    def __init__(
        self,
        seed: int,
        listed: Sequence[Listed],
        clock: Clock,
        regimes: Sequence[Regime] = REGIMES,
        market_volatility: float = 0.01,
    ) -> None:
        self._seed = seed
        self._clock = clock
        self._regimes = tuple(regimes)
        self._index = {symbol.symbol: i for i, symbol in enumerate(listed)}
        self._own = np.array([symbol.volatility for symbol in listed])
        self._shared = market_volatility * np.array([symbol.beta for symbol in listed])
        self._base = np.log(_first_prices(seed, listed))
        self._shocks = lru_cache(maxsize=2 * _REMEMBERED_SESSIONS // _BLOCK)(self._draw_shocks)
        self._session = lru_cache(maxsize=_SESSIONS_KEPT)(self._compute_session)

    def quote(self, symbol: str, at_s: int) -> Quote | None:
        """The quote of the tick that a UTC time falls into; None for an unknown symbol."""
        i = self._index.get(symbol)
        if i is None:
            return None
        number, tick = self._clock.locate(at_s)
        session = self._session(number)
        return Quote(
            price=float(session.prices[i, tick]),
            open=float(session.prices[i, 0]),
            high=float(session.high[i, tick]),
            low=float(session.low[i, tick]),
            previous_close=float(session.previous_close[i]),
            at_s=at_s - at_s % self._clock.tick_s,
        )

    def session(self, number: int) -> Session:
        """All prices of a session."""
        return self._session(number)

    def _draw_shocks(self, block: int) -> Floats:
        rng = np.random.default_rng([self._seed, _LEVEL_STREAM, block])
        return self._mixed(rng.standard_normal((1 + len(self._own), _BLOCK)))

    def _mixed(self, draws: Floats) -> Floats:
        # (1 + symbols, n): the market's own row, then one for each symbol -> (symbols, n)
        mixed: Floats = self._shared[:, None] * draws[0] + self._own[:, None] * draws[1:]
        return mixed

    def _level(self, session: int) -> Floats:
        """The log price of each symbol as a session closes, (symbols,)."""
        if session < 0:
            return self._base
        last = session // _BLOCK
        first = max(0, last - _REMEMBERED_SESSIONS // _BLOCK)
        shocks = np.hstack([self._shocks(block) for block in range(first, last + 1)])
        recent = shocks[:, : session - first * _BLOCK + 1][:, ::-1][:, :_REMEMBERED_SESSIONS]
        weights: Floats = np.power(_MEMORY, np.arange(recent.shape[1], dtype=np.float64))
        remembered: Floats = np.dot(recent, weights)
        return self._base + remembered

    def _compute_session(self, number: int) -> Session:
        rng = np.random.default_rng([self._seed, _TICK_STREAM, number])
        before, after = self._level(number - 1), self._level(number)
        volatility = self._volatility(rng)
        opening = before + _OVERNIGHT_SHARE * self._mixed(rng.standard_normal((1 + len(self._own), 1)))[:, 0]
        walk = np.cumsum(self._mixed(volatility * rng.standard_normal((1 + len(self._own), self._clock.ticks))), axis=1)
        # A bridge from open to close: what the walk misses is made up in step with the variance spent.
        spent = np.cumsum(volatility**2) / np.sum(volatility**2)
        missed = after - opening - walk[:, -1]
        log_prices: Floats = opening[:, None] + walk + missed[:, None] * spent
        prices: Floats = np.around(np.exp(log_prices), 2)
        return Session(
            prices=prices,
            high=np.maximum.accumulate(prices, axis=1),
            low=np.minimum.accumulate(prices, axis=1),
            previous_close=np.round(np.exp(before), 2),
        )

    def _volatility(self, rng: np.random.Generator) -> Floats:
        """The standard deviation of each tick as a share of a session's, (ticks,); the first tick is the open."""
        ticks = self._clock.ticks
        volatility: Floats = self._regime_path(rng) * u_shape(ticks) / np.sqrt(ticks)
        volatility[0] = 0.0
        return volatility

    def _regime_path(self, rng: np.random.Generator) -> Floats:
        """The regimes' volatility at each tick, (ticks,): a Markov chain drawn as holding times."""
        durations = np.array([regime.mean_duration_s for regime in self._regimes]) / self._clock.tick_s
        path = np.empty(self._clock.ticks)
        state = int(rng.choice(len(durations), p=durations / durations.sum()))
        tick = 0
        while tick < len(path):
            end = tick + max(1, round(rng.exponential(durations[state])))
            path[tick:end] = self._regimes[state].volatility
            tick = end
            if len(durations) > 1:
                state = (state + int(rng.integers(1, len(durations)))) % len(durations)
        return path


def u_shape(ticks: int) -> Floats:
    """Volatility over a session, (ticks,): high at open and close, lowest past noon; its mean square is 1."""
    day = np.linspace(0.0, 1.0, ticks)
    shape = 0.6 + 1.1 * ((day - 0.55) / 0.55) ** 2
    scaled: Floats = shape / np.sqrt(np.mean(shape**2))
    return scaled


def _first_prices(seed: int, listed: Sequence[Listed]) -> Floats:
    drawn = np.exp(np.random.default_rng([seed, _PRICE_STREAM]).uniform(np.log(20), np.log(500), len(listed)))
    return np.array(
        [price if symbol.price is None else symbol.price for symbol, price in zip(listed, drawn, strict=True)]
    )
