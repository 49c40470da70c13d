"""The identity of a running agent: renewed in time, kept whatever goes wrong, and told of."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import functools
import ssl
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ParamSpec

import pytest

from edge.__main__ import main
from edge.clock import AnchoredClock, MachineClock
from edge.enrol.config import IdentityConfig
from edge.enrol.renewal import Renewal
from edge.health.report import report_identity
from fleet.authority import new_authority

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

    from edge.enrol.directory import IdentityDirectory

# Certificates are dated five minutes back: with so much to come, two thirds of the life are over.
OVERDUE = dt.timedelta(seconds=100)
YEAR = dt.timedelta(days=365)
BOOTED_NS = 10**12


P = ParamSpec("P")


def in_loop(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Runs a test in an event loop of its own."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        asyncio.run(test(*args, **kwargs))

    return run


class Clock:
    """A machine's clock that a test sets."""

    def __init__(self) -> None:
        self.at = dt.datetime.now(dt.UTC)
        self.is_synchronised = True

    def anchored(self) -> AnchoredClock:
        machine = MachineClock(
            wall_ns=lambda: int(self.at.timestamp() * 1e9),
            monotonic_ns=lambda: BOOTED_NS,
            since_boot_ns=lambda: BOOTED_NS,
            is_synchronised=lambda: self.is_synchronised,
        )
        return AnchoredClock(wait_s=1e6, machine=machine)


class Watched:
    """A renewal at work."""

    def __init__(self, device: Device, url: str | None, node: str) -> None:
        self.changes = 0
        config = IdentityConfig(directory=device.directory.path, url=url)
        self.renewal = Renewal(config, node, device.clock.anchored(), self._changed, look_s=0.02)

    def _changed(self) -> None:
        self.changes += 1

    @property
    def status(self) -> Any:
        return self.renewal.status

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Watched]:
        task = asyncio.create_task(self.renewal.run())
        try:
            yield self
            assert not task.done(), "it must not end by itself"
        finally:
            task.cancel()
            await asyncio.wait([task])


@dataclass
class Device:
    """What a node has, and the fleet that it is of."""

    fleet: Any
    directory: IdentityDirectory
    eventually: Callable[..., Any]
    clock: Clock = field(default_factory=Clock)

    def watched(self, url: str | None = None, node: str = "pi-007") -> Watched:
        return Watched(self, url, node)


@pytest.fixture
def device(scripted_fleet: Any, identity_directory: IdentityDirectory, eventually: Callable[..., Any]) -> Device:
    return Device(scripted_fleet, identity_directory, eventually)


def fits(directory: IdentityDirectory) -> None:
    """Whether key and certificate are of one another, as whoever loads them sees them."""
    context = ssl.create_default_context(cafile=directory.path / "ca.pem")
    context.load_cert_chain(directory.path / "cert.pem", directory.path / "key.pem")


@in_loop
async def test_it_is_renewed_when_two_thirds_of_its_life_are_over(
    device: Device, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    first = device.directory.put(device.fleet.identity(dt.timedelta(days=30)))
    async with device.watched().running() as watched:
        await device.eventually(lambda: watched.status.certificate, "the identity is seen")
        device.clock.at += dt.timedelta(days=19)
        await asyncio.sleep(0.1)
        assert (watched.changes, device.fleet.asked) == (0, [])

        device.clock.at += dt.timedelta(days=2)
        await device.eventually(lambda: watched.changes, "it is renewed")
        assert watched.status.renewals == 1
        assert watched.status.error is None
    found = device.directory.read()
    assert found is not None
    assert found.check().serial != first.serial
    (asked,) = device.fleet.asked
    assert (asked[0], asked[2]) == ("/v1/renew", "pi-007")
    fits(device.directory)
    assert "the certificate of pi-007 is good until" in caplog.text


@in_loop
async def test_while_it_fails_the_old_one_stays_and_the_reason_is_told_once(
    device: Device, caplog: pytest.LogCaptureFixture
) -> None:
    first = device.directory.put(device.fleet.identity(OVERDUE))
    device.fleet.stop()
    async with device.watched().running() as watched:
        await device.eventually(lambda: watched.status.failures > 1, "it is tried again")
        assert "and is not renewed: https://127.0.0.1" in watched.status.error
        told = [record.getMessage() for record in caplog.records if "not renewed" in record.getMessage()]
        assert len(told) == 1
        assert watched.status.certificate == first
        fits(device.directory)

        device.fleet.start()
        await device.eventually(lambda: watched.changes, "it is renewed")
        assert (watched.status.error, watched.status.failures) == (None, 0)


@in_loop
async def test_an_answer_that_was_lost_is_asked_for_again_with_the_same_key_even_after_a_power_cut(
    device: Device,
) -> None:
    first = device.directory.put(device.fleet.identity(OVERDUE))
    device.fleet.lost_answers = 1_000_000
    async with device.watched().running() as watched:
        await device.eventually(lambda: watched.status.failures > 1, "it is tried again")
    # What the run had in its memory has gone, and the fleet has certified what nobody here has heard of.
    assert len(device.fleet.issued) == 1
    found = device.directory.read()
    assert found is not None
    assert found.check() == first
    device.fleet.lost_answers = 0
    async with device.watched().running() as watched:
        await device.eventually(lambda: watched.changes, "it is renewed")
    assert len(device.fleet.issued) == 1, "one certificate in place of another"
    fits(device.directory)


@in_loop
async def test_a_renewal_does_not_take_the_place_of_what_was_enrolled_meanwhile(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    device.directory.put(device.fleet.identity(OVERDUE))
    enrolled, answer = device.fleet.identity(), device.fleet.answer

    def enrol_first(*asked: Any) -> Any:
        device.directory.put(enrolled)
        return answer(*asked)

    monkeypatch.setattr(device.fleet, "answer", enrol_first)
    async with device.watched().running() as watched:
        await device.eventually(lambda: watched.changes, "the new one is seen")
        await device.eventually(lambda: watched.status.error is None, "all is well")
        assert watched.status.certificate == enrolled.check()
        assert (watched.status.renewals, len(device.fleet.asked)) == (0, 1)
    assert device.directory.read() == enrolled


@pytest.mark.parametrize("reason", ["the certificate of pi-007 is revoked", "pi-007 is not known"])
@in_loop
async def test_a_refusal_is_told_and_leaves_the_old_one(
    device: Device, refused: Any, caplog: pytest.LogCaptureFixture, reason: str
) -> None:
    first = device.directory.put(device.fleet.identity(OVERDUE))
    device.fleet.answers = [refused(403, reason)] * 1000
    async with device.watched().running() as watched:
        await device.eventually(lambda: watched.status.failures > 1, "it is tried again")
        assert f"refuses: {reason}" in caplog.text
        assert report_identity(watched.status)["not_after"] == int(first.not_after.timestamp() * 1000)
        assert watched.changes == 0
    fits(device.directory)


@in_loop
async def test_an_endpoint_of_another_authority_is_not_shown_our_request(device: Device, new_fleet: Any) -> None:
    ours, theirs = new_fleet(served=False), new_fleet()
    device.directory.put(ours.identity(OVERDUE))
    async with device.watched(url=f"https://127.0.0.1:{theirs.port}").running() as watched:
        await device.eventually(lambda: watched.status.failures, "it fails")
        assert "its certificate is not of the authority that we trust" in watched.status.error
    assert theirs.asked == []


@in_loop
async def test_a_certificate_that_is_not_ours_is_not_taken(device: Device) -> None:
    first = device.directory.put(device.fleet.identity(OVERDUE))
    device.fleet.issuing = new_authority("another", YEAR)
    async with device.watched().running() as watched:
        await device.eventually(lambda: watched.status.failures, "it fails")
        assert "not of the fleet's root" in watched.status.error
        assert watched.status.certificate == first
    fits(device.directory)


@in_loop
async def test_one_that_has_expired_says_what_helps_and_is_replaced_by_it(
    device: Device, caplog: pytest.LogCaptureFixture
) -> None:
    device.directory.put(device.fleet.identity(dt.timedelta(seconds=-60)))
    card = device.fleet.card()
    async with device.watched().running() as watched:
        await device.eventually(lambda: watched.status.error, "it is told")
        assert "the certificate has expired on 20" in caplog.text
        assert "get a token by `fleet enrol pi-007`, and use it by `python -m edge enrol`" in caplog.text
        assert device.fleet.asked == []

        code = await asyncio.to_thread(main, ["enrol", str(card), "--out", str(device.directory)])
        assert code == 0
        await device.eventually(lambda: watched.changes, "the new one is seen")
        await device.eventually(lambda: watched.status.error is None, "all is well")


@in_loop
async def test_a_clock_that_is_not_set_renews_nothing_and_is_named(device: Device) -> None:
    device.directory.put(device.fleet.identity(OVERDUE))
    now, device.clock.is_synchronised = device.clock.at, False
    async with device.watched().running() as watched:
        # As a Pi has it: in 1970 first, then when its image was made; later, perhaps, right, and nobody vouches for it.
        for at in (dt.datetime(1970, 1, 1, 0, 1, tzinfo=dt.UTC), now - YEAR):
            device.clock.at = at
            says = f"this machine's clock says {at:%Y-%m-%d}"
            await device.eventually(lambda says=says: says in (watched.status.error or ""), "the clock is named")
        device.clock.at = now
        await device.eventually(lambda: watched.status.error is None, "nothing is wrong")
        await asyncio.sleep(0.1)
        assert device.fleet.asked == []

        device.clock.is_synchronised = True
        await device.eventually(lambda: watched.changes, "it is renewed")


@in_loop
async def test_a_clock_that_was_a_year_ahead_for_a_while_keeps_no_renewal_away(device: Device) -> None:
    device.directory.put(device.fleet.identity(OVERDUE))
    now, device.clock.at = device.clock.at, device.clock.at + YEAR
    async with device.watched().running() as watched:
        await device.eventually(lambda: "has expired" in (watched.status.error or ""), "it is out of date then")
        device.clock.at = now
        await device.eventually(lambda: watched.changes, "it is renewed")


@in_loop
async def test_an_agent_without_an_identity_waits_for_one(device: Device) -> None:
    async with device.watched().running() as watched:
        await device.eventually(lambda: watched.status.error, "it is told")
        assert "`python -m edge enrol` puts one there" in watched.status.error
        assert report_identity(watched.status)["not_after"] is None
        device.directory.put(device.fleet.identity())
        await device.eventually(lambda: watched.status.certificate, "it is seen")
        assert watched.status.error is None


@in_loop
async def test_the_identity_of_another_node_is_not_renewed(device: Device) -> None:
    device.directory.put(device.fleet.identity(OVERDUE))
    async with device.watched(node="pi-008").running() as watched:
        await device.eventually(lambda: watched.status.error, "it is told")
        assert watched.status.error.endswith("is that of pi-007, and this is pi-008")
        await asyncio.sleep(0.1)
        assert device.fleet.asked == []


@in_loop
async def test_what_was_garbled_is_told_and_mended_by_another(device: Device) -> None:
    device.directory.put(device.fleet.identity())
    (device.directory.path / "key.pem").write_text("no key")
    async with device.watched().running() as watched:
        await device.eventually(lambda: watched.status.error, "it is told")
        assert "what should be a key is none" in watched.status.error
        device.directory.put(device.fleet.identity())
        await device.eventually(lambda: watched.status.error is None, "another one is taken")
