"""How times, sizes and a stranger's words are shown; what is not known is a dash."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from datetime import datetime

UNKNOWN: Final = "-"
_SPANS: Final = (("d", 86_400), ("h", 3600), ("min", 60))
_KIB: Final = 1024
_FEW: Final = 10


def plain(text: object) -> str:
    """A stranger's words on one line, without what would command a terminal or turn the line round."""
    return "".join(character if character.isprintable() else "?" for character in str(text))


def span(seconds: float) -> str:
    """A length of time in its largest unit, two digits at least."""
    for unit, length_s in _SPANS:
        if seconds >= length_s:
            count = seconds / length_s
            return f"{count:.1f} {unit}" if count < _FEW else f"{count:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"


def ago(at: datetime | None, now: datetime) -> str:
    """How long ago something was."""
    return UNKNOWN if at is None else f"{span((now - at).total_seconds())} ago"


def until(at: datetime | None, now: datetime) -> str:
    """How long it is until something ends."""
    if at is None:
        return UNKNOWN
    left_s = (at - now).total_seconds()
    return span(left_s) if left_s > 0 else "ended"


def size(count: float | None) -> str:
    """Bytes as people read them."""
    if count is None:
        return UNKNOWN
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if count < _KIB or unit == "TiB":
            break
        count /= _KIB
    return f"{count:.0f} {unit}" if unit == "B" else f"{count:.3g} {unit}"


def share(part: float | None) -> str:
    """A part of the whole, in percent."""
    return UNKNOWN if part is None else f"{part:.0%}"


def number(value: float | None, unit: str = "", digits: int = 0) -> str:
    """A number with its unit."""
    return UNKNOWN if value is None else f"{value:,.{digits}f}{unit}"


def counted(count: float, one: str, many: str) -> str:
    """So many of something."""
    return f"{count:,.0f} {one if count == 1 else many}"
