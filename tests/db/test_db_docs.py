"""docs/db.md says what is there: commands and options, tables with their keys, what is kept how long."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from db.__main__ import main
from db.roles import ROLES

if TYPE_CHECKING:
    from collections.abc import Callable

    from psycopg2.extensions import connection

    Query = Callable[..., list[tuple[Any, ...]]]

PAGE = (Path(__file__).parents[2] / "docs" / "db.md").read_text(encoding="utf-8")
RELATIONS = """
select relname from pg_class
where relkind = %s and relowner = 'headwater_owner'::regrole and relnamespace = 'public'::regnamespace
"""
KEY = """
select 1 from pg_index where indrelid = %s::regclass and indisunique and (
  select array_agg(attname::text order by place) from unnest(indkey::int[]) with ordinality as k (number, place)
  join pg_attribute on attrelid = indrelid and attnum = number) = %s
"""


def section(title: str) -> str:
    return PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


@pytest.mark.parametrize("command", ["migrate", "status", "login", "maintain"])
def test_each_command_and_option_is_told(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([command, "--help"])
    options = set(re.findall(r"--[a-z][a-z-]+", capsys.readouterr().out)) - {"--help"}
    assert f"python -m db {command}" in PAGE
    assert {option for option in options if option not in PAGE} == set()


def tables() -> dict[str, str]:
    """The table of tables: each one's key, as it is told."""
    rows = [[cell.strip() for cell in line.split("|")] for line in section("Tables").splitlines() if line[:3] == "| `"]
    return {table: row[3] for row in rows for table in re.findall(r"`(\w+)`", row[1])}


def test_each_table_and_view_is_told_and_no_other_table(opened: connection, query: Query) -> None:
    assert set(tables()) == {name for (name,) in query(opened, RELATIONS, "r")}
    named = set(re.findall(r"`(\w+)`", PAGE))
    assert {name for (name,) in query(opened, RELATIONS, "v")} - named == set()


def test_a_table_has_the_key_that_is_told(opened: connection, query: Query) -> None:
    told = [(table, re.findall(r"\w+", key)) for table, keys in tables().items() for key in keys.split("; ")]
    keys = [(table, key) for table, key in told if key and key != ["by", "kind"]]
    assert len(keys) > 10
    assert [(table, key) for table, key in keys if not query(opened, KEY, table, key)] == []


def test_roll_ups_have_the_columns_that_are_told(opened: connection, query: Query) -> None:
    columns = "select array_agg(attname::text order by attnum) from pg_attribute where attrelid = %s::regclass"
    for view in ("reading_1m", "reading_1h", "reading_1d"):
        ((found,),) = query(opened, columns + " and attnum > 0", view)
        assert f"`{', '.join(found)}`" in PAGE


def test_what_is_kept_is_told(opened: connection, query: Query) -> None:
    rows = [line.split("|") for line in section("Retention").splitlines() if line.startswith("| `")]
    told = {table: cells[2].strip() for cells in rows for table in re.findall(r"`(\w+)`", cells[1])}
    assert told == dict(query(opened, "select table_name, coalesce(keep::text, 'forever') from retention"))


def test_roles_are_told() -> None:
    assert set(re.findall(r"`(headwater_\w+)`", section("Roles"))) == set(ROLES)
