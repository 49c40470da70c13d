"""Cameras: what they saw, who was at them, and how much goes on at which time of day."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from grafana import colours, uids, units
from grafana.board import Board, Marks
from grafana.fields import image, like, limits, named, on_the_right, unit, width, words, wrapped
from grafana.layout import Row
from grafana.panels import About, columns, lines, number, rows, states
from grafana.query import WIDE, readings, series, table
from grafana.variables import Asked

if TYPE_CHECKING:
    from collections.abc import Sequence

    from grafana.layout import AnyPanel

_CHOSEN: Final = "array[${camera:sqlstring}]::text[]"
_CAMERA: Final = f"s.group_id || '/' || s.node_id || '/' || s.device_id = any({_CHOSEN})"
_NAME: Final = "s.node_id || '/' || s.device_id"
_OF_EVENT: Final = f"e.group_id || '/' || e.node_id || '/' || e.device_id = any({_CHOSEN})"
_NOTHING: Final = "no such reading came from these cameras in this time"
# What is told of tampering, as numbers that a timeline can colour.
_TAMPER: Final = ("none", "frozen", "blurred", "covered", "moved", "lost")
_TAMPERED: Final = {
    str(code): (text, colour_name)
    for code, (text, colour_name) in enumerate(
        zip(
            ("all is well", *_TAMPER[1:]),
            (colours.GOOD, colours.NOTE, colours.WARNING, colours.BAD, colours.BAD, colours.OFF),
            strict=True,
        )
    )
}


def board() -> Board:
    """The dashboard."""
    return Board(
        uids.CAMERAS,
        "Cameras",
        "What did the cameras see, did somebody tamper with one, and is this much activity usual?",
        rows=(
            Row(4, _numbers()),
            Row(14, (_events(),)),
            Row(9, (_tamper(), _active()), "State"),
            Row(9, (_motion(), _scene())),
            Row(9, (_by_hour(), _picture()), "Over the day"),
        ),
        variables=(
            Asked(
                "camera",
                "Camera",
                """
                select distinct group_id || '/' || node_id || '/' || device_id from series
                where kind = 'numeric' and metric = 'motion' order by 1
                """,
                several=True,
            ),
        ),
        marks=(
            Marks(
                "Incidents",
                table(f"""
                    select e.started_at as time, e.kind || ' at ' || e.device_id as text, e.kind as tags
                    from camera_event e where {_OF_EVENT} and e.frame_no = 1 and $__timeFilter(e.started_at) limit 200
                """),
                colours.NOTE,
            ),
        ),
    )


def _numbers() -> Sequence[AnyPanel]:
    return (
        number(
            About("Cameras", "How many cameras are there?", units.COUNT, "no camera yet"),
            table(f"""
                select count(distinct {_NAME}) as cameras from series s
                where s.kind = 'numeric' and s.metric = 'motion' and {_CAMERA}
            """),
        ),
        number(
            About("Incidents", "How many incidents with pictures were there in this time?", units.COUNT, "none"),
            table(f"""
                select count(*) as incidents from camera_event e
                where {_OF_EVENT} and $__timeFilter(e.started_at) and e.frame_no = 1 and e.kind not like 'scene-%'
            """),
        ),
        number(
            About("Tampered with", "How many cameras say that something is wrong with them?", units.COUNT, "none"),
            table(f"""
                select count(*) filter (where told.value <> 'none') as tampered
                from series s
                cross join lateral (
                  select value from reading_text r
                  where r.series_id = s.series_id and r.sampled_at <= $__timeTo()
                    and r.sampled_at > $__timeTo()::timestamptz - interval '1 day'
                  order by r.sampled_at desc limit 1) told
                where s.kind = 'text' and s.metric = 'tamper' and {_CAMERA}
            """),
            limits=limits((1, colours.BAD), base=colours.GOOD),
        ),
    )


def _events() -> AnyPanel:
    return rows(
        About(
            "What was seen",
            "What set off the newest incidents, and how did it look? Only cameras that may send pictures are here.",
            units.NONE,
            "no pictures in this time: a camera sends them only where `clips` stands in its configuration",
        ),
        table(f"""
            with newest as (
              select e.group_id, e.node_id, e.device_id, e.event_id, max(e.started_at) as started_at
              from camera_event e
              where {_OF_EVENT} and $__timeFilter(e.started_at) and e.kind not like 'scene-%'
              group by 1, 2, 3, 4 order by 5 desc limit 12)
            select n.started_at as "At",
                   concat_ws(E'\\n', max(e.kind), 'Camera: ' || n.device_id, 'Node: ' || n.node_id,
                             'Group: ' || n.group_id, 'Frames: ' || count(*) || ' of ' || max(e.frames)) as "What",
                   max('data:image/jpeg;base64,' || translate(encode(e.jpeg, 'base64'), E'\\n', ''))
                     filter (where e.frame_no = 1) as "First",
                   max('data:image/jpeg;base64,' || translate(encode(e.jpeg, 'base64'), E'\\n', ''))
                     filter (where e.frame_no = (e.frames + 1) / 2) as "Middle"
            from newest n join camera_event e using (group_id, node_id, device_id, event_id)
            group by n.started_at, n.group_id, n.node_id, n.device_id, n.event_id
            order by 1 desc
        """),
        fields=(
            named("At", unit(units.TIME), width(160)),
            # Its five lines make the pictures large enough to see something.
            named("What", *wrapped(), width(160)),
            named("First", image()),
            named("Middle", image()),
        ),
    )


def _tamper() -> AnyPanel:
    codes = " ".join(f"when '{text}' then {code}" for code, text in enumerate(_TAMPER))
    return states(
        About(
            "Tampering",
            "When was which camera covered, blurred, moved, frozen or lost? The worst of each interval; of more than "
            "two days how it stood every hour, of more than eight every six.",
            units.NONE,
            _NOTHING,
        ),
        series(f"""
            select time, metric, max(case told {codes} end) as value from (
              select $__timeGroup(r.sampled_at, '$__interval') as time, {_NAME} as metric, r.value as told
              from series s join reading_text r using (series_id)
              where s.kind = 'text' and s.metric = 'tamper' and {_CAMERA} and $__timeFilter(r.sampled_at)
                and $__timeTo()::timestamptz - $__timeFrom()::timestamptz <= interval '2 days'
              union all
              select time, {_NAME}, stood.value
              from series s
              cross join generate_series($__timeFrom()::timestamptz, $__timeTo(), {WIDE}) as time
              cross join lateral (
                select value from reading_text r
                where r.series_id = s.series_id and r.sampled_at > time - {WIDE} and r.sampled_at <= time
                order by r.sampled_at desc limit 1) stood
              where s.kind = 'text' and s.metric = 'tamper' and {_CAMERA}
                and $__timeTo()::timestamptz - $__timeFrom()::timestamptz > interval '2 days') told
            group by 1, 2 order by 1
        """),
        meanings=words(_TAMPERED),
    )


def _active() -> AnyPanel:
    return states(
        About("Motion", "When did something move, and where?", units.NONE, _NOTHING),
        readings(
            f"{_CAMERA} and s.metric like '%motion_active'",
            value="max",
            name=f"{_NAME} || ' ' || replace(s.metric, 'motion_active', '')",
        ),
        meanings=words({"0": ("still", colours.OFF), "1": ("motion", colours.WARNING)}),
    )


def _motion() -> AnyPanel:
    return lines(
        About("Share of the picture that moved", "How much went on?", units.SHARE, _NOTHING),
        readings(
            f"{_CAMERA} and s.metric like '%motion'",
            value="max",
            name=f"{_NAME} || ' ' || replace(s.metric, 'motion', '')",
        ),
        floor=0,
        bars=True,
    )


def _scene() -> AnyPanel:
    return lines(
        About(
            "Scene",
            "How unusual is what is seen? 0 is as usual, 0.7 a factor of two, 2.3 a factor of ten.",
            units.NONE,
            _NOTHING,
        ),
        readings(f"{_CAMERA} and s.metric = 'scene_score'", value="max", name=_NAME),
        limits=limits((2.3, colours.WARNING), base="transparent"),
        floor=0,
    )


def _by_hour() -> AnyPanel:
    return columns(
        About(
            "Activity by the hour",
            "At which hours (UTC) does something move, on average over this time, and is that usual for this place?",
            units.SHARE,
            _NOTHING,
        ),
        table(f"""
            select to_char(r.bucket_at at time zone 'utc', 'HH24') as hour,
                   sum(r.mean * r.n_good) / sum(r.n_good) as "in motion"
            from series s
            cross join lateral reading_bucketed(array[s.series_id], $__timeFrom(), $__timeTo(), '1 hour') r
            where s.kind = 'numeric' and s.metric = 'motion_active' and {_CAMERA} and r.n_good > 0
            group by 1 order by 1
        """),
        x="hour",
    )


def _picture() -> AnyPanel:
    return lines(
        About("Picture", "Is it light enough and sharp, as always at this time of day?", units.GREY_LEVELS, _NOTHING),
        readings(f"{_CAMERA} and s.metric in ('brightness', 'sharpness')", name=f"{_NAME} || ' ' || s.metric"),
        fields=(like("/sharpness/", unit(units.NONE), *on_the_right("sharpness")),),
        floor=0,
    )
