from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulators.plant.faults import AnyFault, BearingWear, IllegalAddress, Leak, StuckSensor
from simulators.plant.line import Plant
from simulators.plant.line_faults import Busy
from simulators.plant.memory import Block, is_legal
from simulators.plant.pdu import RefusedError
from simulators.plant.points import Kind, Order, Table, from_registers, to_registers, to_value
from simulators.plant.process import TANK_AREA_M2, Effects, advance, first_line
from simulators.plant.readings import SET_POINTS, quantities
from simulators.plant.register_map import POINTS, SHARING, UNITS
from simulators.plant.schedule import Schedule

if TYPE_CHECKING:
    from collections.abc import Sequence

SECOND = 10
MINUTE = 60 * SECOND
DEFAULTS = {name: set_point.default for name, set_point in SET_POINTS.items()}


def plant_of(*faults: AnyFault, seed: int = 7, steps: int = 0) -> Plant:
    plant = Plant(seed, faults, day_s=300)
    plant.move_to(steps)
    return plant


def refusal(plant: Plant, block: Block) -> int | None:
    try:
        plant.read(block)
    except RefusedError as exc:
        return exc.code
    return None


def write(plant: Plant, name: str, raw: Any) -> None:
    (unit_id,) = (unit_id for unit_id, points in UNITS.items() if POINTS[name] in points)
    point = POINTS[name]
    plant.write(Block(unit_id, point.table, point.address, point.width), to_registers(point, raw))


# The map ----------------------------------------------------------------------------------------------------------


def test_names_are_unique_and_every_point_has_its_quantity() -> None:
    assert len(POINTS) == sum(map(len, UNITS.values()))
    assert quantities(first_line([0.0] * 16), DEFAULTS).keys() == POINTS.keys()
    assert SET_POINTS.keys() <= POINTS.keys()


def test_the_map_has_all_there_is() -> None:
    points = POINTS.values()
    assert len(UNITS) >= 4
    assert {point.table for point in points} == set(Table)
    assert {point.kind for point in points} == set(Kind)
    multiple = {(point.byte_order, point.word_order) for point in points if point.width > 1}
    assert multiple == {(byte, word) for byte in Order for word in Order}
    assert all(point.description for point in points)
    assert all(
        point.unit for point in points if point.kind not in {Kind.BOOL, Kind.STRING} and point.name not in SHARING
    )
    assert any(point.offset for point in points)


def test_points_overlap_only_where_bits_share_a_word() -> None:
    assert all(POINTS[name].bit is not None or POINTS[name].kind is Kind.UINT16 for name in SHARING)
    assert {POINTS[name].address for name in SHARING} == {16}


def test_what_can_be_written_stands_where_clients_can_write() -> None:
    assert all(POINTS[name].table in {Table.COIL, Table.HOLDING} for name in SET_POINTS)


@pytest.mark.parametrize(("address", "count", "legal"), [(0, 17, True), (13, 3, True), (0, 18, False), (17, 1, False)])
def test_small_holes_read_and_large_ones_do_not(address: int, count: int, legal: bool) -> None:  # noqa: FBT001 - a table
    assert is_legal(UNITS[1], Block(1, Table.INPUT, address, count)) is legal


def test_name_plates_are_apart() -> None:
    assert is_legal(UNITS[1], Block(1, Table.HOLDING, 1000, 12))
    assert not is_legal(UNITS[1], Block(1, Table.HOLDING, 0, 5))
    assert not is_legal(UNITS[1], Block(1, Table.HOLDING, 999, 2))


# Physics ----------------------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_plant_however_it_gets_there() -> None:
    straight = plant_of(steps=MINUTE)
    slowly = plant_of()
    for step in range(0, MINUTE + 1, 7):
        slowly.move_to(step)
        assert slowly.memory.values.keys() == POINTS.keys()
    slowly.move_to(MINUTE)
    assert slowly.memory.values == straight.memory.values
    assert plant_of(seed=8, steps=MINUTE).memory.values != straight.memory.values


def test_time_does_not_go_back() -> None:
    plant = plant_of(steps=10)
    plant.move_to(5)
    assert plant.step == 10


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 600))
def test_values_stay_within_what_a_plant_can_be(seed: int, steps: int) -> None:
    values = plant_of(seed=seed, steps=steps).memory.values
    limits = {
        "tank1/level": (0, 5.01),
        "tank2/level": (0, 5.01),
        "intake/valve_position": (0, 100),
        "pump1/speed": (0, 1480),
        "pump2/bearing_temperature": (10, 120),
        "quality/ph": (6, 9),
        "quality/chlorine": (0, 4),
        "mains/frequency": (49.5, 50.5),
        "building/indoor_temperature": (0, 40),
    }
    for name, (low, high) in limits.items():
        value = values[name]
        assert isinstance(value, (int, float))
        assert low <= value <= high, name


def test_water_is_neither_made_nor_lost() -> None:
    line = first_line([0.0] * 16)
    for _ in range(MINUTE):
        before = line
        line = advance(before, DEFAULTS, Effects(), [0.0] * 16, 0.1, 300)
        in_m3 = (before.inflow_m3_h - before.flow_m3_h(1)) * 0.1 / 3600
        held_m3 = (sum(line.level_m) - sum(before.level_m)) * TANK_AREA_M2
        assert held_m3 == pytest.approx(in_m3, abs=1e-9)


def test_alarms_stand_in_their_word_and_in_their_bits() -> None:
    plant = plant_of(Leak(tank=1, flow_m3_h=5000, duration_s=600), Leak(tank=2, flow_m3_h=5000, duration_s=600))
    plant.move_to(2 * MINUTE)
    answer = plant.read(Block(1, Table.INPUT, 16, 1))
    assert answer.words == [0b1010]
    assert {name: value for name, value in answer.values.items() if value} == {
        "intake/alarm_word": 0b1010,
        "intake/alarm_tank1_low": True,
        "intake/alarm_tank2_low": True,
    }
    assert plant.memory.values["tank1/level_low"] is True
    assert plant.memory.values["tank2/volume"] == 0


def test_a_stopped_pump_stops() -> None:
    plant = plant_of(steps=SECOND)
    write(plant, "pump2/run_command", raw=False)
    assert plant.memory.values["pump2/run_command"] is False
    energy = plant.memory.values["pump2/energy"]
    plant.move_to(MINUTE)
    values = plant.memory.values
    assert values["pump2/running"] is False
    assert values["pump2/speed"] == 0
    later = plant_of(steps=0)
    assert later.memory.values["pump2/running"] is True
    plant.move_to(2 * MINUTE)
    assert plant.memory.values["pump2/energy"] != energy
    stopped = plant.memory.values["pump2/energy"]
    plant.move_to(3 * MINUTE)
    assert plant.memory.values["pump2/energy"] == stopped
    starts = plant.memory.values["pump2/starts"]
    write(plant, "pump2/run_command", raw=True)
    plant.move_to(4 * MINUTE)
    assert isinstance(starts, int)
    assert plant.memory.values["pump2/starts"] == starts + 1


def test_the_dosing_follows_its_set_point() -> None:
    low, high = plant_of(), plant_of()
    write(low, "chlorine/setpoint", 0.1)
    write(high, "chlorine/setpoint", 2.0)
    for plant in (low, high):
        plant.move_to(3 * MINUTE)
    less, more = (plant.memory.values["quality/chlorine"] for plant in (low, high))
    assert isinstance(less, float)
    assert isinstance(more, float)
    assert more > 2 * less


# Faults -----------------------------------------------------------------------------------------------------------


def numbers(plants: Sequence[Plant], name: str) -> list[float]:
    return [float(plant.memory.values[name]) for plant in plants]


def test_a_leak_lowers_its_tank_between_start_and_end() -> None:
    sound, leaking = plant_of(), plant_of(Leak(tank=1, flow_m3_h=150, start_s=10, duration_s=20))
    for step, differs in ((9 * SECOND, False), (30 * SECOND, True)):
        for plant in (sound, leaking):
            plant.move_to(step)
        before, after = numbers((sound, leaking), "tank1/volume")
        assert (after < before - 500) is differs
        assert (after == before) is not differs


def test_wear_heats_shakes_and_ends_with_the_fault() -> None:
    sound, worn = plant_of(), plant_of(BearingWear(pump=1, duration_s=60, life_s=30))
    for plant in (sound, worn):
        plant.move_to(59 * SECOND)
    for name, more in (("pump1/bearing_temperature", 10), ("pump1/vibration", 2), ("pump1/current", 0.5)):
        before, after = numbers((sound, worn), name)
        assert after > before + more, name
    assert numbers((sound, worn), "pump2/vibration")[0] == numbers((sound, worn), "pump2/vibration")[1]
    worn.move_to(62 * SECOND)
    assert numbers((worn,), "pump1/vibration")[0] < 3


def test_a_stuck_sensor_stands_still_and_only_it() -> None:
    sound = plant_of()
    stuck = plant_of(StuckSensor(point="tank1/level", start_s=10, duration_s=20))
    shown = set()
    for step in range(10 * SECOND, 30 * SECOND):
        for plant in (sound, stuck):
            plant.move_to(step)
        shown.add(stuck.memory.values["tank1/level"])
        assert {k: v for k, v in stuck.memory.values.items() if k != "tank1/level"} == {
            k: v for k, v in sound.memory.values.items() if k != "tank1/level"
        }
    assert len(shown) == 1
    for plant in (sound, stuck):
        plant.move_to(30 * SECOND)
    assert stuck.memory.values == sound.memory.values


def test_a_stuck_sensor_does_not_move_when_other_faults_come_and_go() -> None:
    other = Leak(tank=1, start_s=2, duration_s=3)
    plant = plant_of(StuckSensor(point="tank1/level", start_s=1, duration_s=9), other, steps=SECOND)
    first = plant.memory.values["tank1/level"]
    for step in range(SECOND, 10 * SECOND):
        plant.move_to(step)
        assert plant.memory.values["tank1/level"] == first
    plant.move_to(10 * SECOND)
    assert plant.memory.values["tank1/level"] != first


def test_what_is_served_of_a_stuck_sensor_is_what_its_registers_say() -> None:
    plant = plant_of(StuckSensor(point="tank1/level"), steps=50)
    answer = plant.read(Block(1, Table.INPUT, 0, 2))
    assert from_registers(POINTS["tank1/level"], answer.words) == answer.values["tank1/level"]


def test_an_illegal_address_refuses_what_touches_it() -> None:
    plant = plant_of(IllegalAddress(point="tank1/level"), steps=5)
    assert refusal(plant, Block(1, Table.INPUT, 1, 1)) == 2
    assert refusal(plant, Block(1, Table.INPUT, 0, 12)) == 2
    assert refusal(plant, Block(1, Table.INPUT, 2, 2)) is None
    assert refusal(plant, Block(1, Table.HOLDING, 0, 2)) is None
    assert refusal(plant, Block(2, Table.INPUT, 0, 2)) is None


def test_faults_are_told_once_as_they_start_and_end() -> None:
    plant = plant_of(Leak(start_s=1, duration_s=1), Busy(start_s=1.5, duration_s=60))
    started, ended = plant.move_to(30)
    assert [s.fault.label for s in started] == ["leak tank1", "busy all units"]
    assert [(s.fault.label, s.from_step, s.to_step) for s in ended] == [("leak tank1", 10, 20)]
    assert plant.move_to(31) == ([], [])
    assert [s.fault.label for s in plant.active] == ["busy all units"]


def test_a_fault_on_demand_counts_from_now() -> None:
    plant = plant_of(steps=100)
    scheduled = plant.inject(Busy(duration_s=2))
    assert (scheduled.from_step, scheduled.to_step) == (101, 121)
    assert plant.active == ()
    plant.move_to(101)
    assert [s.fault.label for s in plant.active] == ["busy all units"]


times = st.tuples(st.integers(0, 40), st.integers(1, 20))


@given(st.lists(times, max_size=6), st.lists(st.integers(1, 80), max_size=30))
def test_the_schedule_has_active_what_the_step_lies_in(spans: list[tuple[int, int]], strides: list[int]) -> None:
    schedule = Schedule([Busy(start_s=start, duration_s=length) for start, length in spans], step_s=1.0)
    wanted = [(max(start, 1), max(start, 1) + length) for start, length in spans]
    for step in range(1, 1 + max(strides, default=0)):
        schedule.move_to(step)
        active = sorted((s.from_step, s.to_step) for s in schedule.active)
        assert active == sorted((low, high) for low, high in wanted if low <= step < high)


# Reading and writing ----------------------------------------------------------------------------------------------

spans = st.tuples(st.sampled_from(sorted(UNITS)), st.sampled_from(Table), st.integers(0, 40), st.integers(1, 60))


@settings(deadline=None)
@given(spans | spans.map(lambda span: (span[0], span[1], span[2] + 1000, span[3] % 20 + 1)))
def test_a_block_serves_the_points_wholly_in_it_as_a_client_decodes_them(span: tuple[int, Table, int, int]) -> None:
    plant, block = plant_of(steps=3), Block(*span)
    if refusal(plant, block) is not None:
        return
    answer = plant.read(block)
    assert len(answer.words) == block.count
    inside = [
        point
        for point in UNITS[block.unit_id]
        if point.table is block.table and set(range(point.address, point.end)) <= set(range(block.address, block.end))
    ]
    assert answer.values.keys() == {point.name for point in inside}
    for point in inside:
        start = point.address - block.address
        words = answer.words[start : start + point.width]
        assert answer.values[point.name] == to_value(point, from_registers(point, words))


@pytest.mark.parametrize(
    ("block", "words", "code"),
    [
        (Block(1, Table.HOLDING, 0, 1), [0], 2),
        (Block(1, Table.HOLDING, 1000, 8), [0] * 8, 2),
        (Block(1, Table.HOLDING, 50, 1), [0], 2),
        (Block(4, Table.HOLDING, 0, 1), [9999], 3),
        (Block(1, Table.HOLDING, 0, 2), [0, 0x7FC0], 3),
    ],
)
def test_what_cannot_be_written_is_refused_and_changes_nothing(block: Block, words: list[int], code: int) -> None:
    plant = plant_of(steps=3)
    before = plant.memory.values
    with pytest.raises(RefusedError) as refused:
        plant.write(block, words)
    assert refused.value.code == code
    assert plant.memory.values == before


def test_several_set_points_are_written_at_once() -> None:
    plant = plant_of()
    levels = [POINTS["tank1/level_setpoint"], POINTS["tank2/level_setpoint"]]
    words = [word for point, raw in zip(levels, (2.5, 1.5), strict=True) for word in to_registers(point, raw)]
    plant.write(Block(1, Table.HOLDING, 0, 4), words)
    assert [plant.memory.values[point.name] for point in levels] == [2.5, 1.5]
