"""Durable marks, true and forged."""

from __future__ import annotations

import asyncio
import shutil
from typing import TYPE_CHECKING, Any

from contract.delivery import DurableMark
from edge.lane import Lane

if TYPE_CHECKING:
    import pytest


def epochs(bridge: Any) -> set[int]:
    return {message.stamp.batch.epoch for message in bridge.batches()}


def test_a_forged_mark_deletes_nothing_that_was_never_sent(site: Any) -> None:
    bridge = site.bridge(answers=False)

    async def scenario() -> None:
        async with site.running(window=5, resend_after_s=60) as rig:
            rig.put(100)
            await site.eventually(lambda: len(bridge.batches()) >= 5, "a window full")
            (epoch,) = epochs(bridge)
            bridge.command(site.node, DurableMark(epoch, 5).to_payload(1))
            await site.eventually(lambda: len(bridge.batches()) >= 10, "another")
            # It covers batches that are in the spool and were not sent.
            bridge.command(site.node, DurableMark(epoch, 90).to_payload(1))
            bridge.answers = True
            await rig.delivered()

    asyncio.run(scenario())
    sent = [(m.payload.metrics[0].value, m.stamp.batch.epoch) for m in bridge.batches()]
    assert {value for value, _ in sent} == set(range(100))


def test_marks_forged_for_ever_begin_one_new_epoch_and_are_told_seldom(
    site: Any, caplog: pytest.LogCaptureFixture
) -> None:
    bridge = site.bridge()

    async def scenario() -> None:
        async with site.running() as rig:
            for round_ in range(20):
                rig.put(1, first=round_)
                await rig.delivered()
                newest = bridge.batches()[-1].stamp.batch
                bridge.command(site.node, DurableMark(newest.epoch, 10**6).to_payload(1))
                bridge.command(site.node, DurableMark(newest.epoch - 1 + Lane.BACKFILL, 10**6).to_payload(1))

    asyncio.run(scenario())
    assert len(epochs(bridge)) == 2
    assert caplog.text.count("a new epoch is begun") == 1
    assert caplog.text.count("are not believed") == 1
    assert {m.payload.metrics[0].value for m in bridge.batches()} == set(range(20))


def test_a_disk_that_forgot_what_was_sent_loses_nothing(site: Any) -> None:
    """A card put back from an image: the same numbers, for other batches."""
    bridge = site.bridge()
    state, image = site.directory / "state", site.directory / "image"

    async def scenario(values: range) -> None:
        async with site.running() as rig:
            rig.put(len(values), first=values.start)
            await rig.delivered()

    asyncio.run(scenario(range(5)))
    shutil.copytree(state, image)
    asyncio.run(scenario(range(5, 50)))
    shutil.rmtree(state)
    image.rename(state)
    asyncio.run(scenario(range(1000, 1050)))
    assert {m.payload.metrics[0].value for m in bridge.batches()} == {*range(50), *range(1000, 1050)}
    assert len(epochs(bridge)) == 2
