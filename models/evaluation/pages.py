"""A forecast's report, from its `evaluation.json` alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeAlias

from models.evaluation.plots import (
    coverage_plot,
    fan_plot,
    learning_plot,
    reliability_plot,
    skill_plot,
    split_plot,
)
from models.evaluation.report import Grid, Page, Section

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    Record: TypeAlias = Mapping[str, Any]

_SPANS: Final = (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1))


def forecast_page(document: Record, history: Record) -> Page:
    """`history` has the losses of the model that ships, `train` and `valid`, or nothing."""
    return Page(
        title=document["title"],
        name=document["recipe"],
        verdicts=tuple((sentence, is_good) for sentence, is_good in document["verdict"]),
        facts=tuple(_facts(document)),
        sections=(
            _split(document, history),
            _scores(document),
            _skill(document),
            _calibration(document),
            _examples(document, is_worst=False),
            _examples(document, is_worst=True),
            _how(document),
        ),
        is_quick=document["quick"],
    )


def span_text(seconds: float) -> str:
    """`10 min`, `1 d`."""
    for name, length in _SPANS:
        if seconds >= length and seconds % length == 0:
            return f"{seconds / length:g} {name}"
    return f"{seconds:g} s"


def _facts(document: Record) -> Iterator[tuple[str, str]]:
    data, asked = document["data"], document["asked"]
    step = span_text(asked["step_s"])
    yield "Data", f"{data['title']}; {data['origin']}"
    yield "Licence", data["licence"]
    yield "From, to", f"{data['from_at']} to {data['to_at']}; SHA-256 {data['sha256'][:16]}…"
    yield "Sees", f"{asked['length']} steps of {step}: {', '.join(asked['features'])}"
    yield "Tells", f"{', '.join(each['name'] for each in asked['targets'])}, {_list(asked['horizons'])} steps ahead"
    yield (
        "Judged on",
        (
            f"{sum(fold['test'] for fold in document['folds'])} windows in {len(document['folds'])} folds, seeds "
            f"{_list(asked['seeds'])}; {document['seconds']:.0f} s"
        ),
    )


def _split(document: Record, history: Record) -> Section:
    return Section(
        "How it was judged",
        (
            (
                "Each fold was forecast by nets that had learnt from what was before it and nothing later; so were the "
                "scalers, the stopping and all that it is compared with. The model that ships is made by the same "
                "recipe from all of the data, the newest included, so nothing here is its own score."
            ),
        ),
        plots=(split_plot(document["folds"]), learning_plot(document["learning"], history)),
    )


def _scores(document: Record) -> Section:
    quantiles = document["asked"]["quantiles"]
    head = (
        "target",
        "horizon",
        "by",
        "windows",
        "pinball",
        *(f"p{100 * each:g}" for each in quantiles),
        "MASE",
        "RMSE / naive",
        "coverage",
        "width",
    )
    grids = []
    for target in document["asked"]["targets"]:
        mine = [each for each in document["scores"] if each["target"] == target["name"]]
        strong = frozenset(place for place, each in enumerate(mine) if each["by"] == "model")
        grids.append(Grid(head, tuple(_score_row(each) for each in mine), _told_in(target), labels=3, strong=strong))
    return Section(
        "Scores",
        (
            (
                f"Pinball is the mean loss of the quantiles: less is better. The interval p{100 * quantiles[0]:g} to "
                f"p{100 * quantiles[-1]:g} should cover {quantiles[-1] - quantiles[0]:.0%}. MASE below 1: the median "
                "is nearer than the naive forecast was before. The model's numbers are its seeds' mean."
            ),
        ),
        tuple(grids),
    )


def _score_row(score: Record) -> tuple[str, ...]:
    numbers = score["numbers"]
    return (
        score["target"],
        _horizon(score["horizon"]),
        score["by"],
        str(score["windows"]),
        _text(numbers["pinball"]),
        *(_text(each) for each in numbers["pinball_by_quantile"]),
        _text(numbers["mase"], 3),
        _text(numbers["rmse_ratio"], 3),
        _percent(numbers["coverage"]),
        _text(numbers["width"]),
    )


def _skill(document: Record) -> Section:
    step = span_text(document["asked"]["step_s"])
    names = [each["name"] for each in document["asked"]["targets"]]
    head = (
        "target",
        "horizon",
        "against",
        "measure",
        "skill",
        "95 % interval",
        "p",
        "by seed",
        "by fold",
        "windows",
        "blocks",
    )
    grids = []
    for name in names:
        mine = [each for each in document["comparisons"] if each["target"] == name]
        strong = frozenset(place for place, each in enumerate(mine) if each["low"] is not None and each["low"] > 0)
        grids.append(Grid(head, tuple(_skill_row(each) for each in mine), labels=4, strong=strong))
    return Section(
        "Skill",
        (
            (
                "Skill is 1 - the model's loss / the other's, on the same windows; a verdict is against the one that "
                "is hardest to beat. The interval is from whole blocks of time, common to all tables and as long as the "
                "longest horizon at least, drawn again 2,000 times. p is Diebold and Mariano's, that both are as good. "
                "In bold: better beyond doubt. AutoETS is fitted anew at each origin, and so at some origins only."
            ),
        ),
        tuple(grids),
        tuple(skill_plot(document["comparisons"], name, step) for name in names),
    )


def _skill_row(found: Record) -> tuple[str, ...]:
    return (
        found["target"],
        _horizon(found["horizon"]),
        found["against"],
        found["measure"],
        _percent(found["skill"]),
        f"{_percent(found['low'])} to {_percent(found['high'])}",
        "< 0.001" if found["p"] < 0.001 else f"{found['p']:.3f}",  # noqa: PLR2004 - as p is written
        ", ".join(_percent(each) for each in found["by_seed"]),
        ", ".join(_percent(each) for each in found["by_fold"]),
        str(found["windows"]),
        str(found["blocks"]),
    )


def _calibration(document: Record) -> Section:
    quantiles = document["asked"]["quantiles"]
    nominal = quantiles[-1] - quantiles[0]
    plots = []
    for target in document["asked"]["targets"]:
        plots.append(reliability_plot(document["scores"], target["name"], quantiles))
        plots.append(coverage_plot(document["coverage"], target["name"], nominal))
    return Section("Is its width honest?", plots=tuple(plots))


def _examples(document: Record, *, is_worst: bool) -> Section:
    asked = document["asked"]
    units = {each["name"]: each["unit"] for each in asked["targets"]}
    plots = tuple(
        fan_plot(each, asked["quantiles"], span_text(asked["step_s"]), units[each["target"]])
        for each in document["examples"]
        if each["is_worst"] == is_worst
    )
    if is_worst:
        return Section("Where it was furthest off", ("By the loss in terms of the table's naive error.",), plots=plots)
    return Section(
        "Forecasts as they were made",
        ("At even times of the test, chosen by nobody; drawn ahead of the time at which they were made.",),
        plots=plots,
    )


def _how(document: Record) -> Section:
    rows = tuple((name, source) for name, source in document["baselines"].items())
    return Section(
        "What it is compared with",
        ("Each has the quantiles of its own errors on what was before the fold, by table and horizon.",),
        (Grid(("name", "what"), rows, labels=2),),
    )


def _told_in(target: Record) -> str:
    match target["relative"]:
        case "log_ratio":
            what = "logarithm of the ratio to the last value"
        case "difference":
            what = f"difference from the last value, {target['unit'] or 'no unit'}"
        case _:
            what = target["unit"] or "no unit"
    return f"{target['name']} ({what})"


def _horizon(horizon: int | None) -> str:
    return "all" if horizon is None else str(horizon)


def _list(values: Sequence[object]) -> str:
    return ", ".join(str(each) for each in values)


def _text(value: float | None, digits: int = 4) -> str:
    return "" if value is None else f"{value:#.{digits}g}".rstrip(".")


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f} %"
