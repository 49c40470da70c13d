"""The manifest's rules by a slow reference that follows their words, step by step."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from contract.manifest import Expression, Feature, ModelInput, Target, View, Window
from contract.windows import Steps, actual, resampled, windows_at

if TYPE_CHECKING:
    from collections.abc import Sequence

STEP_MS = 250
BEGIN_MS = 1_700_000_000_000
BAD = math.nan
# One series: of each step that has readings, the inputs' values; None: no reading, NaN: bad ones only.
Rows = dict[int, tuple[float | None, ...]]

INPUTS: st.SearchStrategy[list[dict[str, Any]]] = st.lists(
    st.builds(dict, hold_s=st.sampled_from([0.0, 0.25, 0.6]), resample=st.sampled_from(["last", "mean", "min", "max"])),
    min_size=1,
    max_size=3,
)
VALUES = st.one_of(st.none(), st.just(BAD), st.integers(-2, 9).map(float))


@st.composite
def views(draw: st.DrawFn) -> View:
    made = tuple(ModelInput(name=f"x{place}", **each) for place, each in enumerate(draw(INPUTS)))
    names = st.sampled_from([each.name for each in made])
    expressions = st.one_of(
        st.tuples(st.sampled_from(["value", "log", "change", "log_change"]), st.tuples(names)),
        st.tuples(st.just("log_ratio"), st.tuples(names, names)),
        st.tuples(st.sampled_from(["day_sin", "week_cos", "year_sin"]), st.just(())),
    )
    steps = draw(st.sampled_from(["clock", "present"]))
    window = Window(
        length=draw(st.integers(3, 5)),
        step_s=STEP_MS / 1000,
        steps=steps,
        max_pause_s=draw(st.sampled_from([None, 0.5, 1.0])) if steps == "present" else None,
        max_bad_share=draw(st.sampled_from([0.0, 0.1, 0.34, 0.5])),
    )
    features = draw(st.lists(expressions, min_size=1, max_size=3))
    return View(
        inputs=made,
        window=window,
        features=tuple(
            Feature(name=f"f{place}", transform=transform, of=of) for place, (transform, of) in enumerate(features)
        ),
    )


@st.composite
def series(draw: st.DrawFn, view: View) -> Rows:
    numbers = draw(st.lists(st.integers(0, 30), unique=True, max_size=25).map(sorted))
    found = {number: draw(st.tuples(*[VALUES] * len(view.inputs))) for number in numbers}
    return {number: row for number, row in found.items() if any(value is not None for value in row)}


def steps_of(view: View, rows: Rows) -> Steps:
    numbers = sorted(rows)
    table = [[math.nan if value is None else value for value in rows[number]] for number in numbers]
    spoilt = [[value is not None and math.isnan(value) for value in rows[number]] for number in numbers]
    shape = len(numbers), len(view.inputs)
    at_ms = np.asarray(numbers, np.int64) * STEP_MS + BEGIN_MS
    return Steps(at_ms, np.asarray(table, float).reshape(shape), np.asarray(spoilt, bool).reshape(shape))


class Reference:
    """The rules, in words: `steps` are the numbers of those that count, of which some may have no row."""

    def __init__(self, view: View, rows: Rows) -> None:
        self.view = view
        self.rows = rows
        self.is_clock = view.window.steps == "clock"
        self.names = [each.name for each in view.inputs]

    def last_step(self, end: int) -> int | None:
        return end - 1 if self.is_clock else max((number for number in self.rows if number < end), default=None)

    def before(self, step: int) -> int | None:
        """The step before, where one is known."""
        if self.is_clock:
            return step - 1
        found = max((number for number in self.rows if number < step), default=None)
        return None if found is None or self.is_pause(found, step) else found

    def after(self, step: int) -> int | None:
        if self.is_clock:
            return step + 1
        found = min((number for number in self.rows if number > step), default=None)
        return None if found is None or self.is_pause(step, found) else found

    def is_pause(self, step: int, later: int) -> bool:
        pause = self.view.window.max_pause_s
        return pause is not None and (later - step) * STEP_MS > pause * 1000

    def value(self, step: int | None, place: int) -> float | None:
        """What the input is at a step: its own, or an earlier one that still holds."""
        oldest = -math.inf if step is None else step - self.view.inputs[place].hold_s * 1000 / STEP_MS
        while step is not None and step >= max(oldest, -40):
            row = self.rows.get(step, (None,) * len(self.names))
            if (value := row[place]) is not None:
                return None if math.isnan(value) else value
            step = self.before(step)
        return None

    def window(self, end: int) -> tuple[list[list[float]], list[float]] | None:
        """Features and last values, or nothing."""
        steps: list[int] = []
        step = self.last_step(end)
        size = self.view.window.length + self.view.reach
        while len(steps) < size:
            if step is None:
                return None
            steps.insert(0, step)
            step = self.before(step)
        columns = [[self.value(step, place) for step in steps] for place in range(len(self.names))]
        missing = sum(column.count(None) for column in columns)
        if missing > self.view.window.max_bad_share * size * len(columns) + 1e-9:
            return None
        if any(column.count(None) == size for column in columns):
            return None
        filled = [self.filled(column) for column in columns]
        features = [[self.express(each, filled, at, step) for each in self.view.features] for at, step in
                    enumerate(steps)][self.view.reach :]  # fmt: skip
        if not all(math.isfinite(value) for row in features for value in row):
            return None
        return features, [column[-1] for column in filled]

    @staticmethod
    def filled(column: list[float | None]) -> list[float]:
        known = next(value for value in column if value is not None)
        return [known := known if value is None else value for value in column]

    def express(self, what: Expression, columns: Sequence[Sequence[float | None]], at: int, step: int) -> float:
        here = [columns[self.names.index(name)][at] for name in what.of]
        earlier = [columns[self.names.index(name)][at - 1] if at else None for name in what.of]
        return _computed(what.transform, here, earlier, BEGIN_MS + step * STEP_MS)

    def outcome(self, target: Target, horizon: int, end: int) -> float:
        step = self.last_step(end)
        found: list[float] = []
        for _ in range(horizon):
            step = None if step is None else self.after(step)
            before = None if step is None else self.before(step)
            if step is None:
                return math.nan
            columns = [[self.value(before, place), self.value(step, place)] for place in range(len(self.names))]
            found.append(self.express(target, columns, 1, step))
        if target.over == "at":
            return found[-1]
        return math.sqrt(sum(value * value for value in found) / horizon)


def _computed(transform: str, here: Sequence[float | None], earlier: Sequence[float | None], at_ms: int) -> float:  # noqa: PLR0911 - one for each
    def log(value: float | None) -> float:
        return math.nan if value is None or value <= 0 else math.log(value)

    now, before = here[0] if here else None, earlier[0] if earlier else None
    match transform:
        case "value":
            return math.nan if now is None else now
        case "log":
            return log(now)
        case "change":
            return math.nan if now is None or before is None else now - before
        case "log_change":
            return log(now) - log(before)
        case "log_ratio":
            return log(now) - log(here[1])
        case "day_sin":
            return math.sin(2 * math.pi * at_ms / 86_400_000)
        case "week_cos":
            return math.cos(2 * math.pi * (at_ms - 4 * 86_400_000) / (7 * 86_400_000))
        case _:
            return math.sin(2 * math.pi * at_ms / (365.2425 * 86_400_000))


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_windows_follow_the_rules(data: st.DataObject) -> None:
    view = data.draw(views())
    rows = data.draw(series(view))
    ends = data.draw(st.lists(st.integers(-3, 36), min_size=1, max_size=8))
    made = windows_at(view, steps_of(view, rows), np.asarray(ends, np.int64) * STEP_MS + BEGIN_MS)
    expected = [Reference(view, rows).window(end) for end in ends]
    assert made.is_whole.tolist() == [each is not None for each in expected]
    for place, each in enumerate(expected):
        if each is not None:
            np.testing.assert_allclose(made.features[place], each[0], atol=1e-6)
            np.testing.assert_array_equal(made.last[place], each[1])


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_what_came_follows_the_rules(data: st.DataObject) -> None:
    view = data.draw(views())
    rows = data.draw(series(view))
    ends = data.draw(st.lists(st.integers(-3, 36), min_size=1, max_size=8))
    targets = [
        Target(name="level", of=("x0",)),
        Target(name="change", transform="log_change", of=("x0",)),
        Target(name="movement", transform="change", of=("x0",), over="rms"),
    ]
    horizons = (1, 2, 5)
    came = actual(view, targets, horizons, steps_of(view, rows), np.asarray(ends, np.int64) * STEP_MS + BEGIN_MS)
    reference = Reference(view, rows)
    expected = [
        [[reference.outcome(target, horizon, end) for horizon in horizons] for target in targets] for end in ends
    ]
    np.testing.assert_allclose(came, expected, atol=1e-12)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_readings_are_brought_to_steps(data: st.DataObject) -> None:
    how = data.draw(st.lists(st.sampled_from(["last", "mean", "min", "max"]), min_size=1, max_size=3))
    reading = st.tuples(st.integers(-900, 900), st.one_of(st.sampled_from([BAD, math.inf, 1e39]), st.floats(-9, 9)))
    readings = [data.draw(st.lists(reading, max_size=15)) for _ in how]
    made = resampled(
        [ModelInput(name=f"x{place}", resample=each) for place, each in enumerate(how)],
        Window(length=3, step_s=STEP_MS / 1000),
        [np.asarray([at for at, _ in each], np.int64) for each in readings],
        [np.asarray([value for _, value in each], np.float64) for each in readings],
    )
    steps = sorted({at // STEP_MS for each in readings for at, _ in each})
    assert made.at_ms.tolist() == [step * STEP_MS for step in steps]
    for place, each in enumerate(readings):
        for row, step in enumerate(steps):
            value, is_spoilt = _brought(how[place], [one for one in each if one[0] // STEP_MS == step])
            np.testing.assert_allclose(made.values[row, place], value, atol=1e-12)
            assert made.is_spoilt[row, place] == is_spoilt


def _brought(how: str, readings: list[tuple[int, float]]) -> tuple[float, bool]:
    good = [(at, value) for at, value in readings if abs(value) < 1e38]
    if not good:
        return math.nan, bool(readings)
    found: list[Any] = [value for _, value in sorted(good, key=lambda each: each[0])]
    return {"last": found[-1], "mean": sum(found) / len(found), "min": min(found), "max": max(found)}[how], False


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_several_series_at_once_are_as_each_alone(data: st.DataObject) -> None:
    view = data.draw(views())
    reading = st.tuples(st.integers(0, 6000), st.integers(-2, 9).map(float))
    readings = [[data.draw(st.lists(reading, max_size=20)) for _ in view.inputs] for _ in range(3)]
    ends = np.asarray(data.draw(st.lists(st.integers(-99, 99), min_size=1, max_size=5)), np.int64) * STEP_MS
    target = [Target(name="movement", transform="change", of=("x0",), over="rms")]
    by_input = [list(each) for each in zip(*readings, strict=True)]
    of = [np.repeat(np.arange(3), [len(one) for one in each]) for each in by_input]
    joined = [[reading for one in each for reading in one] for each in by_input]
    together = resampled(view.inputs, view.window, *_columns(joined), of)
    series = np.tile(np.arange(3), len(ends))
    made = windows_at(view, together, np.repeat(ends, 3), series)
    came = actual(view, target, (1, 3), together, np.repeat(ends, 3), series)
    for number, each in enumerate(readings):
        alone = resampled(view.inputs, view.window, *_columns(each))
        expected = windows_at(view, alone, ends)
        assert made.is_whole[number::3].tolist() == expected.is_whole.tolist()
        whole = expected.is_whole
        np.testing.assert_array_equal(made.features[number::3][whole], expected.features[whole])
        np.testing.assert_array_equal(came[number::3], actual(view, target, (1, 3), alone, ends))


def _columns(readings: Sequence[Sequence[tuple[int, float]]]) -> tuple[list[Any], list[Any]]:
    times = [np.asarray([at for at, _ in each], np.int64) for each in readings]
    return times, [np.asarray([value for _, value in each], np.float64) for each in readings]
