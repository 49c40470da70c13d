"""An incident asked for by hand, of a camera that runs in another process."""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request
from typing import TYPE_CHECKING, Any, Final

from simulators.errors import SimulatorError

if TYPE_CHECKING:
    from collections.abc import Mapping

_TIMEOUT_S: Final = 5


def demand_incident(url: str, kind: str, settings: Mapping[str, Any]) -> str:
    """Starts it, and gives its label; raises SimulatorError with the camera's own words."""
    query = urllib.parse.urlencode({"kind": kind, **settings})
    request = urllib.request.Request(f"{url}/incidents?{query}", method="POST")  # noqa: S310 - a simulator's address
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:  # noqa: S310 - as above
            return str(json.load(answer)["kind"])
    except urllib.error.HTTPError as exc:
        with exc:
            raise SimulatorError(_reason(exc.read())) from exc
    except (OSError, ValueError, KeyError) as exc:
        raise SimulatorError(f"no answer from {url}: {exc}") from exc


def _reason(body: bytes) -> str:
    try:
        return str(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        return f"refused: {body[:200]!r}"
