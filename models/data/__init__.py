"""Where data to train on comes from: one file for each source, all giving a `Dataset`."""

from models.data.catalogue import NAMES, Described, about, describe, describe_all, load

__all__ = ["NAMES", "Described", "about", "describe", "describe_all", "load"]
