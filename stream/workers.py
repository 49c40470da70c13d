"""Readings first: the analysis and forecasting have Python workers of their own, which step back when cores are short.

Spark hands its idle workers out in turn. In one pool with the ingest each of them would sooner or later import
TensorFlow, and what readings wait for would wait for that.
"""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyspark.sql import SparkSession

Pool: TypeAlias = Literal["analysis", "forecasting"]

_POOL: Final = "HEADWATER_WORKERS"
_NICE: Final = "HEADWATER_NICE"
_STEPS_BACK: Final = "10"
_replacing = threading.Lock()


class _Environment(dict[str, str]):
    """What Spark gives to the workers of a function that is made now, which may be more for one of our threads."""

    def __init__(self, of_all: dict[str, str]) -> None:
        super().__init__(of_all)
        self.of_thread = threading.local()

    # This is all that py4j asks for.
    def keys(self) -> list[str]:  # type: ignore[override]  # a copy
        return list(super().keys() | self._more())

    def __getitem__(self, name: str) -> str:
        more = self._more()
        return more[name] if name in more else super().__getitem__(name)

    def _more(self) -> dict[str, str]:
        found: dict[str, str] = getattr(self.of_thread, "more", {})
        return found


@contextmanager
def own_workers(spark: SparkSession, pool: Pool) -> Iterator[None]:
    """What this thread makes of Python functions runs in workers apart: Spark shares them among equal environments."""
    context = spark.sparkContext
    with _replacing:
        if not isinstance(context.environment, _Environment):
            context.environment = _Environment(context.environment)
    of_thread = context.environment.of_thread
    of_thread.more = {_POOL: pool, _NICE: _STEPS_BACK}
    try:
        yield
    finally:
        of_thread.more = {}


def step_back() -> None:
    """Let other processes of the machine go first, if this is such a worker; it cannot be taken back."""
    wanted = int(os.environ.get(_NICE, "0"))
    if (more := wanted - os.nice(0)) > 0:
        os.nice(more)
