"""Foreign nodes, without a broker: what is shipped, held, set aside and asked for."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.acks import Slot
from bridge.config import HostConfig, LimitsConfig
from bridge.foreign import ForeignNodes
from bridge.outbox import Shipment
from bridge.packets import PUBLISH, Publish
from bridge.parcel import HELD_COPY, opened
from bridge.triage import triage
from contract import sparkplug_b_pb2 as pb
from contract.sparkplug import decode

if TYPE_CHECKING:
    from bridge.foreign_node import Outcome
    from bridge.marks import NodeId

NODE = ("g", "n")
HOST = HostConfig(birth_wait_s=5, reorder_wait_s=2)


def payload(*metrics: pb.Metric, seq: int | None = None) -> bytes:
    return pb.Payload(timestamp=1, metrics=metrics, seq=seq).SerializeToString()


def told(name: str, alias: int) -> pb.Metric:
    return pb.Metric(name=name, alias=alias, datatype=10, double_value=0.0)


def valued(alias: int, value: float) -> pb.Metric:
    return pb.Metric(alias=alias, double_value=value)


def bd_seq(number: int) -> pb.Metric:
    return pb.Metric(name="bdSeq", datatype=8, long_value=number)


@dataclass
class Nodes:
    """The foreign nodes, and all that they bring about, as a reader of Kafka would see it."""

    host: HostConfig = HOST
    limits: LimitsConfig = field(default_factory=LimitsConfig)
    max_nodes: int = 100
    now_s: float = 1000.0
    generation: int = 1
    asked: list[str] = field(default_factory=list)
    shipped: list[Shipment] = field(default_factory=list)
    copies: list[Shipment] = field(default_factory=list)  # of what is held at QoS 1

    def __post_init__(self) -> None:
        self.nodes = ForeignNodes(self.host, self.limits, self.max_nodes)

    def send(self, topic: str, encoded: bytes, node: str = "n", qos: int = 0) -> Nodes:
        kind, _, device = topic.partition("/")
        full = "/".join(filter(None, ["spBv1.0", "g", kind, node, device])).encode()
        message = Publish(PUBLISH | qos << 1, full, 1, b"", encoded, len(full + encoded))
        letter = triage(message, 1, self.limits.max_payload_bytes)
        assert letter is not None
        shipment = Shipment(letter, len(encoded), Slot(self.generation, 1) if qos else None)
        self._note(self.nodes.take(("g", node), shipment, self.generation, self.now_s))
        return self

    def wait(self, seconds: float) -> Nodes:
        self.now_s += seconds
        self._note(self.nodes.tick(self.now_s))
        return self

    def _note(self, outcomes: dict[NodeId, Outcome]) -> None:
        for (_, node), outcome in outcomes.items():
            for shipment in outcome.ship:
                is_copy = shipment.letter.headers.reason == HELD_COPY
                (self.copies if is_copy else self.shipped).append(shipment)
            self.asked += [node] if outcome.ask else []

    @property
    def log(self) -> list[str]:
        """What is in Kafka: births and deaths by type, data by metric, dead letters by their reason."""
        return [self._shown(shipment) for shipment in self.shipped]

    def _shown(self, shipment: Shipment) -> str:
        letter = shipment.letter
        if letter.headers.reason:
            return f"dead: {letter.headers.reason}"
        kind = letter.headers.topic.split("/")[2]
        if not kind.endswith("DATA"):
            return kind
        read = decode(letter.value)
        values = [f"{m.name}={m.value:g}" for m in read.metrics if isinstance(m.value, float)]
        return " ".join([*values, *["?"] * len(read.rejected)])

    @property
    def held(self) -> int:
        held = self.nodes.health()["held"]
        assert isinstance(held, int)
        return held

    def born(self, seq: int = 0, bd: int = 0) -> Nodes:
        return self.send("NBIRTH", payload(bd_seq(bd), told("a", 1), told("b", 2), seq=seq))

    def device(self, name: str, seq: int) -> Nodes:
        return self.send(f"DBIRTH/{name}", payload(told(f"{name}.x", 1), told(f"{name}.y", 12), seq=seq))


def test_data_is_written_out_by_the_births_of_node_and_device() -> None:
    nodes = Nodes().born().device("d", 1).device("e", 2)
    nodes.send("NDATA", payload(valued(1, 1), valued(2, 2), seq=3))
    nodes.send("DDATA/d", payload(valued(1, 3), seq=4)).send("DDATA/e", payload(valued(12, 4), seq=5))
    assert nodes.log == ["NBIRTH", "DBIRTH", "DBIRTH", "a=1 b=2", "d.x=3", "e.y=4"]
    assert (nodes.asked, nodes.held) == ([], 0)
    assert nodes.nodes.health()["written_out"] == 3


def test_data_that_says_all_itself_passes_unborn_and_unchanged_and_births_are_asked_for() -> None:
    full = [payload(told("a", 1), seq=9), payload(told("b", 1), seq=10)]
    nodes = Nodes().send("NDATA", full[0]).send("NDATA", full[1])
    assert [shipment.letter.value for shipment in nodes.shipped] == full
    assert nodes.asked == ["n"]


def test_data_before_the_births_is_held_for_them_in_order() -> None:
    nodes = Nodes().send("NDATA", payload(valued(1, 1), seq=7)).send("DDATA/d", payload(valued(12, 2), seq=8))
    nodes.send("NDATA", payload(told("full", 5), seq=9)).wait(4)
    assert (nodes.log, nodes.asked, nodes.held) == ([], ["n"], 3)
    nodes.born()
    assert nodes.log == ["NBIRTH", "a=1"], "the device's birth is still to come"
    nodes.device("d", 1)
    assert nodes.log == ["NBIRTH", "a=1", "DBIRTH", "d.y=2", "full=0"]
    assert (nodes.asked, nodes.held) == (["n"], 0)


def test_without_an_answer_data_is_set_aside_with_its_reason_and_later_data_at_once() -> None:
    nodes = Nodes().send("NDATA", payload(valued(1, 1))).wait(4.9)
    assert nodes.log == []
    nodes.wait(0.2)
    assert nodes.log == ["dead: no birth tells the names and data types of alias 1"]
    nodes.send("NDATA", payload(valued(2, 1)))
    assert len(nodes.log) == 2, "a node that did not answer is not waited for again"
    assert nodes.asked == ["n"]
    nodes.wait(10).send("NDATA", payload(valued(2, 1)))
    assert nodes.asked == ["n", "n"]
    nodes.born().send("NDATA", payload(valued(2, 5)))
    assert nodes.log[-1] == "b=5"


def test_a_metric_that_no_birth_can_explain_is_not_waited_for() -> None:
    nodes = (
        Nodes().send("NDATA", payload(pb.Metric(double_value=1.0), told("a", 1))).send("NDATA", payload(pb.Metric()))
    )
    assert (nodes.log, nodes.held) == (["a=0 ?", "?"], 0)


def test_an_unknown_alias_is_asked_for_and_costs_the_others_of_its_payload_nothing() -> None:
    nodes = Nodes().born().send("NDATA", payload(valued(1, 1), valued(9, 9), seq=1))
    assert (nodes.log, nodes.asked) == (["NBIRTH"], ["n"])
    nodes.born()
    assert nodes.log[1:] == ["NBIRTH", "a=1 ?"]
    nodes.send("NDATA", payload(valued(9, 9), valued(2, 2), seq=1))
    assert nodes.log[-1] == "b=2 ?", "asked a moment ago: another birth would tell no more"


def test_a_metric_that_is_new_in_the_births_that_were_asked_for_is_named() -> None:
    nodes = Nodes().born().send("NDATA", payload(valued(3, 3), seq=1))
    nodes.send("NBIRTH", payload(told("a", 1), told("c", 3), seq=0))
    assert nodes.log == ["NBIRTH", "NBIRTH", "c=3"]


def test_what_comes_early_waits_for_what_is_missing() -> None:
    nodes = Nodes().born()
    for seq in (3, 1, 2):
        nodes.send("NDATA", payload(valued(1, seq), seq=seq))
    assert nodes.log[1:] == ["a=1", "a=2", "a=3"]
    assert (nodes.asked, nodes.held) == ([], 0)
    nodes.wait(60)
    assert nodes.nodes.health()["seq_gaps"] == 0


def test_after_a_gap_no_name_of_before_is_trusted() -> None:
    nodes = Nodes().born().device("d", 1)
    nodes.send("NDATA", payload(valued(1, 1), seq=3)).wait(1.9)
    assert nodes.asked == []
    nodes.wait(0.2)
    assert (nodes.asked, nodes.held) == (["n"], 1), "what is missing may have been a birth"
    nodes.send("NDATA", payload(valued(1, 2), seq=4))
    nodes.send("NBIRTH", payload(told("other", 1), seq=0))
    assert nodes.log[2:] == ["NBIRTH", "other=1", "other=2"]
    assert nodes.nodes.health()["seq_gaps"] == 1


def test_a_birth_ends_the_wait_for_what_is_missing() -> None:
    nodes = Nodes().born().send("NDATA", payload(valued(1, 1), seq=5)).send("NBIRTH", payload(told("c", 1), seq=0))
    assert nodes.log == ["NBIRTH", "NBIRTH", "c=1"]
    nodes.send("NDATA", payload(valued(1, 2), seq=1)).wait(60)
    assert (nodes.log[-1], nodes.asked) == ("c=2", [])


def test_no_wait_at_all_where_none_is_wanted() -> None:
    nodes = Nodes(HostConfig(birth_wait_s=0, reorder_wait_s=0)).born()
    nodes.send("NDATA", payload(valued(1, 1), seq=5))
    nodes.send("NDATA", payload(told("full", 7), seq=6)).wait(0)
    assert [line[:4] for line in nodes.log] == ["NBIR", "dead", "full"]


def test_after_a_death_aliases_mean_nothing_until_the_next_birth() -> None:
    nodes = Nodes().born(bd=4).send("NDEATH", payload(bd_seq(4))).send("NDATA", payload(valued(1, 1), seq=1))
    assert (nodes.log, nodes.asked, nodes.held) == (["NBIRTH", "NDEATH"], ["n"], 1)
    nodes.send("NBIRTH", payload(bd_seq(5), told("new", 1), seq=0))
    assert nodes.log[2:] == ["NBIRTH", "new=1"]


def test_a_stale_death_goes_to_kafka_and_changes_nothing() -> None:
    nodes = Nodes().born(bd=5).send("NDEATH", payload(bd_seq(4))).send("NDATA", payload(valued(1, 1), seq=1))
    assert nodes.log == ["NBIRTH", "NDEATH", "a=1"]
    assert (nodes.asked, nodes.nodes.health()["stale_deaths"]) == ([], 1)


def test_a_death_without_a_number_is_believed() -> None:
    nodes = Nodes().born(bd=5).send("NDEATH", payload()).send("NDATA", payload(valued(1, 1), seq=1))
    assert nodes.held == 1


def test_what_is_held_when_the_node_dies_is_not_named_by_a_later_birth() -> None:
    nodes = Nodes().send("NDATA", payload(valued(1, 1))).send("NDEATH", payload(bd_seq(4)))
    assert nodes.log == ["dead: no birth tells the names and data types of alias 1", "NDEATH"]
    nodes.born()
    assert nodes.log[2:] == ["NBIRTH"]


def test_a_devices_death_takes_its_names_and_no_others() -> None:
    nodes = Nodes().born().device("d", 1).device("e", 2).send("DDEATH/d", payload(seq=3))
    nodes.send("DDATA/e", payload(valued(12, 1), seq=4)).send("DDATA/d", payload(valued(12, 1), seq=5))
    assert nodes.log[3:] == ["DDEATH", "e.y=1"]
    assert nodes.held == 1
    nodes.wait(6)
    assert (nodes.asked, nodes.log[-1][:4]) == (["n"], "dead")


def test_after_our_own_connection_was_lost_no_name_of_before_is_trusted() -> None:
    nodes = Nodes().born()
    nodes.generation = 2
    nodes.send("NDATA", payload(valued(1, 1), seq=1))
    assert (nodes.asked, nodes.held) == (["n"], 1)
    nodes.send("NBIRTH", payload(told("renamed", 1), seq=0))
    assert nodes.log == ["NBIRTH", "NBIRTH", "renamed=1"]


def test_messages_without_numbers_are_taken_as_they_come() -> None:
    nodes = Nodes().born().send("NDATA", payload(valued(1, 1))).send("NDATA", payload(valued(1, 2)))
    assert nodes.log == ["NBIRTH", "a=1", "a=2"]


def test_a_stop_ships_what_is_held() -> None:
    nodes = Nodes().send("NDATA", payload(valued(1, 1)), qos=0).send("NDATA", payload(valued(2, 2)), qos=1)
    nodes._note(nodes.nodes.drain(nodes.now_s))
    assert nodes.log == [f"dead: no birth tells the names and data types of alias {alias}" for alias in (1, 2)]
    assert nodes.held == 0


def test_a_copy_of_what_is_held_at_qos_1_is_acknowledged_in_its_place() -> None:
    nodes, body = Nodes(), payload(valued(1, 1))
    nodes.send("NDATA", body, qos=1).send("NDATA", payload(valued(1, 2)), qos=0)
    (copy,) = nodes.copies
    assert (copy.letter.value, copy.slot is None, nodes.held) == (body, False, 2)
    nodes.born().send("NDATA", payload(valued(1, 3), seq=1), qos=1)
    assert nodes.log == ["NBIRTH", "a=1", "a=2", "a=3"]
    assert [shipment.slot is None for shipment in nodes.shipped] == [True, True, True, False]
    assert len(nodes.copies) == 1


def test_data_of_too_many_metrics_is_set_aside_at_once() -> None:
    nodes = Nodes(limits=LimitsConfig(max_metrics_per_node=3)).send("NDATA", payload(*[valued(1, 1)] * 4))
    assert nodes.log == ["dead: more than the 3 metrics that are allowed"]


def test_of_a_birth_of_half_a_million_metrics_only_so_many_are_looked_at() -> None:
    limits = LimitsConfig(max_metrics_per_node=3)
    found = opened(payload(bd_seq(7), *[told("a", 1)] * 50, seq=9), limits)
    assert found is not None
    assert (len(found.metrics), found.seq) == (4, 9)
    assert opened(b"\xff", limits) is None


def test_what_is_held_of_a_node_is_bounded() -> None:
    nodes = Nodes(limits=LimitsConfig(max_held_per_node=10))
    for number in range(25):
        nodes.send("NDATA", payload(valued(1, number)))
    assert (nodes.held, len(nodes.log)) == (10, 15)
    nodes.born()
    assert nodes.log[15:] == ["NBIRTH", *(f"a={number}" for number in range(15, 25))]


def test_what_is_held_of_all_nodes_is_bounded() -> None:
    nodes = Nodes(limits=LimitsConfig(max_held_bytes=1 << 20))
    for number in range(100):
        nodes.send("NDATA", payload(valued(1, 0), pb.Metric(name="pad", string_value="x" * 20_000)), node=f"n{number}")
        assert nodes.nodes._held_bytes <= 1 << 20
    assert 0 < nodes.held < 100
    assert nodes.held + len(nodes.shipped) == 100


def test_nodes_and_names_are_bounded_and_the_one_not_heard_of_for_longest_is_forgotten_first() -> None:
    nodes = Nodes(max_nodes=3)
    for name in ("n1", "n2", "n1", "n3", "n4"):
        nodes.send("NBIRTH", payload(told("a", 1), seq=0), node=name)
    assert [("g", name) in nodes.nodes for name in ("n1", "n2", "n3", "n4")] == [True, False, True, True]
    small = Nodes(limits=LimitsConfig(max_names_bytes=1 << 20))
    many = [told(f"metric{alias}", alias) for alias in range(1000)]
    for number in range(10):
        small.send("NBIRTH", payload(*many, seq=0), node=f"n{number}")
        assert small.nodes._names_bytes <= 1 << 20
    forgotten = small.nodes.health()["nodes_forgotten"]
    assert isinstance(forgotten, int)
    assert 5 <= forgotten < 10


def test_metrics_past_the_bound_stay_unknown() -> None:
    nodes = Nodes(limits=LimitsConfig(max_metrics_per_node=3)).born().device("d", 1)
    nodes.send("NDATA", payload(valued(1, 1), seq=2)).send("DDATA/d", payload(valued(1, 1), seq=3))
    assert (nodes.log[-1], nodes.held) == ("a=1", 1)


def test_a_node_that_stamps_its_batches_is_forgotten_and_what_was_held_is_not() -> None:
    nodes = Nodes().born().send("DDATA/d", payload(valued(1, 1), told("full", 3), seq=1))
    assert nodes.held == 1
    nodes._note({NODE: nodes.nodes.forget(NODE, nodes.now_s)})
    assert nodes.log == ["NBIRTH", "full=0 ?"]
    assert NODE not in nodes.nodes
    assert nodes.nodes.health() | {"nodes_forgotten": 0} == Nodes().nodes.health() | {"rebirths_asked": 0}


KINDS = st.sampled_from(["NBIRTH", "NDATA", "NDEATH", "DBIRTH/d", "DDATA/d", "DDEATH/d"])
BODIES = st.binary(max_size=40) | st.builds(
    lambda metrics, seq: payload(*metrics, seq=seq),
    st.lists(
        st.builds(told, st.sampled_from("ab"), st.integers(0, 2))
        | st.builds(valued, st.integers(0, 3), st.just(1.0))
        | st.builds(bd_seq, st.integers(0, 1)),
        max_size=3,
    ),
    st.none() | st.integers(0, 5),
)
STEPS = st.lists(
    st.tuples(KINDS, BODIES, st.sampled_from(["n", "m"]), st.integers(0, 1), st.sampled_from([0.0, 0.5, 3.0, 11.0])),
    max_size=30,
)


@settings(max_examples=200)
@given(STEPS, st.sampled_from([1, 3, 100]), st.sampled_from([7, 1000]))
def test_whatever_comes_nothing_is_lost_nor_shipped_twice(
    steps: list[tuple[str, bytes, str, int, float]], max_held: int, connection_steps: int
) -> None:
    nodes = Nodes(limits=LimitsConfig(max_held_per_node=max_held), max_nodes=2)
    for number, (topic, body, node, qos, pause) in enumerate(steps):
        nodes.generation = number // connection_steps
        nodes.send(topic, body, node, qos).wait(pause)
        assert nodes.held + len(nodes.shipped) == number + 1
        assert nodes.held <= 2 * max_held
    nodes.wait(60)
    nodes.wait(60)
    assert nodes.held == nodes.nodes._held_bytes == 0
    assert len({id(shipment) for shipment in nodes.shipped}) == len(steps)
    slots = [shipment.slot for shipment in (*nodes.copies, *nodes.shipped) if shipment.slot is not None]
    assert len({id(slot) for slot in slots}) == len(slots) == sum(qos for *_, qos, _pause in steps)


def test_a_second_gap_so_soon_that_births_may_not_be_asked_for_is_waited_out() -> None:
    nodes = Nodes().born().send("NDATA", payload(valued(1, 1), seq=2)).wait(2).born()
    nodes.send("NDATA", payload(valued(1, 2), seq=2)).wait(2)
    assert nodes.log == ["NBIRTH", "NBIRTH", "a=1"]
    assert nodes.asked == ["n"]
    nodes.wait(8)
    assert nodes.asked == ["n", "n"]
    nodes.born()
    assert nodes.log[3:] == ["NBIRTH", "a=2"]


@pytest.mark.parametrize("seed", range(5))
def test_a_nodes_data_leaves_in_order_whatever_is_lost(seed: int) -> None:
    chance = random.Random(seed)
    nodes, sent = Nodes().born(), 0
    for number in range(2000):
        if chance.random() < 0.03:
            continue
        sent += 1
        nodes.send("NDATA", payload(valued(1, number), seq=(number + 1) % 256)).wait(0.1)
        if nodes.asked:
            nodes.asked.clear()
            nodes.send("NBIRTH", payload(told("a", 1), seq=(number + 1) % 256))
    nodes.wait(60)
    values = [float(line[2:]) for line in nodes.log if line.startswith("a=")]
    assert values == sorted(values)
    assert len(values) + sum(line.startswith("dead") for line in nodes.log) == sent
    assert len(values) > 0.9 * sent
