"""The cluster's compose file run for real: a broker, a bridge and a worker are killed, and nothing is lost."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from stack import wait_until

pytestmark = pytest.mark.slow

BACK_S = 180.0
RECONCILED_S = 240.0
VICTIMS = ("kafka-2", "bridge", "spark-worker")


def test_any_one_of_several_may_be_killed(cluster: Any) -> None:
    for service in VICTIMS:
        victim = next(name for name in cluster.states() if name.startswith(f"{service}-") and name[-1].isdigit())
        container = cluster.inspect()[victim]["Id"]
        with cluster.timed(f"{victim} killed, and back"):
            # As a crash: the engine starts again what it was not told to stop.
            cluster.kill_inside(container)
            assert wait_until(partial(cluster.was_restarted, container), timeout_s=BACK_S, poll_s=1.0)
            assert wait_until(cluster.is_settled, timeout_s=BACK_S, poll_s=2.0), cluster.states()
    with cluster.timed("agents deliver, and end"):
        cluster.compose("stop", "--timeout", "60", "edge-1", "edge-2", "edge-3")
    said: list[Any] = []

    def clean() -> bool:
        said[:] = [cluster.compose_run("run", "--rm", "-T", "reconcile")]
        return bool(said[0].returncode == 0)

    with cluster.timed("committed to the last reading"):
        done = wait_until(clean, timeout_s=RECONCILED_S, poll_s=2.0)
    print(f"\n{said[0].stdout.decode()}")
    assert done, said[0].stderr.decode()
