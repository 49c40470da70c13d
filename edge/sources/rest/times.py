"""Times as APIs write them, made into UTC ms."""

from __future__ import annotations

import re
from datetime import UTC, datetime, time, timedelta
from typing import Annotated, Final, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, Field, model_validator

from contract.config import Config
from edge.sources.rest.expressions import JmesPath  # noqa: TC001 - pydantic reads the annotations at run time

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MS: Final = timedelta(milliseconds=1)
EARLIEST_MS: Final = 946_684_800_000  # 2000-01-01
LATEST_MS: Final = 4_102_444_800_000  # 2100-01-01
_LONGEST: Final = 64
_DATE: Final = re.compile(r"\d{4}-\d{2}-\d{2}")
_SHOWN: Final = 60


def _known_zone(zone: str) -> str:
    try:
        ZoneInfo(zone)
    except (OSError, ValueError) as exc:  # ZoneInfoNotFoundError is a KeyError of its own
        raise ValueError(f"{zone!r} is no time zone") from exc
    except KeyError as exc:
        raise ValueError(f"{zone!r} is no time zone; allowed is a name such as Europe/Berlin") from exc
    return zone


def _time_of_day(text: str) -> str:
    if not re.fullmatch(r"\d{2}:\d{2}(:\d{2})?", text):
        raise ValueError(f"{text!r} is no time of day; allowed is HH:MM or HH:MM:SS")
    time.fromisoformat(text)
    return text


Zone = Annotated[str, AfterValidator(_known_zone)]
TimeOfDay = Annotated[str, AfterValidator(_time_of_day)]


class TimeSpec(Config):
    """Where a row has its time, and how it is written."""

    value: JmesPath = Field(description="JMESPath of the time; date and clock in two places: join('T', [Date, Time])")
    format: Literal["unix_s", "unix_ms", "iso8601"] = Field(description="seconds or ms since 1970, or ISO 8601")
    zone: Zone | None = Field(default=None, description="IANA zone of ISO times that name none")
    at: TimeOfDay | None = Field(default=None, description="time of day, HH:MM, that a date alone stands for")

    @model_validator(mode="after")
    def _date_has_zone(self) -> Self:
        if self.at is not None and self.zone is None:
            raise ValueError("at needs a zone")
        return self


def parse_time(found: object, spec: TimeSpec) -> int:
    """UTC ms of what stands where a time should; raises ValueError. Allowed are the years 2000 to 2099."""
    at_ms = _from_iso(found, spec) if spec.format == "iso8601" else _from_unix(found, spec.format)
    if not EARLIEST_MS <= at_ms < LATEST_MS:
        raise ValueError(f"the time {_shown(found)} is not from 2000 to 2099: is it {spec.format}?")
    return at_ms


def _from_unix(found: object, unit: str) -> int:
    if isinstance(found, bool) or not isinstance(found, int | float):
        raise ValueError(f"the time is {_shown(found)}, allowed is a number ({unit})")  # noqa: TRY004 - foreign data
    # Before any arithmetic: NaN fails it too, and numbers at the end of the floats would leave them.
    if not abs(found) < LATEST_MS:
        raise ValueError(f"the time {_shown(found)} is not from 2000 to 2099: is it {unit}?")
    return round(found * 1000) if unit == "unix_s" else round(found)


def _from_iso(found: object, spec: TimeSpec) -> int:
    if not isinstance(found, str) or len(found) > _LONGEST:
        raise ValueError(f"the time is {_shown(found)}, allowed is an ISO 8601 text")
    text = f"{found}T{spec.at}" if spec.at is not None and _DATE.fullmatch(found) else found
    if _DATE.fullmatch(text):
        raise ValueError(f"the time {found!r} is a date alone")
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None and spec.zone is not None:
            moment = moment.replace(tzinfo=ZoneInfo(spec.zone))
        return (moment - _EPOCH) // _MS
    except TypeError as exc:
        raise ValueError(f"the time {_shown(found)} names no zone") from exc
    except (ValueError, OverflowError) as exc:
        raise ValueError(f"the time is {_shown(found)}, allowed is ISO 8601: {exc}") from exc


def _shown(found: object) -> str:
    try:
        return "missing" if found is None else repr(found)[:_SHOWN]
    except ValueError:  # an int of more digits than Python prints
        return "a number without end"


def iso_utc(at_ms: float) -> str:
    """A time as messages show it, to the second."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
