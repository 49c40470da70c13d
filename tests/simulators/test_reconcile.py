from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulators.reconcile import SLACK_MS, Expected, Span, Stored, Tally, is_same, pair, reconcile

if TYPE_CHECKING:
    from collections.abc import Sequence

POLL_MS = 1000


def counts(tally: Tally) -> dict[str, int]:
    names = ("produced", "stored", "declared", "lost", "duplicated", "wrong")
    return {name: count for name in names if (count := getattr(tally, name))}


def answer(at: int, value: float | str = 1.5, asked_at: int | None = None) -> Expected:
    return Expected((value,), (at,), at if asked_at is None else asked_at)


def frame(source_at: int, value: float = 1.5, *, excused: bool = False) -> Expected:
    return Expected((value,), (source_at + 3,), source_at + 3, source_at, excused)


def one_metric(
    served: Sequence[Expected], stored: Sequence[Stored], gaps: Sequence[Span] = (), metric: str = "m"
) -> Tally:
    return reconcile({metric: served}, {metric: stored}, gaps)


def test_all_of_it_stored() -> None:
    served = [answer(at, at / 7) for at in range(0, 10_000, POLL_MS)]
    stored = [Stored(one.served_at[0] + 40, one.served_at[0] / 7) for one in served]
    tally = one_metric(served, stored)
    assert counts(tally) == {"produced": 10, "stored": 10}
    assert tally.is_clean


def test_nothing_produced_is_not_clean() -> None:
    assert not reconcile({}, {}, []).is_clean


def test_a_loss_is_named() -> None:
    tally = one_metric([answer(1000, 1.0), answer(2000, 2.0)], [Stored(1040, 1.0)])
    assert counts(tally) == {"produced": 2, "stored": 1, "lost": 1}
    assert [(o.verdict, o.metric, o.at, o.served, o.stored) for o in tally.offenders] == [
        ("lost", "m", 2000, 2.0, None)
    ]


def test_two_answers_on_one_row_are_one_loss() -> None:
    tally = one_metric([answer(1000, 1.0), answer(2000, 2.0)], [Stored(2040, 2.0)])
    assert counts(tally) == {"produced": 2, "stored": 1, "lost": 1}
    assert tally.offenders[0].at == 1000


def test_a_phantom_is_duplicated() -> None:
    tally = one_metric([answer(1000)], [Stored(1040, 1.5), Stored(1041, 1.5)])
    assert counts(tally) == {"produced": 1, "stored": 1, "duplicated": 1}
    assert not tally.is_clean


def test_a_wrong_value_shows_both() -> None:
    tally = one_metric([answer(1000, 1.5)], [Stored(1040, 1.6)])
    assert counts(tally) == {"produced": 1, "wrong": 1}
    assert (tally.offenders[0].served, tally.offenders[0].stored) == (1.5, 1.6)


def test_a_row_before_its_answer_is_not_its_own_but_within_the_slack() -> None:
    assert counts(one_metric([answer(1000)], [Stored(1000 - SLACK_MS, 1.5)])) == {"produced": 1, "stored": 1}
    assert counts(one_metric([answer(1000)], [Stored(998, 1.5)])) == {"produced": 1, "lost": 1, "duplicated": 1}


def test_a_gap_declares_what_was_served_in_it_and_nothing_else() -> None:
    served = [answer(at) for at in (1000, 2000, 3000)]
    tally = one_metric(served, [], [Span(1500, 2500)])
    assert counts(tally) == {"produced": 3, "declared": 1, "lost": 2}


def test_what_is_stored_is_stored_even_in_a_gap() -> None:
    assert counts(one_metric([answer(1000)], [Stored(1040, 1.5)], [Span(0, 5000)])) == {"produced": 1, "stored": 1}


def test_a_gap_does_not_excuse_a_wrong_value_nor_a_phantom() -> None:
    tally = one_metric([answer(1000)], [Stored(1040, 7.0), Stored(1050, 7.0)], [Span(0, 5000)])
    assert counts(tally) == {"produced": 1, "wrong": 1, "duplicated": 1}


def test_a_bad_row_declares_its_poll_and_is_no_phantom() -> None:
    tally = one_metric([answer(1000)], [Stored(1040, None, is_good=False), Stored(2040, None, is_good=False)])
    assert counts(tally) == {"produced": 1, "declared": 1}


def test_an_answer_after_the_agent_gave_up_is_declared_by_the_bad_row_between() -> None:
    late = answer(4500, 9.0, asked_at=1000)
    stored = [Stored(4000, None, is_good=False), Stored(5040, 5.0)]
    assert counts(one_metric([late, answer(5000, 5.0)], stored)) == {"produced": 2, "stored": 1, "declared": 1}
    assert counts(one_metric([late, answer(5000, 5.0)], stored[1:])) == {"produced": 2, "stored": 1, "lost": 1}


def test_a_bad_row_excuses_one_reading_and_not_the_loss_before_it() -> None:
    bad = Stored(3040, None, is_good=False)
    assert counts(one_metric([answer(2000), answer(3000)], [bad])) == {"produced": 2, "declared": 1, "lost": 1}


def test_a_bad_row_after_a_refusal_excuses_no_reading() -> None:
    served, stored = [answer(2000), answer(4000)], [Stored(3040, None, is_good=False), Stored(4040, 1.5)]
    lost = reconcile({"m": served}, {"m": stored}, [], {"m": [3000]})
    assert counts(lost) == {"produced": 2, "stored": 1, "lost": 1}
    # Refused in its own poll, as a part of a larger read, and then read alone: that is no refusal after it.
    assert counts(reconcile({"m": served}, {"m": stored}, [], {"m": [2000]})) == {
        "produced": 2,
        "stored": 1,
        "declared": 1,
    }


def test_a_metric_of_which_nothing_was_stored_is_not_clean_whatever_the_excuse() -> None:
    bad = [Stored(at + 40, None, is_good=False) for at in (1000, 2000)]
    tally = reconcile(
        {"a": [answer(1000), answer(2000)], "b": [answer(1000)]}, {"a": bad, "b": [Stored(1040, 1.5)]}, []
    )
    assert counts(tally) == {"produced": 3, "stored": 1, "declared": 2}
    assert (tally.never_stored, tally.is_clean) == (("a",), False)


def test_excuses_are_counted_by_kind() -> None:
    served = [answer(1000), answer(2000), answer(3000)]
    tally = one_metric(served, [Stored(1040, None, is_good=False), Stored(3040, 1.5)], [Span(1500, 2500)])
    assert tally.declared_by == {"bad": 1, "gap": 1}
    assert one_metric([frame(1000, excused=True)], []).declared_by == {"undelivered": 1}


def test_a_gap_that_is_too_wide_shows() -> None:
    served, stored = [answer(1000), answer(2000), answer(3000)], [Stored(1040, 1.5), Stored(3040, 1.5)]
    assert one_metric(served, stored, [Span(1040, 3040)]).stored_in_gaps == 0
    assert one_metric(served, stored, [Span(0, 9000)]).stored_in_gaps == 2


def test_how_late_a_row_is_stamped_shows() -> None:
    assert one_metric([answer(1000), answer(2000)], [Stored(1040, 1.5), Stored(2900, 1.5)]).latest_ms == 900


def test_two_rows_of_one_source_time_are_a_duplicate() -> None:
    stored = [Stored(1000, 1.5), Stored(1000, 1.5)]
    assert counts(one_metric([frame(1000)], stored)) == {"produced": 1, "stored": 1, "duplicated": 1}


def test_source_time_must_match_to_the_millisecond() -> None:
    assert counts(one_metric([frame(1000)], [Stored(1000, 1.5)])) == {"produced": 1, "stored": 1}
    assert counts(one_metric([frame(1000)], [Stored(1001, 1.5)])) == {"produced": 1, "lost": 1, "duplicated": 1}


def test_an_excused_frame_may_be_missing_but_not_wrong() -> None:
    assert counts(one_metric([frame(1000, excused=True)], [])) == {"produced": 1, "declared": 1}
    assert counts(one_metric([frame(1000, excused=True)], [Stored(1000, 2.0)])) == {"produced": 1, "wrong": 1}


def test_a_quote_served_again_after_a_gap_is_not_excused_by_it() -> None:
    served = [Expected((1.5,), (1000, 3000), 1000, source_at=900)]
    assert counts(one_metric(served, [], [Span(500, 1500)])) == {"produced": 1, "lost": 1}
    assert counts(one_metric(served, [], [Span(500, 3500)])) == {"produced": 1, "declared": 1}


def test_a_metric_that_is_nowhere_is_lost_and_one_that_was_not_served_is_not_judged() -> None:
    tally = reconcile({"a": [answer(1000)]}, {"b": [Stored(1040, 1.5)]}, [])
    assert counts(tally) == {"produced": 1, "lost": 1}


def test_readings_with_and_without_source_time_do_not_mix() -> None:
    with pytest.raises(ValueError, match="cannot be paired together"):
        pair([frame(1000), answer(1000)], [])


@pytest.mark.parametrize(
    ("served", "stored", "same"),
    [
        (True, 1.0, True),
        (False, 0.0, True),
        (True, 0.0, False),
        (2**53 + 1, float(2**53), True),
        (0.1 + 0.2, 0.3, True),
        (1.0, 1.000001, False),
        (0.0, 1e-12, False),
        ("a", "a", True),
        ("a", "b", False),
        ("1", 1.0, False),
        (1.0, "1", False),
        (1.0, None, False),
    ],
)
def test_same_value(served: float | str, stored: float | str | None, same: bool) -> None:  # noqa: FBT001 - a table of cases
    assert is_same(served, stored) is same


# Close together, so that answers, rows and gaps meet at their ends.
small_times = st.integers(0, 30)
small_values = st.sampled_from([1.0, 2.0])
answers = st.lists(
    st.builds(
        lambda at, lasted, value: Expected((value,), (at,), at - lasted),
        small_times,
        st.sampled_from([0, 0, 5]),
        small_values,
    ),
    max_size=12,
)
rows = st.lists(
    st.builds(
        lambda at, value, good: Stored(at, value if good else None, good),
        small_times,
        small_values,
        st.sampled_from([True, True, True, False]),
    ),
    max_size=12,
    unique_by=lambda row: row.sampled_at,
)
spans = st.lists(st.builds(lambda a, b: Span(min(a, b), max(a, b)), small_times, small_times), max_size=2)


def oracle(served: list[Expected], stored: list[Stored], gaps: list[Span], refused: list[int]) -> dict[str, int]:
    """The rule of `reconcile` for readings without a source time, word by word and slowly."""
    found = dict.fromkeys(("stored", "declared", "lost", "duplicated", "wrong"), 0)
    owners: dict[int, list[Expected]] = {}
    homeless = []
    unused = sorted(row.sampled_at for row in stored if not row.is_good)
    for one in sorted(served, key=lambda one: one.served_at[0]):
        later = [row.sampled_at for row in stored if row.sampled_at >= one.served_at[0] - 1]
        (owners.setdefault(min(later), []) if later else homeless).append(one)
    for row in sorted(stored, key=lambda row: row.sampled_at):
        claims = owners.get(row.sampled_at, [])
        if not row.is_good:
            if claims and not any(claims[-1].served_at[0] < at <= row.sampled_at for at in refused):
                claims.pop()
                found["declared"] += 1
                unused.remove(row.sampled_at)
            homeless += claims
        elif not claims:
            found["duplicated"] += 1
        else:
            right = [one for one in claims if row.value in one.values]
            found["stored" if right else "wrong"] += 1
            own = (right or claims)[-1]
            homeless += [one for one in claims if one is not own]
    for one in sorted(homeless, key=lambda one: one.served_at[0]):
        at = one.served_at[0]
        early = [bad for bad in unused if one.asked_at <= bad <= at]
        if early:
            unused.remove(early[0])
        said = early or any(gap.from_ms - 1 <= at <= gap.to_ms + 1 for gap in gaps)
        found["declared" if said else "lost"] += 1
    return found


@settings(max_examples=400, deadline=None)
@given(answers, rows, spans, st.lists(small_times, max_size=3).map(sorted))
def test_the_fast_way_is_the_slow_way(
    served: list[Expected], stored: list[Stored], gaps: list[Span], refused: list[int]
) -> None:
    tally = reconcile({"m": served}, {"m": stored}, gaps, {"m": refused})
    assert {name: getattr(tally, name) for name in ("stored", "declared", "lost", "duplicated", "wrong")} == oracle(
        served, stored, gaps, refused
    )
    assert tally.produced == tally.stored + tally.declared + tally.lost + tally.wrong
    assert len(tally.offenders) == tally.lost + tally.duplicated + tally.wrong


@given(
    source_times=st.lists(small_times, unique=True, max_size=12),
    missing=st.sets(small_times),
    spoiled=st.sets(small_times),
    invented=st.sets(st.integers(100, 160), max_size=5),
)
def test_every_fault_planted_among_source_times_is_found(
    source_times: list[int], missing: set[int], spoiled: set[int], invented: set[int]
) -> None:
    served = [frame(at, 1.5) for at in source_times]
    kept = [at for at in source_times if at not in missing]
    stored = [Stored(at, 9.0 if at in spoiled else 1.5) for at in kept] + [Stored(at, 1.5) for at in invented]
    tally = one_metric(served, stored)
    assert tally.produced == len(source_times)
    assert tally.lost == len(source_times) - len(kept)
    assert tally.wrong == sum(at in spoiled for at in kept)
    assert tally.duplicated == len(invented)
    assert tally.stored == len(kept) - tally.wrong


polls = st.lists(st.integers(2 * POLL_MS, 3 * POLL_MS), min_size=2, max_size=15)


@given(polls, st.data())
def test_a_fault_planted_in_a_clean_run_is_the_only_one_found(gaps_ms: list[int], data: st.DataObject) -> None:
    times = [sum(gaps_ms[: i + 1]) for i in range(len(gaps_ms))]
    served = [answer(at, float(i)) for i, at in enumerate(times)]
    stored = [Stored(at + 40, float(i)) for i, at in enumerate(times)]
    assert one_metric(served, stored).is_clean
    victim = data.draw(st.integers(0, len(times) - 1))
    without = stored[:victim] + stored[victim + 1 :]
    assert counts(one_metric(served, without)) == {"produced": len(times), "stored": len(times) - 1, "lost": 1}
    around = [Span(times[victim] - 5, times[victim] + 5)]
    assert counts(one_metric(served, without, around)) == {
        "produced": len(times),
        "stored": len(times) - 1,
        "declared": 1,
    }
    twice = [*stored, Stored(times[victim] + 500, float(victim))]
    assert counts(one_metric(served, twice)) == {"produced": len(times), "stored": len(times), "duplicated": 1}
    spoiled = [*without, replace(stored[victim], value=-1.0)]
    assert counts(one_metric(served, spoiled)) == {"produced": len(times), "stored": len(times) - 1, "wrong": 1}


def test_offenders_come_in_order_of_time() -> None:
    served = {"b": [answer(1000), answer(5000)], "a": [answer(3000)]}
    offenders = reconcile(served, {}, []).offenders
    assert all(one.at <= other.at for one, other in pairwise(offenders))
    assert len(offenders) == 3
