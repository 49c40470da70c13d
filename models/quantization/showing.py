"""What quantization came to, as a table for the terminal and as one for the documentation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from models.quantization.results import Quantization, Tried

_KIB: Final = 1024
_BEST: Final = " *"


def table_of(quantization: Quantization) -> Table:
    """For the terminal: a line for each form; the fastest of those that devices get is marked, by runtime."""
    table = Table(title=_title(quantization), title_justify="left", box=None, pad_edge=False)
    for place, heading in enumerate(_headings(quantization)):
        is_text = place in {0, len(_headings(quantization)) - 1}
        table.add_column(heading, justify="left" if is_text else "right")
    for each in quantization.tried:
        table.add_row(*map(Text, _cells(quantization, each)), style="dim" if each.left_out else None)
    return table


def markdown(quantizations: Iterable[Quantization]) -> str:
    """For the documentation: a heading and a table for each recipe."""
    return "\n".join(map(_section, quantizations))


def _section(quantization: Quantization) -> str:
    headings = _headings(quantization)
    rule = ["---" if place in {0, len(headings) - 1} else "---:" for place in range(len(headings))]
    rows = [headings, rule, *(_cells(quantization, each) for each in quantization.tried)]
    lines = [" | ".join(row).replace("\n", "<br>") for row in rows]
    return f"**{_title(quantization)}**\n\n" + "".join(f"| {line} |\n" for line in lines)


def _title(quantization: Quantization) -> str:
    return (
        f"{quantization.recipe}: {quantization.measure.replace('_', ' ')} {quantization.reference:.4g} in float, "
        f"{quantization.windows} windows that were not learnt from, one thread of {quantization.machine}"
    )


def _headings(quantization: Quantization) -> Sequence[str]:
    timed = [f"us in {runtime} (p99)" for runtime in quantization.runtimes]
    return ["form", "KiB", *timed, "peak MiB", "error: greatest (mean)", "worse than float", "for devices"]


def _cells(quantization: Quantization, tried: Tried) -> Sequence[str]:
    return [
        tried.title,
        f"{tried.size_bytes / _KIB:.1f}" if tried.runs else "",
        *(_time(quantization, tried, runtime) for runtime in quantization.runtimes),
        " / ".join(f"{run.peak_kb / _KIB:.1f}" for run in tried.runs),
        "\n".join(_errors(tried)),
        f"{100 * tried.judged.worse:+.2f} %" if tried.judged else "",
        f"no: {tried.left_out}" if tried.left_out else "yes",
    ]


def _time(quantization: Quantization, tried: Tried, runtime: str) -> str:
    for run in tried.runs:
        if run.runtime == runtime and not run.fault:
            mark = _BEST if quantization.fastest(runtime) == tried.title else ""
            return f"{run.median_us:.0f} ({run.p99_us:.0f}){mark}"
    return "fails"


def _errors(tried: Tried) -> list[str]:
    """Of each target; by one for which there is no unit stands none."""
    errors = tried.judged.errors if tried.judged else ()
    return [f"{each.of} {each.greatest:.2g} ({each.mean:.2g}){f' {each.unit}' if each.unit else ''}" for each in errors]
