"""What the agent says of its models on the health page."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edge.models.child import ModelProcess
    from edge.models.served import Served
    from edge.models.serving import Serving

_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")


def report_models(models: Mapping[str, Served], serving: Serving) -> dict[str, object]:
    """How each model fares, and what their process takes."""
    process = serving.process
    return {
        "process": {"losses": serving.losses, **(_report_process(process) if process else {"pid": None})},
        "models": {name: _report_model(served) for name, served in models.items()},
    }


def _report_model(served: Served) -> dict[str, object]:
    status, current = served.status, served.current
    return {
        "state": status.state,
        "reason": status.reason,
        "refused": status.refused,
        "quarantined": list(served.quarantined.values()),
        "model": current.package.manifest.name if current else None,
        "version": current.package.manifest.version if current else None,
        "kind": current.package.manifest.output.kind if current else None,
        "form": current.chosen.form if current else None,
        "signed_by": str(current.package.signed_by) if current and current.package.signed_by else None,
        "tried_us": {form: round(us, 1) for form, us in current.chosen.us.items()} if current else {},
        "results": status.results,
        "no_window": status.no_window,
        "failed": status.failed,
        "skipped": served.feed.skipped if current else 0,
        "swaps": status.swaps,
        "last_us": None if status.last_us is None else round(status.last_us, 1),
        "last_result_at": status.last_end_ms,
        "last": status.last,
    }


def _report_process(process: ModelProcess) -> dict[str, object]:
    """Memory and time by /proc; neither where there is none."""
    report: dict[str, object] = {"pid": process.pid, "runtime": process.runtime}
    proc = Path(f"/proc/{process.pid}")
    try:
        resident_pages = int((proc / "statm").read_text(encoding="ascii").split()[1])
        fields = (proc / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except (OSError, IndexError, ValueError):
        return report
    cpu_s = (int(fields[11]) + int(fields[12])) / _TICKS_PER_S
    return {**report, "memory_bytes": resident_pages * _PAGE_BYTES, "cpu_s": cpu_s}
