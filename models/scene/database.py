"""Cameras that ask for a model, and their samples, in a running Headwater database. Only read."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from contract.scene import REQUEST, SAMPLE, session_of
from models.data.timescale import Place, connected
from models.errors import DataError
from models.scene.samples import of_jpegs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from models.scene.samples import Samples

_ASKED: Final = """
select group_id, node_id, device_id, event_id, sampled_at,
       (select count(*) from camera_event s where s.group_id = r.group_id and s.node_id = r.node_id
        and s.device_id = r.device_id and s.kind in (%(sample)s, %(request)s)
        and s.event_id like split_part(r.event_id, '-', 1) || '-' || split_part(r.event_id, '-', 2) || '-%%')
from camera_event r where kind = %(request)s
order by sampled_at desc
"""
_FRAMES: Final = """
select floor(extract(epoch from sampled_at) * 1000)::bigint, jpeg from camera_event
where group_id = %(group)s and node_id = %(node)s and device_id = %(device)s and kind in (%(sample)s, %(request)s)
  and event_id like %(session)s
order by sampled_at limit %(most)s
"""
_MOST: Final = 50_000


@dataclass(frozen=True, slots=True)
class Request:
    """A camera (GROUP/NODE/DEVICE) has gathered its samples: `samples` of them came, the last at `asked_at`."""

    camera: str
    session_ms: int
    samples: int
    asked_at: dt.datetime


def requests(newest: Mapping[str, dt.datetime] | None = None) -> list[Request]:
    """The newest request of each camera, the newest first; but none that its newest model has learnt from already.

    `newest` is by camera when its newest model's last sample was taken. Raises DataError.
    """
    with connected() as opened, opened.cursor() as cursor:
        cursor.execute(_ASKED, {"request": REQUEST, "sample": SAMPLE})
        rows = cursor.fetchall()
    found: dict[str, Request] = {}
    for group, node, device, event_id, asked_at, samples in rows:
        camera, session_ms = f"{group}/{node}/{device}", session_of(event_id)
        if session_ms is not None and camera not in found:
            found[camera] = Request(camera, session_ms, samples, asked_at)
    known = newest or {}
    return [each for each in found.values() if each.camera not in known or each.asked_at > known[each.camera]]


def from_database(camera: str) -> Samples:
    """The samples of a camera's newest request; raises DataError where it has made none."""
    place = Place.parse(camera)
    asked = next((each for each in requests() if each.camera == camera), None)
    if asked is None or not place.device:
        raise DataError(f"{camera}: has not asked for a model: its samples are not complete, or there are none")
    named = {"group": place.group, "node": place.node, "device": place.device, "session": f"scene-{asked.session_ms}-%"}
    with connected() as opened, opened.cursor() as cursor:
        cursor.execute(_FRAMES, {**named, "request": REQUEST, "sample": SAMPLE, "most": _MOST})
        rows = cursor.fetchall()
    begun = dt.datetime.fromtimestamp(asked.session_ms / 1000, tz=dt.UTC)
    return of_jpegs(
        camera, f"database, samples from {begun:%Y-%m-%d %H:%M} on", ((int(ms), bytes(j)) for ms, j in rows)
    )
