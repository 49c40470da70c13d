from __future__ import annotations

import contextlib
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.config import ConfigError, parse_config
from edge.sources.rest.hours import Calendar, Hours
from edge.sources.rest.nyse import easter, nyse_early_close, nyse_holidays
from edge.sources.rest.times import EARLIEST_MS, LATEST_MS, TimeSpec, parse_time

MOMENTS = st.integers(EARLIEST_MS, LATEST_MS - 1)
ZONES = st.sampled_from(["UTC", "America/New_York", "Europe/Warsaw", "Asia/Kolkata", "Australia/Lord_Howe"])


def spec(form: str, **more: Any) -> TimeSpec:
    return TimeSpec.model_validate({"value": "t", "format": form, **more})


def ms_of(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)


@given(at_ms=MOMENTS)
def test_unix_times_are_what_they_say(at_ms: int) -> None:
    assert parse_time(at_ms, spec("unix_ms")) == at_ms
    assert parse_time(at_ms // 1000, spec("unix_s")) == at_ms // 1000 * 1000
    assert parse_time(at_ms / 1000, spec("unix_s")) == at_ms


@given(at_ms=MOMENTS, zone=ZONES)
def test_an_iso_time_is_the_same_moment_in_every_zone(at_ms: int, zone: str) -> None:
    local = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=at_ms)).astimezone(ZoneInfo(zone))
    assert parse_time(local.isoformat(), spec("iso8601")) == at_ms
    assert parse_time(local.astimezone(UTC).isoformat().replace("+00:00", "Z"), spec("iso8601")) == at_ms
    naive = local.replace(tzinfo=None).isoformat()
    # In the hour that a clock repeats, its first passage is meant.
    assert parse_time(naive, spec("iso8601", zone=zone)) == at_ms - (3_600_000 if local.fold else 0) * (
        1 if zone != "Australia/Lord_Howe" else 0.5
    )


@given(day=st.dates(date(2000, 1, 2), date(2099, 12, 30)), zone=ZONES)
def test_a_date_stands_for_the_time_of_day_that_is_given(day: date, zone: str) -> None:
    found = parse_time(day.isoformat(), spec("iso8601", zone=zone, at="16:00"))
    local = datetime.fromtimestamp(found / 1000, ZoneInfo(zone))
    assert (local.date(), local.hour, local.minute) == (day, 16, 0)


@given(found=st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.lists(st.integers())))
@pytest.mark.parametrize("form", ["unix_s", "unix_ms", "iso8601"])
def test_what_is_no_time_is_refused_in_words(form: str, found: object) -> None:
    at_ms = EARLIEST_MS
    with contextlib.suppress(ValueError):
        at_ms = parse_time(found, spec(form))
    assert EARLIEST_MS <= at_ms < LATEST_MS


@pytest.mark.parametrize(
    ("form", "found", "complaint"),
    [
        ("unix_s", 1_700_000_000_000, "is it unix_s"),
        ("unix_ms", 1_700_000_000, "is it unix_ms"),
        pytest.param("unix_s", 10**5000, "without end", id="5000 digits"),
        ("unix_s", "1700000000", "allowed is a number"),
        ("unix_s", True, "allowed is a number"),
        ("unix_s", 1.797693134862316e305, "not from 2000"),
        ("unix_ms", float("nan"), "not from 2000"),
        ("iso8601", "2026-11-22T10:00:00", "names no zone"),
        ("iso8601", "2026-11-22", "a date alone"),
        ("iso8601", "2026-02-30T10:00:00Z", "day is out of range"),
        ("iso8601", "0001-01-01T00:00:00+23:59", "not from 2000"),
        ("iso8601", "N/DTN/D", "allowed is ISO 8601"),
        ("iso8601", "2026-11-22T10:00:00Z" + " " * 100, "allowed is an ISO 8601 text"),
        ("iso8601", None, "missing"),
    ],
)
def test_times_that_are_refused(form: str, found: object, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        parse_time(found, spec(form))


@pytest.mark.parametrize(
    "document",
    [
        {"value": "t", "format": "iso8601", "zone": "Mars/Olympus"},
        {"value": "t", "format": "iso8601", "zone": "../etc/passwd"},
        {"value": "t", "format": "iso8601", "at": "16:00"},
        {"value": "t", "format": "iso8601", "zone": "UTC", "at": "4 pm"},
        {"value": "t[", "format": "unix_s"},
        {"value": "tonumber(t)", "format": "unix_s"},
        {"value": "t", "format": "julian"},
    ],
)
def test_wrong_times_are_told_when_the_config_is_read(document: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        parse_config(document, TimeSpec, "api.yaml")


# As the exchange published them.
HOLIDAYS = {
    2024: "01-01 01-15 02-19 03-29 05-27 06-19 07-04 09-02 11-28 12-25",
    2025: "01-01 01-09 01-20 02-17 04-18 05-26 06-19 07-04 09-01 11-27 12-25",
    2026: "01-01 01-19 02-16 04-03 05-25 06-19 07-03 09-07 11-26 12-25",
    2027: "01-01 01-18 02-15 03-26 05-31 06-18 07-05 09-06 11-25 12-24",
}
EARLY = {2024: "07-03 11-29 12-24", 2025: "07-03 11-28 12-24", 2026: "11-27 12-24", 2027: "11-26"}


@pytest.mark.parametrize("year", sorted(HOLIDAYS))
def test_the_days_of_the_new_york_stock_exchange(year: int) -> None:
    days = [date(year, 1, 1) + timedelta(days=n) for n in range(365 + (year == 2024))]
    assert " ".join(f"{day:%m-%d}" for day in days if day in nyse_holidays(year)) == HOLIDAYS[year]
    assert " ".join(f"{d:%m-%d}" for d in days if nyse_early_close(d) and d not in nyse_holidays(year)) == EARLY[year]
    # New Year of 2028 is a Saturday: not kept, and not on the last day of the year before either.
    assert date(year, 12, 31) not in nyse_holidays(year)


def test_easter() -> None:
    known = ("2000-04-23", "2008-03-23", "2011-04-24", "2019-04-21", "2024-03-31", "2038-04-25", "2049-04-18")
    assert [easter(int(day[:4])).isoformat() for day in known] == list(known)


@pytest.mark.parametrize(
    ("at", "is_open"),
    [
        ("2026-11-20T14:29:59Z", False),
        ("2026-11-20T14:30:00Z", True),
        ("2026-11-20T20:59:59Z", True),
        ("2026-11-20T21:00:00Z", False),
        ("2026-11-21T16:00:00Z", False),  # a Saturday
        ("2026-11-26T16:00:00Z", False),  # Thanksgiving
        ("2026-11-27T17:59:59Z", True),  # the day after
        ("2026-11-27T18:00:00Z", False),
        ("2026-03-09T13:30:00Z", True),  # summer time has begun
        ("2026-03-06T13:30:00Z", False),
    ],
)
def test_when_new_york_is_open(at: str, is_open: bool) -> None:  # noqa: FBT001 - a case's column
    hours = Hours("nyse")
    assert hours.is_open(ms_of(at)) is is_open
    lingering = Hours("nyse", lingers_s=600)
    assert lingering.is_open(ms_of(at)) or not is_open


def test_when_it_opens_next_and_how_that_is_told() -> None:
    hours = Hours("nyse", lingers_s=1200)
    friday_evening = ms_of("2026-11-20T22:00:00Z")
    assert hours.opens_next_ms(friday_evening) == ms_of("2026-11-23T14:30:00Z")
    assert hours.local(ms_of("2026-11-23T14:30:00Z")) == "Mon 2026-11-23 09:30 EST"
    assert hours.longest_open_s() == 6.5 * 3600 + 1200


@given(at_ms=st.integers(ms_of("2024-01-01T00:00:00Z"), ms_of("2027-12-01T00:00:00Z")))
def test_the_next_opening_is_one(at_ms: int) -> None:
    hours = Hours("nyse")
    opens_ms = hours.opens_next_ms(at_ms)
    assert opens_ms is not None
    assert opens_ms > at_ms
    assert hours.is_open(opens_ms)
    assert not hours.is_open(opens_ms - 1)


def test_a_calendar_of_ones_own() -> None:
    document = {
        "zone": "Asia/Tokyo",
        "sessions": [{"opens": "09:00", "closes": "11:30"}, {"opens": "12:30", "closes": "15:30"}],
        "holidays": ["2026-11-23"],
        "early_closes": {"2026-11-24": "11:30"},
    }
    hours = Hours(parse_config(document, Calendar, "edge.yaml"))
    at = {
        "2026-11-20T00:00:00Z": True,
        "2026-11-20T02:45:00Z": False,
        "2026-11-20T04:00:00Z": True,
        "2026-11-23T01:00:00Z": False,
        "2026-11-24T01:00:00Z": True,
        "2026-11-24T04:00:00Z": False,
    }
    assert {text: hours.is_open(ms_of(text)) for text in at} == at


@pytest.mark.parametrize(
    "document",
    [
        {"zone": "UTC", "sessions": []},
        {"zone": "UTC", "sessions": [{"opens": "16:00", "closes": "09:00"}]},
        {"zone": "UTC", "sessions": [{"opens": "24:00", "closes": "25:00"}]},
        {"zone": "Nowhere", "sessions": [{"opens": "09:00", "closes": "10:00"}]},
    ],
)
def test_wrong_calendars(document: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        parse_config(document, Calendar, "edge.yaml")
