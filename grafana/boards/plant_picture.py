"""Plant, continued: the water works as a picture, from the river to the town."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from grafana import colours, units
from grafana.fields import (
    named,
    unit,
)
from grafana.panels import About
from grafana.pictures import Box, picture
from grafana.query import table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from grafana.layout import AnyPanel

METRICS: Final = {
    "intake/flow": units.CUBIC_METRES_PER_HOUR,
    "intake/valve_position": units.PERCENT,
    "tank1/level": units.METRES,
    "pump1/speed": units.REVOLUTIONS,
    "pump1/flow": units.CUBIC_METRES_PER_HOUR,
    "quality/raw_turbidity": units.NTU,
    "quality/turbidity": units.NTU,
    "quality/chlorine": units.MILLIGRAMS_PER_LITRE,
    "quality/ph": units.PH,
    "tank2/level": units.METRES,
    "pump2/speed": units.REVOLUTIONS,
    "pump2/flow": units.CUBIC_METRES_PER_HOUR,
    "mains/power": units.WATT,
}


def works(condition: str) -> AnyPanel:
    """The picture, with the newest values of the metrics `METRICS` of the series `s` that meet a condition."""
    values = ",\n  ".join(f"max(value) filter (where metric = '{metric}') as \"{metric}\"" for metric in METRICS)
    return picture(
        About(
            "The works",
            "What flows where at this moment, or at the end of the time that is shown?",
            units.NONE,
            "no value within ten minutes of that",
        ),
        table(f"""
            select
              {values}
            from series s
            cross join lateral (
              select r.value from reading r
              where r.series_id = s.series_id and r.quality = 192
                and r.sampled_at <= least($__timeTo(), now())
                and r.sampled_at > least($__timeTo(), now()) - interval '10 minutes'
              order by r.sampled_at desc limit 1) last
            where s.kind = 'numeric' and {condition}
        """),
        _boxes(),
        fields=tuple(named(metric, unit(unit_id)) for metric, unit_id in METRICS.items()),
    )


def _boxes() -> Sequence[Box]:
    middle = 34
    return (
        *_with_values(
            Box("River", 1, middle + 4, 9, 16, "River", kind="ellipse", fill=colours.WATER, pipes=("Raw water",)),
            "intake/flow",
            "intake/valve_position",
            "quality/raw_turbidity",
        ),
        *_with_values(
            Box("Raw water", 17, middle - 10, 11, 40, "Raw water", fill=colours.WATER, pipes=("Pump 1",)), "tank1/level"
        ),
        *_with_values(
            Box("Pump 1", 34, middle + 4, 7, 16, "Pump 1", kind="ellipse", pipes=("Filter and dosing",)),
            "pump1/flow",
            "pump1/speed",
        ),
        *_with_values(
            Box("Filter and dosing", 47, middle - 2, 11, 26, "Filter and dosing", pipes=("Clean water",)),
            "quality/turbidity",
            "quality/chlorine",
            "quality/ph",
        ),
        *_with_values(
            Box("Clean water", 64, middle - 10, 11, 40, "Clean water", fill=colours.WATER, pipes=("Pump 2",)),
            "tank2/level",
        ),
        *_with_values(
            Box("Pump 2", 80, middle + 4, 7, 16, "Pump 2", kind="ellipse", pipes=("Town",)), "pump2/flow", "pump2/speed"
        ),
        *_with_values(Box("Town", 92, middle + 4, 7, 16, "Town"), "mains/power"),
    )


def _with_values(box: Box, *metrics: str) -> tuple[Box, ...]:
    """A box and below it what is measured there."""
    return (
        box,
        *(
            Box(metric, box.left - 1, box.top + box.height + 1 + 9 * place, box.width + 2, 8, field=metric, size=16)
            for place, metric in enumerate(metrics)
        ),
    )
