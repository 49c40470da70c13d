from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from contract.card import Skill
from contract.manifest import Target
from models.errors import EvaluationError
from models.evaluation.comparing import Comparison
from models.evaluation.document import headline, name_of, read_document, verdict, write_document
from models.evaluation.verdict import sentence

if TYPE_CHECKING:
    from pathlib import Path

PRICE = Target(name="price", of=("price",), relative="log_ratio")
LEVEL = Target(name="level", unit="m", of=("level",))
SKILL = {"of": "level", "measure": "pinball", "against": "naive", "skill": 0.2, "low": 0.1, "high": 0.3}


def compared(skill: float, low: float, high: float, against: str = "har") -> Comparison:
    return Comparison(against, "x", None, "pinball", 10, 5, skill, low, high, 0.5, (), ())


def test_a_verdict_says_what_was_shown_and_no_more() -> None:
    better, no, worse = compared(0.041, 0.02, 0.062), compared(0.01, -0.02, 0.03), compared(-0.2, -0.3, -0.1)
    assert sentence(LEVEL, better, no) == ("level: better than HAR by 4.1 % [2.0, 6.2].", True)
    assert sentence(LEVEL, no, no) == (
        "level: no skill over HAR, 1.0 % [-2.0, 3.0]: what is simpler does as well.",
        False,
    )
    assert sentence(LEVEL, worse, no) == ("level: worse than HAR by 20.0 % [10.0, 30.0]: use that instead.", False)


def test_a_price_whose_width_alone_is_better_is_not_to_be_traded_on() -> None:
    width, no, naive = compared(0.04, 0.02, 0.06), compared(-0.01, -0.02, 0.01), compared(0, -0.1, 0.1, "naive")
    words, _ = sentence(PRICE, width, no)
    assert "not in which way it goes: the median's skill is -1.0 % [-2.0, 1.0]. Do not trade on it." in words
    assert sentence(PRICE, naive, no) == (
        "price: no skill over the naive forecast, 0.0 % [-10.0, 10.0]: do not trade on it.",
        False,
    )


def test_what_a_package_reads_is_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "evaluation.json"
    numbers = {"level.mase": np.float64(0.5), "level.rmse": float("nan")}
    write_document({"kind": "forecast", "skill": [SKILL], "headline": numbers, "a": np.arange(2)}, path)
    document = read_document(path)
    assert verdict(document) == (Skill.model_validate(SKILL),)
    assert headline({**document, "headline": {"level.mase": 0.5}}) == {"level.mase": 0.5}
    assert document["headline"] == {"level.mase": 0.5, "level.rmse": None}
    assert headline(document) == {"level.mase": 0.5}
    assert document["a"] == [0, 1]
    assert [each.name for each in tmp_path.iterdir()] == ["evaluation.json"]


@pytest.mark.parametrize(
    "document",
    [{}, {"skill": 3, "headline": 3}, {"skill": [{}], "headline": {"a": "b"}}, {"skill": [3], "headline": [3]}],
)
def test_what_no_evaluation_wrote_is_refused(document: dict[str, Any]) -> None:
    with pytest.raises(EvaluationError, match="skill is not what an evaluation writes"):
        verdict(document)
    with pytest.raises(EvaluationError, match="headline is not what an evaluation writes"):
        headline(document)


@pytest.mark.parametrize("content", ["", "[]", "{", json.dumps({"kind": "cake"}), "[" * 100_000])
def test_a_file_that_is_none_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "evaluation.json"
    path.write_text(content)
    with pytest.raises(EvaluationError, match=r"evaluation\.json"):
        read_document(path)


def test_without_an_evaluation_it_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="evaluate first"):
        read_document(tmp_path / "evaluation.json")


def test_any_target_has_a_name_that_a_manifest_allows() -> None:
    assert [name_of(each) for each in ("level", "tank2/level", "…", "-x y", "a" * 99)] == [
        "level",
        "tank2.level",
        "unnamed",
        "x.y",
        "a" * 64,
    ]
