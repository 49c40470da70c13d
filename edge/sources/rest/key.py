"""A secret on its way to the provider, and to nowhere else."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus

if TYPE_CHECKING:
    from collections.abc import Mapping

    import httpx

    from edge.sources.rest.api import Auth


class Key:
    """A secret, where it goes, and how it is kept out of every message."""

    def __init__(self, auth: Auth | None, secret: str | None) -> None:
        self._auth = auth
        self._secret = secret
        spellings = {secret, quote(secret), quote(secret, safe=""), quote_plus(secret)} if secret else set()
        self._spellings = sorted(spellings, key=len, reverse=True)

    def apply(self, url: str, headers: Mapping[str, str]) -> tuple[httpx.URL, dict[str, str]]:
        """URL and headers as they are sent."""
        import httpx  # noqa: PLC0415 - a config is checked without the driver

        if self._auth is None or self._secret is None:
            return httpx.URL(url), dict(headers)
        if self._auth.query is not None:
            return httpx.URL(url).copy_set_param(self._auth.query, self._secret), dict(headers)
        return httpx.URL(url), {**headers, str(self._auth.header): f"{self._auth.prefix}{self._secret}"}

    def hide(self, text: str) -> str:
        """The text with the secret starred out: servers repeat it in their answers, libraries in their errors."""
        for spelling in self._spellings:
            text = text.replace(spelling, "***")
        return text
