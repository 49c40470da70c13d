from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from models.evaluation.pages import span_text
from models.evaluation.report import ACCENT, Grid, Page, Plot, Section, rendered, svg_of, write_report

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.figure import Figure

HOSTILE = '<script>alert(1)</script> & "quoted" $x_^{$ {{ 7 * 7 }} https://example.org'


def draw(figure: Figure) -> None:
    axes = figure.subplots()
    axes.plot([1, 2, 3], [3, 1, 2], color=ACCENT, label=HOSTILE)
    axes.set_title(HOSTILE)
    axes.legend()


PLOT = Plot(draw, alt=HOSTILE, caption=HOSTILE)
PAGE = Page(
    title=HOSTILE,
    name=HOSTILE,
    verdicts=((f"No skill: {HOSTILE}", False), ("Better than HAR by 4 % [2, 6].", True)),
    facts=(("Licence", HOSTILE),),
    sections=(Section(HOSTILE, (HOSTILE,), (Grid((HOSTILE,), ((HOSTILE,),), HOSTILE),), (), (PLOT, PLOT)),),
)


@pytest.fixture(scope="module")
def page() -> str:
    return rendered(PAGE)


def test_the_verdict_stands_there(page: str) -> None:
    assert '<li class="good">Better than HAR by 4 % [2, 6].</li>' in page
    assert "<li>No skill: &lt;script&gt;" in page


def test_names_are_text_whatever_they_say(page: str) -> None:
    assert "<script" not in page
    assert "49" not in re.findall(r"<h1>(.*?)</h1>", page)[0]
    assert page.count("alert(1)") == page.count("&lt;script&gt;alert(1)&lt;/script&gt;")
    assert "alert(1)" in re.findall(r"<svg.*?</svg>", page, re.DOTALL)[0]


def test_it_asks_for_nothing_from_anywhere(page: str) -> None:
    assert re.findall(r"""(?:src|href|action|data)\s*=\s*["'](?!#)""", page) == []
    assert re.findall(r"url\((?!#)|@import|<link|<iframe|<object|<img", page) == []
    assert re.sub(r"https://example\.org", "", page).count("://") == 0
    assert "default-src 'none'" in page


def test_plots_have_the_pages_colours_and_ids_of_their_own(page: str) -> None:
    first, second = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    assert "var(--accent)" in first
    assert "#0102" not in page
    assert set(re.findall(r' id="(.*?)"', first)).isdisjoint(re.findall(r' id="(.*?)"', second))


def test_every_id_that_a_plot_names_is_there() -> None:
    svg = svg_of(PLOT, "1")
    named = set(re.findall(r"url\(#(.*?)\)", svg)) | set(re.findall(r'href="#(.*?)"', svg))
    assert named
    assert named <= set(re.findall(r' id="(.*?)"', svg))


def test_the_same_plot_is_the_same_text() -> None:
    assert svg_of(PLOT, "1") == svg_of(PLOT, "1")


def test_a_quick_report_says_so(page: str, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    write_report(Page("T", "t", (), (), (), is_quick=True), path)
    assert "good for trying the commands and nothing else" in path.read_text()
    assert "good for trying the commands" not in page
    assert [each.name for each in tmp_path.iterdir()] == ["report.html"]


def test_spans_are_told_in_their_unit() -> None:
    assert [span_text(each) for each in (1, 60, 600, 5400, 86_400, 0.1)] == [
        "1 s",
        "1 min",
        "10 min",
        "90 min",
        "1 d",
        "0.1 s",
    ]
