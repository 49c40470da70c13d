"""The pages on loopback, asked well and badly."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from edge.health.page import health_page

WELL: dict[str, Any] = {"stuck": [], "node": "g/n"}


def asked(request: bytes, report: dict[str, Any]) -> bytes:
    """The whole answer to a request, and that the next one is answered too."""

    async def scenario() -> bytes:
        async def tell() -> dict[str, Any]:
            return report

        async with health_page(0, tell) as port:
            answers = []
            for _ in range(2):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(request)
                writer.write_eof()
                answers.append(await reader.read())
                writer.close()
            assert answers[0] == answers[1]
            return answers[0]

    return asyncio.run(scenario())


def test_healthz_is_json() -> None:
    head, _, body = asked(b"GET /healthz?x=1 HTTP/1.1\r\nHost: x\r\n\r\n", WELL).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n")
    assert f"Content-Length: {len(body)}".encode() in head
    assert json.loads(body) == WELL


def test_an_agent_that_is_stuck_says_so_with_503() -> None:
    answer = asked(b"GET /healthz HTTP/1.1\r\n\r\n", WELL | {"stuck": ["spool"]})
    assert answer.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["stuck"] == ["spool"]


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", b"404"),
        (b"GET /healthz/../etc/passwd HTTP/1.1\r\n\r\n", b"404"),
        (b"POST /healthz HTTP/1.1\r\n\r\n", b"405"),
        (b"\xff\xfe\r\n\r\n", b"404"),
        (b"GET /healthz HTTP/1.1\r\n", b""),
        (b"", b""),
        (b"G" * 100_000, b""),
    ],
)
def test_what_is_no_request_for_a_page_does_no_harm(request_: bytes, status: bytes) -> None:
    answer = asked(request_, WELL)
    assert answer.split(b" ")[1:2] == ([status] if status else [])


def test_a_text_that_utf8_cannot_carry_is_shown_all_the_same() -> None:
    answer = asked(b"GET /healthz HTTP/1.1\r\n\r\n", WELL | {"error": "camera \udcff", "last": {1, 2}})
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["node"] == "g/n"
