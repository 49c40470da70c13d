"""/metrics by Prometheus' own rules, checked by a parser that takes nothing else."""

from __future__ import annotations

import copy
import re
from typing import Any, Final

import pytest

from edge.health.exposition import exposition

REPORT: Final[dict[str, Any]] = {
    "node": "demo/edge-1",
    "version": "0.1",
    "uptime_s": 12.5,
    "stuck": [],
    "clock": {"now": 1_800_000_010_000, "wall_offset_ms": -250, "state": "synchronised"},
    "uplink": {"connected": True, "away": False, "unacknowledged": 3, "connections": 2, "error": None},
    "spool": {
        "max_bytes": 1 << 28,
        "outage_left_s": 3600,
        "buffered": 0,
        "evicted": 1,
        "dropped": 0,
        "undated": 0,
        "set_aside": 0,
        "error": None,
        "batches": 7,
        "bytes": 700,
        "oldest_at": 1_800_000_000_000,
        "lanes": {
            "alarm": {"batches": 0, "bytes": 0, "oldest_at": None},
            "live": {"batches": 7, "bytes": 700, "oldest_at": 1_800_000_000_000},
        },
    },
    "sources": {
        'pl"a\\nt\n': {
            "type": "modbus",
            "interval_s": 1.0,
            "state": "ok",
            "readings": 100,
            "suppressed": 5,
            "polls": 10,
            "failures": 1,
            "writes": 0,
            "restarts": 0,
            "last_sampled_at": 1_800_000_009_500,
            "last": {},
            "details": {"line occupancy": 0.25, "mode": "rtu", "quota left": float("inf"), "odd": float("nan")},
            "error": None,
            "skipped_ticks": 0,
            "overdue_s": 0.0,
        },
        "silent": {
            "type": "rest",
            "interval_s": 60.0,
            "state": "failing",
            "readings": 0,
            "suppressed": 0,
            "polls": 1,
            "failures": 1,
            "writes": 0,
            "restarts": 0,
            "last_sampled_at": None,
            "last": {},
            "details": {},
            "error": "no",
            "skipped_ticks": 0,
            "overdue_s": 0.0,
        },
    },
    "models": {
        "process": {},
        "models": {
            "forecast": {"state": "ok", "results": 7, "failed": 1, "last_result_at": 1_800_000_009_000},
            "new": {"state": "waiting", "results": 0, "failed": 0, "last_result_at": None},
        },
    },
    "commands": {"done": 1, "refused": 2, "unanswered": 0},
    "reloads": 0,
    "process": {"pid": 1, "memory_bytes": 50_000_000, "cpu_s": 1.25, "open_files": 12},
}

_LABEL = r'[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\["\\n])*"'
_SAMPLE = re.compile(rf"([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{{({_LABEL}(?:,{_LABEL})*)\}})? (NaN|[+-]Inf|-?[0-9.e+-]+)")


def parsed(page: str) -> dict[str, dict[str, float]]:
    """The samples by family and labels; asserts every rule of the format, and those of good names."""
    assert page.endswith("\n")
    families: dict[str, dict[str, float]] = {}
    lines = page[:-1].split("\n")
    name = kind = ""
    for line in lines:
        if line.startswith("# HELP "):
            name = line.split(" ")[2]
            assert name not in families, "a family stands together"
            assert line.split(" ", 3)[3].endswith(".")
            families[name] = {}
        elif line.startswith("# TYPE "):
            assert line.split(" ")[2] == name, "HELP and TYPE stand before the samples"
            kind = line.split(" ")[3]
            assert (kind == "counter") == name.endswith("_total")
        else:
            match = _SAMPLE.fullmatch(line)
            assert match, line
            assert match[1] == name
            assert (match[2] or "") not in families[name], "no sample stands twice"
            families[name][match[2] or ""] = float(match[3])
            assert kind != "counter" or float(match[3]) >= 0
    assert all(families.values()), "no family is empty"
    return families


def test_the_page_is_what_prometheus_reads() -> None:
    families = parsed(exposition(REPORT))
    assert families["headwater_edge_uplink_connected"] == {"": 1}
    assert families["headwater_edge_spool_batches"] == {'lane="alarm"': 0, 'lane="live"': 7}
    assert families["headwater_edge_spool_oldest_seconds"] == {'lane="live"': 10}
    assert families["headwater_edge_clock_wall_offset_seconds"] == {"": -0.25}
    escaped = r'source="pl\"a\\nt\n"'
    assert families["headwater_edge_source_up"] == {escaped: 1, 'source="silent"': 0}
    assert families["headwater_edge_source_suppressed_readings_total"][escaped] == 5
    assert families["headwater_edge_source_last_reading_timestamp_seconds"] == {escaped: 1_800_000_009.5}
    details = families["headwater_edge_source_detail"]
    assert set(details) == {f'{escaped},detail="{name}"' for name in ("line occupancy", "quota left", "odd")}
    assert families["headwater_edge_model_up"] == {'model="forecast"': 1, 'model="new"': 0}
    assert families["headwater_edge_model_last_result_timestamp_seconds"] == {'model="forecast"': 1_800_000_009}
    assert families["process_resident_memory_bytes"] == {"": 50_000_000}


def test_units_are_those_of_prometheus() -> None:
    for name in parsed(exposition(REPORT)):
        assert re.fullmatch(r"(headwater_edge|process)_[a-z_]+", name), name
        assert not re.search(r"_(ms|s|mib|kb|percent)(_total)?$", name), name


def test_a_spool_that_does_not_answer_leaves_the_rest() -> None:
    report = copy.deepcopy(REPORT)
    report["spool"] |= {"batches": None, "bytes": None, "oldest_at": None, "lanes": {}, "error": "hangs"}
    report["stuck"] = ["spool"]
    families = parsed(exposition(report))
    assert families["headwater_edge_stuck"] == {"": 1}
    assert "headwater_edge_spool_batches" not in families


@pytest.mark.parametrize("line", ["x 1\n# HELP y Y.", "# HELP x X.\n# TYPE x counter\nx 1", 'x{a="b} 1', "x one"])
def test_the_parser_is_strict(line: str) -> None:
    with pytest.raises(AssertionError):
        parsed(line + "\n")
