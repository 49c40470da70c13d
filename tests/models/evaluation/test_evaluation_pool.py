from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from functools import partial
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
from rich.console import Console

from models.errors import DataError, EvaluationError
from models.evaluation.pool import Job, run_all

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[3]
DEADLINE_S = 60
# What never ends by itself, and says of its process where that is.
ENDLESS = """
import sys, time
from functools import partial
from pathlib import Path
from rich.console import Console
from models.evaluation.pool import Job, run_all

def work(place, tell):
    Path(place, str(__import__("os").getpid())).touch()
    time.sleep(1000)

if __name__ == "__main__":
    run_all([Job("endless", partial(work, sys.argv[1]))] * 2, 2, Console())
"""


def squared(number: int, tell: Callable[[float, str], None]) -> tuple[int, int]:
    tell(0.5, "half")
    return number * number, os.getpid()


def failing(_tell: Callable[[float, str], None]) -> int:
    raise DataError("no rows")


def dying(_tell: Callable[[float, str], None]) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return 0


def endless(place: Path, _tell: Callable[[float, str], None]) -> int:
    (place / str(os.getpid())).touch()
    time.sleep(1000)
    return 0


def failing_later(place: Path, tell: Callable[[float, str], None]) -> int:
    deadline = time.monotonic() + DEADLINE_S
    while not list(place.iterdir()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return failing(tell)


def quiet() -> Console:
    return Console(file=StringIO())


def gone(pids: list[int]) -> None:
    _, alive = psutil.wait_procs([psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)], DEADLINE_S)
    assert alive == []


def test_results_come_in_the_order_of_the_jobs_from_other_processes() -> None:
    results = run_all([Job(str(n), partial(squared, n)) for n in range(5)], 2, quiet())
    assert [number for number, _ in results] == [0, 1, 4, 9, 16]
    pids = {pid for _, pid in results}
    assert os.getpid() not in pids
    assert len(pids) <= 2
    gone(list(pids))


def test_an_error_is_told_as_it_is_and_ends_what_is_at_work(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no rows"):
        run_all([Job("endless", partial(endless, tmp_path)), Job("bad", partial(failing_later, tmp_path))], 2, quiet())
    gone([int(path.name) for path in tmp_path.iterdir()])


def test_a_worker_that_dies_is_a_clear_error() -> None:
    with pytest.raises(EvaluationError, match="a process that worked on one of fold 1, seed 1 died"):
        run_all([Job("fold 1, seed 1", dying)], 1, quiet())


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGKILL])
def test_workers_end_with_their_parent(tmp_path: Path, ending: signal.Signals) -> None:
    script, place = tmp_path / "endless.py", tmp_path / "pids"
    script.write_text(ENDLESS)
    place.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    parent = subprocess.Popen([sys.executable, script, place], env=environment, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + DEADLINE_S
    while len(pids := [int(path.name) for path in place.iterdir()]) < 2:
        assert time.monotonic() < deadline
        assert parent.poll() is None
        time.sleep(0.02)
    parent.send_signal(ending)
    _, errors = parent.communicate(timeout=DEADLINE_S)
    assert parent.returncode != 0
    assert errors.count("Traceback") == (ending == signal.SIGINT)  # the parent's own, which its command line catches
    gone(pids)
