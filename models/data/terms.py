"""What is to be known of a data set before it is used."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """`licence` is that of the package, and what is known of the data's own."""

    title: str
    licence: str
    good_for: str
    not_for: str
