"""What a user writes of a REST source, held against its API: variables, secret, metrics, and the provider's limits."""

from __future__ import annotations

from collections import Counter
from contextlib import asynccontextmanager
from math import ceil
from pathlib import Path  # noqa: TC003 - pydantic reads the annotation at run time
from typing import TYPE_CHECKING, Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, PrivateAttr, field_validator, model_validator

from contract import __version__
from contract.config import ConfigError, Tls, read_secret
from contract.datatypes import DataType
from edge.reading import MetricInfo
from edge.sources.base import SourceConfig
from edge.sources.rest import plan
from edge.sources.rest.answers import Reader
from edge.sources.rest.api import Api, BaseUrl, Limits, Line, load_api, load_preset
from edge.sources.rest.budget import Budget
from edge.sources.rest.hours import DAY_S, Hours, HoursSetting
from edge.sources.rest.http import connected
from edge.sources.rest.key import Key
from edge.sources.rest.source import Ask, Pace, RestSource
from edge.sources.rest.templates import fill, fill_path
from edge.sources.secret import needed_by

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping, Sequence

    from edge.sources.base import Clock
    from edge.sources.rest.api import Metric, Request

_USER_AGENT = f"headwater-edge/{__version__}"
Symbol = Annotated[str, Field(pattern=r"^[\x21-\x7e]{1,40}$")]


class _Kept:
    """What outlives the connections of a source: its budget. All are equal, as configs compare by what is written."""

    budget: Budget | None = None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Kept)

    def __hash__(self) -> int:
        return 0


class RestConfig(SourceConfig):
    """Values of a REST API."""

    type: Literal["rest"] = Field(description="kind of source")
    preset: str | None = Field(default=None, description="an API that the agent knows")
    preset_file: Path | None = Field(default=None, description="YAML of one that it does not know")
    api: Api | None = Field(default=None, description="the same, written here")
    base_url: BaseUrl | None = Field(default=None, description="server; none: the API's own")
    secret_env: str | None = Field(default=None, description="environment variable that holds the API's key")
    secret_file: Path | None = Field(default=None, description="file whose first line is the API's key")
    tls: Tls | None = Field(default=None, description="authorities and certificate for https; none: the system's")
    symbols: tuple[Symbol, ...] = Field(default=(), max_length=5000, description="symbols as the provider spells them")
    latitude: float | None = Field(default=None, ge=-90, le=90, description="degrees north")
    longitude: float | None = Field(default=None, ge=-180, le=180, description="degrees east")
    variables: dict[str, Line] = Field(default_factory=dict, description="what else the API's templates name")
    only: tuple[str, ...] | None = Field(
        default=None, min_length=1, description="metrics, without prefix; none: the usual"
    )
    lag: bool = Field(
        default=False, description="whether to add the metric lag: s from the values' time to their receipt"
    )
    limits: Limits | None = Field(default=None, description="your plan's limits; none: the API's, {}: there are none")
    hours: HoursSetting | None = Field(
        default=None, description="when to poll: always, nyse, a calendar; none: the API's"
    )
    linger_s: float = Field(
        default=1200.0, ge=0, le=36_000, description="seconds after a close for which polling goes on"
    )
    closed_interval_s: float | None = Field(
        default=None, ge=1, le=DAY_S, description="seconds from poll to poll while closed; none: not polled"
    )
    requests_per_poll: int | None = Field(default=None, ge=1, description="of the requests, in turn; none: all of them")
    quota_file: Path | None = Field(default=None, description="file that keeps the count of a quota over restarts")
    max_bytes: int = Field(default=262_144, ge=1024, le=4_194_304, description="bytes of an answer, unpacked, at most")

    _api: Api = PrivateAttr()
    _ask_count: int = PrivateAttr()
    _kept: _Kept = PrivateAttr(default_factory=_Kept)

    @field_validator("symbols")
    @classmethod
    def _symbols_are_distinct(cls, symbols: tuple[str, ...]) -> tuple[str, ...]:
        if len({symbol.casefold() for symbol in symbols}) < len(symbols):
            raise ValueError("a symbol stands here twice")
        return symbols

    @model_validator(mode="after")
    def _fits_its_api(self) -> Self:
        if sum(given is not None for given in (self.preset, self.preset_file, self.api)) != 1:
            raise ValueError("allowed is one of preset, preset_file and api")
        self._api = self._loaded()
        self._check_secret()
        self._check_variables()
        self._check_metrics()
        self._ask_count = sum(1 for _ in self._asks())
        plan.check(self.load, self._limits)
        return self

    def metrics(self) -> list[MetricInfo]:
        """The metrics of every request, for every symbol that it is asked for."""
        return [info for request in self._api.requests for info in self._infos(request)]

    def vitals(self) -> dict[str, MetricInfo]:
        """What is left of the quotas that there are."""
        quotas = {"day": self._limits.per_day, "month": self._limits.per_month}
        return {
            f"quota_left_{name}": MetricInfo(f"Quota Left {name.title()}", DataType.DOUBLE, None, "requests")
            for name, limit in quotas.items()
            if limit is not None
        }

    def explain(self) -> Sequence[str]:
        """The API, its requests against its limits, and its hours."""
        api, load, limits = self._api, self.load, self._limits
        asks = self._ask_count
        lines = [f"{api.title}: {self.base_url or api.base_url}", f"requests: {plan.describe(load, limits)}"]
        if asks > self._per_poll:
            lines.append(
                f"in turn: {self._per_poll} of {asks} a poll, each {ceil(asks / self._per_poll) * self.interval_s:g} s"
            )
        if self._has_secret and not self._is_https:
            lines.append("secret: base_url is http, so it is sent where anybody on the way can read it")
        if limits.source is not None:
            lines.append(f"limits: {limits.source}")
        if self._hours is not None:
            closed = "not polled" if self.closed_interval_s is None else f"polled each {self.closed_interval_s:g} s"
            lines.append(f"hours: {self._hours.describe()}, else {closed}")
        return lines

    @asynccontextmanager
    async def open(self, now_ms: Clock) -> AsyncIterator[RestSource]:
        """The source; raises SourceError when its secret is not there."""
        with needed_by(self.name):
            # The library by itself would trust its own list of authorities, not the system's. Plain http needs none.
            verify = (self.tls or Tls()).context() if self._is_https else False
            secret = read_secret("secret", self.secret_env, self.secret_file)
            if secret is not None and not (secret.isascii() and secret.isprintable()):
                raise ConfigError("secret: it has characters that HTTP cannot carry")
        if self._kept.budget is None:
            self._kept.budget = Budget(self._limits, self.quota_file)
        budget = self._kept.budget
        pace = Pace(self._per_poll, self.timeout_s, self._hours, self.closed_interval_s)
        headers = {"User-Agent": _USER_AGENT, **self._filled(self._api.headers)}
        key = Key(self._api.auth, secret)
        async with connected(key, budget, headers, verify, self.max_bytes, now_ms) as connection:
            yield RestSource(self.name, list(self._asks()), connection, pace, budget, now_ms)

    @property
    def load(self) -> plan.Load:
        """What polling takes."""
        pages = max(1 if r.paging is None else r.paging.max_pages for r in self._api.requests)
        open_s = DAY_S if self._hours is None else self._hours.longest_open_s()
        closed_interval_s = None if self._hours is None else self.closed_interval_s
        return plan.Load(self._per_poll * pages, self.interval_s, self.timeout_s, open_s, closed_interval_s)

    def _loaded(self) -> Api:
        if self.preset is not None:
            return load_preset(self.preset)
        if self.preset_file is not None:
            return load_api(self.preset_file)
        assert self.api is not None
        return self.api

    @property
    def _limits(self) -> Limits:
        return self._api.limits if self.limits is None else self.limits

    @property
    def _hours(self) -> Hours | None:
        setting = self._api.hours if self.hours is None else self.hours
        return None if setting == "always" else Hours(setting, self.linger_s)

    @property
    def _per_poll(self) -> int:
        return min(self._ask_count, self.requests_per_poll or self._ask_count)

    @property
    def _is_https(self) -> bool:
        return urlsplit(self.base_url or self._api.base_url).scheme == "https"

    @property
    def _has_secret(self) -> bool:
        return self.secret_env is not None or self.secret_file is not None

    def _check_secret(self) -> None:
        auth, is_given = self._api.auth, self._has_secret
        if self.secret_env is not None and self.secret_file is not None:
            raise ValueError("secret_env and secret_file exclude each other")
        if auth is None and is_given:
            raise ValueError(f"{self._api.title} takes no secret")
        if auth is not None and auth.required and not is_given:
            raise ValueError(f"missing: secret_env or secret_file, as {self._api.title} needs a key")

    def _check_variables(self) -> None:
        if self._api.needs_symbols != bool(self.symbols):
            raise ValueError("missing: symbols" if self._api.needs_symbols else f"{self._api.title} takes no symbols")
        given, needed = set(self._values()), self._api.variables
        if missing := sorted(needed - given):
            places = {"latitude", "longitude"}
            raise ValueError("missing: " + ", ".join(n if n in places else f"variables.{n}" for n in missing))
        if unknown := sorted(given - needed):
            raise ValueError(f"{', '.join(unknown)}: {self._api.title} has no use for it")

    def _check_metrics(self) -> None:
        known = {metric.name for request in self._api.requests for metric in request.metrics}
        if unknown := [name for name in self.only or () if name not in known]:
            raise ValueError(f"only: no metric {', '.join(unknown)}; there are {', '.join(sorted(known))}")
        names = Counter(info.name for info in self.metrics())
        if twice := [name for name, count in names.items() if count > 1]:
            raise ValueError(f"metrics would stand twice: {', '.join(twice[:5])}")

    def _values(self) -> dict[str, str]:
        """The values of the templates' variables."""
        places = {"latitude": self.latitude, "longitude": self.longitude}
        return {
            name: f"{round(x, 6):.6f}".rstrip("0").rstrip(".") for name, x in places.items() if x is not None
        } | self.variables

    def _filled(self, templates: Mapping[str, str]) -> dict[str, str]:
        return {name: fill(template, self._values()) for name, template in templates.items()}

    def _wanted(self, request: Request) -> list[Metric]:
        if self.only is None:
            return [metric for metric in request.metrics if not metric.extra]
        return [metric for metric in request.metrics if metric.name in self.only]

    def _reader(self, request: Request) -> Reader:
        return Reader(request, self._wanted(request), self._values(), lag=self.lag)

    def _subjects(self, request: Request) -> tuple[str, ...]:
        return self.symbols if request.is_by_symbol else ("",)

    def _infos(self, request: Request) -> Iterator[MetricInfo]:
        reader = self._reader(request)
        for subject in self._subjects(request):
            yield from reader.infos(subject)

    def _asks(self) -> Iterator[Ask]:
        for request in self._api.requests:
            if not (wanted := self._wanted(request)):
                continue
            reader, subjects = self._reader(request), self._subjects(request)
            for i in range(0, len(subjects), request.batch):
                batch = subjects[i : i + request.batch]
                fields = ",".join(metric.field or metric.name for metric in wanted)
                more = {"symbol": batch[0], "symbols": request.join.join(batch), "fields": fields}
                yield self._ask(request, reader, batch, self._values() | more)

    def _ask(self, request: Request, reader: Reader, batch: Sequence[str], values: Mapping[str, str]) -> Ask:
        base = (self.base_url or self._api.base_url).rstrip("/") + fill_path(request.path, values)
        query = {name: fill(template, values) for name, template in request.query.items()}
        headers = {name: fill(template, values) for name, template in request.headers.items()}

        def url(page: Mapping[str, str]) -> str:
            import httpx  # noqa: PLC0415 - a config is checked without the driver

            return str(httpx.URL(base, params={**query, **page}))

        return Ask(request, reader, batch, url, headers)
