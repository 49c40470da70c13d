"""MQTT to Kafka-acknowledged: messages and readings a second, and what a million readings cost.

    python -m bench.bridge [--messages 30000] [--readings 1 10 100] [--repeats 3] [--plot FILE] [--quick]

The messages wait in a persistent QoS 1 session at a Mosquitto, and each contestant in turn comes back to that session:
so the contestant is the bottleneck, and nothing but it and the two brokers runs. What counts lies between the first
tenth of the messages and the last: no start, no end. The rates hold for this machine; the ratios are what to compare.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rich.console import Console
from rich.table import Table

from bench.bridge.contestants import CONTESTANTS, Acknowledger, Bridge, Contestant
from bench.bridge.session import Work, fill, leave
from bench.edge.process import usage
from stack import BrokerLimits, Kafka, Mosquitto

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Sequence

_POLL_S: Final = 0.05
_STALL_S: Final = 60.0
_QUEUE_BYTES: Final = 2 << 30
# Without it 200, and Telegraf's batches would never be full.
_IN_FLIGHT: Final = "max_inflight_messages 1000"


@dataclass(frozen=True, slots=True)
class Sample:
    """How far a contestant was at a time."""

    at_s: float
    messages: int
    cpu_s: float
    brokers_cpu_s: float


@dataclass(frozen=True, slots=True)
class Result:
    """What it did between two samples; `readings` is those of one message."""

    name: str
    readings: int
    messages_per_s: float
    cpu_us_per_message: float
    brokers_cpu_us_per_message: float
    memory_mib: float

    @property
    def cpu_s_per_million(self) -> float:
        """CPU-seconds of the contestant for a million readings."""
        return self.cpu_us_per_message / self.readings


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the contest and prints it."""
    options = _parser().parse_args(arguments)
    if options.quick:
        options.messages, options.repeats = min(options.messages, 6000), 1
    chosen = [each for each in CONTESTANTS if not options.only or each.name in options.only]
    for each in list(chosen):
        if (why := each.missing()) is not None:
            print(f"{each.name}: left out: {why}", file=sys.stderr)
            chosen.remove(each)
        else:
            each.install()
    results = []
    with Kafka(limits=BrokerLimits(retention_bytes=256 << 20)) as kafka:
        for readings in options.readings:
            for contestant in chosen:
                work = Work(options.messages, readings, contestant.influx)
                runs = [_watch(contestant, work, kafka) for _ in range(options.repeats)]
                results.append(_median(runs))
                print(f"{readings} readings, {contestant.name}: {_rates(runs)} messages/s", file=sys.stderr)
    _print(results)
    if options.plot is not None:
        from bench.bridge.figure import draw  # noqa: PLC0415 - a second that a run without a figure need not wait

        draw(results, options.plot)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.bridge", description=__doc__.partition("\n")[0])
    parser.add_argument("--messages", type=int, default=30_000, help="that wait for each contestant (30000)")
    parser.add_argument("--readings", type=int, nargs="+", default=[1, 10, 100], help="in a message (1 10 100)")
    parser.add_argument("--repeats", type=int, default=3, help="the median run counts (3)")
    parser.add_argument(
        "--only",
        action="append",
        choices=[each.name for each in CONTESTANTS],
        help="this one alone; may be given again",
    )
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw it, as PNG or SVG")
    parser.add_argument("--quick", action="store_true", help="6000 messages once: whether it works, not how fast")
    return parser


def _watch(kind: type[Contestant], work: Work, kafka: Kafka) -> Result:
    """One run, on a broker of its own and a fresh topic."""
    with (
        tempfile.TemporaryDirectory(prefix="bench-bridge-") as scratch,
        Mosquitto(max_queued_bytes=_QUEUE_BYTES, extra=[_IN_FLIGHT]) as broker,
    ):
        topic = f"bench-{time.monotonic_ns()}"
        contestant = kind(Path(scratch), broker.port, kafka, topic)
        leave(broker.port, kind.client_id, mqtt5=kind.mqtt5, topic_filter=kind.topic_filter)
        fill(broker.port, work)
        process = contestant.start()
        try:
            samples, memory_mib = _follow(process, contestant, work, [broker.pid, kafka.pid])
        finally:
            process.terminate()
            process.wait(30)
            contestant.close()
    return _result(kind.name, work, samples, memory_mib)


def _follow(
    process: subprocess.Popen[bytes], contestant: Contestant, work: Work, brokers: Sequence[int | None]
) -> tuple[list[Sample], float]:
    """Samples until all is done; raises SystemExit where nothing goes on."""
    samples: list[Sample] = []
    progressed_s = time.monotonic()
    while not samples or samples[-1].messages < work.records:
        time.sleep(_POLL_S)
        cost = usage(process.pid) if process.poll() is None else None
        if cost is None or time.monotonic() > progressed_s + _STALL_S:
            raise SystemExit(f"{contestant.name} stands still at {samples[-1:]} of {work.records}")
        spent = sum(usage(pid).cpu_s for pid in brokers if pid is not None)
        sample = Sample(time.monotonic(), contestant.done(), cost.cpu_s, spent)
        if not samples or sample.messages > samples[-1].messages:
            progressed_s = sample.at_s
        samples.append(sample)
    return samples, usage(process.pid).resident_mib


def _result(name: str, work: Work, samples: Sequence[Sample], memory_mib: float) -> Result:
    first = next(sample for sample in samples if sample.messages >= work.records / 10)
    last = next((sample for sample in reversed(samples) if sample.messages <= work.records * 9 / 10), samples[-1])
    if last.at_s <= first.at_s:
        first, last = samples[0], samples[-1]
    messages = max(1, last.messages - first.messages)
    return Result(
        name,
        work.readings,
        messages / (last.at_s - first.at_s),
        1e6 * (last.cpu_s - first.cpu_s) / messages,
        1e6 * (last.brokers_cpu_s - first.brokers_cpu_s) / messages,
        memory_mib,
    )


def _median(runs: Sequence[Result]) -> Result:
    return sorted(runs, key=lambda run: run.messages_per_s)[len(runs) // 2]


def _rates(runs: Sequence[Result]) -> str:
    rates = [run.messages_per_s for run in runs]
    spread = f" +- {statistics.stdev(rates):,.0f}" if len(rates) > 1 else ""
    return f"{statistics.mean(rates):,.0f}{spread}"


def _print(results: Sequence[Result]) -> None:
    table = Table(title="MQTT, QoS 1, to Kafka-acknowledged")
    headings = (
        "readings",
        "",
        "messages/s",
        "readings/s",
        "of acknowledging",
        "us CPU a message",
        "CPU s per M readings",
    )
    for heading in (*headings, "readings per CPU-second, of ours", "brokers us", "MiB"):
        table.add_column(heading, justify="left" if heading == "" else "right")
    for result in results:
        peers = {other.name: other for other in results if other.readings == result.readings}
        floor, ours = peers.get(Acknowledger.name), peers.get(Bridge.name)
        table.add_row(
            str(result.readings),
            result.name,
            f"{result.messages_per_s:,.0f}",
            f"{result.messages_per_s * result.readings:,.0f}",
            f"{result.messages_per_s / floor.messages_per_s:.2f}" if floor else "",
            f"{result.cpu_us_per_message:.0f}",
            f"{result.cpu_s_per_million:.2f}",
            f"{ours.cpu_us_per_message / result.cpu_us_per_message:.2f}" if ours else "",
            f"{result.brokers_cpu_us_per_message:.0f}",
            f"{result.memory_mib:.0f}",
        )
    Console(width=150).print(table)


if __name__ == "__main__":
    sys.exit(main())
