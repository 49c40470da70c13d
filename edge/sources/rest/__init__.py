"""Any REST API as a source, described by data: presets for those that come with the agent, YAML for all others.

The time of a reading is the source's own where it tells one; values whose time was seen before are no new readings.
"""

from edge.sources.rest.config import RestConfig
from edge.sources.rest.source import RestSource

__all__ = ["RestConfig", "RestSource"]
