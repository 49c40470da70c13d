"""The link to MQTT where no broker is needed."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

from bridge.config import MqttConfig
from bridge.mqtt import MqttLink
from bridge.presence import Presence


def test_a_loss_that_an_acknowledgement_finds_out_of_is_no_deadlock() -> None:
    config = MqttConfig(host="127.0.0.1", client_id="b")
    link = MqttLink(config, ["g"], [], Presence("b", 0), lambda _generation, offered: offered, lambda _event: None)
    lost: Any = SimpleNamespace(is_disconnect_packet_from_server=False, value=0)
    # As paho does when its thread is dead: it writes in ours, and tells us there.
    client: Any = SimpleNamespace(acknowledge=lambda _ids: link._on_disconnect(client, None, lost, lost, None))
    link._client = client
    acknowledging = threading.Thread(target=link.acknowledge, args=(0, [1]), daemon=True)
    acknowledging.start()
    acknowledging.join(5)
    assert (acknowledging.is_alive(), link.generation) == (False, 1)
