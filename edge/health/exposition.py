"""The agent's report as Prometheus reads it (text exposition format 0.0.4)."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_PREFIX: Final = "headwater_edge_"
_MS_PER_S: Final = 1000


@dataclass(slots=True)
class _Family:
    """A metric with its samples; a name that ends in `_total` is a counter's."""

    name: str
    what: str
    samples: list[tuple[dict[str, str], float]] = field(default_factory=list)

    def add(self, value: object, **labels: str) -> _Family:
        """A sample, unless there is none: None is no number."""
        if isinstance(value, int | float):
            self.samples.append((labels, float(value)))
        return self

    def lines(self) -> Iterator[str]:
        yield f"# HELP {self.name} {self.what}"
        yield f"# TYPE {self.name} {'counter' if self.name.endswith('_total') else 'gauge'}"
        for labels, value in self.samples:
            yield f"{self.name}{_labels(labels)} {_number(value)}"


def exposition(report: Mapping[str, Any]) -> str:
    """The page /metrics for what /healthz says."""
    families = [
        *_node(report),
        *_uplink(report["uplink"]),
        *_identity(report.get("identity") or {}),
        *_spool(report),
        *_sources(report["sources"]),
        *_models(report["models"]["models"]),
    ]
    return "\n".join(line for family in families if family.samples for line in family.lines()) + "\n"


def _node(report: Mapping[str, Any]) -> Iterator[_Family]:
    process, commands, clock = report["process"], report["commands"], report["clock"]
    yield _ours("info", "The node and its version; always 1.").add(1, node=report["node"], version=report["version"])
    yield _ours("uptime_seconds", "Since the agent was started.").add(report["uptime_s"])
    yield _ours("stuck", "Parts of the agent that do not go on, whatever is tried.").add(len(report["stuck"]))
    yield _ours("clock_wall_offset_seconds", "How far the system's clock is ahead of the readings' times.").add(
        clock["wall_offset_ms"] / _MS_PER_S
    )
    yield _ours("clock_synchronised", "1 while the kernel calls the system's clock right.").add(
        clock["state"] == "synchronised"
    )
    yield _ours("commands_done_total", "Commands that were carried out.").add(commands["done"])
    yield _ours("commands_refused_total", "Commands that were refused or failed.").add(commands["refused"])
    yield _ours("reloads_total", "Configurations that were taken in while running.").add(report["reloads"])
    if report.get("updates"):
        yield _ours("updates_refused_total", "Desired states that were not taken at all.").add(
            report["updates"]["refused"]
        )
    yield _Family("process_resident_memory_bytes", "Resident memory size in bytes.").add(process["memory_bytes"])
    yield _Family("process_cpu_seconds_total", "Total user and system CPU time spent in seconds.").add(process["cpu_s"])
    yield _Family("process_open_fds", "Number of open file descriptors.").add(process["open_files"])


def _uplink(uplink: Mapping[str, Any]) -> Iterator[_Family]:
    yield _ours("uplink_connected", "1 while the broker takes births and data.").add(uplink["connected"])
    yield _ours("uplink_away", "1 while what is read is kept for replay.").add(uplink["away"])
    yield _ours("uplink_unacknowledged_batches", "Batches sent and not yet known to be durable.").add(
        uplink["unacknowledged"]
    )
    yield _ours("uplink_connections_total", "Connections that reached the broker.").add(uplink["connections"])


def _identity(identity: Mapping[str, Any]) -> Iterator[_Family]:
    end, renewals = identity.get("not_after"), identity.get("renewals")
    yield _ours("certificate_end_timestamp_seconds", "When the node's certificate ends, UTC.").add(
        None if end is None else end / _MS_PER_S
    )
    yield _ours("certificate_renewals_total", "Certificates that took the place of another in this run.").add(renewals)
    yield _ours("certificate_renewal_failures", "Renewals that failed since the last that worked.").add(
        identity.get("failures")
    )


def _spool(report: Mapping[str, Any]) -> Iterator[_Family]:
    spool, now_ms = report["spool"], report["clock"]["now"]
    batches = _ours("spool_batches", "Batches on disk, not yet known to be durable.")
    size = _ours("spool_payload_bytes", "Their payloads' size.")
    oldest = _ours("spool_oldest_seconds", "Age of the oldest of them; absent where there is none.")
    for lane, content in spool["lanes"].items():
        batches.add(content["batches"], lane=lane)
        size.add(content["bytes"], lane=lane)
        if content["oldest_at"] is not None:
            oldest.add(max(0.0, (now_ms - content["oldest_at"]) / _MS_PER_S), lane=lane)
    yield from (batches, size, oldest)
    yield _ours("spool_outage_left_seconds", "How long an outage the room that is left holds, by estimate.").add(
        spool["outage_left_s"]
    )
    yield _ours("spool_max_bytes", "Disk that the spool may take.").add(spool["max_bytes"])
    yield _ours("spool_buffered_batches", "Batches in memory that wait for the disk.").add(spool["buffered"])
    yield _ours("spool_evicted_batches_total", "Batches lost for want of room on disk.").add(spool["evicted"])
    yield _ours("spool_dropped_batches_total", "Batches lost while the disk failed.").add(spool["dropped"])
    yield _ours("spool_undated_batches", "Batches that wait for the time to be known.").add(spool["undated"])
    yield _ours("spool_set_aside_files", "Spoilt spools that wait for a person.").add(spool["set_aside"])


_OF_SOURCE: Final = (
    ("polls_total", "polls", "Polls, failed ones included."),
    ("poll_failures_total", "failures", "Polls that brought nothing."),
    ("readings_total", "readings", "Readings, before any is held back."),
    ("suppressed_readings_total", "suppressed", "Readings held back by report by exception."),
    ("skipped_ticks_total", "skipped_ticks", "Moments of the schedule that were missed."),
    ("writes_total", "writes", "Writes that were tried."),
    ("restarts_total", "restarts", "Times that it hung and was cut off."),
    ("interval_seconds", "interval_s", "From one poll to the next, as configured."),
    ("overdue_seconds", "overdue_s", "How far it is beyond the time-out of what it does."),
)


def _sources(sources: Mapping[str, Any]) -> Iterator[_Family]:
    up = _ours("source_up", "1 when the last poll worked.")
    last = _ours("source_last_reading_timestamp_seconds", "Time of the newest reading, UTC.")
    details = _ours("source_detail", "What a source tells of itself, such as line occupancy or the quota left.")
    of_source = [(_ours(f"source_{name}", what), key) for name, key, what in _OF_SOURCE]
    for name, source in sources.items():
        up.add(source["state"] == "ok", source=name)
        if source["last_sampled_at"] is not None:
            last.add(source["last_sampled_at"] / _MS_PER_S, source=name)
        for family, key in of_source:
            family.add(source[key], source=name)
        for detail, value in source["details"].items():
            details.add(value, source=name, detail=detail)
    yield from (up, last, *(family for family, _ in of_source), details)


def _models(models: Mapping[str, Any]) -> Iterator[_Family]:
    up = _ours("model_up", "1 when its last window gave a result.")
    results = _ours("model_results_total", "Windows that gave a result.")
    failed = _ours("model_failures_total", "Windows that gave none because the model failed.")
    last = _ours("model_last_result_timestamp_seconds", "End of the newest window with a result, UTC.")
    for name, model in models.items():
        up.add(model["state"] == "ok", model=name)
        results.add(model["results"], model=name)
        failed.add(model["failed"], model=name)
        if model["last_result_at"] is not None:
            last.add(model["last_result_at"] / _MS_PER_S, model=name)
    yield from (up, results, failed, last)


def _ours(name: str, what: str) -> _Family:
    return _Family(_PREFIX + name, what)


def _labels(labels: Mapping[str, str]) -> str:
    inner = ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items())
    return f"{{{inner}}}" if inner else ""


def _escaped(value: str) -> str:
    return str(value).replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _number(value: float) -> str:
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return "NaN" if math.isnan(value) else repr(int(value)) if value == int(value) else repr(value)
