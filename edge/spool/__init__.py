"""The spool: what was read, kept on the device's disk until the cloud is known to have it."""

from __future__ import annotations

from edge.spool.keeper import Beginning
from edge.spool.sequence import Extent, StoredBatch
from edge.spool.spool import Spool, SpoolLimits

__all__ = ["Beginning", "Extent", "Spool", "SpoolLimits", "StoredBatch"]
