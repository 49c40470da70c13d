"""Which states are taken: whatever comes, in whatever order, however often, through any number of restarts."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contract.update_news import UpdateState
from edge.clock import AnchoredClock, MachineClock
from edge.errors import NotNowError, UpdateError
from edge.update.acceptance import accept, check_expiry
from edge.update.building import known_wall_ms
from edge.update.ledger import Ledger, Standing
from edge.update.retries import Retries

if TYPE_CHECKING:
    from pathlib import Path

NODE = ("updates", "edge-1")
ENDS = [UpdateState.CONFIRMED, UpdateState.REFUSED, UpdateState.ROLLED_BACK]


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.integers(1, 6), st.booleans(), st.sampled_from([*ENDS, UpdateState.FETCHING])), max_size=12)
)
def test_no_counter_is_taken_twice_and_none_that_is_older(
    tmp_path: Path, operator_key: Any, arrivals: list[tuple[int, bool, UpdateState]]
) -> None:
    path = tmp_path / "ledger.json"
    path.unlink(missing_ok=True)
    states = {}
    for counter in range(1, 7):
        for other in (False, True):
            states[counter, other] = operator_key.sign(operator_key.desire(b"x", counter=counter, version=str(other)))
    keys, taken, ended = [operator_key.key.public_key()], [], set()
    for counter, other, state in arrivals:
        ledger = Ledger(path)  # a restart before each
        ledger.load()
        try:
            accepted = accept(states[counter, other], keys, NODE, ledger.standings)
        except UpdateError:
            assert counter <= taken[-1][0]
            continue
        if accepted is None:
            assert taken[-1] in ended
            continue
        assert not taken or counter > taken[-1][0] or taken[-1] == (counter, other)
        assert (counter, other) not in ended
        taken.append((counter, other))
        if state.is_final:
            ended.add((counter, other))
        ledger.put(Standing("config", "config", counter, accepted.digest, str(other), state))


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"standings": []}', b'{"standings": {"a": {"state": "x"}}}'])
def test_a_ledger_that_cannot_be_read_is_no_empty_one(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "ledger.json").write_bytes(content)
    with pytest.raises(UpdateError, match="none is taken until it is put in order"):
        Ledger(tmp_path / "ledger.json").load()


def test_a_ledger_that_cannot_be_read_now_is_read_later(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.json")
    (tmp_path / "ledger.json").mkdir()
    with pytest.raises(NotNowError, match=r"ledger\.json, which has the counters of updates, cannot be read: Is a dir"):
        ledger.load()
    (tmp_path / "ledger.json").rmdir()
    ledger.load()


def test_a_ledger_of_a_newer_agent_is_understood(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.json")
    standing = Standing("config", "config", 7, "digest", "7", UpdateState.CONFIRMED)
    ledger.put(standing)
    document = json.loads((tmp_path / "ledger.json").read_bytes())
    document["standings"]["config/config"]["of_a_newer_agent"] = 1
    (tmp_path / "ledger.json").write_text(json.dumps(document))
    again = Ledger(tmp_path / "ledger.json")
    again.load()
    assert again.standings == {"config/config": standing}


def test_a_ledger_is_whole_after_each_note(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "deep" / "ledger.json")
    ledger.load()
    standing = Standing("model", "m", 3, "d", "1", UpdateState.CONFIRMED, None, "1", "s", "s")
    ledger.put(standing)
    again = Ledger(tmp_path / "deep" / "ledger.json")
    again.load()
    assert again.standings == {"model/m": standing}
    assert json.loads((tmp_path / "deep" / "ledger.json").read_bytes())["format"] == 1
    (tmp_path / "deep" / "ledger.json").unlink()
    (tmp_path / "deep").rmdir()
    (tmp_path / "deep").write_text("in its way")
    with pytest.raises(NotNowError, match="cannot be written"):
        ledger.put(standing)


def test_it_expires_by_a_time_that_is_known(operator_key: Any) -> None:
    now = datetime.now(UTC)
    desired = operator_key.desire(b"x", expires_at=now + timedelta(seconds=1))
    now_ms = int(now.timestamp() * 1000)
    check_expiry(desired, now_ms)
    with pytest.raises(UpdateError, match="has expired at"):
        check_expiry(desired, now_ms + 1001)
    with pytest.raises(NotNowError, match="the clock is not synchronised"):
        check_expiry(desired, None)


@pytest.mark.parametrize(
    ("synchronised", "wait_s", "is_known"),
    [(True, 300.0, True), (True, 0.0, True), (False, 300.0, False), (False, 0.0, True)],
)
def test_the_time_is_known_where_something_keeps_it_or_the_configuration_says_so(
    synchronised: bool,  # noqa: FBT001 - a parameter
    wait_s: float,
    is_known: bool,  # noqa: FBT001 - as above
) -> None:
    # A day after boot, so that the agent itself has long begun to believe it.
    machine = MachineClock(since_boot_ns=lambda: 86_400 * 10**9, is_synchronised=lambda: synchronised)
    assert (known_wall_ms(AnchoredClock(wait_s, machine), wait_s) is not None) == is_known


def test_what_waits_is_tried_less_and_less_often() -> None:
    retries = Retries(60)
    assert retries.is_due("a", 0)
    waits = []
    for _ in range(8):
        retries.put_off("a", 0)
        waits.append(retries.until_due_s(["a"], 0))
        assert not retries.is_due("a", 59)
    assert waits == [60, 120, 240, 480, 960, 1920, 3600, 3600]
    assert retries.until_due_s(["a", "b"], 0) == 0
    assert retries.until_due_s([], 0) is None
    retries.all_now()
    assert retries.is_due("a", 0)
    retries.put_off("a", 0)
    assert retries.until_due_s(["a"], 100) == 3500
    retries.forget("a")
    retries.put_off("a", 0)
    assert retries.until_due_s(["a"], 0) == 60
