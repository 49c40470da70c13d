"""What stands on a screen, letter by letter, at the widths that people have."""

from __future__ import annotations

import io
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rich.console import Console, RenderableType

from fleet.errors import FleetError
from fleet.view.fleet_page import fleet_page, status_line
from fleet.view.live import Seen, Watch
from fleet.view.node import FailedUpdate, Node, State
from fleet.view.node_page import NodePage, node_page
from fleet.view.sections import SECTIONS

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
WELL = Node(
    group="plant",
    name="pi-1",
    online=True,
    seen_at=NOW - timedelta(seconds=3),
    born_at=NOW - timedelta(hours=5),
    told_at=NOW - timedelta(seconds=4),
    version="0.1.0+1a2b3c4d",
    uptime_s=277_000.0,
    memory_mib=58.2,
    celsius=51.2,
    clock_synchronised=1.0,
    clock_offset_ms=2.1,
    disk_free_bytes=9e9,
    disk_bytes=16e9,
    spool_batches=12.0,
    spool_bytes=30_000.0,
    spool_limit_bytes=2.0**28,
    set_aside=0.0,
    lost=0.0,
    undelivered=0,
    given_up=0,
    produced=12_345,
    site="hall 3",
    certificate_ends_at=NOW + timedelta(days=61),
)
UNWELL = Node(
    group="plant",
    name="pump-station-west-07",
    online=True,
    seen_at=NOW - timedelta(seconds=1),
    version="\x1b[31mred\u202e",
    celsius=81.2,
    clock_synchronised=0.0,
    spool_batches=112_000.0,
    spool_bytes=2.0**27,
    spool_limit_bytes=2.0**28,
    set_aside=1.0,
    lost=12.0,
    undelivered=3,
    given_up=4,
    certificate_ends_at=NOW + timedelta(days=3),
)
FAILED = replace(
    WELL,
    failed_updates=(
        FailedUpdate("agent/agent", "0.2.0", "rolled_back", "no durable mark within 300 s\x1b[2J", NOW),
        FailedUpdate("model/pump", None, "refused", None, NOW),
    ),
)
FLEET = [
    WELL,
    UNWELL,
    Node("plant", "pi-3", online=False, seen_at=NOW - timedelta(hours=3), version="0.1.0"),
    Node("plant", "pi-4", online=True, seen_at=NOW - timedelta(minutes=10)),
    Node("plant", "pi-5", certificate_ends_at=NOW + timedelta(days=59)),
    Node("plant", "pi-6", online=False, seen_at=NOW - timedelta(days=30), revoked_at=NOW),
]

AT_80 = """\
6 nodes: 2 online, 1 silent, 1 offline, 1 new, 1 revoked; 4 with trouble

Node               State     Seen Version          Spool Clock   °C Lost    Cert
pi-3               offline  3.0 h 0.1.0                - -        -    -       -
pi-4               silent  10 min -                    - -        -    -       -
pi-5               new          - -                    - -        -    -    59 d
pump-station-west… online     1 s ?[31mred?      112,000 no sync 81   16   3.0 d
pi-1               online     3 s 0.1.0+1a2b3c4d      12 sync    51    0    61 d
pi-6               revoked   30 d -                    - -        -    - revoked

! plant/pi-3: offline, last seen 3.0 h ago
! plant/pi-4: connected, but says nothing for 10 min
! plant/pi-5: has its certificate, but was never seen
! plant/pump-station-west-07: its certificate ends in 3.0 d, and was not
renewed; its spool is 50% full; 1 spoilt spool, for somebody to look at; 12
batches lost on the device, for want of room; 4 batches never came, and no
longer kept; 3 batches not come yet; its clock is not synchronised; its
processor has 81 °C
"""
AT_120 = """\
6 nodes: 2 online, 1 silent, 1 offline, 1 new, 1 revoked; 4 with trouble

Node                  State      Seen  Version           Spool  Full  Clock    °C  Disk  Lost     Cert
pi-3                  offline   3.0 h  0.1.0                 -     -  -         -     -     -        -
pi-4                  silent   10 min  -                     -     -  -         -     -     -        -
pi-5                  new           -  -                     -     -  -         -     -     -     59 d
pump-station-west-07  online      1 s  ?[31mred?       112,000   50%  no sync  81     -    16    3.0 d
pi-1                  online      3 s  0.1.0+1a2b3c4d       12    0%  sync     51   56%     0     61 d
pi-6                  revoked    30 d  -                     -     -  -         -     -     -  revoked

! plant/pi-3: offline, last seen 3.0 h ago
! plant/pi-4: connected, but says nothing for 10 min
! plant/pi-5: has its certificate, but was never seen
! plant/pump-station-west-07: its certificate ends in 3.0 d, and was not renewed; its spool is 50% full; 1 spoilt spool,
for somebody to look at; 12 batches lost on the device, for want of room; 4 batches never came, and no longer kept; 3
batches not come yet; its clock is not synchronised; its processor has 81 °C
"""


def drawn(page: RenderableType, width: int) -> str:
    console = Console(width=width, file=io.StringIO(), highlight=False)
    console.print(page)
    assert isinstance(console.file, io.StringIO)
    lines = [line.rstrip() for line in console.file.getvalue().splitlines()]
    assert max(map(len, lines)) <= width
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(("width", "page"), [(80, AT_80), (120, AT_120)], ids=["80", "120"])
def test_the_fleet(width: int, page: str) -> None:
    assert drawn(fleet_page(FLEET, NOW, width), width) == page


def test_a_wide_screen_has_what_is_wrong_beside_each_node() -> None:
    page = drawn(fleet_page(FLEET, NOW, 170), 170)
    assert "What is wrong\npi-3" in page.replace(" ", "").replace("Whatiswrong", "What is wrong")
    assert "offline, last seen 3.0 h ago\n" in page
    assert "!" not in page


def test_groups_are_named_where_there_are_several() -> None:
    page = drawn(fleet_page([*FLEET, Node("lab", "pi-1")], NOW, 80), 80)
    assert "lab/pi-1" in page
    assert "\nplant/pi-1 " in page


def test_what_does_not_fit_is_turned_to() -> None:
    page = drawn(fleet_page(FLEET, NOW, 80, rows=2, first=2), 80)
    assert [line.split()[0] for line in page.splitlines()[3:5]] == ["pi-5", "pump-station-west-07"]
    assert page.splitlines()[-1] == "3 to 4 of 6, the worst first"


@pytest.mark.parametrize("width", [80, 120, 170])
def test_an_update_that_a_node_did_not_take_is_seen_in_the_list(width: int) -> None:
    page = drawn(fleet_page([*FLEET, FAILED], NOW, width, rows=7), width)
    heading, *rows = page.splitlines()[2:9]
    assert heading[heading.index("Update") :].split()[0] == "Update"
    assert [row[heading.index("Update") :][:8] for row in rows].count("put back") == 1
    whole = " ".join(drawn(fleet_page([FAILED], NOW, width), width).split())
    assert "agent/agent 0.2.0 put back: no durable mark within 300 s?[2J; model/pump - " in whole


def test_a_copied_key_is_told_for_a_week() -> None:
    copied = replace(WELL, shown_again_at=NOW - timedelta(hours=2))
    (trouble,) = copied.troubles(NOW)
    assert trouble.kind == "copied key"
    assert "seen 2.0 h ago: somebody has a copy of its key" in trouble.text
    assert replace(copied, shown_again_at=NOW - timedelta(days=7)).troubles(NOW) == ()


def test_a_disk_without_any_room_is_trouble() -> None:
    full = replace(WELL, disk_free_bytes=0.0)
    assert full.troubles(NOW) == (("disk", "0% of its disk is free"),)
    console = Console(width=120, file=io.StringIO(), force_terminal=True, color_system="standard")
    console.print(fleet_page([full], NOW, 120))
    assert isinstance(console.file, io.StringIO)
    assert "\x1b[1;31m  0%" in console.file.getvalue()


@pytest.mark.parametrize(
    ("revoked", "seen", "online", "state"),
    [
        (timedelta(minutes=5), timedelta(seconds=3), True, State.ONLINE),
        # The word that it goes is refused, so nobody tells the database.
        (timedelta(minutes=5), timedelta(minutes=5), True, State.REVOKED),
        (timedelta(minutes=5), timedelta(minutes=5, seconds=-10), True, State.REVOKED),
        (timedelta(hours=5), timedelta(hours=4), True, State.REVOKED),
        (timedelta(minutes=5), timedelta(seconds=3), False, State.REVOKED),
    ],
    ids=["talks on", "gone at once", "on its way", "gone later", "offline"],
)
def test_a_revoked_node_is_there_only_as_long_as_it_talks(
    *, revoked: timedelta, seen: timedelta, online: bool, state: State
) -> None:
    node = replace(UNWELL, online=online, seen_at=NOW - seen, revoked_at=NOW - revoked)
    assert node.state(NOW) is state
    assert [each.kind for each in node.troubles(NOW)][:1] == (["revoked"] if state is State.ONLINE else [])


def test_a_node_in_a_line() -> None:
    assert status_line(WELL, NOW).plain == "plant/pi-1 online"
    assert status_line(FLEET[2], NOW).plain == "plant/pi-3 offline: offline, last seen 3.0 h ago"


A_NODE = """\
plant/pi-1  online, seen 3 s ago, hall 3
version      0.1.0+1a2b3c4d              memory        58 MiB
runs for     3.2 d                       disk free     8.38 GiB, 56%
born         5.0 h ago                   spool         12 batches, 29.3 KiB
certificate  61 d                        spool full    0%
clock        synchronised, 2.1 ms ahead  batches made  12,345
processor    51 °C                       missing       0, lost there 0

Sources and models
Device                State        Read Metrics Failed Missed Line Left of quota
a-device-with-a-long… online    9 s ago      50   1.2%      3  85% -
weather               offline 2.0 d ago       7   0.0%      0    - 0 today

What computes: no model has told anything

Updates
What        Runs  Asked for State              Told Reason
agent/agent 0.1.0 0.2.0     rolled_back 1.1 min ago no durable mark within 300 …

Incidents of a day: nothing unusual

Events of a week: nothing to tell

Gaps: nothing is missing

Commands of a week (the first 8 of 9)
   When Device Command Done    Answer
9 s ago line   valve   refused the configuration does not allow to write it?[2J
9 s ago line   valve   refused the configuration does not allow to write it?[2J
9 s ago line   valve   refused the configuration does not allow to write it?[2J
9 s ago line   valve   refused the configuration does not allow to write it?[2J
9 s ago line   valve   refused the configuration does not allow to write it?[2J
9 s ago line   valve   refused the configuration does not allow to write it?[2J
9 s ago line   valve   refused the configuration does not allow to write it?[2J
9 s ago line   valve   refused the configuration does not allow to write it?[2J
"""


def a_page() -> NodePage:
    read = {"metrics": 50, "polls": 1000.0, "failures": 12.0, "skipped": 3.0, "line_occupancy": 0.85}
    told: dict[str, list[dict[str, Any]]] = {section.key: [] for section in SECTIONS} | {
        "sources": [
            {"device": "a-device-with-a-long-name", "state": "online", "read_at": NOW - timedelta(seconds=9)}
            | read
            | {"quota_left_day": None, "quota_left_month": None},
            {"device": "weather", "state": "offline", "read_at": NOW - timedelta(days=2), "metrics": 7, "polls": 10.0}
            | {
                "failures": 0.0,
                "skipped": 0.0,
                "line_occupancy": None,
                "quota_left_day": 0.0,
                "quota_left_month": None,
            },
        ],
        "updates": [
            {"what": "agent/agent", "told_at": NOW - timedelta(seconds=65), "wanted": "0.2.0", "running": "0.1.0"}
            | {"state": "rolled_back", "reason": "no durable mark within 300 s of its start"}
        ],
        "commands": [
            {
                "answered_at": NOW - timedelta(seconds=9),
                "device": "line",
                "command": "valve",
                "done": False,
                "id": "c-1",
            }
            | {"value": None, "reason": "the configuration does not allow to write it\x1b[2J"}
        ]
        * 9,
    }
    return NodePage(WELL, told)


def test_a_node() -> None:
    assert drawn(node_page(a_page(), NOW, 80), 80) == A_NODE


def screen_of(watch: Watch, height: int = 40) -> str:
    """What stands on a screen of 80 columns, all of which fits on it."""
    page = drawn(watch.screen(Console(width=80, height=height, file=io.StringIO())), 80)
    assert len(page.splitlines()) <= height
    assert page.splitlines()[-1].startswith("q ends")
    return page


def test_a_watched_node_is_turned_through() -> None:
    watch = Watch(lambda: Seen(NOW, [WELL], a_page()), 2)
    watch.look()
    whole = A_NODE.splitlines()
    assert screen_of(watch, 14).splitlines()[:-1] == whole[:12]
    watch.key("n", 14)
    assert screen_of(watch, 14).splitlines()[:-1] == whole[8:20]


def test_a_watch_goes_on_when_the_database_does_not_answer() -> None:
    answers: list[Seen | FleetError] = [Seen(NOW, FLEET), FleetError("no connection\x1b"), Seen(NOW, [WELL])]

    def read() -> Seen:
        answer = answers.pop(0)
        if isinstance(answer, FleetError):
            raise answer
        return answer

    watch = Watch(read, 2)
    watch.look()
    assert screen_of(watch).startswith("\n".join(AT_80.splitlines()[:10]))
    watch.look()
    page = screen_of(watch)
    assert page.startswith("6 nodes:")
    assert "! nothing new for 0 s: no connection?\n" in page
    watch.look()
    assert "no connection" not in screen_of(watch)


def test_a_watch_that_never_saw_anything_ends() -> None:
    def fail() -> Seen:
        raise FleetError("no database")

    with pytest.raises(FleetError):
        Watch(fail, 2).look()


def test_a_watch_turns_pages() -> None:
    watch = Watch(lambda: Seen(NOW, FLEET), 2)
    watch.look()

    def first_row() -> str:
        return screen_of(watch, 10).splitlines()[3].split()[0]

    assert first_row() == "pi-3"
    assert watch.key("n", 10)
    assert first_row() == "pi-1"
    watch.key("n", 10)
    assert first_row() == "pi-1", "there are no more"
    watch.key("p", 10)
    assert first_row() == "pi-3"
    assert not watch.key("q", 10)
    assert watch.key("", 10)
