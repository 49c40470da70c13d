"""Quotes of a market data API: one reading of each metric for every new quote of a symbol.

The time of a reading is the quote's own. A quote whose time was seen at the last poll is not a new reading.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from pathlib import Path  # noqa: TC003 - pydantic reads the annotation at run time
from typing import TYPE_CHECKING, Final, Literal

from pydantic import Field, field_validator, model_validator

from contract.config import read_secret
from contract.datatypes import DataType
from contract.sparkplug import Quality
from edge.reading import MetricInfo, Reading
from edge.sources.base import Source, SourceConfig
from edge.sources.http_json import (
    ApiError,
    ApiMisanswer,
    ApiUnreachable,
    JsonApi,
    number_in,
    open_json_api,
    unix_seconds_in,
)
from edge.sources.secret import needed_by

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from edge.sources.base import Clock

logger = logging.getLogger(__name__)

# Metric -> field of Finnhub's /quote.
_FIELDS: Final = {"price": "c", "open": "o", "high": "h", "low": "l", "previous_close": "pc"}
_MAX_ANSWER_BYTES: Final = 64 * 1024
_BUDGET: Final = 0.9  # of the poll's time-out: a server that hangs at the last symbol does not cost the others


class StocksConfig(SourceConfig):
    """Quotes of some symbols."""

    type: Literal["stocks"] = Field(description="kind of source")
    provider: Literal["finnhub"] = Field(default="finnhub", description="whose API it is")
    base_url: str = Field(default="https://finnhub.io", pattern=r"^https?://[^/@]+", description="server of the API")
    token_env: str | None = Field(default=None, description="environment variable that holds the API token")
    token_file: Path | None = Field(default=None, description="file whose first line is the API token")
    symbols: tuple[str, ...] = Field(min_length=1, description="symbols as the provider spells them")

    @field_validator("symbols")
    @classmethod
    def _symbols_are_distinct(cls, symbols: tuple[str, ...]) -> tuple[str, ...]:
        if "" in symbols or len(set(symbols)) < len(symbols):
            raise ValueError("a symbol is empty or stands here twice")
        return symbols

    @model_validator(mode="after")
    def _has_one_token(self) -> StocksConfig:
        if self.token_env is not None and self.token_file is not None:
            raise ValueError("token_env and token_file exclude each other")
        return self

    def metrics(self) -> list[MetricInfo]:
        """Five prices of every symbol; the quote does not name its currency."""
        return [MetricInfo(f"{symbol}/{name}", DataType.DOUBLE) for symbol in self.symbols for name in _FIELDS]

    @asynccontextmanager
    async def open(self, now_ms: Clock) -> AsyncIterator[StocksSource]:
        """The source; raises SourceError when its token is not there."""
        with needed_by(self.name):
            token = read_secret("token", self.token_env, self.token_file)
        headers = {} if token is None else {"X-Finnhub-Token": token}
        async with open_json_api(self.base_url, headers, _MAX_ANSWER_BYTES) as api:
            yield StocksSource(self, api, now_ms)


class StocksSource(Source):
    """An open market data API."""

    def __init__(self, config: StocksConfig, api: JsonApi, now_ms: Clock) -> None:
        self._config = config
        self._api = api
        self._now_ms = now_ms
        self._last_quote_s: dict[str, int] = {}
        self._faults: dict[str, str] = {}

    async def poll(self) -> list[Reading]:
        """The quotes that are new; raises SourceError when no symbol brought an answer."""
        deadline = asyncio.get_running_loop().time() + self._config.timeout_s * _BUDGET
        readings: list[Reading] = []
        quoted: dict[str, int] = {}
        errors: dict[str, ApiError] = {}
        for symbol in self._config.symbols:
            try:
                quoted[symbol], found = await self._quote(symbol, deadline)
                readings += found if quoted[symbol] != self._last_quote_s.get(symbol) else []
            except ApiMisanswer as exc:
                errors[symbol] = exc
            except ApiUnreachable as exc:
                # What holds for the server holds for the symbols that were still to come.
                errors |= dict.fromkeys([s for s in self._config.symbols if s not in quoted and s not in errors], exc)
                break
        if not quoted:
            raise next(iter(errors.values()))
        # Only now: a poll that is cancelled on its way has delivered nothing, and must not have seen anything.
        self._last_quote_s |= quoted
        self._report({symbol: str(error) for symbol, error in errors.items()})
        return readings + [reading for symbol in errors for reading in self._bad(symbol)]

    async def _quote(self, symbol: str, deadline: float) -> tuple[int, list[Reading]]:
        timeout_s = max(0.0, deadline - asyncio.get_running_loop().time())
        answer = await self._api.get("/api/v1/quote", {"symbol": symbol}, timeout_s)
        try:
            return read_quote(symbol, answer)
        except ValueError as exc:
            raise ApiMisanswer(f"{self._config.base_url}/api/v1/quote?symbol={symbol}: {exc}") from exc

    def _bad(self, symbol: str) -> list[Reading]:
        at_ms = self._now_ms()
        return [Reading(f"{symbol}/{name}", DataType.DOUBLE, None, at_ms, Quality.BAD) for name in _FIELDS]

    def _report(self, faults: dict[str, str]) -> None:
        for symbol, fault in faults.items():
            if self._faults.get(symbol) != fault:
                logger.warning("%s: %s: %s", self._config.name, symbol, fault)
        for symbol in self._faults:
            if symbol not in faults:
                logger.info("%s: %s is quoted again", self._config.name, symbol)
        self._faults = faults


def read_quote(symbol: str, answer: Mapping[str, object]) -> tuple[int, list[Reading]]:
    """The unix second of a Finnhub quote and its readings; raises ValueError for an answer that is no quote."""
    if answer.get("t") == 0:
        raise ValueError("'t' is 0: the provider does not know the symbol")
    at_s = unix_seconds_in(answer, "t")
    prices = {name: number_in(answer, key) for name, key in _FIELDS.items()}
    return at_s, [Reading(f"{symbol}/{name}", DataType.DOUBLE, price, at_s * 1000) for name, price in prices.items()]
