"""The floor: the rows of all payloads, sorted and encoded beforehand, and nothing to do but to COPY them."""

from __future__ import annotations

import time
from contextlib import closing
from typing import TYPE_CHECKING, Final

import numpy as np

from bench.stream.load import NODES
from stream.connection import connect
from stream.ingest import copy
from stream.ingest.batch import sorted_once

if TYPE_CHECKING:
    import io
    from collections.abc import Iterator

    from bench.stream.load import Load

_COPY: Final = "copy reading (series_id, sampled_at, value, quality) from stdin (format binary)"
_BUFFER_BYTES: Final = 1 << 20


def copied(load: Load, rows_at_once: int, dsn: str) -> float:
    """Seconds that a COPY and a durable commit for each so many rows take together, behind the first payloads'."""
    first, *prepared = _encoded(load, rows_at_once // load.metrics)
    with closing(connect(dsn)) as opened, opened.cursor() as cursor:
        cursor.copy_expert(_COPY, first, _BUFFER_BYTES)
        opened.commit()
        began_s = time.perf_counter()
        for rows in prepared:
            cursor.copy_expert(_COPY, rows, _BUFFER_BYTES)
            opened.commit()
        return time.perf_counter() - began_s


def _encoded(load: Load, payloads_at_once: int) -> Iterator[io.BytesIO]:
    for first in range(0, load.payloads, payloads_at_once):
        values = load.values[first : first + payloads_at_once]
        payloads = np.arange(first, first + len(values))
        ids = (payloads[:, None] % NODES * load.metrics + np.arange(load.metrics)).astype(np.int32).ravel()
        times = np.repeat([load.sampled_at_ms(payload) for payload in payloads.tolist()], load.metrics)
        order = sorted_once(ids, times)
        quality = np.full(len(order), 192, np.int16)
        yield copy.readings(ids[order], times[order], values.ravel()[order], quality)
