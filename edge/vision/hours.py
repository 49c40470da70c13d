"""Hours of the day. Pure."""

from __future__ import annotations

from typing import Final

_DAY_S: Final = 86_400


def is_within(utc_s: float, begin_s: int, span_s: int) -> bool:
    """Whether a time (unix seconds) lies in the hours that begin at `begin_s` of the day and last `span_s`."""
    return (utc_s - begin_s) % _DAY_S < span_s
