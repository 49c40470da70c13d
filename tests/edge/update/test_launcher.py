"""The launcher with real processes: small agents that work, crash, hang or confirm themselves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import edge.launcher
from edge.launcher import ROLLED_BACK_FILE, TRIAL_FILE, choose, read_json, write_json

# A whole agent as far as the launcher is concerned: it says what it is, and does what it is called.
SMALL_AGENT = """
import json, os, signal, sys, time
says = {"version": os.environ["HEADWATER_VERSION"], "argv": sys.argv[1:], "pid": os.getpid(),
        "notify": os.environ.get("NOTIFY_SOCKET"), "alarm_s": signal.getitimer(signal.ITIMER_REAL)[0]}
try:
    import library
    says["library"] = library.NAME
except ImportError:
    pass
print(json.dumps(says), flush=True)
"""
CRASHES = SMALL_AGENT + "sys.exit(3)\n"
WAITS = SMALL_AGENT + "time.sleep(60)\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    put_version(root, "1", WAITS)
    (root / "current").symlink_to("versions/1")
    return root


def put_version(root: Path, version: str, code: str) -> None:
    package = root / "versions" / version / "lib" / "edge"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(code)


def begin_trial(root: Path, version: str = "2", **more: Any) -> None:
    write_json(root / TRIAL_FILE, {"version": version, "confirm_s": 30, "max_starts": 3, "starts": 0} | more)


def launch(root: Path, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-I", edge.launcher.__file__, "--root", str(root), *arguments]
    return subprocess.Popen(
        command, env=os.environ | environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def ended(process: subprocess.Popen[str], number: int | None = None) -> tuple[dict[str, Any], str, int]:
    """What it says of itself, its log, and how it ended; `number`: by a signal, once it has spoken."""
    assert process.stdout is not None
    assert process.stderr is not None
    said = process.stdout.readline()
    if number is not None:
        process.send_signal(number)
    code = process.wait(30)
    log = process.stderr.read()
    process.stdout.close()
    process.stderr.close()
    return json.loads(said or "{}"), log, code


def test_it_becomes_the_confirmed_version_and_is_gone(root: Path) -> None:
    (root / "versions" / "1" / "deps").write_text("libs-1\n")
    (root / "deps" / "libs-1").mkdir(parents=True)
    (root / "deps" / "libs-1" / "library.py").write_text("NAME = 'ours'")
    process = launch(root, "--", "--log-format", "json", "run", "edge.yaml", NOTIFY_SOCKET="/run/notify")
    said, log, code = ended(process, signal.SIGTERM)
    assert said["argv"] == ["--log-format", "json", "run", "edge.yaml"]
    # The process that systemd has started is the agent: its notifications count, and its signals arrive.
    assert (said["version"], said["pid"], said["notify"]) == ("1", process.pid, "/run/notify")
    assert (said["library"], said["alarm_s"], log, code) == ("ours", 0, "", -signal.SIGTERM)


def test_one_that_crashes_on_trial_is_put_back_by_itself(root: Path) -> None:
    put_version(root, "2", CRASHES)
    begin_trial(root)
    for start in (1, 2, 3):
        said, _, code = ended(launch(root, "run"))
        assert (said["version"], code, read_json(root / TRIAL_FILE)["starts"]) == ("2", 3, start)
        assert said["alarm_s"] > 30
    said, log, _ = ended(launch(root, "run"), signal.SIGKILL)
    assert said["version"] == "1"
    assert "2 is given up: it was started 3 times and did not confirm that it works; 1 is started" in log
    assert read_json(root / ROLLED_BACK_FILE)["version"] == "2"
    assert not (root / TRIAL_FILE).exists()


def test_one_that_hangs_is_ended_by_the_kernel_at_its_deadline(root: Path) -> None:
    put_version(root, "2", WAITS)
    begin_trial(root, confirm_s=0.3)
    _, _, code = ended(launch(root, "run"))
    assert code == -signal.SIGALRM
    said, log, _ = ended(launch(root, "run"), signal.SIGKILL)
    assert said["version"] == "1"
    assert "did not confirm within 0.3 s" in log


@pytest.mark.parametrize(
    ("trial", "why"),
    [
        ({"version": "2", "failed": "source plant is failing"}, "source plant is failing"),
        ({"version": "../../elsewhere"}, "there is no such version"),
        ({"version": "gone"}, "there is no such version"),
    ],
)
def test_what_is_given_up_or_not_there_is_not_started(root: Path, trial: dict[str, str], why: str) -> None:
    put_version(root, "2", WAITS)
    begin_trial(root, **trial)
    assert choose(root) == ("1", None)
    assert read_json(root / ROLLED_BACK_FILE) == {"version": trial["version"], "reason": why}


@pytest.mark.parametrize(
    "nonsense", ["", "[]", "{", '{"version": "2"}', '{"version": "2", "confirm_s": [], "max_starts": 3}']
)
def test_a_trial_that_cannot_be_read_leaves_what_was_confirmed(root: Path, nonsense: str) -> None:
    put_version(root, "2", WAITS)
    (root / TRIAL_FILE).write_text(nonsense)
    assert choose(root) == ("1", None)


def test_a_start_that_cannot_be_counted_is_none(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_version(root, "2", WAITS)
    begin_trial(root)

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    assert choose(root) == ("1", None)
    assert read_json(root / TRIAL_FILE)["starts"] == 0


def test_after_a_reboot_the_deadline_begins_anew_and_the_starts_do_not(root: Path) -> None:
    put_version(root, "2", WAITS)
    begin_trial(root, boot_id="of before", begun_s=-1e9, starts=2)
    version, left_s = choose(root)
    assert version == "2"
    assert left_s == pytest.approx(30, abs=1)
    assert choose(root) == ("1", None)


def test_what_was_confirmed_and_cut_off_is_confirmed(root: Path) -> None:
    put_version(root, "2", WAITS)
    begin_trial(root)
    (root / "current").unlink()
    (root / "current").symlink_to("versions/2")
    assert choose(root) == ("2", None)
    assert not (root / TRIAL_FILE).exists()


def test_without_any_version_it_says_so_in_a_line(tmp_path: Path) -> None:
    process = launch(tmp_path, "run")
    _, log, code = ended(process)
    assert code == 1
    assert log.count("\n") == 1
    assert "no agent can be started" in log


def test_it_needs_nothing_but_the_standard_library() -> None:
    place = str(Path(edge.launcher.__file__).parent)
    code = f"import sys; sys.path[:0] = [{place!r}]; import launcher; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True)
    assert {name.partition(".")[0] for name in done.stdout.split()} <= sys.stdlib_module_names | {
        "__main__",
        "launcher",
    }
