"""What is planted in a fleet that is well is told of by its rule; what only looks like it is not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from grafana.alerts import uids

if TYPE_CHECKING:
    from psycopg2.extensions import cursor


@dataclass(frozen=True)
class Planted:
    """What is wrong, and of whom it is told."""

    uid: str
    sql: str
    labels: frozenset[tuple[str, str]] = frozenset()


def who(node: str, **others: str) -> frozenset[tuple[str, str]]:
    return frozenset({"group": "demo", "node": node, **others}.items())


def health(metric: str, node: str, value: str) -> str:
    return f"""
    update reading r set value = {value} from series s
    where s.series_id = r.series_id and s.metric = 'Health/{metric}' and s.node_id = '{node}'
      and r.sampled_at > now() - interval '10 minutes'
    """


def gap(node: str, state: str, ago: str) -> str:
    return f"""
    insert into gap (group_id, node_id, device_id, from_at, to_at, reason, declared_at, kind, epoch, first_batch,
                     last_batch, batches, state)
    values ('demo', '{node}', '', now() - interval '{ago}', now() - interval '{ago}', 'r', now() - interval '{ago}',
            'undelivered', 1795000000009, 7, 9, 3, '{state}')
    """


def letter(node: str, ago: str, retried: str = "null") -> str:
    return f"""
    insert into dead_letter (kafka_topic, kafka_partition, kafka_offset, item, mqtt_topic, reason, set_aside_at,
                             retried_at)
    values ('payloads', 0, 1, -1, 'spBv1.0/demo/DDATA/{node}/gate', 'no Sparkplug payload', now() - interval '{ago}',
            {retried})
    """


def error(times: float) -> str:
    return f"""
    update forecast_score c set naive_error = abs(error) / {times} from forecaster f
    where f.forecaster_id = c.forecaster_id and (f.node_id, f.model, f.place) = ('edge-01', 'tank-level', 'cloud')
    """


SILENT = "update node set last_seen_at = now() - interval '5 minutes' where node_id = 'edge-02'"
TANK = who("edge-01", device="line-a", subject="", model="tank-level", version="v1", place="cloud", target="level")
BACKLOG = """
insert into ingest_batch (query_id, batch_id, committed_at, offsets)
select query_id, 1000001, now(), '{"payloads": {"0": 9000000, "1": 9000000}}' from ingest_batch limit 1
"""
PLANTED = [
    Planted(uids.NODE_SILENT, SILENT, who("edge-02")),
    Planted(
        uids.NODE_SILENT,
        "update node set online = false, last_seen_at = now() - interval '3 minutes' where node_id = 'edge-03'",
        who("edge-03"),
    ),
    Planted(uids.SPOOL_FILLING, health("Spool Bytes", "edge-01", "50 * 1048576"), who("edge-01")),
    Planted(
        uids.SPOOL_FILLING,
        health("Spool Bytes", "edge-02", "9 * 1048576") + ";" + health("Spool Limit", "edge-02", "64 * 1048576"),
        who("edge-02"),
    ),
    Planted(
        uids.SPOOL_FILLING,
        health("Spool Bytes", "edge-03", "50 * 1048576")
        + "; delete from reading r using series s where s.series_id = r.series_id and s.metric = 'Health/Spool Limit'",
        who("edge-03"),
    ),
    Planted(uids.DEVICE_DISK, health("Disk Free", "edge-04", "5e8"), who("edge-04")),
    Planted(uids.SPOOL_LOSING, health("Spool Evicted", "edge-03", "4") + " and r.sampled_at = now()", who("edge-03")),
    Planted(uids.SPOOL_LOSING, health("Spool Dropped", "edge-01", "1") + " and r.sampled_at = now()", who("edge-01")),
    Planted(
        uids.SPOOL_LOSING,
        health("Spool Dropped", "edge-02", "case when r.sampled_at = now() then 2 else 7 end"),
        who("edge-02"),
    ),
    Planted(uids.GAP_OPEN, gap("edge-02", "open", "11 minutes"), who("edge-02")),
    Planted(uids.BATCHES_LOST, gap("edge-04", "given_up", "2 days"), who("edge-04")),
    Planted(uids.SKILL_GONE, error(1.3), TANK),
    Planted(
        uids.ANOMALY,
        """
        update anomaly set ended_at = null where (node_id, metric) = ('edge-01', 'tank1/level')
          and started_at = (select max(started_at) from anomaly where (node_id, metric) = ('edge-01', 'tank1/level'))
        """,
        who("edge-01", device="line-a", metric="tank1/level"),
    ),
    Planted(
        uids.ANOMALY,
        """
        insert into anomaly (group_id, node_id, device_id, metric, detector, place, started_at, peak_at, peak_score,
                             threshold)
        values ('demo', 'edge-03', 'gate', '', 'scene', 'edge', now() - interval '1 hour', now(), 3, 0)
        """,
        who("edge-03", device="gate", metric="the whole device"),
    ),
    Planted(uids.DEAD_LETTERS, letter("edge-03", "10 minutes"), who("edge-03")),
    Planted(
        uids.DEAD_LETTERS,
        letter("edge-03", "10 minutes") + "; update dead_letter set mqtt_topic = null",
        frozenset({("group", ""), ("node", "")}),
    ),
    Planted(uids.INGEST_SILENT, "delete from ingest_batch where committed_at > now() - interval '3 minutes'"),
    Planted(
        uids.INGEST_LATE,
        "update ingest_minute set latency_p99_ms = 20000 where minute > now() - interval '10 minutes'",
    ),
    Planted(uids.ANALYSIS_BEHIND, BACKLOG),
    Planted(
        uids.MAINTENANCE_BEHIND,
        "insert into rollup_pending values (now(), 1, 2, now() - interval '1 hour')",
    ),
    Planted(uids.DATABASE_LARGE, "set local headwater.size_bound = '10 MB'"),
    Planted(
        uids.ROLLOUT_STOPPED,
        "update rollout set state = 'stopped', reason = '2 of 4 nodes failed: allowed were 1' where counter = 2",
        frozenset({("group", "demo"), ("rollout", "2"), ("version", "model tank-level v2")}),
    ),
]
# What looks like it, and is no reason to tell anybody.
HARMLESS = [
    Planted(uids.NODE_SILENT, "update node set last_seen_at = now() - interval '1 hour'"),
    Planted(
        uids.SPOOL_FILLING,
        health("Spool Bytes", "edge-01", "50 * 1048576") + ";" + health("Spool Limit", "edge-01", "1073741824"),
    ),
    Planted(uids.DEVICE_DISK, health("Disk Free", "edge-01", "9e8")),
    Planted(
        uids.DEVICE_DISK,
        "delete from reading r using series s where s.series_id = r.series_id and s.metric = 'Health/Disk Size'",
    ),
    Planted(
        uids.SPOOL_FILLING, health("Spool Bytes", "edge-01", "case when r.sampled_at = now() then 1e9 else 2000 end")
    ),
    Planted(uids.SPOOL_LOSING, health("Spool Evicted", "edge-01", "case when r.sampled_at = now() then 0 else 9 end")),
    Planted(uids.SPOOL_LOSING, health("Spool Evicted", "edge-01", "9")),
    Planted(uids.GAP_OPEN, gap("edge-02", "open", "5 minutes")),
    Planted(uids.GAP_OPEN, gap("edge-02", "open", "1 hour") + "; update node set online = false"),
    Planted(uids.GAP_OPEN, gap("edge-02", "given_up", "1 hour")),
    Planted(uids.BATCHES_LOST, gap("edge-02", "given_up", "8 days")),
    Planted(uids.BATCHES_LOST, gap("edge-02", "earlier", "1 hour")),
    Planted(
        uids.ANOMALY,
        "update anomaly set started_at = started_at - interval '31 days', ended_at = null where node_id = 'edge-02'",
    ),
    Planted(uids.ANOMALY, "update anomaly set ended_at = now() - interval '1 minute'"),
    Planted(uids.ANALYSIS_BEHIND, BACKLOG.replace("9000000", "60000")),
    Planted(uids.MAINTENANCE_BEHIND, "insert into rollup_pending values (now(), 1, 2, now() - interval '20 minutes')"),
    Planted(uids.SKILL_GONE, error(1.05)),
    Planted(uids.SKILL_GONE, error(3) + "; update forecast_score set target_at = target_at - interval '3 hours'"),
    Planted(uids.DEAD_LETTERS, letter("edge-03", "90 minutes")),
    Planted(uids.DEAD_LETTERS, letter("edge-03", "10 minutes", "now()")),
    Planted(
        uids.INGEST_SILENT,
        "delete from ingest_batch where committed_at > now() - interval '3 minutes'; update node set online = false",
    ),
    Planted(uids.INGEST_SILENT, "delete from ingest_batch"),
    Planted(
        uids.INGEST_LATE,
        """
        update ingest_minute set latency_p99_ms = 20000
        where minute = date_trunc('minute', now() - interval '2 minutes')
        """,
    ),
    Planted(uids.DATABASE_LARGE, "set local headwater.size_bound = ''"),
    Planted(uids.ROLLOUT_STOPPED, "update rollout set state = 'aborted' where counter = 2"),
    Planted(uids.ROLLOUT_STOPPED, "update rollout set state = 'paused' where counter = 2"),
]


@pytest.mark.parametrize("planted", PLANTED, ids=lambda planted: planted.uid)
def test_what_is_planted_is_told_of_whom_it_is_and_when_it_has_lasted(
    planted: Planted, well: cursor, rules: Any
) -> None:
    well.execute(planted.sql)
    now = rules.answer(well, planted.uid)
    lasting = rules.long_enough(planted.uid)
    assert set(rules.told(planted.uid, lambda _: now, lasting)) == {planted.labels}
    if lasting:
        assert rules.told(planted.uid, lambda _: now, lasting - 1) == {}


@pytest.mark.parametrize("planted", HARMLESS, ids=lambda planted: planted.uid)
def test_what_only_looks_like_it_is_not_told(planted: Planted, well: cursor, rules: Any) -> None:
    well.execute(planted.sql)
    now = rules.answer(well, planted.uid)
    assert rules.told(planted.uid, lambda _: now, 7200) == {}


def test_every_rule_is_tried_on_what_it_is_for(rules: Any) -> None:
    assert {planted.uid for planted in PLANTED} == set(rules.uids) - {uids.DATABASE_AWAY}


def test_a_spool_is_told_of_until_it_is_nearly_empty(well: cursor, rules: Any) -> None:
    def kept(mib: int) -> Any:
        well.execute(health("Spool Bytes", "edge-01", f"{mib} * 1048576"))
        return rules.answer(well, uids.SPOOL_FILLING)

    full, less, little = kept(40), kept(20), kept(4)
    assert rules.told(uids.SPOOL_FILLING, lambda _: less, 7200) == {}
    begun = rules.long_enough(uids.SPOOL_FILLING)
    assert set(rules.told(uids.SPOOL_FILLING, lambda at_s: full if at_s <= begun else less, begun + 600)) == {
        who("edge-01")
    }
    assert rules.told(uids.SPOOL_FILLING, lambda at_s: full if at_s <= begun else little, begun + 600) == {}


def test_a_whole_site_that_falls_silent_is_told_node_by_node(well: cursor, rules: Any) -> None:
    well.execute("update node set last_seen_at = now() - interval '5 minutes' where node_id <> 'edge-01'")
    now = rules.answer(well, uids.NODE_SILENT)
    assert set(rules.told(uids.NODE_SILENT, lambda _: now, 600)) == {who("edge-02"), who("edge-03"), who("edge-04")}
