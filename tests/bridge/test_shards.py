"""Two bridges that share the groups of one broker: one of them is killed, and a group moves from one to the other."""

from __future__ import annotations

import threading
import time
from itertools import pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tests.bridge.conftest import BridgeProcess, Node, Record, World

BATCHES = 1500
PAUSE_S = 0.001


def shard(world: World, name: str, *groups: str, **more: Any) -> BridgeProcess:
    mqtt = {"host": "127.0.0.1", "port": world.mosquitto.port, "client_id": f"{world.group}-{name}"}
    return world.bridge(mqtt=mqtt, groups=[f"{world.group}-{group}" for group in groups], **more)


def publish(nodes: list[Node], first: int, last: int) -> threading.Thread:
    """All nodes send their batches side by side, steadily."""

    def send() -> None:
        for batch_no in range(first, last + 1):
            for node in nodes:
                node.data(batch_no, oldest=node.through + 1)
            time.sleep(PAUSE_S)

    thread = threading.Thread(target=send)
    thread.start()
    return thread


def resend(nodes: Iterable[Node]) -> None:
    """What an agent does that hears no mark: one may be lost, as they are sent once."""
    for node in nodes:
        oldest = node.through + 1
        for batch_no in range(oldest, BATCHES + 1):
            node.data(batch_no, oldest=oldest)


def batch_numbers(records: list[Record], node: Node) -> list[int]:
    of_node = [record for record in records if record.key == f"{node.group}/{node.name}".encode()]
    assert len({record.partition for record in of_node}) == 1
    return [record.headers.batch.batch_no for record in of_node if record.headers.batch]


def firsts(numbers: list[int]) -> list[int]:
    return list(dict.fromkeys(numbers))


def test_a_killed_shard_loses_nothing_keeps_order_and_disturbs_no_other(
    world: World, until: Callable[..., bool]
) -> None:
    shard(world, "one", "a").start()
    killed = shard(world, "two", "b", "c").start()
    nodes = {name: world.node(name, f"{world.group}-{name[0]}") for name in ("a1", "a2", "b1", "b2", "c1")}
    sending = publish(list(nodes.values()), 1, BATCHES)
    assert until(lambda: nodes["b1"].through > BATCHES / 5)
    killed.kill()
    assert until(lambda: nodes["a1"].through > nodes["b1"].through + 100), "the other goes on"
    killed.start()
    sending.join()
    of_other = [node for name, node in nodes.items() if name.startswith("a")]
    assert until(lambda: all(node.through == BATCHES for node in of_other))
    resend(nodes.values())
    assert until(lambda: all(node.through == BATCHES for node in nodes.values()))
    records = world.records(world.payloads, len(nodes) * BATCHES)
    for node in nodes.values():
        numbers = batch_numbers(records, node)
        assert firsts(numbers) == list(range(1, BATCHES + 1))
        steps_back = [then for now, then in pairwise(numbers) if then != now + 1]
        # What was not acknowledged when the bridge died comes once more, in order; so does what was sent again.
        assert len(steps_back) <= (0 if node in of_other else 2)


def test_a_group_moves_from_one_bridge_to_another_and_loses_nothing(world: World, until: Callable[..., bool]) -> None:
    old = shard(world, "old", "a", "b").start()
    moving, staying = world.node("n", f"{world.group}-b"), world.node("n", f"{world.group}-a")
    nodes = [moving, staying]
    sending = publish(nodes, 1, BATCHES)
    assert until(lambda: moving.through > 100)
    shard(world, "new", "b").start()
    assert old.stop() == 0
    without = shard(world, "old", "a", former_groups=[f"{world.group}-b"]).start()
    sending.join()
    without.wait(lambda health: health["in_flight"] == 0)
    resend(nodes)
    assert until(lambda: all(node.through == BATCHES for node in nodes))
    # After all that was sent again, which may be on its way though it is through already.
    staying.data(BATCHES + 1, oldest=BATCHES + 1)
    assert until(lambda: staying.through == BATCHES + 1)
    before = without.health()
    moving.data(BATCHES + 1, oldest=BATCHES + 1)
    assert until(lambda: moving.through == BATCHES + 1)
    after = without.health()
    assert before
    assert after
    assert after["received"] == before["received"], "it has nothing more to do with the group"
    records = world.records(world.payloads, 2 * (BATCHES + 1))
    numbers = firsts(batch_numbers(records, moving))
    assert sorted(numbers) == list(range(1, BATCHES + 2))
    # Where the new one begins, the old one may still be at work on what came just before.
    assert sum(then < now for now, then in pairwise(numbers)) <= 2
    assert firsts(batch_numbers(records, staying)) == list(range(1, BATCHES + 2))
