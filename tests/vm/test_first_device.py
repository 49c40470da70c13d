"""A card of `fleet flash` in an arm64 machine: it becomes a node by itself, is updated, and outlives a power cut.

`make vm-test` prepares the image and runs this; a quarter of an hour, for an emulated machine takes its time. Each test
goes on where the one before has ended.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
from rich.console import Console

from simulators.reconcile_report import show

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]

NODE, PLANT, MODEL = "pi-007", "plant", "tank-forecast"
# Every start of it is a crash, though it finds the configuration right.
BROKEN = "\nRUN = Command('run', 'crash', takes_config, lambda _: 1 // 0)\n"


@pytest.fixture(autouse=True)
def _no_step_failed(request: pytest.FixtureRequest) -> None:
    if request.session.testsfailed:
        pytest.skip("it goes on where another has ended, and that has failed")


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def test_it_sets_itself_up_and_enrols_with_its_token(desk: Any, device: Any) -> None:
    def enrolled() -> bool:
        return any(node.name == NODE and node.certificate_ends_at for node in desk.home.registry.nodes())

    device.wait("it has its certificate", enrolled)
    # Its log names who is connected by the certificate, without which nobody is.
    device.wait("it is connected by mutual TLS", lambda: f"u'{NODE}'" in desk.broker.log_path.read_text())


def test_its_readings_reach_the_database_and_a_model_runs_on_it(desk: Any, device: Any) -> None:
    desk.start_stream()
    device.wait("ten polls are in the database", lambda: desk.polls() >= 10)
    device.wait("its model tells results", lambda: "1.0.0" in desk.texts(MODEL, "model/version"))


def test_a_model_that_is_rolled_out_takes_over(desk: Any, device: Any, tmp_path: Path) -> None:
    code, said = desk.roll_out("model", MODEL, desk.model("2.0.0", tmp_path / "2.0.0"), "2.0.0")
    assert code == 0, said
    news = desk.told("model", MODEL)
    assert (news["state"], news["running"]) == ("confirmed", "2.0.0")
    device.note("the model's update is confirmed")
    device.wait("the new model tells results", lambda: desk.texts(MODEL, "model/version")[-1] == "2.0.0")


def test_an_agent_that_is_rolled_out_takes_over(desk: Any, device: Any) -> None:
    code, said = desk.roll_out("agent", "agent", desk.agent("good"), "good")
    assert code == 0, said
    news = desk.told("agent", "agent")
    assert (news["state"], news["running"]) == ("confirmed", "good")
    device.note("the agent's update is confirmed")


def test_a_broken_agent_is_put_back_by_the_device_itself(desk: Any, device: Any) -> None:
    code, said = desk.roll_out("agent", "agent", desk.agent("broken", BROKEN), "broken")
    assert code == 1, said
    news = desk.told("agent", "agent")
    assert (news["state"], news["running"], news["wanted"]) == ("rolled_back", "good", "broken")
    assert "did not confirm that it works" in news["reason"]
    assert news["reason"] in said
    device.note("the broken agent was put back")
    polls = desk.polls()
    device.wait("readings go on", lambda: desk.polls() >= polls + 10)


def test_a_power_cut_loses_nothing(desk: Any, device: Any, judged: Callable[[list[int]], Any]) -> None:
    # What is sampled from now on is on the card alone.
    desk.broker.stop()
    alone_ms = now_ms()
    device.wait("20 polls without its broker", lambda: desk.answers(alone_ms) >= 20)
    cut_ms = now_ms()
    device.cut_power()
    desk.broker.start()
    device.power_on()
    later_ms = cut_ms + 5_000
    device.wait("it sends again after a power cut", lambda: desk.polls(later_ms) >= 10)
    device.wait("what it had kept has come", lambda: desk.polls(alone_ms + 1_000) - desk.polls(later_ms) >= 10)
    desk.plant.stop()
    device.wait("the last answer is stored", lambda: judged([cut_ms]).tally.lost == 0, timeout_s=300)
    result = judged([cut_ms])
    show([result], Console())
    assert result.is_clean
    assert desk.rows("select count(*) from gap where state in ('open', 'given_up')") == [(0,)]


def test_what_was_secret_is_wiped_from_the_card(device: Any) -> None:
    device.cut_power()
    names = device.card.names()
    assert "headwater/first-boot.log" in names
    assert not {"headwater/enrol.json", "headwater/key.pem"} & names, device.card.read("headwater/first-boot.log")
    assert not any(name.endswith(".tar.gz") for name in names)
