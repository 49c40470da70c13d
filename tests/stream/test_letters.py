from __future__ import annotations

from stream.ingest.letters import bounded
from stream.ingest.rows import DeadLetter


def letter(offset: int, node: str = "n", payload: bytes | None = b"x" * 10) -> DeadLetter:
    return DeadLetter("dead", 0, offset, -1, f"spBv1.0/g/DDATA/{node}/d{offset}", None, "why", 1, payload)


def test_a_few_letters_are_kept_as_they_are() -> None:
    letters = [letter(0), letter(1, payload=None)]
    assert bounded(letters) == (letters, 0)
    assert bounded([]) == ([], 0)


def test_a_flood_is_bounded_and_hides_nothing_of_another_node() -> None:
    flood = [letter(offset) for offset in range(5000)]
    kept, left_out = bounded([*flood, letter(5000, "other"), letter(5001, "other")], max_letters=100)
    assert (len(kept), left_out) == (100, 4902)
    assert {5000, 5001} <= {found.kafka_offset for found in kept}
    assert kept[-1].reason == "why (and 4902 more of this batch, left out)"


def test_payloads_past_the_bound_stay_in_kafka() -> None:
    kept, _ = bounded([letter(offset) for offset in range(5)], max_payload_bytes=25)
    assert [found.payload is not None for found in kept] == [True, True, False, False, False]
