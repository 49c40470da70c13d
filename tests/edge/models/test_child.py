"""What passes between the agent and the models' process, and what is made of a process that does not keep to it."""

from __future__ import annotations

import asyncio
import hashlib
import io
import random
import struct
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import ModelError
from edge.inference.frames import MAX_BODY_BYTES, FrameError, encode_frame, read_frame, receive_frame
from edge.models import InferenceConfig
from edge.models.child import LostProcessError, ModelProcess, Outcome, WindowToRun, started
from edge.models.package import read_package, settings_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from edge.inference.settings import ModelSettings
    from edge.models import ModelConfig

HEADS = st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=9) | st.none(), max_size=4)


def settings_in(directory: Path, served: Callable[..., ModelConfig]) -> ModelSettings:
    return settings_of(read_package(directory, ()), served("m", directory))


async def received(data: bytes) -> Any:
    reader = asyncio.StreamReader()
    reader.feed_data(data)
    reader.feed_eof()
    return await receive_frame(reader)


@given(HEADS, st.binary(max_size=100))
def test_a_frame_comes_back_as_it_was(head: dict[str, Any], body: bytes) -> None:
    frame = encode_frame(head, body)
    stream = io.BytesIO(2 * frame)
    assert [read_frame(stream) for _ in range(3)] == [(head, body), (head, body), None]
    assert asyncio.run(received(frame)) == (head, body)


@given(HEADS, st.binary(max_size=20), st.integers(1, 50))
def test_a_frame_that_is_cut_is_the_end(head: dict[str, Any], body: bytes, cut: int) -> None:
    frame = encode_frame(head, body)[:-cut]
    assert read_frame(io.BytesIO(frame)) is None
    with pytest.raises(asyncio.IncompleteReadError):
        asyncio.run(received(frame))


@pytest.mark.parametrize(
    "frame",
    [
        struct.pack("<II", 2, MAX_BODY_BYTES + 1) + b"{}",
        struct.pack("<II", 1 << 31, 0) + b"{}",
        struct.pack("<II", 2, 0) + b"no",
        struct.pack("<II", 2, 0) + b"[]",
        struct.pack("<II", 2, 0) + b"\xff\xff",
    ],
)
def test_what_is_no_frame_is_not_waited_for(frame: bytes) -> None:
    with pytest.raises(FrameError):
        read_frame(io.BytesIO(frame))
    with pytest.raises(FrameError):
        asyncio.run(received(frame))


def test_a_batch_of_windows_is_answered_in_order(
    put_model: Callable[..., Path], served: Callable[..., ModelConfig], tmp_path: Path
) -> None:
    settings = settings_in(put_model(tmp_path / "m"), served)
    windows = [
        WindowToRun(settings, 0, struct.pack("=8d", *range(n, n + 8)), bytes([1] * 7 + [n % 2])) for n in range(500)
    ]

    async def run() -> list[tuple[float, str | None]]:
        async with started(InferenceConfig()) as process:
            await process.load(settings)
            return [(sum(each.numbers), each.no_window) async for each in process.run(windows)]

    outcomes = asyncio.run(run())
    # The last step of b is missing in every other, and takes the value before it.
    assert [total for total, _ in outcomes] == [8 * n + 28 - (n % 2 == 0) for n in range(500)]
    assert {reason for _, reason in outcomes} == {None}


def test_the_process_knows_when_a_window_ends(
    put_model: Callable[..., Path], served: Callable[..., ModelConfig], tmp_path: Path
) -> None:
    day_ms = 86_400_000
    features = [{"name": "sin", "transform": "day_sin"}, {"name": "log", "transform": "log", "of": ["b"]}]
    window = {"length": 4, "step_s": 21_600}
    settings = settings_in(put_model(tmp_path / "m", features=features, window=window), served)

    async def run() -> list[Outcome]:
        async with started(InferenceConfig()) as process:
            await process.load(settings)
            values = [struct.pack("=8d", 0, 0, 0, 0, 1, 1, 1, last) for last in (1, 1, 0)]
            windows = [
                WindowToRun(settings, end_ms, each, bytes([1] * 8))
                for end_ms, each in zip((0, day_ms // 4, 0), values, strict=True)
            ]
            return [outcome async for outcome in process.run(windows)]

    first, second, third = asyncio.run(run())
    # From midnight on, and from six in the morning on.
    assert list(first.numbers[::2]) == pytest.approx([0, 1, 0, -1], abs=1e-6)
    assert list(second.numbers[::2]) == pytest.approx([1, 0, -1, 0], abs=1e-6)
    assert third.no_window == "log, the log of b, is not finite in the window"
    assert third.failed is None


def test_a_model_that_is_dropped_is_not_there_any_more(
    put_model: Callable[..., Path], served: Callable[..., ModelConfig], tmp_path: Path
) -> None:
    settings = settings_in(put_model(tmp_path / "m"), served)

    async def run() -> None:
        async with started(InferenceConfig()) as process:
            await process.load(settings)
            process.drop(settings.key)
            async for _ in process.run([WindowToRun(settings, 0, bytes(64), bytes([1] * 8))]):
                pass

    with pytest.raises(LostProcessError, match=r"exit code 1 \(KeyError: "):
        asyncio.run(run())


def test_garbled_models_end_in_a_refusal_whatever_they_do(
    put_model: Callable[..., Path], served: Callable[..., ModelConfig], tmp_path: Path
) -> None:
    settings = settings_in(put_model(tmp_path / "m"), served)
    content, (form,) = (tmp_path / "m" / "echo.tflite").read_bytes(), settings.forms
    noise = random.Random(5)

    async def trial() -> None:
        garbled = bytearray(content)
        for _ in range(noise.randint(1, 4)):
            garbled[noise.randrange(len(garbled))] = noise.randrange(256)
        (tmp_path / "m" / "echo.tflite").write_bytes(garbled)
        changed = replace(settings, forms=(replace(form, sha256=hashlib.sha256(garbled).hexdigest()),))
        async with started(InferenceConfig(timeout_s=1, max_memory_mb=64)) as process:
            await process.load(changed)

    refusals = 0
    for _ in range(10):
        try:
            asyncio.run(trial())
        except ModelError:
            refusals += 1
    assert refusals >= 3


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (encode_frame({"us": 1.0}, b"123"), "its result has 3 bytes, not 32"),
        (struct.pack("<II", 1 << 31, 0), "its answer is not understood: a frame of"),
        (b"", "it ended the process: exit code 0"),
    ],
)
def test_a_process_that_answers_nonsense_is_lost(
    answer: bytes, said: str, put_model: Callable[..., Path], served: Callable[..., ModelConfig], tmp_path: Path
) -> None:
    settings = settings_in(put_model(tmp_path / "m"), served)
    program = f"import sys; sys.stdin.buffer.read(8); sys.stdout.buffer.write({answer!r})"

    async def run() -> None:
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), asyncio.subprocess.PIPE)
        process = ModelProcess(
            await asyncio.create_subprocess_exec("python3", "-c", program, **pipes), InferenceConfig()
        )
        try:
            async for _ in process.run([WindowToRun(settings, 0, bytes(64), bytes(8))]):
                pass
        finally:
            await process.end()

    with pytest.raises(LostProcessError, match=said):
        asyncio.run(run())


def test_a_model_that_hangs_is_given_up_in_time(
    put_model: Callable[..., Path], served: Callable[..., ModelConfig], tmp_path: Path
) -> None:
    directory = put_model(tmp_path / "m", "hangs")
    settings = settings_of(read_package(directory, ()), served("m", directory, "abcde"))
    values = struct.pack("=300d", *[9.0] * 300)

    async def run() -> None:
        async with started(InferenceConfig(timeout_s=0.3)) as process:
            await process.load(settings)
            async for _ in process.run([WindowToRun(settings, 0, values, bytes([1] * 300))]):
                pass

    with pytest.raises(LostProcessError, match=r"no answer within 0\.3 s: it was killed"):
        asyncio.run(run())
