"""Any REST API as a source, described by data: presets for those that come with the agent, YAML for all others.

The time of a reading is the source's own where it tells one; values whose time was seen before are no new readings.

    config      what a user writes, held against its API
    api         an API as data: what a preset's YAML holds; made of times, hours (and nyse), expressions, templates
    plan        requests against limits before the first one is made; `budget` the same while it runs
    source      one poll after another: whose turn it is, what is new (`memory`), what failed
    http, key   one request and its answer, and the secret that goes with it and nowhere else
    bodies      bytes into plain values; `answers` those into rows and readings
"""

from edge.sources.rest.config import RestConfig
from edge.sources.rest.source import RestSource

__all__ = ["RestConfig", "RestSource"]
