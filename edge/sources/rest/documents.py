"""Bytes from anywhere into plain values: bounded, and refused where they could be read in two ways."""

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_ROWS: Final = 5000
_SHOWN: Final = 80


def parse(body: bytes, form: Literal["json", "csv"]) -> object:
    """The document; raises ValueError. A CSV is a list of its rows, each by the names in the first line."""
    return _json(body) if form == "json" else _csv(body)


def _json(body: bytes) -> object:
    try:
        document: object = json.loads(body, parse_constant=_refuse_constant, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as exc:
        raise ValueError(f"not JSON ({str(exc)[:_SHOWN]}): {shown(body)}") from exc
    return document


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands twice in an object")
    return found


def _refuse_constant(constant: str) -> float:
    raise ValueError(f"{constant} is not JSON")


def _csv(body: bytes) -> list[dict[str, str]]:
    try:
        lines = csv.reader(io.StringIO(body.decode("utf-8-sig"), newline=""), strict=True)
        return list(_rows([name.strip() for name in next(lines, [])], lines))
    except (ValueError, csv.Error) as exc:
        raise ValueError(f"not CSV ({str(exc)[:_SHOWN]}): {shown(body)}") from exc


def _rows(names: list[str], lines: Iterator[list[str]]) -> Iterator[dict[str, str]]:
    if not names or len(set(names)) < len(names):
        raise ValueError("the first line does not name each column once")
    for number, line in enumerate(lines):
        if line and len(line) != len(names):
            raise ValueError(f"a row of {len(line)} where {len(names)} columns are named")
        if number >= MAX_ROWS:
            raise ValueError(f"over {MAX_ROWS} rows")
        if line:
            yield dict(zip(names, line, strict=True))


def reason_in(body: bytes) -> str:
    """What an error's body says, in whichever of the usual keys; else its beginning."""
    try:
        document = _json(body)
    except ValueError:
        return shown(body)
    if isinstance(document, dict):
        for key in ("detail", "message", "reason", "error", "title"):
            if isinstance(said := document.get(key), str) and said:
                return repr(said[: 2 * _SHOWN])
    return shown(body)


def shown(body: bytes, length: int = _SHOWN) -> str:
    """The beginning of a body as a message shows it."""
    return repr(body[:length].decode(errors="replace"))
