"""The models' process as the agent sees it: started, asked, given up when it does not answer in time."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from array import array
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from edge.errors import ModelError
from edge.inference.frames import FrameError, Head, encode_frame, receive_frame
from edge.process import start_process

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from edge.inference.settings import ModelSettings, SceneSettings
    from edge.models.config import InferenceConfig

logger = logging.getLogger(__name__)

_START_S: Final = 30.0  # for numpy and the runtime to load on a busy Pi
_LIMIT_BYTES: Final = 1 << 20
_READ_BYTES: Final = 4096
_WORDS: Final = 4000
_ENVIRONMENT: Final = {"TF_CPP_MIN_LOG_LEVEL": "2"}


class LostProcessError(ModelError):
    """The process has ended, or had to be killed; whatever it was asked last is to blame."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """The form that a model is run in, and the median time of each that could be, us."""

    form: str
    us: dict[str, float]


@dataclass(frozen=True, slots=True)
class WindowToRun:
    """Readings by step, up to `end_ms`, for a model that is loaded: float64 values and states, input by input."""

    settings: ModelSettings
    end_ms: int
    values: bytes
    states: bytes


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a window: numbers, or why there are none; `failed` where the model is to blame for that."""

    numbers: Sequence[float] = ()
    us: float = 0.0
    no_window: str | None = None
    failed: str | None = None


@asynccontextmanager
async def started(config: InferenceConfig) -> AsyncIterator[ModelProcess]:
    """A process that is ready, killed at the end; raises LostProcessError."""
    try:
        process = await start_process("edge.inference.process", _ENVIRONMENT, _LIMIT_BYTES)
    except OSError as exc:
        raise LostProcessError(f"the models' process cannot be started: {exc}") from exc
    models = ModelProcess(process, config)
    try:
        await models.begin()
        yield models
    finally:
        await models.end()


class ModelProcess:
    """Asks the process one thing after another; after a LostProcessError there is no use in asking more."""

    def __init__(self, process: asyncio.subprocess.Process, config: InferenceConfig) -> None:
        self.pid = process.pid
        self.runtime = ""
        self._process = process
        self._config = config
        self._words = ""
        self._listening = asyncio.create_task(self._listen_to_errors(), name="models' process stderr")

    async def begin(self) -> None:
        """Tells it its bounds and waits until it is ready."""
        config = self._config
        bounds = {"parent_pid": os.getpid(), "max_memory_mb": config.max_memory_mb, "nice": config.nice}
        self._send(encode_frame(bounds))
        head, _ = await self._reply(_START_S)
        self.runtime = str(head.get("runtime"))

    def check(self) -> None:
        """Raises LostProcessError where it has ended while it was asked nothing."""
        if self._process.returncode is not None:
            raise LostProcessError(f"ended, by {_how(self._process.returncode)}, while nothing was asked of it")

    async def load(self, settings: ModelSettings | SceneSettings) -> Chosen:
        """Loads a model and tries it; raises ModelError where it is refused."""
        self._send(encode_frame({"load": settings.to_document()}))
        head, _ = await self._reply(self._config.timeout_s)
        if (reason := head.get("refused")) is not None:
            raise ModelError(str(reason))
        return Chosen(str(head["form"]), dict(head["us"]))

    def drop(self, key: str) -> None:
        """Forgets a model."""
        self._send(encode_frame({"drop": key}))

    async def run(self, windows: Sequence[WindowToRun]) -> AsyncIterator[Outcome]:
        """What comes of windows, in their order; raises LostProcessError in place of the one that was the end."""
        requests = [
            encode_frame({"run": each.settings.key, "end_ms": each.end_ms}, each.values + each.states)
            for each in windows
        ]
        self._send(b"".join(requests))
        for window in windows:
            head, body = await self._reply(self._config.timeout_s)
            yield _outcome(head, body, window.settings.results)

    async def end(self) -> None:
        """Kills it: it keeps nothing that could be lost."""
        with suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()
        self._listening.cancel()
        await asyncio.gather(self._listening, return_exceptions=True)
        assert self._process.stdin is not None
        self._process.stdin.close()
        with suppress(ConnectionError):
            await self._process.stdin.wait_closed()

    def _send(self, frame: bytes) -> None:
        assert self._process.stdin is not None
        # Not drained: no more is ever sent than one batch, and then answers are waited for.
        with suppress(ConnectionError):
            self._process.stdin.write(frame)

    async def _reply(self, timeout_s: float) -> tuple[Head, bytes]:
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(timeout_s):
                return await receive_frame(self._process.stdout)
        except TimeoutError:
            raise LostProcessError(f"no answer within {timeout_s:g} s: it was killed") from None
        except (asyncio.IncompleteReadError, ConnectionError):
            raise LostProcessError(await self._why_ended()) from None
        except FrameError as exc:
            raise LostProcessError(f"its answer is not understood: {exc}") from exc

    async def _why_ended(self) -> str:
        code = await self._process.wait()
        with suppress(TimeoutError):
            async with asyncio.timeout(1):
                await self._listening
        return f"it ended the process: {_how(code)} ({self._last_words})"

    async def _listen_to_errors(self) -> None:
        assert self._process.stderr is not None
        while text := await self._process.stderr.read(_READ_BYTES):
            words = text.decode(errors="replace")
            logger.debug("models' process: %s", words.strip())
            self._words = (self._words + words)[-_WORDS:]

    @property
    def _last_words(self) -> str:
        # That it has made a delegate is all that TFLite says where nothing is wrong.
        lines = [line for line in self._words.splitlines() if line.strip() and not line.startswith("INFO: ")]
        return lines[-1][:300] if lines else "without a word"


def _how(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def _outcome(head: Head, body: bytes, count: int) -> Outcome:
    if "no_window" in head:
        return Outcome(no_window=str(head["no_window"]))
    if "failed" in head:
        return Outcome(failed=str(head["failed"]))
    numbers = array("f")
    if len(body) != numbers.itemsize * count:
        raise LostProcessError(f"its result has {len(body)} bytes, not {numbers.itemsize * count}")
    numbers.frombytes(body)
    return Outcome(numbers, float(head["us"]))
