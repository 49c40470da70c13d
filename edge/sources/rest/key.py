"""A secret on its way to the provider, and to nowhere else."""

from __future__ import annotations

import json
from itertools import takewhile
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, quote_plus

if TYPE_CHECKING:
    from collections.abc import Mapping

    import httpx

    from edge.sources.rest.api import Auth

# So many characters of a secret are as secret as all of it: messages show only the beginning of what a server said.
_TELLING: Final = 6


class Key:
    """A secret, where it goes, and how it is kept out of every message."""

    def __init__(self, auth: Auth | None, secret: str | None) -> None:
        self._auth = auth
        self._secret = secret
        self._spellings = _spellings(secret) if secret else set()
        self._beginnings = {spelling[:_TELLING] for spelling in self._spellings}

    def apply(self, url: str, headers: Mapping[str, str]) -> tuple[httpx.URL, dict[str, str]]:
        """URL and headers as they are sent."""
        import httpx  # noqa: PLC0415 - a config is checked without the driver

        if self._auth is None or self._secret is None:
            return httpx.URL(url), dict(headers)
        if self._auth.query is not None:
            return httpx.URL(url).copy_set_param(self._auth.query, self._secret), dict(headers)
        return httpx.URL(url), {**headers, str(self._auth.header): f"{self._auth.prefix}{self._secret}"}

    def hide(self, text: str) -> str:
        """The text with the secret starred out, or as much of it as a cut has left: servers and libraries repeat it."""
        for beginning in self._beginnings:
            at = text.find(beginning)
            while at >= 0:
                length = max(_common(text[at : at + len(spelling)], spelling) for spelling in self._spellings)
                text = f"{text[:at]}***{text[at + length :]}"
                at = text.find(beginning, at + 3)
        return text


def _spellings(secret: str) -> set[str]:
    """How a secret may stand in a text: as it is, in a URL, in JSON, in a repr."""
    in_url = {quote(secret), quote(secret, safe=""), quote_plus(secret)}
    return {secret, *in_url, json.dumps(secret)[1:-1], repr(secret)[1:-1]}


def _common(one: str, other: str) -> int:
    """How many characters two texts begin with in common."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))
