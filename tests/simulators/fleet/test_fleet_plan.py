"""Who is in a fleet, what befalls whom, and what clocks and signals say: all of it by the seed alone."""

from __future__ import annotations

from itertools import islice, pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.config import ConfigError, parse_config
from contract.datatypes import DataType
from simulators.fleet.clock import NodeClock, clock_of
from simulators.fleet.config import FleetConfig
from simulators.fleet.roster import roster
from simulators.fleet.signals import signals_of, values
from simulators.fleet.timeline import Span, State, Timeline, spans

EVERYTHING = {
    "churn": {"share": 0.2},
    "outages": [{"start_s": 5, "duration_s": 3, "site": 1}, {"start_s": 50, "duration_s": 2, "silent": True}],
    "node_outages": {"mean_pause_s": 30, "mean_duration_s": 5},
    "site_outages": {"mean_pause_s": 60, "mean_duration_s": 5},
    "clocks": {"share": 0.3},
    "slow": {"share": 0.1},
    "misbehaving": {"duplicate": 0.1, "foreign": 0.1},
}


def fleet(**keys: Any) -> FleetConfig:
    return parse_config(keys, FleetConfig, "test")


def test_the_seed_says_it_all() -> None:
    one, same, other = (fleet(seed=seed, nodes=30, **EVERYTHING) for seed in (1, 1, 2))
    assert roster(one) == roster(same)
    assert roster(one) != roster(other)
    for member in roster(one):
        assert list(islice(spans(one, member), 50)) == list(islice(spans(same, member), 50))
        assert signals_of(one, member) == signals_of(same, member)
        assert signals_of(one, member) != signals_of(other, member)


def test_shares_are_met() -> None:
    members = roster(fleet(nodes=50, **EVERYTHING))
    assert len({member.name for member in members}) == 50
    assert [member.site for member in members[:6]] == [0, 1, 2, 3, 4, 0]
    assert sum(member.churns for member in members) == 10
    assert sum(member.has_wrong_clock for member in members) == 15
    assert sum(member.is_foreign for member in members) == 5
    assert not any(member.is_foreign and (member.duplicates or member.pause_s) for member in members)
    assert any(member.duplicates for member in members)
    assert any(member.pause_s for member in members)


def test_a_site_loses_its_line_as_one() -> None:
    config = fleet(nodes=20, sites=2, site_outages={"mean_pause_s": 30, "mean_duration_s": 5})
    by_site: dict[int, list[Span]] = {}
    for member in roster(config):
        found = list(islice(spans(config, member), 20))
        assert by_site.setdefault(member.site, found) == found
    assert by_site[0] != by_site[1]


def test_spans_come_in_order_and_the_worst_counts() -> None:
    timeline = Timeline(iter([Span(1, 5, State.CUT), Span(2, 3, State.KILLED), Span(7, 8, State.AWAY)]))
    seen = []
    now_s = 0.0
    while now_s < 9:
        seen.append((now_s, timeline.at(now_s)))
        now_s = timeline.changes_at_s
    assert seen == [
        (0.0, State.UP),
        (1, State.CUT),
        (2, State.KILLED),
        (3, State.CUT),
        (5, State.UP),
        (7, State.AWAY),
        (8, State.UP),
    ]


def test_what_befalls_a_node_comes_in_order() -> None:
    config = fleet(nodes=10, **EVERYTHING)
    for member in roster(config):
        found = list(islice(spans(config, member), 200))
        assert all(before.start_s <= after.start_s for before, after in pairwise(found))
        assert all(span.end_s > span.start_s >= 0 for span in found)


@given(
    steps=st.lists(st.integers(0, 20_000), min_size=1, max_size=60),
    settings=st.lists(st.tuples(st.integers(0, 300_000), st.integers(-90_000, 90_000)), max_size=4),
    drift_ppm=st.floats(-10_000, 10_000),
)
def test_no_time_is_told_twice(steps: list[int], settings: list[tuple[int, int]], drift_ppm: float) -> None:
    clock = NodeClock(10**12, iter([(0, 500), *sorted(settings)]), drift_ppm)
    now_ms, told = 10**12, []
    for step in steps:
        now_ms += step
        told.append(clock.now_ms(now_ms))
    assert all(before < after for before, after in pairwise(told))


def test_a_clock_set_back_goes_at_half_speed_until_it_is_right() -> None:
    clock = NodeClock(0, iter([(0, 0), (10_000, -4_000)]))
    told = [clock.now_ms(at_ms) for at_ms in range(0, 20_001, 1000)]
    assert told[:10] == list(range(0, 10_000, 1000))
    assert {after - before for before, after in pairwise(told[10:17])} == {500}
    assert [at_ms - told_ms for at_ms, told_ms in zip(range(18_000, 20_001, 1000), told[18:], strict=True)] == [
        4000
    ] * 3


def test_a_clock_set_forward_follows_at_once() -> None:
    clock = NodeClock(0, iter([(0, 0), (5_000, 60_000)]))
    assert [clock.now_ms(at_ms) for at_ms in (1000, 4000, 5000, 6000)] == [1000, 4000, 65_000, 66_000]


def test_wrong_clocks_are_as_wrong_as_they_may_be() -> None:
    config = fleet(nodes=40, clocks={"share": 0.5, "offset_s": 90, "drift_ppm": 0, "mean_pause_s": 1e6})
    now_ms = 10**12
    wrong_s = [abs(clock_of(config, member, now_ms).now_ms(now_ms) - now_ms) / 1000 for member in roster(config)]
    assert max(wrong_s) <= 91
    assert sum(wrong > 0.01 for wrong in wrong_s) == 20


def test_a_device_has_all_kinds_of_metrics() -> None:
    config = fleet(metrics=20)
    member = roster(config)[0]
    signals = signals_of(config, member)
    assert {signal.datatype for signal in signals} == {DataType.DOUBLE, DataType.INT64, DataType.BOOLEAN}
    assert len({signal.name for signal in signals}) == 20
    assert values(signals, 7) == values(signals, 7)
    assert values(signals, 7) != values(signals, 8)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"nodes": 0}, "nodes: found 0"),
        ({"group": "a/b"}, "group: found 'a/b'"),
        ({"broker": {"client_id": "one"}}, "client_id needs {node}"),
        ({"outages": [{"start_s": 1}]}, "outages.0.duration_s: is missing"),
        ({"misbehaving": {"foreign": 2}}, "misbehaving.foreign: found 2"),
        ({"churns": {}}, "churns: is not a known key"),
    ],
)
def test_what_is_wrong_is_told(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message.replace("{", r"\{").replace("}", r"\}")):
        fleet(**keys)
