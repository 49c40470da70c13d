"""`report.html`: one file that needs nothing else, for a person who decides whether to trust a model.

Plots are matplotlib's, embedded as SVG whose colours are the page's, so that they follow light and dark.
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import matplotlib as mpl
from cycler import cycler
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Draw: TypeAlias = "Callable[[Figure], None]"

# Colours that stand for the page's own: each is replaced by a CSS variable. None is a colour that anybody would choose.
INK: Final = "#010203"
FAINT: Final = "#010204"
GRID: Final = "#010205"
ACCENT: Final = "#010206"
WARM: Final = "#010207"
GREEN: Final = "#010208"
PAPER: Final = "#010209"
_VARIABLES: Final = {INK: "ink", FAINT: "faint", GRID: "grid", ACCENT: "accent", WARM: "warm", GREEN: "green"} | {
    PAPER: "paper"
}
LINES: Final = (ACCENT, WARM, GREEN, FAINT, INK)
_STYLE: Final[dict[str, Any]] = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.edgecolor": GRID,
    "axes.labelcolor": FAINT,
    "axes.titlecolor": INK,
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.facecolor": "none",
    "axes.prop_cycle": cycler(color=LINES),
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "text.color": INK,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "figure.facecolor": "none",
    "figure.constrained_layout.use": True,
}


@dataclass(frozen=True, slots=True)
class Plot:
    """A picture: `draw` draws into an empty figure of `size` inches; `alt` says in words what it shows."""

    draw: Draw
    alt: str
    caption: str = ""
    size: tuple[float, float] = (4.8, 2.6)


@dataclass(frozen=True, slots=True)
class Grid:
    """A table of texts; the first `labels` columns are words, the rest numbers. `strong` are rows to stand out."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str = ""
    labels: int = 1
    strong: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page: what it says, then its tables, then its plots, then tables that are unfolded by a click."""

    title: str
    texts: tuple[str, ...] = ()
    grids: tuple[Grid, ...] = ()
    details: tuple[Grid, ...] = ()
    plots: tuple[Plot, ...] = ()


@dataclass(frozen=True, slots=True)
class Page:
    """A whole report: `verdicts` are plain sentences, each with whether it is good news; `facts` are name and value."""

    title: str
    name: str
    verdicts: tuple[tuple[str, bool], ...]
    facts: tuple[tuple[str, str], ...]
    sections: tuple[Section, ...]
    is_quick: bool = False


def write_report(page: Page, path: Path) -> None:
    """Written whole or not at all."""
    part = path.with_suffix(".part")
    part.write_text(rendered(page))
    part.replace(path)


def rendered(page: Page) -> str:
    """The page as HTML. Whatever it is told is shown as text, never taken as HTML."""
    environment = Environment(
        loader=PackageLoader("models.evaluation", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    template = environment.get_template("report.html.j2")
    return template.render(page=page, svg=lambda plot, salt: Markup(svg_of(plot, str(salt))))  # noqa: S704 - ours


def svg_of(plot: Plot, salt: str = "") -> str:
    """The plot as an SVG element that can stand in a page, deterministic; `salt` keeps its ids its own."""
    style: Any = {**_STYLE, "svg.hashsalt": f"plot{salt}"}
    with mpl.rc_context(style):
        figure = Figure(figsize=plot.size)
        plot.draw(figure)
        buffer = io.StringIO()
        nothing: dict[str, Any] = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(buffer, format="svg", metadata=nothing)
    return _embedded(buffer.getvalue())


def _embedded(text: str) -> str:
    """Without what only a file of its own needs, and with the page's colours."""
    text = text[text.index("<svg") :]
    head, body = text.split(">", 1)
    box = re.search(r'viewBox="[^"]*"', head)
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(
        r' id="(?:figure|axes|patch|line2d|text|xtick|ytick|matplotlib|legend|Poly|Line|Path)[^"]*"', "", body
    )
    for colour, variable in _VARIABLES.items():
        body = body.replace(colour, f"var(--{variable})")
    return f"<svg {box.group() if box else ''} aria-hidden='true'>{body}"
