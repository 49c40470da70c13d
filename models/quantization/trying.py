"""All forms of a net, tried: which of them devices get, and why not the others."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

import numpy as np

from models.errors import ConversionError
from models.quantization.calibration import check_range
from models.quantization.flatbuffer import read_graph
from models.quantization.forms import exported
from models.quantization.measuring import measure, runtimes
from models.quantization.results import MOST_WORSE, Quantization, Tried

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from contract.card import Form
    from models.quantization.forms import Net
    from models.quantization.judging import Judge

    Floats: TypeAlias = NDArray[np.float32]
    # Told before each form is tried: its name.
    OnForm: TypeAlias = Callable[[str], None]

_PLAIN: Final[tuple[Form, ...]] = ("float32", "float16", "dynamic")
# What is float32 with smaller weights; where it saves less than this share of bytes, it is the same model once more.
_SMALLER: Final = ("float16", "dynamic")
_LEAST_SAVED: Final = 0.05
_WINDOWS_FILE: Final = "windows.npy"


class Convertible(Protocol):
    """A net, and what its forms are made and judged by."""

    @property
    def core(self) -> Any:  # noqa: ANN401 - Keras is untyped
        """The Keras model that is converted; it takes windows as `learnt` has them."""

    @property
    def learnt(self) -> Floats:
        """Some of the windows that it was trained on, [n, ...]."""

    @property
    def calibration(self) -> Floats:
        """Those that int8's ranges are set by, [n, ...]."""

    @property
    def judge(self) -> Judge:
        """Who knows how good outputs are."""


@dataclass(frozen=True, slots=True)
class _Candidate:
    form: Form
    make: Callable[[], bytes]
    wide: bool = False


def try_forms(
    recipe: str, subject: Convertible, on_form: OnForm = lambda _: None
) -> tuple[Quantization, dict[Form, bytes]]:
    """What came of each form, and the contents of those for devices; raises ConversionError where there is none."""
    tried: list[Tried] = []
    given: dict[Form, bytes] = {}
    judge = subject.judge
    with tempfile.TemporaryDirectory(prefix="headwater-forms-") as place, exported(subject.core) as net:
        np.save(Path(place) / _WINDOWS_FILE, judge.windows)
        for candidate in _candidates(net, subject, tried):
            on_form(candidate.form)
            content, found = _tried(candidate, judge, Path(place), tried)
            tried.append(found)
            if not found.left_out:
                given[found.form] = content
    if not given:
        raise ConversionError(f"{recipe}: {'; '.join(f'{each.title}: {each.left_out}' for each in tried)}")
    return Quantization(recipe, judge.measure, judge.reference, len(judge.windows), tuple(tried)), given


def _candidates(net: Net, subject: Convertible, tried: Sequence[Tried]) -> Iterator[_Candidate]:
    """The forms in turn; int8 once more, wide, where the plain one is not as good as float."""
    for form in _PLAIN:
        yield _Candidate(form, partial(net.convert, form))
    yield _Candidate("int8", partial(_int8, net, subject))
    plain = tried[-1].judged
    if plain and plain.worse > MOST_WORSE:
        yield _Candidate("int8", partial(_int8, net, subject, wide=True), wide=True)


def _int8(net: Net, subject: Convertible, *, wide: bool = False) -> bytes:
    content = net.convert_int8(subject.calibration, wide=wide)
    check_range(read_graph(content).first_int8, subject.learnt)
    return content


def _tried(candidate: _Candidate, judge: Judge, place: Path, before: Sequence[Tried]) -> tuple[bytes, Tried]:
    try:
        content = candidate.make()
    except ConversionError as exc:
        return b"", Tried(candidate.form, candidate.wide, 0, (), None, str(exc))
    found = [measure(runtime, content, place / _WINDOWS_FILE, place) for runtime in runtimes()]
    outputs = [told for _, told in found if told is not None]
    # The worst of the runtimes: a device has one or the other.
    judged = max(map(judge.judge, outputs), key=lambda each: each.worse, default=None)
    tried = Tried(candidate.form, candidate.wide, len(content), tuple(run for run, _ in found), judged)
    return content, replace(tried, left_out=_why_not(tried, before))


def _why_not(tried: Tried, before: Sequence[Tried]) -> str | None:
    if faults := [f"{run.runtime}: {run.fault}" for run in tried.runs if run.fault]:
        return "; ".join(faults)
    if tried.judged is None:
        return "there is no runtime to try it in"
    if tried.judged.worse > MOST_WORSE:
        return f"{tried.judged.worse:.1%} worse than float, allowed is {MOST_WORSE:.0%}"
    if tried.form in _SMALLER and tried.size_bytes > (1 - _LEAST_SAVED) * before[0].size_bytes:
        return "no smaller than float32: nothing in it is large enough to be quantized"
    return None
