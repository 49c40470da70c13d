"""Configurations as updates: through a real broker into a whole agent, confirmed, put back or refused."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import re
from typing import TYPE_CHECKING, Any

import pytest

from contract.topics import MessageType
from contract.update import desired_topic
from edge.__main__ import main
from edge.errors import EdgeError
from edge.health.exposition import exposition
from edge.health.page import health_page
from edge.update.config import UpdateConfig
from edge.update.config_kind import ConfigKind
from edge.update.configuration import ConfigurationFile, hold_trial
from edge.update.ledger import replace_file
from edge.update.probe import Condition

if TYPE_CHECKING:
    from pathlib import Path


def test_a_good_one_is_confirmed_and_told_also_to_a_node_that_was_away(site: Any, eventually: Any) -> None:
    wanted = site.text(sources=site.source(interval_s=0.1))
    desired = site.operator.roll_out(wanted, version="slower", chunk_bytes=100)

    async def scenario() -> None:
        async with site.run() as node:
            await eventually(lambda: "confirmed" in node.states(desired.counter), "it is confirmed")
            assert node.states(desired.counter) == ["fetching", "trying", "confirmed"]
            assert node.told()[-1].running == "slower"
            assert node.agent.config.sources[0].interval_s == 0.1
            # Of the same content there is nothing to try.
            again = site.operator.roll_out(wanted, version="same", node="*")
            await eventually(lambda: "confirmed" in node.states(again.counter), "that it runs")
            assert node.states(again.counter) == ["fetching", "confirmed"]

    asyncio.run(scenario())
    assert site.path.read_bytes() == wanted
    assert site.left_behind() == []
    assert list((site.directory / "state" / "updates" / "staging").iterdir()) == []


async def put_back(site: Any, node: Any, eventually: Any, closed_port: int) -> Any:
    """What the node tells of a configuration whose source fails, once it is put back."""
    wanted = site.source(base_url=f"http://127.0.0.1:{closed_port}")
    desired = site.operator.roll_out(site.text(sources=wanted))
    await eventually(lambda: "rolled_back" in node.states(desired.counter), "it is put back")
    news = node.told()[-1]
    assert "source weather is failing" in news.reason
    return news


def test_one_with_which_a_source_fails_is_put_back(site: Any, eventually: Any, closed_port: int) -> None:
    async def scenario() -> None:
        async with site.run() as node:
            await eventually(node.told, "births")
            news = await put_back(site, node, eventually, closed_port)
            assert news.running is None
            served = len(site.served)
            await eventually(lambda: len(site.served) > served, "the source of before is polled")

    before = site.path.read_bytes()
    asyncio.run(scenario())
    assert site.path.read_bytes() == before
    assert site.left_behind() == []


def test_what_was_before_stays_until_it_is_put_back_where_the_disk_is_full_a_while(
    site: Any, eventually: Any, closed_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.update.kinds._AGAIN_S", 0.05)
    before = site.path.read_bytes()
    refused: list[Path] = []

    def full(path: Path, content: bytes, like: Path | None = None) -> None:
        if path == site.path and content == before and len(refused) < 3:
            refused.append(path)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace_file(path, content, like)

    monkeypatch.setattr("edge.update.configuration.replace_file", full)

    async def scenario() -> None:
        async with site.run() as node:
            await eventually(node.told, "births")
            await put_back(site, node, eventually, closed_port)

    asyncio.run(scenario())
    assert len(refused) == 3
    assert site.path.read_bytes() == before
    assert site.left_behind() == []


@pytest.mark.parametrize("is_in_place", [False, True], ids=["not in its place", "in its place, perhaps"])
def test_a_disk_that_fails_when_it_is_to_be_tried_is_waited_for(
    site: Any, eventually: Any, monkeypatch: pytest.MonkeyPatch, *, is_in_place: bool
) -> None:
    failed = []

    def fail(path: Path, content: bytes, like: Path | None = None) -> None:
        if path != site.path or failed:
            replace_file(path, content, like)
            return
        failed.append(path)
        if is_in_place:
            replace_file(path, content, like)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr("edge.update.configuration.replace_file", fail)

    async def scenario() -> None:
        async with site.run() as node:
            await eventually(node.told, "births")
            desired = site.operator.roll_out(site.text(sources=site.source(interval_s=0.1)))
            await eventually(lambda: "confirmed" in node.states(desired.counter), "it is tried again")
            assert failed
            assert "refused" not in node.states(desired.counter)
            (waited,) = [news.reason for news in node.told() if news.state == "waiting"]
            assert waited.endswith("edge.yaml: cannot be replaced: Input/output error")
            assert node.agent.config.sources[0].interval_s == 0.1

    asyncio.run(scenario())
    assert site.left_behind() == []


class Deaf:
    """An agent that works no more, and does not take in a configuration either."""

    condition = Condition(connected=False, marks=0, sources={})

    async def reload(self) -> str | None:
        raise EdgeError("the agent is stopping")


def test_one_of_before_that_is_not_taken_in_is_told_with_the_rest(site: Any) -> None:
    before = site.path.read_bytes()
    file, host = ConfigurationFile(site.path), Deaf()
    file.begin_trial(b"new: 1", 3, [])
    kind = ConfigKind(host, UpdateConfig(confirm_s=1), file, environment={})  # type: ignore[arg-type]  # as much of one as this needs
    outcome = asyncio.run(kind.settle("config", None))
    assert outcome is not None
    assert outcome.state == "rolled_back"
    assert str(outcome.reason).endswith("and the one of before is not reloaded: the agent is stopping")
    assert site.path.read_bytes() == before


def test_a_note_of_a_newer_agent_is_understood(site: Any) -> None:
    file = ConfigurationFile(site.path)
    trial = file.begin_trial(b"new: 1", 3, ["plant"])
    note = site.path.with_name(".edge.yaml.trial")
    note.write_text(json.dumps(json.loads(note.read_text()) | {"of_a_newer_agent": 1}))
    assert file.trial() == trial


def test_without_room_or_chunks_it_waits_and_what_is_taken_back_is_not_gone_on_with(site: Any, eventually: Any) -> None:
    good = site.text(sources=site.source(interval_s=0.1))

    async def scenario() -> None:
        async with site.run() as node:
            node.agent.room_bytes = room = Room()
            await eventually(node.told, "births")
            desired = site.operator.roll_out(good)
            await eventually(lambda: "waiting" in node.states(desired.counter), "it waits")
            assert "the disk has no room for" in node.told()[-1].reason
            site.operator.publish(desired_topic("updates", "edge-1", "config", "config"), b"")
            await eventually(lambda: node.told()[-1].reason == "it was taken back", "it is not gone on with")
            room.is_there = True
            later = site.operator.roll_out(site.text(sources=site.source(interval_s=0.2)))
            await eventually(lambda: "confirmed" in node.states(later.counter), "there is room at last")
            assert node.states(desired.counter)[-1] == "waiting"

    asyncio.run(scenario())


class Room:
    is_there = False

    async def __call__(self) -> int:
        return 1 << 30 if self.is_there else 10


def test_what_needs_a_restart_is_tried_after_it(
    site: Any, eventually: Any, monkeypatch: pytest.MonkeyPatch, closed_port: int
) -> None:
    monkeypatch.setenv("INVOCATION_ID", "as systemd sets it")
    good = site.text(jitter_s=0.01)
    broken = site.text(mqtt=site.document["mqtt"] | {"port": closed_port, "connect_timeout_s": 0.5})

    async def until_restart(content: bytes) -> None:
        async with site.run() as node:
            await eventually(node.told, "births")
            site.operator.roll_out(content)
            await eventually(lambda: node.agent.wants_restart, "a restart")

    async def until_told(state: str) -> Any:
        async with site.run() as node:
            await eventually(lambda: state in node.states(site.operator.counter), state)
            return node.told()[-1]

    async def until_given_up() -> None:
        async with site.run() as node:
            await eventually(lambda: node.agent.wants_restart, "it is given up")

    asyncio.run(until_restart(good))
    assert "start 1 of 3" in str(hold_trial(site.path))
    asyncio.run(until_told("confirmed"))
    assert hold_trial(site.path) is None

    asyncio.run(until_restart(broken))
    assert site.path.read_bytes() == broken
    assert "start 1 of 3" in str(hold_trial(site.path))
    asyncio.run(until_given_up())
    assert "is put back: nothing is delivered" in str(hold_trial(site.path))
    assert site.path.read_bytes() == good
    assert "nothing is delivered" in asyncio.run(until_told("rolled_back")).reason
    assert site.left_behind() == []


def test_one_with_which_the_agent_does_not_even_start_is_put_back(
    site: Any, eventually: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INVOCATION_ID", "as systemd sets it")
    before = site.path.read_bytes()

    async def scenario() -> None:
        async with site.run() as node:
            await eventually(node.told, "births")
            site.operator.roll_out(site.text(jitter_s=0.01))
            await eventually(lambda: node.agent.wants_restart, "a restart")

    asyncio.run(scenario())
    assert site.path.read_bytes() != before
    for start in (1, 2, 3):
        assert f"start {start} of 3" in str(hold_trial(site.path))
    assert "was started 3 times with it" in str(hold_trial(site.path))
    assert site.path.read_bytes() == before


def test_status_and_metrics_say_how_it_went(site: Any, eventually: Any, capsys: pytest.CaptureFixture[str]) -> None:
    async def scenario() -> None:
        async with site.run() as node:
            await eventually(node.told, "births")
            site.operator.publish(desired_topic("updates", "edge-1", "config", "config"), b"nonsense")
            await eventually(lambda: node.agent.condition.connected, "births are taken")
            await eventually(lambda: node.agent._updates.report()["refused"] == 1, "nonsense is not taken")
            desired = site.operator.roll_out(b"nonsense: 1", version="hall-3")
            await eventually(lambda: "refused" in node.states(desired.counter), "it is refused")
            births = site.bridge.of_type(MessageType.NBIRTH)[-1].payload.metrics
            assert {"Update/agent/agent", "Update/config/config", "Update/Refused"} <= {each.name for each in births}
            report = await node.agent.report()
            assert "headwater_edge_updates_refused_total 1" in exposition(report)
            async with health_page(0, node.agent.report) as port:
                await asyncio.to_thread(main, ["status", "--url", f"http://127.0.0.1:{port}"])

    asyncio.run(scenario())
    said = capsys.readouterr().out
    assert re.search(r"config +- +hall-3 +refused +it cannot be used: ", said)
    assert (
        "not taken at all: 1, the last because 'headwater/updates/desired/edge-1/config/config': desired state" in said
    )
    assert "! update config to hall-3 was refused: it cannot be used" in said
