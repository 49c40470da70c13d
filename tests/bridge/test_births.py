from __future__ import annotations

from bridge.births import ASK_AGAIN_AFTER_S, Births

NODE = ("plant", "edge-1")


def test_an_unborn_node_is_asked_once_in_ten_seconds() -> None:
    births = Births()
    assert births.should_ask(NODE, 100.0)
    assert not births.should_ask(NODE, 100.0 + ASK_AGAIN_AFTER_S - 0.1)
    assert births.should_ask(NODE, 100.0 + ASK_AGAIN_AFTER_S)


def test_each_node_is_asked_for_itself() -> None:
    births = Births()
    assert births.should_ask(NODE, 100.0)
    assert births.should_ask(("plant", "edge-2"), 100.0)


def test_a_born_node_is_never_asked() -> None:
    births = Births()
    births.should_ask(NODE, 0.0)
    births.born(NODE)
    assert not births.should_ask(NODE, 1e9)


def test_the_node_heard_of_longest_ago_is_forgotten_first() -> None:
    births = Births(max_nodes=2)
    for node in (NODE, ("plant", "edge-2"), ("plant", "edge-3")):
        births.born(node)
    assert len(births) == 2
    assert not births.should_ask(("plant", "edge-3"), 0.0)
    assert births.should_ask(NODE, 0.0)
