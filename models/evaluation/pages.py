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
    from collections.abc import Callable, Iterator, Mapping, Sequence

    Record: TypeAlias = Mapping[str, Any]

# As p is written.
_LEAST_P: Final = 0.001
_SPANS: Final = (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1))


def forecast_page(document: Record, history: Record) -> Page:
    """`history` has the losses of the model that ships, `train` and `valid`, or nothing."""
    return Page(
        title=document["title"],
        name=document["recipe"],
        verdicts=tuple((sentence, is_good) for sentence, is_good in document["sentences"]),
        facts=tuple(_facts(document)),
        sections=(
            _split(document, history),
            _skill(document),
            _scores(document),
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
    yield "From, to", f"{data['from_at'][:16]} to {data['to_at'][:16]} UTC; SHA-256 {data['sha256'][:16]}…"
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
                "recipe and knows newer data too, so nothing here is its own score."
            ),
        ),
        plots=(split_plot(document["folds"]), learning_plot(document["learning"], history)),
    )


def _scores(document: Record) -> Section:
    quantiles = document["asked"]["quantiles"]
    of_quantiles = (f"p{100 * each:g}" for each in quantiles)
    head = ("horizon", "by", "pinball", *of_quantiles, "MASE", "RMSE / naive", "coverage", "width", "windows")
    return Section(
        "Scores",
        (
            (
                f"Pinball is the mean loss of the quantiles: less is better. The interval p{100 * quantiles[0]:g} to "
                f"p{100 * quantiles[-1]:g} should cover {100 * (quantiles[-1] - quantiles[0]):.0f} %. MASE below 1: "
                "the median is nearer than the naive forecast was before. The model's numbers are its seeds' mean, "
                "AutoETS' are of some origins only."
            ),
        ),
        *_in_all_and_by_horizon(document, document["scores"], head, _score_row),
    )


def _score_row(score: Record) -> tuple[str, ...]:
    numbers = score["numbers"]
    return (
        _horizon(score["horizon"]),
        score["by"],
        _text(numbers["pinball"]),
        *(_text(each) for each in numbers["pinball_by_quantile"]),
        _fixed(numbers["mase"]),
        _fixed(numbers["rmse_ratio"]),
        _percent(numbers["coverage"]),
        _text(numbers["width"]),
        str(score["windows"]),
    )


def _skill(document: Record) -> Section:
    step = span_text(document["asked"]["step_s"])
    head = ("horizon", "against", "skill", "95 % interval", "p", "of", "by seed", "by fold", "windows", "blocks")
    return Section(
        "Skill",
        (
            (
                "Skill is 1 - the model's loss / the other's, on the same windows: of all quantiles (pinball), and of "
                "the median alone. A verdict is against what is hardest to beat; AutoETS, which is fitted anew at some "
                "origins only, is that where it is better there beyond doubt. The interval is from whole blocks of "
                "time, common to all tables and as long as the longest horizon at least, drawn again 2,000 times. p is "
                "that of equal losses (Diebold and Mariano). In bold: better beyond doubt."
            ),
        ),
        *_in_all_and_by_horizon(document, document["comparisons"], head, _skill_row),
        plots=tuple(skill_plot(document["comparisons"], each["name"], step) for each in document["asked"]["targets"]),
    )


def _skill_row(found: Record) -> tuple[str, ...]:
    return (
        _horizon(found["horizon"]),
        found["against"],
        _percent(found["skill"]),
        f"{_percent(found['low'])} to {_percent(found['high'])}",
        "< 0.001" if found["p"] < _LEAST_P else f"{found['p']:.3f}",
        found["measure"],
        ", ".join(_percent(each) for each in found["by_seed"]),
        ", ".join(_percent(each) for each in found["by_fold"]),
        str(found["windows"]),
        str(found["blocks"]),
    )


def _in_all_and_by_horizon(
    document: Record, records: Sequence[Record], head: tuple[str, ...], row: Callable[[Record], tuple[str, ...]]
) -> tuple[tuple[Grid, ...], tuple[Grid, ...]]:
    """For each target a table over all horizons, and for a click one by horizon."""

    def grid(target: Record, *, in_all: bool) -> Grid:
        mine = [each for each in records if each["target"] == target["name"] and (each["horizon"] is None) == in_all]
        strong = frozenset(place for place, each in enumerate(mine) if each.get("by") == "model" or _is_better(each))
        return Grid(head, tuple(row(each) for each in mine), _told_in(target), labels=2, strong=strong)

    targets = document["asked"]["targets"]
    return tuple(grid(each, in_all=True) for each in targets), tuple(grid(each, in_all=False) for each in targets)


def _is_better(record: Record) -> bool:
    return (record.get("low") or 0.0) > 0


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


def _text(value: float | None) -> str:
    return "" if value is None else f"{value:#.4g}".rstrip(".")


def _fixed(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f} %"
