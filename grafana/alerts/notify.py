"""Whom Grafana tells, and how often.

The environment says by which way: HEADWATER_ALERT_TO is the end of a contact point's name, and nobody's where it is
not set. All of them have to be valid all the same, or Grafana does not start; hence what stands behind the variables:
a fragment, which is never sent, and the separator of addresses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_PREFIX: Final = "headwater:"
_WEBHOOK: Final = {"url": "${HEADWATER_ALERT_WEBHOOK}#headwater"}
_EMAIL: Final = {"addresses": "${HEADWATER_ALERT_EMAIL};", "singleEmail": True}
# Newer versions of Grafana know this address and do nothing; others cannot reach it, and say so in their log.
_NOBODY: Final = {"url": "grafana://noop"}


def contact_points() -> Sequence[dict[str, object]]:
    """Nobody, a webhook, e-mail, or both."""
    return (
        _contact("", {"webhook": _NOBODY}),
        _contact("webhook", {"webhook": _WEBHOOK}),
        _contact("email", {"email": _EMAIL}),
        _contact("both", {"webhook": _WEBHOOK, "email": _EMAIL}),
    )


def _contact(name: str, ways: Mapping[str, Mapping[str, object]]) -> dict[str, object]:
    return {
        "orgId": 1,
        "name": _PREFIX + name,
        "receivers": [
            {"uid": f"headwater-{name or 'nobody'}-{way}", "type": way, "settings": dict(settings)}
            for way, settings in ways.items()
        ],
    }


def policy() -> dict[str, object]:
    """One message for each rule, however many nodes it is about: a site without power is one message, not a hundred."""
    return {
        "orgId": 1,
        "receiver": _PREFIX + "${HEADWATER_ALERT_TO}",
        "group_by": ["alertname"],
        "group_wait": "30s",
        "group_interval": "5m",
        "repeat_interval": "1d",
        "routes": [
            {
                "receiver": _PREFIX + "${HEADWATER_ALERT_TO}",
                "object_matchers": [["severity", "=", "critical"]],
                "repeat_interval": "6h",
            }
        ],
    }
