"""`python -m compose.healthy URL [KEY=VALUE...]`: whether a page of JSON says so; a container's health check.

Without words the page is shown. A key is a path with dots, such as `uplink.connected`; a value is JSON, or else text.
Exit status 0: it does.
"""

from __future__ import annotations

import json
import sys
import urllib.request
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

_TIMEOUT_S: Final = 4.0


def main(arguments: Sequence[str]) -> int:
    """The exit status: 0 as wanted, 1 not, 2 wrong usage."""
    if not arguments or not all("=" in word for word in arguments[1:]):
        print(__doc__, file=sys.stderr)
        return 2
    url, *wanted = arguments
    try:
        # S310: the compose file names the page.
        with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as answer:  # noqa: S310  # see above
            document = json.load(answer)
    except (OSError, ValueError) as exc:
        print(f"{url}: {exc}", file=sys.stderr)
        return 1
    otherwise = [word for word in wanted if not _is_so(document, *word.split("=", 1))]
    print("ok" if wanted and not otherwise else json.dumps(document))
    return 1 if otherwise else 0


def _is_so(document: Any, path: str, wanted: str) -> bool:  # noqa: ANN401  # whatever JSON held
    for key in path.split("."):
        if not isinstance(document, dict) or key not in document:
            return False
        document = document[key]
    try:
        return bool(document == json.loads(wanted))
    except ValueError:
        return bool(document == wanted)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
