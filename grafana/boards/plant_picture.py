"""Plant, continued: the water works as a picture, from the river to the town."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from grafana import colours, units
from grafana.fields import (
    named,
    unit,
)
from grafana.panels import About
from grafana.pictures import FITS_BESIDE, Box, Pipe, picture
from grafana.query import table

if TYPE_CHECKING:
    from collections.abc import Iterator

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


@dataclass(frozen=True, slots=True)
class _Station:
    """Where water comes through, and what is measured there."""

    name: str
    metrics: tuple[str, ...]
    kind: str = "rectangle"
    fill: str = "transparent"


_WAY: Final = (
    _Station("River", ("intake/flow", "intake/valve_position", "quality/raw_turbidity"), "ellipse", fill=colours.WATER),
    _Station("Raw water", ("tank1/level",), fill=colours.WATER),
    _Station("Pump 1", ("pump1/flow", "pump1/speed"), "ellipse"),
    _Station("Filter and dosing", ("quality/turbidity", "quality/chlorine", "quality/ph")),
    _Station("Clean water", ("tank2/level",), fill=colours.WATER),
    _Station("Pump 2", ("pump2/flow", "pump2/speed"), "ellipse"),
    _Station("Town", ("mains/power",)),
)


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
        tuple(_boxes()),
        fields=tuple(named(metric, unit(unit_id)) for metric, unit_id in METRICS.items()),
    )


def _boxes() -> Iterator[Box]:
    """From left to right, and in the next row back."""
    for number, station in enumerate(_WAY):
        row, place = divmod(number, FITS_BESIDE)
        left = 25 * (FITS_BESIDE - 1 - place if row else place)
        onward = _WAY[number + 1].name if number + 1 < len(_WAY) else ""
        yield Box(
            station.name,
            left + 2.5,
            50 * row + 3,
            # The last one is wider, so that the pipe downwards passes beside its values.
            22 if left == 25 * (FITS_BESIDE - 1) else 20,
            17,
            station.name,
            kind=station.kind,
            fill=station.fill,
            pipes=(_onward(onward, row, place),) if onward else (),
        )
        for below, metric in enumerate(station.metrics):
            yield Box(metric, left + 0.5, 50 * row + 21 + 8.5 * below, 24, 8, field=metric, size=13)


def _onward(name: str, row: int, place: int) -> Pipe:
    if place == FITS_BESIDE - 1:
        return Pipe(name, "right", "right")
    return Pipe(name, "left", "right") if row else Pipe(name)
