"""Every rule is quiet on a fleet that is well, and where there is none; without an answer one tells."""

from __future__ import annotations

import os
import re
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg2
import pytest
import yaml

from db import migrate
from grafana.alerts import files, uids

if TYPE_CHECKING:
    from collections.abc import Iterator

    from psycopg2.extensions import cursor

    from stack import Timescale

PAGE = (Path(__file__).parents[2] / "docs" / "alerts.md").read_text()
GROUPS = yaml.safe_load((files.DIRECTORY / files.RULES).read_text())["groups"]
UIDS = [rule["uid"] for group in GROUPS for rule in group["rules"]]


@pytest.mark.parametrize("uid", UIDS)
def test_each_query_runs_as_the_reader_on_whatever_there_is(uid: str, asking: cursor, rules: Any) -> None:
    assert all(value == value for value in rules.asked(asking, uid).values()), "a number, and not null"  # noqa: PLR0124 - not so of NaN


def test_the_bound_of_the_size_is_set_as_the_runbook_says(well: cursor, rules: Any) -> None:
    (setting,) = re.findall(r"^alter database headwater set (headwater\.\w+ = '.*');$", PAGE, re.MULTILINE)
    (share,) = rules.answer(well, uids.DATABASE_LARGE).values()
    well.execute(f"set local {setting}")
    (of_more,) = rules.answer(well, uids.DATABASE_LARGE).values()
    assert of_more == pytest.approx(share / 8)


@pytest.mark.parametrize("uid", UIDS)
def test_a_fleet_that_is_well_is_quiet(uid: str, well: cursor, rules: Any) -> None:
    now = rules.answer(well, uid)
    if uid not in (uids.DEAD_LETTERS, uids.ANOMALY):
        assert now, "nothing was looked at"
    assert rules.told(uid, lambda _: now, 7200) == {}


@pytest.fixture(scope="module")
def empty(timescale: Timescale) -> Iterator[cursor]:
    """A migrated database in which nothing ever was."""
    name = f"alerts_{os.getpid()}"
    owner = timescale.create_database(name)
    migrate.migrate(owner, 10)
    with closing(psycopg2.connect(owner)) as opened, opened.cursor() as at:
        yield at
    timescale.drop_database(name)


@pytest.mark.parametrize("uid", UIDS)
def test_an_empty_database_is_quiet(uid: str, empty: cursor, rules: Any) -> None:
    now = rules.answer(empty, uid)
    assert rules.told(uid, lambda _: now, 7200) == {}


def test_a_database_that_does_not_answer_is_told_once_and_by_one_rule(rules: Any) -> None:
    lasting = {uid: rules.told(uid, lambda _: None, 7200) for uid in UIDS}
    assert {uid for uid, alerts in lasting.items() if alerts} == {uids.DATABASE_AWAY}
