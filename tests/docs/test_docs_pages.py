"""All pages: their whole configurations are right, and a newcomer is told how `python -m` is made to work."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from bridge.config import BridgeConfig
from contract.config import parse_config
from edge.config import AgentConfig

DOCS = Path(__file__).parents[2] / "docs"
PAGES = sorted(DOCS.glob("*.md"))
BLOCKS: list[tuple[str, dict[str, object]]] = [
    (page.stem, yaml.safe_load(block))
    for page in PAGES
    for block in re.findall(r"^```yaml\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
]
# What tells a whole configuration from a piece of one.
WHOLE = {"agent": {"group", "node"}, "bridge": {"mqtt", "kafka"}}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_of_commands_begins_with_their_environment(page: Path) -> None:
    text = page.read_text()
    first = re.search(r"^(?:\$ )?(?:\w+=\S+ )*python -m ", text, re.MULTILINE)
    assert first is None or ".venv/bin/activate" in text[: first.start()]


@pytest.mark.parametrize(("page", "block"), BLOCKS)
def test_a_whole_configuration_is_right(page: str, block: dict[str, object]) -> None:
    if set(block) >= WHOLE["agent"]:
        parse_config(block, AgentConfig, page)
    elif set(block) >= WHOLE["bridge"]:
        parse_config(block, BridgeConfig, page)


def test_there_are_some() -> None:
    assert all(any(set(block) >= keys for _, block in BLOCKS) for keys in WHOLE.values())


def anchors(page: Path) -> set[str]:
    """Of a page's headings, as a forge names them."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page: Path) -> None:
    for place, anchor in re.findall(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)", page.read_text()):
        there = page.parent / place if place else page
        assert there.exists(), place
        assert not anchor or anchor in anchors(there), f"{place}#{anchor}"
