"""The Grafana beside a demo: started where there is one, and never waited for."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from stack.errors import StackError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

    from stack.grafana import Grafana


class Dashboards:
    """A context manager over a demo's Grafana; `say` is told where it is, or once why there is none.

    Whatever happens to it, the demo goes on. One that has served and ends by itself is started again.
    """

    def __init__(self, make: Callable[[], Grafana], say: Callable[[str], None]) -> None:
        self._make = make
        self._say = say
        self._grafana: Grafana | None = None
        self._serves = False
        # In seconds of time.monotonic().
        self._deadline = 0.0

    @property
    def url(self) -> str | None:
        """Where it is, None as long as it does not serve."""
        return self._grafana.url if self._grafana is not None and self._serves else None

    def look(self) -> None:
        """Looks after it; call it often. Takes a second at most."""
        grafana = self._grafana
        if grafana is None:
            return
        if not grafana.running and self._serves:
            self._say("Grafana ended, and is started again")
            self._launch(grafana)
        elif not grafana.running:
            self._give_up(grafana, f"ended with status {grafana.poll()}")
        elif not self._serves and grafana.serves():
            self._serves = True
            self._say(f"dashboards: {grafana.url} (to look takes no login; admin's password: {grafana.password_path})")
        elif not self._serves and time.monotonic() > self._deadline:
            self._give_up(grafana, f"did not serve in {grafana.start_timeout_s:g} s")

    def stop(self) -> None:
        """Stops it, if it runs; when interrupted, kills it."""
        if self._grafana is None:
            return
        try:
            self._grafana.stop()
        except BaseException:
            self._grafana.kill()
            raise

    def __enter__(self) -> Self:
        try:
            grafana = self._make()
        except StackError as exc:
            self._say(f"no dashboards: {exc}")
        else:
            self._say("starting Grafana")
            self._launch(grafana)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _launch(self, grafana: Grafana) -> None:
        self._grafana = grafana
        self._serves = False
        self._deadline = time.monotonic() + grafana.start_timeout_s
        try:
            grafana.launch()
        except (StackError, OSError) as exc:
            self._grafana = None
            self._say(f"no dashboards: {exc}")

    def _give_up(self, grafana: Grafana, happened: str) -> None:
        self._grafana = None
        grafana.kill()
        self._say(f"no dashboards: Grafana {happened}; its log is {grafana.log_path}")
