"""`python -m fleet serve`: the enrolment endpoint."""

from __future__ import annotations

import logging
import signal
import threading
from typing import TYPE_CHECKING, Final

from contract.config import ConfigError
from fleet.cli.arguments import open_home, takes_home
from fleet.cli.command import OK, Command
from fleet.serve import Endpoint

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

logger = logging.getLogger(__name__)

_LAST_PORT: Final = 65_535
_ALL: Final = "0.0.0.0"  # noqa: S104 - devices come from elsewhere; TLS and tokens guard it


def _add_arguments(parser: ArgumentParser) -> None:
    takes_home(parser)
    parser.add_argument("--bind", default=_ALL, metavar="ADDRESS", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, metavar="PORT", help="port to listen on (default: the one in url)")


def _serve(args: Namespace) -> int:
    if args.port is not None and not 1 <= args.port <= _LAST_PORT:
        raise ConfigError(f"--port: found {args.port}, allowed: 1 to {_LAST_PORT}")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)-7s %(name)s: %(message)s")
    home = open_home(args)
    port = home.settings.endpoint[1] if args.port is None else args.port
    with Endpoint(home, args.bind, port) as endpoint:
        # From another thread: shutdown waits for serve_forever, which the signal has interrupted.
        signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=endpoint.shutdown).start())
        logger.info("enrolment on %s:%d, which devices know as %s", args.bind, endpoint.port, home.settings.url)
        endpoint.serve_forever()
    return OK


SERVE: Final = Command("serve", "answer devices that enrol, or renew their certificates", _add_arguments, _serve)
