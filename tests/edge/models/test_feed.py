"""Which windows are due, and what is in them."""

from __future__ import annotations

import struct
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.config import parse_config
from contract.manifest import Manifest
from edge.inference.settings import GOOD, NOTHING
from edge.models.config import ModelConfig
from edge.models.feed import MAX_WAITING, Feed


def manifest(length: int = 4, step_s: float = 1.0, hold_s: float = 0.0) -> Manifest:
    document = {
        "format": 1,
        "name": "m",
        "version": "1",
        "inputs": [{"name": "a", "hold_s": hold_s}, {"name": "b", "resample": "mean"}],
        "features": [{"name": "a", "of": ["a"]}],
        "window": {"length": length, "step_s": step_s},
        "output": {"kind": "anomaly", "score": "direct", "threshold": 1},
        "files": [{"form": "int8", "file": "f", "sha256": "0" * 64, "size_bytes": 1}],
    }
    return parse_config(document, Manifest, "m")


def config(**more: Any) -> ModelConfig:
    document = {"name": "m", "directory": "d", "inputs": {"a": "s/x", "b": "s/y/z"}, "grace_s": 0.5} | more
    return parse_config(document, ModelConfig, "c")


def put(feed: Feed, at_ms: int, *values: float) -> None:
    for (_, ring), value in zip(feed.rings, values, strict=True):
        ring.put(at_ms, value)


def test_an_input_is_a_source_and_the_rest_of_its_address() -> None:
    assert [address for address, _ in Feed(manifest(), config()).rings] == [("s", "x"), ("s", "y/z")]


def test_a_window_is_the_steps_before_its_end_input_by_input() -> None:
    feed = Feed(manifest(), config())
    for step in range(3, 8):
        put(feed, 1000 * step, step, 10 * step)
    values, states = feed.window(7000)
    assert struct.unpack("=8d", values) == (3, 4, 5, 6, 30, 40, 50, 60)
    assert list(states) == [GOOD] * 8


def test_before_the_window_come_as_many_steps_as_a_value_may_stand() -> None:
    feed = Feed(manifest(hold_s=2.0), config())
    put(feed, 2000, 1, 2)
    values, states = feed.window(7000)
    assert struct.unpack("=12d", values) == (0, 1, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0)
    assert list(states[:6]) == [NOTHING, GOOD, NOTHING, NOTHING, NOTHING, NOTHING]


def test_inputs_of_one_metric_each_make_their_own_of_it() -> None:
    names = ("last", "mean", "min", "max")
    document = manifest().model_dump(mode="json") | {
        "inputs": [{"name": name, "metric": "level", "resample": name} for name in names],
        "features": [{"name": "a", "transform": "change", "of": ["last"]}],
    }
    feed = Feed(parse_config(document, Manifest, "m"), config(inputs={"level": "s/x"}))
    assert [address for address, _ in feed.rings] == [("s", "x")] * 4
    for at_ms, value in ((6100, 5.0), (6300, 1.0), (6200, 3.0)):
        put(feed, at_ms, *[value] * 4)
    values, _ = feed.window(7000)
    # A step more than the four of the window: that before the first change.
    assert struct.unpack("=20d", values) == (0, 0, 0, 0, 1, 0, 0, 0, 0, 3, 0, 0, 0, 0, 1, 0, 0, 0, 0, 5)


@given(
    st.sampled_from([0.1, 1.0, 2.5]),
    st.sampled_from([None, 0.3, 1.0, 7.0]),
    st.lists(st.integers(1, 3000), min_size=1, max_size=80),
)
def test_each_end_is_due_once_in_order_and_not_before_its_grace_is_over(
    step_s: float, every_s: float | None, pauses_ms: list[int]
) -> None:
    feed = Feed(manifest(step_s=step_s), config(every_s=every_s))
    step_ms = round(step_s * 1000)
    stride_ms = max(1, round((every_s or step_s) * 1000 / step_ms)) * step_ms
    now_ms, due, began_ms = 1_800_000_000_000, [], 1_800_000_000_000
    feed.look(now_ms)
    for pause_ms in pauses_ms:
        now_ms += pause_ms
        feed.look(now_ms)
        assert len(feed.waiting) <= MAX_WAITING
        assert all(end_ms + 500 <= now_ms for end_ms in feed.waiting)
        assert 0 < feed.next_look_ms(now_ms) <= stride_ms
        due += list(feed.waiting)
        for end_ms in list(feed.waiting):
            feed.done(end_ms)
    assert all(end_ms % stride_ms == 0 for end_ms in due)
    assert all(later > earlier for earlier, later in pairwise(due))
    all_ends = (now_ms - 500) // stride_ms - (began_ms - 500) // stride_ms
    assert len(due) + feed.skipped == all_ends


def test_what_waits_too_long_is_left_out_and_counted() -> None:
    feed = Feed(manifest(), config())
    feed.look(0)
    feed.look(100_500)
    assert list(feed.waiting) == list(range(93_000, 100_001, 1000))
    assert feed.skipped == 101 - MAX_WAITING
    skipped = feed.skipped
    feed.look(10**15)  # a clock that was set: there was nothing to miss
    assert (list(feed.waiting), feed.skipped) == ([], skipped)
    feed.look(10**15 + 1000)
    assert list(feed.waiting) == [10**15]


@pytest.mark.parametrize(("length", "every_s"), [(20, 2.0), (4, 5.0), (1, 120.0)])
def test_a_window_that_has_waited_as_long_as_it_may_is_whole(length: int, every_s: float) -> None:
    feed = Feed(manifest(length=length), config(every_s=every_s))
    feed.look(0)
    for step in range(round(20 * every_s)):
        put(feed, 1000 * step, step, step)
        feed.look(1000 * step)
    assert len(feed.waiting) == MAX_WAITING
    _, states = feed.window(feed.waiting[0])
    assert list(states) == [GOOD] * 2 * length


def test_a_feed_goes_on_where_another_left_off() -> None:
    old = Feed(manifest(), config())
    old.look(500)
    for step in range(6):
        put(old, 1000 * step, step, step)
    old.look(4600)
    new = Feed(manifest(length=5), config())
    new.adopt(old)
    assert list(new.waiting) == [1000, 2000, 3000, 4000]
    new.look(5500)
    assert list(new.waiting)[-1] == 5000
    assert struct.unpack("=10d", new.window(5000)[0]) == (0, 1, 2, 3, 4) * 2


def test_of_other_steps_nothing_is_taken_over() -> None:
    old, new = Feed(manifest(), config()), Feed(manifest(step_s=2.0), config())
    old.look(0)
    put(old, 1000, 1, 1)
    old.look(5000)
    new.adopt(old)
    assert not new.waiting
    assert list(new.window(4000)[1]) == [NOTHING] * 8
