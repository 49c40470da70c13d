"""A model's directory as a link to one of the versions that came as updates: switched in one step.

The versions lie in the state directory. What was configured as a plain directory is moved aside at the first update,
and stays what is put back. What somebody puts there by hand while a version is tried stays there.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from contract.archive import flush_directory
from edge.errors import NotNowError, RolledBackError, UpdateError
from edge.update.ledger import known, remove_file, replace_file
from edge.update.unpacking import scratch_in, unpack_anew

if TYPE_CHECKING:
    from contract.update import Desired

logger = logging.getLogger(__name__)

_TRIAL: Final = "trial.json"
_ASIDE: Final = ".before-updates"
_MAX_BYTES: Final = 16 * 1024
_DIGEST_CHARACTERS: Final = 12
_MOUNTS: Final = Path("/proc/self/mountinfo")


@dataclass(frozen=True, slots=True)
class ModelTrial:
    """A version that is tried: where it lies, its manifest's digest, and where the link went before, if it did."""

    place: str
    digest: str
    before: str | None


class ModelLink:
    """The link `directory` to one of the versions in `versions`.

    Methods raise UpdateError for an archive that is none, and NotNowError for what the disk does not do.
    """

    def __init__(self, directory: Path, versions: Path) -> None:
        self.directory = directory.absolute()
        self._versions = versions.absolute()
        self._aside = self.directory.with_name(f".{self.directory.name}{_ASIDE}")

    def check(self) -> None:
        """Raises UpdateError where no link can be made, and NotNowError where one may be yet."""
        parent = self.directory.parent
        while not parent.exists():
            parent = parent.parent
        if os.access(parent, os.W_OK):
            return
        if _is_read_only(parent):
            raise NotNowError(f"{self.directory} has to become a link, and its file system is read-only now")
        wanting = f"{self.directory} has to become a link, and the agent may not write to {parent}"
        if not os.path.lexists(self.directory):
            raise NotNowError(f"{wanting}; it is not there: what it lies on may not be mounted yet")
        raise UpdateError(wanting)

    def has(self, desired: Desired) -> bool:
        """Whether a version is unpacked already."""
        return self._place(desired).is_dir()  # whole: it was renamed when it was

    def install(self, desired: Desired, archive: Path) -> Path:
        """Unpacks a version, unless it is there; what runs is as it was."""
        place = self._place(desired)
        if not self.has(desired):
            with scratch_in(self._versions) as scratch:
                unpack_anew(archive, desired, scratch)
                scratch.rename(place)
                flush_directory(self._versions)
        return place

    def begin_trial(self, place: Path, digest: str) -> ModelTrial:
        """Notes what was before; `go_on` has the link go to what is tried."""
        try:
            if self._is_plain:
                self._clear_aside()
                before: str | None = str(self._aside)
            else:
                before = self._target
            trial = ModelTrial(str(place), digest, before)
            replace_file(self._versions / _TRIAL, json.dumps(asdict(trial)).encode())
        except OSError as exc:
            raise NotNowError(f"{self.directory}: its trial cannot be noted: {exc.strerror}") from exc
        return trial

    def trial(self) -> ModelTrial | None:
        """What is on trial, None where nothing is."""
        try:
            with (self._versions / _TRIAL).open("rb") as file:
                return ModelTrial(**known(ModelTrial, json.loads(file.read(_MAX_BYTES))))
        except FileNotFoundError:
            return None
        except OSError as exc:
            raise NotNowError(f"{self._versions / _TRIAL}: cannot be read: {exc.strerror}") from exc
        except (ValueError, TypeError) as exc:
            raise UpdateError(f"{self._versions / _TRIAL}: cannot be read: {exc}") from exc

    def go_on(self, trial: ModelTrial) -> None:
        """Has the link go to what is on trial, as far as a run before has come: the power may go at any moment.

        Raises RolledBackError where somebody has put something else there since.
        """
        try:
            if not (is_by_hand := self._is_by_hand(trial)):
                if self._is_plain:
                    self.directory.rename(self._aside)
                self._point(trial.place)
        except OSError as exc:
            raise NotNowError(f"{self.directory}: cannot be made a link: {exc.strerror}") from exc
        if is_by_hand:
            raise RolledBackError(f"{self.directory} was replaced by hand meanwhile, and stays")

    def put_back(self, trial: ModelTrial) -> None:
        """The link goes where it went before; what goes elsewhere was never touched, or was put there by hand since."""
        try:
            if self._is_by_hand(trial) or self._is_plain or self._target == trial.before:
                flush_directory(self.directory.parent)
            elif trial.before is None:
                self.directory.unlink(missing_ok=True)
                flush_directory(self.directory.parent)
            else:
                self._point(trial.before)
        except OSError as exc:
            raise NotNowError(f"{self.directory}: cannot be put back: {exc.strerror}") from exc
        self.end_trial()

    def end_trial(self) -> None:
        """What is served is confirmed, and noted elsewhere; versions of before are deleted."""
        try:
            remove_file(self._versions / _TRIAL)
            kept = self.directory.resolve()
            for place in self._versions.iterdir():
                if place.resolve() != kept:
                    shutil.rmtree(place, ignore_errors=True)
        except OSError as exc:
            raise NotNowError(f"{self._versions}: cannot be put in order: {exc.strerror}") from exc

    @property
    def _is_plain(self) -> bool:
        return not self.directory.is_symlink() and self.directory.exists()

    @property
    def _target(self) -> str | None:
        """Where the link goes, as it is spelt, to be put back so; None where there is none."""
        return os.readlink(self.directory) if self.directory.is_symlink() else None  # noqa: PTH115 - as above

    def _is_by_hand(self, trial: ModelTrial) -> bool:
        if self._is_plain:  # what is to be moved aside finds no other there
            return trial.before != str(self._aside) or os.path.lexists(self._aside)
        return self._target not in {None, trial.before, trial.place}

    def _clear_aside(self) -> None:
        """Somebody has replaced the link by hand, since an earlier trial: what was put aside is nobody's any more."""
        if not os.path.lexists(self._aside):
            return
        logger.warning("%s is deleted: what %s is now comes there", self._aside, self.directory)
        if self._aside.is_dir() and not self._aside.is_symlink():
            shutil.rmtree(self._aside)
        else:
            self._aside.unlink()
        flush_directory(self._aside.parent)

    def _place(self, desired: Desired) -> Path:
        return self._versions / f"{desired.version}-{desired.sha256[:_DIGEST_CHARACTERS]}"

    def _point(self, target: str) -> None:
        self.directory.parent.mkdir(parents=True, exist_ok=True)
        link = self.directory.with_name(f".{self.directory.name}.new")
        link.unlink(missing_ok=True)
        link.symlink_to(target)
        link.replace(self.directory)
        flush_directory(self.directory.parent)


def _is_read_only(path: Path) -> bool:
    """Whether its file system is, as after an error; not where only this process sees it so (ProtectSystem=)."""
    device = path.stat().st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    for line in _MOUNTS.read_text(encoding="utf-8", errors="replace").splitlines():
        mount, _, of_all = line.partition(" - ")
        if mount.split(" ")[2] == number:
            return "ro" in of_all.rsplit(" ", 1)[1].split(",")
    return False
