"""The fleet's broker: the files that Mosquitto runs on, and how it hears of changes."""

from __future__ import annotations

from fleet.broker.keeping import certificate_is_good, keep_files, renew_certificate
from fleet.broker.reloading import reload
from fleet.broker.sessions import end_session, is_let_in

__all__ = ["certificate_is_good", "end_session", "is_let_in", "keep_files", "reload", "renew_certificate"]
