"""Every uid that a rule has ever had: only added to.

Grafana keeps a rule that its file no longer has. One that stands here and is no rule's is therefore deleted there
(`deleteRules`); one that would vanish from here is an error (files.py).
"""

from __future__ import annotations

from typing import Final

NODE_SILENT: Final = "headwater-node-silent"
SPOOL_FILLING: Final = "headwater-spool-filling"
DEVICE_DISK: Final = "headwater-device-disk"
SPOOL_LOSING: Final = "headwater-spool-losing"
GAP_OPEN: Final = "headwater-gap-open"
BATCHES_LOST: Final = "headwater-batches-lost"
SKILL_GONE: Final = "headwater-forecast-skill-gone"
ANOMALY: Final = "headwater-anomaly"
DEAD_LETTERS: Final = "headwater-dead-letters"
INGEST_SILENT: Final = "headwater-ingest-silent"
INGEST_LATE: Final = "headwater-ingest-late"
ANALYSIS_BEHIND: Final = "headwater-analysis-behind"
DATABASE_AWAY: Final = "headwater-database-away"
DATABASE_LARGE: Final = "headwater-database-large"
MAINTENANCE_BEHIND: Final = "headwater-maintenance-behind"
ROLLOUT_STOPPED: Final = "headwater-rollout-stopped"


def known() -> frozenset[str]:
    """All of them."""
    return frozenset(value for name, value in globals().items() if name.isupper())
