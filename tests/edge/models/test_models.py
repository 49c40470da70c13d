"""Models served: results, versions that take over, and what becomes of those that are no good."""

from __future__ import annotations

import asyncio
import functools
import math
import os
import signal
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from contract.datatypes import DataType
from contract.manifest import ANOMALY, parse_manifest
from contract.sparkplug import Quality
from edge.models.served import STRIKES
from edge.models.telling import OF_EVERY_MODEL, STATE
from edge.polling import Poll
from edge.reading import MetricInfo, Reading

if TYPE_CHECKING:
    from collections.abc import Callable

MODELS = Path(__file__).parents[3] / "bench" / "edge" / "models"
# Up to eight windows may wait: a machine that is busy for two seconds loses none.
EVERY_MS = 300


def in_a_loop(test: Callable[..., Any]) -> Callable[..., None]:
    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        asyncio.run(test(*args, **kwargs))

    return run


def states(desk: Any, name: str) -> list[str]:
    return [r.value for poll in desk.polls if poll.source == name for r in poll.readings if r.metric == STATE]


@in_a_loop
async def test_windows_of_readings_become_results_each_once(
    desk: Any, served: Any, put_model: Callable[..., Path], tmp_path: Path, eventually: Any
) -> None:
    agent = desk()
    agent.models.change([served("m", put_model(tmp_path / "m"), every_s=EVERY_MS / 1000)])
    assert set(agent.models.metrics["m"]) == set(agent.devices["m"].metrics())
    async with agent.running():
        await eventually(lambda: len(agent.results("m")) >= 4, "results")
        assert 10 << 20 < agent.process["memory_bytes"] < 80 << 20
    ends = [reading.sampled_at_ms for reading in agent.results("m")]
    assert all(later - earlier == EVERY_MS for earlier, later in pairwise(ends))
    # `echo` tells the window: a is 1 and b is 0, oldest step first.
    names = [f"y/{step / 10:g}s/p50" for step in range(1, 9)]
    told = {reading.metric: reading.value for reading in agent.polls[-1].readings}
    assert [told[name] for name in names] == [1, 0] * 4
    assert states(agent, "m")[-1] == "ok"
    report = agent.of("m")
    assert (report["state"], report["version"], report["form"], report["failed"]) == ("ok", "1.0.0", "float32", 0)
    assert report["results"] == len(ends)
    assert agent.births == 0


@in_a_loop
async def test_a_version_takes_over_without_a_window_lost(
    desk: Any, served: Any, put_model: Callable[..., Path], tmp_path: Path, eventually: Any
) -> None:
    agent = desk()
    agent.models.change([served("m", put_model(tmp_path / "m"), every_s=EVERY_MS / 1000)])
    async with agent.running():
        await eventually(lambda: len(agent.results("m")) >= 3, "results")
        output = {
            "kind": "forecast",
            "targets": [{"name": "z", "of": ["a"]}],
            "horizons": [1, 2],
            "quantiles": [0.1, 0.3, 0.6, 0.9],
        }
        put_model(tmp_path / "m", version="2.0.0", output=output)
        await eventually(lambda: len([r for r in agent.results("m") if r.value == "2.0.0"]) >= 3, "results of the new")
    told = agent.results("m")
    ends = [reading.sampled_at_ms for reading in told]
    assert all(later - earlier == EVERY_MS for earlier, later in pairwise(ends))
    versions = [reading.value for reading in told]
    assert versions == sorted(versions)
    assert (agent.of("m")["swaps"], agent.of("m")["skipped"], agent.births) == (1, 0, 1)
    assert "z/0.2s/p90" in {info.name for info in agent.devices["m"].metrics()}
    # The window was whole from the first: what the one before had been fed with was known.
    assert all(r.quality == Quality.GOOD for poll in agent.polls for r in poll.readings)


@pytest.mark.parametrize(("net", "said"), [("hangs", "no answer within 0.5 s"), ("turns-nan", "are not finite")])
@in_a_loop
async def test_a_version_that_goes_bad_is_quarantined_and_the_one_before_returns(  # noqa: PLR0913, PLR0917 - fixtures
    net: str, said: str, desk: Any, served: Any, put_model: Callable[..., Path], tmp_path: Path, eventually: Any
) -> None:
    agent = desk(timeout_s=0.5)
    other = served("other", put_model(tmp_path / "other"), every_s=0.2)
    agent.models.change([served("m", put_model(tmp_path / "m", "steady"), "abcde", every_s=0.1), other])
    async with agent.running():
        await eventually(lambda: agent.results("m"), "results")
        put_model(tmp_path / "m", net, version="2.0.0")
        await eventually(lambda: agent.of("m")["version"] == "2.0.0" and agent.of("m")["state"] == "ok", "the new one")
        agent.value = 7.0
        await eventually(lambda: agent.of("m")["quarantined"], "the quarantine")
        await eventually(lambda: agent.of("m")["version"] == "1.0.0" and agent.of("m")["state"] == "ok", "the old one")
        count = len(agent.results("other"))
        await eventually(lambda: len(agent.results("other")) >= count + 3, "results of others")
    (told,) = agent.of("m")["quarantined"]
    assert told.startswith(f"{net} 2.0.0: ")
    assert said in told
    assert "quarantined" in states(agent, "m")
    assert agent.of("m")["failed"] == STRIKES
    assert agent.of("other")["failed"] == 0
    # When there was no result any more, it was told.
    assert any(r.quality == Quality.BAD and r.value is None for poll in agent.polls for r in poll.readings)
    # Values of before and after are told by the version that told them.
    assert [reading.value for reading in agent.results("m")][-1] == "1.0.0"


@in_a_loop
async def test_a_quarantined_version_stays_out_until_there_is_another(
    desk: Any, served: Any, put_model: Callable[..., Path], tmp_path: Path, eventually: Any
) -> None:
    agent = desk()
    agent.models.change([served("m", put_model(tmp_path / "m", "turns-nan"), "abcde", every_s=0.1)])
    agent.value = 7.0
    async with agent.running():
        await eventually(lambda: agent.of("m")["state"] == "quarantined", "the quarantine")
        os.utime(tmp_path / "m" / "manifest.json")
        served_object = agent.models.served["m"]
        stamp = served_object.stamp
        await eventually(lambda: served_object.stamp != stamp, "the directory is looked at")
        assert agent.of("m")["state"] == "quarantined"
        assert agent.of("m")["version"] is None
        put_model(tmp_path / "m", "steady", version="3.0.0")
        await eventually(lambda: agent.of("m")["state"] == "ok", "the next version")
    assert {reading.value for reading in agent.results("m")} == {"3.0.0"}


@in_a_loop
async def test_a_process_that_is_killed_is_started_again_and_no_window_is_lost(
    desk: Any, served: Any, put_model: Callable[..., Path], tmp_path: Path, eventually: Any
) -> None:
    agent = desk()
    agent.models.change([served("m", put_model(tmp_path / "m"), every_s=0.5)])
    async with agent.running():
        await eventually(lambda: len(agent.results("m")) >= 2, "results")
        pid = agent.process["pid"]
        os.kill(pid, signal.SIGKILL)
        await eventually(lambda: agent.process["pid"] not in {None, pid}, "another process")
        count = len(agent.results("m"))
        await eventually(lambda: len(agent.results("m")) >= count + 3, "results")
    ends = [reading.sampled_at_ms for reading in agent.results("m")]
    assert {later - earlier for earlier, later in pairwise(ends)} == {500}, str(agent.of("m"))
    assert (agent.process["losses"], agent.of("m")["state"], agent.of("m")["failed"]) == (1, "ok", 0)


@in_a_loop
async def test_without_enough_in_the_window_there_is_no_result_and_it_is_told_once(
    desk: Any, served: Any, put_model: Callable[..., Path], tmp_path: Path, eventually: Any
) -> None:
    agent = desk()
    agent.models.change([served("m", put_model(tmp_path / "m"))])
    async with agent.running():
        await eventually(lambda: agent.results("m"), "results")
        agent.value = math.nan
        await eventually(lambda: agent.of("m")["no_window"] >= 5, "windows without a result")
        assert agent.of("m")["state"] == "waiting"
        assert "most of it: a" in agent.of("m")["reason"] or "a has no good reading" in agent.of("m")["reason"]
        agent.value = 2.0
        await eventually(lambda: agent.of("m")["state"] == "ok", "results again")
    told = [poll.readings for poll in agent.polls if any(r.quality == Quality.BAD for r in poll.readings)]
    assert len(told) == 1
    assert states(agent, "m")[-3:] == ["ok", "waiting", "ok"]


@in_a_loop
async def test_a_copy_serves_when_the_directory_has_nothing_good_at_the_start(
    desk: Any, served: Any, put_model: Callable[..., Path], tmp_path: Path, eventually: Any
) -> None:
    model = served("m", put_model(tmp_path / "m"))
    first = desk()
    first.models.change([model])
    async with first.running():
        # A result is told before the copy that gave it is marked as good on the disk.
        await eventually(first.models.served["m"].store.proven, "a copy that has given results")
    (tmp_path / "m" / "manifest.json").write_text("{")
    agent = desk()
    agent.models.change([model])
    # Until it is served nothing is known of what it may tell.
    assert agent.models.metrics["m"] == OF_EVERY_MODEL
    async with agent.running():
        await eventually(lambda: agent.results("m"), "results of the copy")
    assert "is not JSON" in agent.of("m")["refused"]
    assert agent.births == 1


@in_a_loop
async def test_models_come_and_go_while_others_are_served(
    desk: Any, served: Any, put_model: Callable[..., Path], tmp_path: Path, eventually: Any
) -> None:
    agent = desk()
    first, second = (served(name, put_model(tmp_path / name), every_s=EVERY_MS / 1000) for name in ("first", "second"))
    agent.models.change([])
    async with agent.running():
        assert agent.process["pid"] is None
        agent.models.change([first])
        await eventually(lambda: agent.results("first"), "results of the first")
        pid = agent.process["pid"]
        agent.models.change([first, second])
        await eventually(lambda: agent.results("second"), "results of the second")
        agent.models.change([second])
        assert set(agent.devices) == {"second"}
        count, gone = len(agent.results("second")), len(agent.results("first"))
        await eventually(lambda: len(agent.results("second")) >= count + 3, "results of the second alone")
        assert (len(agent.results("first")), agent.process["pid"]) == (gone, pid)
        agent.models.close()
        await eventually(lambda: agent.process["pid"] is None, "no process for no model")
    ends = [reading.sampled_at_ms for reading in agent.results("second")]
    assert all(later - earlier == EVERY_MS for earlier, later in pairwise(ends))


@in_a_loop
async def test_a_reading_from_the_future_pushes_nothing_out(
    desk: Any, served: Any, put_model: Callable[..., Path], tmp_path: Path, eventually: Any
) -> None:
    agent = desk()
    agent.models.change([served("m", put_model(tmp_path / "m"))])
    async with agent.running():
        await eventually(lambda: agent.results("m"), "results")
        at_ms = agent.models._now_ms()
        ahead = [Reading(name, DataType.FLOAT, 9.0, at_ms + 3_600_000) for name in "ab"]
        agent.models.take(Poll("s", ahead, at_ms, at_ms))
        count = len(agent.results("m"))
        await eventually(lambda: len(agent.results("m")) >= count + 5, "results")
    assert all(r.quality == Quality.GOOD for poll in agent.polls for r in poll.readings)


@in_a_loop
async def test_the_models_of_the_benchmark_are_served_together(desk: Any, served: Any, eventually: Any) -> None:
    agent = desk()
    configs = []
    for name in ("tank-forecast", "pump-anomaly"):
        manifest = parse_manifest((MODELS / name / "manifest.json").read_bytes(), name)
        inputs = {each.name: f"s/{each.name}" for each in manifest.inputs}
        configs.append(served(name, MODELS / name, inputs=inputs, every_s=1.0))
    infos = [MetricInfo(name.partition("/")[2], DataType.FLOAT) for each in configs for name in each.inputs.values()]
    agent.models._metrics_of = agent.models._admission._metrics_of = lambda _: infos
    agent.models.change(configs)
    at_ms = agent.models._now_ms()
    for ago in range(70, 0, -1):
        then_ms = at_ms - 1000 * ago
        agent.models.take(Poll("s", [Reading(info.name, DataType.FLOAT, 1.0, then_ms) for info in infos], at_ms, at_ms))
    async with agent.running():
        await eventually(lambda: agent.results("tank-forecast") and agent.results("pump-anomaly"), "results of both")
    # What was fed is like nothing that the pumps have ever shown.
    assert any(r.metric == ANOMALY and r.value is True for poll in agent.polls for r in poll.readings)
