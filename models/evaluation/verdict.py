"""What is to be thought of a model, in words that nobody can take for more than was shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from contract.manifest import Target
    from models.evaluation.comparing import Comparison

WORDS = {
    "naive": "the naive forecast",
    "seasonal_naive": "the seasonal naive forecast",
    "scaled_naive": "the naive forecast as wide as of late (scaled_naive)",
    "ewma": "EWMA",
    "har": "HAR",
    "autoets": "AutoETS",
}


def sentence(target: Target, all_quantiles: Comparison, median: Comparison) -> tuple[str, bool]:
    """Of a target against what is hardest to beat, and whether it is good news."""
    than, by = WORDS.get(all_quantiles.against, all_quantiles.against), interval_text(all_quantiles)
    name = target.name
    if all_quantiles.low > 0:
        better = f"{name}: better than {than} by {by}."
        if median.low <= 0 and is_of_market(target):
            better = (
                f"{better[:-1]} in how wide it is, not in which way it goes: the median's skill is "
                f"{interval_text(median)}. Do not trade on it."
            )
        return better, True
    if all_quantiles.high < 0:
        return f"{name}: worse than {than} by {interval_text(all_quantiles, sign=-1)}: use that instead.", False
    what = "do not trade on it" if is_of_market(target) else "what is simpler does as well"
    return f"{name}: no skill over {than}, {by}: {what}.", False


def interval_text(found: Comparison, sign: int = 1) -> str:
    """`4.1 % [2.0, 6.2]`, with the 95 % interval."""
    low, high = sorted((sign * found.low, sign * found.high))
    return f"{100 * sign * found.skill:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"


def is_of_market(target: Target) -> bool:
    """Whether it says which way something goes by a ratio, as prices do."""
    return target.relative == "log_ratio" or (target.transform == "log_change" and target.over == "at")
