"""A configuration on trial: put in the file's place, and the one of before put back unless it is confirmed.

Beside the configuration file, while one is tried or its end is not noted yet:

    .NAME.before   what was there before it
    .NAME.trial    JSON: which it is, how often the agent was started with it, and why it failed, if it has

Whatever happens in between, a start finds the one or the other in the file's place; `hold_trial` is called before the
file is read, so that a configuration with which the agent does not even start is put back too.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Final

from contract.archive import flush_directory
from contract.config import ConfigError, read_config
from edge.cli.preflight import lacks
from edge.config import AgentConfig
from edge.errors import NotNowError, UpdateError
from edge.update.ledger import known, remove_file, replace_file

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from contract.update import Desired

_MAX_BYTES: Final = 64 * 1024
_MAX_FAULTS_CHARACTERS: Final = 400


@dataclass(frozen=True, slots=True)
class Trial:
    """A configuration that is tried: by its SHA-256; `failed_before` are the sources that did not work without it."""

    sha256: str
    max_starts: int
    failed_before: tuple[str, ...]
    starts: int = 0
    failed: str | None = None


class ConfigurationFile:
    """The agent's configuration file, and what of a trial lies beside it.

    Methods raise UpdateError for a configuration that is none for here, and NotNowError for what the disk does not do.
    """

    def __init__(self, path: Path) -> None:
        # A link is followed once: what it names is replaced.
        self.path = path.resolve()
        self._before = self.path.with_name(f".{self.path.name}.before")
        self._trial = self.path.with_name(f".{self.path.name}.trial")
        self._new = self.path.with_name(f".{self.path.name}.wanted")

    def sha256(self) -> str:
        """What tells the present content from others."""
        try:
            return hashlib.sha256(self.path.read_bytes()).hexdigest()
        except OSError as exc:
            raise NotNowError(f"{self.path}: cannot be read: {exc.strerror}") from exc

    def check(self, desired: Desired, content: bytes, running: AgentConfig) -> AgentConfig:
        """What it would mean; raises UpdateError where this node could not run it, or nobody could change it again."""
        if len(content) != desired.unpacked_bytes:
            raise UpdateError(f"it is of {len(content)} bytes, declared are {desired.unpacked_bytes}")
        try:
            replace_file(self._new, content, like=self.path)
            new = read_config(self._new, AgentConfig)
        except ConfigError as exc:
            if isinstance(exc.__cause__, OSError):
                raise NotNowError(str(exc)) from exc
            faults = "; ".join(str(exc).replace(f"{self._new}: ", "").splitlines())
            raise UpdateError(f"it cannot be used: {faults[:_MAX_FAULTS_CHARACTERS]}") from exc
        except OSError as exc:
            raise NotNowError(f"{self._new}: cannot be written: {exc.strerror}") from exc
        finally:
            self._new.unlink(missing_ok=True)
        if missing := lacks(new):
            raise UpdateError(f"this machine lacks what it names: {'; '.join(missing)[:_MAX_FAULTS_CHARACTERS]}")
        if (new.group, new.node) != (running.group, running.node):
            raise UpdateError(f"it is that of {new.group}/{new.node}")
        if new.update is None:
            raise UpdateError("it has no `update`: nobody could change it again from afar")
        if new.state_dir != running.state_dir:
            raise UpdateError(f"its state_dir is {new.state_dir}: what waits in {running.state_dir} would be lost")
        return new

    def begin_trial(self, content: bytes, max_starts: int, failed_before: Collection[str]) -> Trial:
        """Puts it in the file's place; until the end of the trial what was before lies beside it."""
        trial = Trial(hashlib.sha256(content).hexdigest(), max_starts, tuple(sorted(failed_before)))
        if (present := self.trial()) is not None:
            if present.sha256 == trial.sha256 and present.failed is None:
                return present  # the disk has failed just when it was in its place
            raise NotNowError("another configuration is on trial")  # else what was confirmed last would be lost
        try:
            replace_file(self._before, self.path.read_bytes(), like=self.path)
            self._note(trial)
            replace_file(self.path, content, like=self.path)
        except OSError as exc:
            raise NotNowError(f"{self.path}: cannot be replaced: {exc.strerror}") from exc
        return trial

    def trial(self) -> Trial | None:
        """What is tried, or was and is not noted yet; None where nothing is, or it was not begun."""
        try:
            with self._trial.open("rb") as file:
                found = json.loads(file.read(_MAX_BYTES))
            trial = Trial(**{**known(Trial, found), "failed_before": tuple(found["failed_before"])})
        except FileNotFoundError:
            return None
        except OSError as exc:
            raise NotNowError(f"{self._trial}: cannot be read: {exc.strerror}") from exc
        except (ValueError, TypeError, KeyError) as exc:
            raise UpdateError(f"{self._trial}: cannot be read: {exc}") from exc
        return trial if trial.failed is not None or self.sha256() == trial.sha256 else None

    def count_start(self, trial: Trial) -> Trial:
        """The agent starts with it once more; where it has done so too often what was before is put back."""
        if trial.starts >= trial.max_starts:
            return self.put_back(trial, f"the agent was started {trial.starts} times with it, which did not confirm it")
        counted = replace(trial, starts=trial.starts + 1)
        self._note(counted)
        return counted

    def put_back(self, trial: Trial, reason: str) -> Trial:
        """What was before is in the file's place again; the trial stays noted as failed, to be told."""
        failed = replace(trial, failed=trial.failed or reason)
        self._note(failed)
        try:
            if self.sha256() == trial.sha256:
                replace_file(self.path, self._before.read_bytes(), like=self.path)
        except OSError as exc:
            raise NotNowError(f"{self._before}: cannot be put back: {exc.strerror}") from exc
        return failed

    def end_trial(self) -> None:
        """Its end is noted elsewhere: nothing of it is needed any more."""
        try:
            remove_file(self._trial)
            self._before.unlink(missing_ok=True)
            flush_directory(self.path.parent)
        except OSError as exc:
            raise NotNowError(f"{self._trial}: cannot be deleted: {exc.strerror}") from exc

    def drop_stale_note(self) -> None:
        """The power went before what it is about was in the file's place."""
        if self._trial.exists():
            self.end_trial()

    def _note(self, trial: Trial) -> None:
        try:
            replace_file(self._trial, json.dumps(asdict(trial)).encode())
        except OSError as exc:
            raise NotNowError(f"{self._trial}: cannot be written: {exc.strerror}") from exc


def hold_trial(path: Path) -> str | None:
    """Called before the configuration is read: counts this start, and puts back what fails; says what was done.

    Raises UpdateError only where nothing better can be done than to read what lies there.
    """
    file = ConfigurationFile(path)
    if (trial := file.trial()) is None:
        file.drop_stale_note()
        return None
    if trial.failed is not None:
        file.put_back(trial, trial.failed)
        return f"the configuration of before is put back: {trial.failed}"
    counted = file.count_start(trial)
    if counted.failed is not None:
        return f"the configuration of before is put back: {counted.failed}"
    return f"a new configuration is tried, start {counted.starts} of {trial.max_starts}"
