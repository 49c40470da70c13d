"""Which ledger is held against which device of the database, and what the database holds of it."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path  # noqa: TC003 - pydantic reads the annotations at run time
from typing import TYPE_CHECKING, Final

import psycopg2
from pydantic import Field, RootModel

from contract.config import Config
from contract.sparkplug import Quality
from simulators.errors import TargetError
from simulators.ledger import read_ledger
from simulators.reconcile import Span, Stored, Tally, reconcile, total
from simulators.reconcile_expected import Truth, by_node, truth_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from psycopg2.extensions import connection

    from simulators.ledger import Entry

_READINGS: Final = """
with wanted as (
  select series_id, metric from series where group_id = %(group)s and node_id = %(node)s and device_id = %(device)s
), since as (
  select to_timestamp(%(since_ms)s / 1000.0) as at
)
select w.metric, (extract(epoch from r.sampled_at) * 1000)::bigint, r.value, null, r.quality
from wanted w join reading r using (series_id), since where r.sampled_at >= since.at
union all
select w.metric, (extract(epoch from r.sampled_at) * 1000)::bigint, null, r.value, r.quality
from wanted w join reading_text r using (series_id), since where r.sampled_at >= since.at
"""
_OLDER: Final = """
with wanted as (
  select series_id from series
   where group_id = %(group)s and node_id = %(node)s and device_id = %(device)s and metric = any(%(metrics)s::text[])
), since as (
  select to_timestamp(%(since_ms)s / 1000.0) as at
)
select (select count(*) from wanted join reading r using (series_id), since where r.sampled_at < since.at)
     + (select count(*) from wanted join reading_text r using (series_id), since where r.sampled_at < since.at)
"""
# What a node declares accounts for a loss. Batches that did not come are one.
_GAPS: Final = """
select floor(extract(epoch from from_at) * 1000)::bigint, ceil(extract(epoch from to_at) * 1000)::bigint
from gap where group_id = %(group)s and node_id = %(node)s and device_id = %(device)s and kind = 'declared'
"""

_EVERY_NODE: Final = "*"


class Target(Config):
    """A ledger, and the device that should hold what is in it."""

    source: str = Field(description="What the source is called in the table")
    ledger: Path = Field(description="The simulator's ledger")
    group: str = Field(description="Sparkplug group")
    node: str = Field(description="Sparkplug edge node; *: every node of a fleet's ledger")
    device: str = Field(description="Sparkplug device")
    interval_s: float | None = Field(default=None, gt=0, description="The agent's interval, s: for cameras")
    metrics: tuple[str, ...] = Field(
        default=("*",), min_length=1, description="Globs of the metrics held against it, where it reads only some"
    )


class Targets(RootModel[tuple[Target, ...]]):
    """All targets of a reconciliation."""


@dataclass(frozen=True, slots=True)
class Result:
    """The tally of a target, and what stands beside it.

    `unserved` are metrics that the device stores and the ledger does not know, `unmatched` globs of the target that
    no metric of the ledger matches, `older` counts the rows from before the ledger.
    """

    source: str
    tally: Tally
    gaps: tuple[Span, ...] = ()
    unserved: tuple[str, ...] = ()
    unmatched: tuple[str, ...] = ()
    older: int = 0

    @property
    def is_clean(self) -> bool:
        """Whether all that the target names was looked for, and all of it is accounted for."""
        return self.tally.is_clean and not self.unmatched


def reconcile_all(dsn: str, targets: Sequence[Target]) -> list[Result]:
    """The result of each target; raises TargetError when the database cannot be asked, LedgerError for a ledger."""
    try:
        opened = psycopg2.connect(dsn, connect_timeout=10, application_name="headwater reconcile")
        try:
            # One picture of the database for all targets, and not a write.
            opened.set_session(isolation_level="REPEATABLE READ", readonly=True)
            return [_reconcile(opened, target) for target in targets]
        finally:
            opened.close()
    except psycopg2.Error as exc:
        raise TargetError(f"the database cannot be asked: {str(exc).strip()}") from exc


def _reconcile(opened: connection, target: Target) -> Result:
    entries = read_ledger(target.ledger)
    if target.node != _EVERY_NODE:
        return _of_device(opened, target, entries)
    return _joined(
        target,
        {
            node: _of_device(opened, target.model_copy(update={"node": node}), found)
            for node, found in by_node(entries).items()
        },
    )


def _joined(target: Target, nodes: Mapping[str, Result]) -> Result:
    """What became of a whole fleet; a glob that matches nothing matches nothing of any node."""
    unmatched = [set(result.unmatched) for result in nodes.values()] or [set(target.metrics)]
    return Result(
        source=target.source,
        tally=total({node: result.tally for node, result in nodes.items()}),
        gaps=tuple(gap for result in nodes.values() for gap in result.gaps),
        unserved=tuple(f"{node}/{metric}" for node, result in nodes.items() for metric in result.unserved),
        unmatched=tuple(sorted(set.intersection(*unmatched))),
        older=sum(result.older for result in nodes.values()),
    )


def _of_device(opened: connection, target: Target, entries: Iterable[Entry]) -> Result:
    truth = truth_of(entries, target.metrics, target.interval_s)
    stored = _stored(opened, target, truth.since_ms)
    gaps = _gaps(opened, target)
    return Result(
        source=target.source,
        tally=reconcile(truth.expected, stored, gaps, truth.refused),
        gaps=gaps,
        unserved=tuple(sorted(stored.keys() - truth.expected.keys())),
        unmatched=truth.unmatched,
        older=_older(opened, target, truth),
    )


def _older(opened: connection, target: Target, truth: Truth) -> int:
    with opened.cursor() as cursor:
        cursor.execute(_OLDER, {**_device(target), "since_ms": truth.since_ms, "metrics": list(truth.expected)})
        (count,) = cursor.fetchone() or (0,)
        return int(count)


def _stored(opened: connection, target: Target, since_ms: int) -> Mapping[str, Sequence[Stored]]:
    stored: dict[str, list[Stored]] = defaultdict(list)
    with opened.cursor() as cursor:
        cursor.execute(_READINGS, {**_device(target), "since_ms": since_ms})
        for metric, sampled_at, number, text, quality in cursor:
            value = number if text is None else text
            stored[metric].append(Stored(sampled_at, value, quality == Quality.GOOD))
    return stored


def _gaps(opened: connection, target: Target) -> tuple[Span, ...]:
    with opened.cursor() as cursor:
        cursor.execute(_GAPS, _device(target))
        return tuple(Span(from_ms, to_ms) for from_ms, to_ms in cursor)


def _device(target: Target) -> dict[str, str]:
    return {"group": target.group, "node": target.node, "device": target.device}
