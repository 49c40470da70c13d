"""Commands from a broker that is not trusted: what is carried out, what is refused, and that both are answered."""

from __future__ import annotations

import asyncio
import math
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from contract.commands import COMMAND_ID, RELOAD, CommandAnswer
from contract.datatypes import DataType
from contract.sparkplug import Metric, Payload, RejectedMetric
from edge.batch import NODE
from edge.commands import MAX_WAITING, Commands
from edge.errors import EdgeError, SourceError
from edge.reading import MetricInfo, Reading

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from contract.datatypes import Value

METRICS = (
    MetricInfo("valve", DataType.DOUBLE, writable=True),
    MetricInfo("speed", DataType.UINT16, writable=True),
    MetricInfo("pump", DataType.BOOLEAN, writable=True),
    MetricInfo("label", DataType.STRING, writable=True),
    MetricInfo("level", DataType.DOUBLE),
)
NOW_MS = 1_800_000_000_000


@dataclass
class Plant:
    """What commands are carried out on, with a plant that does as its metric `valve` is told."""

    written: list[tuple[str, str, Value]] = field(default_factory=list)
    answers: list[tuple[str, CommandAnswer, Reading | None]] = field(default_factory=list)
    fault: Exception | None = None
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    busy: dict[str, int] = field(default_factory=dict)
    most_at_once: int = 0

    def commands(self, now_ms: int | None = NOW_MS) -> Commands:
        return Commands(self, self.reload, self.answer, lambda: now_ms, 60)

    def metrics_of(self, device: str) -> Sequence[MetricInfo] | None:
        return METRICS if device in {"plant", "other"} else None

    async def write(self, device: str, metric: str, value: Value) -> Reading:
        self.busy[device] = self.busy.get(device, 0) + 1
        self.most_at_once = max(self.most_at_once, self.busy[device])
        try:
            await self.gate.wait()
        finally:
            self.busy[device] -= 1
        if self.fault is not None:
            raise self.fault
        self.written.append((device, metric, value))
        return Reading(metric, DataType.DOUBLE, value, NOW_MS)

    async def reload(self) -> str | None:
        if self.fault is not None:
            raise self.fault
        return "restart needed for: mqtt"

    def answer(self, device: str, answer: CommandAnswer, read_back: Reading | None) -> None:
        self.answers.append((device, answer, read_back))


def a_command(name: str, value: Value, datatype: DataType = DataType.DOUBLE, **more: Any) -> Payload:
    at_ms, sent_id = more.get("at_ms", NOW_MS), more.get("sent_id")
    metrics = [Metric(name, datatype, value, at_ms)]
    if sent_id is not None:
        metrics.append(Metric(COMMAND_ID, DataType.STRING, sent_id, at_ms))
    return Payload(at_ms, tuple(metrics))


def carried_out(*sent: tuple[str, Payload], plant: Plant | None = None) -> Plant:
    """The plant after all of these were sent and nothing waits any more."""

    async def scenario() -> Plant:
        the_plant = plant or Plant()
        the_plant.gate.set()
        commands = the_plant.commands()
        for device, payload in sent:
            commands.submit(device, payload)
        while workers := list(commands._workers.values()):
            await asyncio.wait(workers)
        assert commands._waiting == {}
        return the_plant

    return asyncio.run(scenario())


def test_a_write_is_answered_with_what_was_read_back() -> None:
    plant = carried_out(("plant", a_command("valve", 0.5, sent_id="c-1")))
    assert plant.written == [("plant", "valve", 0.5)]
    read_back = Reading("valve", DataType.DOUBLE, 0.5, NOW_MS)
    assert plant.answers == [("plant", CommandAnswer("valve", done=True, command_id="c-1", value=0.5), read_back)]


@pytest.mark.parametrize(
    ("device", "payload", "reason"),
    [
        ("plant", a_command("level", 1.0), "does not allow to write it"),
        ("plant", a_command("nothing", 1.0), "no such metric"),
        ("plant", a_command("valve", None), "None is no DOUBLE"),
        ("plant", a_command("valve", math.nan), "nan is no DOUBLE"),
        ("plant", a_command("valve", math.inf), "inf is no DOUBLE"),
        ("plant", a_command("valve", value=True, datatype=DataType.BOOLEAN), "True is no DOUBLE"),
        ("plant", a_command("valve", "0.5", DataType.STRING), "'0.5' is no DOUBLE"),
        ("plant", a_command("speed", 65_536, DataType.INT64), "65536 is no UINT16"),
        ("plant", a_command("speed", -1, DataType.INT64), "-1 is no UINT16"),
        ("plant", a_command("speed", 1.5), "1.5 is no UINT16"),
        ("plant", a_command("pump", 1, DataType.INT32), "1 is no BOOLEAN"),
        ("plant", a_command("label", b"x", DataType.BYTES), "is no STRING"),
        ("plant", a_command("valve", 1.0, at_ms=NOW_MS - 61_000), "61 s ago"),
        ("plant", a_command("valve", 1.0, at_ms=NOW_MS + 61_000), "61 s ahead"),
        ("plant", a_command("valve", 1.0, at_ms=0), "an old command is not carried out"),
        (NODE, a_command("Node Control/Explode", value=True, datatype=DataType.BOOLEAN), "is no command"),
        (NODE, a_command(RELOAD, value=False, datatype=DataType.BOOLEAN), "asks for nothing"),
        (NODE, a_command(RELOAD, value=True, datatype=DataType.BOOLEAN, at_ms=5), "an old command"),
    ],
)
def test_what_is_refused_is_answered_and_touches_nothing(device: str, payload: Payload, reason: str) -> None:
    plant = carried_out((device, payload))
    assert plant.written == []
    [(answered, answer, read_back)] = plant.answers
    assert (answered, answer.done, read_back) == (device, False, None)
    assert reason in str(answer.reason)


@pytest.mark.parametrize(
    ("name", "value", "datatype"),
    [
        ("valve", 1, DataType.INT32),
        ("valve", 0.25, DataType.FLOAT),
        ("speed", 65_535, DataType.UINT32),
        ("pump", False, DataType.BOOLEAN),
        ("label", "on", DataType.TEXT),
    ],
)
def test_what_the_metric_can_hold_is_written(name: str, value: Value, datatype: DataType) -> None:
    plant = carried_out(("plant", a_command(name, value, datatype)))
    assert plant.written == [("plant", name, value)]


def test_a_command_to_nobody_is_answered_by_the_node() -> None:
    plant = carried_out(("nobody", a_command("valve", 1.0)))
    [(answered, answer, _)] = plant.answers
    assert (answered, answer.done, answer.reason) == (NODE, False, "there is no device nobody")


def test_a_command_that_is_delivered_twice_is_carried_out_once_and_answered_twice() -> None:
    async def scenario() -> Plant:
        plant = Plant()
        plant.gate.set()
        commands = plant.commands()
        for value in (0.5, 0.5, 0.6):
            commands.submit("plant", a_command("valve", value, sent_id="c-1"))
            while workers := list(commands._workers.values()):
                await asyncio.wait(workers)
        return plant

    plant = asyncio.run(scenario())
    assert plant.written == [("plant", "valve", 0.5), ("plant", "valve", 0.6)]
    assert [(answer.value, read_back is None) for _, answer, read_back in plant.answers] == [
        (0.5, False),
        (0.5, True),
        (0.6, False),
    ]


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (SourceError("plant is not open: unit 3 does not answer"), "unit 3 does not answer"),
        (TimeoutError(), "not known whether it was carried out"),
        (ZeroDivisionError("a fault of ours"), "unexpected ZeroDivisionError: a fault of ours"),
    ],
)
def test_a_write_that_fails_is_answered_with_why(fault: Exception, reason: str) -> None:
    plant = carried_out(
        ("plant", a_command("valve", 1.0)), ("plant", a_command("valve", 2.0)), plant=Plant(fault=fault)
    )
    assert [answer.done for _, answer, _ in plant.answers] == [False, False], "and the next one has its turn"
    assert reason in str(plant.answers[0][1].reason)


def test_a_reload_is_answered_with_what_it_left_undone() -> None:
    reload = a_command(RELOAD, value=True, datatype=DataType.BOOLEAN, sent_id="r")
    plant = carried_out((NODE, reload))
    assert plant.answers == [
        (NODE, CommandAnswer(RELOAD, done=True, command_id="r", value="restart needed for: mqtt"), None)
    ]
    plant = carried_out((NODE, reload), plant=Plant(fault=EdgeError("edge.yaml: sources: found []")))
    assert plant.answers[0][1].reason == "edge.yaml: sources: found []"


def test_writes_to_one_source_take_turns_and_wait_for_no_other(eventually: Callable[..., Awaitable[None]]) -> None:
    async def scenario() -> None:
        plant = Plant()
        commands = plant.commands()
        for n in range(3):
            commands.submit("plant", a_command("valve", float(n)))
            commands.submit("other", a_command("valve", float(n)))
        await eventually(lambda: plant.busy == {"plant": 1, "other": 1}, "both sources are being written")
        plant.gate.set()
        await commands.close(5)
        assert plant.most_at_once == 1

    asyncio.run(scenario())


def test_a_flood_is_bounded_in_memory_and_in_answers() -> None:
    async def scenario() -> None:
        plant = Plant()
        started_s = time.monotonic()
        commands = plant.commands()
        for n in range(5000):
            commands.submit("plant", a_command("valve", float(n)))
            commands.submit(f"nobody-{n}", a_command("valve", float(n)))
            commands.submit("plant", Payload(NOW_MS, (), rejected=(RejectedMetric(0, "x", "garbled"),)))
            commands.submit(f"nobody-{n}", Payload(NOW_MS, (), rejected=(RejectedMetric(0, "x", "garbled"),)))
        await asyncio.sleep(0)
        assert len(commands._waiting) == 1
        assert len(commands._waiting["plant"]) <= MAX_WAITING
        assert len(commands._answers) <= 4096
        elapsed_s = time.monotonic() - started_s
        assert len(plant.answers) <= 20 + 5 * elapsed_s
        assert {device for device, _, _ in plant.answers} <= {"plant", NODE}, "no stranger's device is answered for"
        assert commands.unanswered >= 10_000 - len(plant.answers)
        plant.gate.set()
        await commands.close(5)
        assert len(plant.written) <= 1, "what waits at a stop is refused"

    asyncio.run(scenario())


def test_refusals_are_answered_again_after_a_flood(eventually: Callable[..., Awaitable[None]]) -> None:
    async def scenario() -> None:
        plant = Plant()
        commands = plant.commands()

        def refused() -> int:
            commands.submit("nobody", a_command("valve", 1.0))
            return len(plant.answers)

        while refused() < 20:
            pass
        await eventually(lambda: refused() > 22, "more answers")

    asyncio.run(scenario())


def test_while_the_time_is_not_known_nothing_is_carried_out() -> None:
    async def scenario() -> None:
        plant = Plant()
        plant.gate.set()
        commands = plant.commands(now_ms=None)
        commands.submit("plant", a_command("valve", 1.0))
        await asyncio.sleep(0)
        assert plant.written == []
        assert "does not yet know the time" in str(plant.answers[0][1].reason)
        await commands.close(5)

    asyncio.run(scenario())


def test_too_many_in_one_message_are_refused_as_one() -> None:
    payload = Payload(NOW_MS, tuple(Metric("valve", DataType.DOUBLE, float(n), NOW_MS) for n in range(17)))
    plant = carried_out(("plant", payload))
    assert plant.written == []
    assert len(plant.answers) == 1


def test_a_stop_lets_the_write_in_flight_end_and_refuses_what_waits(
    eventually: Callable[..., Awaitable[None]],
) -> None:
    async def scenario() -> None:
        plant = Plant()
        commands = plant.commands()
        for n in range(3):
            commands.submit("plant", a_command("valve", float(n)))
        await eventually(lambda: plant.busy.get("plant"), "the first is being written")
        closing = asyncio.create_task(commands.close(5))
        await asyncio.sleep(0)
        plant.gate.set()
        await closing
        assert plant.written == [("plant", "valve", 0.0)]
        assert [answer.reason for _, answer, _ in plant.answers] == ["the agent is stopping"] * 2 + [None]
        commands.submit("plant", a_command("valve", 9.0))
        assert plant.answers[-1][1].reason == "the agent is stopping"

    asyncio.run(scenario())


def test_a_stop_cuts_off_a_write_that_does_not_end(eventually: Callable[..., Awaitable[None]]) -> None:
    async def scenario() -> None:
        plant = Plant()
        commands = plant.commands()
        commands.submit("plant", a_command("valve", 1.0))
        await eventually(lambda: plant.busy.get("plant"), "it is being written")
        await commands.close(0.01)
        assert "not known whether" in str(plant.answers[0][1].reason)
        assert plant.written == []

    asyncio.run(scenario())


def test_commands_that_differ_in_little_are_no_repetition() -> None:
    """In Python -1 and -2 have one hash."""
    plant = carried_out(*(("plant", a_command("valve", value, sent_id="c")) for value in (-1.0, -2.0, 1.0)))
    assert [value for _, _, value in plant.written] == [-1.0, -2.0, 1.0]


def test_every_command_is_logged_with_its_id_on_one_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    carried_out(("plant", a_command("valve", 0.5, sent_id="c\n1")), ("plant", a_command("x\ny" * 100, 1.0)))
    told = [record.getMessage() for record in caplog.records]
    assert told[0] == r"command plant/valve (id c\n1): 0.5 is done"
    assert len(told) == 2
    assert all("\n" not in line and len(line) < 250 for line in told)


def test_memory_of_a_long_name_is_not_kept() -> None:
    started_s = time.monotonic()
    plant = carried_out(("plant", a_command("n" * 60_000, "v" * 60_000, DataType.STRING)))
    [(_, answer, _)] = plant.answers
    assert len(answer.command) <= 256
    assert len(str(answer.reason)) < 300
    assert time.monotonic() - started_s < 1
