"""What a model looks at: the series that a binding names, of each device and subject. Pure."""

from __future__ import annotations

import fnmatch
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from stream.forecasting.config import Elsewhere

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from contract.manifest import Manifest
    from stream.forecasting.config import Binding

_SUBJECT: Final = "{subject}"


class Device(NamedTuple):
    """A Sparkplug device; `device_id` is empty for the node itself."""

    group_id: str
    node_id: str
    device_id: str

    @classmethod
    def parse(cls, address: str) -> Device:
        """Of `group/node/device`."""
        return cls(*address.split("/", 2))

    def __str__(self) -> str:
        return "/".join(self)


class Watched(NamedTuple):
    """A device and what of it is looked at; `subject` is empty where it is all of it."""

    device: Device
    subject: str

    def __str__(self) -> str:
        return f"{self.device} {self.subject}".rstrip()


@dataclass(frozen=True, slots=True)
class Found:
    """What a binding comes to: for each watched the series of each of the model's sources; what is lacking where."""

    series: Mapping[Watched, Mapping[str, int]]
    lacking: Mapping[Watched, tuple[str, ...]]


# Device -> metric -> series.
Dictionary = dict[Device, dict[str, int]]


def find(binding: Binding, manifest: Manifest, dictionary: Dictionary) -> Found:
    """The series of each device that the binding's globs match; a device that has none of the sources is none of it."""
    series: dict[Watched, dict[str, int]] = {}
    lacking: dict[Watched, tuple[str, ...]] = {}
    matches = [re.compile(device_pattern(each)) for each in binding.devices]
    for device in sorted(dictionary):
        if not any(each.fullmatch(str(device)) for each in matches):
            continue
        for subject in _subjects(binding, manifest, dictionary[device]):
            names = {source: _address(binding, source, device, subject) for source in manifest.sources}
            found = {s: dictionary.get(d, {}).get(metric) for s, (d, metric) in names.items()}
            missing = tuple(f"{d}: {m}" for s, (d, m) in names.items() if found[s] is None)
            if not missing:
                series[Watched(device, subject)] = {s: number for s, number in found.items() if number is not None}
            elif len(missing) < len(names):
                lacking[Watched(device, subject)] = missing
    return Found(series, lacking)


def device_pattern(glob: str) -> str:
    """A regular expression, for Python and PostgreSQL, of what a glob matches; a star stops at a slash."""
    parts = {"*": "[^/]*", "?": "[^/]"}
    return "^" + "".join(parts.get(each, re.escape(each)) for each in glob) + "$"


def edge_device(binding: Binding, model: str, watched: Watched) -> Device | None:
    """The device as which an agent tells what it made of the same readings."""
    if binding.edge is None:
        return None
    return Device.parse(binding.edge.format(model=model, subject=watched.subject, **_names(watched.device)))


def edge_pattern(template: str) -> str:
    """A regular expression of whatever device the template may come to."""
    return "^" + _any_in(template) + "$"


def patterns(binding: Binding, manifest: Manifest) -> Iterator[tuple[str, str]]:
    """Regular expressions of the devices and metrics that may be looked at, in PostgreSQL's and Python's sense."""
    for source in manifest.sources:
        metric = binding.metrics.get(source, source)
        if isinstance(metric, Elsewhere):
            # Of which devices is known when the others are; the metric alone narrows it enough.
            yield "^" + _any_in(metric.device) + "$", "^" + _any_in(metric.metric) + "$"
            continue
        for device in binding.devices:
            yield (
                device_pattern(device),
                "^" + (_any_in(metric) if source in binding.metrics else re.escape(metric)) + "$",
            )


def _subjects(binding: Binding, manifest: Manifest, metrics: Iterable[str]) -> Sequence[str]:
    """Those that the device's metrics name; one that is empty where no metric of the binding has a subject."""
    with_subject = [
        each for source in manifest.sources if isinstance(each := binding.metrics.get(source), str) and _SUBJECT in each
    ]
    if not with_subject:
        return [""]
    matches = [re.compile("(.+)".join(re.escape(part) for part in each.split(_SUBJECT))) for each in with_subject]
    found = {match[1] for metric in metrics for each in matches if (match := each.fullmatch(metric))}
    return sorted(s for s in found if any(fnmatch.fnmatchcase(s, each) for each in binding.subjects))


def _address(binding: Binding, source: str, device: Device, subject: str) -> tuple[Device, str]:
    metric = binding.metrics.get(source)
    if metric is None:
        return device, source
    if isinstance(metric, Elsewhere):
        there = Device.parse(metric.device.format(**_names(device)))
        return there, metric.metric.format(subject=subject, **_names(device))
    return device, metric.format(subject=subject, **_names(device))


def _names(device: Device) -> dict[str, str]:
    return {"group": device.group_id, "node": device.node_id, "device": device.device_id}


def _any_in(template: str) -> str:
    """A regular expression of whatever the template may come to."""
    return ".+".join(re.escape(part) for part in re.split(r"\{\w+\}", template))
