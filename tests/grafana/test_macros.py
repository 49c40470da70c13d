"""The expander against what Grafana's own engine makes of the same text."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grafana.errors import MacroError
from grafana.interval import interval_s, read_s, written
from grafana.macros import ALL, Shown, chosen, expand, quoted, variables

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Query = Callable[..., list[tuple[Any, ...]]]

FROM, TO = datetime(2026, 11, 23, 1, tzinfo=UTC), datetime(2026, 11, 23, 2, 0, 0, 250_000, tzinfo=UTC)
SHOWN = Shown(FROM, TO, 300.0, {"node": "edge-1", "nodes": ("a", "b'c"), "none": ()})


@pytest.mark.parametrize(
    ("sql", "expanded"),
    [
        ("$__timeFilter(at)", "at BETWEEN '2026-11-23T01:00:00Z' AND '2026-11-23T02:00:00.25Z'"),
        ("$__timeFilter( s.at )", "s.at BETWEEN '2026-11-23T01:00:00Z' AND '2026-11-23T02:00:00.25Z'"),
        ("$__timeFrom()::timestamptz", "'2026-11-23T01:00:00Z'::timestamptz"),
        ("< $__timeTo()", "< '2026-11-23T02:00:00.25Z'"),
        ("$__timeGroup(at, '$__interval') as time", "time_bucket('300.000s',at) as time"),
        ("$__timeGroup(at,5m)", "time_bucket('300.000s',at)"),
        ("select $__timeGroup(at,'5m'), 1", "select time_bucket('300.000s',at) AS \"time\", 1"),
        ("$__timeGroupAlias(at, '100ms')", "time_bucket('0.100s',at) AS \"time\""),
        ("'$__interval' $__interval_ms", "'5m' 300000"),
        ("$__unixEpochFilter(at)", "at >= 1795395600 AND at <= 1795399200"),
        ("$__unixEpochFrom() $__unixEpochTo()", "1795395600 1795399200"),
        ("node_id = ${node:sqlstring}", "node_id = 'edge-1'"),
        ("array[${nodes:sqlstring}]::text[]", "array['a','b''c']::text[]"),
        ("array[${none:sqlstring}]::text[]", "array[]::text[]"),
        ("[[node:sqlstring]]", None),
    ],
)
def test_each_is_what_grafana_makes_of_it(sql: str, expanded: str | None) -> None:
    if expanded is None:
        with pytest.raises(MacroError, match="sqlstring"):
            expand(sql, SHOWN)
    else:
        assert expand(sql, SHOWN) == expanded


@pytest.mark.parametrize(
    ("sql", "names"),
    [
        ("$__timeFilter", r"\$__timeFilter lacks its parentheses"),
        ("$__nonsense(at)", r"\$__nonsense is unknown: allowed are .*__timeFilter"),
        ("$node", r"\$node: write \$\{node:sqlstring\}"),
        ("${node}", r"\$\{node\}: write \$\{node:sqlstring\}"),
        ("${node:csv}", "the one format that quotes"),
        ("${other:sqlstring}", "the variable other is unknown: there are node, nodes, none"),
        ("$__timeFilter(date_trunc('hour', at))", "first closing parenthesis"),
        ("$__timeFilter(a, b)", "takes the name of a column"),
        ("$__timeFilter()", "takes the name of a column"),
        ("$__timeGroup(at)", "not 1 arguments"),
        ("$__timeGroup(at, '5 minutes')", "'5 minutes' is no interval"),
    ],
)
def test_what_grafana_would_pass_on_or_spoil_is_named(sql: str, names: str) -> None:
    with pytest.raises(MacroError, match=names):
        expand(sql, SHOWN)


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0"))))
def test_a_quoted_value_is_read_back_as_it_was(values: list[str]) -> None:
    told, at = quoted(values), 0
    for value in values:
        assert told[at] == "'"
        end = at + 1
        while told[end : end + 2] == "''" or told[end] != "'":
            end += 2 if told[end] == "'" else 1
        assert told[at + 1 : end].replace("''", "'") == value
        at = end + 2


@pytest.mark.parametrize(
    "hostile",
    [
        "x'; drop table series; --",
        "\\'; drop table series; --",
        "$__timeFrom()",
        "$__timeFilter(a) or true --",
        "$__timeGroup(a, '5m'),",
        "$__interval ${node:sqlstring}",
        "') or ('1'='1",
    ],
)
def test_a_hostile_value_gets_nothing_but_an_error(hostile: str, query: Query) -> None:
    shown = replace(SHOWN, chosen={"node": hostile})
    statement = expand("select count(*) from pg_class where relname = ${node:sqlstring} and relname <> ''", shown)
    assert query(statement) in ([(0,)], [("refused",)])


def test_macros_in_a_value_are_expanded_as_grafana_does() -> None:
    shown = replace(SHOWN, chosen={"node": "$__timeFrom()"})
    assert expand("${node:sqlstring}", shown) == "''2026-11-23T01:00:00Z''"


def test_all_is_every_option_and_a_choice_is_itself() -> None:
    assert chosen(ALL, ["a", "b"]) == ("a", "b")
    assert chosen((ALL,), ["a"]) == ("a",)
    assert chosen("a", ["a", "b"]) == "a"
    assert variables("${a:sqlstring} ${b:sqlstring} $__timeFilter(c)") == {"a", "b"}


@pytest.mark.parametrize(
    ("range_s", "points", "least_s", "interval"),
    [
        (3_600, 1_310, 1, "2s"),
        (3_600, 655, 1, "5s"),
        (6 * 3_600, 655, 1, "30s"),
        (86_400, 655, 1, "2m"),
        (7 * 86_400, 655, 1, "15m"),
        (30 * 86_400, 655, 1, "1h"),
        (30 * 86_400, 436, 1, "2h"),
        (60, 655, 10, "10s"),
        (20 * 365 * 86_400, 100, 1, "1y"),
    ],
)
def test_the_interval_is_the_browsers(range_s: float, points: int, least_s: float, interval: str) -> None:
    assert written(interval_s(range_s, points, least_s)) == interval


@given(st.sampled_from(["ms", "s", "m", "h", "d"]), st.integers(1, 23))
def test_an_interval_that_was_written_is_read(unit: str, count: int) -> None:
    assert read_s(written(read_s(f"{count}{unit}"))) == pytest.approx(read_s(f"{count}{unit}"))


def test_less_than_a_millisecond_is_one() -> None:
    assert written(0.0001) == "1ms"
