"""Tables of models for people, and the same as JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from contract.card import ModelCard, Skill
    from models.registry import Registered

_UNJUDGED = "not evaluated"
_NO_SKILL = "no skill shown"


def print_versions(console: Console, versions: Sequence[Registered]) -> None:
    """A line for each version."""
    table = Table(box=None, pad_edge=False)
    for heading in (
        "model",
        "version",
        "stage",
        "trained to",
        "forms",
        "KiB",
        "signed",
        "skill on data it had not seen",
    ):
        table.add_column(
            heading, no_wrap=heading in {"model", "version"}, justify="right" if heading == "KiB" else "left"
        )
    for each in versions:
        table.add_row(*map(Text, _cells(each)))
    console.print(table)


def as_json(versions: Sequence[Registered]) -> str:
    """The versions with their whole manifests."""
    document = [
        {"stage": each.stage, "is_signed": each.is_signed, "has_skill": each.card.has_skill}
        | {"manifest": each.card.model_dump(mode="json")}
        for each in versions
    ]
    return json.dumps(document, indent=2)


def verdict(card: ModelCard) -> str:
    """What is known of a model's skill, in a line."""
    if not card.skill:
        return _UNJUDGED
    shown = [each for each in card.skill if each.is_shown]
    others = [each.of for each in card.skill if not each.is_shown]
    if not shown:
        return f"{_NO_SKILL}: {', '.join(map(skill_line, card.skill))}"
    text = "; ".join(map(skill_line, shown))
    return f"{text}; none for {', '.join(others)}" if others else text


def skill_line(skill: Skill) -> str:
    """`range 4 % [2, 6] over HAR`."""
    return f"{skill.of} {100 * skill.skill:.1f} % [{100 * skill.low:.1f}, {100 * skill.high:.1f}] over {skill.against}"


def _cells(each: Registered) -> tuple[str, ...]:
    card = each.card
    trained = "" if card.training is None else f"{card.training.to_at:%Y-%m-%d}"
    sizes = "/".join(f"{file.size_bytes / 1024:.0f}" for file in card.tflite_files)
    forms = "/".join(file.form for file in card.tflite_files)
    signed = "yes" if each.is_signed else "no"
    return card.name, card.version, each.stage, trained, forms, sizes, signed, verdict(card)
