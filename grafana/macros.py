"""What Grafana makes of a query before PostgreSQL has it: variables, intervals and macros, in Grafana's order.

1. The browser puts in variables, `${node:sqlstring}`. We allow no other format: it alone quotes.
2. The server puts in `$__interval_ms`, `$__interval`, `$__unixEpochFrom()` and `$__unixEpochTo()`, by replacement.
3. Its macro engine finds `$name(arguments)` by a regular expression that ends at the first closing parenthesis,
   wherever that stands: an argument cannot hold one, and a macro that stands in a quoted text, or in a variable's
   value, is expanded there as well. A hostile value thus breaks its own query and no more (tests/grafana).

Grafana itself leaves what it does not know as it is, and PostgreSQL complains; here it is an error that names it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from grafana.errors import MacroError
from grafana.interval import read_s, written

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

ALL: Final = "$__all"

_VARIABLE: Final = re.compile(r"\$\{(\w+)(?::(\w+))?\}|\[\[(\w+)(?::\w+)?\]\]")
_MACRO: Final = re.compile(r"\$([_a-zA-Z0-9]+)\(([^)]*)\)")
_DOLLAR: Final = re.compile(r"\$(\w+)")
_GLOBALS: Final = ("__interval_ms", "__interval", "__unixEpochFrom", "__unixEpochTo")


@dataclass(frozen=True, slots=True)
class Shown:
    """What a dashboard shows: its time range (aware), what `$__interval` is, and what is chosen of each variable."""

    from_at: datetime
    to_at: datetime
    interval_s: float
    chosen: Mapping[str, str | Sequence[str]]


def expand(sql: str, shown: Shown) -> str:
    """The statement that PostgreSQL gets; raises MacroError."""
    _check_names(sql)
    sql = _VARIABLE.sub(lambda found: _variable(found, shown.chosen), sql)
    sql = sql.replace("$__interval_ms", str(round(shown.interval_s * 1000)))
    sql = sql.replace("$__interval", written(shown.interval_s))
    sql = sql.replace("$__unixEpochFrom()", str(int(shown.from_at.timestamp())))
    sql = sql.replace("$__unixEpochTo()", str(int(shown.to_at.timestamp())))
    return _MACRO.sub(lambda found: _macro(found, shown), sql)


def chosen(current: str | Sequence[str], options: Sequence[str]) -> str | Sequence[str]:
    """What is put in for a variable: where all is chosen, every option that there is."""
    return tuple(options) if ALL in (current, *current) else current


def quoted(value: str | Sequence[str]) -> str:
    """The format `sqlstring`: each value in quotes, with its own doubled; nothing where there is none."""
    values = [value] if isinstance(value, str) else value
    return ",".join("'" + each.replace("'", "''") + "'" for each in values)


def variables(sql: str) -> set[str]:
    """The variables that a query names."""
    return {found[1] or found[3] for found in _VARIABLE.finditer(sql)}


def _check_names(sql: str) -> None:
    for name in _DOLLAR.findall(sql):
        if name in _GLOBALS:
            continue
        if not name.startswith("__"):
            raise MacroError(f"${name}: write ${{{name}:sqlstring}}, the one format that quotes")
        if name not in _MACROS:
            raise MacroError(f"${name} is unknown: allowed are {', '.join(sorted((*_MACROS, *_GLOBALS)))}")
        if not re.search(rf"\${name}\(", sql):
            raise MacroError(f"${name} lacks its parentheses")


def _variable(found: re.Match[str], chosen: Mapping[str, str | Sequence[str]]) -> str:
    name = found[1] or found[3]
    if name not in chosen:
        raise MacroError(f"the variable {name} is unknown: there are {', '.join(sorted(chosen)) or 'none'}")
    if found[2] != "sqlstring":
        raise MacroError(f"{found[0]}: write ${{{name}:sqlstring}}, the one format that quotes")
    return quoted(chosen[name])


def _macro(found: re.Match[str], shown: Shown) -> str:
    name, arguments = found[1], [argument.strip(" ") for argument in found[2].split(",")]
    if name not in _MACROS:
        raise MacroError(f"${name} is unknown: allowed are {', '.join(sorted((*_MACROS, *_GLOBALS)))}")
    if "(" in found[2]:
        raise MacroError(f"{found[0]}: a macro ends at the first closing parenthesis, so its argument cannot hold one")
    # A comma after it tells a query of before Grafana 5.3, which wants the name too.
    if name == "__timeGroup" and found.string[found.end() :].startswith(","):
        name = "__timeGroupAlias"
    return _MACROS[name](name, arguments, shown)


def _time_filter(name: str, arguments: Sequence[str], shown: Shown) -> str:
    column = _column(name, arguments)
    return f"{column} BETWEEN '{_time(shown.from_at)}' AND '{_time(shown.to_at)}'"


def _epoch_filter(name: str, arguments: Sequence[str], shown: Shown) -> str:
    column = _column(name, arguments)
    return f"{column} >= {int(shown.from_at.timestamp())} AND {column} <= {int(shown.to_at.timestamp())}"


def _time_group(name: str, arguments: Sequence[str], _shown: Shown) -> str:
    if len(arguments) != 2:  # noqa: PLR2004 - column and width; filling in is left to the panel
        raise MacroError(f"${name} takes a column and an interval, not {len(arguments)} arguments")
    return f"time_bucket('{read_s(arguments[1].strip(chr(39))):.3f}s',{arguments[0]})"


def _column(name: str, arguments: Sequence[str]) -> str:
    if len(arguments) != 1 or not arguments[0]:
        raise MacroError(f"${name} takes the name of a column")
    return arguments[0]


def _time(at: datetime) -> str:
    text = f"{at.timestamp():.6f}".rstrip("0").rstrip(".")
    whole = at.replace(microsecond=0).isoformat().removesuffix("+00:00")
    return whole + (text[text.index(".") :] if "." in text else "") + "Z"


_MACROS: Final[dict[str, Callable[[str, Sequence[str], Shown], str]]] = {
    "__timeFilter": _time_filter,
    "__timeFrom": lambda _name, _arguments, shown: f"'{_time(shown.from_at)}'",
    "__timeTo": lambda _name, _arguments, shown: f"'{_time(shown.to_at)}'",
    "__timeGroup": _time_group,
    "__timeGroupAlias": lambda name, arguments, shown: _time_group(name, arguments, shown) + ' AS "time"',
    "__unixEpochFilter": _epoch_filter,
}
