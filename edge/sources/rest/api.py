"""An API as data: what a preset's YAML holds. A new API is such a file, and no code."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from contract.config import Config, ConfigError, read_config
from contract.datatypes import NUMERIC, TEXTS, DataType
from edge.sources.rest.expressions import JmesPath  # noqa: TC001 - pydantic reads the annotations at run time
from edge.sources.rest.hours import HoursSetting  # noqa: TC001 - as above
from edge.sources.rest.templates import names_in
from edge.sources.rest.times import TimeSpec, Zone  # noqa: TC001 - as above

DATATYPES: Final = {datatype.name.lower(): datatype for datatype in sorted(NUMERIC | TEXTS - {DataType.UUID})}
_PRESETS: Final = Path(__file__).parent / "presets"


def _header_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9-]{1,64}", name):
        raise ValueError(f"{name!r} is no name of a header")
    return name


def _datatype(name: str) -> str:
    if name not in DATATYPES:
        raise ValueError(f"{name!r} is not known; allowed are {', '.join(DATATYPES)}")
    return name


def _base_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        port = parts.port or 1
    except ValueError as exc:
        raise ValueError(f"{url!r} is no URL: {exc}") from exc
    if not re.fullmatch(r"https?://[^/@?#\s]+(/[^?#\s]*)?", url) or not parts.hostname or not port:
        raise ValueError(f"{url!r} is no base URL; allowed is such as https://api.example.com, without user or query")
    return url


HeaderName = Annotated[str, AfterValidator(_header_name)]
BaseUrl = Annotated[str, AfterValidator(_base_url)]
# One line of ASCII: a header must not be broken by it.
Line = Annotated[str, Field(pattern=r"^[\x20-\x7e]{0,500}$")]


class Limits(Config):
    """What the provider allows; what is not given is not limited."""

    per_second: int | None = Field(default=None, ge=1, le=10_000, description="requests in any second")
    per_minute: int | None = Field(default=None, ge=1, le=10_000, description="requests in any minute")
    per_hour: int | None = Field(default=None, ge=1, le=10_000, description="requests in any hour")
    per_day: int | None = Field(default=None, ge=1, description="requests in a day of day_zone")
    per_month: int | None = Field(default=None, ge=1, description="requests in a month of day_zone")
    day_zone: Zone = Field(default="UTC", description="IANA zone whose midnight renews the day's and the month's quota")
    source: str | None = Field(default=None, description="where these numbers stand, and for which plan")


class Auth(Config):
    """Where the secret goes: into a header or into the query."""

    header: HeaderName | None = Field(default=None, description="header that takes the secret")
    prefix: Line = Field(default="", description="what stands before it in the header, such as 'Bearer '")
    query: str | None = Field(default=None, description="query parameter that takes the secret")
    required: bool = Field(default=True, description="whether the provider answers nobody without one")

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.header is None) == (self.query is None):
            raise ValueError("allowed is one of header and query")
        return self


class Metric(Config):
    """One value of a row."""

    name: str = Field(min_length=1, description="metric; the request's prefix stands before it")
    value: JmesPath = Field(description="JMESPath of the value in the row")
    datatype: Annotated[str, AfterValidator(_datatype)] = Field(default="double", description="Sparkplug type")
    unit: str | None = Field(default=None, description="unit of the metric")
    description: str | None = Field(default=None, description="what it is")
    scale: float = Field(default=1.0, allow_inf_nan=False, description="factor from the API's number to the metric's")
    unit_at: JmesPath | None = Field(default=None, description="JMESPath of the unit that the answer names")
    unit_says: str | None = Field(default=None, description="what must stand there; none: the metric's unit")
    quality_at: JmesPath | None = Field(default=None, description="JMESPath of the provider's quality flag")
    good: tuple[str, ...] = Field(default=(), description="flags that are good; any other is bad quality")
    optional: bool = Field(
        default=False, description="whether null is normal: no reading, instead of one of bad quality"
    )
    extra: bool = Field(default=False, description="asked for only if `only` names it")
    field: str | None = Field(default=None, description="what {fields} in a template calls it; none: its name")


class Refusal(Config):
    """How an API says no with a status of 200."""

    when: JmesPath | None = Field(default=None, description="JMESPath that is true of such a document")
    text: str | None = Field(
        default=None, min_length=1, description="words in the first 2,000 characters of the answer"
    )
    means: Literal["throttled", "exhausted", "refused", "unknown"] = Field(
        description="too fast; the day's quota is used up; nobody is answered; this one thing is not to be had"
    )
    says: str = Field(description="what the log says of it")

    @model_validator(mode="after")
    def _one_sign(self) -> Self:
        if (self.when is None) == (self.text is None):
            raise ValueError("allowed is one of when and text")
        return self


class Paging(Config):
    """How the rest of a long answer is asked for: by a link in it, or by counting a parameter up."""

    next: JmesPath | None = Field(default=None, description="JMESPath of the next page's URL, on the same server")
    parameter: str | None = Field(default=None, description="query parameter that counts pages or rows")
    start: int = Field(default=1, ge=0, description="its first value")
    step: int = Field(default=1, ge=1, description="what is added for each page: 1 for pages, their size for offsets")
    max_pages: int = Field(default=5, ge=1, le=100, description="pages asked for at most")

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.next is None) == (self.parameter is None):
            raise ValueError("allowed is one of next and parameter")
        return self


class Request(Config):
    """One thing to ask for, and what its answer means."""

    path: str = Field(pattern=r"^/[^?#\s]*$", description="path template below base_url")
    query: dict[str, str] = Field(default_factory=dict, description="query templates by name")
    headers: dict[HeaderName, Line] = Field(default_factory=dict, description="header templates by name")
    format: Literal["json", "csv"] = Field(default="json", description="what is answered; a CSV is a list of its rows")
    batch: int = Field(default=1, ge=1, le=500, description="symbols asked for at once, as {symbols}")
    join: str = Field(default=",", description="what stands between them")
    symbol: JmesPath | None = Field(default=None, description="JMESPath of a row's symbol, for a batch")
    rows: JmesPath = Field(default="@", description="JMESPath of the rows, or of the only one")
    time: TimeSpec | None = Field(default=None, description="the rows' time; none: the moment of the answer")
    only_changes: bool = Field(default=False, description="without a time: whether the same values are no new reading")
    prefix: str = Field(default="", description="what stands before each metric's name, a template")
    metrics: tuple[Metric, ...] = Field(min_length=1, description="what becomes of a row")
    refusals: tuple[Refusal, ...] = Field(default=(), description="answers of status 200 that are none")
    paging: Paging | None = Field(default=None, description="how the next page is asked for; none: there is one")

    @model_validator(mode="after")
    def _batch_has_symbols(self) -> Self:
        if self.batch > 1 and (self.symbol is None or not self.prefix):
            raise ValueError("a batch needs symbol, by which rows are told apart, and prefix")
        if self.only_changes and self.time is not None:
            raise ValueError("only_changes is for rows without a time")
        return self

    @property
    def templates(self) -> tuple[str, ...]:
        """All templates of what is sent."""
        return (self.path, *self.query.values(), *self.headers.values())

    @property
    def is_by_symbol(self) -> bool:
        """Whether it is asked for each symbol, or batch of them."""
        return bool(names_in((*self.templates, self.prefix)) & {"symbol", "symbols"})


class Api(Config):
    """An API: a preset's YAML."""

    title: str = Field(description="what it is, in a few words")
    documentation: str | None = Field(default=None, description="where its provider describes it")
    base_url: BaseUrl = Field(description="server of the API")
    auth: Auth | None = Field(default=None, description="where a secret goes; none: there is none")
    headers: dict[HeaderName, Line] = Field(default_factory=dict, description="header templates of all requests")
    limits: Limits = Field(default_factory=Limits, description="what the provider allows")
    hours: HoursSetting = Field(default="always", description="when its values change: always, nyse, or a calendar")
    requests: tuple[Request, ...] = Field(min_length=1, description="what is asked for")

    @property
    def variables(self) -> set[str]:
        """The variables that its user gives, beside symbols and the names of metrics."""
        used = names_in(t for request in self.requests for t in (*request.templates, request.prefix))
        return (used | names_in(self.headers.values())) - {"symbol", "symbols", "fields"}

    @property
    def needs_symbols(self) -> bool:
        """Whether anything is asked by symbol."""
        return any(request.is_by_symbol for request in self.requests)


def preset_names() -> list[str]:
    """The presets there are."""
    return sorted(path.stem for path in _PRESETS.glob("*.yaml"))


def load_preset(name: str) -> Api:
    """A preset by its name; raises ValueError with those there are."""
    if name not in preset_names():
        raise ValueError(f"no preset {name!r}; there are {', '.join(preset_names())}")
    return load_api(_PRESETS / f"{name}.yaml")


def load_api(path: Path) -> Api:
    """An API in a YAML file; raises ValueError that says what is wrong with it."""
    try:
        return read_config(path, Api)
    except ConfigError as exc:
        raise ValueError("; ".join(str(exc).splitlines())) from exc
