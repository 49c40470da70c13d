"""All nodes of a fleet in one event loop, from its start until all that was sampled is durable."""

from __future__ import annotations

import asyncio
import logging
import resource
import signal
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from simulators.errors import SimulatorError
from simulators.fleet.durable import DurableNode
from simulators.fleet.foreign import ForeignNode
from simulators.fleet.roster import roster
from simulators.fleet.world import World

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Sequence

    from simulators.fleet.config import FleetConfig
    from simulators.fleet.node import Node
    from simulators.fleet.roster import Member
    from simulators.fleet.world import Counts, Note

logger = logging.getLogger(__name__)

_STATUS_EVERY_S: Final = 10.0
# Of each node: its socket, one that it had before, and two of paho's own for each.
_FILES_A_NODE: Final = 6
_OTHER_FILES: Final = 100
# Only dialling needs them.
_THREADS: Final = 16


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a fleet has done; `kept` batches of `unfinished` nodes were not known to be durable at its end."""

    counts: Counts
    seconds: float
    kept: int
    unfinished: tuple[str, ...]


async def run_fleet(
    config: FleetConfig,
    note: Note,
    *,
    duration_s: float | None,
    drain_s: float,
) -> Outcome:
    """Run for so long, or until SIGTERM or SIGINT, and then until all is durable; a second signal ends it at once.

    Raises SimulatorError where there cannot be so many connections or a ledger cannot be written, ConfigError for
    certificates.
    """
    _allow_files(config.nodes)
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(_THREADS, thread_name_prefix="dial"))
    members = roster(config)
    world = World(config, note, _identities(config, members))
    nodes = [(ForeignNode if member.is_foreign else DurableNode)(member, world) for member in members]
    patience = asyncio.timeout(None)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _stop, world, patience)
    watching = asyncio.create_task(_watch(world, nodes, patience, duration_s, drain_s), name="fleet status")
    try:
        async with patience, asyncio.TaskGroup() as tasks:
            for node in nodes:
                tasks.create_task(node.run(), name=node.member.name)
    except TimeoutError:
        logger.warning("not all is durable; giving up")
    except ExceptionGroup as group:
        # Such as a ledger whose disk is full, which all nodes meet at once.
        raise _first_of(group) from group
    finally:
        watching.cancel()
    left = [node for node in nodes if node.depth]
    return Outcome(world.counts, world.now_s, sum(node.depth for node in left), tuple(n.member.name for n in left))


def _stop(world: World, patience: asyncio.Timeout) -> None:
    if world.stopping.is_set():
        patience.reschedule(asyncio.get_running_loop().time())
    world.stopping.set()


async def _watch(
    world: World, nodes: Sequence[Node], patience: asyncio.Timeout, duration_s: float | None, drain_s: float
) -> None:
    """Tell how it goes; stop the fleet when it is time, and end it when it cannot deliver."""
    while duration_s is None or world.now_s < duration_s:
        next_s = world.now_s + _STATUS_EVERY_S
        if await world.stops_before(next_s if duration_s is None else min(next_s, duration_s)):
            break
        _tell(world, nodes)
    world.stopping.set()
    logger.info("no more samples; %d batches are not known to be durable", sum(node.depth for node in nodes))
    patience.reschedule(asyncio.get_running_loop().time() + drain_s)
    while True:
        await asyncio.sleep(_STATUS_EVERY_S)
        _tell(world, nodes)


def _tell(world: World, nodes: Sequence[Node]) -> None:
    counts = world.counts
    logger.info(
        "%d of %d nodes connected, %d off; %d samples, %d durable, %d kept, %d evicted; %d sent, %d again; %d births",
        sum(node.is_born for node in nodes),
        len(nodes),
        sum(node.state.is_off for node in nodes),
        counts.samples,
        counts.durable,
        sum(node.depth for node in nodes),
        counts.evicted,
        counts.sent,
        counts.sent_again,
        counts.births,
    )


def _identities(config: FleetConfig, members: Sequence[Member]) -> Callable[[str], ssl.SSLContext | None]:
    """What each node connects with, all of it read now: a file that is missing is told at once."""
    if config.broker.has_one_identity:
        context = config.broker.tls_of(config.group, "")
        return lambda _node: context
    return {member.name: config.broker.tls_of(config.group, member.name) for member in members}.__getitem__


def _first_of(fault: Exception) -> Exception:
    while isinstance(fault, ExceptionGroup):
        fault = fault.exceptions[0]
    return fault


def _allow_files(nodes: int) -> None:
    needed = nodes * _FILES_A_NODE + _OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft >= needed or soft == resource.RLIM_INFINITY:
        return
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise SimulatorError(f"{nodes} nodes need {needed} open files, the limit is {hard}: raise it (ulimit -Hn)")
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
