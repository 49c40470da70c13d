"""Starts the agent's version that is to run: the confirmed one, or the one on trial; and puts back what fails.

Copied to where the agent cannot write, and not updated itself: standard library alone, and small. It becomes the agent
(exec), so signals, systemd's notifications and its watchdog need no forwarding.

ROOT/versions/VERSION/lib is what a version imports; a line in its file `deps` names a directory in ROOT/deps with more.
ROOT/current is a link to the version that was confirmed last. While another is on trial, ROOT/trial.json says which.
The launcher counts its starts there before each of them, and puts an alarm clock beside it that ends the process at the
deadline, unless the agent turns it off by confirming. A trial that was started too often, or is over its deadline, or
that the agent gave up, is over: ROOT/rolled-back.json says why, for the agent of before to tell.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any, Final, NoReturn

TRIAL_FILE: Final = "trial.json"
ROLLED_BACK_FILE: Final = "rolled-back.json"
# What the agent is told of itself.
ROOT_VARIABLE: Final = "HEADWATER_ROOT"
VERSION_VARIABLE: Final = "HEADWATER_VERSION"
# An agent that finds itself wanting says why, and ends in good order; the alarm is for one that does not.
_GRACE_S: Final = 60.0
_LONGEST_S: Final = 86_400.0
_MAX_BYTES: Final = 16 * 1024


def main(argv: list[str] | None = None) -> int:
    """Becomes the agent; returns only where there is nothing to become."""
    parser = argparse.ArgumentParser(description="Starts Headwater's agent, and puts back a version that fails.")
    parser.add_argument("--root", type=Path, required=True, metavar="DIR", help="has versions/ and current")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, metavar="...", help="for the agent, as: -- run CONFIG")
    args = parser.parse_args(argv)
    # Options of the agent's own stand behind a --, which is not for the agent.
    arguments = args.arguments[1:] if args.arguments[:1] == ["--"] else args.arguments
    try:
        version, left_s = choose(args.root)
        become(args.root, version, arguments, left_s)
    except OSError as exc:
        _tell(f"{args.root}: no agent can be started: {exc}")
    return 1


def choose(root: Path) -> tuple[str, float | None]:
    """The version to start, and seconds that it has to be confirmed; None: it is confirmed. Raises OSError."""
    current = (root / "current").readlink().name
    try:
        return _on_trial(root, current) or (current, None)
    except _OverError as exc:
        _tell(f"{exc.version} is given up: {exc}; {current} is started")
        with contextlib.suppress(OSError):  # then it is over at the next start
            write_json(root / ROLLED_BACK_FILE, {"version": exc.version, "reason": str(exc)})
            remove(root / TRIAL_FILE)
    except (OSError, ValueError, TypeError, KeyError) as exc:
        # One that cannot be counted could be started without end.
        _tell(f"there is a version on trial, but {exc!r}: {current} is started")
    return current, None


def become(root: Path, version: str, arguments: list[str], left_s: float | None) -> NoReturn:
    """Runs a version in this process from now on."""
    place = root / "versions" / version
    paths = [place / "lib"]
    with contextlib.suppress(FileNotFoundError):
        paths.append(root / "deps" / (place / "deps").read_text(encoding="ascii").strip())
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(map(str, paths)),
        ROOT_VARIABLE: str(root),
        VERSION_VARIABLE: version,
    }
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM})
    if left_s is not None:
        # It outlives exec: whatever the new version does or does not do, the kernel ends it at its deadline.
        signal.setitimer(signal.ITIMER_REAL, left_s + min(left_s, _GRACE_S))
    sys.stderr.flush()
    os.execve(sys.executable, [sys.executable, "-P", "-s", "-m", "edge", *arguments], environment)  # noqa: S606 - it becomes the agent


class _OverError(Exception):
    """A trial that is over; the message says why."""

    def __init__(self, version: str, reason: str) -> None:
        super().__init__(reason)
        self.version = version


def _on_trial(root: Path, current: str) -> tuple[str, float] | None:
    """The version on trial, this start of it counted, and seconds that it has left; None where there is none."""
    if not (root / TRIAL_FILE).exists():
        return None
    trial = read_json(root / TRIAL_FILE)
    version, confirm_s, starts = str(trial["version"]), float(trial["confirm_s"]), int(trial.get("starts", 0))
    if version == current:
        remove(root / TRIAL_FILE)  # confirmed, and cut off before this was
        return None
    if trial.get("failed"):
        raise _OverError(version, str(trial["failed"]))
    if version in {"", ".", ".."} or "/" in version or not (root / "versions" / version / "lib").is_dir():
        raise _OverError(version, "there is no such version")
    if starts >= int(trial["max_starts"]):
        raise _OverError(version, f"it was started {starts} times and did not confirm that it works")
    if (left_s := seconds_left(trial)) <= 0:
        raise _OverError(version, f"it did not confirm within {confirm_s:g} s that it works")
    begun = {} if "boot_id" in trial and trial["boot_id"] == boot_id() else {"boot_id": boot_id(), "begun_s": _now_s()}
    write_json(root / TRIAL_FILE, {**trial, **begun, "starts": starts + 1})
    return version, left_s


def seconds_left(trial: dict[str, Any]) -> float:
    """Until its deadline; after a reboot, which the clock does not outlive, it has its time once more."""
    passed_s = _now_s() - float(trial["begun_s"]) if trial.get("boot_id") == boot_id() else 0.0
    return min(float(trial["confirm_s"]), _LONGEST_S) - passed_s


def boot_id() -> str:
    """What tells this boot from all others."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def _now_s() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def read_json(path: Path) -> dict[str, Any]:
    """What is in a small file; raises OSError and ValueError."""
    with path.open("rb") as file:
        found = json.loads(file.read(_MAX_BYTES))
    if not isinstance(found, dict):
        raise ValueError(f"{path} is no object")  # noqa: TRY004 - what it holds is wrong, not what was passed
    return found


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Writes a small file: after a power cut there is the old one, or this. Raises OSError."""
    half = path.with_name(f".{path.name}.new")
    with half.open("w", encoding="utf-8") as file:
        json.dump(content, file)
        file.flush()
        os.fsync(file.fileno())
    half.replace(path)
    flush_directory(path.parent)


def remove(path: Path) -> None:
    """Deletes a file for good, if it is there. Raises OSError."""
    path.unlink(missing_ok=True)
    flush_directory(path.parent)


def flush_directory(directory: Path) -> None:
    """Has the names in a directory on the disk. Raises OSError."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _tell(text: str) -> None:
    print(f"launcher: {text}", file=sys.stderr)  # noqa: T201 - it has no logging: systemd's journal has this


if __name__ == "__main__":
    sys.exit(main())
