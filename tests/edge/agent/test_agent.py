"""The whole agent as a process, between a real HTTP source and a real broker."""

from __future__ import annotations

import re
import shutil
import signal
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest

from contract.delivery import GAP, Gap
from contract.sparkplug import Quality
from contract.topics import MessageType

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from stack import Mosquitto

GROUP = "agents"


def stored(bridge: Any) -> list[tuple[int, float]]:
    """The good readings that came through, as (sampled_at_ms, temperature), each once."""
    found = {
        (metric.timestamp_ms, metric.value)
        for message in bridge.of_type(MessageType.DDATA)
        for metric in message.payload.metrics
        if metric.name == "temperature_2m" and metric.quality == Quality.GOOD
    }
    return sorted(found)


def gaps(bridge: Any) -> list[Gap]:
    return [
        Gap.from_metric(metric)
        for message in bridge.of_type(MessageType.DDATA)
        for metric in message.payload.metrics
        if metric.name == GAP
    ]


def test_all_that_was_served_arrives_and_a_stop_delivers_the_rest(
    broker: Mosquitto,
    new_bridge: Callable[..., Any],
    start_agent: Callable[..., Any],
    weather_api: tuple[Any, str],
    wait_for: Any,
) -> None:
    bridge = new_bridge(broker.port, GROUP)
    agent = start_agent()
    wait_for(lambda: len(stored(bridge)) >= 20, "readings")
    wait_for(lambda: bridge.of_type(MessageType.NDATA), "the node's own metrics")
    report = agent.health()
    assert (report["node"], report["uplink"]["connected"]) == (f"{GROUP}/edge-1", True)
    weather = report["sources"]["weather"]
    assert (weather["state"], weather["error"]) == ("ok", None)
    assert weather["readings"] >= 20
    assert "temperature_2m" in weather["last"]
    assert agent.end() == 0
    wait_for(lambda: bridge.of_type(MessageType.NDEATH), "the death")
    assert stored(bridge) == weather_api[0].served
    names = {metric.name: metric.value for metric in bridge.of_type(MessageType.NDATA)[-1].payload.metrics}
    assert names["Health/weather/Polls"] > 0
    assert names["Health/weather/Failures"] == 0
    # 1 GB devices: an agent of light sources stays below a tenth.
    assert 0 < names["Health/Memory"] < 90


def test_what_hardly_changes_is_told_once_and_again_after_births(
    broker: Mosquitto, new_bridge: Callable[..., Any], start_agent: Callable[..., Any], wait_for: Any
) -> None:
    bridge = new_bridge(broker.port, GROUP)
    agent = start_agent()

    def told(name: str) -> dict[int, Any]:
        messages = bridge.of_type(MessageType.NDATA)
        return {m.timestamp_ms: m.value for message in messages for m in message.payload.metrics if m.name == name}

    # It may have been told once before the births, too.
    wait_for(lambda: len(told("Health/Uptime")) > len(told("Health/Version")) + 1 > 1, "the node's own metrics")
    report, before = agent.health(), len(told("Health/Version"))
    bridge.ask_rebirth("edge-1")
    wait_for(lambda: len(told("Health/Version")) > before, "the version again")
    assert agent.end() == 0
    assert set(told("Health/Version").values()) == {report["version"]}
    assert set(told("Health/Spool Limit").values()) == {report["spool"]["max_bytes"]}
    (size,) = set(told("Health/Disk Size").values())
    assert all(0 < free < size for free in told("Health/Disk Free").values())


def test_a_killed_agent_loses_nothing_it_had_spooled_and_declares_the_rest(
    broker: Mosquitto,
    new_bridge: Callable[..., Any],
    start_agent: Callable[..., Any],
    weather_api: tuple[Any, str],
    wait_for: Any,
) -> None:
    bridge = new_bridge(broker.port, GROUP, answers=False)
    agent = start_agent()
    wait_for(lambda: len(weather_api[0].served) >= 20, "readings")
    agent.end(signal.SIGKILL)
    wait_for(lambda: bridge.of_type(MessageType.NDEATH), "the will")
    bridge.answers = True
    agent = start_agent()
    wait_for(lambda: gaps(bridge), "the gap")
    assert agent.end() == 0
    (gap,) = set(gaps(bridge))
    assert gap.reason == "agent killed"
    missing = set(weather_api[0].served) - set(stored(bridge))
    assert all(gap.from_ms <= at <= gap.to_ms for at, _ in missing)
    assert len(missing) <= 10, "what was polled within a commit interval"
    assert bridge.of_type(MessageType.NBIRTH)[-1].payload.metrics[0].value == 1, "bdSeq goes on"


def test_a_stopped_agent_declares_the_pause(
    broker: Mosquitto, new_bridge: Callable[..., Any], start_agent: Callable[..., Any], wait_for: Any
) -> None:
    bridge = new_bridge(broker.port, GROUP)
    agent = start_agent()
    wait_for(lambda: stored(bridge), "readings")
    assert agent.end(signal.SIGINT) == 0
    agent = start_agent()
    wait_for(lambda: gaps(bridge), "the gap")
    assert agent.end() == 0
    assert {gap.reason for gap in gaps(bridge)} == {"agent stopped"}


def test_broker_killed_and_wiped_while_the_source_goes_on(
    broker: Mosquitto,
    new_bridge: Callable[..., Any],
    start_agent: Callable[..., Any],
    weather_api: tuple[Any, str],
    wait_for: Any,
) -> None:
    bridge = new_bridge(broker.port, GROUP)
    agent = start_agent()
    wait_for(lambda: len(stored(bridge)) >= 5, "readings")
    broker.kill()
    shutil.rmtree(broker.data_dir)
    served = len(weather_api[0].served)
    wait_for(lambda: len(weather_api[0].served) >= served + 10, "polled on without a broker")
    wait_for(lambda: not agent.health()["uplink"]["connected"], "the loss is known")
    broker.start()
    wait_for(lambda: len(stored(bridge)) > served + 10, "readings again")
    assert agent.end() == 0
    assert stored(bridge) == weather_api[0].served


def test_a_failing_source_is_shown_and_recovers(
    broker: Mosquitto,
    new_bridge: Callable[..., Any],
    start_agent: Callable[..., Any],
    weather_api: tuple[Any, str],
    wait_for: Any,
) -> None:
    bridge = new_bridge(broker.port, GROUP)
    api, _ = weather_api
    agent = start_agent()
    wait_for(lambda: stored(bridge), "readings")
    api.fails = True
    wait_for(lambda: agent.health()["sources"]["weather"]["state"] == "failing", "the failure")
    api.fails = False
    wait_for(lambda: agent.health()["sources"]["weather"]["state"] == "ok", "the recovery")
    assert agent.end() == 0
    bad = [m for r in bridge.of_type(MessageType.DDATA) for m in r.payload.metrics if m.quality == Quality.BAD]
    assert {(m.name, m.value) for m in bad} == {("temperature_2m", None)}
    assert agent.log().count("works again") == 1


def test_without_a_broker_a_stop_waits_no_longer_than_it_may_and_a_second_signal_not_at_all(
    broker: Mosquitto, start_agent: Callable[..., Any], weather_api: tuple[Any, str], wait_for: Any
) -> None:
    broker.stop()
    agent = start_agent(drain_timeout_s=0.5)
    wait_for(lambda: len(weather_api[0].served) >= 3, "polls")
    assert agent.end(timeout_s=15) == 0
    assert re.search(r"stopping: up to 0\.5 s for \d+ batches to be delivered", agent.log())
    assert "batches in the spool, for the next run" in agent.log()
    agent = start_agent(drain_timeout_s=600)
    agent.send(signal.SIGTERM)
    wait_for(lambda: "stopping" in agent.log(), "the stop")
    assert agent.end(timeout_s=15) == 0


def test_a_second_agent_on_the_same_state_is_refused(broker: Mosquitto, start_agent: Callable[..., Any]) -> None:
    assert broker.running
    first = start_agent()
    second = start_agent()
    assert second.wait(10) == 1
    assert "used by another agent" in second.log()
    assert first.process.exitcode is None


def test_a_spoilt_spool_is_no_failed_start(
    broker: Mosquitto,
    new_bridge: Callable[..., Any],
    start_agent: Callable[..., Any],
    tmp_path: Path,
    wait_for: Any,
) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "spool-1000.db").write_bytes(b"garbage" * 1000)
    bridge = new_bridge(broker.port, GROUP)
    agent = start_agent()
    wait_for(lambda: gaps(bridge), "the loss is declared")
    assert agent.end() == 0
    assert gaps(bridge)[0].reason == "spool corrupt"
    assert (tmp_path / "state" / "spool-1000.db.corrupt").exists()


def test_the_health_page_knows_one_path_and_bounds_what_it_reads(start_agent: Callable[..., Any]) -> None:
    agent = start_agent()
    port = agent.health_port
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/other", timeout=5)
    assert caught.value.code == 404
    caught.value.close()
    request = urllib.request.Request(f"http://127.0.0.1:{port}/healthz", headers={"X": "x" * 20_000})
    with pytest.raises((urllib.error.URLError, ConnectionError)):
        urllib.request.urlopen(request, timeout=5)
    assert agent.health()["version"]


def test_kills_of_every_kind_in_turn_lose_nothing_that_is_not_declared(
    broker: Mosquitto,
    new_bridge: Callable[..., Any],
    start_agent: Callable[..., Any],
    weather_api: tuple[Any, str],
    wait_for: Any,
) -> None:
    bridge = new_bridge(broker.port, GROUP)
    api, _ = weather_api
    agent = start_agent()
    for turn in range(6):
        served = len(api.served)
        wait_for(lambda at_least=served + 10: len(api.served) >= at_least, "polls")
        match turn % 4:
            case 0:
                agent.end(signal.SIGKILL)
                agent = start_agent()
            case 1:
                broker.kill()
                shutil.rmtree(broker.data_dir)
                broker.start()
            case 2:
                bridge.answers = not bridge.answers
            case 3:
                agent.end(signal.SIGKILL)
                broker.kill()
                agent = start_agent()
                broker.start()
    bridge.answers = True
    assert agent.end(timeout_s=60) == 0
    wait_for(lambda: bridge.of_type(MessageType.NDEATH), "the death")
    declared = gaps(bridge)
    missing = set(api.served) - set(stored(bridge))
    assert set(stored(bridge)) <= set(api.served)
    assert [at for at, _ in missing if not any(gap.from_ms <= at <= gap.to_ms for gap in declared)] == []
    assert len(missing) <= 4 * 10
