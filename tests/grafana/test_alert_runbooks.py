"""The runbooks: one for each rule, whose statements, commands and links are what there is."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from grafana.alerts import files

if TYPE_CHECKING:
    from psycopg2.extensions import cursor

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "alerts.md").read_text()
RULES = [
    pytest.param(rule, id=rule["uid"])
    for group in yaml.safe_load((files.DIRECTORY / files.RULES).read_text())["groups"]
    for rule in group["rules"]
]
# A command with its sub-commands, and the options that stand with it.
COMMANDS = sorted(
    set(re.findall(r"(?:python -m |headwater-)(db|edge|stream) ([a-z-]+(?: (?:list|show|retry))?)([^`\n]*)", PAGE))
)


@pytest.mark.parametrize("rule", RULES)
def test_the_runbook_says_what_it_means_where_to_look_and_what_to_do(rule: dict[str, Any]) -> None:
    section = PAGE.partition(f"\n## {rule['title']}\n")[2].partition("\n## ")[0]
    for part in ("**Means.**", "**Look.**", "**Do.**"):
        assert part in section, part
    (row,) = re.findall(rf"^\| \[{rule['title']}\]\(#.*$", PAGE, re.MULTILINE)
    assert f"| {rule['labels']['severity']} |" in row
    lasting = "at once" if rule["for"] == "0s" else rule["for"]
    assert row.endswith(f"| {lasting} |"), row


def _anchors(page: str) -> set[str]:
    """Of the headings of a page, as a forge names them."""
    titles = re.findall(r"^#+ (.+)$", page, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def test_links_of_the_runbooks_lead_somewhere() -> None:
    links = re.findall(r"\]\(([\w.-]*)(?:#([\w-]+))?\)", PAGE)
    assert len(links) > 30
    for file, anchor in links:
        page = (ROOT / "docs" / (file or "alerts.md")).read_text()
        assert not anchor or anchor in _anchors(page), f"{file}#{anchor}"


@pytest.mark.parametrize(("role", "command", "rest"), COMMANDS)
def test_commands_of_the_runbooks_are_there_with_their_options(
    role: str, command: str, rest: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="0"):
        importlib.import_module(f"{role}.__main__").main([*command.split(), "--help"])
    told = capsys.readouterr().out
    assert all(option in told for option in re.findall(r"--[a-z-]+", rest))


@pytest.mark.parametrize("block", re.findall(r"```sql\n(select .*?)```", PAGE, re.DOTALL))
def test_what_the_runbooks_tell_to_ask_can_be_asked(block: str, asking: cursor) -> None:
    asking.execute(block)
    assert asking.description
