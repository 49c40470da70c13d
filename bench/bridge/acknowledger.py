"""The floor: a paho client with a persistent session that acknowledges each message, and does nothing else.

    python -m bench.bridge.acknowledger PORT CLIENT_ID

Prints how many messages it has acknowledged, twenty times a second, until it is ended.
"""

from __future__ import annotations

import itertools
import sys
import time
from typing import Final

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from bench.bridge.session import FILTER, connect_properties

_TELL_EVERY_S: Final = 0.05


def main(port: int, client_id: str) -> None:
    """Acknowledges for ever."""
    client = paho.Client(CallbackAPIVersion.VERSION2, client_id, protocol=paho.MQTTv5, manual_ack=True)
    count = itertools.count(1)
    acknowledged = 0

    def on_message(_client: paho.Client, _userdata: object, message: paho.MQTTMessage) -> None:
        nonlocal acknowledged
        client.ack(message.mid, 1)
        acknowledged = next(count)

    def on_connect(*_: object) -> None:
        client.subscribe(FILTER, qos=1)

    client.on_message = on_message
    client.on_connect = on_connect
    client.connect("127.0.0.1", port, clean_start=False, properties=connect_properties())
    client.loop_start()
    while True:
        time.sleep(_TELL_EVERY_S)
        print(acknowledged, flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
