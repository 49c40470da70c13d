"""A version that is there already and damaged, and what is left of versions that are gone."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from fleet.bundle import first_boot_script

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fleet.bundle import Bundle
    from tests.fleet.bundle.conftest import Machine


@pytest.fixture
def card(tmp_path: Path, archive: Bundle, machine: Machine) -> Path:
    """One that was installed from."""
    folder = tmp_path / "card"
    folder.mkdir()
    shutil.copy(archive.path, folder / "headwater.tar.gz")
    (folder / "first-boot.sh").write_bytes(first_boot_script())
    assert machine.run("sh", folder / "first-boot.sh", folder).returncode == 0
    return folder


def files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def cut_short(version: Path, _deps: Path) -> None:
    (version / "lib/edge/__main__.py").write_bytes(b"")


def of_the_same_size(version: Path, _deps: Path) -> None:
    path = version / "lib/edge/__main__.py"
    path.write_bytes(path.read_bytes()[:-1] + b"#")


def gone(version: Path, _deps: Path) -> None:
    (version / "manifest.json").unlink()


def one_too_many(version: Path, _deps: Path) -> None:
    (version / "lib/json.py").write_text("")


def linked(version: Path, _deps: Path) -> None:
    path = version / "lib/edge/__main__.py"
    path.rename(version.parent.parent / "elsewhere.py")
    path.symlink_to(version.parent.parent / "elsewhere.py")


def a_library(_version: Path, deps: Path) -> None:
    (deps / "greeting.py").write_text("WORD = 'hell'\n")


@pytest.mark.parametrize("damage", [cut_short, of_the_same_size, gone, one_too_many, linked, a_library])
def test_what_is_damaged_is_put_right_when_it_is_installed_again(
    damage: Callable[[Path, Path], None], machine: Machine, card: Path, archive: Bundle
) -> None:
    opt = machine.root / "opt/headwater"
    version, deps = opt / "versions" / archive.version, next((opt / "deps").iterdir())
    wanted = [files(version), files(deps)]
    damage(version, deps)
    done = machine.run("sh", card / "first-boot.sh", "--again", card)
    assert done.returncode == 0, done.stderr
    assert "was damaged, and is put right" in done.stdout
    assert [files(version), files(deps)] == wanted
    assert sorted(path.name for path in (opt / "versions").iterdir()) == [archive.version]
    assert list((opt / "deps").iterdir()) == [deps]


def test_what_is_whole_is_left_alone(machine: Machine, card: Path, archive: Bundle) -> None:
    version = machine.root / "opt/headwater/versions" / archive.version
    # An update leaves it there, and knows itself by it.
    (version / "archive.sha256").write_text("digest")
    before = version.stat().st_ino
    assert machine.run("sh", card / "first-boot.sh", "--again", card).returncode == 0
    assert version.stat().st_ino == before
    assert (version / "archive.sha256").exists()


def test_a_file_system_that_swaps_nothing_has_it_put_right_too(machine: Machine, card: Path, archive: Bundle) -> None:
    version = machine.root / "opt/headwater/versions" / archive.version
    wanted = files(version)
    gone(version, version)
    machine.put("setpriv", 'while [ "$1" != -- ]; do shift; done; shift; [ "$1" != /usr/bin/python3 ] && exec "$@"')
    assert machine.run("sh", card / "first-boot.sh", "--again", card).returncode == 0
    assert files(version) == wanted
    assert list(version.parent.iterdir()) == [version]


def test_a_bundle_that_is_damaged_itself_replaces_nothing(machine: Machine, card: Path, archive: Bundle) -> None:
    version = machine.root / "opt/headwater/versions" / archive.version
    gone(version, version)
    before = files(version)
    real = shutil.which("tar")
    # What comes out of it is not what its list names.
    machine.put("tar", f'case "$*" in *partial*) echo x >"$2/lost";; *) exec {real} "$@";; esac')
    done = machine.run("sh", card / "first-boot.sh", "--again", card)
    assert done.returncode != 0
    assert "not what the bundle's list names" in done.stderr
    assert files(version) == before


def test_of_what_python_compiled_only_that_of_versions_that_are_there_is_kept(machine: Machine, card: Path) -> None:
    opt, cache = machine.root / "opt/headwater", machine.root / "var/cache/headwater"
    there = [next((opt / kind).iterdir()) for kind in ("versions", "deps")]
    kept = [cache / str(path).lstrip("/") for path in there] + [cache / "usr/lib/python3"]
    others = [cache / str(opt / place).lstrip("/") for place in ("versions/0.0.9", "versions/.unpacking", "deps/old")]
    for folder in (*kept, *others):
        (folder / "lib").mkdir(parents=True)
    assert machine.run(machine.root / "usr/lib/headwater/prune-cache").returncode == 0
    assert all(folder.is_dir() for folder in kept)
    assert not any(folder.exists() for folder in others)
    # An installation leaves none: that of a damaged file would be taken for the whole one's.
    assert machine.run("sh", card / "first-boot.sh", "--again", card).returncode == 0
    assert list(cache.iterdir()) == []


def test_the_agent_ends_before_its_files_are_changed_and_runs_on_where_that_fails(machine: Machine, card: Path) -> None:
    (machine.root / "run/systemd/system").mkdir(parents=True)
    (machine.root / "systemctl").unlink()
    assert machine.run("sh", card / "first-boot.sh", "--again", card).returncode == 0
    told = machine.told_systemctl()
    assert told.index("stop headwater-enrol.service headwater-edge.service") < told.index("daemon-reload")
    assert told[-1] == "--no-block restart headwater-enrol.service headwater-edge.service"
    machine.put("setpriv", "exit 1")
    assert machine.run("sh", card / "first-boot.sh", "--again", card).returncode != 0
    assert machine.told_systemctl()[-1] == "--no-block start headwater-enrol.service headwater-edge.service"


def lay_baked(folder: Path) -> None:
    for name in ("key.pem", "cert.pem", "enrol.json"):
        (folder / name).write_text(f"a baked {name}")


def test_a_key_on_the_card_of_a_device_that_is_installed_is_taken_in_before_it_is_wiped(
    machine: Machine, card: Path
) -> None:
    lay_baked(card)
    (card / "wipe.sh").write_text(f"mv {card}/*.pem {card}/enrol.json {machine.root}/\n")
    assert machine.run("sh", card / "first-boot.sh", card).returncode == 0
    for name in ("key.pem", "cert.pem", "enrol.json"):
        assert (machine.root / "etc/headwater" / name).read_text() == f"a baked {name}"
        assert (machine.root / name).exists()


def test_a_key_that_cannot_be_taken_in_is_not_wiped(machine: Machine, card: Path) -> None:
    lay_baked(card)
    (card / "wipe.sh").write_text(f"rm {card}/*.pem\n")
    machine.put("setpriv", "exit 1")
    assert machine.run("sh", card / "first-boot.sh", card).returncode != 0
    assert (card / "key.pem").exists()


def test_a_token_that_comes_takes_an_older_key_away(machine: Machine, card: Path) -> None:
    """Else it would be taken for one that belongs to the token's enrolment, once the token is wiped."""
    lay_baked(card)
    assert machine.run("sh", card / "first-boot.sh", "--again", card).returncode == 0
    assert (machine.root / "etc/headwater/key.pem").exists()
    for name in ("key.pem", "cert.pem"):
        (card / name).unlink()
    assert machine.run("sh", card / "first-boot.sh", "--again", card).returncode == 0
    assert {path.name for path in (machine.root / "etc/headwater").iterdir()} == {"edge.yaml", "enrol.json"}
