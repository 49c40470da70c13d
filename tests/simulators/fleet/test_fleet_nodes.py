"""Nodes of a fleet on a real broker, with a host that tells what is durable when the test wants it to."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from contract.delivery import GAP
from contract.sparkplug import BD_SEQ
from contract.topics import MessageType
from simulators.errors import LedgerError
from simulators.fleet.run import run_fleet
from simulators.ledger import Header, read_ledger

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from simulators.fleet.run import Outcome
    from tests.simulators.fleet.conftest import Heard, Host, Run


@pytest.fixture
def fleet(host: Host, new_run: Callable[..., Run]) -> Callable[..., Run]:
    return partial(new_run, host)


async def until(what: str, condition: Any, timeout_s: float = 20) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {what}"
        await asyncio.sleep(0.02)


def stored(heard: list[Heard]) -> Mapping[int, Mapping[str, object]]:
    """By time: every reading of DDATA."""
    found: dict[int, dict[str, object]] = defaultdict(dict)
    for one in heard:
        for metric in one.payload.metrics:
            found[metric.timestamp_ms][metric.name] = metric.value
    return found


def test_a_node_is_born_tells_all_it_sampled_and_dies(host: Host, fleet: Any) -> None:
    run = fleet(nodes=2)
    outcome = run.go(1.0)
    assert (outcome.kept, outcome.unfinished) == (0, ())
    for node in ("sim-0000", "sim-0001"):
        births, deaths = host.of(MessageType.NBIRTH, node), host.of(MessageType.NDEATH, node)
        assert [one.payload.seq for one in births] == [0]
        assert [one.payload.seq for one in host.of(MessageType.DBIRTH, node)] == [1]
        assert births[0].payload.metrics[0].name == BD_SEQ
        assert [one.payload.metrics[0].value for one in (births[0], *deaths)] == [0, 0]
        assert deaths[0].payload.seq is None
        samples = run.samples(node)
        assert len(samples) >= 8
        assert stored(host.of(MessageType.DDATA, node)) == {one.source_at: one.values for one in samples}
        assert host.numbers(node) == list(range(1, len(samples) + 1))
        seqs = [one.payload.seq for one in host.of(MessageType.DDATA, node)]
        assert seqs == list(range(2, len(samples) + 2))
    header = next(iter(read_ledger(run.ledger)))
    assert isinstance(header, Header)


def test_nothing_is_forgotten_before_the_host_has_said_so(host: Host, fleet: Any) -> None:
    host.is_durable = False
    run = fleet(nodes=1, drain_s=0.5)
    outcome = run.go(0.5)
    assert outcome.kept == len(run.samples("sim-0000")) > 0
    assert outcome.unfinished == ("sim-0000",)
    assert outcome.counts.durable == 0


def test_without_an_answer_it_sends_again(host: Host, fleet: Any) -> None:
    host.is_durable = False
    run = fleet(nodes=1, resend_after_s=0.3)

    async def answer_late() -> Outcome:
        running = asyncio.ensure_future(run(0.5))
        await until("sent again", lambda: len(host.of(MessageType.DDATA)) > len(set(host.numbers("sim-0000"))))
        host.is_durable = True
        return await running

    outcome = asyncio.run(answer_late())
    host.settle()
    assert outcome.kept == 0
    assert outcome.counts.sent_again > 0
    assert stored(host.of(MessageType.DDATA)) == {one.source_at: one.values for one in run.samples("sim-0000")}


def test_births_come_when_they_are_asked_for(host: Host, fleet: Any) -> None:
    run = fleet(nodes=1)

    async def ask() -> None:
        running = asyncio.ensure_future(run(1.5))
        await until("data", lambda: host.of(MessageType.DDATA))
        host.ask_births("sim-0000")
        await until("born again", lambda: len(host.of(MessageType.NBIRTH)) == 2)
        await running

    asyncio.run(ask())
    host.settle()
    first, again = host.of(MessageType.NBIRTH)
    assert [metric.value for metric in again.payload.metrics] == [metric.value for metric in first.payload.metrics]
    assert (again.payload.seq, len(host.of(MessageType.DBIRTH)), len(host.of(MessageType.NDEATH))) == (0, 2, 1)


@pytest.mark.parametrize("is_silent", [False, True])
def test_a_line_that_is_lost_costs_nothing(host: Host, fleet: Any, is_silent: bool) -> None:  # noqa: FBT001 - pytest's way
    outages = [{"start_s": 0.5, "duration_s": 0.8, "silent": is_silent}]
    run = fleet(nodes=2, outages=outages, divert_after_s=0.3)
    outcome = run.go(2.0)
    assert outcome.kept == 0
    assert outcome.counts.lines_lost == 2
    for node in ("sim-0000", "sim-0001"):
        data = host.of(MessageType.DDATA, node)
        assert stored(data) == {one.source_at: one.values for one in run.samples(node)}
        assert len(run.samples(node)) >= 15, "it went on sampling"
        assert any(metric.is_historical for one in data for metric in one.payload.metrics)
        # The will of the first connection was told: when it was cut, or when its place was taken.
        assert [one.payload.metrics[0].value for one in host.of(MessageType.NDEATH, node)] == [0, 1]
        assert [one.payload.metrics[0].value for one in host.of(MessageType.NBIRTH, node)] == [0, 1]
        assert {
            one.stamp.batch.epoch - min(one.stamp.batch.epoch for one in data if one.stamp) for one in data if one.stamp
        } == {0, 1}


def test_a_backlog_that_overflows_is_declared(host: Host, fleet: Any) -> None:
    run = fleet(nodes=1, max_kept=5, interval_s=0.05, outages=[{"start_s": 0.2, "duration_s": 1.2}])
    outcome = run.go(2.0)
    assert outcome.kept == 0
    assert outcome.counts.evicted > 5
    data = host.of(MessageType.DDATA)
    gaps = [metric for one in data for metric in one.payload.metrics if metric.name == GAP]
    told = stored([one for one in data if one.payload.metrics[0].name != GAP])
    missing = [one.source_at for one in run.samples("sim-0000") if one.source_at not in told]
    assert len(gaps) == outcome.counts.gaps > 0
    spans = [(gap.properties["from"].value, gap.properties["to"].value) for gap in gaps]
    assert missing
    assert all(any(low <= at <= high for low, high in spans) for at in missing)


def test_nodes_that_come_and_go(host: Host, fleet: Any) -> None:
    churn = {"share": 1, "mean_up_s": 0.5, "mean_away_s": 0.5, "killed": 0.5}
    run = fleet(nodes=4, churn=churn)
    outcome = run.go(3.0)
    assert outcome.kept == 0
    assert outcome.counts.connections > 8
    for number in range(4):
        node = f"sim-{number:04}"
        assert stored(host.of(MessageType.DDATA, node)) == {one.source_at: one.values for one in run.samples(node)}
        assert len(run.samples(node)) < 30, "it samples nothing while it is off"
        told = [one.payload.metrics[0].value for one in host.of(MessageType.NDEATH, node)]
        assert told == [one.payload.metrics[0].value for one in host.of(MessageType.NBIRTH, node)]


def test_it_waits_for_its_host_and_comes_back_with_it(host: Host, fleet: Any) -> None:
    host.tell_state(online=False)
    run = fleet(nodes=1, broker={"primary_host": host.group})

    async def come_and_go() -> Outcome:
        running = asyncio.ensure_future(run(4.0))
        await asyncio.sleep(0.5)
        assert not host.of(MessageType.NBIRTH)
        host.tell_state(online=True)
        await until("born", lambda: host.of(MessageType.DDATA))
        host.tell_state(online=False)
        await until("gone", lambda: host.of(MessageType.NDEATH))
        host.tell_state(online=True)
        await until("born again", lambda: len(host.of(MessageType.NBIRTH)) == 2)
        return await running

    outcome = asyncio.run(come_and_go())
    host.settle()
    assert outcome.kept == 0
    assert stored(host.of(MessageType.DDATA)) == {one.source_at: one.values for one in run.samples("sim-0000")}


def test_a_duplicating_node_and_a_foreign_one(host: Host, fleet: Any) -> None:
    twice = fleet(nodes=1, misbehaving={"duplicate": 1})
    twice.go(0.5)
    data = host.of(MessageType.DDATA)
    assert len(data) == 2 * len(twice.samples("sim-0000")) > 0
    foreign = fleet(nodes=1, prefix="odd", misbehaving={"foreign": 1})
    foreign.go(0.5)
    told = host.of(MessageType.DDATA, "odd-0000")
    assert {(one.qos, one.stamp) for one in told} == {(0, None)}
    assert len(told) == len(foreign.samples("odd-0000")) > 0
    assert not any(one.promised for one in foreign.samples("odd-0000"))
    # By name alone nobody can read it; of the first, one metric more has an alias that no birth has told.
    assert [len(one.payload.rejected) for one in told] == [4, *[3] * (len(told) - 1)]


def test_a_slow_node_is_slow_and_loses_nothing(host: Host, fleet: Any) -> None:
    run = fleet(nodes=1, slow={"share": 1, "pause_s": 0.25})
    outcome = run.go(1.0)
    assert outcome.kept == 0
    assert outcome.seconds > 0.25 * len(run.samples("sim-0000"))
    assert host.numbers("sim-0000") == list(range(1, len(run.samples("sim-0000")) + 1))


def test_a_ledger_that_cannot_be_written_ends_the_fleet(fleet: Callable[..., Run]) -> None:
    def disk_is_full(*_arguments: object, **_more: object) -> None:
        raise LedgerError("no space left")

    with pytest.raises(LedgerError, match="no space left"):
        asyncio.run(run_fleet(fleet(nodes=3).config, disk_is_full, duration_s=5, drain_s=5))
