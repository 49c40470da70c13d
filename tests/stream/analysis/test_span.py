"""What a replay may take out: nothing that it cannot put in again."""

from __future__ import annotations

import numpy as np
import pytest

from stream.analysis.config import AnalysisConfig
from stream.analysis.replay import Stored, groups
from stream.analysis.span import DAY_MS, HOUR_MS, Span
from stream.ingest.columns import SeriesName

FROM = 20 * DAY_MS + 7 * HOUR_MS
SPAN = Span(FROM, 25 * DAY_MS, 40 * DAY_MS)


def test_readings_are_looked_at_from_the_begin_of_the_widest_bar_on() -> None:
    assert SPAN.reads_from_ms == 19 * DAY_MS
    assert SPAN.reads_to_ms == 27 * DAY_MS
    week = Span(FROM, 25 * DAY_MS, 40 * DAY_MS, warm_up_ms=0, widest_ms=7 * DAY_MS)
    assert (week.reads_from_ms, week.reads_to_ms) == (14 * DAY_MS, 35 * DAY_MS)
    config = AnalysisConfig.model_validate({"bars": {"widths_s": [60, 604_800]}})
    assert config.widest_ms == 7 * DAY_MS
    assert AnalysisConfig(bars=None).widest_ms == DAY_MS


@pytest.mark.parametrize(
    ("reach_ms", "from_ms"),
    [
        (0, FROM),
        (19 * DAY_MS, FROM),
        (19 * DAY_MS + 1, 21 * DAY_MS),
        (22 * DAY_MS, 23 * DAY_MS),
        (22 * DAY_MS + HOUR_MS, 24 * DAY_MS),
    ],
)
def test_a_log_that_is_cut_makes_whole_days_again_with_a_warm_up_before(reach_ms: int, from_ms: int) -> None:
    assert SPAN.since(reach_ms).from_ms == from_ms
    whole_log = Span(0, 25 * DAY_MS, 40 * DAY_MS)
    assert whole_log.since(0) == whole_log
    assert whole_log.since(22 * DAY_MS).from_ms == 23 * DAY_MS


def test_a_price_and_its_volume_are_worked_out_together() -> None:
    names = [f"{symbol}/{each}" for symbol in range(700) for each in ("price", "quality", "volume")]
    stored = [Stored(SeriesName("g", "n", "d", name), 10, (number,)) for number, name in enumerate(names)]
    made = list(groups(stored, AnalysisConfig()))
    assert len(made) > 3
    assert sorted(each.ids[0] for group in made for each in group) == [*range(len(names))]
    for group in made:
        own = {each.name.metric for each in group}
        symbols = {name.partition("/")[0] for name in own if not name.endswith("quality")}
        assert {f"{symbol}/{each}" for symbol in symbols for each in ("price", "volume")} <= own
    assert np.ptp([len(group) for group in made[:-1]]) <= 1
