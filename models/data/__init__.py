"""Where data to train on comes from: one file for each source, all giving a `Dataset`.

Readings of a running system: `models.data.timescale.load_live`, and `models.data.kept.keep`, which gives them a name.
"""

from models.data.catalogue import NAMES, Described, about, describe, describe_all, load

__all__ = ["NAMES", "Described", "about", "describe", "describe_all", "load"]
