"""Readings first: the workers of the analysis are processes of their own, and step back when cores are short."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyspark.sql import SparkSession

_VARIABLE: Final = "HEADWATER_NICE"
_NICE: Final = 10


@contextmanager
def own_workers(spark: SparkSession) -> Iterator[None]:
    """What is made of Python functions here runs in workers apart: Spark shares them only among equal environments."""
    environment = spark.sparkContext.environment
    environment[_VARIABLE] = str(_NICE)
    try:
        yield
    finally:
        del environment[_VARIABLE]


def step_back() -> None:
    """Let other processes of the machine go first, if this is such a worker; it cannot be taken back."""
    wanted = int(os.environ.get(_VARIABLE, "0"))
    if (more := wanted - os.nice(0)) > 0:
        os.nice(more)
