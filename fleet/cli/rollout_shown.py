"""How roll-outs are printed: for people, or a JSON object a line for programs."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from fleet.rollout.judge import OPEN
from fleet.view import wording

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fleet.rollout.books import Listed, Look
    from fleet.rollout.drive import Event
    from fleet.rollout.judge import Node, Rollout
    from fleet.rollout.start import Plan

# Written every ten seconds while somebody drives it.
_DRIVEN: Final = timedelta(seconds=30)
# A node may tell anything.
_LONGEST_CELL: Final = 2000


def plan(made: Plan, as_json: bool) -> None:  # noqa: FBT001 - as the option is given
    """What will be done."""
    draft = made.draft
    if as_json:
        stages = [{"name": stage.name, "nodes": stage.nodes} for stage in made.stages]
        _print_json({"plan": _plain(asdict(draft)), "stages": stages})
        return
    print(f"{_title(draft)}: {draft.size_bytes} bytes in {len(made.artifact.chunks)} chunks, SHA-256 {draft.sha256}")
    for stage in made.stages:
        named = ", ".join(stage.nodes[:5]) + (", ..." if len(stage.nodes) > 5 else "")  # noqa: PLR2004 - of a line
        print(f"  stage {stage.name}: {len(stage.nodes)} nodes: {named}")
    print(
        f"  {draft.max_failed} nodes may fail; a node has {draft.within} to confirm, and stages soak for {draft.soak}; "
        f"it expires at {_time(draft.expires_at)}"
    )


def begun(number: int, as_json: bool) -> None:  # noqa: FBT001 - as above
    """It is written down."""
    _say(as_json, f"roll-out {number}: begun", begun=number)


def left(number: int, as_json: bool) -> None:  # noqa: FBT001 - as above
    """Nobody drives it any more."""
    _say(as_json, f"roll-out {number}: left as it is; `rollout resume {number}` goes on", left=number)


def elsewhere(number: int, as_json: bool) -> None:  # noqa: FBT001 - as above
    """Somebody else does what is to be done."""
    _say(as_json, f"roll-out {number}: who drives it, in another terminal, sees to that", elsewhere=number)


def event(happened: Event, as_json: bool) -> None:  # noqa: FBT001 - as above
    """What has changed, as it happens."""
    now = datetime.now(UTC)
    if as_json:
        _print_json({"at": now.isoformat(), **asdict(happened)})
        return
    who = "" if happened.node is None else f"{happened.node} "
    why = "" if happened.reason is None else f": {wording.plain(happened.reason)}"
    print(f"{now:%H:%M:%S}  {who}{happened.what}{why}", flush=True)


def line(rollout: Rollout, as_json: bool, also: str = "") -> None:  # noqa: FBT001 - as above
    """One roll-out in a line, with what else is to be said of it to people."""
    why = "" if rollout.reason is None else f": {wording.plain(rollout.reason)}"
    stage = f", stage {rollout.stages[rollout.stage - 1]}" if rollout.state in OPEN else ""
    text = f"roll-out {rollout.rollout_id}, {_title(rollout)}: {rollout.state}{stage}{why}{also}"
    _say(as_json, text, **_plain(asdict(rollout)))


def would(what: str, look: Look, as_json: bool) -> None:  # noqa: FBT001 - as above
    """What a command would be done to."""
    rollout = look.rollout
    text = f"would {what} roll-out {rollout.rollout_id}, {_title(rollout)}, which is {rollout.state}"
    _say(as_json, text, would=what, rollout_id=rollout.rollout_id, state=rollout.state)


def listing(found: Sequence[Listed], as_json: bool) -> None:  # noqa: FBT001 - as above
    """Many of them."""
    if as_json:
        _print_json([_counted(each.rollout, each.at, each.states) for each in found])
        return
    heading = ("ID", "what", "version", "group", "state", "stage", "nodes", "confirmed", "failed", "begun", "driven")
    rows: list[tuple[str, ...]] = [heading]
    for each in found:
        rollout = each.rollout
        named = (str(rollout.rollout_id), f"{rollout.kind} {rollout.name}", rollout.version, rollout.group)
        counts = (sum(each.states.values()), each.states.get("confirmed", 0), each.states.get("failed", 0))
        how = (rollout.state, rollout.stages[rollout.stage - 1])
        rows.append((*named, *how, *map(str, counts), _time(rollout.started_at), _driven(rollout, each.at)))
    _print_table(rows)


def whole(look: Look, as_json: bool) -> None:  # noqa: FBT001 - as above
    """One with its stages and nodes."""
    if as_json:
        states = Counter[str](node.state for node in look.nodes)
        _print_json(_counted(look.rollout, look.at, states) | {"nodes": [_plain(asdict(node)) for node in look.nodes]})
        return
    line(look.rollout, as_json=False)
    if look.rollout.state in OPEN and not is_driven(look.rollout, look.at):
        print(nobody_drives(look.rollout))
    rows = [("node", "stage", "state", "asked", "runs", "told", "why")]
    for node in look.nodes:
        told = (node.told.running or "-", node.told.state or "-") if node.told else ("-", "-")
        named = (node.node, look.rollout.stages[node.stage - 1], _state(node))
        rows.append((*named, _time(node.asked_at), *told, _why(look.rollout, node)))
    _print_table(rows)


def nobody_drives(rollout: Rollout) -> str:
    """What to do about one that nobody looks after."""
    return f"nobody drives it: `rollout resume {rollout.rollout_id}` does"


def is_driven(rollout: Rollout, at: datetime) -> bool:
    """Whether somebody looks after it."""
    return rollout.driven_at is not None and at - rollout.driven_at < _DRIVEN


def _driven(rollout: Rollout, at: datetime) -> str:
    return "-" if rollout.cleared_at is not None else "yes" if is_driven(rollout, at) else "no"


def _state(node: Node) -> str:
    if node.is_away:
        return "away"
    return "at work" if node.is_at_work else node.state


def _why(rollout: Rollout, node: Node) -> str:
    """What was written down of it, else in its own words, as of one that waits."""
    told = node.told
    return node.reason or (told.reason if told is not None and told.counter == rollout.counter else None) or ""


def _counted(rollout: Rollout, at: datetime, states: Mapping[str, int]) -> dict[str, Any]:
    return _plain(asdict(rollout)) | {"is_driven": is_driven(rollout, at), "counts": dict(states)}


def _title(rollout: Rollout) -> str:
    return f"{rollout.kind} {rollout.name} {rollout.version} in group {rollout.group}"


def _time(at: datetime | None) -> str:
    return "-" if at is None else f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%SZ}"


def _plain(document: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _value(value) for key, value in document.items()}


def _value(value: object) -> object:
    match value:
        case datetime():
            return value.isoformat()
        case timedelta():
            return value.total_seconds()
        case dict():
            return _plain(value)
    return value


def _say(as_json: bool, text: str, **fields: object) -> None:  # noqa: FBT001 - as above
    if as_json:
        _print_json(fields)
    else:
        print(text, flush=True)


def _print_json(document: object) -> None:
    print(json.dumps(document), flush=True)


def _print_table(rows: Sequence[Sequence[str]]) -> None:
    rows = [[wording.plain(cell)[:_LONGEST_CELL] for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
