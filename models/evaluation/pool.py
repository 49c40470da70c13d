"""Work in processes of its own, one thread each, whose results do not depend on how many there are.

They are spawned, not forked: TensorFlow does not bear forking. A worker ends with its parent however that ends.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Generic, TypeAlias, TypeVar

from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from models.errors import EvaluationError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from multiprocessing.queues import SimpleQueue

    from rich.console import Console

    # How much of it is done, 0 to 1, and a few words.
    Tell: TypeAlias = Callable[[float, str], None]

# A job that returns less is one that returns more.
T_co = TypeVar("T_co", covariant=True)

# How often it is looked for what workers tell.
_LOOK_S: Final = 0.2
_QUEUE: Final = "queue"
# What a worker was given when it began; empty in every other process.
_given: dict[str, Any] = {}


@dataclass(frozen=True)
class Job(Generic[T_co]):
    """A piece of work: `run` is called in a worker, so it and what it returns must pickle."""

    what: str
    run: Callable[[Tell], T_co]


def run_all(jobs: Sequence[Job[T_co]], processes: int, console: Console) -> list[T_co]:
    """The results in the order of the jobs; the first error ends all of them, and so does Ctrl-C.

    Raises EvaluationError where a worker dies.
    """
    context = multiprocessing.get_context("spawn")
    queue: SimpleQueue[tuple[int, float, str]] = context.SimpleQueue()
    others = set(multiprocessing.active_children())
    count = max(1, min(processes, len(jobs)))
    pool = ProcessPoolExecutor(count, context, initializer=_begin, initargs=(queue,))
    futures: list[Future[T_co]] = []
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[words]}"), TimeElapsedColumn())
    try:
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
            tasks = [progress.add_task(job.what, total=1.0, start=False, words="") for job in jobs]
            futures += [pool.submit(_run, number, job) for number, job in enumerate(jobs)]
            _follow(futures, queue, progress, tasks)
        return [future.result() for future in futures]
    except BrokenProcessPool as exc:
        raise EvaluationError(
            f"a process that worked on one of {', '.join(job.what for job in jobs)} died: was it killed, or is there "
            "too little memory? --jobs 1 needs least"
        ) from exc
    finally:
        if not all(future.done() for future in futures):  # they would work on to the end
            for child in set(multiprocessing.active_children()) - others:
                child.kill()
        pool.shutdown(wait=True, cancel_futures=True)


def _follow(
    futures: Sequence[Future[T_co]],
    queue: SimpleQueue[tuple[int, float, str]],
    progress: Progress,
    tasks: Sequence[TaskID],
) -> None:
    """Until all are done or one has failed."""
    left: set[Future[T_co]] = set(futures)
    while left:
        done, left = wait(left, timeout=_LOOK_S, return_when=FIRST_COMPLETED)
        while not queue.empty():
            number, share, words = queue.get()
            progress.start_task(tasks[number])
            progress.update(tasks[number], completed=share, words=words)
        for future in done:
            future.result()


def _begin(queue: SimpleQueue[tuple[int, float, str]]) -> None:
    """Of a worker: Ctrl-C is its parent's to handle, and without a parent there is nobody to work for."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _given[_QUEUE] = queue
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    if parent := multiprocessing.parent_process():
        parent.join()
        os._exit(1)


def _run(number: int, job: Job[T_co]) -> T_co:
    def tell(share: float, words: str) -> None:
        _given[_QUEUE].put((number, share, words))

    tell(0.0, "")
    result = job.run(tell)
    tell(1.0, "")
    return result
